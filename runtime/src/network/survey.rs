//! What the host's networks are: which addresses are somebody's, and how large a packet may be.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;

use ipnet::IpNet;
use rtnetlink::packet_route::address::{AddressAttribute, AddressMessage};
use rtnetlink::packet_route::link::{LinkAttribute, LinkMessage};
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteType, RouteVia,
};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};

use super::rtnl::Rtnl;
use super::{GUARDED_PREFIX, PREFIX, PROTOCOL, SHAPER_PREFIX, bridge, sysctl};

/// Every machine has it: what a packet may be where nothing says otherwise.
const DEFAULT_MTU: u32 = 1500;

/// linux/rtnetlink.h: the table of the host's own addresses, which are looked at as addresses.
const RT_TABLE_LOCAL: u32 = 255;

/// How the names of pods' interfaces on the host begin.
const PREFIXES: [&str; 3] = [PREFIX, GUARDED_PREFIX, SHAPER_PREFIX];

/// Addresses that somebody uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    /// Which.
    pub range: IpNet,
    /// Who, in the words of an error.
    pub by: String,
}

/// A range that a Coracle has taken for its pods: an unreachable route of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Which.
    pub range: IpNet,
    /// Whose: the number of a state directory.
    pub group: u32,
}

/// The host as it is now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Survey {
    /// What is somebody's.
    pub taken: Vec<Taken>,
    /// What is somebody's behind a router.
    pub routed: Vec<Taken>,
    /// What is for the pods of a state directory.
    pub claims: Vec<Claim>,
    /// Pods can have IPv6 addresses.
    pub ipv6: bool,
    /// The largest packet on the way out.
    pub mtu: u32,
}

impl Survey {
    /// Who gives each node a range may have one router for all of them: what is narrower wins, so that a route which
    /// `given` is a part of does not stand against it.
    pub fn allow_part(&mut self, given: &[IpNet]) {
        self.routed.retain(|it| !given.iter().any(|part| it.range != *part && it.range.contains(part)));
    }
}

/// Whether IPv6 works here: the kernel has it and nobody has switched it off.
pub fn has_ipv6() -> bool {
    let off = |which: &str| sysctl::read(&format!("net.ipv6.conf.{which}.disable_ipv6"));
    off("all").as_deref() == Some("0") && off("default").as_deref() == Some("0")
}

/// Looks.
pub fn survey(rtnl: &mut Rtnl) -> io::Result<Survey> {
    let links = links(rtnl)?;
    let mut survey = Survey { ipv6: has_ipv6(), mtu: DEFAULT_MTU, ..Survey::default() };
    let name = |index: u32| links.get(&index).map_or_else(|| format!("interface {index}"), |it| it.name.clone());
    let mut way_out: Option<(bool, u32, u32)> = None;
    for message in rtnl.list(RouteNetlinkMessage::GetRoute(RouteMessage::default()))? {
        let RouteNetlinkMessage::NewRoute(message) = message else { continue };
        let Some(route) = Route::of(&message) else { continue };
        // The kernel's own routes to our gateways go with the link, which a pod that has just ended leaves for a moment.
        let outputs = || route.hops.iter().filter_map(|(output, _)| *output);
        let on_a_pods_link = outputs().any(|index| is_ours(&name(index)));
        if let (0, Some(output)) = (route.range.prefix_len(), outputs().next()) {
            // IPv4 first, then the smallest metric.
            let rank = (route.range.addr().is_ipv6(), route.metric, output);
            way_out = Some(way_out.map_or(rank, |it| it.min(rank)));
        } else if route.ours && route.unreachable {
            survey.claims.push(Claim { range: route.range, group: route.metric });
        } else if !route.ours && !on_a_pods_link && route.range.prefix_len() > 0 {
            let taken = if route.is_routed() { &mut survey.routed } else { &mut survey.taken };
            taken.push(Taken { range: route.range, by: route.words(&name) });
        }
    }
    if let Some(link) = way_out.and_then(|(_, _, index)| links.get(&index)) {
        survey.mtu = link.mtu;
    }
    for message in rtnl.list(RouteNetlinkMessage::GetAddress(AddressMessage::default()))? {
        let RouteNetlinkMessage::NewAddress(message) = message else { continue };
        let name = name(message.header.index);
        if is_ours(&name) || name == "lo" {
            continue;
        }
        for attribute in &message.attributes {
            // The two differ where the other end of a link has an address of its own.
            let (AddressAttribute::Address(address) | AddressAttribute::Local(address)) = attribute else { continue };
            let Ok(range) = IpNet::new(*address, message.header.prefix_len) else { continue };
            survey.taken.push(Taken { range: range.trunc(), by: format!("the address {range} of {name}") });
        }
    }
    survey.taken.extend(name_servers());
    Ok(survey)
}

/// The host's own addresses: what it takes for itself.
pub fn local(rtnl: &mut Rtnl) -> io::Result<Vec<IpNet>> {
    let routes = rtnl.list(RouteNetlinkMessage::GetRoute(RouteMessage::default()))?.into_iter();
    let of = |message| match message {
        RouteNetlinkMessage::NewRoute(it) if it.header.kind == RouteType::Local => range_of(&it),
        _ => None,
    };
    Ok(routes.filter_map(of).collect())
}

/// Where a route leads to; of other families than those of IP `None`.
fn range_of(message: &RouteMessage) -> Option<IpNet> {
    let mut destination: IpAddr = match message.header.address_family {
        AddressFamily::Inet => std::net::Ipv4Addr::UNSPECIFIED.into(),
        AddressFamily::Inet6 => std::net::Ipv6Addr::UNSPECIFIED.into(),
        _ => return None,
    };
    for attribute in &message.attributes {
        if let RouteAttribute::Destination(it) = attribute {
            destination = plain(it)?;
        }
    }
    Some(IpNet::new(destination, message.header.destination_prefix_length).ok()?.trunc())
}

/// Whether an interface is a pod's, or a bridge of ours.
pub fn is_ours(name: &str) -> bool {
    bridge::is_ours(name) || PREFIXES.iter().any(|it| name.strip_prefix(it).is_some_and(is_short_id))
}

/// Whether it is what follows in the names of pods' interfaces.
fn is_short_id(text: &str) -> bool {
    text.len() == 11 && text.bytes().all(|it| it.is_ascii_hexdigit())
}

/// What the interfaces of a sandbox on the host may be called.
pub fn names(id: &str) -> [String; 3] {
    let short = id.get(..11).unwrap_or(id);
    PREFIXES.map(|it| format!("{it}{short}"))
}

/// An interface of the host.
#[derive(Clone, Debug)]
pub struct HostLink {
    /// Its name.
    pub name: String,
    /// The largest packet.
    pub mtu: u32,
    /// Its group: a state directory's number for a pod's link.
    pub group: u32,
}

/// All interfaces by index.
pub fn links(rtnl: &mut Rtnl) -> io::Result<BTreeMap<u32, HostLink>> {
    let mut links = BTreeMap::new();
    for message in rtnl.list(RouteNetlinkMessage::GetLink(LinkMessage::default()))? {
        let RouteNetlinkMessage::NewLink(message) = message else { continue };
        let mut link = HostLink { name: String::new(), mtu: DEFAULT_MTU, group: 0 };
        for attribute in message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => link.name = name,
                LinkAttribute::Mtu(mtu) => link.mtu = mtu,
                LinkAttribute::Group(group) => link.group = group,
                _ => {}
            }
        }
        links.insert(message.header.index, link);
    }
    Ok(links)
}

struct Route {
    range: IpNet,
    /// The next hops: by which interface, by which router.
    hops: Vec<(Option<u32>, Option<IpAddr>)>,
    metric: u32,
    ours: bool,
    unreachable: bool,
}

impl Route {
    /// `None` for a route that says nothing of who uses which addresses.
    fn of(message: &RouteMessage) -> Option<Self> {
        let header = &message.header;
        let mut table = u32::from(header.table);
        let mut route = Self {
            range: range_of(message)?,
            hops: Vec::new(),
            metric: 0,
            ours: header.protocol == RouteProtocol::from(PROTOCOL),
            unreachable: header.kind == RouteType::Unreachable,
        };
        let mut only = (None, gateway(&message.attributes));
        for attribute in &message.attributes {
            match attribute {
                RouteAttribute::Oif(index) => only.0 = Some(*index),
                RouteAttribute::MultiPath(hops) => {
                    route.hops.extend(hops.iter().map(|it| (Some(it.interface_index), gateway(&it.attributes))));
                }
                RouteAttribute::Priority(metric) => route.metric = *metric,
                RouteAttribute::Table(id) => table = *id,
                _ => {}
            }
        }
        if route.hops.is_empty() {
            route.hops.push(only);
        }
        let main = table == u32::from(RouteHeader::RT_TABLE_MAIN);
        // Link-local and multicast routes are on every interface and nobody's.
        let common = match route.range.addr() {
            IpAddr::V6(it) => it.is_unicast_link_local() || it.is_multicast(),
            IpAddr::V4(it) => it.is_multicast(),
        };
        let default_elsewhere = route.range.prefix_len() == 0 && !main;
        (table != RT_TABLE_LOCAL && !common && !default_elsewhere).then_some(route)
    }

    /// Whether all that goes there goes to routers.
    fn is_routed(&self) -> bool {
        self.hops.iter().all(|(_, gateway)| gateway.is_some())
    }

    fn words(&self, name: &impl Fn(u32) -> String) -> String {
        let mut words = format!("the route {}", self.range);
        for (index, (output, gateway)) in self.hops.iter().enumerate() {
            words.push_str(if index > 0 { " and" } else { "" });
            words.extend(gateway.map(|it| format!(" via {it}")));
            words.extend(output.map(|it| format!(" on {}", name(it))));
        }
        words
    }
}

/// The router of a next hop, which may be of the other family (RFC 5549).
fn gateway(attributes: &[RouteAttribute]) -> Option<IpAddr> {
    attributes.iter().find_map(|it| match it {
        RouteAttribute::Gateway(it) => plain(it),
        RouteAttribute::Via(RouteVia::Inet(it)) => Some((*it).into()),
        RouteAttribute::Via(RouteVia::Inet6(it)) => Some((*it).into()),
        _ => None,
    })
}

fn plain(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(it) => Some((*it).into()),
        RouteAddress::Inet6(it) => Some((*it).into()),
        _ => None,
    }
}

/// The name servers that pods will be told of.
fn name_servers() -> Vec<Taken> {
    let mut taken = Vec::new();
    for file in ["/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"] {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        for server in text.lines().filter_map(crate::resolver::server) {
            let known = taken.iter().any(|it: &Taken| it.range.addr() == server);
            if !known && !server.is_loopback() {
                taken.push(Taken { range: server.into(), by: format!("the name server {server} of {file}") });
            }
        }
    }
    taken
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
