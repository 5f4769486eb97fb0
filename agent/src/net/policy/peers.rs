//! Whom a rule is about.

use cri_proto::node::policy_peer::Peer;
use cri_proto::node::{IpBlock, PolicyPeer};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::networking::v1::{IPBlock, NetworkPolicyPeer};

use super::Pods;
use crate::net::{pod_ref, selector};
use crate::node::desired::Name;

/// The peers of a rule: none at all is everybody, so a rule whose peers are nobody is no rule.
pub fn of(peers: Option<&[NetworkPolicyPeer]>, namespace: &str, pods: &Pods<'_>) -> Option<Vec<PolicyPeer>> {
    let Some(peers) = peers.filter(|peers| !peers.is_empty()) else { return Some(Vec::new()) };
    let mut found = Vec::new();
    for peer in peers {
        match &peer.ip_block {
            Some(range) => found.push(block(range)),
            None => {
                let chosen = pods.iter().filter(|(name, it)| chooses(peer, namespace, name, it));
                found.extend(chosen.map(|(name, _)| pod(name)));
            }
        }
    }
    // Two items may choose one pod.
    let mut unique: Vec<PolicyPeer> = Vec::with_capacity(found.len());
    let mut seen = std::collections::BTreeSet::new();
    for peer in found {
        let key = match &peer.peer {
            Some(Peer::Pod(pod)) => Some((pod.namespace.clone(), pod.name.clone())),
            _ => None,
        };
        if key.is_none_or(|key| seen.insert(key)) {
            unique.push(peer);
        }
    }
    (!unique.is_empty()).then_some(unique)
}

/// Whether an item chooses a pod: in the policy's namespace, or in those that it names.
fn chooses(peer: &NetworkPolicyPeer, namespace: &str, name: &Name, pod: &Pod) -> bool {
    let there = match &peer.namespace_selector {
        Some(namespaces) => selector::matches_namespace(namespaces, &name.0),
        None => peer.pod_selector.is_some() && name.0 == namespace,
    };
    let labels = pod.metadata.labels.as_ref();
    there && peer.pod_selector.as_ref().is_none_or(|pods| selector::matches(pods, labels))
}

/// One pod.
pub fn pod(name: &Name) -> PolicyPeer {
    PolicyPeer { peer: Some(Peer::Pod(pod_ref(name))) }
}

fn block(IPBlock { cidr, except }: &IPBlock) -> PolicyPeer {
    let except = except.clone().unwrap_or_default();
    PolicyPeer { peer: Some(Peer::Block(IpBlock { cidr: cidr.clone(), except })) }
}
