//! The environment of a container.

use super::container::{confined, no_nul, volume};
use super::pod::Surroundings;
use super::{Context, names, resources};
use crate::path::Path;
use crate::suggest::{clip, nearest};
use k8s_openapi::api::core::v1::{
    Container, EnvFromSource, EnvVar, EnvVarSource, FileKeySelector, ObjectFieldSelector, ResourceFieldSelector,
};
use std::collections::BTreeSet;

/// Fields of a pod that a variable can take.
const FIELDS: [&str; 9] = [
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];

pub(super) fn validate(
    context: &mut Context<'_, '_>,
    path: &Path,
    container: &Container,
    surroundings: &Surroundings<'_>,
) {
    for (index, variable) in container.env.iter().flatten().enumerate() {
        one(context, &path.field("env").index(index), variable, surroundings);
    }
    for (index, from) in container.env_from.iter().flatten().enumerate() {
        env_from(context, &path.field("envFrom").index(index), from);
    }
}

fn one(context: &mut Context<'_, '_>, path: &Path, variable: &EnvVar, surroundings: &Surroundings<'_>) {
    context.check(&path.field("name"), names::env_name(&variable.name));
    if let Some(value) = &variable.value {
        no_nul(context, &path.field("value"), value);
    }
    let Some(from) = &variable.value_from else { return };
    let at = path.field("valueFrom");
    if variable.value.as_deref().is_some_and(|value| !value.is_empty()) {
        context.key_error(&at, "a variable has a `value` or a `valueFrom`, not both", None);
    }
    source(context, &at, from, surroundings);
}

fn source(context: &mut Context<'_, '_>, path: &Path, from: &EnvVarSource, surroundings: &Surroundings<'_>) {
    let sources = [
        from.config_map_key_ref.is_some(),
        from.secret_key_ref.is_some(),
        from.field_ref.is_some(),
        from.resource_field_ref.is_some(),
        from.file_key_ref.is_some(),
    ];
    if sources.iter().filter(|is_set| **is_set).count() != 1 {
        let message = "exactly one of `configMapKeyRef`, `secretKeyRef`, `fieldRef`, `resourceFieldRef` and `fileKeyRef` is \
                       needed";
        context.key_error(path, message, None);
    }
    if let Some(key) = &from.config_map_key_ref {
        key_ref(context, &path.field("configMapKeyRef"), &key.name, &key.key);
    }
    if let Some(key) = &from.secret_key_ref {
        key_ref(context, &path.field("secretKeyRef"), &key.name, &key.key);
    }
    if let Some(field) = &from.field_ref {
        field_ref(context, &path.field("fieldRef"), field, Use::Variable);
    }
    if let Some(resource) = &from.resource_field_ref {
        resource_ref(context, &path.field("resourceFieldRef"), resource, &surroundings.containers);
    }
    if let Some(file) = &from.file_key_ref {
        file_key(context, &path.field("fileKeyRef"), file, surroundings);
    }
}

fn file_key(context: &mut Context<'_, '_>, path: &Path, file: &FileKeySelector, surroundings: &Surroundings<'_>) {
    context.check(&path.field("key"), names::env_name(&file.key));
    match file.path.as_str() {
        "" => context.missing(path, "path"),
        text => confined(context, &path.field("path"), text),
    }
    let at = path.field("volumeName");
    if let Some(volume) = volume(context, &at, &file.volume_name, surroundings)
        && !super::volume::is_empty_dir(volume)
    {
        context.error(&at, format!("the volume `{}` is no `emptyDir`", clip(&file.volume_name)));
    }
}

fn key_ref(context: &mut Context<'_, '_>, path: &Path, name: &str, key: &str) {
    context.check(&path.field("name"), names::dns_subdomain(name));
    context.check(&path.field("key"), names::config_key(key));
}

/// Where a field of the pod goes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    Variable,
    File,
}

impl Use {
    fn fields(self) -> &'static [&'static str] {
        match self {
            Use::Variable => &FIELDS,
            Use::File => {
                &["metadata.name", "metadata.namespace", "metadata.uid", "metadata.labels", "metadata.annotations"]
            }
        }
    }
}

pub(super) fn field_ref(context: &mut Context<'_, '_>, path: &Path, field: &ObjectFieldSelector, what_for: Use) {
    if field.api_version.as_deref().is_some_and(|version| version != "v1") {
        context.error(&path.field("apiVersion"), "only fields of `v1` are known");
    }
    field_path(context, &path.field("fieldPath"), &field.field_path, what_for);
}

fn field_path(context: &mut Context<'_, '_>, path: &Path, field: &str, what_for: Use) {
    let known = what_for.fields();
    let subscript = ["metadata.labels", "metadata.annotations"]
        .iter()
        .find_map(|map| Some((*map, field.strip_prefix(map)?.strip_prefix("['")?.strip_suffix("']")?)));
    if let Some((map, key)) = subscript {
        // Unlike labels, the keys of annotations may have upper-case prefixes.
        let key = if map == "metadata.annotations" { key.to_lowercase() } else { key.to_owned() };
        context.check(path, names::qualified(&key));
    } else if matches!(field, "metadata.labels" | "metadata.annotations") && what_for == Use::Variable {
        context.error_help(
            path,
            format!("`{field}` does not fit in a variable"),
            format!("name one: `{field}['key']`"),
        );
    } else if !known.contains(&field) {
        let help = match nearest(field, known.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => {
                format!("there are {}, `metadata.labels['key']` and `metadata.annotations['key']`", known.join(", "))
            }
        };
        let what_for = if what_for == Use::Variable { "variables" } else { "volumes" };
        context.error_help(path, format!("a pod has no field `{}` for {what_for}", clip(field)), help);
    }
}

pub(super) fn resource_ref(
    context: &mut Context<'_, '_>,
    path: &Path,
    field: &ResourceFieldSelector,
    containers: &BTreeSet<&str>,
) {
    const KNOWN: [&str; 6] = [
        "limits.cpu",
        "limits.memory",
        "limits.ephemeral-storage",
        "requests.cpu",
        "requests.memory",
        "requests.ephemeral-storage",
    ];
    let (_, resource) = field.resource.split_once('.').unwrap_or_default();
    let huge = ["limits.hugepages-", "requests.hugepages-"].iter().any(|prefix| field.resource.starts_with(prefix));
    let known = KNOWN.contains(&field.resource.as_str()) || (huge && resources::page_size(resource).is_some());
    if !known {
        let help = match nearest(&field.resource, KNOWN) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("there are {}", KNOWN.join(", ")),
        };
        context.error_help(&path.field("resource"), format!("unknown resource `{}`", clip(&field.resource)), help);
    }
    if let Some(name) = &field.container_name
        && !containers.contains(name.as_str())
    {
        context.error(&path.field("containerName"), format!("there is no container `{}`", clip(name)));
    }
    let divisor = field.divisor.as_ref().map(|divisor| divisor.0.as_str()).unwrap_or("0");
    let allowed: &[&str] = match resource {
        "cpu" => &["0", "1m", "1"],
        _ => &["0", "1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei"],
    };
    if !allowed.contains(&divisor) {
        let message = format!("`{}` is not a divisor of {resource}: {}", clip(divisor), allowed[1..].join(", "));
        context.error(&path.field("divisor"), message);
    }
}

fn env_from(context: &mut Context<'_, '_>, path: &Path, from: &EnvFromSource) {
    if let Some(prefix) = &from.prefix {
        context.check(&path.field("prefix"), names::env_name(prefix));
    }
    match (&from.config_map_ref, &from.secret_ref) {
        (Some(map), None) => {
            context.check(&path.field("configMapRef").field("name"), names::dns_subdomain(&map.name));
        }
        (None, Some(secret)) => {
            context.check(&path.field("secretRef").field("name"), names::dns_subdomain(&secret.name));
        }
        _ => context.error(path, "exactly one of `configMapRef` and `secretRef` is needed"),
    }
}
