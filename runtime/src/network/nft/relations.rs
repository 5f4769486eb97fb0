//! What pods have to do with each other beyond their networks: links, policies, services.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::boxes;
use super::conntrack::Lead;
use super::elements::{family, octets, port_key, protocol_key, target};
use super::sets::{
    ALLOW_IN, ALLOW_OUT, ENDPOINTS, Element, ISOLATED_IN, ISOLATED_OUT, LINKS, SERVICE_PORTS, SERVICES, Target, USES,
    element,
};
use crate::network::ports::Protocol;
use crate::network::wanted::Ports;
use ipnet::IpNet;

/// All of them, or those that a change is about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Relations {
    /// Who may reach whom besides.
    pub links: Vec<LinkRules>,
    /// Whose connections are judged.
    pub policies: Vec<PolicyRules>,
    /// Addresses that lead to pods.
    pub services: Vec<ServiceRules>,
}

/// A pod may reach ports of another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LinkRules {
    /// The addresses of the one.
    pub from: Vec<IpAddr>,
    /// Those of the other.
    pub to: Vec<IpAddr>,
    /// Which.
    pub ports: Ports,
}

/// What reaches a pod, and what it reaches, beside its links.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PolicyRules {
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// What reaches it; none is everything.
    pub ingress: Option<Vec<Allow>>,
    /// What it reaches.
    pub egress: Option<Vec<Allow>>,
}

/// Connections that are allowed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Allow {
    /// From or to whom; none is everybody.
    pub peers: Option<Vec<Block>>,
    /// Which ports; none given is every one of every protocol.
    pub ports: Vec<Ports>,
}

/// A range of addresses with holes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// The range.
    pub cidr: IpNet,
    /// The holes.
    pub except: Vec<IpNet>,
}

/// A service's port.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceRules {
    /// The service's addresses.
    pub addresses: Vec<IpAddr>,
    /// The transport.
    pub protocol: Protocol,
    /// Its number.
    pub port: u16,
    /// Where it leads: pods' addresses and ports.
    pub endpoints: Vec<(Vec<IpAddr>, u16)>,
    /// Seconds for which a client stays with its pod.
    pub affinity: u32,
}

/// A service's port as the sets have it.
pub fn service_key(address: IpAddr, protocol: Protocol, port: u16) -> Vec<u8> {
    [&octets(address)[..], &protocol_key(protocol.number()), &port_key(port)].concat()
}

/// How a service's pod is chosen: what a chain is needed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Choice {
    /// Out of how many.
    pub shares: u32,
    /// For how many seconds a client keeps it; 0 for the connection alone.
    pub seconds: u32,
}

/// What a link is in the sets without the set: from, to, protocol, port.
pub type Pair = (IpAddr, IpAddr, Protocol, u16);

impl Relations {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.links.is_empty() && self.policies.is_empty() && self.services.is_empty()
    }

    /// What they put into the sets, each element once.
    pub fn elements(&self) -> BTreeSet<Element> {
        let mut elements = BTreeSet::new();
        for pair in self.pairs() {
            elements.extend([LINKS, USES].map(|sets| element(sets[family(pair.0)], pair_key(&pair))));
        }
        for policy in &self.policies {
            elements.extend(of_policy(policy));
        }
        for service in &self.services {
            elements.extend(of_service(service));
        }
        elements
    }

    /// Who may reach whom by links.
    pub fn pairs(&self) -> BTreeSet<Pair> {
        self.links.iter().flat_map(pairs).collect()
    }

    /// Where its services lead that are spoken to without a connection, and those that were and are none any more.
    /// What has not changed since `before` is left out.
    pub fn leads(&self, before: &Self) -> Vec<Lead> {
        let (old, new) = (before.all_leads(), self.all_leads());
        let gone = old.keys().filter(|it| !new.contains_key(*it)).map(|it| (*it, BTreeSet::new()));
        let gone: Vec<_> = gone.collect();
        let changed = new.into_iter().filter(|(key, to)| old.get(key) != Some(to));
        let lead = |((address, protocol, port), to)| Lead { address, protocol, port, to };
        changed.chain(gone).map(lead).collect()
    }

    fn all_leads(&self) -> BTreeMap<(IpAddr, Protocol, u16), BTreeSet<(IpAddr, u16)>> {
        let mut leads = BTreeMap::new();
        for service in self.services.iter().filter(|it| it.protocol != Protocol::Tcp || it.affinity > 0) {
            for &own in &service.addresses {
                let to = endpoints(service, own.is_ipv6()).into_iter().collect();
                leads.insert((own, service.protocol, service.port), to);
            }
        }
        leads
    }

    /// What its services need chains for.
    pub fn choices(&self) -> BTreeSet<Choice> {
        let all =
            self.services.iter().flat_map(|service| [false, true].into_iter().filter_map(|six| choice(service, six)));
        all.collect()
    }
}

/// Who may reach whom by a link.
pub fn pairs(link: &LinkRules) -> Vec<Pair> {
    let ends = link.from.iter().flat_map(|&from| link.to.iter().map(move |&to| (from, to)));
    let ends = ends.filter(|(from, to)| from.is_ipv6() == to.is_ipv6());
    let of_ports =
        |(from, to)| (link.ports.first..=link.ports.last).map(move |port| (from, to, link.ports.protocol, port));
    ends.flat_map(of_ports).collect()
}

/// A pair as an element's key.
pub fn pair_key(&(from, to, protocol, port): &Pair) -> Vec<u8> {
    [&octets(from)[..], &octets(to), &protocol_key(protocol.number()), &port_key(port)].concat()
}

fn of_policy(policy: &PolicyRules) -> Vec<Element> {
    let mut elements = Vec::new();
    for (rules, isolated, allowed) in
        [(&policy.ingress, ISOLATED_IN, ALLOW_IN), (&policy.egress, ISOLATED_OUT, ALLOW_OUT)]
    {
        let Some(rules) = rules else { continue };
        for &own in &policy.addresses {
            let index = family(own);
            elements.push(element(isolated[index], octets(own)));
            for it in boxes::of(rules, index) {
                let (first, last) = it.keys(index);
                let key = [octets(own), first].concat();
                elements.push(Element { last: Some([octets(own), last].concat()), ..element(allowed[index], key) });
            }
        }
    }
    elements
}

/// The endpoints of a family.
fn endpoints(service: &ServiceRules, six: bool) -> Vec<(IpAddr, u16)> {
    let of_family = |(addresses, port): &(Vec<IpAddr>, u16)| {
        addresses.iter().copied().filter(|it| it.is_ipv6() == six).map(|it| (it, *port)).collect::<Vec<_>>()
    };
    let all: BTreeSet<_> = service.endpoints.iter().flat_map(of_family).collect();
    all.into_iter().collect()
}

fn choice(service: &ServiceRules, six: bool) -> Option<Choice> {
    let shares = u32::try_from(endpoints(service, six).len()).ok().filter(|it| *it > 0)?;
    Some(Choice { shares, seconds: service.affinity })
}

fn of_service(service: &ServiceRules) -> Vec<Element> {
    let mut elements = Vec::new();
    for &own in &service.addresses {
        let (index, six) = (family(own), own.is_ipv6());
        elements.push(element(SERVICES[index], octets(own)));
        let Some(choice) = choice(service, six) else { continue };
        let key = service_key(own, service.protocol, service.port);
        let chain = Target::Goto(super::rules::chain_for(choice).into());
        elements.push(element(SERVICE_PORTS[index], key.clone()).to(chain));
        for (number, (address, port)) in (0u32..).zip(endpoints(service, six)) {
            let key = [&key[..], &number.to_ne_bytes()].concat();
            elements.push(element(ENDPOINTS[index], key).to(Target::Value(target(address, port))));
        }
    }
    elements
}

/// Whether a client is remembered for a pod that is none of its service's.
pub fn is_lost(leads: &[Lead], key: &[u8], to: &[u8]) -> bool {
    let of = |it: &&Lead| key.starts_with(&service_key(it.address, it.protocol, it.port));
    leads.iter().find(of).is_some_and(|it| !it.to.iter().any(|&(address, port)| target(address, port) == to))
}
