//! How often probes were asked, and what they answered: for who watches the agent in numbers.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::Kind;
use crate::engine::action::{Answer, Outcome};
use crate::engine::config::names::PodKey;
use crate::node::metrics::Histogram;

/// Which probe, and what it answered: `successful`, `failed` or `unknown`, as kubelet has it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Counted {
    /// The pod.
    pub pod: PodKey,
    /// The container's name.
    pub container: String,
    /// Which of its probes.
    pub kind: Kind,
    /// The answer.
    pub result: &'static str,
}

/// Upper bounds of the durations that are told apart, in seconds: Prometheus' usual ones, as kubelet has them.
pub const BOUNDS: [f64; 11] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// How long one kind of answer took, and with it how often it came.
pub type Took = Histogram<{ BOUNDS.len() }>;

/// The counts of every pod. Cheap to clone; all clones count together.
#[derive(Clone, Debug, Default)]
pub struct Counts(Arc<Mutex<BTreeMap<Counted, Took>>>);

impl Counts {
    /// What was counted so far.
    pub fn read(&self) -> BTreeMap<Counted, Took> {
        self.lock().clone()
    }

    /// For the probes of one pod.
    pub fn of(&self, pod: PodKey) -> PodCounts {
        PodCounts { counts: self.clone(), pod }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Counted, Took>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The counts of one pod; they go with it.
#[derive(Debug, Default)]
pub struct PodCounts {
    counts: Counts,
    pod: PodKey,
}

impl PodCounts {
    /// Counts an answer.
    pub fn note(&self, container: &str, kind: Kind, outcome: &Outcome, took: Duration) {
        let result = match outcome {
            Ok(Answer::Failed(_)) => "failed",
            Ok(_) => "successful",
            Err(_) => "unknown",
        };
        let counted = Counted { pod: self.pod.clone(), container: container.to_owned(), kind, result };
        self.counts.lock().entry(counted).or_default().note(took.as_secs_f64(), &BOUNDS);
    }
}

impl Drop for PodCounts {
    fn drop(&mut self) {
        self.counts.lock().retain(|counted, _| counted.pod != self.pod);
    }
}
