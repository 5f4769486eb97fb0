//! What a probe's answers amount to: a pure state machine for one probe of one instance of a container.
//!
//! ```text
//!              successThreshold passes in a row
//!   Undecided ────────────────────────────────────> Passing      startup begins Undecided, readiness Failing,
//!       │                                           │    ^       liveness Passing
//!       │    failureThreshold failures in a row     v    │
//!       └────────────────────────────────────────> Failing
//! ```
//! Startup is over when it is decided, liveness when it fails: what follows is another instance.

use std::fmt;

use k8s_openapi::api::core::v1::Probe;

/// Which probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Until it passes the others wait, and the container has not started.
    Startup,
    /// A container that fails it is restarted.
    Liveness,
    /// A container that fails it is not ready.
    Readiness,
}

impl Kind {
    /// All of them; a container's startup probe first, for the others wait for it.
    pub const ALL: [Kind; 3] = [Kind::Startup, Kind::Liveness, Kind::Readiness];

    /// Where an instance begins.
    pub fn initial(self) -> Standing {
        match self {
            Kind::Startup => Standing::Undecided,
            Kind::Liveness => Standing::Passing,
            Kind::Readiness => Standing::Failing,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Startup => "Startup",
            Kind::Liveness => "Liveness",
            Kind::Readiness => "Readiness",
        })
    }
}

/// What counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Nothing has been decided yet.
    Undecided,
    /// It passes.
    Passing,
    /// It fails.
    Failing,
}

/// How many answers in a row it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Thresholds {
    /// Passes.
    pub success: u32,
    /// Failures.
    pub failure: u32,
}

impl Thresholds {
    /// Those of a probe, with Kubernetes' defaults.
    pub fn of(probe: &Probe) -> Self {
        let at_least_one = |given: Option<i32>, default: u32| {
            given.and_then(|given| u32::try_from(given).ok()).filter(|given| *given > 0).unwrap_or(default)
        };
        Thresholds {
            success: at_least_one(probe.success_threshold, 1),
            failure: at_least_one(probe.failure_threshold, 3),
        }
    }
}

/// One probe's answers so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tally {
    kind: Kind,
    thresholds: Thresholds,
    standing: Standing,
    /// The last answer, and how often in a row it came; it counts no further than it matters.
    run: Option<(bool, u32)>,
}

/// What one more answer changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// The answers so far.
    pub tally: Tally,
    /// Something else counts than before.
    pub changed: bool,
    /// It is the first of its kind: the one before was the other, or there was none.
    pub turned: bool,
}

impl Tally {
    /// No answer yet; `standing` is what counts until there are enough.
    pub fn new(kind: Kind, thresholds: Thresholds, standing: Standing) -> Self {
        Tally { kind, thresholds, standing, run: None }
    }

    /// What counts.
    pub fn standing(&self) -> Standing {
        self.standing
    }

    /// Whether no answer can change anything any more.
    pub fn over(&self) -> bool {
        match self.kind {
            Kind::Startup => self.standing != Standing::Undecided,
            Kind::Liveness => self.standing == Standing::Failing,
            Kind::Readiness => false,
        }
    }

    /// Takes one more answer into account.
    pub fn next(self, passed: bool) -> Step {
        if self.over() {
            return Step { tally: self, changed: false, turned: false };
        }
        let (count, turned) = match self.run {
            Some((last, count)) if last == passed => (count.saturating_add(1), false),
            _ => (1, true),
        };
        let (needed, reached) = match passed {
            true => (self.thresholds.success, Standing::Passing),
            false => (self.thresholds.failure, Standing::Failing),
        };
        let standing = if count >= needed { reached } else { self.standing };
        let tally = Tally { standing, run: Some((passed, count)), ..self };
        Step { tally, changed: standing != self.standing, turned }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers as `+` and `-`; what counts after each as `?`, `+` and `-`.
    fn standings(kind: Kind, success: u32, failure: u32, answers: &str) -> String {
        let mut tally = Tally::new(kind, Thresholds { success, failure }, kind.initial());
        let mut counts = String::new();
        for answer in answers.chars() {
            tally = tally.next(answer == '+').tally;
            counts.push(match tally.standing() {
                Standing::Undecided => '?',
                Standing::Passing => '+',
                Standing::Failing => '-',
            });
        }
        counts
    }

    #[test]
    fn readiness_turns_when_enough_answers_in_a_row_say_so() {
        for (success, failure, answers, counts) in [
            (1, 3, "+", "+"),
            (1, 3, "-+", "-+"),
            (1, 3, "+--+---", "+++++" /* two failures are not three */),
            (3, 1, "+++-", "--+-"),
            (2, 2, "+-+-+-", "------"),
            (2, 2, "++-+--", "-++++-"),
            (1, 1, "+-+-", "+-+-"),
            (1, 3, "---", "---"),
        ] {
            let seen = standings(Kind::Readiness, success, failure, answers);
            assert!(seen.starts_with(counts), "{success} {failure} {answers}: {seen}, not {counts}");
        }
        assert_eq!(standings(Kind::Readiness, 1, 3, "+--+---"), "++++++-");
    }

    #[test]
    fn liveness_holds_until_it_fails_for_good() {
        for (failure, answers, counts) in
            [(3, "--+--+", "++++++"), (3, "---", "++-"), (1, "-", "-"), (3, "---+++", "++----"), (2, "+-+--", "++++-")]
        {
            assert_eq!(standings(Kind::Liveness, 1, failure, answers), counts, "{failure} {answers}");
        }
    }

    #[test]
    fn startup_is_decided_once() {
        for (failure, answers, counts) in
            [(3, "--+---", "??++++"), (3, "---+", "??--"), (1, "-", "-"), (30, "+", "+"), (3, "", "")]
        {
            assert_eq!(standings(Kind::Startup, 1, failure, answers), counts, "{failure} {answers}");
        }
    }

    #[test]
    fn only_turns_and_changes_are_worth_telling() {
        let thresholds = Thresholds { success: 1, failure: 2 };
        let mut tally = Tally::new(Kind::Readiness, thresholds, Standing::Failing);
        let mut told = Vec::new();
        for answer in [false, false, false, true, true, false, false, false, true] {
            let step = tally.next(answer);
            tally = step.tally;
            told.push((step.turned, step.changed));
        }
        let nothing = (false, false);
        let expected = [
            (true, false), // fails from the start: it was not ready before, either
            nothing,
            nothing,
            (true, true),
            nothing,
            (true, false), // below the threshold
            (false, true), // at it
            nothing,
            (true, true),
        ];
        assert_eq!(told, expected);
    }

    #[test]
    fn thresholds_have_kubernetes_defaults() {
        let probe =
            |success, failure| Probe { success_threshold: success, failure_threshold: failure, ..Probe::default() };
        assert_eq!(Thresholds::of(&probe(None, None)), Thresholds { success: 1, failure: 3 });
        assert_eq!(Thresholds::of(&probe(Some(2), Some(5))), Thresholds { success: 2, failure: 5 });
        assert_eq!(Thresholds::of(&probe(Some(0), Some(-1))), Thresholds { success: 1, failure: 3 });
    }

    #[test]
    fn a_recalled_standing_counts_until_enough_answers_say_otherwise() {
        let thresholds = Thresholds { success: 1, failure: 2 };
        let tally = Tally::new(Kind::Readiness, thresholds, Standing::Passing);
        let once = tally.next(false);
        assert_eq!(once.tally.standing(), Standing::Passing);
        assert_eq!(once.tally.next(false).tally.standing(), Standing::Failing);
    }
}
