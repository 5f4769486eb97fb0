//! Named networks: what their owners want of them, and which are in force.
//!
//! A network comes into force with its first pod and stays so until its last one has ended, whatever is wanted meanwhile:
//! its ranges and its shape are what its pods have. Whom its pods reach, and whether they are masqueraded, is what is
//! wanted now.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::AsFd as _;

use ipnet::IpNet;
use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};

use super::leases::{Change, flock};
use super::nft::NetworkRules;
use super::nft::ports::Port;
use super::pool::Use;
use super::ranges::{self, Ranges};
use super::state::Locked;
use super::survey::{Survey, Taken, survey};
use super::{Attachment, Error, bridge, forwarding, setup, thread, wanted, wire};
use crate::core::Core;
use crate::error::{During as _, Result};
use crate::ids::Owner;
use crate::sandbox;

/// How the links of a network are made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Shape {
    /// A routed link a pod.
    #[default]
    Ptp,
    /// Links are isolated ports of a bridge.
    Bridge,
}

/// A network as an owner wants it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spec {
    /// What pods call it.
    pub name: String,
    /// Its ranges, one of a family at most; none has them chosen.
    pub subnets: Vec<IpNet>,
    /// Its pods and those of other networks do not reach each other.
    pub isolated: bool,
    /// What leaves the node carries the node's address.
    pub masquerade: bool,
    /// The largest packet; none is the way out's.
    pub mtu: Option<u32>,
    /// How links are made.
    pub shape: Shape,
}

/// A network in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Named {
    /// What it was made by.
    pub spec: Spec,
    /// Its ranges.
    pub ranges: Ranges,
    /// Its bridge.
    pub bridge: Option<String>,
}

/// Networks in force, by name.
pub type InForce = BTreeMap<String, Named>;

/// A network that somebody wants; none while nobody does. Two who want different ones of a name both have none.
pub fn find(core: &Core, name: &str) -> Result<Option<Spec>> {
    let sets = wanted::all(core)?;
    let mut found: Option<(&Owner, &Spec)> = None;
    for (owner, spec) in sets.iter().flat_map(|(owner, set)| set.networks.iter().map(move |it| (owner, it))) {
        match found {
            _ if spec.name != name => {}
            Some((first, known)) if known != spec => {
                let why = format!("{first} and {owner} want different ones of this name; give one another");
                return Err(of_network(name, why));
            }
            Some(_) => {}
            None => found = Some((owner, spec)),
        }
    }
    Ok(found.map(|(_, spec)| spec.clone()))
}

/// The networks that somebody wants.
pub fn names(core: &Core) -> Result<BTreeSet<String>> {
    let sets = wanted::all(core)?;
    Ok(sets.iter().flat_map(|(_, set)| &set.networks).map(|it| it.name.clone()).collect())
}

/// Refuses networks that can be nowhere. What only cannot be beside others is told to the pods that are to be in it.
pub fn check(networks: &[Spec]) -> Result<()> {
    for spec in networks {
        ranges::wanted(&spec.subnets)
            .map_err(|error| crate::Error::Invalid(format!("network {}: {error}", spec.name)))?;
    }
    Ok(())
}

fn taken(range: &IpNet, by: &str) -> String {
    format!("its range {range} overlaps {by}; give it other subnets")
}

fn of_network(network: &str, why: String) -> crate::Error {
    Error::Named { network: network.to_owned(), why }.into()
}

/// Makes sure that pods can be connected to a network; how it shall be, and how it is.
pub fn up(core: &Core, locked: &mut Locked, name: &str) -> Result<(Spec, Named)> {
    let spec = find(core, name)?.ok_or_else(|| Error::Unknown { network: name.to_owned() })?;
    let wanted = ranges::wanted(&spec.subnets).map_err(|error| of_network(name, error.to_string()))?;
    if let Some(named) = locked.shared.networks.get(name).cloned() {
        let Some(change) = difference(&spec, wanted, &named) else { return Ok((spec, named)) };
        if is_used(core, locked, name)? {
            let help = "it becomes so when its last pod has ended: restart them";
            return Err(of_network(name, format!("{change}; {help}")));
        }
        down(core, locked, &[name.to_owned()])?;
    }
    let named = make(core, locked, &spec, wanted)?;
    Ok((spec, named))
}

/// What would need other links than its pods have.
fn difference(spec: &Spec, wanted: Option<Ranges>, named: &Named) -> Option<String> {
    if let Some(wanted) = wanted.filter(|it| *it != named.ranges) {
        return Some(format!(
            "its pods have addresses of {}, and it shall have {}",
            named.ranges.words(),
            wanted.words()
        ));
    }
    let words = |shape| match shape {
        Shape::Ptp => "ptp",
        Shape::Bridge => "bridge",
    };
    let (is, shall) = (named.spec.shape, spec.shape);
    (is != shall).then(|| format!("its pods have links of the type {}, and it shall be {}", words(is), words(shall)))
}

fn make(core: &Core, locked: &mut Locked, spec: &Spec, wanted: Option<Ranges>) -> Result<Named> {
    let network = &core.network;
    let name = spec.name.as_str();
    // Nobody else chooses ranges in this network namespace meanwhile.
    let host = thread::open_own().during(|| "open the host's network namespace".into())?;
    flock(host.as_fd(), FlockOperation::LockExclusive).during(|| "lock the host's network namespace".into())?;
    let mut survey = network.run(|host| survey(&mut host.rtnl)).during(|| "look at the host's routes".into())?;
    survey.taken.extend(in_force(locked));
    let durable = network.book.read().during(|| "read the leases of addresses".into())?;
    let before = durable.networks.get(name).map(|it| it.ranges).unwrap_or_default();
    let ranges = choose(core, spec, wanted, before, survey, locked.shared.ranges.v6.is_some())?;
    let bridge = (spec.shape == Shape::Bridge).then(|| bridge::name(network.group, name, spec.isolated));
    let mut requests = setup::claims(&ranges, network.group);
    let group = network.group;
    let asked = bridge.clone().map(|it| bridge::Bridge {
        alias: format!("coracle: network {name}"),
        name: it,
        group,
        gateways: ranges.gateways(),
    });
    let made = network.run(move |host| {
        host.rtnl.run(std::mem::take(&mut requests))?;
        asked.map_or(Ok(()), |it| bridge::make(host, &it))
    });
    made.during(|| format!("make network {name}"))?;
    drop(host);
    let write = Change::Network(name.to_owned(), ranges);
    network.book.commit(write, |_| Use::Held).during(|| "write the ranges of a network down".into())?;
    forwarding::enable(locked, &ranges)?;
    let named = Named { spec: spec.clone(), ranges, bridge };
    locked.shared.networks.insert(name.to_owned(), named.clone());
    network.firewall.refresh(core, locked)?;
    locked.save().during(|| "write the record of the network".into())?;
    Ok(named)
}

fn choose(
    core: &Core,
    spec: &Spec,
    wanted: Option<Ranges>,
    before: Ranges,
    mut survey: Survey,
    v6: bool,
) -> Result<Ranges> {
    let group = core.network.group;
    if let Some(wanted) = wanted {
        for range in wanted.all() {
            if let Some(by) = ranges::taken(&survey, group, range) {
                return Err(of_network(&spec.name, taken(&range, &by)));
            }
            if range.addr().is_ipv6() && !survey.ipv6 {
                let why = format!("its range {range} needs IPv6, which this host does not have or has switched off");
                return Err(of_network(&spec.name, why));
            }
        }
        return Ok(wanted);
    }
    // What others have been promised is not for those who take what there is.
    survey.taken.extend(promised(core, &spec.name)?);
    // As the default network has it: pods with IPv6 in one network alone would only wait for those that have none.
    survey.ipv6 &= v6;
    ranges::choose_small(before, &survey, group, ranges::random_ula).map_err(|error| match error {
        crate::Error::Network(error) => of_network(&spec.name, error.to_string()),
        other => other,
    })
}

/// The ranges of ours that are in use: their claims do not tell whose they are.
fn in_force(locked: &Locked) -> Vec<Taken> {
    let default = locked.shared.ranges.all().into_iter();
    let default = default.map(|range| Taken { range, by: format!("{range} of the default network") });
    let named = locked.shared.networks.iter().flat_map(|(name, it)| {
        let ranges = it.ranges.all().into_iter();
        ranges.map(move |range| Taken { range, by: format!("{range} of network {name}") })
    });
    default.chain(named).collect()
}

/// The ranges that networks but this one ask for by number.
pub fn promised(core: &Core, but: &str) -> Result<Vec<Taken>> {
    let sets = wanted::all(core)?;
    let others = sets.iter().flat_map(|(_, set)| &set.networks).filter(|it| it.name != but);
    let taken = others.flat_map(|spec| {
        spec.subnets.iter().map(|range| Taken { range: *range, by: format!("{range} of network {}", spec.name) })
    });
    Ok(taken.collect())
}

/// Whether a pod has an address of it.
fn is_used(core: &Core, locked: &Locked, name: &str) -> Result<bool> {
    let markers = locked.markers().during(|| "read whose the addresses are".into())?;
    Ok(markers.iter().any(|(seat, it)| {
        seat.network == name
            && it.idle.is_none()
            && it.boot_id == core.boot_id
            && core.sandbox_dir(&it.sandbox).exists()
    }))
}

/// Takes networks away that nobody wants any more and no pod is in.
pub fn sweep(core: &Core, locked: &mut Locked) -> Result<()> {
    let wanted = names(core)?;
    let mut gone = Vec::new();
    for name in locked.shared.networks.keys() {
        if !wanted.contains(name) && !is_used(core, locked, name)? {
            gone.push(name.clone());
        }
    }
    if gone.is_empty() { Ok(()) } else { down(core, locked, &gone) }
}

/// Takes networks away: their bridges, claims and rules.
fn down(core: &Core, locked: &mut Locked, names: &[String]) -> Result<()> {
    let group = core.network.group;
    let gone: Vec<Named> = names.iter().filter_map(|name| locked.shared.networks.remove(name)).collect();
    // First the record: who makes one of them again does not take it for whole, and finds what is left of it.
    locked.save().during(|| "write the record of the network".into())?;
    core.network.firewall.refresh(core, locked)?;
    for named in gone {
        let name = named.spec.name.clone();
        core.network
            .run(move |host| {
                named.bridge.map_or(Ok(()), |it| wire::remove(host, &it))?;
                let ranges = named.ranges.all();
                setup::unclaim_all(&mut host.rtnl, group, |range| ranges.contains(range))
            })
            .during(|| format!("take network {name} away"))?;
    }
    Ok(())
}

/// What the rules have to know of the networks in force, the default one among them.
pub fn rules(core: &Core, locked: &Locked) -> Result<Vec<NetworkRules>> {
    let ranges = &locked.shared.ranges;
    let mut networks = vec![NetworkRules {
        name: String::new(),
        isolated: false,
        masquerade: true,
        ranges: ranges.all(),
        gateways: ranges.gateways(),
        bridge: None,
    }];
    let sets = if locked.shared.networks.is_empty() { Vec::new() } else { wanted::all(core)? };
    for (name, named) in &locked.shared.networks {
        // Those who cannot agree are told when a pod starts; until then what anybody shuts is shut.
        let wanted = || sets.iter().flat_map(|(_, set)| &set.networks).filter(|it| it.name == *name);
        let any = |of: fn(&Spec) -> bool| if wanted().next().is_none() { of(&named.spec) } else { wanted().any(of) };
        networks.push(NetworkRules {
            name: name.clone(),
            isolated: any(|it| it.isolated),
            masquerade: any(|it| it.masquerade),
            ranges: named.ranges.all(),
            gateways: named.ranges.gateways(),
            bridge: named.bridge.clone(),
        });
    }
    Ok(networks)
}

/// Makes what may come in by ports what the records say.
pub fn guard(core: &Core) -> Result<()> {
    let records = sandbox::all(core)?;
    let here = records.iter().filter(|it| it.boot_id == core.boot_id && !it.stopped);
    let ports: Vec<Port> = here.filter_map(|it| port(&it.id, it.attachment.as_ref()?)).collect();
    core.network.ports.replace(&ports).map_err(guarding)
}

/// Says what may come in by a pod's port, if it has one.
pub fn admit(core: &Core, id: &str, attachment: &Attachment) -> Result<()> {
    let Some(port) = port(id, attachment) else { return Ok(()) };
    // The first port makes the table.
    if core.network.ports.add(&port).is_ok() { Ok(()) } else { guard(core) }
}

/// The contrary of [`admit`].
pub fn dismiss(core: &Core, id: &str, attachment: &Attachment) -> Result<()> {
    let Some(port) = port(id, attachment) else { return Ok(()) };
    if core.network.ports.remove(&port).is_ok() { Ok(()) } else { guard(core) }
}

fn port(id: &str, attachment: &Attachment) -> Option<Port> {
    attachment.bridge.as_ref()?;
    let [_, mac] = super::attach::macs(id);
    Some(Port { interface: attachment.interface.clone(), mac, addresses: attachment.addresses.clone() })
}

/// An error of these rules.
pub fn guarding(source: super::nft::Error) -> crate::Error {
    Error::Rules { operation: "say what may come in by the ports of bridges", source }.into()
}
