//! What the runtime says about one pod, and what the worker remembers about it: the planner's whole input besides the
//! desired pod and the time.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use cri_proto::cri;
use k8s_openapi::api::core::v1::ResourceRequirements;
use serde::{Deserialize, Serialize};

use super::backoff::{Backoff, Policy};
use super::change::{self, Definition};
use super::orders::Eviction;
use super::time::Monotonic;

/// One pod as observed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PodStatusView {
    /// Sandboxes, newest (highest attempt) first.
    pub sandboxes: Vec<SandboxView>,
    /// Containers of every sandbox, newest attempt first.
    pub containers: Vec<ContainerView>,
    /// What the worker remembers.
    pub history: History,
}

/// One sandbox.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SandboxView {
    /// Its id.
    pub id: String,
    /// Counts the pod's sandboxes from 0.
    pub attempt: u32,
    /// False once its shim or network is gone.
    pub ready: bool,
    /// Wall clock, nanoseconds.
    pub created_at: i64,
    /// Its addresses.
    pub ips: Vec<String>,
    /// The hash of what it was made from.
    pub definition: Option<String>,
    /// The runtime does not know it any more: it is remembered.
    pub gone: bool,
}

/// One instance of a container.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ContainerView {
    /// Its id.
    pub id: String,
    /// The name in the pod's spec.
    pub name: String,
    /// The sandbox that it is in.
    pub sandbox: String,
    /// Counts the instances of this name from 0: the restart count, and the name of the log file.
    pub attempt: u32,
    /// What it does.
    pub state: State,
    /// Wall clock, nanoseconds; 0 when it never started.
    pub started_at: i64,
    /// Wall clock, nanoseconds; 0 while it has not ended.
    pub finished_at: i64,
    /// The image as the runtime names it.
    pub image: String,
    /// The image's id or digest.
    pub image_ref: String,
    /// The absolute path of its log.
    pub log_path: String,
    /// The hash of what it was made from.
    pub definition: Option<String>,
    /// The hash of the objects that it was made with, where it follows them.
    pub objects: Option<String>,
    /// The requests and limits that it was made with.
    pub resources: Option<ResourceRequirements>,
    /// What its process may use, as the runtime says.
    pub limits: Option<Limits>,
    /// Who its process runs as.
    pub user: Option<User>,
    /// The signal that stops it.
    pub stop_signal: Option<String>,
    /// The runtime does not know it any more: it is remembered.
    pub gone: bool,
}

/// What a process may use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Of a processor, in thousandths; 0 for no limit.
    pub cpu_milli: i64,
    /// Bytes; 0 for no limit.
    pub memory: i64,
}

/// Who a process runs as.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// Its uid.
    pub uid: i64,
    /// Its gid.
    pub gid: i64,
    /// Its other groups.
    pub groups: Vec<i64>,
}

/// What a container does.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum State {
    /// Made, its process not started.
    #[default]
    Created,
    /// Its process runs.
    Running,
    /// Its process has ended.
    Exited(Exit),
    /// The runtime cannot tell.
    Unknown,
}

/// How a container ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// The exit code; 128 and the signal when a signal ended it.
    pub code: i32,
    /// `Completed`, `Error`, `OOMKilled`, `StartError`, `ContainerStatusUnknown` …
    pub reason: String,
    /// More, for people.
    pub message: String,
}

impl ContainerView {
    /// The exit, where the container has ended. A container that nothing is known about counts as ended with 255.
    pub fn exit(&self) -> Option<Exit> {
        match &self.state {
            State::Exited(exit) => Some(exit.clone()),
            State::Unknown => Some(Exit {
                code: 255,
                reason: "ContainerStatusUnknown".into(),
                message: "the container could not be located when its state was asked for".into(),
            }),
            State::Created | State::Running => None,
        }
    }

    /// Whether its process runs.
    pub fn running(&self) -> bool {
        self.state == State::Running
    }

    /// Converts the runtime's answer; `sandbox` is not part of it.
    pub fn from_cri(status: &cri::ContainerStatus, sandbox: &str) -> Self {
        let metadata = status.metadata.clone().unwrap_or_default();
        let state = match status.state() {
            cri::ContainerState::ContainerCreated => State::Created,
            cri::ContainerState::ContainerRunning => State::Running,
            cri::ContainerState::ContainerExited => {
                State::Exited(Exit { code: status.exit_code, reason: reason(status), message: status.message.clone() })
            }
            cri::ContainerState::ContainerUnknown => State::Unknown,
        };
        ContainerView {
            id: status.id.clone(),
            name: metadata.name,
            sandbox: sandbox.to_owned(),
            attempt: metadata.attempt,
            state,
            started_at: status.started_at,
            finished_at: status.finished_at,
            image: status.image.as_ref().map(|image| image.image.clone()).unwrap_or_default(),
            image_ref: status.image_ref.clone(),
            log_path: status.log_path.clone(),
            definition: status.annotations.get(change::DEFINITION).cloned(),
            objects: status.annotations.get(change::OBJECTS).cloned(),
            resources: status.annotations.get(change::RESOURCES).and_then(|text| serde_json::from_str(text).ok()),
            limits: status.resources.as_ref().and_then(|resources| resources.linux.as_ref()).map(limits),
            user: status.user.as_ref().and_then(|user| user.linux.clone()).map(|user| User {
                uid: user.uid,
                gid: user.gid,
                groups: user.supplemental_groups,
            }),
            stop_signal: stop_signal(status.stop_signal()),
            gone: false,
        }
    }
}

fn limits(linux: &cri::LinuxContainerResources) -> Limits {
    let period = linux.cpu_period.max(1);
    let cpu_milli = if linux.cpu_quota > 0 { linux.cpu_quota.saturating_mul(1000) / period } else { 0 };
    Limits { cpu_milli, memory: linux.memory_limit_in_bytes.max(0) }
}

/// The signal as a manifest writes it.
fn stop_signal(signal: cri::Signal) -> Option<String> {
    let name = signal.as_str_name().strip_prefix("SIGNAL_").unwrap_or_default();
    (signal != cri::Signal::RuntimeDefault).then(|| name.replace("RTMINPLUS", "RTMIN+").replace("RTMAXMINUS", "RTMAX-"))
}

fn reason(status: &cri::ContainerStatus) -> String {
    match (status.reason.as_str(), status.exit_code) {
        ("", 0) => "Completed".into(),
        ("", _) => "Error".into(),
        (reason, _) => reason.to_owned(),
    }
}

impl PodStatusView {
    /// Sorts what the runtime listed: newest first, by attempt, never by clock.
    pub fn new(mut sandboxes: Vec<SandboxView>, mut containers: Vec<ContainerView>, history: History) -> Self {
        sandboxes.sort_by_key(|sandbox| std::cmp::Reverse((sandbox.attempt, sandbox.created_at)));
        containers.sort_by(|a, b| a.name.cmp(&b.name).then(b.attempt.cmp(&a.attempt)));
        PodStatusView { sandboxes, containers, history }
    }

    /// The newest sandbox.
    pub fn sandbox(&self) -> Option<&SandboxView> {
        self.sandboxes.first()
    }

    /// The instances of a container, newest first.
    pub fn instances<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a ContainerView> {
        self.containers.iter().filter(move |container| container.name == name)
    }

    /// The newest instance of a container, in whatever sandbox.
    pub fn latest(&self, name: &str) -> Option<&ContainerView> {
        self.containers.iter().find(|container| container.name == name)
    }

    /// The newest instance of a container in one sandbox.
    pub fn latest_in(&self, name: &str, sandbox: &str) -> Option<&ContainerView> {
        self.containers.iter().find(|container| container.name == name && container.sandbox == sandbox)
    }
}

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
        if changed && self.eviction.take().is_some() {
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
