//! What a client wants, as it came over the wire, made into what can be carried out.

use std::collections::HashSet;
use std::net::IpAddr;

use cri_proto::node as proto;
use ipnet::IpNet;

use super::{
    Link, LinkEndpoint, Name, Peer, PodRef, Policy, PolicyRule, Ports, Protocol, Service, ServiceEndpoint, ServicePort,
    SrvTarget, WantedSet,
};
use crate::error::{Error, Result};
use crate::network::Kind;
use crate::network::named::{self, Shape, Spec};

/// Ports that a link may lead to at one pod: each is an element of a set.
const MOST_PORTS: u32 = 1024;

/// Pods behind a service's port: each is an element of a map, and one more makes another chain.
const MOST_ENDPOINTS: usize = 1024;

/// Seconds of a client's affinity, as Kubernetes has it: a day.
const MOST_AFFINITY: u32 = 86_400;

/// Reads what is wanted. An error names the field.
pub fn check(request: proto::SetNetworkRequest) -> Result<WantedSet> {
    let wanted = WantedSet {
        version: 1,
        networks: each("networks", request.networks, network)?,
        links: each("links", request.links, link)?,
        policies: each("policies", request.policies, policy)?,
        services: each("services", request.services, service)?,
        names: each("names", request.names, name)?,
        reach_node: request.reach_node,
    };
    named::check(&wanted.networks)?;
    once("networks", "the name", wanted.networks.iter().map(|it| it.name.clone()))?;
    let aliases = wanted.links.iter().map(|it| format!("{} of {}", it.alias, it.from));
    once("links", "the alias", aliases)?;
    once("policies", "the pod", wanted.policies.iter().map(|it| it.pod.to_string()))?;
    let ports = wanted.services.iter().flat_map(|service| {
        let address = move |port: &ServicePort| {
            let what = move |it: &IpAddr| format!("{it} port {}/{}", port.port, port.protocol);
            service.addresses.iter().map(what).collect::<Vec<_>>()
        };
        service.ports.iter().flat_map(address)
    });
    once("services", "the address", ports)?;
    Ok(wanted)
}

fn invalid<T>(field: &str, why: impl std::fmt::Display) -> Result<T> {
    Err(Error::Invalid(format!("{field}: {why}")))
}

/// Reads every item of a list.
fn each<T, U>(field: &str, items: Vec<T>, read: impl Fn(&str, T) -> Result<U>) -> Result<Vec<U>> {
    items.into_iter().enumerate().map(|(index, item)| read(&format!("{field}[{index}]"), item)).collect()
}

fn once(field: &str, what: &str, keys: impl Iterator<Item = String>) -> Result<()> {
    let mut seen = HashSet::new();
    for key in keys {
        if seen.contains(&key) {
            return invalid(field, format!("{what} {key} is there twice"));
        }
        seen.insert(key);
    }
    Ok(())
}

fn pod(field: &str, pod: Option<proto::PodRef>) -> Result<PodRef> {
    match pod {
        Some(pod) if !pod.namespace.is_empty() && !pod.name.is_empty() => {
            Ok(PodRef { namespace: pod.namespace, name: pod.name })
        }
        _ => invalid(field, "a pod needs a namespace and a name"),
    }
}

fn port(field: &str, port: u32) -> Result<u16> {
    match u16::try_from(port) {
        Ok(port) if port > 0 => Ok(port),
        _ => invalid(field, format!("{port} is no port: 1 to 65535")),
    }
}

fn protocol(field: &str, number: i32) -> Result<Protocol> {
    match proto::Protocol::try_from(number) {
        Ok(proto::Protocol::Tcp) => Ok(Protocol::Tcp),
        Ok(proto::Protocol::Udp) => Ok(Protocol::Udp),
        Ok(proto::Protocol::Sctp) => Ok(Protocol::Sctp),
        Ok(proto::Protocol::Unspecified) | Err(_) => invalid(field, "the protocol is tcp, udp or sctp"),
    }
}

fn ports(field: &str, range: proto::PortRange) -> Result<Ports> {
    let protocol = protocol(field, range.protocol)?;
    let (first, last) = (port(field, range.first)?, port(field, range.last)?);
    if first > last {
        return invalid(field, format!("the range {first} to {last} ends before it begins"));
    }
    Ok(Ports { protocol, first, last })
}

fn address(field: &str, text: &str) -> Result<IpAddr> {
    match text.parse::<IpAddr>() {
        Ok(it) if !it.is_unspecified() && !it.is_loopback() && !it.is_multicast() => Ok(it),
        Ok(it) => invalid(field, format!("{it} is no address that packets can be sent to")),
        Err(_) => invalid(field, format!("{text:?} is no address")),
    }
}

fn range(field: &str, text: &str) -> Result<IpNet> {
    match text.parse::<IpNet>() {
        Ok(it) => Ok(it.trunc()),
        Err(_) => invalid(field, format!("{text:?} is no range of addresses, such as 10.0.0.0/16")),
    }
}

fn network(field: &str, network: proto::Network) -> Result<Spec> {
    let Ok(Kind::Named(name)) = network.name.parse() else {
        return invalid(field, format!("{:?} is no name for a network", network.name));
    };
    let shape = match proto::NetworkType::try_from(network.r#type) {
        Ok(proto::NetworkType::Bridge) => Shape::Bridge,
        Ok(proto::NetworkType::Ptp | proto::NetworkType::Unspecified) => Shape::Ptp,
        Err(_) => return invalid(field, "the type is ptp or bridge"),
    };
    let subnets = each(&format!("{field}.subnets"), network.subnets, |field, it| range(field, &it))?;
    Ok(Spec {
        name,
        subnets,
        isolated: network.isolated,
        masquerade: network.masquerade,
        mtu: (network.mtu > 0).then_some(network.mtu),
        shape,
    })
}

fn link(field: &str, link: proto::Link) -> Result<Link> {
    let from = pod(&format!("{field}.from"), link.from)?;
    let endpoints = each(&format!("{field}.endpoints"), link.endpoints, |field, it| {
        let endpoint = LinkEndpoint {
            pod: pod(&format!("{field}.pod"), it.pod)?,
            ports: each(&format!("{field}.ports"), it.ports, ports)?,
        };
        let count: u64 = endpoint.ports.iter().map(|it| u64::from(it.last - it.first) + 1).sum();
        if count > u64::from(MOST_PORTS) {
            return invalid(field, format!("{} has {count} ports to link to: {MOST_PORTS} are allowed", endpoint.pod));
        }
        Ok(endpoint)
    })?;
    Ok(Link { from, alias: link.alias, target: link.target, endpoints })
}

fn policy(field: &str, policy: proto::PodPolicy) -> Result<Policy> {
    let rules = |direction: &str, isolated: bool, rules| -> Result<Option<Vec<PolicyRule>>> {
        let rules = each(&format!("{field}.{direction}"), rules, rule)?;
        Ok(isolated.then_some(rules))
    };
    Ok(Policy {
        pod: pod(&format!("{field}.pod"), policy.pod)?,
        ingress: rules("ingress", policy.isolate_ingress, policy.ingress)?,
        egress: rules("egress", policy.isolate_egress, policy.egress)?,
    })
}

fn rule(field: &str, rule: proto::PolicyRule) -> Result<PolicyRule> {
    Ok(PolicyRule {
        peers: each(&format!("{field}.peers"), rule.peers, peer)?,
        ports: each(&format!("{field}.ports"), rule.ports, ports)?,
    })
}

fn peer(field: &str, peer: proto::PolicyPeer) -> Result<Peer> {
    match peer.peer {
        Some(proto::policy_peer::Peer::Pod(it)) => Ok(Peer::Pod(pod(field, Some(it))?)),
        Some(proto::policy_peer::Peer::Block(block)) => {
            let cidr = range(field, &block.cidr)?;
            let except = each(&format!("{field}.except"), block.except, |field, it| range(field, &it))?;
            match except.iter().find(|it| !cidr.contains(*it)) {
                Some(outside) => invalid(field, format!("{outside} is not within {cidr}")),
                None => Ok(Peer::Block { cidr, except }),
            }
        }
        None => invalid(field, "a peer is a pod or a block of addresses"),
    }
}

fn service(field: &str, service: proto::Service) -> Result<Service> {
    if service.namespace.is_empty() || service.name.is_empty() {
        return invalid(field, "a service needs a namespace and a name");
    }
    if service.affinity_seconds > MOST_AFFINITY {
        return invalid(
            field,
            format!("an affinity of {} seconds: {MOST_AFFINITY} are allowed", service.affinity_seconds),
        );
    }
    let addresses = each(&format!("{field}.addresses"), service.addresses, |field, it| address(field, &it))?;
    let ports = each(&format!("{field}.ports"), service.ports, |field, it: proto::ServicePort| {
        let count = it.endpoints.len();
        if count > MOST_ENDPOINTS {
            return invalid(field, format!("{count} endpoints: {MOST_ENDPOINTS} are allowed"));
        }
        let endpoint = |field: &str, it: proto::ServiceEndpoint| {
            Ok(ServiceEndpoint { pod: pod(&format!("{field}.pod"), it.pod)?, port: port(field, it.port)? })
        };
        Ok(ServicePort {
            protocol: protocol(field, it.protocol)?,
            port: port(field, it.port)?,
            endpoints: each(&format!("{field}.endpoints"), it.endpoints, endpoint)?,
        })
    })?;
    let affinity_seconds = service.affinity_seconds;
    Ok(Service { namespace: service.namespace, name: service.name, addresses, ports, affinity_seconds })
}

fn name(field: &str, name: proto::Name) -> Result<Name> {
    let is_name = |text: &str| {
        let label = |it: &str| {
            let known = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_".contains(&byte);
            (1..=63).contains(&it.len()) && it.bytes().all(known)
        };
        text.len() <= 253 && text.split('.').all(label)
    };
    if let Some(wrong) = std::iter::once(&name.name).chain(name.srv.iter().map(|it| &it.target)).find(|it| !is_name(it))
    {
        return invalid(field, format!("{wrong:?} is no name of DNS in lower case"));
    }
    let srv = |field: &str, it: proto::SrvTarget| Ok(SrvTarget { port: port(field, it.port)?, target: it.target });
    Ok(Name {
        name: name.name,
        asker: name.asker.map(|it| pod(&format!("{field}.asker"), Some(it))).transpose()?,
        pods: each(&format!("{field}.pods"), name.pods, |field, it| pod(field, Some(it)))?,
        addresses: each(&format!("{field}.addresses"), name.addresses, |field, it| address(field, &it))?,
        srv: each(&format!("{field}.srv"), name.srv, srv)?,
    })
}
