//! A pod's status, from what is observed and planned: pure, and equal as long as nothing changes.

mod conditions;
mod container;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{Container, ContainerStatus, HostIP, Pod, PodIP, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use manifests::as_container;

use super::config::Node;
use super::config::resources::Qos;
use super::plan::{Plan, init_of, spec_of};
use super::probe::ProbeResult;
use super::view::PodStatusView;

/// What a status is made from.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    /// The pod.
    pub pod: &'a Pod,
    /// What is observed.
    pub view: &'a PodStatusView,
    /// What is planned.
    pub plan: &'a Plan,
    /// Termination messages by container name and attempt.
    pub messages: &'a BTreeMap<(String, u32), String>,
    /// The status before, whose transition times are kept.
    pub before: Option<&'a PodStatus>,
    /// When the pod was accepted.
    pub started: Timestamp,
    /// Wall clock.
    pub now: Timestamp,
    /// The runtime's name, for container ids.
    pub runtime: &'a str,
    /// The node.
    pub node: &'a Node,
    /// What probes say about running instances, by id.
    pub health: &'a BTreeMap<String, ProbeResult>,
    /// Instances, by id, whose postStart hook has not come back yet: they do not count as running.
    pub hooks: &'a BTreeSet<String>,
    /// Instances, by id, whose postStart hook failed: they are being stopped, and never counted as running.
    pub unhooked: &'a BTreeSet<String>,
}

/// Makes the status.
pub fn of(input: &Input<'_>) -> PodStatus {
    let spec = spec_of(input.pod);
    let statuses = |containers: &[Container]| -> Vec<ContainerStatus> {
        containers.iter().map(|container| container::status(input, container)).collect()
    };
    let init = statuses(init_of(spec));
    let main = statuses(&spec.containers);
    let ephemeral: Vec<Container> = spec.ephemeral_containers.iter().flatten().map(as_container).collect();
    let ephemeral = statuses(&ephemeral);
    let (reason, message) = why(input);
    let ips = ips(input);
    let hosts = &input.node.ips;
    PodStatus {
        phase: Some(input.plan.phase.as_str().to_owned()),
        reason,
        message,
        conditions: Some(conditions::of(input, &init, &main)),
        container_statuses: Some(main),
        init_container_statuses: (!init.is_empty()).then_some(init),
        ephemeral_container_statuses: (!ephemeral.is_empty()).then_some(ephemeral),
        start_time: Some(Time(input.started)),
        pod_ip: ips.first().cloned(),
        pod_ips: (!ips.is_empty()).then(|| ips.into_iter().map(|ip| PodIP { ip }).collect()),
        host_ip: hosts.first().cloned(),
        host_ips: (!hosts.is_empty()).then(|| hosts.iter().map(|ip| HostIP { ip: ip.clone() }).collect()),
        observed_generation: input.pod.metadata.generation,
        qos_class: Some(Qos::of(spec).as_str().to_owned()),
        ..PodStatus::default()
    }
}

/// Why the pod as a whole failed, or does not begin.
fn why(input: &Input<'_>) -> (Option<String>, Option<String>) {
    let history = &input.view.history;
    match (&history.eviction, history.fatal()) {
        (Some(eviction), _) => (Some(eviction.reason.clone()), Some(eviction.message.clone())),
        (None, Some(failure)) => (Some(failure.reason.clone()), Some(failure.message.clone())),
        (None, None) => (None, None),
    }
}

/// A pod keeps its addresses in its status when its sandbox is gone, for whoever asks where it was.
fn ips(input: &Input<'_>) -> Vec<String> {
    let sandbox = input.view.sandbox().map(|sandbox| sandbox.ips.clone()).unwrap_or_default();
    let ips = input.node.ips_of(input.pod, &sandbox);
    if ips.is_empty() {
        let before = input.before.and_then(|before| before.pod_ips.as_ref());
        return before.into_iter().flatten().map(|ip| ip.ip.clone()).collect();
    }
    ips
}
