//! What is served here, as clients ask for it.

use serde_json::{Value, json};

use super::route::Part;
use crate::store::Kind;

/// The version of the Kubernetes API that the types are of.
const KUBERNETES: (&str, &str) = ("1", "37");

/// The versions of the core group.
pub fn versions() -> Value {
    json!({"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []})
}

/// The other groups.
pub fn groups() -> Value {
    json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": []})
}

/// The resources of the core group.
pub fn resources() -> Value {
    let mut resources = Vec::new();
    for kind in Kind::ALL {
        let mut verbs = vec!["get", "list", "watch"];
        if kind == Kind::Pod {
            verbs.insert(0, "delete");
        }
        let mut resource = json!({
            "name": kind.plural(), "singularName": kind.name().to_lowercase(), "namespaced": kind.namespaced(),
            "kind": kind.name(), "verbs": verbs, "shortNames": kind.short_names(),
        });
        if kind == Kind::Pod {
            resource["categories"] = json!(["all"]);
        }
        resources.push(resource);
    }
    for part in Part::ALL {
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
    json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": "v1", "resources": resources})
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
    json!({"paths": {"api/v1": {"serverRelativeURL": "/openapi/v3/api/v1"}}})
}

/// What kubectl looks for before it writes: whether the server checks fields itself. It is told so, to let it go on to
/// the write and be told there that, and why, there is none.
pub fn open_api_document() -> Value {
    let mut paths = serde_json::Map::new();
    for kind in Kind::ALL {
        let namespace = if kind.namespaced() { "/namespaces/{namespace}" } else { "" };
        let patch = json!({"patch": {
            "x-kubernetes-group-version-kind": {"group": "", "version": "v1", "kind": kind.name()},
            "parameters": [{"name": "fieldValidation", "in": "query", "schema": {"type": "string"}}],
            "responses": {"405": {"description": "what this node has comes from manifests"}},
        }});
        paths.insert(format!("/api/v1{namespace}/{}/{{name}}", kind.plural()), patch);
    }
    json!({"openapi": "3.0.0", "info": {"title": "Coracle", "version": env!("CARGO_PKG_VERSION")}, "paths": paths})
}
