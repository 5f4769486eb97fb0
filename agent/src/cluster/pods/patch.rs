//! The strategic merge patch that makes one status of another: pure, and as Kubernetes' own clients write it.

use serde_json::{Map, Value, json};

/// The lists of a pod's status whose items are told apart by a key; others are replaced as a whole.
const MERGED: [(&str, &str); 3] = [("conditions", "type"), ("hostIPs", "ip"), ("podIPs", "ip")];

/// What makes `new` of `old`; none when they are the same.
pub fn between(old: &Value, new: &Value) -> Option<Value> {
    let empty = Map::new();
    let (old, new) = (old.as_object().unwrap_or(&empty), new.as_object().unwrap_or(&empty));
    let patch = objects(old, new);
    (!patch.is_empty()).then_some(Value::Object(patch))
}

fn objects(old: &Map<String, Value>, new: &Map<String, Value>) -> Map<String, Value> {
    let mut patch = Map::new();
    for name in old.keys().filter(|name| !new.contains_key(*name)) {
        patch.insert(name.clone(), Value::Null);
    }
    for (name, now) in new {
        let before = old.get(name).unwrap_or(&Value::Null);
        if before == now {
            continue;
        }
        let key = MERGED.iter().find(|(merged, _)| merged == name).map(|(_, key)| *key);
        match (key, before, now) {
            (Some(key), _, Value::Array(now)) => {
                let before = before.as_array().map(Vec::as_slice).unwrap_or_default();
                list(&mut patch, name, key, before, now);
            }
            (None, Value::Object(before), Value::Object(now)) => {
                patch.insert(name.clone(), Value::Object(objects(before, now)));
            }
            _ => {
                patch.insert(name.clone(), now.clone());
            }
        }
    }
    patch
}

/// What changes in a list whose items have a key, and the order that they have then.
fn list(patch: &mut Map<String, Value>, name: &str, key: &str, old: &[Value], new: &[Value]) {
    let find = |items: &[Value], wanted: &Value| items.iter().find(|item| item.get(key) == wanted.get(key)).cloned();
    let mut changes = Vec::new();
    for item in new {
        let Some(Value::Object(before)) = find(old, item) else {
            changes.push(item.clone());
            continue;
        };
        let mut change = item.as_object().map(|now| objects(&before, now)).unwrap_or_default();
        if !change.is_empty() {
            change.insert(key.to_owned(), item.get(key).cloned().unwrap_or_default());
            changes.push(Value::Object(change));
        }
    }
    for item in old.iter().filter(|item| find(new, item).is_none()) {
        changes.push(json!({"$patch": "delete", key: item.get(key)}));
    }
    let order: Vec<Value> = new.iter().map(|item| json!({key: item.get(key)})).collect();
    patch.insert(format!("$setElementOrder/{name}"), order.into());
    if !changes.is_empty() {
        patch.insert(name.to_owned(), changes.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_differs_is_in_a_patch() {
        let ready = |status: &str| json!({"type": "Ready", "status": status, "lastTransitionTime": "t"});
        let rows = [
            (json!({}), json!({}), None),
            (json!({"phase": "Pending"}), json!({"phase": "Pending"}), None),
            (json!({"phase": "Pending"}), json!({"phase": "Running"}), Some(json!({"phase": "Running"}))),
            (json!({"reason": "x"}), json!({}), Some(json!({"reason": null}))),
            (
                json!({"allocatedResources": {"cpu": "1", "memory": "1Gi"}}),
                json!({"allocatedResources": {"cpu": "2"}}),
                Some(json!({"allocatedResources": {"cpu": "2", "memory": null}})),
            ),
            (
                json!({"containerStatuses": [{"name": "a", "ready": false}]}),
                json!({"containerStatuses": [{"name": "a", "ready": true}]}),
                Some(json!({"containerStatuses": [{"name": "a", "ready": true}]})),
            ),
            (
                json!({"conditions": [ready("False"), {"type": "example.com/x", "status": "True"}]}),
                json!({"conditions": [{"type": "example.com/x", "status": "True"}, ready("True")]}),
                Some(json!({
                    "$setElementOrder/conditions": [{"type": "example.com/x"}, {"type": "Ready"}],
                    "conditions": [{"type": "Ready", "status": "True"}],
                })),
            ),
            (
                json!({"podIPs": [{"ip": "10.0.0.1"}]}),
                json!({"podIPs": [{"ip": "10.0.0.2"}]}),
                Some(json!({
                    "$setElementOrder/podIPs": [{"ip": "10.0.0.2"}],
                    "podIPs": [{"ip": "10.0.0.2"}, {"$patch": "delete", "ip": "10.0.0.1"}],
                })),
            ),
            (json!({"podIPs": [{"ip": "10.0.0.1"}]}), json!({}), Some(json!({"podIPs": null}))),
            (
                Value::Null,
                json!({"conditions": [ready("True")], "phase": "Running"}),
                Some(json!({
                    "$setElementOrder/conditions": [{"type": "Ready"}],
                    "conditions": [ready("True")],
                    "phase": "Running",
                })),
            ),
        ];
        for (old, new, expected) in rows {
            assert_eq!(between(&old, &new), expected, "{old} -> {new}");
        }
    }
}
