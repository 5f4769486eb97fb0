//! What of a node has changed, as a strategic merge patch. Pure.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Node, NodeCondition};
use serde_json::{Map, Value, json};

/// Parts of a status that are objects whose keys are merged.
const MERGED: [&str; 4] = ["allocatable", "capacity", "daemonEndpoints", "nodeInfo"];

/// Parts of a status that are replaced as they are.
const REPLACED: [&str; 4] = ["features", "images", "runtimeHandlers", "volumesInUse"];

/// Whether two say the same, but for when it was said.
pub fn differ(before: &Node, after: &Node) -> bool {
    between(&without_beats(before), &without_beats(after)).is_some()
}

fn without_beats(node: &Node) -> Node {
    let mut node = node.clone();
    for condition in node.status.iter_mut().flat_map(|it| it.conditions.iter_mut().flatten()) {
        condition.last_heartbeat_time = None;
    }
    node
}

/// What makes `after` of `before`, if they differ: of labels and annotations and of the status.
pub fn between(before: &Node, after: &Node) -> Option<Value> {
    let mut patch = Map::new();
    let mut metadata = Map::new();
    for (name, one, other) in [
        ("labels", &before.metadata.labels, &after.metadata.labels),
        ("annotations", &before.metadata.annotations, &after.metadata.annotations),
    ] {
        let map = |map: &Option<BTreeMap<String, String>>| json!(map.clone().unwrap_or_default());
        if let Some(changed) = merged(&map(one), &map(other)) {
            metadata.insert(name.to_owned(), changed);
        }
    }
    if !metadata.is_empty() {
        patch.insert("metadata".to_owned(), Value::Object(metadata));
    }
    let status = status(before, after);
    if !status.is_empty() {
        patch.insert("status".to_owned(), Value::Object(status));
    }
    (!patch.is_empty()).then_some(Value::Object(patch))
}

fn status(before: &Node, after: &Node) -> Map<String, Value> {
    let json = |node: &Node| json!(node.status.clone().unwrap_or_default());
    let (one, other) = (json(before), json(after));
    let mut status = Map::new();
    for name in MERGED {
        let empty = json!({});
        let changed = merged(one.get(name).unwrap_or(&empty), other.get(name).unwrap_or(&empty));
        status.extend(changed.map(|it| (name.to_owned(), it)));
    }
    for name in REPLACED {
        if one.get(name) != other.get(name) {
            status.insert(name.to_owned(), other.get(name).cloned().unwrap_or(Value::Null));
        }
    }
    // Merged by type alone two addresses of one type would be one: all are replaced.
    if one.get("addresses") != other.get("addresses") {
        let mut addresses = other.get("addresses").and_then(Value::as_array).cloned().unwrap_or_default();
        addresses.push(json!({"$patch": "replace"}));
        status.insert("addresses".to_owned(), Value::Array(addresses));
    }
    let of = |node: &Node| node.status.as_ref().and_then(|it| it.conditions.clone()).unwrap_or_default();
    let (one, other) = (of(before), of(after));
    let there = |condition: &&NodeCondition| !one.contains(condition);
    let changed: Vec<Value> = other.iter().filter(there).map(|it| json!(it)).collect();
    if !changed.is_empty() {
        let order: Vec<Value> = other.iter().map(|it| json!({"type": it.type_})).collect();
        status.insert("$setElementOrder/conditions".to_owned(), Value::Array(order));
        status.insert("conditions".to_owned(), Value::Array(changed));
    }
    status
}

/// What makes one object of another, key by key.
fn merged(before: &Value, after: &Value) -> Option<Value> {
    let (Value::Object(before), Value::Object(after)) = (before, after) else {
        return (before != after).then(|| after.clone());
    };
    let mut changed = Map::new();
    for (key, value) in after {
        match before.get(key) {
            None => {
                changed.insert(key.clone(), value.clone());
            }
            Some(there) => changed.extend(merged(there, value).map(|it| (key.clone(), it))),
        }
    }
    for key in before.keys().filter(|key| !after.contains_key(*key)) {
        changed.insert(key.clone(), Value::Null);
    }
    (!changed.is_empty()).then_some(Value::Object(changed))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn node(value: Value) -> Node {
        serde_json::from_value(value).unwrap()
    }

    fn base() -> Value {
        json!({
            "metadata": {"name": "n", "labels": {"a": "1", "b": "2"}},
            "status": {
                "capacity": {"cpu": "2", "memory": "1Gi"},
                "addresses": [{"type": "InternalIP", "address": "192.0.2.1"}],
                "images": [{"names": ["x"], "sizeBytes": 1}],
                "conditions": [
                    {"type": "DiskPressure", "status": "False", "lastHeartbeatTime": "2026-01-01T00:00:00Z"},
                    {"type": "Ready", "status": "True", "lastHeartbeatTime": "2026-01-01T00:00:00Z"}
                ]
            }
        })
    }

    #[test]
    fn a_patch_says_what_has_changed_and_nothing_else() {
        let rows: [(&str, Value, Value); 7] = [
            ("/metadata/labels/a", json!("3"), json!({"metadata": {"labels": {"a": "3"}}})),
            ("/metadata/labels", json!({"a": "1"}), json!({"metadata": {"labels": {"b": null}}})),
            ("/status/capacity", json!({"cpu": "4", "memory": "1Gi"}), json!({"status": {"capacity": {"cpu": "4"}}})),
            ("/status/capacity", json!({"cpu": "2"}), json!({"status": {"capacity": {"memory": null}}})),
            ("/status/images", json!([]), json!({"status": {"images": []}})),
            (
                "/status/addresses/0/address",
                json!("192.0.2.2"),
                json!({"status": {"addresses": [{"type": "InternalIP", "address": "192.0.2.2"}, {"$patch": "replace"}]}}),
            ),
            (
                "/status/conditions/1/status",
                json!("False"),
                json!({"status": {
                    "$setElementOrder/conditions": [{"type": "DiskPressure"}, {"type": "Ready"}],
                    "conditions": [{"type": "Ready", "status": "False", "lastHeartbeatTime": "2026-01-01T00:00:00Z"}]
                }}),
            ),
        ];
        assert_eq!(between(&node(base()), &node(base())), None);
        for (pointer, value, expected) in rows {
            let mut changed = base();
            *changed.pointer_mut(pointer).unwrap() = value;
            assert_eq!(between(&node(base()), &node(changed)), Some(expected), "{pointer}");
        }
    }

    #[test]
    fn when_it_was_said_is_no_difference() {
        let mut later = base();
        *later.pointer_mut("/status/conditions/1/lastHeartbeatTime").unwrap() = json!("2026-01-01T00:05:00Z");
        assert!(!differ(&node(base()), &node(later.clone())));
        assert!(between(&node(base()), &node(later)).is_some());
    }
}
