//! The sets and maps of the table: what they are called and what their elements look like.
//!
//! A pod is known by its addresses, for whatever claims to come from one is let in only where the pod is: by its link, or
//! by the bridge that its link is a port of. The raw rules see to that.

use std::borrow::Cow;

use netlink_packet_netfilter::nftables::SetFlags;

use super::{Desired, Group};

/// The name of a set: most are the same in every table.
pub type SetName = Cow<'static, str>;

/// Interfaces of pods, and the bridges that they are ports of.
pub const INTERFACES: &str = "pods";
/// Where a packet to a pod goes: by its group.
pub const NETWORKS: [&str; 2] = ["networks4", "networks6"];
/// Which addresses an interface may send from.
pub const ADDRESSES: [&str; 2] = ["addresses4", "addresses6"];
/// Each pod's address twice: what it sends to itself.
pub const SELVES: [&str; 2] = ["selves4", "selves6"];
/// The pods that reach each other.
pub const OPEN: [&str; 2] = ["open4", "open6"];
/// The ranges that pods' addresses are from.
pub const RANGES: [&str; 2] = ["ranges4", "ranges6"];
/// Those of them that are hidden behind the node's address.
pub const HIDDEN: [&str; 2] = ["hidden4", "hidden6"];
/// The ranges that see pods by their own addresses.
pub const DIRECT: [&str; 2] = ["direct4", "direct6"];
/// The node's own addresses in the ranges.
pub const GATEWAYS: [&str; 2] = ["gateways4", "gateways6"];
/// Published ports on every address.
pub const PORTS: [&str; 2] = ["ports4", "ports6"];
/// Published ports on one address.
pub const PORTS_AT: [&str; 2] = ["ports_at4", "ports_at6"];
/// What the first lead to: the protocol, the port that was asked for, the pod and its port.
pub const PUBLISHED: [&str; 2] = ["published4", "published6"];
/// What the others lead to: the same behind the address that was asked for.
pub const PUBLISHED_AT: [&str; 2] = ["published_at4", "published_at6"];
/// Who may reach whom besides.
pub const LINKS: [&str; 2] = ["links4", "links6"];
/// The same with counters.
pub const USES: [&str; 2] = ["uses4", "uses6"];
/// Pods that only what is allowed reaches.
pub const ISOLATED_IN: [&str; 2] = ["isolated_in4", "isolated_in6"];
/// Pods that only reach what is allowed.
pub const ISOLATED_OUT: [&str; 2] = ["isolated_out4", "isolated_out6"];
/// What they are reached by: the pod, others, protocols, ports.
pub const ALLOW_IN: [&str; 2] = ["allow_in4", "allow_in6"];
/// What they reach.
pub const ALLOW_OUT: [&str; 2] = ["allow_out4", "allow_out6"];
/// Addresses of services.
pub const SERVICES: [&str; 2] = ["services4", "services6"];
/// Which chain chooses the pod for a service's port.
pub const SERVICE_PORTS: [&str; 2] = ["service_ports4", "service_ports6"];
/// The pods of a service's port, by number.
pub const ENDPOINTS: [&str; 2] = ["endpoints4", "endpoints6"];
/// Which pod a client had last.
pub const STICKY: [&str; 2] = ["sticky4", "sticky6"];
/// What IPv6 needs of its neighbours.
pub const DISCOVERY: &str = "discovery";

/// Clients that keep their pod, at most: those beyond get any.
const MOST_CLIENTS: u32 = 65_536;

/// The numbers that `nft` shows types by (its datatype.h); to the kernel they mean nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    Ipv4 = 7,
    Ipv6 = 8,
    Ethernet = 9,
    Protocol = 12,
    Port = 13,
    Mark = 19,
    Icmpv6 = 29,
    Interface = 41,
}

impl Type {
    /// Bytes of a value.
    fn bytes(self) -> u32 {
        match self {
            Self::Ipv6 | Self::Interface => 16,
            Self::Icmpv6 | Self::Protocol => 1,
            Self::Port => 2,
            Self::Ethernet => 6,
            Self::Ipv4 | Self::Mark => 4,
        }
    }

    /// Bytes of a part of a key: whole registers.
    fn padded(self) -> u32 {
        self.bytes().next_multiple_of(4)
    }

    /// Numbers that are compared in the order of the host's bytes.
    fn is_host_ordered(self) -> bool {
        matches!(self, Self::Interface)
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
    pub name: SetName,
    pub flags: SetFlags,
    pub key_type: u32,
    pub key_length: u32,
    /// The lengths of its parts, where they are ranges each.
    pub fields: Vec<u32>,
    pub data: Data,
    /// Each element counts the packets that it was found for.
    pub counted: bool,
    /// Elements at most; 0 is no bound.
    pub size: u32,
    /// `nft` has to be told that the key is in the host's order.
    pub host_order: bool,
}

/// Parts of a key that stand one behind the other: six bits of the number for each.
fn joined(types: &[Type]) -> (u32, u32) {
    let kind = types.iter().fold(0, |all, &it| all << 6 | it as u32);
    let length = match types {
        [one] => one.bytes(),
        several => several.iter().map(|it| it.padded()).sum(),
    };
    (kind, length)
}

/// A set with a key of these parts.
pub fn set(name: impl Into<SetName>, flags: SetFlags, key: &[Type], data: Data) -> Set {
    let (key_type, key_length) = joined(key);
    let host_order = matches!(key, [one] if one.is_host_ordered());
    let ranges = key.len() > 1 && flags.contains(SetFlags::Interval);
    let fields = if ranges { key.iter().map(|it| it.bytes()).collect() } else { Vec::new() };
    Set { name: name.into(), flags, key_type, key_length, fields, data, counted: false, size: 0, host_order }
}

/// All sets and maps. None is constant in the kernel's sense, for such a set cannot be emptied and filled again.
pub fn all(desired: &Desired) -> Vec<Set> {
    let none = SetFlags::empty();
    let mut sets = vec![
        set(DISCOVERY, none, &[Type::Icmpv6], Data::Nothing),
        set(INTERFACES, none, &[Type::Interface], Data::Nothing),
    ];
    for (index, address) in [Type::Ipv4, Type::Ipv6].into_iter().enumerate() {
        sets.extend(of_family(index, address));
    }
    for group in desired.groups() {
        sets.extend(of_group(group));
    }
    sets
}

/// The sets of a group of its own.
pub fn of_group(group: &Group) -> Vec<Set> {
    let Group::Isolated(name) = group else { return Vec::new() };
    let members = members(name);
    let types = [Type::Ipv4, Type::Ipv6];
    let sets = members.into_iter().zip(types).map(|(name, it)| set(name, SetFlags::empty(), &[it], Data::Nothing));
    sets.collect()
}

fn of_family(index: usize, address: Type) -> Vec<Set> {
    use Type::{Interface, Mark, Port, Protocol};
    let none = SetFlags::empty();
    let target = || {
        let (kind, length) = joined(&[address, Port]);
        Data::Value { kind, length }
    };
    let pair = [address, address, Protocol, Port];
    let ranges = SetFlags::Interval | SetFlags::Concat;
    vec![
        set(NETWORKS[index], SetFlags::Map, &[address], Data::Verdict),
        set(OPEN[index], none, &[address], Data::Nothing),
        set(SELVES[index], none, &[address, address], Data::Nothing),
        set(RANGES[index], SetFlags::Interval, &[address], Data::Nothing),
        set(HIDDEN[index], SetFlags::Interval, &[address], Data::Nothing),
        set(DIRECT[index], SetFlags::Interval, &[address], Data::Nothing),
        set(GATEWAYS[index], none, &[address], Data::Nothing),
        set(ADDRESSES[index], none, &[Interface, address], Data::Nothing),
        set(PORTS[index], SetFlags::Map, &[Protocol, Port], target()),
        set(PORTS_AT[index], SetFlags::Map, &[address, Protocol, Port], target()),
        set(PUBLISHED[index], none, &[Protocol, Port, address, Port], Data::Nothing),
        set(PUBLISHED_AT[index], none, &[address, Protocol, Port, address, Port], Data::Nothing),
        set(LINKS[index], none, &pair, Data::Nothing),
        Set { counted: true, ..set(USES[index], SetFlags::Expression, &pair, Data::Nothing) },
        set(ISOLATED_IN[index], none, &[address], Data::Nothing),
        set(ISOLATED_OUT[index], none, &[address], Data::Nothing),
        set(ALLOW_IN[index], ranges, &pair, Data::Nothing),
        set(ALLOW_OUT[index], ranges, &pair, Data::Nothing),
        set(SERVICES[index], none, &[address], Data::Nothing),
        set(SERVICE_PORTS[index], SetFlags::Map, &[address, Protocol, Port], Data::Verdict),
        set(ENDPOINTS[index], SetFlags::Map, &[address, Protocol, Port, Mark], target()),
        Set {
            size: MOST_CLIENTS,
            ..set(
                STICKY[index],
                SetFlags::Map | SetFlags::Timeout | SetFlags::Eval,
                &[address, Protocol, Port, address],
                target(),
            )
        },
    ]
}

/// The sets that say who is in an isolated network.
pub fn members(network: &str) -> [String; 2] {
    [format!("net_{network}.4"), format!("net_{network}.6")]
}

/// Where an element of a map leads to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Target {
    /// A chain.
    Goto(SetName),
    /// Bytes.
    Value(Vec<u8>),
}

/// An element of a set.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Element {
    pub set: SetName,
    pub key: Vec<u8>,
    /// The last key of a range of which each part is one.
    pub last: Option<Vec<u8>>,
    pub data: Option<Target>,
    /// The first key behind an interval.
    pub end: bool,
}

/// An element of a set that leads nowhere.
pub fn element(set: impl Into<SetName>, key: Vec<u8>) -> Element {
    Element { set: set.into(), key, last: None, data: None, end: false }
}

impl Element {
    /// The same that leads somewhere.
    pub fn to(self, target: Target) -> Self {
        Self { data: Some(target), ..self }
    }
}
