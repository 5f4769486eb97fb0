//! The pods that a Service chooses, and how they are.

use k8s_openapi::api::core::v1::{Container, Pod, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::engine::plan::{init_of, spec_of};
use crate::net::{Inputs, selector};
use crate::node::desired::Name;

/// A pod that a Service chooses, and that has an address.
#[derive(Clone, Debug)]
pub struct Member<'a> {
    /// Its name.
    pub name: Name,
    /// Its definition.
    pub pod: &'a Pod,
    /// Its addresses, IPv4 first.
    pub addresses: Vec<String>,
    /// Whether it takes new clients.
    pub ready: bool,
    /// Whether it would, if it were not about to end.
    pub serving: bool,
    /// Whether it is about to end.
    pub terminating: bool,
}

/// The pods that a Service chooses, of its own owner's. Those in the host's network are none: their ports are the host's
/// own.
pub fn of<'a>(inputs: &'a Inputs, service: &Name, spec: &ServiceSpec) -> Vec<Member<'a>> {
    let mut members = Vec::new();
    for (name, pod) in inputs.pods.iter().filter(|(name, _)| name.0 == service.0) {
        let Some(seen) = inputs.seen.get(name) else { continue };
        let phase = seen.status.as_ref().and_then(|status| status.phase.as_deref());
        let over = matches!(phase, Some("Succeeded" | "Failed"));
        let addresses = inputs.addresses(name);
        let chosen = selector::chooses(spec.selector.as_ref(), pod.metadata.labels.as_ref());
        if !chosen || over || addresses.is_empty() || spec_of(pod).host_network == Some(true) {
            continue;
        }
        let (serving, terminating) = (is_ready(seen), seen.metadata.deletion_timestamp.is_some());
        let whatever = spec.publish_not_ready_addresses == Some(true);
        let ready = whatever || serving && !terminating;
        members.push(Member { name: name.clone(), pod, addresses, ready, serving, terminating });
    }
    members
}

/// Whether it answers, also while it is about to end: who waits for a pod looks at that in another way.
fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions.into_iter().flatten().any(|it| it.type_ == "Ready" && it.status == "True")
}

impl Member<'_> {
    /// The port of this pod that a port of the Service leads to: none where it is a name that the pod does not have.
    pub fn target(&self, port: &ServicePort) -> Option<u16> {
        match &port.target_port {
            None | Some(IntOrString::Int(0)) => u16::try_from(port.port).ok(),
            Some(IntOrString::Int(number)) => u16::try_from(*number).ok(),
            Some(IntOrString::String(name)) => named_port(self.pod, name, port.protocol.as_deref()),
        }
    }
}

/// A port of a pod's containers by its name and protocol: of those that run as long as the pod does.
pub fn named_port(pod: &Pod, name: &str, protocol: Option<&str>) -> Option<u16> {
    let spec = spec_of(pod);
    let sidecars = init_of(spec).iter().filter(|container| container.restart_policy.as_deref() == Some("Always"));
    let ports =
        spec.containers.iter().chain(sidecars).flat_map(|container: &Container| container.ports.iter().flatten());
    let or_tcp = |protocol: Option<&str>| protocol.unwrap_or("TCP").to_owned();
    let mut named =
        ports.filter(|it| it.name.as_deref() == Some(name) && or_tcp(it.protocol.as_deref()) == or_tcp(protocol));
    named.next().and_then(|port| u16::try_from(port.container_port).ok())
}
