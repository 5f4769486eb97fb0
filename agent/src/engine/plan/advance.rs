//! One step of a pod that shall run.

use k8s_openapi::api::core::v1::Container;

use super::super::change::Resize;
use super::super::orders::seconds;
use super::super::probe::Kind;
use super::super::view::{ContainerView, SandboxView, State};
use super::{Action, Cause, Planner, RestartPolicy, ephemeral_of, init_of, is_sidecar, names_of, restarts_after};

/// How far a pod's init containers are.
enum Init {
    Waiting,
    Failed,
    Done,
}

impl<'a> Planner<'a> {
    /// One step; true when the pod is over.
    pub(super) fn advance(&mut self) -> bool {
        if let Some(action) = self.restart_all() {
            self.plan.actions.push(action);
            return false;
        }
        let Some(sandbox) = self.observed.sandbox().filter(|it| it.ready && !self.sandbox_is_void(it)) else {
            return self.replace_sandbox();
        };
        let id = sandbox.id.as_str();
        self.stop_old_sandboxes(sandbox);
        self.stop_unwanted();
        self.start_ephemeral(id);
        if let Some(from) = self.void_from(id)
            && self.begin_again(from, id)
        {
            self.wait_for_init();
            return false;
        }
        if self.initialized(id) {
            self.keep_sidecars(id);
        } else {
            match self.advance_init(id) {
                Init::Waiting => {
                    self.wait_for_init();
                    return false;
                }
                Init::Failed => return self.stop_running(&Cause::Ending),
                Init::Done => {}
            }
        }
        let mut busy = false;
        for container in &self.spec.containers {
            busy |= self.advance_main(container, id);
        }
        !busy
    }

    /// kubelet's rule for a pod whose sandbox is missing, dead or void; true when the pod is over instead.
    fn replace_sandbox(&mut self) -> bool {
        let last = self.observed.sandbox();
        let void = last.is_some_and(|last| self.sandbox_is_void(last));
        if last.is_some() && !void && !self.worth_another_sandbox() {
            return true;
        }
        if void && !self.stop_running(&Cause::Replaced) {
            self.wait_for_sandbox(self.now);
            return false;
        }
        self.stop_sandboxes();
        let track = &self.observed.history.sandbox;
        let due = track.not_before(&self.desired.backoff, last.map(|last| last.attempt), self.now);
        if self.desired.gate.is_some() {
            self.wait_for_gate();
            return false;
        }
        if due > self.now {
            self.wake(due);
        } else {
            let attempt = last.map_or(0, |last| last.attempt + 1).max(track.next);
            self.plan.actions.push(Action::CreateSandbox { attempt });
        }
        self.wait_for_sandbox(due);
        false
    }

    fn worth_another_sandbox(&self) -> bool {
        let void = || {
            let latest = names_of(self.spec).filter_map(|name| self.observed.latest(name));
            latest.into_iter().any(|seen| self.is_void(seen))
        };
        let runs = |container: &Container| match self.observed.latest(&container.name) {
            Some(seen) => !self.is_done(container, seen),
            None => true,
        };
        match self.policy {
            // What has begun and may not run twice does not begin in another sandbox.
            RestartPolicy::Never => {
                let containers = &self.spec.containers;
                self.observed.containers.is_empty()
                    || void()
                    || containers.iter().any(|container| container.restart_policy.is_some() && runs(container))
            }
            _ => self.spec.containers.iter().any(runs),
        }
    }

    /// Whether an instance has ended and is not followed by another.
    pub fn stays_ended(&self, container: &Container, seen: &ContainerView) -> bool {
        let Some(exit) = seen.exit() else { return false };
        let condemned = self.observed.history.container(&seen.name).and_then(|track| track.condemned);
        if condemned.is_some_and(|mark| seen.attempt <= mark) {
            // It was stopped to be started again: its exit code is not its own.
            return RestartPolicy::of_container(self.spec, container) == RestartPolicy::Never;
        }
        match seen.state {
            // Nobody knows its exit code, so no rule fits.
            State::Unknown => !RestartPolicy::of_container(self.spec, container).restarts(exit.code),
            _ => !restarts_after(self.spec, container, exit.code),
        }
    }

    /// Whether nothing more comes of a container than this instance.
    pub(super) fn is_done(&self, container: &Container, seen: &ContainerView) -> bool {
        !self.is_void(seen) && self.stays_ended(container, seen)
    }

    /// Stops what has to run again with the init container `from`; true while it has not stopped.
    fn begin_again(&mut self, from: usize, sandbox: &str) -> bool {
        let names: Vec<&str> = self.names_from(from).collect();
        let counts: Vec<String> = names
            .iter()
            .filter(|name| self.current_in(name, sandbox).is_some())
            .map(|name| (*name).to_owned())
            .collect();
        if !counts.is_empty() {
            let because = names.first().map(|name| (*name).to_owned()).unwrap_or_default();
            self.plan.actions.push(Action::Void { names: counts, because });
            return true;
        }
        let running: Vec<&ContainerView> = self
            .observed
            .containers
            .iter()
            .filter(|seen| seen.running() && seen.sandbox == sandbox && names.contains(&seen.name.as_str()))
            .collect();
        !self.stop_in_order(&running, self.patience(), None)
    }

    /// Whether the containers' turn has come once: one of them runs, or has run.
    fn initialized(&self, sandbox: &str) -> bool {
        self.spec.containers.iter().any(|container| {
            let latest = self.observed.latest_in(&container.name, sandbox).filter(|seen| seen.state != State::Created);
            latest.is_some_and(|seen| seen.running() || !self.is_void(seen))
        })
    }

    fn advance_init(&mut self, sandbox: &str) -> Init {
        let inits = init_of(self.spec);
        let furthest = inits.iter().rposition(|init| self.current_in(&init.name, sandbox).is_some());
        let next = furthest.map_or(0, |index| index + 1);
        if let Some(init) = furthest.and_then(|index| inits.get(index)) {
            let seen = self.current_in(&init.name, sandbox).filter(|_| !is_sidecar(init));
            let ended = seen.and_then(ContainerView::exit).map(|exit| exit.code);
            if ended.is_some_and(|code| code != 0) && seen.is_some_and(|seen| self.stays_ended(init, seen)) {
                return Init::Failed;
            }
            for sidecar in inits.iter().take(next - 1).filter(|init| is_sidecar(init)) {
                self.keep(sidecar, sandbox);
            }
            let through = match ended {
                _ if is_sidecar(init) => self.keep(init, sandbox),
                Some(0) => true,
                Some(_) => {
                    self.start(&init.name, sandbox);
                    false
                }
                None => false,
            };
            if !through {
                return Init::Waiting;
            }
        }
        let Some(init) = inits.get(next) else { return Init::Done };
        self.start(&init.name, sandbox);
        Init::Waiting
    }

    /// Once the containers run, sidecars that end are started again, whatever the pod's policy.
    fn keep_sidecars(&mut self, sandbox: &str) {
        let needed = self.spec.containers.iter().any(|container| match self.observed.latest(&container.name) {
            Some(seen) => !self.is_done(container, seen),
            None => true,
        });
        if !needed {
            return;
        }
        for sidecar in init_of(self.spec).iter().filter(|init| is_sidecar(init)) {
            self.keep(sidecar, sandbox);
        }
    }

    /// Keeps a sidecar running; true when it has started.
    fn keep(&mut self, sidecar: &Container, sandbox: &str) -> bool {
        match self.observed.latest_in(&sidecar.name, sandbox).filter(|seen| seen.running()) {
            Some(seen) => self.tend(sidecar, seen) && self.has_started(seen) && !self.desired.hooks.contains(&seen.id),
            None => {
                self.start(&sidecar.name, sandbox);
                false
            }
        }
    }

    /// One step of a container; true while it runs or will run.
    fn advance_main(&mut self, container: &'a Container, sandbox: &str) -> bool {
        // In a replaced sandbox the newest instance may be in the old one: its exit decides all the same.
        match self.observed.latest(&container.name) {
            Some(seen) if seen.running() => {
                if seen.sandbox == sandbox {
                    self.tend(container, seen);
                }
            }
            Some(seen) if self.is_done(container, seen) => return false,
            _ => self.start(&container.name, sandbox),
        }
        true
    }

    /// Looks after a running instance: false when it has to stop, to be started again.
    fn tend(&mut self, container: &Container, seen: &ContainerView) -> bool {
        if self.desired.hooks.contains(&seen.id) {
            self.wait(&container.name, self.creating(), String::new());
        }
        let (cause, deadline) = if let Some(cause) = self.why_void(seen) {
            (cause, self.patience())
        } else if let Some(failed) = self.desired.health.get(&seen.id).and_then(|health| health.failed.as_ref()) {
            let probe = match failed.kind {
                Kind::Startup => container.startup_probe.as_ref(),
                _ => container.liveness_probe.as_ref(),
            };
            let grace = probe.and_then(|probe| probe.termination_grace_period_seconds);
            let deadline = grace.map_or_else(|| self.patience(), |grace| self.now + seconds(grace));
            (Cause::Unhealthy(failed.kind), deadline)
        } else if self.desired.unhooked.contains(&seen.id) {
            (Cause::Hook, self.patience())
        } else {
            self.give_resources(seen);
            return true;
        };
        self.stop_in_order(&[seen], deadline, Some(&cause));
        false
    }

    /// Gives a running instance the resources that it shall have, again after a while if that failed.
    fn give_resources(&mut self, seen: &ContainerView) {
        if self.resize(seen) != Resize::InPlace {
            return;
        }
        let resized = self.observed.history.resized.get(&seen.id);
        match resized.and_then(|resized| resized.failure.as_ref()) {
            Some((_, again)) if *again > self.now => self.wake(*again),
            _ => self.plan.actions.push(Action::Resize { id: seen.id.clone(), name: seen.name.clone() }),
        }
    }

    /// Stops running containers that the pod has no more.
    fn stop_unwanted(&mut self) {
        let wanted: Vec<&str> = names_of(self.spec).chain(ephemeral_of(self.spec)).collect();
        let strangers: Vec<&ContainerView> = self
            .observed
            .containers
            .iter()
            .filter(|seen| seen.running() && !wanted.contains(&seen.name.as_str()))
            .collect();
        self.stop_in_order(&strangers, self.patience(), Some(&Cause::Unwanted));
    }

    /// Sandboxes other than the newest: what still runs in them stops, then they are given back.
    fn stop_old_sandboxes(&mut self, newest: &SandboxView) {
        for sandbox in self.observed.sandboxes.iter().filter(|it| it.id != newest.id) {
            let inside: Vec<&ContainerView> =
                self.observed.containers.iter().filter(|it| it.running() && it.sandbox == sandbox.id).collect();
            if self.stop_in_order(&inside, self.patience(), Some(&Cause::Replaced)) {
                self.give_back(sandbox);
            }
        }
    }

    /// Starts ephemeral containers that never were, at any time of the pod's life; one that has a target when that runs.
    fn start_ephemeral(&mut self, sandbox: &str) {
        for ephemeral in self.spec.ephemeral_containers.iter().flatten() {
            let name = &ephemeral.name;
            let target = ephemeral.target_container_name.as_deref().filter(|target| !target.is_empty());
            let absent = target.filter(|target| !self.observed.latest(target).is_some_and(ContainerView::running));
            if self.observed.latest(name).is_some_and(|seen| seen.state != State::Created) {
                continue;
            }
            match absent {
                Some(target) => {
                    self.wait(name, self.creating(), format!("its target container \"{target}\" does not run"));
                }
                None => self.start(name, sandbox),
            }
        }
    }
}
