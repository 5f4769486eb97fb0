//! Whether a target is there, from what checks and connections say. No clock, no I/O.

use std::time::{Duration, Instant};

/// How long a target is left alone after a connection to it failed and nothing checks it: doubled each time, up to the
/// second.
const FIRST_REST: Duration = Duration::from_secs(1);
const LONGEST_REST: Duration = Duration::from_secs(30);

/// What is known of one address.
///
/// ```text
///              `successes` in a row                        `failures` in a row, or a connection that failed
///  (unknown) ────────────────────────> up ────────────────────────────────────────────────────────> down
///      │ `failures` in a row           ^                                                              │
///      └──────────────> down           └──────────────────── `successes` in a row ────────────────────┘
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Health {
    state: State,
    /// Outcomes in a row that speak against the state.
    against: u32,
    /// Without checks: until when it is left alone, and for how long the last time.
    rest: Option<(Instant, Duration)>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Unknown,
    Up,
    Down,
}

/// How many outcomes in a row count.
#[derive(Clone, Copy, Debug)]
pub struct Thresholds {
    /// Successes that make a target one that is there.
    pub successes: u32,
    /// Failures that make it one that is not.
    pub failures: u32,
}

impl Health {
    /// A check came out. Whether what is known changed.
    pub fn checked(&mut self, passed: bool, thresholds: Thresholds) -> bool {
        let (agrees, needed, next) = match passed {
            true => (self.state == State::Up, thresholds.successes, State::Up),
            false => (self.state == State::Down, thresholds.failures, State::Down),
        };
        if agrees {
            self.against = 0;
            return false;
        }
        self.against += 1;
        if self.against < needed {
            return false;
        }
        (self.state, self.against) = (next, 0);
        true
    }

    /// A connection for a client was accepted by the target.
    pub fn connected(&mut self) {
        self.rest = None;
    }

    /// A connection for a client was not accepted. Where checks are made the target is down until one passes.
    pub fn refused(&mut self, now: Instant, checked: bool) {
        if checked {
            (self.state, self.against) = (State::Down, 0);
        } else {
            let longer = self.rest.map_or(FIRST_REST, |(_, last)| (last * 2).min(LONGEST_REST));
            self.rest = Some((now + longer, longer));
        }
    }

    /// Whether it is known to be there; without checks, whether nothing speaks against it.
    pub fn is_up(&self, now: Instant, checked: bool) -> bool {
        match checked {
            true => self.state == State::Up,
            false => self.rest.is_none_or(|(until, _)| now >= until),
        }
    }

    /// Whether it is known not to be there.
    pub fn is_down(&self, now: Instant, checked: bool) -> bool {
        match checked {
            true => self.state == State::Down,
            false => !self.is_up(now, false),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const THRESHOLDS: Thresholds = Thresholds { successes: 2, failures: 3 };

    #[test]
    fn it_takes_as_many_outcomes_in_a_row_as_is_said() {
        let now = Instant::now();
        let mut health = Health::default();
        assert!(!health.is_up(now, true) && !health.is_down(now, true));
        let said = [true, true, false, false, true, false, false, false, true, true];
        let states: Vec<bool> = said
            .iter()
            .map(|passed| {
                health.checked(*passed, THRESHOLDS);
                health.is_up(now, true)
            })
            .collect();
        assert_eq!(states, [false, true, true, true, true, true, true, false, false, true]);
    }

    #[test]
    fn a_refused_connection_counts_at_once() {
        let now = Instant::now();
        let mut health = Health::default();
        health.checked(true, Thresholds { successes: 1, failures: 3 });
        health.refused(now, true);
        assert!(health.is_down(now, true));
    }

    #[test]
    fn without_checks_it_is_left_alone_for_a_while() {
        let now = Instant::now();
        let mut health = Health::default();
        assert!(health.is_up(now, false));
        health.refused(now, false);
        assert!(health.is_down(now, false) && health.is_up(now + FIRST_REST, false));
        health.refused(now, false);
        assert!(!health.is_up(now + FIRST_REST, false) && health.is_up(now + FIRST_REST * 2, false));
        for _ in 0..10 {
            health.refused(now, false);
        }
        assert!(health.is_up(now + LONGEST_REST, false));
        health.connected();
        assert!(health.is_up(now, false));
    }
}
