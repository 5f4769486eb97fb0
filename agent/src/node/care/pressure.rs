//! From what is left to what has to be done about it: pure, but for what it remembers.
//!
//! ```text
//!   below the value ──for the grace──> acts ──at the value and the reclaim──> over
//!         │                                                                    │
//!         └── the node's condition is true ────── and for the transition ──────┘
//! ```
//! A hard threshold has no grace. One that has acted goes on until what is to be reclaimed beyond it is there, so that
//! the node does not stand at the edge; its condition stays for a while, so that nothing is sent to the node meanwhile.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::threshold::{Condition, Resource, Signal, Threshold, amount_of};
use crate::engine::time::Monotonic;

#[cfg(test)]
mod tests;

/// What is left of something, and what there is in all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Observation {
    /// Left.
    pub available: u64,
    /// In all.
    pub capacity: u64,
}

/// What could be observed.
pub type Observations = BTreeMap<Signal, Observation>;

/// A threshold that acts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Met {
    /// Which.
    pub threshold: Threshold,
    /// Its value here.
    pub quantity: u64,
    /// What is left.
    pub available: u64,
}

impl Met {
    /// What is short.
    pub fn resource(&self) -> Resource {
        self.threshold.signal.resource()
    }

    /// How much is missing to the threshold.
    pub fn lacking(&self) -> u64 {
        self.quantity.saturating_sub(self.available)
    }
}

/// What an observation leads to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Verdict {
    /// What the node says of itself.
    pub conditions: BTreeSet<Condition>,
    /// What has to be taken back, in this order: memory first, for the kernel waits for nobody.
    pub acts: Vec<Met>,
}

/// The thresholds, and how long they have been met.
#[derive(Clone, Debug)]
pub struct Pressure {
    tracks: Vec<Track>,
    transition: Duration,
    /// When each condition was met last.
    conditions: BTreeMap<Condition, Monotonic>,
}

#[derive(Clone, Copy, Debug)]
struct Track {
    threshold: Threshold,
    /// Since when it has been met without a break.
    since: Option<Monotonic>,
    /// It has acted, and what is to be reclaimed is not there yet.
    acting: bool,
}

impl Pressure {
    /// Of nothing seen yet. A condition stays for `transition` after its last threshold was met.
    pub fn new(thresholds: Vec<Threshold>, transition: Duration) -> Self {
        let track = |threshold| Track { threshold, since: None, acting: false };
        Pressure { tracks: thresholds.into_iter().map(track).collect(), transition, conditions: BTreeMap::new() }
    }

    /// Other thresholds. What is known of those that stay is kept.
    pub fn reconfigure(&mut self, thresholds: Vec<Threshold>, transition: Duration) {
        let known = |threshold: Threshold| {
            let old = self.tracks.iter().find(|track| track.threshold == threshold).copied();
            old.unwrap_or(Track { threshold, since: None, acting: false })
        };
        self.tracks = thresholds.into_iter().map(known).collect();
        self.transition = transition;
    }

    /// Takes an observation into account.
    pub fn observe(&mut self, seen: &Observations, now: Monotonic) -> Verdict {
        let mut acts = Vec::new();
        for track in &mut self.tracks {
            let met = met(&track.threshold, seen, track.acting);
            track.since = met.map(|_| track.since.unwrap_or(now));
            track.acting = track.since.is_some_and(|since| now - since >= track.threshold.grace);
            if met.is_some() {
                self.conditions.insert(track.threshold.signal.condition(), now);
            }
            acts.extend(met.filter(|_| track.acting));
        }
        acts.sort_by_key(|met| met.resource() != Resource::Memory);
        self.conditions.retain(|_, last| *last == now || now - *last < self.transition);
        Verdict { conditions: self.conditions.keys().copied().collect(), acts }
    }

    /// Whether enough was taken back that no pod has to go for any of `acts`.
    pub fn relieved(acts: &[Met], seen: &Observations) -> bool {
        acts.iter().all(|act| met(&act.threshold, seen, true).is_none())
    }
}

/// Whether there is less than the threshold says; once it acts, than it says and what is to be reclaimed together. What
/// cannot be observed is not met.
fn met(threshold: &Threshold, seen: &Observations, acting: bool) -> Option<Met> {
    let Observation { available, capacity } = *seen.get(&threshold.signal)?;
    let quantity = amount_of(threshold.value, capacity);
    let reclaim = threshold.reclaim.filter(|_| acting).map_or(0, |reclaim| amount_of(reclaim, capacity));
    let short = available < quantity.saturating_add(reclaim);
    short.then_some(Met { threshold: *threshold, quantity, available })
}
