//! Pods that this node does not take: pure.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{HostIP, Pod, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::engine::config::Node;
use crate::engine::config::resources::Qos;
use crate::engine::plan::spec_of;

/// Why the node does not take a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// kubelet's word: `OutOfcpu`, `NodeAffinity` …
    pub reason: String,
    /// The whole story.
    pub message: String,
}

/// The status of a pod that is refused.
pub fn refused(pod: &Pod, refusal: &Refusal, node: &Node) -> PodStatus {
    let hosts = &node.ips;
    PodStatus {
        phase: Some("Failed".into()),
        reason: Some(refusal.reason.clone()),
        message: Some(format!("Pod was rejected: {}", refusal.message)),
        qos_class: Some(Qos::of(spec_of(pod)).as_str().to_owned()),
        start_time: Timestamp::from_second(Timestamp::now().as_second()).ok().map(Time),
        host_ip: hosts.first().cloned(),
        host_ips: (!hosts.is_empty()).then(|| hosts.iter().map(|ip| HostIP { ip: ip.clone() }).collect()),
        observed_generation: pod.metadata.generation,
        ..PodStatus::default()
    }
}
