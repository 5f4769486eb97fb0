//! Services, the endpoints behind them, and policies.

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use serde_json::{Value, json};

use super::rows::{NONE, UNSET};
use super::{AGE, Column, NAME, column, wide};
use crate::net::ambassador::object::Ambassador;
use crate::net::networks::object::Network;
use crate::net::object::Link;

/// How many ports or endpoints of a slice are shown.
const SOME: usize = 3;

pub(super) const SERVICE: &[Column] = &[
    NAME,
    column("Type", "How it is reached."),
    column("Cluster-IP", "Its address."),
    column("External-IP", "Its address from outside."),
    column("Port(s)", "Its ports."),
    AGE,
    wide("Selector", "The labels of the pods that it leads to."),
];

pub(super) fn service(service: &Service, age: String) -> Vec<Value> {
    let spec = service.spec.clone().unwrap_or_default();
    let ports = spec.ports.iter().flatten();
    let ports: Vec<String> =
        ports.map(|it| format!("{}/{}", it.port, it.protocol.as_deref().unwrap_or("TCP"))).collect();
    let address = spec.cluster_ips.iter().flatten().next();
    vec![
        json!(service.metadata.name),
        json!(spec.type_),
        json!(address.map_or(NONE, String::as_str)),
        json!(NONE),
        json!(some(ports.join(","))),
        json!(age),
        json!(some(pairs(spec.selector.iter().flatten()).join(","))),
    ]
}

pub(super) const SLICE: &[Column] = &[
    NAME,
    column("AddressType", "The family of its addresses."),
    column("Ports", "The ports of each endpoint."),
    column("Endpoints", "Their addresses."),
    AGE,
];

pub(super) fn slice(slice: &EndpointSlice, age: String) -> Vec<Value> {
    let ports: Vec<String> =
        slice.ports.iter().flatten().map(|it| it.port.map_or_else(|| "*".to_owned(), |it| it.to_string())).collect();
    let endpoints = slice.endpoints.iter().flatten();
    let addresses: Vec<String> = endpoints.filter_map(|it| it.addresses.first().cloned()).collect();
    vec![json!(slice.metadata.name), json!(slice.address_type), json!(few(&ports)), json!(few(&addresses)), json!(age)]
}

pub(super) const POLICY: &[Column] = &[NAME, column("Pod-Selector", "The labels of the pods that it is about."), AGE];

pub(super) fn policy(policy: &NetworkPolicy, age: String) -> Vec<Value> {
    let pods = policy.spec.as_ref().and_then(|spec| spec.pod_selector.as_ref());
    vec![json!(policy.metadata.name), json!(pods.map_or_else(|| NONE.to_owned(), selector)), json!(age)]
}

pub(super) const LINK: &[Column] = &[
    NAME,
    column("Target", "What it leads to."),
    column("State", "Whether that is ready."),
    column("Connections", "New connections since it is in force."),
    AGE,
    wide("Ports", "The ports that it opens."),
    wide("Addresses", "Where its alias leads."),
    wide("Message", "What is the matter."),
];

pub(super) fn link(link: &Link, age: String) -> Vec<Value> {
    let status = &link.status;
    vec![
        json!(link.metadata.name),
        json!(link.spec.target),
        json!(status.state),
        json!(status.connections.map_or_else(|| UNSET.to_owned(), |count| count.to_string())),
        json!(age),
        json!(some(status.ports.join(","))),
        json!(some(status.addresses.join(","))),
        json!(some(status.message.clone())),
    ]
}

pub(super) const AMBASSADOR: &[Column] = &[
    NAME,
    column("Ports", "What it listens on."),
    column("Targets", "Where that leads."),
    column("Ready", "Whether each port leads to a target that is there."),
    column("Pod", "The pod that relays."),
    AGE,
    wide("Phase", "The phase of the pod."),
    wide("Addresses", "The addresses of the pod."),
];

pub(super) fn ambassador(ambassador: &Ambassador, age: String) -> Vec<Value> {
    let status = &ambassador.status;
    vec![
        json!(ambassador.metadata.name),
        json!(some(ambassador.ports().join(","))),
        json!(some(ambassador.targets().join(","))),
        json!(status.ready.to_string()),
        json!(status.pod),
        json!(age),
        json!(status.phase),
        json!(some(status.addresses.join(","))),
    ]
}

pub(super) const NETWORK: &[Column] = &[
    NAME,
    column("Type", "How its pods are connected."),
    column("Isolated", "Whether pods of other networks do not reach its pods, nor the other way round."),
    column("Subnets", "The ranges that its pods' addresses are from."),
    column("Pods", "How many pods are in it."),
    column("State", "How it is."),
    AGE,
    wide("Message", "What is the matter."),
];

pub(super) fn network(network: &Network, age: String) -> Vec<Value> {
    let (spec, status) = (&network.spec, &network.status);
    vec![
        json!(network.metadata.name),
        json!(spec.type_),
        json!(spec.isolated.unwrap_or(true).to_string()),
        json!(some(status.subnets.join(","))),
        json!(status.pods.len()),
        json!(status.state),
        json!(age),
        json!(some(status.message.clone())),
    ]
}

/// A selector as kubectl writes it.
pub fn selector(selector: &LabelSelector) -> String {
    let mut words = pairs(selector.match_labels.iter().flatten());
    for requirement in selector.match_expressions.iter().flatten() {
        let mut values = requirement.values.clone().unwrap_or_default();
        values.sort();
        let (key, values) = (&requirement.key, values.join(","));
        words.push(match requirement.operator.as_str() {
            "In" => format!("{key} in ({values})"),
            "NotIn" => format!("{key} notin ({values})"),
            "Exists" => key.clone(),
            _ => format!("!{key}"),
        });
    }
    some(words.join(","))
}

fn pairs<'a>(labels: impl Iterator<Item = (&'a String, &'a String)>) -> Vec<String> {
    labels.map(|(key, value)| format!("{key}={value}")).collect()
}

fn some(text: String) -> String {
    if text.is_empty() { NONE.to_owned() } else { text }
}

/// The first of some words, and how many more there are.
fn few(words: &[String]) -> String {
    let shown = words.iter().take(SOME).cloned().collect::<Vec<_>>().join(",");
    match words.len() {
        0 => UNSET.to_owned(),
        count if count > SOME => format!("{shown} + {} more...", count - SOME),
        _ => shown,
    }
}
