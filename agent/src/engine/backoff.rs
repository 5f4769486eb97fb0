//! Restart back-off, with kubelet's arithmetic: the first restart is immediate, each later one waits twice as long.

use std::str::FromStr;
use std::time::Duration;

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

/// Why a back-off policy could not be read.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// A part is not `KEY=DURATION`.
    #[error("{0:?} is not KEY=DURATION; the keys are initial, max and reset, as in \"initial=1s,max=1m,reset=10m\"")]
    Part(String),
    /// The duration of a part cannot be read.
    #[error("{key} has {value:?}, which is no duration; write it as 500ms, 10s, 5m or 1h30m")]
    Duration {
        /// The key.
        key: String,
        /// The text given.
        value: String,
    },
    /// The first wait would be longer than the longest.
    #[error("initial ({initial:?}) is longer than max ({max:?})")]
    Order {
        /// The first wait.
        initial: Duration,
        /// The longest wait.
        max: Duration,
    },
}

impl FromStr for Policy {
    type Err = PolicyError;

    fn from_str(text: &str) -> Result<Self, PolicyError> {
        let mut policy = Policy::default();
        let mut max_given = false;
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let (key, value) = part.split_once('=').ok_or_else(|| PolicyError::Part(part.to_owned()))?;
            let field = match key.trim() {
                "initial" => &mut policy.initial,
                "max" => {
                    max_given = true;
                    &mut policy.max
                }
                "reset" => &mut policy.reset,
                _ => return Err(PolicyError::Part(part.to_owned())),
            };
            *field = super::time::parse_duration(value.trim())
                .ok_or_else(|| PolicyError::Duration { key: key.to_owned(), value: value.to_owned() })?;
        }
        if !max_given {
            policy.max = policy.max.max(policy.initial);
        }
        if policy.initial > policy.max {
            return Err(PolicyError::Order { initial: policy.initial, max: policy.max });
        }
        Ok(policy)
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
    fn policies_are_read_and_refused() {
        let read = |text: &str| text.parse::<Policy>();
        let ms = Duration::from_millis;
        assert_eq!(read(""), Ok(Policy::default()));
        assert_eq!(
            read("initial=1s, max=1m,reset=10m"),
            Ok(Policy { initial: ms(1000), max: ms(60_000), reset: ms(600_000) })
        );
        assert_eq!(read("initial=20ms").map(|policy| policy.initial), Ok(ms(20)));
        assert_eq!(read("initial=10m").map(|policy| policy.max), Ok(ms(600_000)));
        assert_eq!(read("first=1s"), Err(PolicyError::Part("first=1s".into())));
        assert_eq!(read("max"), Err(PolicyError::Part("max".into())));
        assert_eq!(read("max=5"), Err(PolicyError::Duration { key: "max".into(), value: "5".into() }));
        assert_eq!(read("initial=2s,max=1s"), Err(PolicyError::Order { initial: ms(2000), max: ms(1000) }));
    }
}
