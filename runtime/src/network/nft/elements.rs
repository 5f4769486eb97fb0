//! What pods and networks put into the sets.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;

use super::error::{Error, Result};
use super::expression::interface_key;
use super::sets::{
    ADDRESSES, DIRECT, DISCOVERY, Element, GATEWAYS, HIDDEN, INTERFACES, NETWORKS, OPEN, PORTS, PORTS_AT, PUBLISHED,
    PUBLISHED_AT, RANGES, SELVES, Target, element, members,
};
use super::{Desired, Group, PodRules, rules};
use crate::network::ports::PortMapping;

/// Which of two sets an address belongs to.
pub fn family(address: IpAddr) -> usize {
    usize::from(address.is_ipv6())
}

/// An address as the kernel compares it.
pub fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(it) => it.octets().to_vec(),
        IpAddr::V6(it) => it.octets().to_vec(),
    }
}

/// A part of a key that is a protocol, padded to a whole register.
pub fn protocol_key(number: u8) -> [u8; 4] {
    [number, 0, 0, 0]
}

/// A part of a key that is a port.
pub fn port_key(port: u16) -> [u8; 4] {
    let [high, low] = port.to_be_bytes();
    [high, low, 0, 0]
}

/// What is in the sets whatever pods there are.
pub fn constant(desired: &Desired) -> Vec<Element> {
    // ICMPv6: multicast listener 130-132 and 143, router solicitation 133, neighbour solicitation and advertisement
    // 135 and 136. Not the router's own 134 and 137: a pod is none.
    let mut elements: Vec<_> =
        [130, 131, 132, 133, 135, 136, 143].into_iter().map(|it| element(DISCOVERY, vec![it])).collect();
    let bridges = desired.networks.iter().filter_map(|it| it.bridge.as_ref());
    elements.extend(bridges.map(|it| element(INTERFACES, interface_key(it))));
    elements.extend(desired.gateways().map(|it| element(GATEWAYS[family(it)], octets(it))));
    let direct = desired.ranges().chain(&desired.non_masquerade);
    let hidden = desired.networks.iter().filter(|it| it.masquerade).flat_map(|it| &it.ranges);
    elements.extend(intervals(RANGES, desired.ranges()));
    elements.extend(intervals(HIDDEN, hidden));
    elements.extend(intervals(DIRECT, direct));
    elements
}

/// Ranges as the kernel wants them: apart from each other, each by its first address and the first one behind it.
fn intervals<'a>(sets: [&'static str; 2], ranges: impl Iterator<Item = &'a IpNet>) -> Vec<Element> {
    let mut merged: BTreeMap<(usize, u128), u128> = BTreeMap::new();
    for net in ranges {
        let (first, last) = (number(net.network()), number(net.broadcast()));
        let family = family(net.network());
        let (mut first, mut last) = (first, last);
        // What it touches, it takes in.
        merged.retain(|&(other, start), end| {
            let touches = other == family && start <= last.saturating_add(1) && first <= end.saturating_add(1);
            if touches {
                (first, last) = (first.min(start), last.max(*end));
            }
            !touches
        });
        merged.insert((family, first), last);
    }
    let mut elements = Vec::new();
    for ((family, first), last) in merged {
        elements.push(element(sets[family], address(family, first)));
        if last < highest(family) {
            elements.push(Element { end: true, ..element(sets[family], address(family, last + 1)) });
        }
    }
    elements
}

/// An address as a number.
pub fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(it) => u128::from(it.to_bits()),
        IpAddr::V6(it) => it.to_bits(),
    }
}

/// The highest address of a family.
pub fn highest(family: usize) -> u128 {
    if family == 0 { u128::from(u32::MAX) } else { u128::MAX }
}

/// A number as an address of a family.
pub fn address(family: usize, number: u128) -> Vec<u8> {
    let bytes = number.to_be_bytes();
    if family == 0 { bytes[12..].to_vec() } else { bytes.to_vec() }
}

/// What a pod puts into the sets.
pub fn of_pod(pod: &PodRules) -> Result<Vec<Element>> {
    for name in std::iter::once(&pod.interface).chain(&pod.bridge) {
        // The kernel's IFNAMSIZ, with the end of the string.
        if name.is_empty() || name.len() > 15 || name.contains(['*', '\0', '/']) {
            return Err(Error::Invalid(format!("{name:?} is no name of an interface")));
        }
    }
    let seen = interface_key(pod.bridge.as_ref().unwrap_or(&pod.interface));
    // A bridge is its network's.
    let mut elements: Vec<_> = pod.bridge.is_none().then(|| element(INTERFACES, seen.clone())).into_iter().collect();
    let chain = rules::chain_of(&pod.group);
    for &address in &pod.addresses {
        let (family, octets) = (family(address), octets(address));
        let group = match &pod.group {
            Group::Open => Some(OPEN[family].into()),
            Group::Isolated(name) => Some(members(name)[family].clone().into()),
            Group::Alone => None,
        };
        elements.extend(group.map(|set: super::sets::SetName| element(set, octets.clone())));
        elements.push(element(ADDRESSES[family], [&seen[..], &octets].concat()));
        elements.push(element(SELVES[family], [&octets[..], &octets].concat()));
        elements.push(element(NETWORKS[family], octets).to(Target::Goto(chain.clone())));
    }
    // A port that is published on two addresses leads to one place.
    let ways = pod.ports.iter().flat_map(|port| pod.addresses.iter().filter_map(move |&it| published(port, it)));
    elements.extend(ways.flatten().collect::<BTreeSet<_>>());
    Ok(elements)
}

/// A published port, where the host's address and the pod's are of one family: the way to it, and that it is one.
fn published(port: &PortMapping, address: IpAddr) -> Option<[Element; 2]> {
    let (ways, published, at) = match port.host_ip {
        // Nothing from ::1 can be sent elsewhere: a relay listens there.
        Some(ip) if ip.is_ipv6() && ip.is_loopback() => return None,
        Some(ip) if ip.is_ipv6() != address.is_ipv6() => return None,
        Some(ip) if !ip.is_unspecified() => (PORTS_AT, PUBLISHED_AT, octets(ip)),
        _ => (PORTS, PUBLISHED, Vec::new()),
    };
    let asked = [&at[..], &protocol_key(port.protocol.number()), &port_key(port.host_port)].concat();
    let target = target(address, port.container_port);
    let led = element(published[family(address)], [&asked[..], &target].concat());
    Some([element(ways[family(address)], asked).to(Target::Value(target)), led])
}

/// Where a connection is led to.
pub fn target(address: IpAddr, port: u16) -> Vec<u8> {
    [octets(address), port_key(port).to_vec()].concat()
}
