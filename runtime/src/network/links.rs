//! Putting into force what owners want, and telling what is.

use std::collections::BTreeSet;

use super::attach;
use super::healer::Repairs;
use super::nft::pairs;
use super::relations::{self, Addresses, Scope};
use super::wanted::{self, PodRef, WantedSet};
use crate::core::Core;
use crate::error::{Error, Result};
use crate::ids::Owner;
use crate::sandbox;

/// What there is to tell.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NetworkState {
    /// The links of all owners.
    pub links: Vec<LinkState>,
    /// How often the rules were put back.
    pub repairs: Repairs,
}

/// A link as it is now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LinkState {
    /// Whose.
    pub from: PodRef,
    /// What the pod calls its target.
    pub alias: String,
    /// The target, in words.
    pub target: String,
    /// Both ends have addresses.
    pub connected: bool,
    /// Connections since it is in force.
    pub connections: u64,
}

/// Replaces what an owner wants.
pub fn set(core: &Core, owner: &Owner, wanted: &WantedSet) -> Result<()> {
    let locked = core.network.lock(core)?;
    free_of_others(core, owner, wanted)?;
    core.network.firewall.set(core, &locked, owner, wanted)
}

/// An address of a service leads to one set of pods.
fn free_of_others(core: &Core, owner: &Owner, wanted: &WantedSet) -> Result<()> {
    let mine: BTreeSet<_> = wanted.services.iter().flat_map(|it| &it.addresses).collect();
    for (other, set) in wanted::all(core)?.iter().filter(|(it, _)| it != owner) {
        for service in &set.services {
            if let Some(taken) = service.addresses.iter().find(|it| mine.contains(it)) {
                let whose = format!("service {}/{} of {other}", service.namespace, service.name);
                return Err(Error::Invalid(format!("services: {taken} is the address of {whose} already")));
            }
        }
    }
    Ok(())
}

/// Takes away what an owner wants that is gone.
pub fn forget(core: &Core, owner: &Owner) -> Result<()> {
    set(core, owner, &WantedSet::default())
}

/// Where plug-ins connect pods now, what an owner wanted of the pods' network before lasts as long as the pods that were
/// connected then: without a policy they would be open.
pub fn outgrow(core: &Core, owner: &Owner) -> Result<()> {
    let plugged = core.options.network.cni.conf_dir.is_some();
    if !plugged || !wanted::all(core)?.iter().any(|(it, _)| it == owner) {
        return Ok(());
    }
    if sandbox::all(core)?.iter().any(|it| it.owner == *owner && attach::held(core, it).is_some()) {
        return Ok(());
    }
    tracing::info!(%owner, "what was wanted of the pods' network goes: CNI plug-ins connect the pods now");
    forget(core, owner)
}

/// The links of all owners.
pub fn state(core: &Core) -> Result<NetworkState> {
    let sets = wanted::all(core)?;
    let addresses = Addresses::read(core, &sets, &Scope::All)?;
    let links: Vec<_> = sets.iter().flat_map(|(_, set)| &set.links).collect();
    let pairs_of: Vec<BTreeSet<_>> =
        links.iter().map(|link| relations::of_link(link, &addresses).iter().flat_map(pairs).collect()).collect();
    let all: BTreeSet<_> = pairs_of.iter().flatten().copied().collect();
    let uses = core.network.firewall.uses(&all)?;
    let state = |(link, pairs): (&&wanted::Link, &BTreeSet<_>)| LinkState {
        from: link.from.clone(),
        alias: link.alias.clone(),
        target: link.target.clone(),
        connected: !addresses.of(&link.from).is_empty()
            && link.endpoints.iter().any(|it| !addresses.of(&it.pod).is_empty()),
        connections: pairs.iter().filter_map(|it| uses.get(it)).sum(),
    };
    let links = links.iter().zip(&pairs_of).map(state).collect();
    Ok(NetworkState { links, repairs: super::healer::repairs(core) })
}
