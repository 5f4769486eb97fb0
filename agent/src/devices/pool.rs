//! Which devices there are, and who has them: pure.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::answer::Answer;

#[cfg(test)]
mod tests;

/// How long the devices of a plug-in that is gone are still counted as there, unhealthy (kubelet's endpointStopGracePeriod).
pub const GRACE: Duration = Duration::from_secs(300);

/// The resources that a node knows; nobody serves more.
const RESOURCES: usize = 256;

/// How many devices there are of a resource.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// All of them.
    pub capacity: usize,
    /// Those that are healthy, whoever has them.
    pub allocatable: usize,
}

/// What a container was given of one resource.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Given {
    /// The devices.
    pub devices: BTreeSet<String>,
    /// What they need.
    pub answer: Answer,
}

/// What a pod was given, by container and resource.
pub type OfPod = BTreeMap<String, BTreeMap<String, Given>>;

/// Which devices of a resource a container could be given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// From containers of the pod that are over by then: these first.
    pub taken: BTreeSet<String>,
    /// Nobody's.
    pub free: BTreeSet<String>,
}

/// Why a resource cannot be given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lack {
    /// Nobody serves it.
    Plugin,
    /// No device of it is healthy.
    Healthy,
    /// So many free ones are lacking, and so many are there.
    Free {
        /// How many it takes.
        lacking: usize,
        /// How many there are.
        free: usize,
    },
}

/// What a list has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct News {
    /// How many devices there are.
    pub counts: bool,
    /// The resource is served, which it was not.
    pub served: bool,
}

#[derive(Clone, Debug, Default)]
struct Resource {
    /// Whether each is healthy.
    devices: BTreeMap<String, bool>,
    /// Since when nobody serves it.
    gone: Option<Instant>,
    /// By a plug-in that has said which devices it has.
    served: bool,
}

impl Resource {
    fn count(&self) -> Count {
        Count { capacity: self.devices.len(), allocatable: self.devices.values().filter(|healthy| **healthy).count() }
    }

    /// Of none of its devices it is known that it is healthy.
    fn doubt(&mut self) {
        self.served = false;
        self.devices.values_mut().for_each(|healthy| *healthy = false);
    }
}

/// The devices of a node.
#[derive(Clone, Debug, Default)]
pub struct Pool {
    resources: BTreeMap<String, Resource>,
    pods: BTreeMap<String, OfPod>,
    /// Chosen, and not given yet.
    pending: BTreeSet<(String, String)>,
}

impl Pool {
    /// With what is known from before.
    pub fn new(resources: BTreeSet<String>, pods: BTreeMap<String, OfPod>) -> Self {
        let given = pods.values().flat_map(BTreeMap::values).flat_map(BTreeMap::keys).cloned();
        let resources = resources.into_iter().chain(given).map(|name| (name, Resource::default())).collect();
        Pool { resources, pods, pending: BTreeSet::new() }
    }

    /// Takes note of a resource.
    pub fn know(&mut self, resource: &str) {
        self.resources.entry(resource.to_owned()).or_default();
    }

    /// All that would be known with one more.
    pub fn known_with(&self, resource: &str) -> io::Result<BTreeSet<String>> {
        if self.resources.len() >= RESOURCES {
            return Err(io::Error::other(format!("the node has {RESOURCES} resources already, and knows no more")));
        }
        Ok(self.resources.keys().cloned().chain([resource.to_owned()]).collect())
    }

    /// Whether a plug-in serves a resource, or ever did.
    pub fn knows(&self, resource: &str) -> bool {
        self.resources.contains_key(resource)
    }

    /// A plug-in is about to serve a resource: until its first list nobody is given, or refused, what another one had.
    pub fn registered(&mut self, resource: &str) {
        self.resources.entry(resource.to_owned()).or_default().doubt();
    }

    /// The devices of a resource, and whether each is healthy.
    pub fn listed(&mut self, resource: &str, devices: BTreeMap<String, bool>) -> News {
        let resource = self.resources.entry(resource.to_owned()).or_default();
        let (before, served) = (resource.count(), resource.served);
        *resource = Resource { devices, gone: None, served: true };
        News { counts: resource.count() != before, served: !served }
    }

    /// Nobody serves a resource any more.
    pub fn gone(&mut self, resource: &str, now: Instant) {
        let resource = self.resources.entry(resource.to_owned()).or_default();
        resource.doubt();
        resource.gone = Some(now);
    }

    /// How many devices there are. Of a resource that nobody has served for long there are none, which is said: one that
    /// is not named is one that plug-ins have nothing to do with.
    pub fn counts(&mut self, now: Instant) -> BTreeMap<String, Count> {
        let count = |(name, resource): (&String, &mut Resource)| {
            if resource.gone.is_some_and(|since| now.duration_since(since) >= GRACE) {
                resource.devices.clear();
            }
            (name.clone(), resource.count())
        };
        self.resources.iter_mut().map(count).collect()
    }

    /// What a container has of a resource.
    pub fn given(&self, uid: &str, container: &str, resource: &str) -> Option<&Given> {
        self.pods.get(uid)?.get(container)?.get(resource)
    }

    /// What a pod has.
    pub fn of_pod(&self, uid: &str) -> Option<&OfPod> {
        self.pods.get(uid)
    }

    /// The pods that have something.
    pub fn pods(&self) -> impl Iterator<Item = &String> {
        self.pods.keys()
    }

    /// From which devices `needed` are to be chosen for a container: first of `reusable`, which others of its pod have.
    pub fn choice(&self, resource: &str, needed: usize, reusable: &BTreeSet<String>) -> Result<Choice, Lack> {
        let there = self.resources.get(resource).filter(|it| it.served).ok_or(Lack::Plugin)?;
        let mut healthy: BTreeSet<String> =
            there.devices.iter().filter(|(_, healthy)| **healthy).map(|(id, _)| id.clone()).collect();
        if healthy.is_empty() {
            return Err(Lack::Healthy);
        }
        let taken: BTreeSet<String> = reusable.intersection(&healthy).take(needed).cloned().collect();
        let has = self.pods.values().flat_map(BTreeMap::values).filter_map(|it| it.get(resource));
        for id in has.flat_map(|given| &given.devices) {
            healthy.remove(id);
        }
        healthy.retain(|id| !self.pending.contains(&(resource.to_owned(), id.clone())));
        let lacking = needed.saturating_sub(taken.len());
        if healthy.len() < lacking {
            return Err(Lack::Free { lacking, free: healthy.len() });
        }
        Ok(Choice { taken, free: healthy })
    }

    /// Takes devices out of the free ones, until they are given or given back.
    pub fn reserve(&mut self, resource: &str, devices: &BTreeSet<String>) {
        self.pending.extend(devices.iter().map(|id| (resource.to_owned(), id.clone())));
    }

    /// They are not reserved any more.
    pub fn unreserve(&mut self, resource: &str, devices: &BTreeSet<String>) {
        for id in devices {
            self.pending.remove(&(resource.to_owned(), id.clone()));
        }
    }

    /// Gives a container devices of a resource, in the place of what it had; or takes them.
    pub fn give(&mut self, uid: &str, container: &str, resource: &str, given: Option<Given>) {
        let pod = self.pods.entry(uid.to_owned()).or_default();
        match given {
            Some(given) => drop(pod.entry(container.to_owned()).or_default().insert(resource.to_owned(), given)),
            None => {
                pod.get_mut(container).and_then(|it| it.remove(resource));
                pod.retain(|_, it| !it.is_empty());
            }
        }
        self.pods.retain(|_, pod| !pod.is_empty());
    }

    /// Takes back all that a pod has; true when that is something.
    pub fn release(&mut self, uid: &str) -> bool {
        self.pods.remove(uid).is_some()
    }
}

impl Choice {
    /// The devices: those that are taken, then those that are preferred, then whichever.
    pub fn pick(self, needed: usize, preferred: &BTreeSet<String>) -> BTreeSet<String> {
        let Choice { mut taken, free } = self;
        let (first, rest): (Vec<String>, Vec<String>) = free.into_iter().partition(|id| preferred.contains(id));
        let lacking = needed.saturating_sub(taken.len());
        taken.extend(first.into_iter().chain(rest).take(lacking));
        taken
    }
}
