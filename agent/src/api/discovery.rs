//! What is served here, as clients ask for it.

use serde_json::{Value, json};

use super::route::Part;
use crate::store::{Group, Kind};

/// The version of the Kubernetes API that the types are of.
const KUBERNETES: (&str, &str) = ("1", "37");

/// The versions of the core group.
pub fn versions() -> Value {
    json!({"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []})
}

/// The other groups.
pub fn groups() -> Value {
    let groups: Vec<Value> = Group::OTHERS.into_iter().map(described).collect();
    json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
}

/// One of them.
pub fn group(group: Group) -> Value {
    let mut described = described(group);
    described["kind"] = json!("APIGroup");
    described["apiVersion"] = json!("v1");
    described
}

fn described(group: Group) -> Value {
    let version = json!({"groupVersion": group.api_version(), "version": group.version});
    json!({"name": group.name, "versions": [version], "preferredVersion": version})
}

/// The resources of a group.
pub fn resources(group: Group) -> Value {
    let mut resources = Vec::new();
    for kind in Kind::ALL.into_iter().filter(|kind| kind.group() == group) {
        let mut verbs = vec!["get", "list", "watch"];
        if kind == Kind::Pod {
            verbs.insert(0, "delete");
        }
        let mut resource = json!({
            "name": kind.plural(), "singularName": kind.name().to_lowercase(), "namespaced": kind.namespaced(),
            "kind": kind.name(), "verbs": verbs, "shortNames": kind.short_names(),
        });
        if matches!(kind, Kind::Pod | Kind::Service) {
            resource["categories"] = json!(["all"]);
        }
        resources.push(resource);
    }
    for part in Part::ALL.into_iter().filter(|_| group == Kind::Pod.group()) {
        let (kind, verbs) = match part {
            Part::Log => ("Pod", json!(["get"])),
            Part::Exec => ("PodExecOptions", json!(["create", "get"])),
            Part::Attach => ("PodAttachOptions", json!(["create", "get"])),
            Part::PortForward => ("PodPortForwardOptions", json!(["create", "get"])),
            Part::Restart => ("Pod", json!(["create"])),
            Part::Why => ("Pod", json!(["get"])),
        };
        let name = format!("{}/{}", Kind::Pod.plural(), part.name());
        resources.push(json!({"name": name, "singularName": "", "namespaced": true, "kind": kind, "verbs": verbs}));
    }
    json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group.api_version(), "resources": resources})
}

/// Who answers.
pub fn version() -> Value {
    let (major, minor) = KUBERNETES;
    let architecture = if std::env::consts::ARCH == "aarch64" { "arm64" } else { "amd64" };
    json!({
        "major": major, "minor": minor, "gitVersion": format!("v{major}.{minor}.0+coracle.{}", env!("CARGO_PKG_VERSION")),
        "gitCommit": "", "gitTreeState": "", "buildDate": "1970-01-01T00:00:00Z", "goVersion": "", "compiler": "rustc",
        "platform": format!("linux/{architecture}"),
    })
}

/// The documents that describe the API.
pub fn open_api() -> Value {
    let groups = [Group::CORE].into_iter().chain(Group::OTHERS).map(Group::path);
    let paths = groups.map(|path| (path.clone(), json!({"serverRelativeURL": format!("/openapi/v3/{path}")})));
    json!({"paths": paths.collect::<serde_json::Map<_, _>>()})
}

/// What kubectl looks for before it writes: whether the server checks fields itself. It is told so, to let it go on to
/// the write and be told there that, and why, there is none.
pub fn open_api_document(group: Group) -> Value {
    let mut paths = serde_json::Map::new();
    for kind in Kind::ALL.into_iter().filter(|kind| kind.group() == group) {
        let namespace = if kind.namespaced() { "/namespaces/{namespace}" } else { "" };
        let patch = json!({"patch": {
            "x-kubernetes-group-version-kind": {"group": group.name, "version": group.version, "kind": kind.name()},
            "parameters": [{"name": "fieldValidation", "in": "query", "schema": {"type": "string"}}],
            "responses": {"405": {"description": "what this node has comes from manifests"}},
        }});
        paths.insert(format!("/{}{namespace}/{}/{{name}}", group.path(), kind.plural()), patch);
    }
    json!({"openapi": "3.0.0", "info": {"title": "Coracle", "version": env!("CARGO_PKG_VERSION")}, "paths": paths})
}

/// How clients before 1.27 ask for the document of version 2, which they do not read otherwise.
pub const OPEN_API_2_PROTOBUF: &str = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";

/// What the answer is called: those clients cannot read the name that they ask by.
pub const OPEN_API_2_ANSWER: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";

const TITLE: &str = "Coracle";

/// The document of version 2. It defines no types: a client that checks fields by it before it writes lets all of them
/// pass, goes on to the write, and is told there that, and why, there is none.
pub fn open_api_2() -> Value {
    json!({
        "swagger": "2.0", "info": {"title": TITLE, "version": env!("CARGO_PKG_VERSION")}, "paths": {}, "definitions": {},
    })
}

/// The same as gnostic's `openapi.v2.Document`.
pub fn open_api_2_protobuf() -> Vec<u8> {
    #[derive(Clone, PartialEq, prost::Message)]
    struct Document {
        #[prost(string, tag = "1")]
        swagger: String,
        #[prost(message, optional, tag = "2")]
        info: Option<Info>,
        #[prost(message, optional, tag = "8")]
        paths: Option<Nothing>,
        #[prost(message, optional, tag = "9")]
        definitions: Option<Nothing>,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    struct Info {
        #[prost(string, tag = "1")]
        title: String,
        #[prost(string, tag = "2")]
        version: String,
    }
    #[derive(Clone, Copy, PartialEq, prost::Message)]
    struct Nothing {}
    let info = Info { title: TITLE.into(), version: env!("CARGO_PKG_VERSION").into() };
    let (paths, definitions) = (Some(Nothing {}), Some(Nothing {}));
    prost::Message::encode_to_vec(&Document { swagger: "2.0".into(), info: Some(info), paths, definitions })
}
