//! What a worker remembers about its pod between two looks; `memory` writes it down for the next worker.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use k8s_openapi::api::core::v1::ResourceRequirements;
use serde::{Deserialize, Serialize};

use super::backoff::{Backoff, Policy};
use super::change::{self, Definition, Follows};
use super::orders::Eviction;
use super::time::Monotonic;
use super::view::{ContainerView, SandboxView};

/// kubelet's word for a container whose variables or mounts cannot be made.
const CONFIG_ERROR: &str = "CreateContainerConfigError";

/// Why something could not be made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// kubelet's word for it: `ErrImagePull`, `CreateContainerError` …
    pub reason: String,
    /// The whole story.
    pub message: String,
    /// When.
    pub at: Monotonic,
    /// How often in a row.
    pub count: u32,
    /// Nobody waits for another attempt: the pod fails.
    pub fatal: bool,
}

/// What a worker remembers between two looks: when it saw something end, how long to wait, what was asked of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct History {
    /// By container name.
    pub containers: BTreeMap<String, Track>,
    /// The sandbox's own.
    pub sandbox: Track,
    /// Sandboxes that StopPodSandbox has been called for with success.
    pub stopped: BTreeSet<String>,
    /// Why the node ended the pod.
    pub eviction: Option<Eviction>,
    /// Other resources than those that containers were made with, by their ids.
    pub resized: BTreeMap<String, Resized>,
    /// Since when the pod is active, as far as this boot goes.
    pub active_since: Option<Monotonic>,
    /// How long it was active in boots before this one.
    pub active_before: Duration,
}

/// The resources that a running container was given.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Resized {
    /// What it has by now.
    pub has: Option<ResourceRequirements>,
    /// Why it has not what is wanted, and when that is tried again.
    pub failure: Option<(String, Monotonic)>,
}

/// The memory of one container name, or of the sandbox.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Track {
    /// The newest attempt whose end was seen, and when.
    pub ended: Option<(u32, Monotonic)>,
    /// The wait between an end and the next start.
    pub restarts: Backoff,
    /// The wait between a failed creation and the next try.
    pub retries: Backoff,
    /// The creation that failed last, until one succeeds.
    pub failure: Option<Failure>,
    /// Instances up to this attempt are to be replaced: they stop when they run, and how they ended means nothing.
    pub void: Option<u32>,
    /// Instances up to this attempt were stopped for their ill health: they run again unless the policy is Never.
    pub condemned: Option<u32>,
    /// The lowest attempt that the next instance may have.
    pub next: u32,
    /// What was wanted when this was noted; another definition has no failures yet.
    pub definition: Option<String>,
}

impl Track {
    /// When the next creation may begin, given the end of the newest attempt, if it is one that ended.
    pub fn not_before(&self, policy: &Policy, ended: Option<u32>, now: Monotonic) -> Monotonic {
        let restart = ended.map(|attempt| {
            let at = self.ended.filter(|(seen, _)| *seen == attempt).map_or(now, |(_, at)| at);
            at + self.restarts.delay(policy, at)
        });
        let retry = self.failure.as_ref().map(|failure| failure.at + self.retries.delay(policy, failure.at));
        restart.max(retry).unwrap_or(now)
    }

    fn note_end(&mut self, attempt: u32, now: Monotonic) {
        if self.ended.is_none_or(|(seen, _)| attempt > seen) {
            self.ended = Some((attempt, now));
        }
    }

    /// Marks an instance, and those before it.
    fn mark(mark: &mut Option<u32>, attempt: u32) {
        *mark = Some(mark.map_or(attempt, |before| before.max(attempt)));
    }

    /// Forgets every wait.
    fn reset(&mut self) {
        (self.restarts, self.retries, self.failure) = (Backoff::default(), Backoff::default(), None);
    }

    fn note_definition(&mut self, wanted: &str) -> bool {
        let changed = change::differs(self.definition.as_deref(), wanted);
        if changed {
            self.reset();
        }
        if self.definition.as_deref() != Some(wanted) {
            self.definition = Some(wanted.to_owned());
        }
        changed
    }
}

impl History {
    /// Takes note of ends that are seen for the first time.
    pub fn note(&mut self, sandboxes: &[SandboxView], containers: &[ContainerView], now: Monotonic) {
        for container in containers {
            if container.exit().is_some() {
                self.containers.entry(container.name.clone()).or_default().note_end(container.attempt, now);
            }
        }
        if let Some(dead) = sandboxes.iter().filter(|sandbox| !sandbox.ready).map(|sandbox| sandbox.attempt).max() {
            self.sandbox.note_end(dead, now);
        }
        self.resized.retain(|id, _| containers.iter().any(|container| container.id == *id));
        self.stopped.retain(|id| sandboxes.iter().any(|sandbox| sandbox.id == *id));
    }

    /// Takes note of what is wanted: what failed by another definition may succeed by this one.
    pub fn note_definition(&mut self, definition: &Definition) {
        let mut changed = self.sandbox.note_definition(&definition.sandbox);
        for (name, wanted) in &definition.containers {
            changed |= self.containers.entry(name.clone()).or_default().note_definition(&wanted.hash);
        }
        if changed && definition.follows == Follows::All && self.eviction.take().is_some() {
            (self.active_since, self.active_before) = (None, Duration::ZERO);
        }
    }

    /// Takes note that an attempt of `name` (or of the sandbox) is about to be made.
    pub fn starting(&mut self, name: Option<&str>, policy: &Policy, now: Monotonic) {
        let track = self.track(name);
        // A retry of a creation that failed is no further restart.
        if let (Some((_, ended)), None) = (track.ended, &track.failure) {
            track.restarts.advance(policy, ended, now);
        }
    }

    /// Takes note of a success: the failures before it are over.
    pub fn started(&mut self, name: Option<&str>) {
        let track = self.track(name);
        track.failure = None;
        track.retries = Backoff::default();
    }

    /// Takes note of a creation that failed.
    pub fn failed(&mut self, name: Option<&str>, policy: &Policy, mut failure: Failure) {
        let track = self.track(name);
        failure.count = track.failure.as_ref().map_or(1, |before| before.count + 1);
        let before = track.failure.as_ref().map_or(failure.at, |before| before.at);
        track.retries.advance(policy, before, failure.at);
        track.failure = Some(failure);
    }

    /// What failed for want of what the pod refers to may succeed with what there is now: it is tried again at once.
    pub fn note_objects(&mut self) {
        // Of a sandbox's failures most are of volumes; another one is tried once more for nothing.
        self.sandbox.retries = Backoff::default();
        for track in self.containers.values_mut() {
            if track.failure.as_ref().is_some_and(|failure| failure.reason == CONFIG_ERROR) {
                track.retries = Backoff::default();
            }
        }
    }

    /// Has the instances of `name` (or the sandboxes) up to `attempt` replaced.
    pub fn void(&mut self, name: Option<&str>, attempt: u32) {
        Track::mark(&mut self.track(name).void, attempt);
    }

    /// Takes note that an instance is stopped for its ill health.
    pub fn condemn(&mut self, name: &str, attempt: u32) {
        Track::mark(&mut self.track(Some(name)).condemned, attempt);
    }

    /// Has one container replaced as somebody asked for it: without any wait.
    pub fn restart_container(&mut self, name: &str, latest: Option<u32>) {
        let track = self.track(Some(name));
        track.reset();
        if let Some(attempt) = latest {
            Track::mark(&mut track.void, attempt);
        }
    }

    /// Has the whole pod begin again as somebody asked for it: without any wait, and whatever ended it.
    pub fn restart_pod(&mut self, latest: Option<u32>, now: Monotonic) {
        self.containers.values_mut().for_each(Track::reset);
        self.sandbox.reset();
        if let Some(attempt) = latest {
            Track::mark(&mut self.sandbox.void, attempt);
        }
        self.eviction = None;
        (self.active_since, self.active_before) = (Some(now), Duration::ZERO);
    }

    /// The memory of a container name.
    pub fn container(&self, name: &str) -> Option<&Track> {
        self.containers.get(name)
    }

    /// The first failure that ends the pod.
    pub fn fatal(&self) -> Option<&Failure> {
        let mut failures = self.containers.values().chain([&self.sandbox]).filter_map(|track| track.failure.as_ref());
        failures.find(|failure| failure.fatal)
    }

    fn track(&mut self, name: Option<&str>) -> &mut Track {
        match name {
            Some(name) => self.containers.entry(name.to_owned()).or_default(),
            None => &mut self.sandbox,
        }
    }
}

#[cfg(test)]
impl History {
    /// A container that has been restarted once, at `started`.
    pub fn track_for_tests(&mut self, name: &str, started: Monotonic) {
        self.track(Some(name)).restarts.advance(&Policy::default(), started, started);
    }
}
