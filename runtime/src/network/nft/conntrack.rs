//! Connections that the kernel remembers the wrong way.
//!
//! A tracked connection keeps the translation that its first packet got. With UDP a client that goes on sending keeps it
//! for ever: to a pod that is gone, or to the node itself from the time before the port was published.

use std::collections::BTreeSet;
use std::net::IpAddr;

use netlink_packet_core::{DefaultNla, Emitable, Nla as _};
use netlink_packet_netfilter::conntrack::{ConntrackAttribute, ConntrackMessage, IPTuple, ProtoTuple, Protocol, Tuple};
use netlink_packet_netfilter::{NetfilterMessageInner, NetfilterProtoFamily, NetfilterSubsystem};

use super::error::{During as _, Error, Result};
use super::relations::Pair;
use super::socket::{Change, Socket};
use crate::network::ports::{self, PortMapping};
use crate::network::rtnl::Rtnl;
use crate::network::survey;

// linux/netfilter/nfnetlink_conntrack.h.
const IPCTNL_MSG_CT_GET: u8 = 1;
const CTA_TUPLE_ORIG: u16 = 1;
const CTA_ID: u16 = 12;
const CTA_ZONE: u16 = 18;
const CTA_FILTER: u16 = 25;
const CTA_FILTER_ORIG_FLAGS: u16 = 1;
/// The protocol is compared: the bit of CTA_PROTO_NUM in those flags.
const BY_PROTOCOL: u32 = 1 << 3;
/// linux/netfilter/nf_conntrack_common.h.
const IPS_DST_NAT: u32 = 1 << 5;

const UDP: u8 = 17;

const NESTED: u16 = libc::NLA_F_NESTED as u16;

/// Deletes every UDP connection that leads to one of these addresses.
pub fn forget_targets(socket: &mut Socket, addresses: &[IpAddr]) -> Result<()> {
    delete(socket, UDP, addresses, |entry| entry.target.is_some_and(|it| addresses.contains(&it)))
}

/// Deletes every UDP connection to one of these ports of the host that leads to no pod. What goes to the same port of others
/// stays: an answer that is on its way would not be known for one.
pub fn forget_unpublished(socket: &mut Socket, ports: &[u16], addresses: &[IpAddr]) -> Result<()> {
    let own = Rtnl::open().and_then(|mut rtnl| survey::local(&mut rtnl)).during("list the host's own addresses")?;
    let is_own = |it: IpAddr| own.iter().any(|range| range.contains(&it));
    delete(socket, UDP, addresses, |entry| {
        !entry.redirected && entry.port.is_some_and(|it| ports.contains(&it)) && entry.asked.is_some_and(is_own)
    })
}

/// Deletes the connections from some addresses to others and their ports, of whatever protocol.
pub fn forget_pairs(socket: &mut Socket, pairs: &BTreeSet<Pair>) -> Result<()> {
    let protocols: BTreeSet<u8> = pairs.iter().map(|(_, _, protocol, _)| protocol.number()).collect();
    all(protocols.into_iter().map(|number| {
        let of_protocol: BTreeSet<(IpAddr, IpAddr, u16)> =
            pairs.iter().filter(|it| it.2.number() == number).map(|it| (it.0, it.1, it.3)).collect();
        let addresses: Vec<IpAddr> = of_protocol.iter().map(|it| it.1).collect();
        let wanted = |entry: &Entry| {
            let Entry { client: Some(client), target: Some(target), target_port: Some(port), .. } = *entry else {
                return false;
            };
            of_protocol.contains(&(client, target, port))
        };
        delete(socket, number, &addresses, wanted)
    }))
}

/// Does everything, whatever becomes of a part of it; what went wrong first.
pub fn all(parts: impl IntoIterator<Item = Result<()>>) -> Result<()> {
    let mut first = Ok(());
    for outcome in parts {
        first = first.and(outcome);
    }
    first
}

/// Deletes the connections by UDP and SCTP to these ports of services' addresses that lead to nobody of theirs.
pub fn forget_misled(socket: &mut Socket, services: &[Lead]) -> Result<()> {
    all([ports::Protocol::Udp, ports::Protocol::Sctp].into_iter().map(|protocol| {
        let mine: Vec<&Lead> = services.iter().filter(|it| it.protocol == protocol).collect();
        let addresses: Vec<IpAddr> = mine.iter().map(|it| it.address).collect();
        let wanted = |entry: &Entry| {
            let (Some(asked), Some(port)) = (entry.asked, entry.port) else { return false };
            let answerer = entry.target.zip(entry.target_port);
            let misled = |it: &&&Lead| !answerer.is_some_and(|to| it.to.contains(&to));
            mine.iter().filter(|it| it.address == asked && it.port == port).any(|it| misled(&it))
        };
        delete(socket, protocol.number(), &addresses, wanted)
    }))
}

/// Where a service's address leads.
#[derive(Debug)]
pub struct Lead {
    pub address: IpAddr,
    pub protocol: ports::Protocol,
    pub port: u16,
    pub to: BTreeSet<(IpAddr, u16)>,
}

/// The host's ports of those that are UDP's.
pub fn udp_ports<'a>(ports: impl Iterator<Item = &'a PortMapping>) -> Vec<u16> {
    ports.filter(|it| it.protocol == ports::Protocol::Udp).map(|it| it.host_port).collect()
}

/// Asks for the connections of a family and a protocol. The library's own type for it would lose that the filter is nested, which
/// the kernel insists on.
fn request(family: NetfilterProtoFamily, protocol: u8) -> Change {
    let tuple = Tuple::Proto(vec![ProtoTuple::Protocol(Protocol::from(protocol))]);
    let flags = DefaultNla::new(CTA_FILTER_ORIG_FLAGS, BY_PROTOCOL.to_ne_bytes().to_vec());
    let attributes = vec![
        DefaultNla::new(CTA_TUPLE_ORIG | NESTED, bytes(&tuple)),
        DefaultNla::new(CTA_FILTER | NESTED, bytes(&flags)),
    ];
    let subsys = NetfilterSubsystem::Conntrack;
    let message = NetfilterMessageInner::Other { subsys, message_type: IPCTNL_MSG_CT_GET, attributes };
    Change { object: "list tracked connections".to_owned(), flags: 0, family, message }
}

fn bytes(attribute: &impl Emitable) -> Vec<u8> {
    let mut bytes = vec![0; attribute.buffer_len()];
    attribute.emit(&mut bytes);
    bytes
}

/// A connection that the kernel told of.
#[derive(Default)]
struct Entry {
    /// The port that the first packet went to.
    port: Option<u16>,
    /// The address that it went to.
    asked: Option<IpAddr>,
    /// Where it came from.
    client: Option<IpAddr>,
    /// Who answers.
    target: Option<IpAddr>,
    /// From which port.
    target_port: Option<u16>,
    /// Its destination was changed.
    redirected: bool,
    /// What names it.
    key: Vec<ConntrackAttribute>,
}

fn entry(attributes: Vec<ConntrackAttribute>) -> Entry {
    let mut entry = Entry::default();
    for attribute in attributes {
        match attribute {
            ConntrackAttribute::CtaTupleOrig(ref tuples) => {
                entry.port = tuples.iter().find_map(destination_port);
                entry.asked = tuples.iter().find_map(destination);
                entry.client = tuples.iter().find_map(source);
                entry.key.push(attribute);
            }
            ConntrackAttribute::CtaTupleReply(tuples) => {
                entry.target = tuples.iter().find_map(source);
                entry.target_port = tuples.iter().find_map(source_port);
            }
            ConntrackAttribute::CtaStatus(status) => entry.redirected = status.bits() & IPS_DST_NAT != 0,
            ConntrackAttribute::Other(ref other) if [CTA_ID, CTA_ZONE].contains(&other.kind()) => {
                entry.key.push(attribute);
            }
            _ => {}
        }
    }
    entry
}

fn destination_port(tuple: &Tuple) -> Option<u16> {
    let Tuple::Proto(parts) = tuple else { return None };
    parts.iter().find_map(|it| if let ProtoTuple::DestinationPort(port) = it { Some(*port) } else { None })
}

fn source_port(tuple: &Tuple) -> Option<u16> {
    let Tuple::Proto(parts) = tuple else { return None };
    parts.iter().find_map(|it| if let ProtoTuple::SourcePort(port) = it { Some(*port) } else { None })
}

fn destination(tuple: &Tuple) -> Option<IpAddr> {
    let Tuple::Ip(parts) = tuple else { return None };
    parts.iter().find_map(|it| if let IPTuple::DestinationAddress(address) = it { Some(*address) } else { None })
}

fn source(tuple: &Tuple) -> Option<IpAddr> {
    let Tuple::Ip(parts) = tuple else { return None };
    parts.iter().find_map(|it| if let IPTuple::SourceAddress(address) = it { Some(*address) } else { None })
}

/// Deletes what is wanted, among those of the addresses' families.
fn delete(socket: &mut Socket, protocol: u8, addresses: &[IpAddr], wanted: impl Fn(&Entry) -> bool) -> Result<()> {
    let families = [(NetfilterProtoFamily::IPv4, false), (NetfilterProtoFamily::IPv6, true)];
    let families = families.into_iter().filter(|(_, six)| addresses.iter().any(|it| it.is_ipv6() == *six));
    all(families.map(|(family, _)| {
        let mut found = Vec::new();
        socket.dump(&request(family, protocol), |message| {
            let NetfilterMessageInner::Conntrack(ConntrackMessage::New(attributes)) = message else { return };
            let entry = entry(attributes);
            if wanted(&entry) {
                found.push(entry.key);
            }
        })?;
        all(found.into_iter().map(|key| delete_one(socket, family, key)))
    }))
}

fn delete_one(socket: &mut Socket, family: NetfilterProtoFamily, key: Vec<ConntrackAttribute>) -> Result<()> {
    let object = "delete a tracked connection".to_owned();
    let request = Change { object, flags: 0, family, message: ConntrackMessage::Delete(key).into() };
    match socket.request(&request) {
        // It ended by itself, or another one is in its place.
        Err(Error::Refused { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
