//! Links, resolved: who reaches what, by which name, and whether it may begin.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use cri_proto::node;
use k8s_openapi::api::core::v1::Pod;
use manifests::annotations::{Annotations, Kind, Link};

use super::services::Services;
use super::{Inputs, pod_ref};
use crate::engine::plan::{init_of, is_sidecar, spec_of};
use crate::node::desired::Name;

/// The ports that the runtime takes for one link.
const MOST_PORTS: usize = 1024;

/// A port that a pod declares. In the order in which variables have them: TCP before the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Port {
    /// Its protocol.
    pub protocol: Protocol,
    /// Its number.
    pub number: u16,
}

/// A protocol that has ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl Protocol {
    /// As in URLs.
    pub fn as_str(self) -> &'static str {
        match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
            Protocol::Sctp => "sctp",
        }
    }

    fn wire(self) -> node::Protocol {
        match self {
            Protocol::Tcp => node::Protocol::Tcp,
            Protocol::Udp => node::Protocol::Udp,
            Protocol::Sctp => node::Protocol::Sctp,
        }
    }

    fn of(protocol: node::Protocol) -> Self {
        match protocol {
            node::Protocol::Udp => Protocol::Udp,
            node::Protocol::Sctp => Protocol::Sctp,
            node::Protocol::Tcp | node::Protocol::Unspecified => Protocol::Tcp,
        }
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.number, self.protocol.as_str())
    }
}

/// The ports that a pod's containers declare, its sidecars' among them.
pub fn declared(pod: &Pod) -> BTreeSet<Port> {
    let spec = spec_of(pod);
    let containers = spec.containers.iter().chain(init_of(spec).iter().filter(|init| is_sidecar(init)));
    let ports = containers.flat_map(|container| container.ports.iter().flatten());
    let port = |it: &k8s_openapi::api::core::v1::ContainerPort| {
        let protocol = match it.protocol.as_deref() {
            Some("UDP") => Protocol::Udp,
            Some("SCTP") => Protocol::Sctp,
            _ => Protocol::Tcp,
        };
        // What is out of range was refused with the manifest.
        Some(Port { protocol, number: u16::try_from(it.container_port).ok().filter(|number| *number > 0)? })
    };
    ports.filter_map(port).collect()
}

/// A link and what it leads to now.
#[derive(Clone, Debug, PartialEq)]
pub struct Resolved {
    /// The pod that has it.
    pub from: Name,
    /// As it is written.
    pub link: Link,
    /// What it leads to.
    pub target: Name,
    /// The ports that it is for.
    pub ports: BTreeSet<Port>,
    /// Where the alias leads, IPv4 first; nothing as long as that is nowhere.
    pub addresses: Vec<String>,
    /// The pods behind it, each with the ports that it listens on.
    pub endpoints: BTreeMap<Name, BTreeSet<Port>>,
    /// How it is.
    pub state: State,
}

/// How a link is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// What it leads to is ready.
    Ready,
    /// It is not; with a word on how it is.
    Waiting(String),
    /// There is nothing that it could lead to.
    Missing(String),
}

impl State {
    /// In one word.
    pub fn as_str(&self) -> &'static str {
        match self {
            State::Ready => "Ready",
            State::Waiting(_) => "NotReady",
            State::Missing(_) => "Missing",
        }
    }

    /// What is the matter.
    pub fn message(&self) -> &str {
        match self {
            State::Ready => "",
            State::Waiting(message) | State::Missing(message) => message,
        }
    }
}

impl Resolved {
    /// `pod/NAMESPACE/NAME` or `service/NAMESPACE/NAME`.
    pub fn target(&self) -> String {
        format!("{}/{}/{}", self.link.kind.as_str(), self.target.0, self.target.1)
    }

    /// Whether it leads somewhere, or will as soon as that is there.
    pub fn leads(&self) -> bool {
        !matches!(self.state, State::Missing(_))
    }

    /// Why its pod may not begin yet.
    pub fn waits(&self) -> Option<String> {
        let held = self.link.gated && self.state != State::Ready;
        held.then(|| format!("link {}: {}", self.link.alias, self.state.message()))
    }

    /// What the runtime is asked to allow.
    pub fn wire(&self) -> node::Link {
        let endpoint = |(pod, ports): (&Name, &BTreeSet<Port>)| node::LinkEndpoint {
            pod: Some(pod_ref(pod)),
            ports: ranges(ports),
        };
        node::Link {
            from: Some(pod_ref(&self.from)),
            alias: self.link.alias.clone(),
            target: self.target(),
            endpoints: self.endpoints.iter().map(endpoint).collect(),
        }
    }

    /// The alias, for the pod that has the link alone.
    pub fn name(&self) -> node::Name {
        // A Service's address is what is called so, not the pods behind it, unless it has none.
        let by_address = self.link.kind == Kind::Service && !self.addresses.is_empty();
        let pods = if by_address { vec![] } else { self.endpoints.keys().map(pod_ref).collect() };
        node::Name {
            name: self.link.alias.clone(),
            asker: Some(pod_ref(&self.from)),
            pods,
            addresses: if by_address { self.addresses.clone() } else { vec![] },
            srv: vec![],
        }
    }
}

/// Ports in a row as one range.
fn ranges(ports: &BTreeSet<Port>) -> Vec<node::PortRange> {
    runs(ports)
        .map(|(first, last)| node::PortRange {
            protocol: first.protocol.wire().into(),
            first: first.number.into(),
            last: last.number.into(),
        })
        .collect()
}

/// The first and the last of ports in a row, each of one protocol.
pub fn runs(ports: &BTreeSet<Port>) -> impl Iterator<Item = (Port, Port)> {
    let mut left = ports.iter().copied().peekable();
    std::iter::from_fn(move || {
        let first = left.next()?;
        let mut last = first;
        let next = |last: Port| Some(Port { number: last.number.checked_add(1)?, ..last });
        while let Some(port) = left.next_if(|port| next(last) == Some(*port)) {
            last = port;
        }
        Some((first, last))
    })
}

/// The links of a pod, as they are written.
pub fn of_pod(pod: &Pod) -> Vec<Link> {
    // What a manifest says has been read before; what a record says may be older than that.
    Annotations::of(pod).unwrap_or_default().links
}

/// What a link of a pod leads to, by its name.
pub fn target_of(from: &Name, link: &Link) -> Name {
    (link.namespace.clone().unwrap_or_else(|| from.0.clone()), link.name.clone())
}

/// The links of all pods that shall run.
pub fn resolve(inputs: &Inputs, services: &Services) -> Vec<Resolved> {
    let links = inputs.pods.iter().flat_map(|(from, pod)| of_pod(pod).into_iter().map(move |link| (from, link)));
    links.map(|(from, link)| one(from, link, inputs, services)).collect()
}

fn one(from: &Name, link: Link, inputs: &Inputs, services: &Services) -> Resolved {
    let target = target_of(from, &link);
    let resolved = Resolved {
        from: from.clone(),
        link,
        target,
        ports: BTreeSet::new(),
        addresses: vec![],
        endpoints: BTreeMap::new(),
        state: State::Ready,
    };
    match resolved.link.kind {
        Kind::Pod => to_pod(resolved, inputs),
        Kind::Service => to_service(resolved, services),
    }
}

fn to_pod(mut it: Resolved, inputs: &Inputs) -> Resolved {
    let place = show(&it.target);
    let Some(pod) = inputs.pod(&it.target) else {
        it.state = State::Missing(missing(&it, inputs));
        return it;
    };
    if spec_of(pod).host_network == Some(true) {
        it.state = State::Missing(format!("pod {place} is in the host's network, where no link leads"));
        return it;
    }
    it.ports = declared(pod);
    if it.ports.len() > MOST_PORTS {
        let count = it.ports.len();
        it.state = State::Missing(format!("pod {place} declares {count} ports: a link leads to {MOST_PORTS} at most"));
        return it;
    }
    it.endpoints.insert(it.target.clone(), it.ports.clone());
    it.addresses = inputs.addresses(&it.target);
    let state = inputs.state(&it.target);
    if !state.ready {
        it.state = State::Waiting(format!("pod {place} is not ready (it is {})", state.phase.as_str()));
    }
    it
}

/// That there is no such pod, with a word on what may be meant.
fn missing(it: &Resolved, inputs: &Inputs) -> String {
    let (place, home) = (show(&it.target), &it.from.0);
    // What follows the last dot was taken for a namespace.
    let dotted = it.link.namespace.as_ref().map(|namespace| format!("{}.{namespace}", it.link.name));
    match dotted.filter(|name| inputs.pod(&(home.clone(), name.clone())).is_some()) {
        Some(name) => format!("there is no pod {place}; pod {name} of this namespace is written {name}.{home}:ALIAS"),
        None => format!("there is no pod {place}"),
    }
}

fn to_service(mut it: Resolved, services: &Services) -> Resolved {
    let place = show(&it.target);
    let Some(service) = services.find(&it.target) else {
        it.state = State::Missing(format!("there is no Service {place}"));
        return it;
    };
    for port in &service.ports {
        let protocol = Protocol::of(port.protocol());
        it.ports.extend(u16::try_from(port.port).ok().map(|number| Port { protocol, number }));
        for endpoint in &port.endpoints {
            let Some(pod) = &endpoint.pod else { continue };
            let ports = it.endpoints.entry((pod.namespace.clone(), pod.name.clone())).or_default();
            ports.extend(u16::try_from(endpoint.port).ok().map(|number| Port { protocol, number }));
        }
    }
    it.addresses.clone_from(&service.addresses);
    if it.endpoints.is_empty() {
        it.state = State::Waiting(format!("Service {place} has no ready pod"));
    }
    it
}

/// `NAMESPACE/NAME`.
pub fn show(name: &Name) -> String {
    format!("{}/{}", name.0, name.1)
}
