//! Which place in the range is whose: a pure choice.
//!
//! A place is a number; a pod's addresses of both families follow from it. A pod that comes again under its name gets
//! its place again. A new one gets a place that nobody had, and once there is none the one that lies idle longest.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

/// A pod's place, kept while the pod is away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// Which.
    pub place: u32,
    /// Leases are numbered as they are given: of two idle ones the lower is the older.
    pub number: u64,
}

/// Leases by `namespace/name`.
pub type Leases = BTreeMap<String, Lease>;

/// A place for a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice {
    /// The one that it had.
    Kept(u32),
    /// One that is nobody's.
    Fresh(u32),
    /// One that was another pod's, which is away.
    Inherited(u32, String),
}

impl Choice {
    /// Which.
    pub fn place(&self) -> u32 {
        match self {
            Self::Kept(place) | Self::Fresh(place) | Self::Inherited(place, _) => *place,
        }
    }
}

/// What is known of a place beside its lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Use {
    /// Not used in this boot.
    Unused,
    /// Free since then (nanoseconds since 1970).
    Idle(i64),
    /// Free, but the link of its last pod is still there: only that pod may have it again.
    Lingering,
    /// A pod has it.
    Held,
}

/// Chooses a place for `pod` among `capacity`. `None` if every place is held.
pub fn choose(leases: &Leases, pod: &str, capacity: u32, mut usage: impl FnMut(u32) -> Use) -> Option<Choice> {
    if let Some(lease) = leases.get(pod).filter(|it| it.place < capacity)
        && usage(lease.place) != Use::Held
    {
        return Some(Choice::Kept(lease.place));
    }
    let leased: BTreeSet<u32> = leases.values().map(|it| it.place).collect();
    let mut fresh = (0..capacity).filter(|it| !leased.contains(it));
    if let Some(place) = fresh.find(|it| matches!(usage(*it), Use::Unused | Use::Idle(_))) {
        return Some(Choice::Fresh(place));
    }
    let idle = leases.iter().filter(|(_, it)| it.place < capacity).filter_map(|(name, lease)| {
        let since = match usage(lease.place) {
            Use::Unused => i64::MIN,
            Use::Idle(since) => since,
            Use::Lingering | Use::Held => return None,
        };
        Some((since, lease.number, lease.place, name))
    });
    idle.min().map(|(_, _, place, name)| Choice::Inherited(place, name.clone()))
}

/// Writes a choice down. The lease of another that had the place is over.
pub fn record(leases: &mut Leases, pod: &str, place: u32) {
    leases.retain(|name, it| it.place != place || name == pod);
    let number = leases.values().map(|it| it.number).max().map_or(0, |it| it + 1);
    leases.insert(pod.to_owned(), Lease { place, number });
}

/// Forgets the oldest leases that are more than `most`; those in use stay.
pub fn trim(leases: &mut Leases, most: usize, mut usage: impl FnMut(u32) -> Use) {
    if leases.len() <= most {
        return;
    }
    let mut oldest: Vec<(u64, String)> = leases.iter().map(|(name, it)| (it.number, name.clone())).collect();
    oldest.sort();
    // Down to three quarters, so that it is not done at every start.
    let mut surplus = leases.len() - most / 4 * 3;
    for (_, name) in oldest {
        if surplus == 0 {
            break;
        }
        if leases.get(&name).is_some_and(|it| !matches!(usage(it.place), Use::Held | Use::Lingering)) {
            leases.remove(&name);
            surplus -= 1;
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    /// What a node does: pods come and go under a few names.
    #[derive(Clone, Debug)]
    enum Step {
        Start(u8),
        Stop(u8),
        /// The links of stopped pods are gone at last.
        Settle,
        /// Nothing of this boot is known any more.
        Reboot,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            8 => (0..12u8).prop_map(Step::Start),
            6 => (0..12u8).prop_map(Step::Stop),
            2 => Just(Step::Settle),
            1 => Just(Step::Reboot),
        ];
        proptest::collection::vec(step, 1..120)
    }

    proptest! {
        #[test]
        fn no_two_pods_have_one_place_and_a_pod_keeps_its_own(steps in steps(), capacity in 1..10u32) {
            let mut leases = Leases::new();
            let mut running: BTreeMap<String, u32> = BTreeMap::new();
            let mut usage: BTreeMap<u32, Use> = BTreeMap::new();
            for (time, step) in steps.into_iter().enumerate() {
                match step {
                    Step::Start(name) => {
                        let name = format!("default/{name}");
                        if running.contains_key(&name) {
                            continue;
                        }
                        let before = leases.get(&name).copied();
                        let look = |place: u32| usage.get(&place).copied().unwrap_or(Use::Unused);
                        let Some(choice) = choose(&leases, &name, capacity, look) else {
                            // Full means that no place could be had: held, or another's that still lingers.
                            prop_assert!((0..capacity).all(|it| matches!(look(it), Use::Held | Use::Lingering)));
                            continue;
                        };
                        let place = choice.place();
                        prop_assert!(place < capacity);
                        prop_assert!(!running.values().any(|it| *it == place), "{place} is held twice");
                        if let Some(before) = before {
                            prop_assert_eq!(before.place, place, "a pod keeps its place");
                        } else {
                            prop_assert!(look(place) != Use::Lingering, "a link of another's has it still");
                        }
                        record(&mut leases, &name, place);
                        running.insert(name, place);
                        usage.insert(place, Use::Held);
                    }
                    Step::Stop(name) => {
                        if let Some(place) = running.remove(&format!("default/{name}")) {
                            usage.insert(place, Use::Lingering);
                        }
                    }
                    Step::Settle => {
                        for (_, it) in usage.iter_mut().filter(|(_, it)| **it == Use::Lingering) {
                            *it = Use::Idle(time as i64);
                        }
                    }
                    Step::Reboot => {
                        running.clear();
                        usage.clear();
                    }
                }
                let places: BTreeSet<u32> = leases.values().map(|it| it.place).collect();
                prop_assert_eq!(places.len(), leases.len(), "two leases have one place");
            }
        }
    }

    #[test]
    fn the_place_that_lies_idle_longest_is_inherited() {
        let mut leases = Leases::new();
        for (place, name) in ["default/a", "default/b", "default/c"].into_iter().enumerate() {
            record(&mut leases, name, place as u32);
        }
        let usage = |place: u32| [Use::Idle(30), Use::Idle(20), Use::Held][place as usize];
        assert_eq!(choose(&leases, "default/new", 3, usage), Some(Choice::Inherited(1, "default/b".into())));
        assert_eq!(choose(&leases, "default/new", 3, |_| Use::Unused), Some(Choice::Inherited(0, "default/a".into())));
        assert_eq!(choose(&leases, "default/new", 3, |_| Use::Lingering), None);
    }

    #[test]
    fn a_namesake_that_runs_already_does_not_lose_its_place() {
        let mut leases = Leases::new();
        record(&mut leases, "default/a", 0);
        let usage = |place: u32| if place == 0 { Use::Held } else { Use::Unused };
        assert_eq!(choose(&leases, "default/a", 9, usage), Some(Choice::Fresh(1)));
    }

    #[test]
    fn a_lease_outside_a_smaller_range_is_replaced() {
        let mut leases = Leases::new();
        record(&mut leases, "default/a", 200);
        assert_eq!(choose(&leases, "default/a", 5, |_| Use::Unused), Some(Choice::Fresh(0)));
    }

    #[test]
    fn the_oldest_idle_leases_are_forgotten_first() {
        let mut leases = Leases::new();
        for place in 0..9 {
            record(&mut leases, &format!("default/{place}"), place);
        }
        trim(&mut leases, 8, |place| if place == 0 { Use::Held } else { Use::Unused });
        let left: Vec<u32> = leases.values().map(|it| it.place).collect();
        assert_eq!(left, [0, 4, 5, 6, 7, 8]);
    }
}
