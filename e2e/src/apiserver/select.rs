//! Which objects are meant: selectors of labels and of fields.

use serde_json::Value;

use super::refusal::Refusal;

/// What a list, a watch or a deletion of many is about.
#[derive(Clone, Debug, Default)]
pub struct Selector {
    fields: Vec<(String, bool, String)>,
    labels: Vec<Requirement>,
}

#[derive(Clone, Debug)]
enum Requirement {
    Exists(String),
    Missing(String),
    In(String, Vec<String>),
    NotIn(String, Vec<String>),
}

/// The fields that objects are selected by.
const FIELDS: &[&str] = &[
    "metadata.name",
    "metadata.namespace",
    "spec.nodeName",
    "spec.restartPolicy",
    "spec.schedulerName",
    "spec.serviceAccountName",
    "spec.hostNetwork",
    "spec.unschedulable",
    "spec.signerName",
    "status.phase",
    "status.podIP",
    "status.nominatedNodeName",
    "type",
    "reason",
    "involvedObject.kind",
    "involvedObject.namespace",
    "involvedObject.name",
    "involvedObject.uid",
    "involvedObject.apiVersion",
    "involvedObject.fieldPath",
    "source",
    "reportingComponent",
];

impl Selector {
    /// Reads both.
    pub fn parse(fields: &str, labels: &str) -> Result<Self, Refusal> {
        let fields = fields.split(',').filter(|it| !it.is_empty()).map(field).collect::<Result<_, _>>()?;
        Ok(Self { fields, labels: requirements(labels)? })
    }

    /// Whether an object is meant.
    pub fn matches(&self, object: &Value) -> bool {
        let field = |(path, equal, wanted): &(String, bool, String)| (value(object, path) == *wanted) == *equal;
        let labels = &object["metadata"]["labels"];
        self.fields.iter().all(field) && self.labels.iter().all(|it| it.holds(labels))
    }

    /// What a field must be, if it must be something.
    pub fn field(&self, path: &str) -> Option<&str> {
        self.fields.iter().find(|(it, equal, _)| it == path && *equal).map(|(_, _, value)| value.as_str())
    }
}

impl Requirement {
    fn holds(&self, labels: &Value) -> bool {
        let (Self::Exists(key) | Self::Missing(key) | Self::In(key, _) | Self::NotIn(key, _)) = self;
        match (self, labels[key].as_str()) {
            (Self::Exists(_), found) => found.is_some(),
            (Self::Missing(_), found) => found.is_none(),
            (Self::In(_, values), found) => found.is_some_and(|found| values.iter().any(|it| it == found)),
            (Self::NotIn(_, values), found) => !found.is_some_and(|found| values.iter().any(|it| it == found)),
        }
    }
}

/// A field as selectors see it: what is not there is empty.
fn value(object: &Value, path: &str) -> String {
    let path = if path == "source" { "source.component" } else { path };
    match path.split('.').fold(object, |at, key| &at[key]) {
        Value::String(text) => text.clone(),
        Value::Null if matches!(path, "spec.unschedulable" | "spec.hostNetwork") => "false".to_owned(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

fn field(text: &str) -> Result<(String, bool, String), Refusal> {
    let split = [("!=", false), ("==", true), ("=", true)]
        .iter()
        .find_map(|(sign, equal)| text.split_once(sign).map(|(path, value)| (path, *equal, value)));
    let (path, equal, value) = split.ok_or_else(|| Refusal::bad_request(format!("invalid field selector {text:?}")))?;
    if !FIELDS.contains(&path) {
        return Err(Refusal::bad_request(format!("field label not supported: {path}")));
    }
    Ok((path.to_owned(), equal, value.to_owned()))
}

/// The requirements of a label selector; a comma in brackets does not part them.
fn requirements(text: &str) -> Result<Vec<Requirement>, Refusal> {
    let (mut parts, mut depth, mut from) = (Vec::new(), 0, 0);
    for (at, letter) in text.char_indices() {
        match letter {
            '(' => depth += 1,
            ')' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&text[from..at]);
                from = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[from..]);
    parts.into_iter().map(str::trim).filter(|it| !it.is_empty()).map(requirement).collect()
}

fn requirement(text: &str) -> Result<Requirement, Refusal> {
    let bad = || Refusal::bad_request(format!("unable to parse requirement: {text:?}"));
    let set = |values: &str| -> Result<Vec<String>, Refusal> {
        let inner = values.trim().strip_prefix('(').and_then(|it| it.strip_suffix(')')).ok_or_else(bad)?;
        Ok(inner.split(',').map(|it| it.trim().to_owned()).collect())
    };
    if let Some((key, values)) = text.split_once(" notin ") {
        return Ok(Requirement::NotIn(key.trim().to_owned(), set(values)?));
    }
    if let Some((key, values)) = text.split_once(" in ") {
        return Ok(Requirement::In(key.trim().to_owned(), set(values)?));
    }
    if let Some((key, value)) = text.split_once("!=") {
        return Ok(Requirement::NotIn(key.trim().to_owned(), vec![value.trim().to_owned()]));
    }
    if let Some((key, value)) = text.split_once("==").or_else(|| text.split_once('=')) {
        return Ok(Requirement::In(key.trim().to_owned(), vec![value.trim().to_owned()]));
    }
    Ok(text
        .strip_prefix('!')
        .map_or_else(|| Requirement::Exists(text.to_owned()), |key| Requirement::Missing(key.to_owned())))
}
