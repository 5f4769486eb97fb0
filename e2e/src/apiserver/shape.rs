//! What the server makes of an object that is written: fields that are its own, and fields that a request may not touch.

use serde_json::{Map, Value, json};

use super::asked::User;
use super::kinds::Kind;
use super::refusal::{Cause, Refusal};

/// Fields of the metadata that only the server writes.
const SERVERS: &[&str] =
    &["uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "generation", "namespace", "name"];

/// What a new object begins with.
pub fn begin(kind: &Kind, user: &User, object: &mut Value) {
    // A node says how it is when it makes itself known; of everything else the server knows better.
    if kind.has_status() && kind.kind != "Node" {
        object.as_object_mut().map(|it| it.remove("status"));
    }
    match kind.kind {
        "Namespace" => {
            object["metadata"]["labels"]["kubernetes.io/metadata.name"] = object["metadata"]["name"].clone();
            object["spec"]["finalizers"] = json!(["kubernetes"]);
            object["status"] = json!({"phase": "Active"});
        }
        "Node" => {
            if object["spec"].is_null() {
                object["spec"] = json!({});
            }
            let not_ready = json!({"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"});
            let taints = object["spec"]["taints"].as_array_mut().map(std::mem::take).unwrap_or_default();
            let has_it = taints.contains(&not_ready);
            object["spec"]["taints"] = taints.into_iter().chain((!has_it).then_some(not_ready)).collect();
        }
        "Pod" => {
            object["status"] = json!({"phase": "Pending", "qosClass": qos(object)});
        }
        "PersistentVolumeClaim" | "PersistentVolume" => object["status"] = json!({"phase": "Pending"}),
        "Service" => object["status"] = json!({"loadBalancer": {}}),
        "CertificateSigningRequest" => {
            object["spec"]["username"] = user.name.clone().into();
            object["spec"]["groups"] = json!(user.groups);
            object["status"] = json!({});
        }
        "Secret" if object["type"].is_null() => object["type"] = "Opaque".into(),
        _ => {}
    }
    if kind.kind == "Secret" {
        encode_strings(object);
    }
}

/// What is written of `stringData` is `data`.
fn encode_strings(object: &mut Value) {
    use base64::Engine as _;
    let strings = object.as_object_mut().and_then(|it| it.remove("stringData"));
    let Some(Value::Object(strings)) = strings else { return };
    for (key, value) in strings {
        let bytes = value.as_str().unwrap_or_default();
        object["data"][key] = base64::engine::general_purpose::STANDARD.encode(bytes).into();
    }
}

/// What an object becomes by a write of it or of a part of it.
pub fn next(kind: &Kind, part: Option<&str>, old: &Value, mut new: Value) -> Result<Value, Refusal> {
    let name = old["metadata"]["name"].as_str().unwrap_or_default();
    for field in SERVERS.iter().chain(&["resourceVersion"]) {
        keep(&mut new["metadata"], &old["metadata"], field);
    }
    new["metadata"].as_object_mut().map(|it| it.remove("managedFields"));
    let (kind_name, part) = (kind.kind, part.unwrap_or_default());
    match (kind_name, part) {
        (_, "") if kind.has_status() => keep(&mut new, old, "status"),
        (_, "") => {}
        ("CertificateSigningRequest", "approval") => {
            let conditions = new["status"]["conditions"].take();
            new = old.clone();
            new["status"]["conditions"] = conditions;
        }
        ("CertificateSigningRequest", "status") => {
            let certificate = new["status"]["certificate"].take();
            new = old.clone();
            new["status"]["certificate"] = certificate;
        }
        (_, "status") => {
            keep(&mut new, old, "spec");
            if kind_name == "Pod" {
                keep(&mut new["metadata"], &old["metadata"], "ownerReferences");
            }
        }
        ("Namespace", "finalize") => keep(&mut new, old, "status"),
        ("Pod", "resize" | "ephemeralcontainers") => {
            let spec = new["spec"].take();
            new = old.clone();
            parts_of_spec(part, &mut new["spec"], &spec);
        }
        (_, part) => return Err(Refusal::not_implemented(format!("writes of {kind_name}/{part}"))),
    }
    if kind.kind == "Secret" {
        encode_strings(&mut new);
    }
    if kind.kind == "Pod" && part.is_empty() {
        immutable(kind, name, &old["spec"], &new["spec"])?;
    }
    if kind.generation && new["spec"] != old["spec"] {
        new["metadata"]["generation"] = (old["metadata"]["generation"].as_i64().unwrap_or_default() + 1).into();
    }
    Ok(new)
}

fn parts_of_spec(part: &str, spec: &mut Value, wanted: &Value) {
    if part == "ephemeralcontainers" {
        spec["ephemeralContainers"] = wanted["ephemeralContainers"].clone();
        return;
    }
    for list in ["containers", "initContainers"] {
        for container in spec[list].as_array_mut().into_iter().flatten() {
            let same = |it: &&Value| it["name"] == container["name"];
            if let Some(wish) = wanted[list].as_array().into_iter().flatten().find(same) {
                keep(container, wish, "resources");
            }
        }
    }
}

/// What of a pod's spec may change, once it is there.
fn immutable(kind: &Kind, name: &str, old: &Value, new: &Value) -> Result<(), Refusal> {
    let rest = |spec: &Value| {
        let mut spec = spec.clone();
        for list in ["containers", "initContainers"] {
            for container in spec[list].as_array_mut().into_iter().flatten() {
                container.as_object_mut().map(|it| it.remove("image"));
            }
        }
        if let Some(fields) = spec.as_object_mut() {
            for field in ["activeDeadlineSeconds", "tolerations", "terminationGracePeriodSeconds"] {
                fields.remove(field);
            }
        }
        spec
    };
    if rest(old) == rest(new) {
        return Ok(());
    }
    let message = "Forbidden: pod updates may not change fields other than `spec.containers[*].image`,\
        `spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing \
        tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";
    let cause = Cause { reason: "FieldValueForbidden", message: message.to_owned(), field: "spec".to_owned() };
    Err(Refusal::invalid(kind, name, &[cause]))
}

/// Makes a field what it is in another object.
fn keep(object: &mut Value, other: &Value, field: &str) {
    match other.get(field) {
        Some(value) => object[field] = value.clone(),
        None => {
            object.as_object_mut().map(|it| it.remove(field));
        }
    }
}

/// Whether an object that is being deleted has nothing left that waits for anything.
pub fn is_gone(object: &Value) -> bool {
    let metadata = &object["metadata"];
    let waits = metadata["finalizers"].as_array().is_some_and(|it| !it.is_empty());
    let graceful = metadata["deletionGracePeriodSeconds"].as_i64().unwrap_or_default() > 0;
    !metadata["deletionTimestamp"].is_null() && !waits && !graceful
}

/// The class of a pod by what its containers ask for.
fn qos(pod: &Value) -> &'static str {
    let empty = Map::new();
    let lists = ["containers", "initContainers"].into_iter().flat_map(|it| pod["spec"][it].as_array()).flatten();
    let (mut any, mut guaranteed) = (false, true);
    for container in lists {
        let of = |what: &str| container["resources"][what].as_object().unwrap_or(&empty).clone();
        let (limits, requests) = (of("limits"), of("requests"));
        for resource in ["cpu", "memory"] {
            let (limit, request) = (limits.get(resource), requests.get(resource));
            any |= limit.is_some() || request.is_some();
            guaranteed &= limit.is_some() && request.is_none_or(|request| Some(request) == limit);
        }
    }
    match (any, guaranteed) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}
