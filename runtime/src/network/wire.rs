//! A pod's link: a veth whose one end is in the pod, with the addresses, routes and neighbours of both ends.
//!
//! Routed, not bridged: the pod has its address alone and a route to the gateway, the host a route to the pod. So every
//! packet between two pods crosses the host's forward hook. That holds where the host's end is the port of a bridge, too:
//! what the pod sends comes in by the bridge, what it gets goes out by the port.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};

use rtnetlink::packet_route::address::{AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage};
use rtnetlink::packet_route::link::{
    AfSpecInet6, AfSpecUnspec, In6AddrGenMode, InfoData, InfoKind, InfoVeth, LinkAttribute, LinkMessage,
};
use rtnetlink::packet_route::neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState};
use rtnetlink::packet_route::route::{RouteAttribute, RouteProtocol, RouteScope, RouteType};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::{LinkMessageBuilder, LinkUnspec, LinkVeth, RouteMessageBuilder};

use super::bandwidth::{self, Bandwidth};
use super::ranges::Ranges;
use super::rtnl::{Mode, Request};
use super::thread::Host;
use super::{PROTOCOL, bridge, sysctl};

/// The interface's name in the pod.
const INSIDE: &str = "eth0";

/// A pod's link, as it shall be.
pub struct Link {
    /// The host's end.
    pub name: String,
    /// What `ip link` shows beside it.
    pub alias: String,
    /// Whose it is: the group of all links of one state directory.
    pub group: u32,
    /// The pod's network namespace.
    pub namespace: OwnedFd,
    /// Largest packet.
    pub mtu: u32,
    /// The pod's addresses.
    pub addresses: Vec<IpAddr>,
    /// The host's addresses on this link, one of each family of `addresses`.
    pub gateways: Vec<IpAddr>,
    /// Hardware addresses: the host's end, the pod's end.
    pub macs: [[u8; 6]; 2],
    /// The bridge that it is a port of.
    pub bridge: Option<Port>,
    /// The interface to slow down by what the pod sends.
    pub shaper: String,
    /// How much may go over it.
    pub bandwidth: Bandwidth,
}

/// A port of a bridge.
pub struct Port {
    /// The bridge.
    pub bridge: String,
    /// The ranges of all who are on it.
    pub ranges: Ranges,
}

impl Link {
    /// The hardware address by which the pod knows the host.
    fn gateway_mac(&self) -> [u8; 6] {
        self.bridge.as_ref().map_or(self.macs[0], |it| bridge::gateway_mac(&it.bridge))
    }
}

/// Makes the link. After a failure nothing needs to be undone but the namespace to be dropped, with which it ends; an
/// interface to slow it down by goes with what is left of the sandbox.
pub fn connect(host: &mut Host, link: &Link) -> io::Result<()> {
    host.rtnl.run(vec![create(link)])?;
    let outside = host.rtnl.index(&link.name)?;
    prepare(host, &link.name, outside, &link.addresses)?;
    if let Some(port) = &link.bridge {
        let bridge = host.rtnl.index(&port.bridge)?;
        host.rtnl.run(bridge::join(&link.name, outside, bridge, link.macs[1]))?;
    }
    bandwidth::limit(host, link, outside)?;
    let mut pod = host.open_in(link.namespace.as_fd())?;
    let inside = pod.index(INSIDE)?;
    pod.run(pod_side(link, inside))?;
    host.rtnl.run(host_side(link, outside))
}

/// The pair in one request: the peer is born in the pod.
fn create(link: &Link) -> Request {
    let [outside, inside] = link.macs;
    let peer = LinkUnspec::new_with_name(INSIDE)
        .mtu(link.mtu)
        .address(inside.to_vec())
        .setns_by_fd(link.namespace.as_raw_fd())
        .build();
    let message = LinkMessageBuilder::<LinkVeth>::new_with_info_kind(InfoKind::Veth)
        .name(link.name.clone())
        .mtu(link.mtu)
        .address(outside.to_vec())
        .link_group(link.group)
        .set_info_data(InfoData::Veth(InfoVeth::Peer(peer)))
        .build();
    request(format!("make the link {}", link.name), Mode::Create, RouteNetlinkMessage::NewLink(message))
}

/// What has to hold of the host's end before a packet can arrive on it.
pub fn prepare(host: &mut Host, name: &str, index: u32, addresses: &[IpAddr]) -> io::Result<()> {
    if addresses.iter().any(IpAddr::is_ipv4) {
        // The answers to connections to 127.0.0.1:hostPort come back here. Strangers' 127/8 is dropped by our rules.
        sysctl::write(&format!("net.ipv4.conf.{name}.route_localnet"), "1")?;
    }
    if sysctl::read(&format!("net.ipv6.conf.{name}.accept_ra")).is_some() {
        // A pod must not tell the host where its router is.
        sysctl::write(&format!("net.ipv6.conf.{name}.accept_ra"), "0")?;
        host.rtnl.run(vec![without_own_address(name, index)])?;
    }
    Ok(())
}

/// No link-local address of its own: it would be announced and checked for duplicates, and nothing uses it. Not by the
/// sysctl, whose writers do not wait for the lock on the host's links but try again and again.
fn without_own_address(name: &str, index: u32) -> Request {
    let mut message = LinkUnspec::new_with_index(index).build();
    let none = AfSpecInet6::AddrGenMode(In6AddrGenMode::None);
    message.attributes.push(LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet6(vec![none])]));
    request(format!("leave {name} without an address of its own"), Mode::Change, RouteNetlinkMessage::SetLink(message))
}

fn host_side(link: &Link, index: u32) -> Vec<Request> {
    let name = &link.name;
    let mut up = LinkUnspec::new_with_index(index).up().build();
    // The kernel takes no more than 255 bytes.
    let alias = &link.alias[..link.alias.floor_char_boundary(255)];
    up.attributes.push(LinkAttribute::IfAlias(alias.to_owned()));
    let mut requests = vec![request(format!("bring up {name}"), Mode::Change, RouteNetlinkMessage::SetLink(up))];
    for gateway in &link.gateways {
        requests.push(address(name, index, *gateway, None));
    }
    for to in &link.addresses {
        requests.push(neighbour(name, index, *to, link.macs[1]));
        requests.push(route(name, index, Some(*to), None));
    }
    requests
}

/// Removes an interface. One that is not there is success.
pub fn remove(host: &mut Host, name: &str) -> io::Result<()> {
    if !exists(name) {
        return Ok(());
    }
    let mut message = LinkMessage::default();
    message.header.index = host.rtnl.index(name)?;
    let what = format!("remove the interface {name}");
    host.rtnl.run(vec![request(what, Mode::Change, RouteNetlinkMessage::DelLink(message))])
}

fn pod_side(link: &Link, index: u32) -> Vec<Request> {
    let up: LinkMessage = LinkUnspec::new_with_index(index).up().build();
    let mut requests = vec![request("bring up the pod's eth0".into(), Mode::Change, RouteNetlinkMessage::SetLink(up))];
    for it in &link.addresses {
        let range =
            link.bridge.as_ref().and_then(|port| port.ranges.all().into_iter().find(|range| range.contains(it)));
        requests.push(address(INSIDE, index, *it, range.map(|it| it.prefix_len())));
    }
    for gateway in &link.gateways {
        requests.push(neighbour(INSIDE, index, *gateway, link.gateway_mac()));
        requests.push(route(INSIDE, index, Some(*gateway), None));
        requests.push(route(INSIDE, index, None, Some(*gateway)));
    }
    requests
}

fn request(what: String, mode: Mode, message: RouteNetlinkMessage) -> Request {
    Request::new(what, mode, message)
}

fn family(address: IpAddr) -> AddressFamily {
    if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 }
}

fn whole(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// The address alone, without a route to others of its `prefix`: they are behind the gateway. No check for duplicates:
/// nobody else is on the link, and it would take a second.
pub fn address(name: &str, index: u32, address: IpAddr, prefix: Option<u8>) -> Request {
    let mut message = AddressMessage::default();
    message.header.family = family(address);
    message.header.prefix_len = prefix.unwrap_or_else(|| whole(address));
    message.header.index = index;
    let mut flags = AddressFlags::empty();
    if prefix.is_some() {
        flags |= AddressFlags::Noprefixroute;
    }
    if address.is_ipv6() {
        message.header.flags = AddressHeaderFlags::Nodad;
        flags |= AddressFlags::Nodad;
    }
    if !flags.is_empty() {
        message.attributes.push(AddressAttribute::Flags(flags));
    }
    message.attributes.push(AddressAttribute::Address(address));
    message.attributes.push(AddressAttribute::Local(address));
    let what = format!("give {name} the address {address}");
    request(what, Mode::Replace, RouteNetlinkMessage::NewAddress(message))
}

/// Who is at the other end is known: nobody has to ask.
fn neighbour(name: &str, index: u32, to: IpAddr, mac: [u8; 6]) -> Request {
    let mut message = NeighbourMessage::default();
    message.header.family = family(to);
    message.header.ifindex = index;
    message.header.state = NeighbourState::Permanent;
    message.header.kind = RouteType::Unicast;
    let destination = match to {
        IpAddr::V4(to) => NeighbourAddress::Inet(to),
        IpAddr::V6(to) => NeighbourAddress::Inet6(to),
    };
    message.attributes.push(NeighbourAttribute::Destination(destination));
    message.attributes.push(NeighbourAttribute::LinkLayerAddress(mac.to_vec()));
    let what = format!("set the neighbour {to} on {name}");
    request(what, Mode::Replace, RouteNetlinkMessage::NewNeighbour(message))
}

/// A route to one address, or, without it, the default route.
///
/// No preferred source: the kernel chooses the link's own address without it, and with it would drop such a route of
/// every pod when the link of one goes (in IPv4, for the address that is on all links).
fn route(name: &str, index: u32, to: Option<IpAddr>, gateway: Option<IpAddr>) -> Request {
    let what = match to {
        Some(to) => format!("set the route to {to} on {name}"),
        None => format!("set the default route on {name}"),
    };
    let scope = if gateway.is_some() { RouteScope::Universe } else { RouteScope::Link };
    let mut builder = RouteMessageBuilder::<std::net::Ipv4Addr>::new()
        .output_interface(index)
        .protocol(RouteProtocol::from(PROTOCOL))
        .scope(scope);
    let message = builder.get_mut();
    if let Some(address) = to.or(gateway) {
        message.header.address_family = family(address);
    }
    if let Some(to) = to {
        message.header.destination_prefix_length = whole(to);
        message.attributes.push(RouteAttribute::Destination(to.into()));
    }
    if let Some(gateway) = gateway {
        message.attributes.push(RouteAttribute::Gateway(gateway.into()));
    }
    request(what, Mode::Replace, RouteNetlinkMessage::NewRoute(builder.build()))
}

/// Whether the host has an interface of this name.
pub fn exists(name: &str) -> bool {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, netdevice::name_to_index, socket_with};
    let socket = socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None);
    socket.is_ok_and(|it| name_to_index(&it, name).is_ok())
}
