//! The table of the family `bridge`: what may come in by the ports of networks' bridges.
//!
//! The rules of IP see the bridge in the place of the port, and so cannot tell its pods apart but by their addresses. That
//! nobody uses those of another is seen to here, where the port is still seen.

use std::net::IpAddr;

use netlink_packet_netfilter::nftables::{InetHookNumber, NfTablesMessage, SetFlags, TableAttribute};
use netlink_packet_netfilter::{NetfilterMessageInner, NetfilterProtoFamily};

use super::expression::{Family, Rule, interface_key};
use super::message::{self, Base};
use super::sets::{Data, Element, Set, Type, element, set};
use super::socket::{Change, Socket};
use super::{Error, Result};

/// Ports.
const PORTS: &str = "ports";
/// What a port's pod has: its hardware address and an address of it.
const PODS: [&str; 2] = ["pods4", "pods6"];
/// linux/netfilter_bridge.h, NF_BR_PRI_*: before bridged packets are shown to the rules of IP.
const PRIORITY: i32 = -300;

/// linux/if_ether.h.
const ETH_P_ARP: u16 = 0x0806;

/// A pod on a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// The port.
    pub interface: String,
    /// The pod's hardware address.
    pub mac: [u8; 6],
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
}

/// The table that goes with the one of this name. Nothing is made yet.
pub struct Ports {
    table: String,
}

impl Ports {
    /// The table of this name.
    pub fn new(table: &str) -> Self {
        Self { table: table.to_owned() }
    }

    /// Makes the table what it should be, whatever it was; without ports there is none. Every packet meets either the old
    /// rules or the new ones.
    pub fn replace(&self, ports: &[Port]) -> Result<()> {
        let table = &self.table;
        if ports.is_empty() && !self.exists()? {
            return Ok(());
        }
        let mut changes = vec![message::add_table(table), message::delete_table(table)];
        if !ports.is_empty() {
            changes.push(message::add_table(table));
            changes.extend(sets().iter().zip(1..).map(|(set, id)| message::add_set(table, id, set)));
            for (name, base, rules) in chains() {
                changes.push(message::add_chain(table, name, base));
                let rules = rules.into_iter().enumerate();
                changes.extend(rules.map(|(number, rule)| message::add_rule(table, name, number + 1, rule)));
            }
            let elements: Vec<Element> = ports.iter().flat_map(elements).collect();
            changes.extend(message::add_elements(table, &elements.iter().collect::<Vec<_>>()));
        }
        Socket::open()?.batch(&bridged(changes))
    }

    /// Adds a pod; fails where there is no table.
    pub fn add(&self, port: &Port) -> Result<()> {
        let elements = elements(port);
        let elements: Vec<&Element> = elements.iter().collect();
        Socket::open()?.batch(&bridged(message::add_elements(&self.table, &elements)))
    }

    /// Removes a pod; fails where it is not there.
    pub fn remove(&self, port: &Port) -> Result<()> {
        let elements = elements(port);
        let elements: Vec<&Element> = elements.iter().collect();
        Socket::open()?.batch(&bridged(message::delete_elements(&self.table, &elements)))
    }

    /// A kernel that knows no such family has no table of it.
    fn exists(&self) -> Result<bool> {
        let mut found = false;
        let tables = bridged(vec![message::tables()]);
        let listed = tables.iter().try_for_each(|it| {
            Socket::open()?.dump(it, |message| {
                let NetfilterMessageInner::NfTables(NfTablesMessage::NewTable(table)) = message else { return };
                found |= table.attributes.contains(&TableAttribute::Name(self.table.clone()));
            })
        });
        match listed {
            Err(Error::Refused { ref source, .. }) if source.raw_os_error() == Some(libc::EOPNOTSUPP) => Ok(false),
            other => other.map(|()| found),
        }
    }
}

fn bridged(changes: Vec<Change>) -> Vec<Change> {
    let bridged = |it: Change| Change { family: NetfilterProtoFamily::Bridge, ..it };
    changes.into_iter().map(bridged).collect()
}

fn sets() -> [Set; 3] {
    let none = SetFlags::empty;
    let pods =
        |index: usize, address| set(PODS[index], none(), &[Type::Interface, Type::Ethernet, address], Data::Nothing);
    [set(PORTS, none(), &[Type::Interface], Data::Nothing), pods(0, Type::Ipv4), pods(1, Type::Ipv6)]
}

fn chains() -> Vec<(&'static str, Option<Base>, Vec<Rule>)> {
    let guard = ("filter", InetHookNumber::PreRouting, PRIORITY);
    let from_port = vec![
        Rule::new().port_sender_in(Family::V4, PODS[0]).accept(),
        Rule::new().port_sender_in(Family::V6, PODS[1]).accept(),
        // Nobody learns from it: whom the node and its pods reach where is known to them.
        Rule::new().ethernet_protocol(ETH_P_ARP).accept(),
        Rule::new().count().drop(),
    ];
    vec![("from_port", None, from_port), ("guard", Some(guard), vec![Rule::new().iifname_in(PORTS).goto("from_port")])]
}

fn elements(port: &Port) -> Vec<Element> {
    let name = interface_key(&port.interface);
    let mut elements = vec![element(PORTS, name.clone())];
    for address in &port.addresses {
        let mut key = name.clone();
        key.extend(port.mac);
        key.extend([0, 0]);
        match address {
            IpAddr::V4(it) => key.extend(it.octets()),
            IpAddr::V6(it) => key.extend(it.octets()),
        }
        elements.push(element(PODS[usize::from(address.is_ipv6())], key));
    }
    elements
}
