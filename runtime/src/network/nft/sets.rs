//! The sets and maps of the table: all that grows with pods, and the constant ranges.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use netlink_packet_netfilter::nftables::{DataAttribute, SetFlags, Verdict};

use super::error::{Error, Result};
use super::expression::{interface_key, verdict};
use super::{Desired, PodRules};
use crate::network::ports::PortMapping;

/// Interfaces of pods.
pub const INTERFACES: &str = "pods";
/// Where a packet to a pod goes: by its network.
pub const NETWORKS: &str = "networks";
/// Which addresses an interface may send from.
pub const ADDRESSES: [&str; 2] = ["addresses4", "addresses6"];
/// The ranges that pods' addresses are from.
pub const RANGES: [&str; 2] = ["ranges4", "ranges6"];
/// The ranges that see pods by their own addresses.
pub const DIRECT: [&str; 2] = ["direct4", "direct6"];
/// The node's own addresses in the ranges.
pub const GATEWAYS: [&str; 2] = ["gateways4", "gateways6"];
/// Published ports on every address.
pub const PORTS: [&str; 2] = ["ports4", "ports6"];
/// Published ports on one address.
pub const PORTS_AT: [&str; 2] = ["ports_at4", "ports_at6"];
/// What IPv6 needs of its neighbours.
pub const DISCOVERY: &str = "discovery";
/// The chain of the network in which every pod reaches every other.
pub const FLAT: &str = "flat";

/// The numbers that `nft` shows types by (its datatype.h); to the kernel they mean nothing.
#[derive(Clone, Copy)]
enum Type {
    Ipv4 = 7,
    Ipv6 = 8,
    Protocol = 12,
    Port = 13,
    Icmpv6 = 29,
    Interface = 41,
}

/// The type of a key that is the name of an interface alone.
pub const INTERFACE_KEY: u32 = Type::Interface as u32;

impl Type {
    fn bytes(self) -> u32 {
        match self {
            Self::Ipv6 | Self::Interface => 16,
            Self::Icmpv6 => 1,
            Self::Ipv4 | Self::Protocol | Self::Port => 4,
        }
    }
}

/// What a map leads to.
pub enum Data {
    Nothing,
    Verdict,
    Value { kind: u32, length: u32 },
}

/// A set or a map.
pub struct Set {
    pub name: &'static str,
    pub flags: SetFlags,
    pub key_type: u32,
    pub key_length: u32,
    pub data: Data,
}

/// Parts of a key that stand one behind the other: six bits of the number for each.
fn joined(types: &[Type]) -> (u32, u32) {
    (types.iter().fold(0, |all, &it| all << 6 | it as u32), types.iter().map(|it| it.bytes()).sum())
}

fn set(name: &'static str, flags: SetFlags, key: &[Type], data: Data) -> Set {
    let (key_type, key_length) = joined(key);
    Set { name, flags, key_type, key_length, data }
}

/// All sets and maps. None is constant in the kernel's sense, for such a set cannot be emptied and filled again.
pub fn all() -> Vec<Set> {
    let none = SetFlags::empty();
    let mut sets = vec![
        set(DISCOVERY, none, &[Type::Icmpv6], Data::Nothing),
        set(INTERFACES, none, &[Type::Interface], Data::Nothing),
        set(NETWORKS, SetFlags::Map, &[Type::Interface], Data::Verdict),
    ];
    for (index, address) in [Type::Ipv4, Type::Ipv6].into_iter().enumerate() {
        let target = || {
            let (kind, length) = joined(&[address, Type::Port]);
            Data::Value { kind, length }
        };
        sets.extend([
            set(RANGES[index], SetFlags::Interval, &[address], Data::Nothing),
            set(DIRECT[index], SetFlags::Interval, &[address], Data::Nothing),
            set(GATEWAYS[index], none, &[address], Data::Nothing),
            set(ADDRESSES[index], none, &[Type::Interface, address], Data::Nothing),
            set(PORTS[index], SetFlags::Map, &[Type::Protocol, Type::Port], target()),
            set(PORTS_AT[index], SetFlags::Map, &[address, Type::Protocol, Type::Port], target()),
        ]);
    }
    sets
}

/// An element of a set.
pub struct Element {
    pub set: &'static str,
    pub key: Vec<u8>,
    pub data: Option<DataAttribute>,
    /// The first key behind an interval.
    pub end: bool,
}

fn element(set: &'static str, key: Vec<u8>) -> Element {
    Element { set, key, data: None, end: false }
}

fn family(address: IpAddr) -> usize {
    usize::from(address.is_ipv6())
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(it) => it.octets().to_vec(),
        IpAddr::V6(it) => it.octets().to_vec(),
    }
}

/// What is in the sets whatever pods there are.
pub fn constant(desired: &Desired) -> Vec<Element> {
    // ICMPv6: multicast listener 130-132 and 143, router solicitation 133, neighbour solicitation and advertisement
    // 135 and 136. Not the router's own 134 and 137: a pod is none.
    let mut elements: Vec<_> =
        [130, 131, 132, 133, 135, 136, 143].into_iter().map(|it| element(DISCOVERY, vec![it])).collect();
    elements.extend(desired.gateways.iter().map(|&it| element(GATEWAYS[family(it)], octets(it))));
    let direct = desired.ranges.iter().chain(&desired.non_masquerade);
    elements.extend(intervals(RANGES, desired.ranges.iter()));
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
        let highest = if family == 0 { u128::from(u32::MAX) } else { u128::MAX };
        if last < highest {
            elements.push(Element { end: true, ..element(sets[family], address(family, last + 1)) });
        }
    }
    elements
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(it) => u128::from(it.to_bits()),
        IpAddr::V6(it) => it.to_bits(),
    }
}

fn address(family: usize, number: u128) -> Vec<u8> {
    let bytes = number.to_be_bytes();
    if family == 0 { bytes[12..].to_vec() } else { bytes.to_vec() }
}

/// What a pod puts into the sets.
pub fn of_pod(pod: &PodRules) -> Result<Vec<Element>> {
    // The kernel's IFNAMSIZ, with the end of the string.
    if pod.interface.is_empty() || pod.interface.len() > 15 || pod.interface.contains(['*', '\0', '/']) {
        return Err(Error::Invalid(format!("{:?} is no name of an interface", pod.interface)));
    }
    let name = interface_key(&pod.interface);
    let network = verdict(Verdict::Goto, Some(FLAT));
    let mut elements =
        vec![element(INTERFACES, name.clone()), Element { data: Some(network), ..element(NETWORKS, name.clone()) }];
    for &address in &pod.addresses {
        let mut key = name.clone();
        key.extend(octets(address));
        elements.push(element(ADDRESSES[family(address)], key));
    }
    for port in &pod.ports {
        for &address in &pod.addresses {
            elements.extend(published(port, address));
        }
    }
    Ok(elements)
}

/// A published port, where the host's address and the pod's are of one family.
fn published(port: &PortMapping, address: IpAddr) -> Option<Element> {
    let mut key = Vec::new();
    let set = match port.host_ip {
        // Nothing from ::1 can be sent elsewhere: a relay listens there.
        Some(ip) if ip.is_ipv6() && ip.is_loopback() => return None,
        Some(ip) if ip.is_ipv6() != address.is_ipv6() => return None,
        Some(ip) if !ip.is_unspecified() => {
            key.extend(octets(ip));
            PORTS_AT[family(ip)]
        }
        _ => PORTS[family(address)],
    };
    // Each part of a key is padded to whole registers.
    key.extend([port.protocol.number(), 0, 0, 0]);
    key.extend(port.host_port.to_be_bytes());
    key.extend([0, 0]);
    let mut target = octets(address);
    target.extend(port.container_port.to_be_bytes());
    target.extend([0, 0]);
    Some(Element { data: Some(DataAttribute::Value(target)), ..element(set, key) })
}
