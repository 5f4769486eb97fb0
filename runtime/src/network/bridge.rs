//! The bridge of a network, and the pods' links as its ports.
//!
//! Ports are isolated: what a pod sends reaches the host alone, which routes it. It goes out by the other pod's port itself and
//! not by the bridge: so every packet between two pods crosses the host's forward hook, whether or not the kernel also
//! shows bridged packets to its rules. Did it leave by the bridge that it came in by, a kernel that does (br_netfilter)
//! would take a packet with another destination than it had (DNAT) for one to be bridged, which an isolated port drops.
//! Nothing is learnt or flooded: who is behind a port is known.

use std::io;
use std::net::IpAddr;

use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::link::{
    BridgeStpState, InfoBridge, InfoBridgePort, InfoData, InfoKind, InfoPortData, InfoPortKind, LinkAttribute,
    LinkInfo, LinkMessage,
};
use rtnetlink::packet_route::neighbour::{NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState};
use rtnetlink::{LinkBridge, LinkMessageBuilder, LinkUnspec};
use sha2::{Digest as _, Sha256};

use super::rtnl::{Mode, Request};
use super::thread::Host;
use super::{GUARDED_PREFIX, PREFIX, sysctl, wire};

/// A bridge, as it shall be.
pub struct Bridge {
    /// Its name.
    pub name: String,
    /// What `ip link` shows beside it.
    pub alias: String,
    /// Whose it is.
    pub group: u32,
    /// The host's addresses on it.
    pub gateways: Vec<IpAddr>,
}

/// The name of a network's bridge.
pub fn name(group: u32, network: &str, isolated: bool) -> String {
    let prefix = if isolated { GUARDED_PREFIX } else { PREFIX };
    let digits: String = number(group, network).iter().map(|it| format!("{it:02x}")).collect();
    format!("{prefix}-{digits}")
}

/// Forty bits that are the network's.
fn number(group: u32, network: &str) -> [u8; 5] {
    let digest = Sha256::digest([&group.to_be_bytes(), network.as_bytes()].concat());
    std::array::from_fn(|it| digest[it])
}

/// Whether an interface is a bridge of ours.
pub fn is_ours(name: &str) -> bool {
    [PREFIX, GUARDED_PREFIX].iter().any(|prefix| {
        let rest = name.strip_prefix(prefix).and_then(|it| it.strip_prefix('-')).unwrap_or_default();
        rest.len() == 10 && rest.bytes().all(|it| it.is_ascii_hexdigit())
    })
}

/// The bridge's own hardware address: without one it would be that of the port that has the lowest, and change.
fn mac(name: &str) -> [u8; 6] {
    let digits = name.rsplit('-').next().unwrap_or_default();
    let digit = |at: usize| digits.get(at..at + 2).and_then(|it| u8::from_str_radix(it, 16).ok()).unwrap_or(0);
    [0x0a, digit(0), digit(2), digit(4), digit(6), digit(8)]
}

/// The bridge's own hardware address, by which its pods know the gateway.
pub fn gateway_mac(name: &str) -> [u8; 6] {
    mac(name)
}

/// Makes a bridge. One that is there already is taken as it is.
pub fn make(host: &mut Host, bridge: &Bridge) -> io::Result<()> {
    let name = &bridge.name;
    if !wire::exists(name) {
        host.rtnl.run(vec![create(bridge)])?;
    }
    let index = host.rtnl.index(name)?;
    wire::prepare(host, name, index, &bridge.gateways)?;
    // Answers leave by ports: of whoever asks for the strict way back (1) and this (2) the kernel takes the larger.
    sysctl::write(&format!("net.ipv4.conf.{name}.rp_filter"), "2")?;
    let mut up = LinkUnspec::new_with_index(index).up().build();
    let alias = &bridge.alias[..bridge.alias.floor_char_boundary(255)];
    up.attributes.push(LinkAttribute::IfAlias(alias.to_owned()));
    let mut requests = vec![Request::new(format!("bring up {name}"), Mode::Change, RouteNetlinkMessage::SetLink(up))];
    requests.extend(bridge.gateways.iter().map(|it| wire::address(name, index, *it, None)));
    host.rtnl.run(requests)
}

fn create(bridge: &Bridge) -> Request {
    let options = vec![
        InfoBridge::StpState(BridgeStpState::Disabled),
        InfoBridge::ForwardDelay(0),
        InfoBridge::MulticastSnooping(false),
    ];
    let message = LinkMessageBuilder::<LinkBridge>::new_with_info_kind(InfoKind::Bridge)
        .name(bridge.name.clone())
        .address(mac(&bridge.name).to_vec())
        .link_group(bridge.group)
        .set_info_data(InfoData::Bridge(options))
        .build();
    Request::new(format!("make the bridge {}", bridge.name), Mode::Create, RouteNetlinkMessage::NewLink(message))
}

/// Makes a link that is not up yet a port: first the settings, so that it is never one without them.
pub fn join(name: &str, index: u32, bridge: u32, pod: [u8; 6]) -> Vec<Request> {
    let controlled = LinkUnspec::new_with_index(index).controller(bridge).build();
    let mut settings = LinkMessage::default();
    settings.header.index = index;
    let port = vec![
        InfoBridgePort::Isolated(true),
        InfoBridgePort::Learning(false),
        InfoBridgePort::UnicastFlood(false),
        InfoBridgePort::MulticastFlood(false),
        InfoBridgePort::BroadcastFlood(false),
        InfoBridgePort::Guard(true),
    ];
    settings.attributes = vec![LinkAttribute::LinkInfo(vec![
        LinkInfo::PortKind(InfoPortKind::Bridge),
        LinkInfo::PortData(InfoPortData::BridgePort(port)),
    ])];
    vec![
        Request::new(format!("make {name} a port"), Mode::Change, RouteNetlinkMessage::SetLink(controlled)),
        Request::new(format!("isolate the port {name}"), Mode::Change, RouteNetlinkMessage::NewLink(settings)),
        behind(name, index, pod),
    ]
}

/// Who is behind a port.
fn behind(name: &str, index: u32, pod: [u8; 6]) -> Request {
    let mut message = NeighbourMessage::default();
    message.header.family = AddressFamily::Bridge;
    message.header.ifindex = index;
    message.header.state = NeighbourState::Noarp;
    message.header.flags = NeighbourFlags::Controller;
    message.attributes.push(NeighbourAttribute::LinkLayerAddress(pod.to_vec()));
    Request::new(format!("say who is behind {name}"), Mode::Replace, RouteNetlinkMessage::NewNeighbour(message))
}
