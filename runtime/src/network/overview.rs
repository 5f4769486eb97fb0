//! Named networks as their records have them, for who shows them: nothing is locked, and it may be wrong by a moment.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use ipnet::IpNet;

use super::named::Spec;
use super::{state, wanted, wire};
use crate::ids::Owner;

/// A named network.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overview {
    /// What its owners want of it.
    pub wanted: Vec<(Owner, Spec)>,
    /// What it was made by, when it is in force.
    pub made: Option<Spec>,
    /// Its ranges then.
    pub ranges: Vec<IpNet>,
    /// The pods that have addresses of it, `NAMESPACE/NAME`.
    pub pods: Vec<String>,
}

/// The networks that somebody wants or some pod is in, by name.
pub fn overview(state_dir: &Path, boot_id: &str) -> io::Result<BTreeMap<String, Overview>> {
    let mut networks: BTreeMap<String, Overview> = BTreeMap::new();
    for (owner, spec) in wanted::networks(state_dir)? {
        networks.entry(spec.name.clone()).or_default().wanted.push((owner, spec));
    }
    let dir = state_dir.join("network");
    let shared = state::glance(&dir).filter(|it| it.place.boot_id == boot_id).unwrap_or_default();
    for (name, named) in shared.networks {
        let known = networks.entry(name).or_default();
        (known.made, known.ranges) = (Some(named.spec), named.ranges.all());
    }
    for (network, marker) in state::members(&dir)? {
        let lives = marker.boot_id == boot_id && marker.idle.is_none() && wire::exists(&marker.link);
        if let Some(known) = networks.get_mut(&network).filter(|_| lives) {
            known.pods.push(marker.pod);
        }
    }
    // What nobody wants and nobody is in goes with the next look at it.
    networks.retain(|_, it| !it.wanted.is_empty() || !it.pods.is_empty());
    networks.values_mut().for_each(|it| it.pods.sort_unstable());
    Ok(networks)
}
