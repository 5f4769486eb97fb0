//! Strategic merge patches: lists of objects are merged by a key of theirs, where Kubernetes' types say so.

use serde_json::{Map, Value};

use super::super::kinds::Kind;
use super::super::refusal::Refusal;

/// How a list is merged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lists {
    /// The new one replaces the old one.
    Replaced,
    /// By a key of its elements.
    By(&'static str),
    /// What is not there yet is added: lists of plain values.
    Set,
}

/// How the list at a field of an object of this kind is merged, as the types of Kubernetes say. A field's name tells
/// enough but where it is said: no two types that are served differ otherwise.
fn of(kind: &Kind, path: &[&str]) -> Lists {
    let (field, parent) = (path[path.len() - 1], path.len().checked_sub(2).map_or("", |at| path[at]));
    match (kind.kind, parent, field) {
        (_, "metadata", "finalizers") => Lists::Set,
        (_, "metadata", "ownerReferences") => Lists::By("uid"),
        ("Node", "spec", "podCIDRs") => Lists::Set,
        ("Node", "status", "addresses" | "conditions") => Lists::By("type"),
        ("Service", "spec", "ports") => Lists::By("port"),
        ("ServiceAccount", "", "secrets") => Lists::By("name"),
        ("Lease" | "EndpointSlice" | "CSINode", _, _) => Lists::Replaced,
        (_, "status", "conditions") => Lists::By("type"),
        (_, "status", "podIPs" | "hostIPs") => Lists::By("ip"),
        (_, "status", "resourceClaimStatuses") => Lists::By("name"),
        (_, "spec", "containers" | "initContainers" | "ephemeralContainers" | "volumes" | "imagePullSecrets") => {
            Lists::By("name")
        }
        (_, "spec", "schedulingGates" | "resourceClaims") => Lists::By("name"),
        (_, "spec", "hostAliases") => Lists::By("ip"),
        (_, "spec", "topologySpreadConstraints") => Lists::By("topologyKey"),
        (_, "containers" | "initContainers" | "ephemeralContainers", "env") => Lists::By("name"),
        (_, "containers" | "initContainers" | "ephemeralContainers", "ports") => Lists::By("containerPort"),
        (_, "containers" | "initContainers" | "ephemeralContainers", "volumeMounts") => Lists::By("mountPath"),
        (_, "containers" | "initContainers" | "ephemeralContainers", "volumeDevices") => Lists::By("devicePath"),
        (_, "", "imagePullSecrets") => Lists::By("name"),
        _ => Lists::Replaced,
    }
}

/// Merges a patch into an object.
pub fn merge(kind: &Kind, object: &mut Value, patch: &Value) -> Result<(), Refusal> {
    let Value::Object(patch) = patch else {
        return Err(Refusal::bad_request("a strategic merge patch is an object"));
    };
    merge_map(kind, &mut Vec::new(), object, patch)
}

fn merge_map<'p>(
    kind: &Kind,
    path: &mut Vec<&'p str>,
    object: &mut Value,
    patch: &'p Map<String, Value>,
) -> Result<(), Refusal> {
    match patch.get("$patch").map(|it| it.as_str().unwrap_or_default()) {
        Some("replace") => {
            *object = Value::Object(patch.iter().filter(|(key, _)| *key != "$patch").map(cloned).collect());
            return Ok(());
        }
        Some("delete") => {
            *object = Value::Object(Map::new());
            return Ok(());
        }
        Some("merge") | None => {}
        Some(other) => return Err(Refusal::bad_request(format!("unknown patch strategy {other:?}"))),
    }
    if !object.is_object() {
        *object = Value::Object(Map::new());
    }
    let Some(fields) = object.as_object_mut() else { return Ok(()) };
    if let Some(kept) = patch.get("$retainKeys").and_then(Value::as_array) {
        fields.retain(|key, _| kept.iter().any(|it| it == key));
    }
    for (key, value) in patch.iter().filter(|(key, _)| !key.starts_with('$')) {
        path.push(key);
        merge_field(kind, path, fields, value)?;
        path.pop();
    }
    for (key, value) in patch {
        if let Some(field) = key.strip_prefix("$deleteFromPrimitiveList/") {
            let gone = value.as_array().map_or(&[][..], Vec::as_slice);
            if let Some(list) = fields.get_mut(field).and_then(Value::as_array_mut) {
                list.retain(|it| !gone.contains(it));
            }
        } else if let Some(field) = key.strip_prefix("$setElementOrder/") {
            path.push(field);
            let lists = of(kind, path);
            path.pop();
            if let (Some(Value::Array(list)), Some(order)) = (fields.get_mut(field), value.as_array()) {
                reorder(lists, list, order);
            }
        }
    }
    Ok(())
}

fn merge_field<'p>(
    kind: &Kind,
    path: &mut Vec<&'p str>,
    fields: &mut Map<String, Value>,
    value: &'p Value,
) -> Result<(), Refusal> {
    let Some(&key) = path.last() else { return Ok(()) };
    match value {
        Value::Null => {
            fields.remove(key);
        }
        Value::Object(inner) => {
            let is_new = !fields.contains_key(key);
            let there = fields.entry(key).or_insert_with(|| Value::Object(Map::new()));
            merge_map(kind, path, there, inner)?;
            if is_new && inner.get("$patch").is_some_and(|it| it == "delete") {
                fields.remove(key);
            }
        }
        Value::Array(items) => match of(kind, path) {
            Lists::Replaced => {
                fields.insert(key.to_owned(), value.clone());
            }
            lists => {
                let there = fields.entry(key).or_insert_with(|| Value::Array(Vec::new()));
                if let Some(list) = there.as_array_mut() {
                    merge_list(kind, path, lists, list, items)?;
                }
            }
        },
        plain => {
            fields.insert(key.to_owned(), plain.clone());
        }
    }
    Ok(())
}

fn merge_list<'p>(
    kind: &Kind,
    path: &mut Vec<&'p str>,
    lists: Lists,
    list: &mut Vec<Value>,
    items: &'p [Value],
) -> Result<(), Refusal> {
    let Lists::By(key) = lists else {
        list.extend(items.iter().filter(|it| !list.contains(it)).cloned().collect::<Vec<_>>());
        return Ok(());
    };
    if items.iter().any(|it| it["$patch"] == "replace") {
        list.clear();
    }
    for item in items {
        let Some(fields) = item.as_object() else {
            return Err(Refusal::bad_request(format!("{}: not an object", path.join("."))));
        };
        let found = list.iter().position(|it| !item[key].is_null() && it[key] == item[key]);
        match (item["$patch"].as_str(), found) {
            (Some("replace"), _) if item[key].is_null() => {}
            (Some("delete"), found) => {
                if let Some(at) = found {
                    list.remove(at);
                }
            }
            (_, None) if item[key].is_null() => {
                let message = format!("map: {item} does not contain declared merge key: {key}");
                return Err(Refusal::bad_request(message));
            }
            (_, Some(at)) => merge_map(kind, path, &mut list[at], fields)?,
            (_, None) => {
                let mut new = Value::Null;
                merge_map(kind, path, &mut new, fields)?;
                list.push(new);
            }
        }
    }
    Ok(())
}

/// Puts the elements that an order names into it; the others stay behind the one that they were behind.
fn reorder(lists: Lists, list: &mut Vec<Value>, order: &[Value]) {
    let name = |item: &Value| match lists {
        Lists::By(key) => item[key].clone(),
        _ => item.clone(),
    };
    let place =
        |item: &Value| order.iter().position(|it| if it.is_object() { name(it) } else { it.clone() } == name(item));
    let mut last = 0;
    let mut placed: Vec<(usize, Value)> = Vec::new();
    for item in list.drain(..) {
        if let Some(at) = place(&item) {
            last = at + 1;
            placed.push((at * 2 + 1, item));
        } else {
            placed.push((last * 2, item));
        }
    }
    placed.sort_by_key(|(at, _)| *at);
    list.extend(placed.into_iter().map(|(_, item)| item));
}

fn cloned((key, value): (&String, &Value)) -> (String, Value) {
    (key.clone(), value.clone())
}
