//! What of a pod of the API server's this node has to know to run it: pure.

use k8s_openapi::api::core::v1::{Pod, PodStatus};

use crate::engine::plan::spec_of;
use crate::node::desired::FILE;

/// The annotation of a mirror, which shows one of this node's own pods at the API server: the hash of that pod.
pub const MIRROR: &str = "kubernetes.io/config.mirror";

/// Whether a pod only shows one of a node's own.
pub fn is_mirror(pod: &Pod) -> bool {
    pod.metadata.annotations.as_ref().is_some_and(|it| it.contains_key(MIRROR))
}

/// Whether a pod is over, and never runs again.
pub fn is_terminal(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

/// A pod without what only the server has to do with: of its status there is what its readiness depends on, which others
/// write, and all of it once the pod is over. So what this node itself reports of a pod that runs changes nothing.
pub fn wanted(pod: &Pod) -> Pod {
    let mut wanted = Pod { metadata: pod.metadata.clone(), spec: pod.spec.clone(), status: None };
    wanted.metadata.resource_version = None;
    // What this node says of its own pods, nobody else shall say of theirs.
    if let Some(annotations) = &mut wanted.metadata.annotations {
        annotations.remove(FILE);
    }
    if is_terminal(pod) {
        wanted.status.clone_from(&pod.status);
        return wanted;
    }
    let gates: Vec<&str> =
        spec_of(pod).readiness_gates.iter().flatten().map(|gate| gate.condition_type.as_str()).collect();
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref()).into_iter().flatten();
    let conditions: Vec<_> = conditions.filter(|it| gates.contains(&it.type_.as_str())).cloned().collect();
    if !conditions.is_empty() {
        wanted.status = Some(PodStatus { conditions: Some(conditions), ..PodStatus::default() });
    }
    wanted
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::{Value, json};

    use super::*;

    fn pod(value: Value) -> Pod {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn of_a_status_what_others_write_is_kept_and_all_of_one_that_is_over() {
        let conditions = json!([{"type": "example.com/a", "status": "True"}, {"type": "example.com/b", "status": "True"},
            {"type": "Ready", "status": "False"}]);
        let gates = json!([{"conditionType": "example.com/a"}]);
        let a = json!({"conditions": [{"type": "example.com/a", "status": "True"}]});
        let status = |phase: &str| json!({"phase": phase, "conditions": conditions, "podIP": "10.0.0.1"});
        let rows = [
            (json!(null), json!(null), json!(null)),
            (json!([]), status("Running"), json!(null)),
            (gates.clone(), status("Running"), a.clone()),
            (gates.clone(), status("Pending"), a),
            (gates.clone(), json!({"phase": "Running"}), json!(null)),
            (json!([]), status("Succeeded"), status("Succeeded")),
            (gates, status("Failed"), status("Failed")),
        ];
        for (gates, status, expected) in rows {
            let there = pod(json!({"spec": {"containers": [], "readinessGates": gates}, "status": status}));
            let kept = wanted(&there).status.map_or(Value::Null, |status| serde_json::to_value(status).unwrap());
            assert_eq!(kept, expected, "{gates} {status}");
        }
    }

    #[test]
    fn what_the_server_counts_is_no_change_and_nobody_else_says_where_a_pod_is_from() {
        let metadata = |version: &str| {
            let annotations = json!({"coracle.dev/file": "/m/web.yaml", "kept": "yes"});
            json!({"name": "web", "uid": "u", "resourceVersion": version, "annotations": annotations})
        };
        let of = |version: &str| wanted(&pod(json!({"metadata": metadata(version), "spec": {"containers": []}})));
        assert_eq!(of("1"), of("2"));
        let annotations = of("1").metadata.annotations.unwrap();
        assert_eq!(annotations.keys().collect::<Vec<_>>(), ["kept"]);
    }

    #[test]
    fn a_mirror_is_told_by_its_annotation_and_an_end_by_its_phase() {
        let mirror = pod(json!({"metadata": {"annotations": {MIRROR: "hash"}}}));
        assert!(is_mirror(&mirror) && !is_mirror(&Pod::default()));
        for (phase, over) in [("Pending", false), ("Running", false), ("Succeeded", true), ("Failed", true)] {
            assert_eq!(is_terminal(&pod(json!({"status": {"phase": phase}}))), over, "{phase}");
        }
        assert!(!is_terminal(&Pod::default()));
    }
}
