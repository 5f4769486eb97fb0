//! What is done to a pod by a part of it that is no data: binding and eviction.

use serde_json::{Value, json};

use super::asked::{Asked, Target};
use super::kinds;
use super::refusal::Refusal;
use super::select::Selector;
use super::store::Store;
use super::{delete, read, write};

/// Binds a pod to a node, as a scheduler does.
pub fn bind(store: &mut Store, asked: &Asked, target: &Target) -> Result<Value, Refusal> {
    let mut pod = read::get(store, target)?;
    let name = target.name.as_deref().unwrap_or_default();
    let node = asked.body["target"]["name"].as_str().unwrap_or_default();
    if let Some(there) = pod["spec"]["nodeName"].as_str().filter(|it| !it.is_empty()) {
        let why = format!("pod {name} is already assigned to node {there:?}");
        return Err(Refusal::conflict(target.kind, name, &why));
    }
    pod["spec"]["nodeName"] = node.into();
    let scheduled =
        json!({"type": "PodScheduled", "status": "True", "lastProbeTime": null, "lastTransitionTime": write::now()});
    match pod["status"]["conditions"].as_array_mut() {
        Some(conditions) => {
            conditions.retain(|it| it["type"] != "PodScheduled");
            conditions.push(scheduled);
        }
        None => pod["status"]["conditions"] = json!([scheduled]),
    }
    store.put(target.kind, pod);
    Ok(success(201))
}

/// Evicts a pod, if its disruption budgets allow that.
pub fn evict(store: &mut Store, asked: &Asked, target: &Target) -> Result<Value, Refusal> {
    let pod = read::get(store, target)?;
    let budgets = kinds::find("policy", "v1", "poddisruptionbudgets").unwrap_or(target.kind);
    for budget in store.list(budgets, target.namespace.as_deref(), &Selector::default()) {
        let wanted = budget["spec"]["selector"]["matchLabels"].as_object();
        let labels = &pod["metadata"]["labels"];
        let is_meant = wanted.is_some_and(|all| all.iter().all(|(key, value)| labels[key] == *value));
        if is_meant && budget["status"]["disruptionsAllowed"].as_i64().unwrap_or_default() < 1 {
            return Err(Refusal::budget(budget["metadata"]["name"].as_str().unwrap_or_default()));
        }
    }
    let body = asked.body["deleteOptions"].clone();
    delete::delete(store, &Asked { body, ..asked.clone() }, target)?;
    Ok(success(201))
}

fn success(code: u16) -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": code})
}
