//! What a node may not write, though it may write that kind: the admission plug-in `NodeRestriction`.

use serde_json::Value;

use super::asked::{Asked, Target, User};
use super::kinds::{self, Kind};
use super::read;
use super::refusal::Refusal;
use super::store::Store;

/// The annotation by which a pod is the mirror of a static one.
const MIRROR: &str = "kubernetes.io/config.mirror";

/// Labels of these prefixes a node may not give itself, but for those that it must.
const FOREIGN_LABELS: &[&str] = &["kubernetes.io", "k8s.io"];
const OWN_LABELS: &[&str] = &[
    "kubernetes.io/hostname",
    "kubernetes.io/os",
    "kubernetes.io/arch",
    "beta.kubernetes.io/os",
    "beta.kubernetes.io/arch",
    "beta.kubernetes.io/instance-type",
    "node.kubernetes.io/instance-type",
    "failure-domain.beta.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "topology.kubernetes.io/region",
    "topology.kubernetes.io/zone",
    "node.kubernetes.io/windows-build",
];

/// Whether a node may create an object.
pub fn create(store: &Store, asked: &Asked, target: &Target, object: &Value) -> Result<(), Refusal> {
    let Some(node) = asked.user.as_node() else { return Ok(()) };
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    let forbidden = |why: String| Err(Refusal::forbidden(target.kind, name, &why));
    match (target.kind.kind, target.part.as_deref().unwrap_or_default()) {
        ("Pod", "") => mirror(store, node, target.kind, object),
        ("Node", "") if name != node => forbidden(format!("node {node:?} is not allowed to modify node {name:?}")),
        ("Node", "") => match foreign_labels(&Value::Null, object) {
            labels if labels.is_empty() => Ok(()),
            labels => forbidden(format!("node {node:?} is not allowed to set the following labels: {labels}")),
        },
        ("Lease", "") if name != node => {
            forbidden("can only access node lease with the same name as the requesting node".to_owned())
        }
        _ => Ok(()),
    }
}

/// Whether a node may make of an object what it wants to.
pub fn change(store: &Store, user: &User, target: &Target, old: &Value, new: &Value) -> Result<(), Refusal> {
    let _ = store;
    let Some(node) = user.as_node() else { return Ok(()) };
    let name = target.name.as_deref().unwrap_or_default();
    let forbidden = |why: String| Err(Refusal::forbidden(target.kind, name, &why));
    match (target.kind.kind, target.part.as_deref().unwrap_or_default()) {
        ("Pod", "") => {
            forbidden(format!("unexpected operation \"UPDATE\", node {node:?} can only create and delete mirror pods"))
        }
        ("Pod", "status") if old["spec"]["nodeName"] != node => {
            forbidden(format!("node {node:?} can only update pod status for pods with spec.nodeName set to itself"))
        }
        ("Pod", "status") if old["metadata"]["labels"] != new["metadata"]["labels"] => {
            forbidden(format!("node {node:?} cannot update labels through pod status"))
        }
        ("Node", _) if name != node => forbidden(format!("node {node:?} is not allowed to modify node {name:?}")),
        ("Node", _) if old["spec"]["taints"] != new["spec"]["taints"] => {
            forbidden(format!("node {node:?} is not allowed to modify taints"))
        }
        ("Node", _) if old["metadata"]["ownerReferences"] != new["metadata"]["ownerReferences"] => {
            forbidden(format!("node {node:?} is not allowed to modify ownerReferences"))
        }
        ("Node", _) => match foreign_labels(old, new) {
            labels if labels.is_empty() => Ok(()),
            labels => forbidden(format!("is not allowed to modify labels: {labels}")),
        },
        _ => Ok(()),
    }
}

/// Whether a node may delete an object.
pub fn delete(store: &Store, asked: &Asked, target: &Target) -> Result<(), Refusal> {
    let Some(node) = asked.user.as_node() else { return Ok(()) };
    if target.kind.kind != "Pod" {
        return Ok(());
    }
    let pod = read::get(store, target)?;
    if pod["spec"]["nodeName"] != node {
        let why = format!("node {node:?} can only delete pods with spec.nodeName set to itself");
        return Err(Refusal::forbidden(target.kind, target.name.as_deref().unwrap_or_default(), &why));
    }
    Ok(())
}

/// A pod that a node creates is the mirror of a static one of its own.
fn mirror(store: &Store, node: &str, kind: &Kind, pod: &Value) -> Result<(), Refusal> {
    let name = pod["metadata"]["name"].as_str().unwrap_or_default();
    let check = |holds: bool, why: String| if holds { Ok(()) } else { Err(Refusal::forbidden(kind, name, &why)) };
    let itself = format!("node {node:?} can only create pods with");
    check(
        !pod["metadata"]["annotations"][MIRROR].is_null(),
        format!("pod does not have {MIRROR:?} annotation, node {node:?} can only create mirror pods"),
    )?;
    check(pod["spec"]["nodeName"] == node, format!("{itself} spec.nodeName set to itself"))?;
    let owners = pod["metadata"]["ownerReferences"].as_array().map_or(&[][..], Vec::as_slice);
    check(owners.len() < 2, format!("{itself} a single owner reference set to itself"))?;
    let owner = owners.first().unwrap_or(&Value::Null);
    let is_node = owner["apiVersion"] == "v1" && owner["kind"] == "Node" && owner["name"] == node;
    check(is_node, format!("{itself} an owner reference set to itself"))?;
    check(owner["controller"] == true, format!("{itself} a controller owner reference set to itself"))?;
    let blocks = owner["blockOwnerDeletion"] == true;
    check(!blocks, format!("node {node:?} must not set blockOwnerDeletion on an owner reference"))?;
    let nodes = kinds::find("", "v1", "nodes").unwrap_or(kind);
    let there = store.get(nodes, "", node).ok_or_else(|| Refusal::not_found(nodes, node))?;
    let (said, uid) = (&owner["uid"], &there["metadata"]["uid"]);
    let text = |it: &Value| it.as_str().unwrap_or_default().to_owned();
    check(said == uid, format!("node {node} UID mismatch: expected {} got {}", text(said), text(uid)))?;
    match reference(&pod["spec"]) {
        Some(what) => check(false, format!("node {node:?} can not create pods that reference {what}")),
        None => Ok(()),
    }
}

/// The first kind of object that a pod refers to.
fn reference(spec: &Value) -> Option<&'static str> {
    let text = |key: &str| spec[key].as_str().is_some_and(|it| !it.is_empty());
    let mut volumes = spec["volumes"].as_array().into_iter().flatten();
    let containers = ["containers", "initContainers"].into_iter().flat_map(|it| spec[it].as_array()).flatten();
    let mut froms = containers.flat_map(|it| {
        let list = |key: &str| it[key].as_array().cloned().unwrap_or_default();
        list("env").into_iter().map(|it| it["valueFrom"].clone()).chain(list("envFrom"))
    });
    if text("serviceAccountName") {
        return Some("serviceaccounts");
    }
    if spec["imagePullSecrets"].as_array().is_some_and(|it| !it.is_empty()) {
        return Some("secrets");
    }
    let of_env = froms.find_map(|it| match () {
        () if !it["secretKeyRef"].is_null() || !it["secretRef"].is_null() => Some("secrets"),
        () if !it["configMapKeyRef"].is_null() || !it["configMapRef"].is_null() => Some("configmaps"),
        () => None,
    });
    of_env.or_else(|| {
        volumes.find_map(|volume| match () {
            () if !volume["secret"].is_null() => Some("secrets"),
            () if !volume["configMap"].is_null() => Some("configmaps"),
            () if !volume["persistentVolumeClaim"].is_null() => Some("persistentvolumeclaims"),
            () if !volume["projected"].is_null() => Some("serviceaccounts"),
            () => None,
        })
    })
}

/// Labels that a write changes though only others may.
fn foreign_labels(old: &Value, new: &Value) -> String {
    let empty = serde_json::Map::new();
    let labels = |object: &Value| object["metadata"]["labels"].as_object().unwrap_or(&empty).clone();
    let (old, new) = (labels(old), labels(new));
    let mut changed: Vec<&str> =
        old.keys().chain(new.keys()).filter(|key| old.get(*key) != new.get(*key)).map(String::as_str).collect();
    changed.retain(|key| is_foreign(key));
    changed.sort_unstable();
    changed.dedup();
    changed.join(", ")
}

fn is_foreign(key: &str) -> bool {
    let Some((domain, _)) = key.split_once('/') else { return false };
    let within = |of: &str| domain == of || domain.ends_with(&format!(".{of}"));
    let is_kubelets = within("kubelet.kubernetes.io") || within("node.kubernetes.io");
    FOREIGN_LABELS.iter().any(|it| within(it)) && !is_kubelets && !OWN_LABELS.contains(&key)
        || within("node-restriction.kubernetes.io")
}
