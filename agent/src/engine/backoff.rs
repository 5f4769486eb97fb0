//! Restart back-off, with kubelet's arithmetic: the first restart is immediate, each later one waits twice as long.

use std::str::FromStr;
use std::time::Duration;

use manifests::annotations::{self, Broken};
use serde::{Deserialize, Serialize};

use super::time::Monotonic;

/// How long to wait between restarts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// The wait before the second restart; it doubles from there.
    pub initial: Duration,
    /// The longest wait.
    pub max: Duration,
    /// A container that ran this long starts again from nothing.
    pub reset: Duration,
}

impl Default for Policy {
    fn default() -> Self {
        Policy { initial: Duration::from_secs(10), max: Duration::from_secs(300), reset: Duration::from_secs(600) }
    }
}

impl Policy {
    /// This policy, but for what a pod says itself.
    pub fn with(self, own: &annotations::Backoff) -> Policy {
        let initial = own.initial.unwrap_or(self.initial);
        // A pod that says when to begin alone may begin later than others end.
        let max = own.max.unwrap_or(self.max.max(initial));
        Policy { initial: initial.min(max), max, reset: own.reset.unwrap_or(self.reset) }
    }
}

impl FromStr for Policy {
    type Err = Broken;

    fn from_str(text: &str) -> Result<Self, Broken> {
        Ok(Policy::default().with(&text.parse()?))
    }
}

/// The back-off of one container, sandbox or image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backoff {
    entry: Option<(Duration, Monotonic)>,
}

impl Backoff {
    /// The wait after an end at `ended`; zero when there was no earlier restart, or the run was long enough.
    pub fn delay(&self, policy: &Policy, ended: Monotonic) -> Duration {
        match self.entry {
            Some((delay, updated)) if ended - updated <= policy.reset => delay,
            _ => Duration::ZERO,
        }
    }

    /// Takes note of a start at `now` after an end at `ended`: the next wait is twice as long.
    pub fn advance(&mut self, policy: &Policy, ended: Monotonic, now: Monotonic) {
        let delay = match self.entry {
            Some((delay, updated)) if ended - updated <= policy.reset => (delay * 2).min(policy.max),
            _ => policy.initial,
        };
        self.entry = Some((delay, now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(seconds: u64) -> Monotonic {
        Monotonic(Duration::from_secs(seconds))
    }

    #[test]
    fn the_first_restart_is_immediate_and_the_waits_double_to_the_maximum() {
        let policy = Policy::default();
        let mut backoff = Backoff::default();
        let mut waits = Vec::new();
        let mut now = at(100);
        for _ in 0..8 {
            let delay = backoff.delay(&policy, now);
            waits.push(delay.as_secs());
            let start = now + delay;
            backoff.advance(&policy, now, start);
            now = start + Duration::from_secs(1);
        }
        assert_eq!(waits, [0, 10, 20, 40, 80, 160, 300, 300]);
    }

    #[test]
    fn a_run_longer_than_reset_starts_from_nothing() {
        let policy = Policy::default();
        let mut backoff = Backoff::default();
        backoff.advance(&policy, at(0), at(0));
        backoff.advance(&policy, at(1), at(11));
        assert_eq!(backoff.delay(&policy, at(12)), Duration::from_secs(20));
        assert_eq!(backoff.delay(&policy, at(11 + 600)), Duration::from_secs(20));
        assert_eq!(backoff.delay(&policy, at(11 + 601)), Duration::ZERO);
        backoff.advance(&policy, at(11 + 601), at(11 + 601));
        assert_eq!(backoff.delay(&policy, at(11 + 602)), Duration::from_secs(10));
    }

    #[test]
    fn a_pods_own_policy_goes_before_the_nodes() {
        let s = Duration::from_secs;
        let node = Policy { initial: s(10), max: s(300), reset: s(600) };
        for (text, initial, max, reset) in [
            ("initial=1s", 1, 300, 600),
            ("max=20s", 10, 20, 600),
            ("max=5s", 5, 5, 600),
            ("initial=400s", 400, 400, 600),
            ("reset=1m", 10, 300, 60),
            ("initial=1s,max=2s,reset=3s", 1, 2, 3),
        ] {
            let own = text.parse().unwrap_or_default();
            assert_eq!(node.with(&own), Policy { initial: s(initial), max: s(max), reset: s(reset) }, "{text}");
        }
    }

    #[test]
    fn policies_are_read_and_refused() {
        let read = |text: &str| text.parse::<Policy>().map_err(|broken| broken.message);
        let ms = Duration::from_millis;
        assert_eq!(
            read("initial=1s, max=1m,reset=10m"),
            Ok(Policy { initial: ms(1000), max: ms(60_000), reset: ms(600_000) })
        );
        assert_eq!(read("initial=20ms").map(|policy| policy.initial), Ok(ms(20)));
        assert!(read("first=1s").is_err_and(|message| message.contains("`first` is not one of")));
    }
}
