//! Starting containers, and saying why one that does not run does not.

use std::time::Duration;

use super::super::history::{Failure, Track};
use super::super::time::{Monotonic, format_duration};
use super::super::view::State;
use super::{Action, Planner, Waiting, init_of, remove};

impl Planner<'_> {
    /// Starts a container now, or says until when it waits.
    pub(super) fn start(&mut self, name: &str, sandbox: &str) {
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
        // As in kubelet, a container starts when the postStart hook of the one before it is through.
        if !self.desired.hooks.is_empty() {
            return;
        }
        // What was made and not started is in the way of its own attempt number.
        for leftover in self.observed.instances(name).filter(|seen| seen.state == State::Created && !seen.gone) {
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
        let (name, sandbox) = (name.to_owned(), sandbox.to_owned());
        self.plan.actions.push(Action::StartContainer { name, attempt: attempt.max(track.next), sandbox });
    }

    fn crash_loop(&self, name: &str, track: &Track, due: Monotonic) -> Waiting {
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

    /// Containers that an unfinished init container holds up.
    pub(super) fn wait_for_init(&mut self) {
        for container in init_of(self.spec).iter().chain(&self.spec.containers) {
            let held = match self.observed.latest(&container.name) {
                Some(seen) => seen.state == State::Created || (!seen.running() && self.is_void(seen)),
                None => true,
            };
            if held {
                self.wait(&container.name, "PodInitializing", String::new());
            }
        }
    }

    pub(super) fn wait_for_sandbox(&mut self, due: Monotonic) {
        let failure = self.observed.history.sandbox.failure.clone();
        let message = failure.as_ref().map(|failure| failure.message.clone()).unwrap_or_default();
        let since = failure.as_ref().map_or(self.now, |failure| failure.at);
        let until = (due > self.now).then_some(due);
        self.wait_all(&Waiting { until, delay: due - since, ..Waiting::new(self.creating(), message) });
    }

    pub(super) fn wait_for_gate(&mut self) {
        if let Some(gate) = self.desired.gate {
            self.plan.held = Some(gate.clone());
            self.wait_all(&Waiting::new(&gate.reason, gate.message.clone()));
        }
    }

    /// Everything of the pod that does not run waits for one thing.
    fn wait_all(&mut self, waiting: &Waiting) {
        for container in init_of(self.spec).iter().chain(&self.spec.containers) {
            if !self.observed.latest(&container.name).is_some_and(|seen| seen.running()) {
                self.plan.waiting.entry(container.name.clone()).or_insert_with(|| waiting.clone());
            }
        }
    }

    pub(super) fn wait(&mut self, name: &str, reason: &str, message: String) {
        self.plan.waiting.entry(name.to_owned()).or_insert_with(|| Waiting::new(reason, message));
    }

    pub(super) fn creating(&self) -> &'static str {
        if init_of(self.spec).is_empty() { "ContainerCreating" } else { "PodInitializing" }
    }
}

/// Why a creation that failed keeps a container from running.
pub(super) fn failed(failure: &Failure, until: Option<Monotonic>) -> Waiting {
    // As kubelet: the error itself at first, then that it is being waited for.
    let reason = match failure.reason.as_str() {
        "ErrImagePull" if failure.count > 1 => "ImagePullBackOff",
        reason => reason,
    };
    let delay = until.map_or(Duration::ZERO, |until| until - failure.at);
    Waiting { until, delay, ..Waiting::new(reason, failure.message.clone()) }
}
