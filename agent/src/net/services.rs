//! Services: the pods that they lead to, their names, and what pods are told of them.

pub mod addresses;
pub mod ledger;
mod members;
mod names;
pub mod shown;
#[cfg(test)]
mod tests;
mod variables;

pub use variables::{cluster_ip, of_cluster as variables_of_cluster};

use std::collections::BTreeMap;

use cri_proto::node;
use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};

use self::members::Member;
pub use self::members::named_port;
use super::{Inputs, pod_ref};
use crate::node::desired::Name;

/// The address of a Service that has none.
const HEADLESS: &str = "None";

/// What Services come to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Services {
    /// Each Service with its ports and the pods that are ready; a headless one has no address.
    pub services: Vec<node::Service>,
    /// Their names.
    pub names: Vec<node::Name>,
}

impl Services {
    /// One of them.
    pub fn find(&self, name: &Name) -> Option<&node::Service> {
        self.services.iter().find(|it| (&it.namespace, &it.name) == (&name.0, &name.1))
    }
}

/// What the runtime is asked for.
pub fn wanted(inputs: &Inputs) -> Services {
    let mut services = Services::default();
    for (name, service) in &inputs.declared.services {
        let Some(spec) = &service.spec else { continue };
        let members = members::of(inputs, name, spec);
        let addresses = inputs.service_addresses.get(name).cloned().unwrap_or_default();
        services.names.extend(names::of(name, spec, &members, &addresses));
        services.services.push(node::Service {
            namespace: name.0.clone(),
            name: name.1.clone(),
            addresses,
            ports: ports(spec, &members),
            affinity_seconds: affinity(spec),
        });
    }
    services
}

/// The Services of a cluster.
pub type OfCluster = BTreeMap<Name, Service>;

/// The variables that tell a pod of the Services of its namespace, as kubelet makes them.
pub fn variables(inputs: &Inputs, pod: &Name) -> Vec<(String, String)> {
    variables::of_pod(inputs, pod)
}

/// Whether a Service is one without an address.
pub fn is_headless(spec: &ServiceSpec) -> bool {
    spec.cluster_ip.as_deref() == Some(HEADLESS)
}

/// Whom a client is sent to: those that are ready; if nobody is, those that still serve while they end.
fn taking<'a>(members: &'a [Member<'a>]) -> Vec<&'a Member<'a>> {
    let ready: Vec<_> = members.iter().filter(|member| member.ready).collect();
    if !ready.is_empty() {
        return ready;
    }
    members.iter().filter(|member| member.serving && member.terminating).collect()
}

fn ports(spec: &ServiceSpec, members: &[Member<'_>]) -> Vec<node::ServicePort> {
    let taking = taking(members);
    let port = |port: &ServicePort| {
        let endpoints = taking.iter().filter_map(|member| {
            let number = member.target(port)?;
            Some(node::ServiceEndpoint { pod: Some(pod_ref(&member.name)), port: u32::from(number) })
        });
        node::ServicePort {
            protocol: protocol(port.protocol.as_deref()) as i32,
            port: u32::try_from(port.port).unwrap_or_default(),
            endpoints: endpoints.collect(),
        }
    };
    spec.ports.iter().flatten().map(port).collect()
}

/// A protocol by Kubernetes' name for it; TCP where nothing is said.
pub(super) fn protocol(name: Option<&str>) -> node::Protocol {
    match name {
        Some("UDP") => node::Protocol::Udp,
        Some("SCTP") => node::Protocol::Sctp,
        _ => node::Protocol::Tcp,
    }
}

fn affinity(spec: &ServiceSpec) -> u32 {
    let config = spec.session_affinity_config.as_ref().and_then(|config| config.client_ip.as_ref());
    match spec.session_affinity.as_deref() {
        Some("ClientIP") => config.and_then(|it| it.timeout_seconds).and_then(|it| u32::try_from(it).ok()).unwrap_or(0),
        _ => 0,
    }
}

/// Services of one namespace by name, with their addresses.
type Addressed<'a> = BTreeMap<&'a str, (&'a Service, &'a str)>;

/// The Services of a namespace that have an address, with it.
fn addressed<'a>(inputs: &'a Inputs, namespace: &str) -> Addressed<'a> {
    let services = inputs.declared.services.iter().filter(|((its, _), _)| its == namespace);
    let addressed = services.filter_map(|(name, service)| {
        let address = inputs.service_addresses.get(name)?.first()?;
        Some((name.1.as_str(), (service, address.as_str())))
    });
    addressed.collect()
}
