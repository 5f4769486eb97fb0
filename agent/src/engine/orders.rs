//! What is asked of a pod's worker, and the handle by which it is asked.
//!
//! Orders are a state, not a queue: the newest ones count, and a worker that was busy misses nothing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

use super::config::names::PodKey;
use super::plan::{self, Waiting, spec_of};
use super::time::{Clock, Monotonic};
use super::worker::Outcome;
use crate::net::Surroundings;

/// Why a pod may not begin yet: no sandbox is made while it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gate {
    /// One word: `WaitingForDependencies`.
    pub reason: String,
    /// What it waits for.
    pub message: String,
}

impl Gate {
    /// Two reasons to wait as one.
    pub fn both(one: Option<Gate>, other: Option<Gate>) -> Option<Gate> {
        match (one, other) {
            (Some(one), Some(other)) => {
                Some(Gate { message: format!("{}, {}", one.message, other.message), reason: one.reason })
            }
            (one, other) => one.or(other),
        }
    }
}

/// Why a pod was ended by the node: it is Failed with these words, until it is restarted or changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Eviction {
    /// `Evicted`, `DeadlineExceeded` …
    pub reason: String,
    /// The whole story.
    pub message: String,
    /// How long its containers may take to stop; the pod's own grace when not said.
    pub grace: Option<Duration>,
}

impl Eviction {
    /// A node that runs short has ended the pod.
    pub const EVICTED: &str = "Evicted";
    /// It was active for longer than it may be.
    pub const DEADLINE_EXCEEDED: &str = "DeadlineExceeded";
    /// It made room for a critical pod.
    pub const PREEMPTING: &str = "Preempting";
    /// The node goes down.
    pub const TERMINATED: &str = "Terminated";

    /// What is said of it to those who count how often pods are disrupted; none where the pod itself was the cause.
    pub fn disrupts(&self) -> Option<&str> {
        match self.reason.as_str() {
            Self::EVICTED | Self::TERMINATED => Some(&self.message),
            Self::PREEMPTING => Some("Pod was preempted by Kubelet to accommodate a critical pod."),
            _ => None,
        }
    }
}

/// When a pod that shall end is to be gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stop {
    /// When patience ends.
    pub deadline: Monotonic,
    /// What was granted: with nothing, everything is killed at once.
    pub grace: Duration,
}

/// What is asked of a worker.
#[derive(Clone, Debug)]
pub(super) struct Orders {
    /// The pod, after defaulting.
    pub pod: Arc<Pod>,
    /// It shall end.
    pub stop: Option<Stop>,
    /// It shall not begin.
    pub gate: Option<Gate>,
    /// What it knows of other pods.
    pub around: Arc<Surroundings>,
    /// It is ended by the node; the number counts evictions.
    pub eviction: Option<(u64, Eviction)>,
    /// The number of the last request to restart a container, or the pod.
    pub restarts: BTreeMap<Option<String>, u64>,
    serial: u64,
}

impl Orders {
    pub(super) fn new(pod: Arc<Pod>, gate: Option<Gate>, around: Arc<Surroundings>) -> Self {
        Orders { pod, stop: None, gate, around, eviction: None, restarts: BTreeMap::new(), serial: 0 }
    }

    fn next(&mut self) -> u64 {
        self.serial += 1;
        self.serial
    }
}

/// What a worker last saw of its pod.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Seen {
    /// The pod with its status; none before the first look.
    pub pod: Option<Arc<Pod>>,
    /// Why containers that do not run do not, and when they are tried again.
    pub waiting: BTreeMap<String, Waiting>,
    /// When the worker looks again by itself.
    pub wake_at: Option<Monotonic>,
    /// Nothing of the pod runs, and nothing will unless it is changed or restarted.
    pub finished: bool,
    /// It waits for others before it begins.
    pub held: bool,
    /// The last order to restart or evict that is noted, and written down where pods outlive this process.
    pub obeyed: u64,
}

/// There is no such container in the pod.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("pod {namespace}/{pod} has no container \"{container}\"; there are: {}", known.join(", "))]
pub struct NoSuchContainer {
    namespace: String,
    pod: String,
    container: String,
    known: Vec<String>,
}

/// A pod that is being worked on.
#[derive(Debug)]
pub struct PodHandle {
    orders: watch::Sender<Orders>,
    seen: watch::Receiver<Seen>,
    /// Its outcome is asked for: nobody needs its record any more, and it does not wait for another life.
    wanted: Arc<Notify>,
    task: JoinHandle<Outcome>,
    clock: Clock,
}

impl PodHandle {
    pub(super) fn new(
        orders: watch::Sender<Orders>,
        seen: watch::Receiver<Seen>,
        wanted: Arc<Notify>,
        task: JoinHandle<Outcome>,
        clock: Clock,
    ) -> Self {
        PodHandle { orders, seen, wanted, task, clock }
    }

    /// The pod as it is wanted now.
    pub fn pod(&self) -> Arc<Pod> {
        self.orders.borrow().pod.clone()
    }

    /// What the worker sees, whenever that changes.
    pub fn seen(&self) -> watch::Receiver<Seen> {
        self.seen.clone()
    }

    /// Gives the pod a new definition; only what differs is restarted. A pod of another uid is another pod, and is
    /// refused: false.
    pub fn update(&self, pod: Arc<Pod>) -> bool {
        if pod.metadata.uid != self.pod().metadata.uid {
            return false;
        }
        self.orders.send_if_modified(|orders| {
            let changed = orders.pod != pod;
            orders.pod = pod;
            changed
        });
        true
    }

    /// Restarts one container, or with none the whole pod: in a new sandbox, its init containers first. Neither waits
    /// for a back-off, and a pod that is over begins again. The number of the order: see [`Seen::obeyed`].
    pub fn restart(&self, container: Option<&str>) -> Result<u64, NoSuchContainer> {
        let pod = self.pod();
        if let Some(name) = container {
            let known: Vec<String> = plan::names_of(spec_of(&pod)).map(str::to_owned).collect();
            if !known.iter().any(|known| known == name) {
                let key = PodKey::of(&pod);
                let container = name.to_owned();
                return Err(NoSuchContainer { namespace: key.namespace, pod: key.name, container, known });
            }
        }
        let mut number = 0;
        self.orders.send_modify(|orders| {
            number = orders.next();
            orders.restarts.insert(container.map(str::to_owned), number);
        });
        Ok(number)
    }

    /// What tells the pod of others.
    pub fn guide(&self) -> Guide {
        Guide { orders: self.orders.clone() }
    }

    /// Holds the pod back, or lets it go.
    #[cfg(test)]
    pub fn gate(&self, gate: Option<Gate>) {
        self.guide().gate(gate);
    }

    /// What asks the pod to end.
    pub fn stopper(&self) -> Stopper {
        Stopper { orders: self.orders.clone(), clock: self.clock }
    }

    /// Asks the pod to end within `grace`.
    #[cfg(test)]
    pub fn stop(&self, grace: Duration) {
        self.stopper().stop(grace);
    }

    /// The worker dies, as with its agent.
    #[cfg(test)]
    pub async fn kill(self) {
        self.task.abort();
        let _ = self.task.await;
    }

    /// Waits for the pod's end. A pod that is over waits for another definition or restart until this is called.
    pub async fn outcome(self) -> Outcome {
        let PodHandle { task, orders, wanted, .. } = self;
        wanted.notify_one();
        let outcome = match task.await {
            Ok(outcome) => outcome,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        };
        drop(orders);
        outcome
    }
}

/// Tells one pod of others.
#[derive(Clone, Debug)]
pub struct Guide {
    orders: watch::Sender<Orders>,
}

impl Guide {
    /// Holds the pod back, or lets it go. What has a sandbox already is not touched.
    pub fn gate(&self, gate: Option<Gate>) {
        self.orders.send_if_modified(|orders| {
            let changed = orders.gate != gate;
            orders.gate = gate;
            changed
        });
    }

    /// Tells what it is linked to. Its hosts file follows; what runs keeps its variables.
    pub fn surround(&self, around: Surroundings) {
        self.orders.send_if_modified(|orders| {
            let changed = *orders.around != around;
            if changed {
                orders.around = Arc::new(around);
            }
            changed
        });
    }
}

/// Asks one pod to end.
#[derive(Clone, Debug)]
pub struct Stopper {
    orders: watch::Sender<Orders>,
    clock: Clock,
}

impl Stopper {
    /// Ends the pod as Failed with these words, within `grace` or its own. It stays so, also for the next agent, until
    /// it is restarted or its definition changes.
    pub fn evict(&self, reason: &str, message: &str, grace: Option<Duration>) {
        let eviction = Eviction { reason: reason.to_owned(), message: message.to_owned(), grace };
        self.orders.send_modify(|orders| orders.eviction = Some((orders.next(), eviction)));
    }

    /// The pod's own grace.
    pub fn grace(&self) -> Duration {
        grace_of(&self.orders.borrow().pod)
    }

    /// Asks the pod to end within `grace`; a later call can only shorten what is left.
    pub fn stop(&self, grace: Duration) {
        let deadline = self.clock.now() + grace;
        self.orders.send_if_modified(|orders| {
            let sooner = orders.stop.is_none_or(|before| deadline < before.deadline);
            if sooner {
                orders.stop = Some(Stop { deadline, grace });
            }
            sooner
        });
    }
}

/// How long a pod's containers may take to stop.
pub fn grace_of(pod: &Pod) -> Duration {
    seconds(spec_of(pod).termination_grace_period_seconds.unwrap_or(30))
}

/// Seconds as manifests write them; negative ones are none.
pub(super) fn seconds(seconds: i64) -> Duration {
    Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
}
