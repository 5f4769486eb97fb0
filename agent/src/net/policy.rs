//! NetworkPolicies, as what they come to for each pod: who may reach it, and whom it may reach.
//!
//! A policy chooses among the pods of its own owner, and may name those of others.
//!
//! A pod that no policy chooses for a direction is open in it. One that some do is open to what any of them allows. Pods in
//! the host's network are outside of all this: what they send and get is the node's.

mod peers;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use cri_proto::node::{PodPolicy, PolicyPeer, PolicyRule, PortRange};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::networking::v1::{NetworkPolicy, NetworkPolicyPort, NetworkPolicySpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::services::{named_port, protocol};
use super::{Inputs, pod_ref, selector};
use crate::engine::plan::spec_of;
use crate::node::desired::Name;

/// Every port of a protocol.
const ALL: (u32, u32) = (1, 65535);

/// The pods that policies are about: those with a network of their own.
type Pods<'a> = BTreeMap<&'a Name, &'a Arc<Pod>>;

/// What the runtime is asked for: one for each pod that a policy chooses.
pub fn wanted(inputs: &Inputs) -> Vec<PodPolicy> {
    let pods: Pods<'_> =
        inputs.seen.iter().chain(&inputs.pods).filter(|(_, pod)| spec_of(pod).host_network != Some(true)).collect();
    let mut wanted: BTreeMap<&Name, PodPolicy> = BTreeMap::new();
    for ((namespace, _), policy) in &inputs.declared.policies {
        let own = pods.iter().filter(|(name, _)| inputs.pods.contains_key(**name));
        let chosen = own.filter(|(name, pod)| name.0 == *namespace && chooses(policy, pod));
        let chosen: Vec<(&Name, &Arc<Pod>)> = chosen.map(|(name, pod)| (*name, *pod)).collect();
        if chosen.is_empty() {
            continue;
        }
        let rules = Rules::of(policy, namespace, &pods);
        for (name, pod) in chosen {
            let whole =
                wanted.entry(name).or_insert_with(|| PodPolicy { pod: Some(pod_ref(name)), ..PodPolicy::default() });
            rules.add_to(whole, pod);
        }
    }
    wanted.into_values().collect()
}

/// Whether a policy chooses a pod of this owner: without a runtime that keeps policies it must not begin.
pub fn concerns(inputs: &Inputs, name: &Name) -> bool {
    let pod = inputs.pods.get(name).filter(|pod| spec_of(pod).host_network != Some(true));
    let policies = || inputs.declared.policies.iter().filter(|((namespace, _), _)| *namespace == name.0);
    pod.is_some_and(|pod| policies().any(|(_, policy)| chooses(policy, pod)))
}

fn chooses(policy: &NetworkPolicy, pod: &Pod) -> bool {
    let pods = policy.spec.as_ref().and_then(|spec| spec.pod_selector.as_ref());
    pods.is_none_or(|pods| selector::matches(pods, pod.metadata.labels.as_ref()))
}

/// What a policy says, the same for every pod that it chooses but for ports by name.
struct Rules<'a> {
    /// Rules for what comes in, if the policy is about that.
    ingress: Option<Vec<(Vec<PolicyPeer>, &'a [NetworkPolicyPort])>>,
    /// The same for what goes out.
    egress: Option<Vec<PolicyRule>>,
}

impl<'a> Rules<'a> {
    fn of(policy: &'a NetworkPolicy, namespace: &str, pods: &Pods<'_>) -> Self {
        let none = NetworkPolicySpec::default();
        let spec = policy.spec.as_ref();
        let types = spec.and_then(|spec| spec.policy_types.as_deref()).unwrap_or_default();
        let is_about = |name: &str| types.iter().any(|it| it == name);
        let ingress = spec.into_iter().flat_map(|spec| spec.ingress.iter().flatten()).filter_map(|rule| {
            let peers = peers::of(rule.from.as_deref(), namespace, pods)?;
            Some((peers, rule.ports.as_deref().unwrap_or_default()))
        });
        let egress = spec.unwrap_or(&none).egress.iter().flatten().flat_map(|rule| {
            let peers = peers::of(rule.to.as_deref(), namespace, pods);
            peers.map(|peers| outwards(&peers, rule.ports.as_deref().unwrap_or_default(), pods)).unwrap_or_default()
        });
        Rules {
            // One that says no types is about what comes in; the reader of manifests has filled that in.
            ingress: (is_about("Ingress") || types.is_empty()).then(|| ingress.collect()),
            egress: is_about("Egress").then(|| egress.collect()),
        }
    }

    fn add_to(&self, whole: &mut PodPolicy, pod: &Pod) {
        if let Some(rules) = &self.ingress {
            whole.isolate_ingress = true;
            whole.ingress.extend(rules.iter().filter_map(|(peers, ports)| inwards(peers, ports, pod)));
        }
        if let Some(rules) = &self.egress {
            whole.isolate_egress = true;
            whole.egress.extend(rules.iter().cloned());
        }
    }
}

/// What may come in: the names of ports are those of the pod itself.
fn inwards(peers: &[PolicyPeer], ports: &[NetworkPolicyPort], pod: &Pod) -> Option<PolicyRule> {
    let ranges: Vec<PortRange> = ports.iter().filter_map(|port| range(port, pod)).collect();
    // Ports of which there is none are not every port.
    let something = ports.is_empty() || !ranges.is_empty();
    something.then(|| PolicyRule { peers: peers.to_vec(), ports: ranges })
}

/// What may go out: the names of ports are those of each pod that it goes to.
fn outwards(peers: &[PolicyPeer], ports: &[NetworkPolicyPort], pods: &Pods<'_>) -> Vec<PolicyRule> {
    let (named, numbered): (Vec<_>, Vec<_>) =
        ports.iter().cloned().partition(|port| matches!(port.port, Some(IntOrString::String(_))));
    let mut rules = Vec::new();
    if ports.is_empty() || !numbered.is_empty() {
        let ranges = numbered.iter().filter_map(|port| range(port, &Pod::default()));
        rules.push(PolicyRule { peers: peers.to_vec(), ports: ranges.collect() });
    }
    if named.is_empty() {
        return rules;
    }
    for (name, pod) in pods {
        let peer = peers::pod(name);
        let ranges: Vec<PortRange> = named.iter().filter_map(|port| range(port, pod)).collect();
        if !ranges.is_empty() && (peers.is_empty() || peers.contains(&peer)) {
            rules.push(PolicyRule { peers: vec![peer], ports: ranges });
        }
    }
    rules
}

/// The ports that one item means at a pod; none where it is a name that the pod does not have.
fn range(port: &NetworkPolicyPort, pod: &Pod) -> Option<PortRange> {
    let number = |number: i32| u32::try_from(number).ok();
    let (first, last) = match &port.port {
        None => ALL,
        Some(IntOrString::Int(first)) => (number(*first)?, number(port.end_port.unwrap_or(*first))?),
        Some(IntOrString::String(name)) => {
            let number = u32::from(named_port(pod, name, port.protocol.as_deref())?);
            (number, number)
        }
    };
    Some(PortRange { protocol: protocol(port.protocol.as_deref()) as i32, first, last })
}
