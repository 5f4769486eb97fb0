//! Paths that lead to no object: versions, health, discovery.

use serde_json::{Value, json};

use super::Answer;
use super::asked::Asked;
use super::kinds::{KINDS, Kind, REVIEWS};
use super::refusal::Refusal;

/// The version that it is like.
const VERSION: (&str, &str, &str) = ("1", "36", "v1.36.2");

/// Answers a request.
pub fn answer(asked: &Asked) -> Result<Answer, Refusal> {
    let parts: Vec<&str> = asked.path.split('/').filter(|it| !it.is_empty()).collect();
    let body = match parts.as_slice() {
        ["version"] => version(),
        ["healthz" | "livez" | "readyz", ..] => return Ok(Answer::Text(200, "ok".to_owned())),
        ["api"] => json!({"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []}),
        ["apis"] => groups(),
        ["api", "v1"] => resources(""),
        ["apis", group] => group_of(group).ok_or_else(Refusal::no_such_path)?,
        ["apis", group, "v1"] if group_of(group).is_some() => resources(group),
        ["openapi", "v3"] => documents(),
        ["openapi", "v3", "api", "v1"] => document(""),
        ["openapi", "v3", "apis", group, "v1"] if group_of(group).is_some() => document(group),
        _ => return Err(Refusal::no_such_path()),
    };
    Ok(Answer::Body(200, body))
}

fn version() -> Value {
    let (major, minor, version) = VERSION;
    json!({"major": major, "minor": minor, "gitVersion": version, "platform": "linux/amd64", "goVersion": "", "compiler": "",
        "gitCommit": "", "gitTreeState": "clean", "buildDate": "1970-01-01T00:00:00Z"})
}

fn names() -> Vec<&'static str> {
    let mut names: Vec<&str> =
        KINDS.iter().map(|kind| kind.group).chain(REVIEWS.iter().map(|it| it.0)).filter(|it| !it.is_empty()).collect();
    names.sort_unstable();
    names.dedup();
    names
}

fn groups() -> Value {
    let groups: Vec<Value> = names().into_iter().filter_map(group_of).collect();
    json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
}

fn group_of(name: &str) -> Option<Value> {
    let version = json!({"groupVersion": format!("{name}/v1"), "version": "v1"});
    let group = json!({"name": name, "versions": [version], "preferredVersion": version});
    names().contains(&name).then_some(group)
}

fn resources(group: &str) -> Value {
    let kinds = KINDS.iter().filter(|kind| kind.group == group);
    let mut all: Vec<Value> = kinds.flat_map(|kind| std::iter::once(resource(kind)).chain(parts(kind))).collect();
    all.extend(REVIEWS.iter().filter(|it| it.0 == group).map(|(_, plural, kind)| {
        json!({"name": plural, "singularName": kind.to_lowercase(), "namespaced": false, "kind": kind, "verbs": ["create"]})
    }));
    let version = if group.is_empty() { "v1".to_owned() } else { format!("{group}/v1") };
    json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": version, "resources": all})
}

fn resource(kind: &Kind) -> Value {
    let mut resource = json!({
        "name": kind.plural, "singularName": kind.singular, "namespaced": kind.namespaced, "kind": kind.kind,
        "verbs": ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"],
    });
    if !kind.short.is_empty() {
        resource["shortNames"] = json!(kind.short);
    }
    resource
}

fn parts(kind: &Kind) -> impl Iterator<Item = Value> {
    kind.parts.iter().map(|part| {
        let verbs: &[&str] = match *part {
            "binding" | "eviction" | "token" | "exec" | "attach" | "portforward" => &["create", "get"],
            "log" => &["get"],
            _ => &["get", "patch", "update"],
        };
        let name = format!("{}/{part}", kind.plural);
        json!({"name": name, "singularName": "", "namespaced": kind.namespaced, "kind": kind.kind, "verbs": verbs})
    })
}

fn path_of(group: &str) -> String {
    if group.is_empty() { "api/v1".to_owned() } else { format!("apis/{group}/v1") }
}

/// The documents that describe the API.
fn documents() -> Value {
    let paths = std::iter::once("").chain(names()).map(path_of);
    let paths = paths.map(|path| (path.clone(), json!({"serverRelativeURL": format!("/openapi/v3/{path}")})));
    json!({"paths": paths.collect::<serde_json::Map<_, _>>()})
}

/// What kubectl looks for before it writes: whether the server checks fields itself. It is told so, and writes.
fn document(group: &str) -> Value {
    let mut paths = serde_json::Map::new();
    for kind in KINDS.iter().filter(|kind| kind.group == group) {
        let namespace = if kind.namespaced { "/namespaces/{namespace}" } else { "" };
        let patch = json!({"patch": {
            "x-kubernetes-group-version-kind": {"group": group, "version": kind.version, "kind": kind.kind},
            "parameters": [{"name": "fieldValidation", "in": "query", "schema": {"type": "string"}}],
            "responses": {"200": {"description": "OK"}},
        }});
        paths.insert(format!("/{}{namespace}/{}/{{name}}", path_of(group), kind.plural), patch);
    }
    json!({"openapi": "3.0.0", "info": {"title": "Kubernetes", "version": VERSION.2}, "paths": paths})
}
