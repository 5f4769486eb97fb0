//! Where a pod's probes write what they found, and its worker reads it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::counts::PodCounts;
use super::tally::{Kind, Standing};
use crate::engine::notice::Event;

/// Events that wait for the worker to take them. It is rung for each, so more only come together when it is busy; the
/// oldest are dropped then, for the newest say how things are.
const MAX_EVENTS: usize = 64;

/// What the probes of one running container say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProbeResult {
    /// It has no startup probe, or that has passed.
    pub started: bool,
    /// What its readiness probe says; `None` when it has none, and is ready when it has started.
    pub ready: Option<bool>,
    /// It is to be restarted, for this reason.
    pub failed: Option<ProbeFailure>,
}

/// A probe that failed for good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbeFailure {
    /// Startup or liveness: either may have a grace of its own.
    pub kind: Kind,
    /// The last answer.
    pub message: String,
}

/// One for each pod; cheap to clone.
#[derive(Clone, Debug)]
pub struct Board {
    content: Arc<Mutex<Content>>,
    bell: Arc<Notify>,
    /// How often what was answered.
    pub counts: Arc<PodCounts>,
}

#[derive(Debug, Default)]
struct Content {
    results: BTreeMap<String, ProbeResult>,
    events: Vec<Event>,
}

impl Board {
    /// An empty one, whose changes ring `bell`.
    pub fn new(bell: Arc<Notify>, counts: PodCounts) -> Self {
        Board { content: Arc::default(), bell, counts: Arc::new(counts) }
    }

    /// What is known of each running container, by id.
    pub fn results(&self) -> BTreeMap<String, ProbeResult> {
        self.content().results.clone()
    }

    /// What is known of one of them.
    pub fn result(&self, id: &str) -> Option<ProbeResult> {
        self.content().results.get(id).cloned()
    }

    /// What has happened since this was asked last.
    pub fn take_events(&self) -> Vec<Event> {
        std::mem::take(&mut self.content().events)
    }

    /// Begins to keep what is known of a container.
    pub fn insert(&self, id: &str, result: ProbeResult) {
        self.content().results.insert(id.to_owned(), result);
    }

    /// Changes what is known of a container without ringing: whoever asks for it knows.
    pub fn amend(&self, id: &str, change: impl FnOnce(&mut ProbeResult)) {
        if let Some(result) = self.content().results.get_mut(id) {
            change(result);
        }
    }

    /// Forgets a container.
    pub fn remove(&self, id: &str) {
        self.content().results.remove(id);
    }

    /// Writes what counts from now on. A container that is gone keeps nothing.
    pub fn settle(&self, id: &str, kind: Kind, standing: Standing, message: &str) {
        let mut content = self.content();
        let Some(result) = content.results.get_mut(id) else { return };
        let passing = standing == Standing::Passing;
        match kind {
            Kind::Startup => result.started = passing,
            Kind::Readiness => result.ready = Some(passing),
            Kind::Liveness => {}
        }
        if kind != Kind::Readiness && standing == Standing::Failing {
            result.failed = Some(ProbeFailure { kind, message: message.to_owned() });
        }
        drop(content);
        self.bell.notify_one();
    }

    /// Tells something.
    pub fn tell(&self, event: Event) {
        let mut content = self.content();
        if content.events.len() == MAX_EVENTS {
            content.events.remove(0);
        }
        content.events.push(event);
        drop(content);
        self.bell.notify_one();
    }

    fn content(&self) -> MutexGuard<'_, Content> {
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
