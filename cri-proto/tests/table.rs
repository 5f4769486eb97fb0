//! The compiled CRI descriptors against `cri-v1.tsv`, line by line.

use std::collections::BTreeSet;

use prost::Message as _;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorProto, FileDescriptorSet};

const TABLE: &str = include_str!("../cri-v1.tsv");

#[test]
fn every_line_of_the_table_is_in_the_descriptors_and_nothing_else() {
    let expected: BTreeSet<String> =
        TABLE.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).map(str::to_owned).collect();
    let found: BTreeSet<String> = describe(&cri_file()).into_iter().collect();
    let missing: Vec<_> = expected.difference(&found).collect();
    let surplus: Vec<_> = found.difference(&expected).collect();
    assert!(missing.is_empty() && surplus.is_empty(), "missing: {missing:#?}\nsurplus: {surplus:#?}");
    assert!(expected.len() > 600, "the table has {} lines: is it whole?", expected.len());
}

fn cri_file() -> FileDescriptorProto {
    let set = FileDescriptorSet::decode(cri_proto::DESCRIPTORS).expect("the build wrote a descriptor set");
    set.file.into_iter().find(|file| file.package() == "runtime.v1").expect("package runtime.v1")
}

fn describe(file: &FileDescriptorProto) -> Vec<String> {
    let mut lines = Vec::new();
    for service in &file.service {
        for method in &service.method {
            let stream = if method.server_streaming() { " (stream)" } else { "" };
            let [input, output] = [method.input_type(), method.output_type()].map(local);
            lines.push(format!("rpc\t{}\t{}\t{input}\t{output}{stream}", service.name(), method.name()));
        }
    }
    file.enum_type.iter().for_each(|it| describe_enum("", it, &mut lines));
    file.message_type.iter().for_each(|it| describe_message(it, &mut lines));
    lines
}

fn describe_enum(prefix: &str, it: &EnumDescriptorProto, lines: &mut Vec<String>) {
    for value in &it.value {
        lines.push(format!("enum\t{prefix}{}\t{}\t{}", it.name(), value.number(), value.name()));
    }
}

fn describe_message(it: &DescriptorProto, lines: &mut Vec<String>) {
    for nested in &it.enum_type {
        describe_enum(&format!("{}.", it.name()), nested, lines);
    }
    if it.field.is_empty() {
        lines.push(format!("msg\t{}\t-\t-\t-\t-", it.name()));
    }
    for field in &it.field {
        let (label, ty) = shape(it, field);
        let deprecated =
            if field.options.as_ref().is_some_and(|options| options.deprecated()) { " (deprecated)" } else { "" };
        lines.push(format!("msg\t{}\t{}\t{label}\t{ty}\t{}{deprecated}", it.name(), field.number(), field.name()));
    }
}

/// Label and type of a field in the table's words.
fn shape(message: &DescriptorProto, field: &FieldDescriptorProto) -> (&'static str, String) {
    let entry = message.nested_type.iter().find(|nested| {
        nested.options.as_ref().is_some_and(|options| options.map_entry())
            && field.type_name().ends_with(&format!(".{}", nested.name()))
    });
    if let Some(entry) = entry {
        let of = |index: usize| scalar(&entry.field[index]);
        return ("map", format!("map<{},{}>", of(0), of(1)));
    }
    let label = if field.label() == Label::Repeated { "repeated" } else { "single" };
    (label, scalar(field))
}

fn scalar(field: &FieldDescriptorProto) -> String {
    match field.r#type() {
        Type::Double => "double".into(),
        Type::Int32 => "int32".into(),
        Type::Int64 => "int64".into(),
        Type::Uint32 => "uint32".into(),
        Type::Uint64 => "uint64".into(),
        Type::Bool => "bool".into(),
        Type::String => "string".into(),
        Type::Bytes => "bytes".into(),
        Type::Message | Type::Enum => local(field.type_name()).into(),
        other => format!("{other:?}"),
    }
}

fn local(type_name: &str) -> &str {
    type_name.trim_start_matches(".runtime.v1.")
}
