//! Deleting: at once, by and by, or only if it is still the one that was meant.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::asked::{Asked, Target};
use super::kinds::Kind;
use super::refusal::{self, Refusal};
use super::store::Store;
use super::{read, shape, write};

/// Deletes an object; what is answered.
pub fn delete(store: &mut Store, asked: &Asked, target: &Target) -> Result<Value, Refusal> {
    let (kind, name) = (target.kind, target.name.as_deref().unwrap_or_default());
    let object = read::get(store, target)?;
    let options = &asked.body;
    if options["dryRun"].is_array() || asked.query("dryRun").is_some() {
        return Err(Refusal::not_implemented("a dry run"));
    }
    preconditions(kind, name, options, &object)?;
    let policy = options["propagationPolicy"].as_str().or(asked.query("propagationPolicy"));
    if let Some(policy @ ("Foreground" | "Orphan")) = policy {
        return Err(Refusal::not_implemented(format!("the propagation policy {policy}")));
    }
    if kind.kind == "Namespace" {
        return Err(Refusal::not_implemented("the deletion of a namespace: its controller is not there"));
    }
    let asked_for = options["gracePeriodSeconds"].as_i64();
    let asked_for = asked_for.or_else(|| asked.query("gracePeriodSeconds").and_then(|it| it.parse().ok()));
    let grace = if kind.kind == "Pod" { grace_of(&object, asked_for) } else { 0 };
    Ok(end(store, kind, object, grace, asked_for.is_some()))
}

/// Deletes every object that is meant; the list of them.
pub fn collection(store: &mut Store, asked: &Asked, target: &Target) -> Result<Value, Refusal> {
    let found = store.list(target.kind, target.namespace.as_deref(), &read::selector(asked)?);
    let revision = store.revision().to_string();
    let mut items = Vec::new();
    for object in found {
        let text = |key: &str| object["metadata"][key].as_str().map(str::to_owned);
        let target = Target { name: text("name"), namespace: text("namespace"), ..target.clone() };
        delete(store, asked, &target)?;
        items.push(Value::clone(&object));
    }
    Ok(target.kind.list(items, json!({"resourceVersion": revision})))
}

fn preconditions(kind: &Kind, name: &str, options: &Value, object: &Value) -> Result<(), Refusal> {
    let wanted = &options["preconditions"];
    if let Some(uid) = wanted["uid"].as_str()
        && object["metadata"]["uid"] != uid
    {
        return Err(write::other_uid(kind, name, uid, object));
    }
    if let Some(version) = wanted["resourceVersion"].as_str()
        && object["metadata"]["resourceVersion"] != version
    {
        let found = object["metadata"]["resourceVersion"].as_str().unwrap_or_default();
        let why = format!(
            "Precondition failed: ResourceVersion in precondition: {version}, ResourceVersion in object meta: {found}"
        );
        return Err(Refusal::conflict(kind, name, &why));
    }
    Ok(())
}

/// How long a pod is given: none if it runs nowhere, or no more.
fn grace_of(pod: &Value, asked_for: Option<i64>) -> i64 {
    let usual = pod["spec"]["terminationGracePeriodSeconds"].as_i64().unwrap_or(30);
    let over = matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed"));
    let nowhere = pod["spec"]["nodeName"].as_str().unwrap_or_default().is_empty();
    match asked_for.unwrap_or(usual) {
        _ if over || nowhere => 0,
        negative @ ..0 => negative.signum().abs(),
        grace => grace,
    }
}

/// Begins the end of an object, or brings it about.
fn end(store: &mut Store, kind: &Kind, mut object: Value, grace: i64, is_asked: bool) -> Value {
    let metadata = &object["metadata"];
    let waits = metadata["finalizers"].as_array().is_some_and(|it| !it.is_empty());
    let before = metadata["deletionGracePeriodSeconds"].as_i64();
    let ends = metadata["deletionTimestamp"].as_str().and_then(|it| it.parse::<Timestamp>().ok());
    if grace == 0 && !waits {
        store.remove(kind, &object);
        return gone(kind, object, store.revision());
    }
    let ends = match (ends, before) {
        // Only less time may be asked for, and only by somebody who says how much.
        (Some(_), Some(before)) if !is_asked || grace >= before => return object,
        (Some(ends), Some(before)) => ends - SignedDuration::from_secs(before) + SignedDuration::from_secs(grace),
        (Some(_), None) => return object,
        (None, _) => Timestamp::now() + SignedDuration::from_secs(grace),
    };
    let metadata = &mut object["metadata"];
    metadata["deletionTimestamp"] = write::stamp(ends).into();
    metadata["deletionGracePeriodSeconds"] = grace.into();
    if kind.generation && before.is_none() {
        metadata["generation"] = (metadata["generation"].as_i64().unwrap_or_default() + 1).into();
    }
    debug_assert!(!shape::is_gone(&object), "nothing waits for {}", object["metadata"]["name"]);
    Value::clone(&store.put(kind, object))
}

/// What is said when an object is gone: of some kinds the object, of others only that it is.
fn gone(kind: &Kind, mut object: Value, revision: u64) -> Value {
    const WHOLE: &[&str] = &["Pod", "Service", "ServiceAccount", "PersistentVolume", "PersistentVolumeClaim"];
    if WHOLE.contains(&kind.kind) {
        object["metadata"]["resourceVersion"] = revision.to_string().into();
        return object;
    }
    let mut details = refusal::details(kind, object["metadata"]["name"].as_str().unwrap_or_default());
    details["uid"] = object["metadata"]["uid"].clone();
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details})
}
