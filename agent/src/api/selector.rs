//! Label and field selectors.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Event, Node, Pod};

use super::Error;
use crate::store::{Kind, Object};

/// Which objects a client wants.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selector {
    labels: Vec<Label>,
    fields: Vec<Field>,
}

/// What has to hold of one label.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Label {
    key: String,
    rule: Rule,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Rule {
    Exists,
    Absent,
    In(Vec<String>),
    /// A label that is not there is not in either.
    NotIn(Vec<String>),
    Above(i64),
    Below(i64),
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Field {
    path: String,
    value: String,
    equal: bool,
}

impl Selector {
    /// Reads both texts; the fields are those that an API server knows of a kind.
    pub fn parse(kind: Kind, labels: &str, fields: &str) -> Result<Self, Error> {
        let wrong = |text: &str, why: String| Error::BadRequest(format!("unable to parse requirement {text:?}: {why}"));
        let label = |text: &str| Label::parse(text).map_err(|why| wrong(text, why));
        let field = |text: &str| Field::parse(kind, text);
        let words = |text: &str| !text.trim().is_empty();
        Ok(Self {
            labels: split(labels).into_iter().filter(|it| words(it)).map(label).collect::<Result<_, _>>()?,
            fields: split_escaped(fields)
                .iter()
                .filter(|it| words(it))
                .map(|it| field(it))
                .collect::<Result<_, _>>()?,
        })
    }

    /// Whether an object is one of those.
    pub fn matches(&self, object: &Object) -> bool {
        let none = BTreeMap::new();
        let labels = object.metadata().labels.as_ref().unwrap_or(&none);
        self.labels.iter().all(|label| label.holds(labels.get(&label.key).map(String::as_str)))
            && self
                .fields
                .iter()
                .all(|field| (value_of(object, &field.path).unwrap_or_default() == field.value) == field.equal)
    }
}

impl Label {
    fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let label = |key: &str, rule: Rule| {
            let key = key.trim();
            let plain = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
            if key.is_empty() || !key.chars().all(plain) {
                return Err(format!("{key:?} is no label"));
            }
            Ok(Self { key: key.to_owned(), rule })
        };
        let one = |value: &str| vec![value.trim().to_owned()];
        let bound = |value: &str| value.trim().parse().map_err(|_| format!("{:?} is no integer", value.trim()));
        if let Some(key) = text.strip_prefix('!') {
            return label(key, Rule::Absent);
        }
        if let Some((head, set)) = text.strip_suffix(')').and_then(|it| it.split_once('(')) {
            let values = set.split(',').map(|it| it.trim().to_owned()).collect();
            return match head.trim().rsplit_once(char::is_whitespace) {
                Some((key, "in")) => label(key, Rule::In(values)),
                Some((key, "notin")) => label(key, Rule::NotIn(values)),
                _ => Err("expected in or notin before the values".into()),
            };
        }
        match (text.split_once("!="), text.split_once("=="), text.split_once('=')) {
            (Some((key, value)), ..) => return label(key, Rule::NotIn(one(value))),
            (_, Some((key, value)), _) | (_, _, Some((key, value))) => return label(key, Rule::In(one(value))),
            _ => {}
        }
        match (text.split_once('>'), text.split_once('<')) {
            (Some((key, value)), _) => label(key, Rule::Above(bound(value)?)),
            (_, Some((key, value))) => label(key, Rule::Below(bound(value)?)),
            _ => label(text, Rule::Exists),
        }
    }

    fn holds(&self, value: Option<&str>) -> bool {
        let number = || value.and_then(|it| it.parse::<i64>().ok());
        match &self.rule {
            Rule::Exists => value.is_some(),
            Rule::Absent => value.is_none(),
            Rule::In(values) => value.is_some_and(|it| values.iter().any(|one| one == it)),
            Rule::NotIn(values) => value.is_none_or(|it| values.iter().all(|one| one != it)),
            Rule::Above(bound) => number().is_some_and(|it| it > *bound),
            Rule::Below(bound) => number().is_some_and(|it| it < *bound),
        }
    }
}

impl Field {
    fn parse(kind: Kind, text: &str) -> Result<Self, Error> {
        let parts = [("!=", false), ("==", true), ("=", true)].into_iter().find_map(|(operator, equal)| {
            text.split_once(operator).map(|(path, value)| (path.trim().to_owned(), unescape(value.trim()), equal))
        });
        let Some((path, value, equal)) = parts else {
            let why = "can't understand it; write path=value, path==value or path!=value";
            return Err(Error::BadRequest(format!("invalid field selector {text:?}: {why}")));
        };
        if !(COMMON.contains(&path.as_str()) || fields(kind).contains(&path.as_str())) {
            let mut known = [COMMON, fields(kind)].concat();
            known.retain(|it| kind.namespaced() || *it != "metadata.namespace");
            let known = known.join(", ");
            let why = format!("field label not supported: {path}; of {} there are {known}", kind.plural());
            return Err(Error::BadRequest(why));
        }
        Ok(Self { path, value, equal })
    }
}

const COMMON: &[&str] = &["metadata.name", "metadata.namespace"];

/// What may be selected by, besides name and namespace.
fn fields(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::Pod => &[
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.schedulerName",
            "spec.serviceAccountName",
            "spec.hostNetwork",
            "status.phase",
            "status.podIP",
            "status.podIPs",
            "status.nominatedNodeName",
        ],
        Kind::Event => &[
            "involvedObject.kind",
            "involvedObject.namespace",
            "involvedObject.name",
            "involvedObject.uid",
            "involvedObject.apiVersion",
            "involvedObject.resourceVersion",
            "involvedObject.fieldPath",
            "reason",
            "reportingComponent",
            "source",
            "type",
        ],
        Kind::Node => &["spec.unschedulable"],
        Kind::Namespace => &["status.phase"],
        Kind::Service => &["spec.clusterIP", "spec.type"],
        Kind::Ambassador
        | Kind::ConfigMap
        | Kind::EndpointSlice
        | Kind::Link
        | Kind::Network
        | Kind::NetworkPolicy
        | Kind::PersistentVolumeClaim => &[],
    }
}

fn value_of(object: &Object, path: &str) -> Option<String> {
    let meta = object.metadata();
    match (path, object) {
        ("metadata.name", _) => meta.name.clone(),
        ("metadata.namespace", _) => meta.namespace.clone(),
        (_, Object::Pod(pod)) => pod_value(pod, path),
        (_, Object::Event(event)) => event_value(event, path),
        ("spec.unschedulable", Object::Node(node)) => Some(unschedulable(node).to_string()),
        ("spec.clusterIP", Object::Service(service)) => service.spec.as_ref()?.cluster_ip.clone(),
        ("spec.type", Object::Service(service)) => service.spec.as_ref()?.type_.clone(),
        ("status.phase", Object::Namespace(namespace)) => namespace.status.as_ref()?.phase.clone(),
        _ => None,
    }
}

fn unschedulable(node: &Node) -> bool {
    node.spec.as_ref().and_then(|spec| spec.unschedulable) == Some(true)
}

fn pod_value(pod: &Pod, path: &str) -> Option<String> {
    let (spec, status) = (pod.spec.as_ref(), pod.status.as_ref());
    match path {
        "spec.nodeName" => spec?.node_name.clone(),
        "spec.restartPolicy" => spec?.restart_policy.clone(),
        "spec.schedulerName" => spec?.scheduler_name.clone(),
        "spec.serviceAccountName" => spec?.service_account_name.clone(),
        "spec.hostNetwork" => Some((spec?.host_network == Some(true)).to_string()),
        "status.phase" => status?.phase.clone(),
        "status.podIP" | "status.podIPs" => status?.pod_ip.clone(),
        "status.nominatedNodeName" => status?.nominated_node_name.clone(),
        _ => None,
    }
}

fn event_value(event: &Event, path: &str) -> Option<String> {
    let about = &event.involved_object;
    match path {
        "involvedObject.kind" => about.kind.clone(),
        "involvedObject.namespace" => about.namespace.clone(),
        "involvedObject.name" => about.name.clone(),
        "involvedObject.uid" => about.uid.clone(),
        "involvedObject.apiVersion" => about.api_version.clone(),
        "involvedObject.resourceVersion" => about.resource_version.clone(),
        "involvedObject.fieldPath" => about.field_path.clone(),
        "reason" => event.reason.clone(),
        "reportingComponent" => event.reporting_component.clone(),
        "source" => event.source.as_ref()?.component.clone(),
        "type" => event.type_.clone(),
        _ => None,
    }
}

/// The requirements between the commas that are not in parentheses.
fn split(text: &str) -> Vec<&str> {
    let (mut parts, mut depth, mut start) = (Vec::new(), 0_i32, 0);
    for (at, c) in text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            ',' if depth <= 0 => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

/// The terms between the commas that have no backslash before them; escapes stay.
fn split_escaped(text: &str) -> Vec<String> {
    let (mut parts, mut escaped) = (vec![String::new()], false);
    for c in text.chars() {
        if c == ',' && !escaped {
            parts.push(String::new());
            continue;
        }
        escaped = c == '\\' && !escaped;
        if let Some(last) = parts.last_mut() {
            last.push(c);
        }
    }
    parts
}

fn unescape(text: &str) -> String {
    let (mut plain, mut escaped) = (String::new(), false);
    for c in text.chars() {
        escaped = c == '\\' && !escaped;
        if !escaped {
            plain.push(c);
        }
    }
    plain
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;

    fn pod() -> Object {
        let pod = json!({
            "metadata": {"name": "web", "namespace": "default", "labels": {"app": "web", "tier": "front", "level": "3"}},
            "spec": {"containers": [], "nodeName": "here"}, "status": {"phase": "Running"}
        });
        Object::Pod(Arc::new(serde_json::from_value(pod).unwrap()))
    }

    #[test]
    fn labels_select_as_kubectl_writes_them() {
        for (text, expected) in [
            ("", true),
            ("app=web", true),
            ("app==web , tier!=back", true),
            ("app=db", false),
            ("other!=x", true),
            ("app", true),
            ("other", false),
            ("!other", true),
            ("!app", false),
            ("app in (db, web),tier in (front)", true),
            ("app notin (web,db)", false),
            ("other notin (a)", true),
            ("level>2,level<4", true),
            ("level>3", false),
            ("app>1", false),
        ] {
            let selector = Selector::parse(Kind::Pod, text, "").unwrap();
            assert_eq!(selector.matches(&pod()), expected, "{text}");
        }
    }

    #[test]
    fn fields_select_what_the_kind_has() {
        for (text, expected) in [
            ("metadata.name=web", true),
            ("metadata.name!=web", false),
            ("status.phase=Running,spec.nodeName==here", true),
            ("status.phase!=Failed,status.phase!=Succeeded", true),
            ("spec.restartPolicy=Never", false),
            ("spec.nodeName=", false),
            ("status.podIP=", true),
            ("metadata.name=a\\,b", false),
        ] {
            let selector = Selector::parse(Kind::Pod, "", text).unwrap();
            assert_eq!(selector.matches(&pod()), expected, "{text}");
        }
        let field = &Selector::parse(Kind::Event, "", "reason=a\\,b\\=c\\\\").unwrap().fields[0];
        assert_eq!(field.value, "a,b=c\\");
    }

    #[test]
    fn what_is_no_selector_is_refused_with_the_reason() {
        for (labels, fields, why) in [
            ("a b", "", "is no label"),
            ("app within (a)", "", "expected in or notin"),
            ("level>x", "", "is no integer"),
            ("=x", "", "is no label"),
            ("", "status.podname=x", "field label not supported: status.podname"),
            ("", "metadata.name", "can't understand"),
        ] {
            let error = Selector::parse(Kind::Pod, labels, fields).unwrap_err().to_string();
            assert!(error.contains(why), "{labels}{fields}: {error}");
        }
        assert!(Selector::parse(Kind::ConfigMap, "", "status.phase=x").is_err());
    }
}
