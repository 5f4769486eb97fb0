//! Bringing the network in line with the records, and taking away what nobody uses.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::link::LinkMessage;

use super::firewall::Firewall;
use super::rtnl::{Mode, Request};
use super::state::Locked;
use super::{bridge, cni, forwarding, named, setup, survey, wanted};
use crate::collect::CollectReport;
use crate::core::Core;
use crate::error::{During as _, Result};
use crate::ids::{Owner, is_id};
use crate::{runs, sandbox, servers};

/// How long the kernel may take to remove the links of a namespace that has ended.
const PATIENCE: Duration = Duration::from_millis(500);

/// Makes the rules what the records of all sandboxes say, by `how`: [`Firewall::load`] or [`Firewall::refresh`]. Says no,
/// and does nothing, while the network is down.
pub fn reconcile(core: &Core, how: fn(&Firewall, &Core, &Locked) -> Result<()>) -> Result<bool> {
    let locked = core.network.lock(core)?;
    if locked.shared.up {
        how(&core.network.firewall, core, &locked)?;
        named::guard(core)?;
    }
    Ok(locked.shared.up)
}

/// Takes rules and claims away if there is no sandbox any more, of whatever owner.
pub fn settle(core: &Core) -> Result<()> {
    let mut locked = core.network.lock(core)?;
    if locked.shared.up && sandboxes(core)?.is_empty() {
        setup::down(&core.network, &mut locked)?;
        // Who looks after the end of a run shall find nothing.
        lost_links(core)?;
    }
    Ok(())
}

/// Removes what dead processes have left: links, rules, holds on addresses; rules and claims if nothing uses them; with
/// `all`, what is kept between pods too: sysctls are restored and leases forgotten.
pub fn collect(core: &Core, all: bool, report: &mut CollectReport) -> Result<()> {
    // They take their time: nobody else has to wait for it.
    cni::collect(core, report)?;
    let mut locked = core.network.lock(core)?;
    locked
        .sweep()
        .and_then(|()| core.network.book.sweep())
        .and_then(|()| wanted::sweep(core))
        .during(|| "remove unfinished records of the network".into())?;
    // Before anything is asked of what is wanted.
    wishes(core, all, report)?;
    let wanted = named::names(core)?;
    let kept = core.network.book.forget_networks(|it| wanted.contains(it) || locked.shared.networks.contains_key(it));
    kept.during(|| "forget the ranges of networks that nobody wants".into())?;
    // Links first, then directories: a link has one from before it is made.
    links(core, report)?;
    markers(core, &locked, report)?;
    if !sandboxes(core)?.is_empty() {
        if !locked.shared.up {
            return Ok(());
        }
        named::sweep(core, &mut locked)?;
        named::guard(core)?;
        return core.network.firewall.refresh(core, &locked);
    }
    if locked.shared.up {
        report.removed.push("the rules and ranges of the pods' network".into());
    }
    // Without a record of them too: whoever made them, or took them away, may have died on the way, or the state
    // directory was lost.
    setup::down(&core.network, &mut locked)?;
    if all { everything(core, &mut locked, report) } else { Ok(()) }
}

/// What owners want that are gone: their runs have ended, or nobody serves them and none of their pods is left.
fn wishes(core: &Core, all: bool, report: &mut CollectReport) -> Result<()> {
    let records = sandbox::all(core)?;
    for (owner, _) in wanted::all(core)? {
        let lives = match &owner {
            Owner::Run(id) => runs::lives(core, id),
            owner => servers::lives(core, owner),
        };
        if all || (!lives && !records.iter().any(|it| it.owner == owner)) {
            wanted::forget(core, &owner)?;
            report.removed.push(format!("what {owner} wanted of the pods' network"));
        }
    }
    Ok(())
}

/// What is kept while there are no pods.
fn everything(core: &Core, locked: &mut Locked, report: &mut CollectReport) -> Result<()> {
    for (seat, _) in locked.markers().during(|| "list who has which address".into())? {
        locked.unmark(&seat).during(|| "forget who had an address".into())?;
    }
    if core.network.book.forget().during(|| "forget the leases of addresses".into())? {
        report.removed.push("the leases of pods' addresses".into());
    }
    if !locked.shared.sysctls.is_empty() && core.network.firewall.has_others()? {
        let why = "another Coracle has pods on this host; run coracle gc --all again when they are gone";
        report.spared.push(("the sysctls that let pods' packets through".into(), why.into()));
        return Ok(());
    }
    for name in forwarding::restore(locked)? {
        report.removed.push(format!("the change of the sysctl {name}"));
    }
    locked.forget().during(|| "remove the record of the network".into())
}

/// The ids that have a directory, with or without a record.
fn sandboxes(core: &Core) -> Result<BTreeSet<String>> {
    let dir = core.options.state_dir.join("sandboxes");
    let entries = std::fs::read_dir(&dir).during(|| format!("list {}", dir.display()))?;
    let names = entries.flatten().filter_map(|it| it.file_name().into_string().ok());
    Ok(names.filter(|it| is_id(it)).collect())
}

/// Removes links of ours whose sandbox is gone.
fn links(core: &Core, report: &mut CollectReport) -> Result<()> {
    for (index, name) in lost_links(core)? {
        let mut message = LinkMessage::default();
        message.header.index = index;
        let what = format!("remove the link {name}");
        let request = Request::new(what.clone(), Mode::Change, RouteNetlinkMessage::DelLink(message));
        match core.network.run(move |host| host.rtnl.run(vec![request])) {
            // Its namespace went meanwhile, and it with it.
            Err(_) if !super::wire::exists(&name) => {}
            other => {
                other.during(|| what)?;
                report.removed.push(format!("the link {name} of a lost sandbox"));
            }
        }
    }
    Ok(())
}

/// The kernel takes its time with the links of a namespace that has just ended: what is there after that is kept by
/// something.
fn lost_links(core: &Core) -> Result<Vec<(u32, String)>> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let lost = links_without_sandbox(core)?;
        if lost.is_empty() || Instant::now() > deadline {
            return Ok(lost);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn links_without_sandbox(core: &Core) -> Result<Vec<(u32, String)>> {
    let group = core.network.group;
    let links = core.network.run(|host| survey::links(&mut host.rtnl)).during(|| "list the host's links".into())?;
    let ours = links.into_iter().filter(|(_, it)| it.group == group && survey::is_ours(&it.name));
    // A bridge is a network's, and goes with it.
    let mut ours = ours.filter(|(_, it)| !bridge::is_ours(&it.name)).peekable();
    if ours.peek().is_none() {
        return Ok(Vec::new());
    }
    let known: BTreeSet<String> = sandboxes(core)?.iter().flat_map(|id| survey::names(id)).collect();
    Ok(ours.map(|(index, it)| (index, it.name)).filter(|(_, name)| !known.contains(name)).collect())
}

/// Holds on addresses whose sandbox is gone.
fn markers(core: &Core, locked: &Locked, report: &mut CollectReport) -> Result<()> {
    for (seat, mut marker) in locked.markers().during(|| "list who has which address".into())? {
        let lost = !core.sandbox_dir(&marker.sandbox).exists();
        if marker.boot_id != core.boot_id || (lost && !super::wire::exists(&marker.link)) {
            locked.unmark(&seat).during(|| "forget who had an address".into())?;
        } else if lost && marker.idle.is_none() {
            marker.idle = Some(crate::shim::now());
            locked.mark(&seat, &marker).during(|| "write down that an address is free".into())?;
        } else {
            continue;
        }
        if marker.idle.is_none() {
            report.removed.push(format!("the hold of {} on its address", marker.pod));
        }
    }
    Ok(())
}
