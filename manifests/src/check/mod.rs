//! Checks a tree against the schema, and makes of it JSON that fits the types exactly.

mod scalar;

use crate::diagnostic::Severity::{Error, Warning};
use crate::path::{Path, entry_mark};
use crate::report::Report;
use crate::schema::support::{self, Support};
use crate::schema::{Field, OBJECTS, Type, values};
use crate::suggest::{clip, nearest, one_of};
use crate::yaml::{Entry, Mark, Node, Scalar, Tree};
use scalar::scalar;
use serde_json::{Map, Value};

/// A value being checked: what it should be, and where it stands.
#[derive(Clone, Copy)]
struct Place<'a> {
    ty: &'a Type,
    at: Mark,
    path: &'a Path,
    /// Within something that is already reported as not run: only mistakes are worth a word.
    quiet: bool,
}

/// Checks `node` as an object type. What is wrong is reported and left out.
pub(crate) fn object(object: &'static str, node: &Node, path: &Path, report: &mut Report<'_>) -> Value {
    let place = Place { ty: &Type::Object(object), at: node.at, path, quiet: false };
    value(place, node, report).unwrap_or(Value::Null)
}

fn value(place: Place<'_>, node: &Node, report: &mut Report<'_>) -> Option<Value> {
    match (place.ty, &node.tree) {
        (Type::Any, _) => Some(any(node)),
        (Type::Object(name), Tree::Map(entries)) => Some(fields(name, place, entries, report)),
        (Type::List(item), Tree::List(items)) => Some(list(place, item, items, report)),
        (Type::Map(item), Tree::Map(entries)) => Some(map(place, item, entries, report)),
        (_, Tree::Scalar { text, meaning }) => scalar(place, text, meaning, report),
        (_, tree) => {
            let help = match (place.ty, tree) {
                (Type::List(_), Tree::Map(_)) => Some("begin each item with `- `".to_owned()),
                (Type::Object(_) | Type::Map(_), Tree::List(_)) => Some("remove the `- `".to_owned()),
                _ => None,
            };
            let found = if matches!(tree, Tree::Map(_)) { "a mapping" } else { "a list" };
            mismatch(place, found, help, report)
        }
    }
}

fn mismatch(place: Place<'_>, found: &str, help: Option<String>, report: &mut Report<'_>) -> Option<Value> {
    let message = format!("expected {}, found {found}", describe(place.ty));
    report.add(Error, place.at, place.path, message, help);
    None
}

/// What a type is called in a message.
pub(crate) fn describe(ty: &Type) -> &'static str {
    match ty {
        Type::Bool => "`true` or `false`",
        Type::Int32 | Type::Int64 => "a whole number",
        Type::Float => "a number",
        Type::Str => "a string",
        Type::Bytes => "a string in base64",
        Type::Quantity => "a quantity such as `500m` or `64Mi`",
        Type::Time => "a time such as `2006-01-02T15:04:05Z`",
        Type::IntOrString => "a number or a string",
        Type::Any => "anything",
        Type::List(_) => "a list",
        Type::Map(_) | Type::Object(_) => "a mapping",
    }
}

fn list(place: Place<'_>, item: &Type, items: &[Node], report: &mut Report<'_>) -> Value {
    let mut checked = Vec::with_capacity(items.len());
    for (index, node) in items.iter().enumerate() {
        let path = place.path.index(index);
        let inner = Place { ty: item, at: node.at, path: &path, ..place };
        // A position must not shift because an item is wrong: paths are found again by their index.
        let value = if node.is_null() { None } else { value(inner, node, report) };
        checked.push(value.unwrap_or_else(|| nothing(item)));
    }
    Value::Array(checked)
}

fn map(place: Place<'_>, item: &Type, entries: &[Entry], report: &mut Report<'_>) -> Value {
    let mut checked = Map::new();
    for entry in entries {
        let path = place.path.key(&entry.key);
        let inner = Place { ty: item, at: entry_mark(entry), path: &path, ..place };
        let value = match entry.value.is_null() {
            true => Some(nothing(item)),
            false => value(inner, &entry.value, report),
        };
        if let Some(value) = value {
            checked.insert(entry.key.clone(), value);
        }
    }
    Value::Object(checked)
}

/// The value that Go gives to `null` where nothing cannot be.
fn nothing(ty: &Type) -> Value {
    match ty {
        Type::Bool => Value::Bool(false),
        Type::Int32 | Type::Int64 | Type::Float | Type::IntOrString => Value::from(0),
        Type::Quantity => Value::from("0"),
        Type::Str | Type::Bytes => Value::from(""),
        Type::Time | Type::Any => Value::Null,
        Type::List(_) => Value::Array(Vec::new()),
        Type::Map(_) | Type::Object(_) => Value::Object(Map::new()),
    }
}

fn fields(object: &'static str, place: Place<'_>, entries: &[Entry], report: &mut Report<'_>) -> Value {
    let mut checked = Map::new();
    for entry in entries {
        let path = place.path.field(&entry.key);
        let Some(field) = OBJECTS.field(object, &entry.key) else {
            unknown(object, place, entry, report);
            continue;
        };
        if entry.value.is_null() {
            continue;
        }
        let support = support::of(object, &entry.key);
        let quiet = place.quiet || !matches!(support, Some(Support::Runs));
        let inner = Place { ty: &field.ty, at: entry_mark(entry), path: &path, quiet };
        if let Some(value) = value(inner, &entry.value, report) {
            // In Go's types an empty string is no string.
            if value == "" && field.ty == Type::Str && support == Some(Support::Runs) {
                continue;
            }
            let allowed = one_of_few(object, field.name, inner, &value, report);
            if !place.quiet && allowed {
                supported(support, field, entry, inner, &value, report);
            }
            checked.insert(entry.key.clone(), value);
        }
    }
    for field in OBJECTS.fields(object).iter().filter(|field| field.required) {
        let path = place.path.field(field.name);
        if !checked.contains_key(field.name) && !report.is_settled(&path) {
            report.add(Error, place.at, &path, format!("`{}` is missing", field.name), None);
        }
    }
    Value::Object(checked)
}

fn unknown(object: &'static str, place: Place<'_>, entry: &Entry, report: &mut Report<'_>) {
    let names = || OBJECTS.fields(object).iter().map(|field| field.name);
    if report.is_full() {
        report.pass();
        return;
    }
    let near = nearest(&entry.key, names());
    let help = near.map(|name| format!("did you mean `{name}`?")).or_else(|| elsewhere(object, &entry.key));
    // The field that was meant is not also reported as missing.
    if let Some(name) = near {
        report.settle(&place.path.field(name));
    }
    let path = place.path.field(&entry.key);
    report.add(Error, entry.at, &path, format!("unknown field `{}`", clip(&entry.key)), help);
}

/// Fields that people put on the wrong level belong to one of these.
fn elsewhere(object: &str, name: &str) -> Option<String> {
    let homes = [
        ("PodSpec", "`spec`"),
        ("Container", "a container"),
        ("ObjectMeta", "`metadata`"),
        ("SecurityContext", "a container's `securityContext`"),
        ("PodSecurityContext", "`spec.securityContext`"),
        ("VolumeMount", "an item of `volumeMounts`"),
        ("Volume", "an item of `volumes`"),
    ];
    let home = homes.iter().find(|(home, _)| *home != object && OBJECTS.field(home, name).is_some())?;
    Some(format!("`{name}` is a field of {}; check the indentation", home.1))
}

fn one_of_few(object: &str, name: &str, place: Place<'_>, value: &Value, report: &mut Report<'_>) -> bool {
    let (Some(allowed), Some(text)) = (values::of(object, name), value.as_str()) else { return true };
    if allowed.contains(&text) {
        return true;
    }
    let named: Vec<&str> = allowed.iter().copied().filter(|value| !value.is_empty()).collect();
    let help = nearest(text, named.iter().copied()).map(|near| format!("did you mean `{near}`?"));
    let message = format!("`{}` is not {}{}", clip(text), if named.len() > 1 { "one of " } else { "" }, one_of(&named));
    report.add(Error, place.at, place.path, message, help);
    false
}

fn supported(
    support: Option<Support>,
    field: &Field,
    entry: &Entry,
    place: Place<'_>,
    value: &Value,
    report: &mut Report<'_>,
) {
    let text = match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let empty = matches!(text.as_str(), "" | "{}" | "[]");
    match support {
        Some(Support::Runs) => {}
        Some(Support::Ignored(_)) if empty || matches!(text.as_str(), "false" | "0" | "0s") => {}
        Some(Support::RunsFor(values, _)) if empty || values.contains(&text.as_str()) => {}
        Some(Support::Ignored(why) | Support::RunsFor(_, why)) => {
            report.add(Warning, entry.at, place.path, format!("`{}` has no effect", field.name), Some(why.to_owned()));
        }
        Some(Support::NotYet { harmless })
            if harmless.contains(&text.as_str()) || (empty && harmless.contains(&"")) => {}
        Some(Support::InCluster(_)) if report.is_of_cluster() => {}
        Some(Support::Never(_) | Support::InCluster(_)) if matches!(text.as_str(), "" | "[]" | "false" | "0") => {}
        Some(Support::Never(instead) | Support::InCluster(instead)) => {
            report.add(
                Error,
                entry.at,
                place.path,
                format!("`{}` does not run here", field.name),
                Some(instead.to_owned()),
            );
        }
        // A field that the table does not name is treated as the worst it can be.
        Some(Support::NotYet { .. }) | None => {
            let help = "remove it only if the pod is right without it".to_owned();
            report.add(Error, entry.at, place.path, format!("`{}` is not run yet", field.name), Some(help));
        }
    }
}

/// A tree as it stands.
fn any(node: &Node) -> Value {
    match &node.tree {
        Tree::List(items) => Value::Array(items.iter().map(any).collect()),
        Tree::Map(entries) => Value::Object(entries.iter().map(|e| (e.key.clone(), any(&e.value))).collect()),
        Tree::Scalar { text, meaning } => match meaning {
            Scalar::Null => Value::Null,
            Scalar::Bool(value) => Value::from(*value),
            Scalar::Int(value) => i64::try_from(*value).map_or_else(|_| Value::from(text.as_str()), Value::from),
            Scalar::Float(value) => Value::from(*value),
            Scalar::Str => Value::from(text.as_str()),
        },
    }
}
