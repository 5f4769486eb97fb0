//! Bringing a state directory's network up, and down again once nothing uses it.
//!
//! Up: ranges are chosen and claimed by unreachable routes, so that others see them and stray packets stay here; sysctls
//! are set, after what they were is written down; the rules are loaded. Each step is done again without harm, and the
//! record says "up" only after the last. Named networks come on top of it ([`named`]).

use std::os::fd::AsFd as _;

use ipnet::IpNet;
use rtnetlink::packet_route::route::{RouteAttribute, RouteMessage, RouteProtocol, RouteType};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};
use rustix::fs::FlockOperation;

use super::leases::{Change, flock};
use super::pool::Use;
use super::ranges::{self, Ranges};
use super::rtnl::{Mode, Request, Rtnl};
use super::state::Locked;
use super::survey::{Claim, links, survey};
use super::thread::open_own;
use super::{Network, PROTOCOL, bridge, error, forwarding, named, wire};
use crate::core::Core;
use crate::error::{During as _, Result};

/// Makes sure that pods can be connected.
pub fn up(core: &Core, locked: &mut Locked) -> Result<()> {
    let network = &core.network;
    let mut wanted = ranges::wanted(&network.options.pod_cidrs)?;
    let suggested = ranges::wanted(&network.suggested())?.filter(|_| wanted.is_none());
    if locked.shared.up && suggested.is_some_and(|it| it != locked.shared.ranges) && is_empty(locked)? {
        down(network, locked)?;
    }
    if locked.shared.up {
        compatible(wanted, locked.shared.ranges)?;
        return same_destinations(network.options.non_masquerade(), &locked.shared.non_masquerade);
    }
    let durable = network.book.read().during(|| "read the leases of addresses".into())?;
    let given = suggested.or(durable.given.then_some(durable.ranges)).filter(|_| wanted.is_none());
    wanted = wanted.or(suggested);
    let before = if locked.shared.ranges == Ranges::default() { durable.ranges } else { locked.shared.ranges };
    // Two state directories of one host must not choose the same: this lock is the network namespace's.
    let host = open_own().during(|| "open the host's network namespace".into())?;
    flock(host.as_fd(), FlockOperation::LockExclusive).during(|| "lock the host's network namespace".into())?;
    let mut survey = network.run(|host| survey(&mut host.rtnl)).during(|| "look at the host's routes".into())?;
    if let Some(given) = given {
        survey.allow_part(&given.all());
    }
    if wanted.is_none() {
        survey.taken.extend(named::promised(core, "")?);
    }
    let mut ula = durable.ula;
    let before = Ranges { v6: before.v6.or(ula), ..before };
    let ranges = ranges::choose(wanted, before, &survey, network.group, || {
        let made = ranges::random_ula()?;
        ula = Some(made);
        Ok(made)
    })?;
    let group = network.group;
    let stale: Vec<Claim> =
        survey.claims.iter().copied().filter(|it| it.group == group && !ranges.all().contains(&it.range)).collect();
    let requests = stale.into_iter().map(unclaim).chain(claims(&ranges, group)).collect();
    network.run(move |host| host.rtnl.run(requests)).during(|| "claim the pods' ranges".into())?;
    drop(host);
    locked.shared.ranges = ranges;
    locked.shared.non_masquerade = network.options.non_masquerade();
    locked.shared.mtu = survey.mtu;
    let write = Change::Ranges(ranges, given == Some(ranges), ula);
    network.book.commit(write, |_| Use::Held).during(|| "write the pods' ranges down".into())?;
    forwarding::enable(locked, &ranges)?;
    network.firewall.load(core, locked)?;
    locked.shared.up = true;
    locked.save().during(|| "write the record of the network".into())
}

/// Takes ranges for pods.
pub fn claims(ranges: &Ranges, group: u32) -> Vec<Request> {
    ranges.all().into_iter().map(|range| claim(Claim { range, group })).collect()
}

/// Gives those of them back that are there: whoever did so before may have died on the way.
pub fn unclaim_all(rtnl: &mut Rtnl, group: u32, which: impl Fn(&IpNet) -> bool) -> std::io::Result<()> {
    let claims = survey(rtnl)?.claims.into_iter().filter(|it| it.group == group && which(&it.range));
    rtnl.run(claims.map(unclaim).collect())
}

/// Whether no pod has an address.
fn is_empty(locked: &Locked) -> Result<bool> {
    let markers = locked.markers().during(|| "read whose the addresses are".into())?;
    Ok(markers.iter().all(|(_, marker)| marker.idle.is_some()))
}

fn compatible(wanted: Option<Ranges>, used: Ranges) -> Result<()> {
    match wanted {
        Some(wanted) if wanted != used => Err(error::Error::Other {
            used: used.words(),
            wanted: wanted.words(),
            help: "remove them first, or give these a --state-dir of their own",
        }
        .into()),
        _ => Ok(()),
    }
}

/// Who says nothing takes what there is; two who differ cannot both be right, for there is one set of rules.
fn same_destinations(wanted: Vec<IpNet>, used: &[IpNet]) -> Result<()> {
    if wanted.is_empty() || wanted == used {
        return Ok(());
    }
    let words = |ranges: &[IpNet]| match ranges {
        [] => "none".to_owned(),
        ranges => ranges.iter().map(IpNet::to_string).collect::<Vec<_>>().join(", "),
    };
    Err(error::Error::Destinations { used: words(used), wanted: words(&wanted) }.into())
}

/// Takes the rules and claims away. The sysctls stay: `gc --all` restores them.
pub fn down(network: &Network, locked: &mut Locked) -> Result<()> {
    // First the record: who comes next does all of it again.
    if locked.shared.up || !locked.shared.networks.is_empty() {
        locked.shared.up = false;
        locked.shared.networks.clear();
        locked.save().during(|| "write the record of the network".into())?;
    }
    network.firewall.unload()?;
    network.ports.replace(&[]).map_err(named::guarding)?;
    let group = network.group;
    let unclaimed = network.run(move |host| {
        // By their group and names: the record of them may be lost.
        let links = links(&mut host.rtnl)?;
        for link in links.values().filter(|it| it.group == group && bridge::is_ours(&it.name)) {
            wire::remove(host, &link.name)?;
        }
        unclaim_all(&mut host.rtnl, group, |_| true)
    });
    unclaimed.during(|| "give back the pods' ranges".into())
}

fn claim(claim: Claim) -> Request {
    let what = format!("claim {} for pods", claim.range);
    Request::new(what, Mode::Replace, RouteNetlinkMessage::NewRoute(unreachable(claim)))
}

fn unclaim(claim: Claim) -> Request {
    let what = format!("give back {}", claim.range);
    Request::new(what, Mode::Change, RouteNetlinkMessage::DelRoute(unreachable(claim)))
}

/// What is in the range and no pod's is nowhere. The metric says whose the route is.
fn unreachable(claim: Claim) -> RouteMessage {
    let mut message = RouteMessage::default();
    let address = claim.range.addr();
    message.header.address_family =
        if matches!(claim.range, IpNet::V4(_)) { AddressFamily::Inet } else { AddressFamily::Inet6 };
    message.header.destination_prefix_length = claim.range.prefix_len();
    message.header.table = rtnetlink::packet_route::route::RouteHeader::RT_TABLE_MAIN;
    message.header.protocol = RouteProtocol::from(PROTOCOL);
    message.header.kind = RouteType::Unreachable;
    message.attributes = vec![RouteAttribute::Destination(address.into()), RouteAttribute::Priority(claim.group)];
    message
}
