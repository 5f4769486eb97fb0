//! Who may do what: administrators everything, a node what the node authorizer lets it, others what a test grants.

use std::sync::Arc;

use serde_json::Value;

use super::asked::{Asked, Route, Target, User};
use super::kinds;
use super::refusal::Refusal;
use super::select::Selector;
use super::store::Store;

/// What is to be done, in the words of authorization.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Deed {
    /// `get`, `list`, `create` …
    pub verb: String,
    /// The API group; empty for the core.
    pub group: String,
    /// The kind, in the plural; empty for what is no object.
    pub resource: String,
    /// The part of the object.
    pub part: String,
    /// The namespace.
    pub namespace: String,
    /// The object.
    pub name: String,
    /// The path, of what is no object.
    pub path: String,
}

/// Something that a test allows. What is empty is any.
#[derive(Clone, Debug)]
pub struct Grant {
    /// The name of a user or of a group.
    pub who: String,
    /// `get`, `create` …
    pub verbs: Vec<String>,
    /// `pods`, `nodes/log` …; a path with a slash before it.
    pub resources: Vec<String>,
}

impl Grant {
    /// Allows somebody verbs on resources, or on paths.
    pub fn new(who: &str, verbs: &[&str], resources: &[&str]) -> Self {
        let owned = |all: &[&str]| all.iter().map(|it| (*it).to_owned()).collect();
        Self { who: who.to_owned(), verbs: owned(verbs), resources: owned(resources) }
    }

    fn allows(&self, user: &User, deed: &Deed) -> bool {
        let what = match (deed.resource.as_str(), deed.part.as_str()) {
            ("", _) => deed.path.clone(),
            (resource, "") => resource.to_owned(),
            (resource, part) => format!("{resource}/{part}"),
        };
        (self.who == user.name || user.is_in(&self.who))
            && (self.verbs.is_empty() || self.verbs.contains(&deed.verb))
            && (self.resources.is_empty() || self.resources.contains(&what))
    }
}

/// Whether somebody may do something; why not.
pub fn decide(store: &Store, grants: &[Grant], user: &User, deed: &Deed, selector: &Selector) -> Result<(), String> {
    if user.is_in("system:masters") || grants.iter().any(|grant| grant.allows(user, deed)) {
        return Ok(());
    }
    match user.as_node() {
        Some(node) => Node { store, node }.decide(deed, selector),
        None => Err(String::new()),
    }
}

/// Whether a request is allowed.
pub fn request(store: &Store, grants: &[Grant], asked: &Asked, route: &Route) -> Result<(), Refusal> {
    let deed = match route {
        Route::Objects(target) => deed_of(asked, target),
        Route::Review(plural, kind) => {
            let group = kinds::REVIEWS.iter().find(|it| it.1 == *plural && it.2 == *kind).map_or("", |it| it.0);
            let (resource, verb) = ((*plural).to_owned(), "create".to_owned());
            Deed { verb, group: group.to_owned(), resource, ..Deed::default() }
        }
        Route::Unknown(group, resource, namespace, name) => {
            let verb = asked.verb_of(Some(name).filter(|it| !it.is_empty())).to_owned();
            let (group, resource, namespace) = (group.clone(), resource.clone(), namespace.clone());
            Deed { verb, group, resource, namespace, name: name.clone(), ..Deed::default() }
        }
        // What the server says of itself, everybody may know.
        Route::Elsewhere => return Ok(()),
    };
    if deed.resource.starts_with("self") {
        return Ok(());
    }
    let selector = match route {
        Route::Objects(target) => super::read::selector(asked, target.kind)?,
        _ => Selector::default(),
    };
    decide(store, grants, &asked.user, &deed, &selector).map_err(|why| refusal(&asked.user, &deed, &why))
}

/// What a request of objects does.
fn deed_of(asked: &Asked, target: &Target) -> Deed {
    let verb = asked.verb(target);
    let named = asked.query("fieldSelector").and_then(|it| it.strip_prefix("metadata.name="));
    let named = named.filter(|name| matches!(verb, "list" | "watch") && !name.contains(','));
    let text = |it: &Option<String>| it.clone().unwrap_or_default();
    let name = if target.name.is_some() { text(&target.name) } else { named.unwrap_or_default().to_owned() };
    let of_namespace = target.kind.kind == "Namespace";
    Deed {
        verb: verb.to_owned(),
        group: target.kind.group.to_owned(),
        resource: target.kind.plural.to_owned(),
        part: text(&target.part),
        namespace: if of_namespace { name.clone() } else { text(&target.namespace) },
        name,
        path: String::new(),
    }
}

/// How a refusal is said.
fn refusal(user: &User, deed: &Deed, why: &str) -> Refusal {
    if deed.resource.is_empty() {
        return Refusal::forbidden_path(&user.name, &deed.verb, &deed.path);
    }
    let resource =
        if deed.part.is_empty() { deed.resource.clone() } else { format!("{}/{}", deed.resource, deed.part) };
    let place = if deed.namespace.is_empty() {
        "at the cluster scope".to_owned()
    } else {
        format!("in the namespace {:?}", deed.namespace)
    };
    let (name, verb, group) = (&user.name, &deed.verb, &deed.group);
    let mut text = format!("User {name:?} cannot {verb} resource {resource:?} in API group {group:?} {place}");
    if !why.is_empty() {
        text.push_str(&format!(": {why}"));
    }
    Refusal::forbidden_to(group, &deed.resource, &deed.name, &text)
}

/// What the node authorizer asks.
struct Node<'a> {
    store: &'a Store,
    node: &'a str,
}

impl Node<'_> {
    fn decide(&self, deed: &Deed, selector: &Selector) -> Result<(), String> {
        let verb = deed.verb.as_str();
        match (deed.group.as_str(), deed.resource.as_str()) {
            ("", "secrets" | "configmaps") => self.read_namespaced(deed),
            ("", "persistentvolumeclaims") if deed.part == "status" => match verb {
                "update" | "patch" => self.related(deed),
                _ => Err("can only get/update/patch this type".into()),
            },
            ("", "persistentvolumeclaims" | "persistentvolumes") => self.only_get(deed),
            ("", "serviceaccounts") => self.service_account(deed),
            ("coordination.k8s.io", "leases") => self.lease(deed),
            ("storage.k8s.io", "csinodes") => self.csi_node(deed),
            ("storage.k8s.io", "volumeattachments") => self.only_get(deed),
            ("", "nodes") => self.nodes(deed),
            ("", "pods") => self.pods(deed, selector),
            _ if by_rule(deed) => Ok(()),
            _ => Err(String::new()),
        }
    }

    fn read_namespaced(&self, deed: &Deed) -> Result<(), String> {
        match deed.verb.as_str() {
            "get" | "list" | "watch" if !deed.part.is_empty() => Err("cannot read subresource".into()),
            "get" | "list" | "watch" if deed.namespace.is_empty() => {
                Err("can only read namespaced object of this type".into())
            }
            "get" | "list" | "watch" => self.related(deed),
            _ => Err("can only read resources of this type".into()),
        }
    }

    fn only_get(&self, deed: &Deed) -> Result<(), String> {
        match (deed.verb.as_str(), deed.part.as_str()) {
            ("get", "") => self.related(deed),
            ("get", _) => Err("cannot get subresource".into()),
            _ => Err("can only get individual resources of this type".into()),
        }
    }

    fn service_account(&self, deed: &Deed) -> Result<(), String> {
        match (deed.verb.as_str(), deed.part.as_str()) {
            ("get", "") => self.read_namespaced(deed),
            ("create", "token") if !deed.name.is_empty() => self.related(deed),
            ("create", _) if !deed.name.is_empty() => Err("can only create token subresource of serviceaccount".into()),
            _ => Err("can only create tokens for individual service accounts".into()),
        }
    }

    fn lease(&self, deed: &Deed) -> Result<(), String> {
        match deed.verb.as_str() {
            "get" | "create" | "update" | "patch" | "delete" => {}
            _ => return Err("can only get, create, update, patch, or delete a node lease".into()),
        }
        if deed.namespace != "kube-node-lease" {
            return Err("can only access leases in the \"kube-node-lease\" system namespace".into());
        }
        if deed.verb != "create" && deed.name != self.node {
            return Err("can only access node lease with the same name as the requesting node".into());
        }
        Ok(())
    }

    fn csi_node(&self, deed: &Deed) -> Result<(), String> {
        match deed.verb.as_str() {
            "get" | "create" | "update" | "patch" | "delete" => {}
            _ => return Err("can only get, create, update, patch, or delete a CSINode".into()),
        }
        if deed.verb != "create" && deed.name != self.node {
            return Err("can only access CSINode with the same name as the requesting node".into());
        }
        Ok(())
    }

    fn nodes(&self, deed: &Deed) -> Result<(), String> {
        let node = self.node;
        match (deed.part.as_str(), deed.verb.as_str()) {
            ("", "create" | "update" | "patch") | ("status", "update" | "patch") => Ok(()),
            ("", "get" | "list" | "watch") => match deed.name.as_str() {
                name if name == node => Ok(()),
                "" => Err(format!("node '{node}' cannot read all nodes, only its own Node object")),
                name => Err(format!("node '{node}' cannot read '{name}', only its own Node object")),
            },
            _ => Err(String::new()),
        }
    }

    fn pods(&self, deed: &Deed, selector: &Selector) -> Result<(), String> {
        match (deed.part.as_str(), deed.verb.as_str()) {
            ("", "get") => self.related(deed),
            ("", "list" | "watch") if selector.field("spec.nodeName") == Some(self.node) => Ok(()),
            ("", "list" | "watch") if !deed.name.is_empty() => self.related(deed),
            ("", "list" | "watch") => Err("can only list/watch pods with spec.nodeName field selector".into()),
            ("", "create" | "delete") | ("status", "update" | "patch") | ("eviction", "create") => Ok(()),
            _ => Err(String::new()),
        }
    }

    /// Whether a pod on the node has to do with the object.
    fn related(&self, deed: &Deed) -> Result<(), String> {
        if deed.name.is_empty() {
            return Err("No Object name found".into());
        }
        if deed.resource == "volumeattachments" {
            let kind = kinds::find("storage.k8s.io", "v1", "volumeattachments");
            let there = kind.and_then(|kind| self.store.get(kind, "", &deed.name));
            return match there.is_some_and(|it| it["spec"]["nodeName"] == self.node) {
                true => Ok(()),
                false => Err(format!("no relationship found between node '{}' and this object", self.node)),
            };
        }
        let pods = kinds::find("", "v1", "pods").map(|kind| self.store.list(kind, None, &Selector::default()));
        let mut of_node = pods.into_iter().flatten().filter(|pod| pod["spec"]["nodeName"] == self.node);
        if of_node.any(|pod| self.refers(&pod, deed)) {
            return Ok(());
        }
        Err(format!("no relationship found between node '{}' and this object", self.node))
    }

    fn refers(&self, pod: &Arc<Value>, deed: &Deed) -> bool {
        let here = pod["metadata"]["namespace"] == deed.namespace.as_str();
        let is_mirror = !pod["metadata"]["annotations"]["kubernetes.io/config.mirror"].is_null();
        let (spec, name) = (&pod["spec"], deed.name.as_str());
        match deed.resource.as_str() {
            "pods" => here && pod["metadata"]["name"] == name,
            _ if is_mirror => false,
            "serviceaccounts" => here && spec["serviceAccountName"] == name,
            "persistentvolumes" => {
                let volume = kinds::find("", "v1", "persistentvolumes").and_then(|kind| self.store.get(kind, "", name));
                let of = volume.map(|volume| volume["spec"]["claimRef"].clone()).unwrap_or_default();
                of["namespace"] == pod["metadata"]["namespace"] && claims(spec).any(|claim| of["name"] == claim)
            }
            "persistentvolumeclaims" => here && claims(spec).any(|claim| claim == name),
            "secrets" if self.is_of_volume(pod, deed) => true,
            kind => here && mentions(spec, kind, name),
        }
    }

    /// Whether the driver of a volume that a pod claims is to be told the Secret.
    fn is_of_volume(&self, pod: &Value, deed: &Deed) -> bool {
        let volumes = kinds::find("", "v1", "persistentvolumes");
        let volumes = volumes.map(|kind| self.store.list(kind, None, &Selector::default()));
        volumes.into_iter().flatten().any(|volume| {
            let (of, csi) = (&volume["spec"]["claimRef"], &volume["spec"]["csi"]);
            let names = |field: &str| csi[field]["name"] == deed.name && csi[field]["namespace"] == deed.namespace;
            of["namespace"] == pod["metadata"]["namespace"]
                && claims(&pod["spec"]).any(|claim| of["name"] == claim)
                && (names("nodeStageSecretRef") || names("nodePublishSecretRef"))
        })
    }
}

fn claims(spec: &Value) -> impl Iterator<Item = &str> {
    let volumes = spec["volumes"].as_array().into_iter().flatten();
    volumes.filter_map(|volume| volume["persistentVolumeClaim"]["claimName"].as_str())
}

/// Whether a pod's spec mentions a ConfigMap or a Secret of that name.
fn mentions(value: &Value, kind: &str, name: &str) -> bool {
    let by = |field: &str, key: &str| value[field][key] == name;
    let here = match kind {
        "configmaps" => by("configMap", "name") || by("configMapRef", "name") || by("configMapKeyRef", "name"),
        _ => {
            let pulls = value["imagePullSecrets"].as_array();
            by("secret", "secretName")
                || by("secret", "name")
                || by("secretRef", "name")
                || by("secretKeyRef", "name")
                || by("nodePublishSecretRef", "name")
                || pulls.is_some_and(|all| all.iter().any(|it| it["name"] == name))
        }
    };
    here || match value {
        Value::Array(items) => items.iter().any(|it| mentions(it, kind, name)),
        Value::Object(fields) => fields.values().any(|it| mentions(it, kind, name)),
        _ => false,
    }
}

/// What every node may do: the static rules of the real server, of what is served here.
fn by_rule(deed: &Deed) -> bool {
    let verb = deed.verb.as_str();
    let reads = matches!(verb, "get" | "list" | "watch");
    match (deed.group.as_str(), deed.resource.as_str(), deed.part.as_str()) {
        ("authentication.k8s.io", "tokenreviews", "") => verb == "create",
        ("authorization.k8s.io", "subjectaccessreviews" | "localsubjectaccessreviews", "") => verb == "create",
        ("", "services", "") => reads,
        ("", "events", "") => matches!(verb, "create" | "update" | "patch"),
        ("certificates.k8s.io", "certificatesigningrequests", "") => {
            matches!(verb, "create" | "get" | "list" | "watch")
        }
        ("node.k8s.io", "runtimeclasses", "") | ("storage.k8s.io", "csidrivers", "") => reads,
        _ => false,
    }
}
