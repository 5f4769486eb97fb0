//! The cgroups of pods, by their class, as kubelet has them:
//! ```text
//! <cgroup-root>/kubepods             all pods: the node, less what is reserved
//!   pod<uid>                         guaranteed
//!   burstable/pod<uid>               together as much CPU time as they ask for together
//!   besteffort/pod<uid>              what nobody else wants
//! ```
//! Where CPU time is short a class gets its share whole, however many pods are in it: so a hundred pods that asked for
//! nothing do not take it from one that asked.

use std::collections::BTreeSet;
use std::path::Path;

use k8s_openapi::api::core::v1::Pod;
use runtime::cgroup::{Cgroup, Controller, Error, Hierarchies, Resources, Stats};

use crate::engine::config::Settings;
use crate::engine::config::quantity::milli;
use crate::engine::config::resources::{self, Qos};
use crate::engine::plan::spec_of;

#[cfg(test)]
mod tests;

/// Best effort's share, and the least there is.
const LEAST: u64 = 2;

const CLASSES: [Qos; 3] = [Qos::Guaranteed, Qos::Burstable, Qos::BestEffort];

/// What all pods together may use; what is not said is not bounded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bounds {
    /// CPU time in thousandths of a CPU: a share beside the host's own services.
    pub cpu_milli: i64,
    /// Bytes.
    pub memory: Option<u64>,
    /// Processes and threads.
    pub pids: Option<u64>,
}

/// The cgroups of pods. Cheap to clone.
#[derive(Clone, Debug)]
pub struct PodCgroups {
    hierarchies: Hierarchies,
    /// By class.
    places: [(Qos, String); 3],
}

impl PodCgroups {
    /// In the hierarchies that this process sees (`proc_root` is `/proc`), where `settings` say.
    pub fn open(proc_root: &Path, settings: &Settings) -> Result<Self, Error> {
        let places = CLASSES.map(|class| (class, settings.qos_cgroup(class)));
        let hierarchies = Hierarchies::discover(proc_root, &places[0].1)?;
        Ok(PodCgroups { hierarchies, places })
    }

    /// Makes the pod's cgroup, where it is not there, and sets its limits; or, `loosely`, takes those away that its
    /// containers' have to be within.
    pub fn prepare(&self, pod: &Pod, settings: &Settings, loosely: bool) -> Result<(), Error> {
        let cgroup = self.hierarchies.create(&settings.pod_cgroup(pod))?;
        let mut limits = resources::cgroup_of_pod(spec_of(pod), settings);
        if loosely {
            limits = Resources { cpu_quota: Some(-1), cpu_period: None, memory_limit: Some(-1), ..limits };
        }
        self.apply(&cgroup, limits)
    }

    /// Bounds the processes of a pod that has a cgroup.
    pub fn limit_pids(&self, uid: &str, settings: &Settings) -> Result<(), Error> {
        let limits = Resources { pids_limit: Some(settings.cgroups.pids_limit.get()), ..Resources::default() };
        for path in self.paths(uid) {
            if let Some(cgroup) = self.hierarchies.find(&path)? {
                self.apply(&cgroup, limits.clone())?;
            }
        }
        Ok(())
    }

    /// Sets what the classes may use, made where they are missing.
    pub fn balance<'a>(&self, pods: impl Iterator<Item = &'a Pod>, bounds: &Bounds) -> Result<(), Error> {
        let burstable = pods.map(spec_of).filter(|spec| Qos::of(spec) == Qos::Burstable);
        let asked = burstable.map(|spec| resources::pod_request(spec, "cpu", milli)).fold(0, i64::saturating_add);
        for (class, path) in &self.places {
            let shares = |milli| u64::try_from(resources::shares(milli)).ok();
            let limit = |amount: Option<u64>| Some(amount.and_then(|it| it.try_into().ok()).unwrap_or(-1));
            let resources = match class {
                Qos::Guaranteed => Resources {
                    cpu_shares: shares(bounds.cpu_milli),
                    memory_limit: limit(bounds.memory),
                    pids_limit: limit(bounds.pids),
                    ..Resources::default()
                },
                Qos::Burstable => Resources { cpu_shares: shares(asked), ..Resources::default() },
                Qos::BestEffort => Resources { cpu_shares: Some(LEAST), ..Resources::default() },
            };
            self.apply(&self.hierarchies.create(path)?, resources)?;
        }
        Ok(())
    }

    /// What a pod uses; none where it has no cgroup.
    pub fn usage(&self, uid: &str) -> Result<Option<Stats>, Error> {
        for path in self.paths(uid) {
            if let Some(cgroup) = self.hierarchies.find(&path)? {
                return cgroup.stats().map(Some);
            }
        }
        Ok(None)
    }

    /// What all pods together use.
    pub fn usage_of_all(&self) -> Result<Option<Stats>, Error> {
        self.hierarchies.find(&self.places[0].1)?.map(|cgroup| cgroup.stats()).transpose()
    }

    /// Removes the cgroup of a pod that has no containers any more. What somebody still uses stays.
    pub fn remove(&self, uid: &str) -> Result<(), Error> {
        self.paths(uid).try_for_each(|path| self.hierarchies.below(&path)?.prune().map(drop))
    }

    /// The pods that have a cgroup.
    pub fn uids(&self) -> Result<BTreeSet<String>, Error> {
        let mut uids = BTreeSet::new();
        for (_, place) in &self.places {
            let names = self.hierarchies.children(place)?;
            uids.extend(names.iter().filter_map(|name| name.strip_prefix("pod")).map(str::to_owned));
        }
        Ok(uids)
    }

    fn paths(&self, uid: &str) -> impl Iterator<Item = String> {
        self.places.iter().map(move |(_, place)| format!("{place}/pod{uid}"))
    }

    /// Applies limits; "unlimited" is what a host has that cannot limit.
    fn apply(&self, cgroup: &Cgroup, mut resources: Resources) -> Result<(), Error> {
        let refused = cgroup.refused();
        let missing =
            |controller| !self.hierarchies.has(controller) || refused.iter().any(|(refused, _)| *refused == controller);
        let needless = |limit: &mut Option<i64>, controller| {
            if missing(controller) && limit.is_some_and(|limit| limit < 0) {
                *limit = None;
            }
        };
        needless(&mut resources.memory_limit, Controller::Memory);
        needless(&mut resources.pids_limit, Controller::Pids);
        needless(&mut resources.cpu_quota, Controller::Cpu);
        for shortfall in cgroup.apply(&resources)? {
            tracing::debug!(
                cgroup = cgroup.path(),
                what = shortfall.setting,
                why = shortfall.why,
                "a limit is not kept"
            );
        }
        Ok(())
    }
}
