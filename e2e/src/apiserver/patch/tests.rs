use serde_json::{Value, json};

use super::apply;
use crate::apiserver::kinds::{self, Kind};

fn pod() -> &'static Kind {
    kinds::find("", "v1", "pods").expect("pods are served")
}

fn strategic(object: Value, patch: Value) -> Value {
    apply(pod(), "p", &object, "application/strategic-merge-patch+json", &patch).expect("a patch")
}

#[test]
fn conditions_are_merged_by_type_and_those_of_others_are_kept() {
    let object = json!({"status": {"conditions": [{"type": "Ready", "status": "False"}, {"type": "example.com/gate", "status": "True"}]}});
    let patch = json!({"status": {
        "$setElementOrder/conditions": [{"type": "Initialized"}, {"type": "Ready"}],
        "conditions": [{"type": "Initialized", "status": "True"}, {"type": "Ready", "status": "True"}],
    }});
    let conditions = json!([
        {"type": "Initialized", "status": "True"},
        {"type": "Ready", "status": "True"},
        {"type": "example.com/gate", "status": "True"},
    ]);
    assert_eq!(strategic(object, patch)["status"]["conditions"], conditions);
}

#[test]
fn statuses_of_containers_are_replaced_as_a_whole() {
    let object = json!({"status": {"containerStatuses": [{"name": "a", "ready": true}, {"name": "b"}]}});
    let patch = json!({"status": {"containerStatuses": [{"name": "a"}]}});
    assert_eq!(strategic(object, patch)["status"]["containerStatuses"], json!([{"name": "a"}]));
}

#[test]
fn a_null_removes_and_a_directive_deletes_an_element() {
    let object = json!({"metadata": {"labels": {"a": "1", "b": "2"}}, "status": {"podIPs": [{"ip": "10.0.0.1"}]}});
    let patch = json!({
        "metadata": {"labels": {"a": null}}, "status": {"podIPs": [{"$patch": "delete", "ip": "10.0.0.1"}]},
    });
    let wanted = json!({"metadata": {"labels": {"b": "2"}}, "status": {"podIPs": []}});
    assert_eq!(strategic(object, patch), wanted);
}

#[test]
fn finalizers_are_a_set() {
    let object = json!({"metadata": {"finalizers": ["a", "b"]}});
    let patch = json!({"metadata": {"finalizers": ["b", "c"], "$deleteFromPrimitiveList/finalizers": ["a"]}});
    assert_eq!(strategic(object, patch)["metadata"]["finalizers"], json!(["b", "c"]));
}

#[test]
fn an_element_without_its_key_is_refused() {
    let media = "application/strategic-merge-patch+json";
    let patch = json!({"status": {"conditions": [{"status": "True"}]}});
    assert_eq!(apply(pod(), "p", &json!({}), media, &patch).map_err(|it| it.code), Err(400));
}
