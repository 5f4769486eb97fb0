//! What the table is to hold.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;

use super::relations::Relations;
use crate::network::Kind;
use crate::network::ports::PortMapping;

/// All that the table holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Desired {
    /// The group of the links of the state directory's pods, and of its bridges (ip-link(8), group).
    pub links: u32,
    /// The networks that have, or may have, pods; the default one among them.
    pub networks: Vec<NetworkRules>,
    /// Destinations, besides the ranges, that see pods by their own addresses, and reach them by those.
    pub non_masquerade: Vec<IpNet>,
    /// Pods that reach each other without a link reach the node's own ports, too.
    pub reach_node: bool,
    /// The pods.
    pub pods: Vec<PodRules>,
    /// What they have to do with each other.
    pub relations: Relations,
}

impl Desired {
    /// The ranges that pods' addresses are from, of all networks.
    pub fn ranges(&self) -> impl Iterator<Item = &IpNet> {
        self.networks.iter().flat_map(|it| &it.ranges)
    }

    /// The node's addresses in them.
    pub fn gateways(&self) -> impl Iterator<Item = IpAddr> {
        self.networks.iter().flat_map(|it| it.gateways.iter().copied())
    }

    /// The groups that need a chain of their own.
    pub(super) fn groups(&self) -> BTreeSet<&Group> {
        self.pods.iter().map(|it| &it.group).filter(|it| matches!(it, Group::Isolated(_))).collect()
    }
}

/// Whom a pod of a network reaches by being in it. A network that is not known is nobody's but its pods'.
pub fn group(networks: &[NetworkRules], kind: &Kind) -> Group {
    match kind {
        Kind::Flat => Group::Open,
        Kind::Private => Group::Alone,
        Kind::Named(name) => match networks.iter().find(|it| it.name == *name) {
            Some(network) if !network.isolated => Group::Open,
            _ => Group::Isolated(name.clone()),
        },
    }
}

/// What the table knows of a network.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NetworkRules {
    /// Its name; empty is the default one, which flat and private pods have their addresses from.
    pub name: String,
    /// Its pods reach each other alone. The default one is not.
    pub isolated: bool,
    /// What leaves the node carries the node's address.
    pub masquerade: bool,
    /// The ranges of its pods' addresses, one of a family at most; no other network has any of them.
    pub ranges: Vec<IpNet>,
    /// The node's addresses in them.
    pub gateways: Vec<IpAddr>,
    /// The bridge that the links of its pods are ports of, if any. The hooks of IP see it in the place of the link, both
    /// ways: what the table knows of such a pod has to be known by its address. Which port sends from which address is
    /// seen to where the port is seen.
    pub bridge: Option<String>,
}

/// Pods that reach each other without a link. One that reaches others by its group is reached by them, and replies always
/// are let through.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Group {
    /// Flat pods and those of all networks that are not isolated.
    #[default]
    Open,
    /// Those of an isolated network.
    Isolated(String),
    /// Nobody: a private pod.
    Alone,
}

/// What the table knows of a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodRules {
    /// Whom it reaches, and is reached by, without a link.
    pub group: Group,
    /// The host's end of its link.
    pub interface: String,
    /// The bridge that its link is a port of: the one of its network.
    pub bridge: Option<String>,
    /// Its addresses: the only ones that it may send from.
    pub addresses: Vec<IpAddr>,
    /// Its published ports.
    pub ports: Vec<PortMapping>,
}
