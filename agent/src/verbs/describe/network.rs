//! Services with the endpoints behind them, and NetworkPolicies in words.

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::{NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::{Text, pairs};
use crate::api::selector_text;

const NONE: &str = "<none>";

/// A Service and what is behind it.
pub fn service(service: &Service, slices: &[EndpointSlice]) -> String {
    let mut text = Text::default();
    let (meta, spec) = (&service.metadata, service.spec.clone().unwrap_or_default());
    text.some(0, "Name", meta.name.as_ref());
    text.some(0, "Namespace", meta.namespace.as_ref());
    text.line(0, "Labels", pairs(meta.labels.as_ref()));
    text.line(0, "Annotations", pairs(meta.annotations.as_ref()));
    text.line(0, "Selector", pairs(spec.selector.as_ref()));
    text.some(0, "Type", spec.type_.as_ref());
    let addresses = spec.cluster_ips.unwrap_or_default();
    text.line(0, "IPs", if addresses.is_empty() { NONE.to_owned() } else { addresses.join(", ") });
    for port in spec.ports.iter().flatten() {
        let protocol = port.protocol.as_deref().unwrap_or("TCP");
        let name = port.name.as_deref().map(|name| format!("{name} ")).unwrap_or_default();
        text.line(0, "Port", format!("{name}{}/{protocol}", port.port));
        text.some(0, "TargetPort", port.target_port.as_ref().map(|target| format!("{}/{protocol}", number(target))));
        text.line(0, "Endpoints", endpoints(slices, port.name.as_deref().unwrap_or_default()));
    }
    text.some(0, "Session Affinity", spec.session_affinity);
    for condition in service.status.iter().flat_map(|status| status.conditions.iter().flatten()) {
        text.line(0, "Condition", format!("{} {}: {}", condition.type_, condition.status, condition.message));
    }
    text.0
}

/// The addresses behind a port: those that are ready, then how many are not.
fn endpoints(slices: &[EndpointSlice], port: &str) -> String {
    let (mut ready, mut waiting) = (Vec::new(), 0);
    for slice in slices {
        let number = slice.ports.iter().flatten().find(|it| it.name.as_deref().unwrap_or_default() == port);
        let Some(number) = number.and_then(|it| it.port) else { continue };
        for endpoint in slice.endpoints.iter().flatten() {
            let address = endpoint.addresses.first().map(String::as_str).unwrap_or_default();
            match endpoint.conditions.as_ref().and_then(|it| it.ready) {
                Some(true) if address.contains(':') => ready.push(format!("[{address}]:{number}")),
                Some(true) => ready.push(format!("{address}:{number}")),
                _ => waiting += 1,
            }
        }
    }
    let unready = if waiting > 0 { format!(" ({waiting} not ready)") } else { String::new() };
    if ready.is_empty() { format!("{NONE}{unready}") } else { format!("{}{unready}", ready.join(", ")) }
}

fn number(port: &IntOrString) -> String {
    match port {
        IntOrString::Int(number) => number.to_string(),
        IntOrString::String(name) => name.clone(),
    }
}

/// A policy.
pub fn policy(policy: &NetworkPolicy) -> String {
    let mut text = Text::default();
    let (meta, spec) = (&policy.metadata, policy.spec.clone().unwrap_or_default());
    text.some(0, "Name", meta.name.as_ref());
    text.some(0, "Namespace", meta.namespace.as_ref());
    text.line(0, "Labels", pairs(meta.labels.as_ref()));
    let pods = spec.pod_selector.as_ref().map(selector_text).filter(|it| it != NONE);
    text.line(0, "Pods", pods.unwrap_or_else(|| "all of the namespace".to_owned()));
    let types = spec.policy_types.unwrap_or_default();
    text.line(0, "Policy Types", types.join(", "));
    if types.iter().any(|it| it == "Ingress") {
        text.line(0, "Comes in", if spec.ingress.iter().flatten().next().is_none() { "nothing" } else { "" });
        for rule in spec.ingress.iter().flatten() {
            text.line(1, "From", peers(rule.from.as_deref()));
            text.line(1, "To Port", ports(rule.ports.as_deref()));
        }
    }
    if types.iter().any(|it| it == "Egress") {
        text.line(0, "Goes out", if spec.egress.iter().flatten().next().is_none() { "nothing" } else { "" });
        for rule in spec.egress.iter().flatten() {
            text.line(1, "To", peers(rule.to.as_deref()));
            text.line(1, "To Port", ports(rule.ports.as_deref()));
        }
    }
    text.0
}

fn peers(peers: Option<&[NetworkPolicyPeer]>) -> String {
    let Some(peers) = peers.filter(|peers| !peers.is_empty()) else { return "everybody".to_owned() };
    let words = |peer: &NetworkPolicyPeer| {
        if let Some(block) = &peer.ip_block {
            let except = block.except.clone().unwrap_or_default();
            let but = if except.is_empty() { String::new() } else { format!(" but {}", except.join(", ")) };
            return format!("{}{but}", block.cidr);
        }
        let chosen =
            |what: &str, text: String| if text == NONE { format!("all {what}") } else { format!("{what} {text}") };
        let pods = peer.pod_selector.as_ref().map(|it| chosen("pods", selector_text(it)));
        let namespaces = peer.namespace_selector.as_ref().map(|it| chosen("namespaces", selector_text(it)));
        let pods = pods.unwrap_or_else(|| "all pods".to_owned());
        namespaces.map_or(pods.clone(), |namespaces| format!("{pods} of {namespaces}"))
    };
    peers.iter().map(words).collect::<Vec<_>>().join("; ")
}

fn ports(ports: Option<&[NetworkPolicyPort]>) -> String {
    let Some(ports) = ports.filter(|ports| !ports.is_empty()) else { return "any".to_owned() };
    let words = |port: &NetworkPolicyPort| {
        let first = port.port.as_ref().map_or_else(|| "any".to_owned(), number);
        let last = port.end_port.map(|last| format!("-{last}")).unwrap_or_default();
        format!("{first}{last}/{}", port.protocol.as_deref().unwrap_or("TCP"))
    };
    ports.iter().map(words).collect::<Vec<_>>().join(", ")
}
