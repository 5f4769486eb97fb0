//! The planner: what one pod needs next. A pure function of the desired pod, the observed one and the time; the worker
//! carries out what it answers and asks again.
//!
//! It follows kubelet's rules (`computePodActions`, `getPhase`):
//! ```text
//!  no sandbox ──create──> init containers, in order ──> containers, each by itself ──> nothing runs, nothing is due
//!      ^                          |                           |                                    |
//!      └── the sandbox died ──────┴───────────────────────────┘                 sidecars, sandbox stopped: finished
//! ```
//! What ends is restarted in place by `restartPolicy` and back-off. A sandbox that died is replaced, with its init
//! containers run again, unless nothing of the pod may run again.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};

use super::backoff::Policy;
pub use super::change::{Change, Effect, preview};
use super::orders::Stop;
use super::phase::{self, Phase};
use super::time::{Monotonic, format_duration};
use super::view::{ContainerView, Failure, PodStatusView, State};

#[cfg(test)]
mod tests;

/// What somebody wants of one pod.
#[derive(Clone, Copy, Debug)]
pub struct Desired<'a> {
    /// The pod, after defaulting.
    pub pod: &'a Pod,
    /// Restart back-off.
    pub backoff: Policy,
    /// Set when the pod shall end: what still runs then is killed.
    pub stop: Option<Stop>,
}

/// The planner's answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// What to do now, in this order.
    pub actions: Vec<Action>,
    /// When to ask again, even if nothing happens.
    pub wake_at: Option<Monotonic>,
    /// Why containers that do not run do not.
    pub waiting: BTreeMap<String, Waiting>,
    /// The pod's phase.
    pub phase: Phase,
    /// Nothing runs and nothing will: the pod can be removed.
    pub finished: bool,
}

/// One step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Make the pod's directories and a sandbox.
    CreateSandbox {
        /// Counts from 0.
        attempt: u32,
    },
    /// Give back what a sandbox holds.
    StopSandbox {
        /// Its id.
        id: String,
    },
    /// Forget a sandbox that was replaced.
    RemoveSandbox {
        /// Its id.
        id: String,
    },
    /// Pull, create and start a container.
    StartContainer {
        /// The name in the spec.
        name: String,
        /// Counts from 0.
        attempt: u32,
        /// The sandbox to put it in.
        sandbox: String,
    },
    /// Stop a container: its stop signal, and SIGKILL at `deadline`.
    StopContainer {
        /// Its id.
        id: String,
        /// The name in the spec.
        name: String,
        /// When patience ends.
        deadline: Monotonic,
    },
    /// Forget an instance that is neither the newest of its name nor the one before it.
    RemoveContainer {
        /// Its id.
        id: String,
        /// The name in the spec.
        name: String,
        /// Its log file's number.
        attempt: u32,
    },
}

/// Why a container does not run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// kubelet's word: `ContainerCreating`, `PodInitializing`, `CrashLoopBackOff`, `ErrImagePull` …
    pub reason: String,
    /// More, for people.
    pub message: String,
    /// When it is tried again.
    pub until: Option<Monotonic>,
    /// The whole wait, of which some may be over.
    pub delay: Duration,
}

impl Waiting {
    /// Waiting for nothing but this worker's next step.
    pub fn new(reason: &str, message: String) -> Self {
        Waiting { reason: reason.to_owned(), message, until: None, delay: Duration::ZERO }
    }
}

/// When a container is started again after it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestartPolicy {
    /// Whatever its exit code.
    Always,
    /// When its exit code is not 0.
    OnFailure,
    /// Never.
    Never,
}

impl RestartPolicy {
    /// The policy of a pod; `Always` when unset, as Kubernetes defaults it.
    pub fn of(spec: &PodSpec) -> Self {
        match spec.restart_policy.as_deref() {
            Some("Never") => RestartPolicy::Never,
            Some("OnFailure") => RestartPolicy::OnFailure,
            _ => RestartPolicy::Always,
        }
    }

    /// Whether a container that ended with `code` runs again.
    pub fn restarts(self, code: i32) -> bool {
        match self {
            RestartPolicy::Always => true,
            RestartPolicy::OnFailure => code != 0,
            RestartPolicy::Never => false,
        }
    }
}

/// Whether an init container is a sidecar: started in its turn, and kept running beside the containers.
pub fn is_sidecar(container: &Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

/// The pod's spec; a pod without one has no containers, and validation refuses it before it gets here.
pub fn spec_of(pod: &Pod) -> &PodSpec {
    static EMPTY: std::sync::LazyLock<PodSpec> = std::sync::LazyLock::new(PodSpec::default);
    pod.spec.as_ref().unwrap_or(&EMPTY)
}

/// The init containers of a pod.
pub fn init_of(spec: &PodSpec) -> &[Container] {
    spec.init_containers.as_deref().unwrap_or_default()
}

/// The names of a pod's containers, init containers first.
pub fn names_of(spec: &PodSpec) -> impl Iterator<Item = &str> {
    init_of(spec).iter().chain(&spec.containers).map(|container| container.name.as_str())
}

/// Decides what `desired` needs next.
pub fn plan(desired: &Desired<'_>, observed: &PodStatusView, now: Monotonic) -> Plan {
    let mut planner = Planner {
        desired,
        spec: spec_of(desired.pod),
        policy: RestartPolicy::of(spec_of(desired.pod)),
        observed,
        now,
        plan: Plan::default(),
    };
    planner.prune();
    let ending = desired.stop.is_some() || observed.history.fatal().is_some();
    let over = if ending { planner.end() } else { planner.advance() };
    if over {
        planner.wind_up();
    }
    planner.plan.phase = phase::of(planner.spec, observed, over);
    planner.plan
}

struct Planner<'a> {
    desired: &'a Desired<'a>,
    spec: &'a PodSpec,
    policy: RestartPolicy,
    observed: &'a PodStatusView,
    now: Monotonic,
    plan: Plan,
}

impl<'a> Planner<'a> {
    /// Forgets what is older than the newest instance and the one before it, and sandboxes that hold none of them.
    fn prune(&mut self) {
        let newest = self.observed.sandbox().map(|sandbox| sandbox.id.as_str());
        let mut seen: BTreeMap<&str, u32> = BTreeMap::new();
        let mut kept = Vec::new();
        for container in &self.observed.containers {
            let count = seen.entry(&container.name).or_default();
            *count += 1;
            if *count > 2 && !container.running() {
                self.plan.actions.push(remove(container));
            } else {
                kept.push(container.sandbox.as_str());
            }
        }
        for sandbox in &self.observed.sandboxes {
            let id = sandbox.id.as_str();
            if Some(id) != newest && self.observed.history.stopped.contains(id) && !kept.contains(&id) {
                self.plan.actions.push(Action::RemoveSandbox { id: sandbox.id.clone() });
            }
        }
    }

    /// One step of a pod that shall run; true when it is over.
    fn advance(&mut self) -> bool {
        let Some(sandbox) = self.observed.sandbox().filter(|sandbox| sandbox.ready) else {
            return self.replace_sandbox();
        };
        self.stop_dead_sandboxes();
        let id = sandbox.id.as_str();
        if !self.main_began(id) {
            match self.advance_init(id) {
                Init::Waiting => {
                    self.wait_for_init();
                    return false;
                }
                Init::Failed => return self.stop_running(self.grace()),
                Init::Done => {}
            }
        } else {
            self.keep_sidecars(id);
        }
        let mut busy = false;
        for container in &self.spec.containers {
            busy |= self.advance_main(container, id);
        }
        !busy
    }

    /// kubelet's rule for a pod whose sandbox is missing or dead; true when the pod is over instead.
    fn replace_sandbox(&mut self) -> bool {
        let dead = self.observed.sandbox();
        if dead.is_some() && !self.worth_another_sandbox() {
            return true;
        }
        self.stop_dead_sandboxes();
        let track = &self.observed.history.sandbox;
        let due = track.not_before(&self.desired.backoff, dead.map(|dead| dead.attempt), self.now);
        if due > self.now {
            self.wake(due);
        } else {
            self.plan.actions.push(Action::CreateSandbox { attempt: dead.map_or(0, |dead| dead.attempt + 1) });
        }
        self.wait_for_sandbox(due);
        false
    }

    fn worth_another_sandbox(&self) -> bool {
        match self.policy {
            RestartPolicy::Always => true,
            RestartPolicy::Never => self.observed.containers.is_empty(),
            RestartPolicy::OnFailure => self.spec.containers.iter().any(|container| !self.succeeded(&container.name)),
        }
    }

    fn succeeded(&self, name: &str) -> bool {
        self.observed.latest(name).and_then(ContainerView::exit).is_some_and(|exit| exit.code == 0)
    }

    fn main_began(&self, sandbox: &str) -> bool {
        self.spec.containers.iter().any(|container| {
            self.observed.latest_in(&container.name, sandbox).is_some_and(|seen| seen.state != State::Created)
        })
    }

    fn advance_init(&mut self, sandbox: &str) -> Init {
        for container in init_of(self.spec) {
            let sidecar = is_sidecar(container);
            match self.observed.latest_in(&container.name, sandbox) {
                Some(seen) if seen.running() => {
                    if sidecar {
                        continue;
                    }
                    return Init::Waiting;
                }
                Some(seen) => match seen.exit() {
                    Some(exit) if exit.code == 0 && !sidecar => continue,
                    Some(_) if self.policy == RestartPolicy::Never && !sidecar => return Init::Failed,
                    _ => self.start(&container.name, sandbox),
                },
                None => self.start(&container.name, sandbox),
            }
            return Init::Waiting;
        }
        Init::Done
    }

    /// Once the containers run, sidecars that end are started again, whatever the pod's policy.
    fn keep_sidecars(&mut self, sandbox: &str) {
        let running = self.spec.containers.iter().any(|container| {
            let Some(seen) = self.observed.latest_in(&container.name, sandbox) else { return true };
            seen.exit().is_none_or(|exit| self.policy.restarts(exit.code))
        });
        if !running {
            return;
        }
        for container in init_of(self.spec).iter().filter(|container| is_sidecar(container)) {
            if !self.observed.latest_in(&container.name, sandbox).is_some_and(ContainerView::running) {
                self.start(&container.name, sandbox);
            }
        }
    }

    /// One step of a container; true while it runs or will run.
    fn advance_main(&mut self, container: &Container, sandbox: &str) -> bool {
        // In a replaced sandbox the newest instance may be in the old one: its exit decides all the same.
        let exit = match self.observed.latest(&container.name) {
            Some(seen) if seen.running() && seen.sandbox == sandbox => return true,
            Some(seen) => seen.exit(),
            None => None,
        };
        if exit.is_some_and(|exit| !self.policy.restarts(exit.code)) {
            return false;
        }
        self.start(&container.name, sandbox);
        true
    }

    /// Starts a container now, or says until when it waits.
    fn start(&mut self, name: &str, sandbox: &str) {
        let latest = self.observed.latest(name);
        let ended = latest.filter(|seen| seen.exit().is_some()).map(|seen| seen.attempt);
        let track = self.observed.history.container(name).cloned().unwrap_or_default();
        let due = track.not_before(&self.desired.backoff, ended, self.now);
        let waiting = match (&track.failure, ended) {
            (Some(failure), _) => failed(failure, Some(due)),
            (None, Some(_)) if due > self.now => self.crash_loop(name, &track, due),
            _ => Waiting::new(self.creating(), String::new()),
        };
        self.plan.waiting.insert(name.to_owned(), waiting);
        if due > self.now {
            return self.wake(due);
        }
        // What was made and not started is in the way of its own attempt number.
        for leftover in self.observed.instances(name).filter(|seen| seen.state == State::Created) {
            let removal = remove(leftover);
            if !self.plan.actions.contains(&removal) {
                self.plan.actions.push(removal);
            }
        }
        let attempt = match latest {
            Some(seen) if seen.state == State::Created => seen.attempt,
            Some(seen) => seen.attempt + 1,
            None => 0,
        };
        self.plan.actions.push(Action::StartContainer { name: name.to_owned(), attempt, sandbox: sandbox.to_owned() });
    }

    fn crash_loop(&self, name: &str, track: &super::view::Track, due: Monotonic) -> Waiting {
        let ended = track.ended.map_or(self.now, |(_, at)| at);
        let meta = &self.desired.pod.metadata;
        Waiting {
            reason: "CrashLoopBackOff".into(),
            message: format!(
                "back-off {} restarting failed container={name} pod={}_{}({})",
                format_duration(due - ended),
                meta.name.as_deref().unwrap_or_default(),
                meta.namespace.as_deref().unwrap_or_default(),
                meta.uid.as_deref().unwrap_or_default(),
            ),
            until: Some(due),
            delay: due - ended,
        }
    }

    /// A pod on its way out; true when it is over.
    fn end(&mut self) -> bool {
        if let Some(failure) = self.observed.history.fatal() {
            for (name, track) in &self.observed.history.containers {
                if track.failure.as_ref() == Some(failure) {
                    self.plan.waiting.insert(name.clone(), failed(failure, None));
                }
            }
        }
        self.stop_running(self.desired.stop.map_or_else(|| self.grace(), |stop| stop.deadline))
    }

    /// Stops containers and running init containers at once, then the sidecars in reverse order; true when none runs.
    fn stop_running(&mut self, deadline: Monotonic) -> bool {
        let sidecars: Vec<&str> =
            init_of(self.spec).iter().filter(|init| is_sidecar(init)).map(|init| init.name.as_str()).collect();
        let running: Vec<&ContainerView> = self.observed.containers.iter().filter(|seen| seen.running()).collect();
        let (last, first): (Vec<_>, Vec<_>) =
            running.iter().copied().partition(|seen| sidecars.contains(&seen.name.as_str()));
        if first.is_empty() {
            let next = sidecars.iter().rev().find_map(|name| last.iter().find(|seen| seen.name == *name));
            if let Some(sidecar) = next {
                self.plan.actions.push(stop(sidecar, deadline));
            }
        } else {
            self.plan.actions.extend(first.iter().map(|seen| stop(seen, deadline)));
        }
        if !running.is_empty() {
            // The runtime kills at the deadline; a second later it is time to look whether it did.
            self.wake(deadline.max(self.now) + Duration::from_secs(1));
        }
        running.is_empty()
    }

    /// Everything of the pod's own accord is over: sidecars end, then the sandboxes are given back.
    fn wind_up(&mut self) {
        if !self.stop_running(self.desired.stop.map_or_else(|| self.grace(), |stop| stop.deadline)) {
            return;
        }
        let stopped = &self.observed.history.stopped;
        let open: Vec<_> = self.observed.sandboxes.iter().filter(|sandbox| !stopped.contains(&sandbox.id)).collect();
        self.plan.finished = open.is_empty();
        self.plan.actions.extend(open.iter().map(|sandbox| Action::StopSandbox { id: sandbox.id.clone() }));
        if self.plan.finished {
            self.plan.actions.clear();
            self.plan.wake_at = None;
        }
    }

    fn stop_dead_sandboxes(&mut self) {
        for sandbox in &self.observed.sandboxes {
            if !sandbox.ready && !self.observed.history.stopped.contains(&sandbox.id) {
                self.plan.actions.push(Action::StopSandbox { id: sandbox.id.clone() });
            }
        }
    }

    /// Containers that an unfinished init container holds up.
    fn wait_for_init(&mut self) {
        for container in init_of(self.spec).iter().chain(&self.spec.containers) {
            if self.observed.latest(&container.name).is_none_or(|seen| seen.state == State::Created) {
                self.wait(&container.name, "PodInitializing", String::new());
            }
        }
    }

    fn wait_for_sandbox(&mut self, due: Monotonic) {
        let failure = self.observed.history.sandbox.failure.clone();
        for container in init_of(self.spec).iter().chain(&self.spec.containers) {
            let message = failure.as_ref().map(|failure| failure.message.clone()).unwrap_or_default();
            self.wait(&container.name, self.creating(), message);
            if let Some(waiting) = self.plan.waiting.get_mut(&container.name) {
                waiting.until = (due > self.now).then_some(due);
                waiting.delay = due - failure.as_ref().map_or(self.now, |failure| failure.at);
            }
        }
    }

    fn wait(&mut self, name: &str, reason: &str, message: String) {
        self.plan.waiting.entry(name.to_owned()).or_insert_with(|| Waiting::new(reason, message));
    }

    fn creating(&self) -> &'static str {
        if init_of(self.spec).is_empty() { "ContainerCreating" } else { "PodInitializing" }
    }

    /// The pod's own grace, from now.
    fn grace(&self) -> Monotonic {
        self.now + super::grace_of(self.desired.pod)
    }

    fn wake(&mut self, at: Monotonic) {
        self.plan.wake_at = Some(self.plan.wake_at.map_or(at, |before| before.min(at)));
    }
}

enum Init {
    Waiting,
    Failed,
    Done,
}

fn remove(container: &ContainerView) -> Action {
    Action::RemoveContainer { id: container.id.clone(), name: container.name.clone(), attempt: container.attempt }
}

fn stop(container: &ContainerView, deadline: Monotonic) -> Action {
    Action::StopContainer { id: container.id.clone(), name: container.name.clone(), deadline }
}

fn failed(failure: &Failure, until: Option<Monotonic>) -> Waiting {
    // As kubelet: the error itself at first, then that it is being waited for.
    let reason = match failure.reason.as_str() {
        "ErrImagePull" if failure.count > 1 => "ImagePullBackOff",
        reason => reason,
    };
    let delay = until.map_or(Duration::ZERO, |until| until - failure.at);
    Waiting { until, delay, ..Waiting::new(reason, failure.message.clone()) }
}
