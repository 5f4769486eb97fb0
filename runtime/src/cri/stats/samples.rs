//! How fast CPU time is used: the difference to the sample that was taken when somebody asked before.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// Of a shorter time the rate says little: the one before is told again.
const SHORTEST_NS: i64 = 100_000_000;

/// Over a longer time it says nothing about now.
const LONGEST_NS: i64 = 120_000_000_000;

#[derive(Clone, Copy)]
struct Sample {
    usage_ns: u64,
    at: i64,
    rate: Option<u64>,
}

/// The last sample of each container and sandbox.
#[derive(Default)]
pub struct Samples {
    last: Mutex<HashMap<String, Sample>>,
}

impl Samples {
    /// Nanoseconds of CPU time in a second, from the sample before to this one; none where there is none.
    pub fn rate(&self, id: &str, usage_ns: u64, at: i64) -> Option<u64> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let usable = |old: &&Sample| (0..LONGEST_NS).contains(&(at - old.at)) && old.usage_ns <= usage_ns;
        let old = last.get(id).filter(usable).copied();
        let rate = match old {
            Some(old) if at - old.at < SHORTEST_NS => return old.rate,
            Some(old) => Some(per_second(usage_ns - old.usage_ns, at - old.at)),
            None => {
                // Whoever is new may take the place of somebody who is gone.
                last.retain(|_, old| (0..LONGEST_NS).contains(&(at - old.at)));
                None
            }
        };
        last.insert(id.to_owned(), Sample { usage_ns, at, rate });
        rate
    }
}

fn per_second(used_ns: u64, passed_ns: i64) -> u64 {
    let passed = u128::try_from(passed_ns).unwrap_or(1).max(1);
    u64::try_from(u128::from(used_ns) * 1_000_000_000 / passed).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000_000;

    #[test]
    fn a_rate_takes_two_samples_that_are_neither_too_close_nor_too_far_apart() {
        let samples = Samples::default();
        let start = 1_700_000_000 * SECOND;
        assert_eq!(samples.rate("a", 5_000, start), None, "the first");
        assert_eq!(samples.rate("a", 5_000, start + SECOND / 20), None, "too soon");
        assert_eq!(samples.rate("a", 1_000_005_000, start + 2 * SECOND), Some(500_000_000), "half a CPU");
        assert_eq!(samples.rate("a", 9_000_005_000, start + 2 * SECOND + 1), Some(500_000_000), "told again");
        assert_eq!(samples.rate("a", 3_000_005_000, start + 3 * SECOND), Some(2_000_000_000), "two CPUs");
        assert_eq!(samples.rate("b", 1, start + 3 * SECOND), None, "each has its own");
        assert_eq!(samples.rate("a", 7, start + 4 * SECOND), None, "less than before: it is another");
        assert_eq!(samples.rate("a", 7, start + 500 * SECOND), None, "too long ago");
        assert_eq!(samples.rate("a", 8, start + 499 * SECOND), None, "the clock was set back");
        assert_eq!(samples.rate("a", u64::MAX, start + 500 * SECOND), Some(u64::MAX - 8));
    }

    #[test]
    fn those_that_are_gone_are_forgotten() {
        let samples = Samples::default();
        for i in 0..100 {
            samples.rate(&format!("{i}"), 1, SECOND);
        }
        samples.rate("new", 1, 200 * SECOND);
        assert_eq!(samples.last.lock().unwrap_or_else(PoisonError::into_inner).len(), 1);
    }
}
