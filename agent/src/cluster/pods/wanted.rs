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
