#![allow(clippy::unwrap_used)]
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use serde_json::{Value, json};

use super::{last, merged};

fn pod(status: Value) -> Pod {
    let spec = json!({"containers": [{"name": "b"}, {"name": "a"}]});
    serde_json::from_value(json!({"metadata": {"name": "p", "uid": "u"}, "spec": spec, "status": status})).unwrap()
}

fn status(value: Value) -> PodStatus {
    serde_json::from_value(value).unwrap()
}

fn shown(status: &PodStatus) -> Value {
    serde_json::to_value(status).unwrap()
}

fn container(name: &str, state: Value) -> Value {
    json!({"name": name, "image": "i", "imageID": "", "ready": false, "restartCount": 0, "state": state})
}

#[test]
fn conditions_of_others_stay_and_own_ones_are_replaced() {
    let there = pod(json!({"conditions": [
        {"type": "example.com/gate", "status": "True"},
        {"type": "PodScheduled", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"},
        {"type": "Ready", "status": "False", "lastTransitionTime": "2026-01-01T00:00:01Z"},
    ]}));
    let local = status(json!({"conditions": [
        {"type": "PodScheduled", "status": "True", "lastTransitionTime": "2026-01-01T00:00:09.5Z"},
        {"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:09.5Z"},
    ]}));
    let conditions = shown(&merged(&there, &local))["conditions"].clone();
    assert_eq!(
        conditions,
        json!([
            {"type": "example.com/gate", "status": "True"},
            {"type": "PodScheduled", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"},
            {"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:09Z"},
        ])
    );
}

#[test]
fn a_phase_ends_when_everything_has_ended_and_never_goes_back() {
    let running = container("a", json!({"running": {"startedAt": "2026-01-01T00:00:00Z"}}));
    let ended = container("a", json!({"terminated": {"exitCode": 1}}));
    let rows = [
        ("Running", "Failed", &ended, "Failed"),
        ("Running", "Failed", &running, "Running"),
        ("Running", "Succeeded", &ended, "Succeeded"),
        ("Pending", "Running", &running, "Running"),
        ("Failed", "Running", &running, "Failed"),
        ("Succeeded", "Failed", &ended, "Succeeded"),
    ];
    for (there, here, container, expected) in rows {
        let pod = pod(json!({"phase": there}));
        let ready = json!([{"type": "Ready", "status": "True"}]);
        let local = status(json!({"phase": here, "containerStatuses": [container], "conditions": ready}));
        let merged = shown(&merged(&pod, &local));
        assert_eq!(merged["phase"], expected, "{there} -> {here}");
        let over = matches!(expected, "Failed" | "Succeeded");
        assert_eq!(merged["conditions"][0]["status"], if over { "False" } else { "True" }, "{there} -> {here}");
    }
}

#[test]
fn a_disruption_is_told_when_the_pod_has_ended() {
    let evicted = json!([{"type": "DisruptionTarget", "status": "True", "reason": "TerminationByKubelet"}]);
    let rows = [(json!({"running": {}}), 0), (json!({"terminated": {"exitCode": 137}}), 1)];
    for (state, count) in rows {
        let local =
            json!({"phase": "Failed", "conditions": evicted, "containerStatuses": [container("a", state.clone())]});
        let merged = merged(&pod(json!({"phase": "Running"})), &status(local));
        assert_eq!(merged.conditions.unwrap_or_default().len(), count, "{state}");
    }
}

#[test]
fn times_are_whole_containers_in_order_and_what_the_server_began_stays() {
    let there = pod(json!({"startTime": "2026-01-01T00:00:00Z", "observedGeneration": 3}));
    let local = status(json!({
        "startTime": "2026-01-01T00:00:07.25Z",
        "observedGeneration": 2,
        "containerStatuses": [
            container("b", json!({"running": {"startedAt": "2026-01-01T00:00:07.25Z"}})),
            container("a", json!({"terminated": {"exitCode": 1, "message": "x".repeat(20_000)}})),
        ],
    }));
    let merged = shown(&merged(&there, &local));
    assert_eq!(merged["startTime"], "2026-01-01T00:00:00Z");
    assert_eq!(merged["observedGeneration"], 3);
    let containers = &merged["containerStatuses"];
    assert_eq!((&containers[0]["name"], &containers[1]["name"]), (&json!("a"), &json!("b")));
    assert_eq!(containers[0]["state"]["terminated"]["message"].as_str().unwrap().len(), 6 * 1024);
    assert_eq!(containers[1]["state"]["running"]["startedAt"], "2026-01-01T00:00:07Z");
    assert_eq!(containers[1]["lastState"], json!({}));
}

#[test]
fn what_was_not_seen_to_end_has_failed_when_a_pod_is_gone() {
    let waiting = json!({"waiting": {"reason": "ContainerCreating"}});
    let rows = [
        (
            None,
            json!({"phase": "Running", "containerStatuses": [container("a", json!({"running": {}}))]}),
            "Failed",
            137,
        ),
        (None, json!({"phase": "Pending", "containerStatuses": [container("a", waiting)]}), "Failed", 137),
        (
            Some(
                json!({"phase": "Succeeded", "containerStatuses": [container("a", json!({"terminated": {"exitCode": 0}}))]}),
            ),
            json!({"phase": "Running"}),
            "Succeeded",
            0,
        ),
    ];
    for (local, there, phase, code) in rows {
        let local = local.map(status);
        let last = shown(&last(&pod(there), local.as_ref()));
        assert_eq!(last["phase"], phase);
        assert_eq!(last["containerStatuses"][0]["state"]["terminated"]["exitCode"], code);
    }
}
