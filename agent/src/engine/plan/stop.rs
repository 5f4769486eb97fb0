//! Stopping: containers at once, then sidecars in the reverse of the order in which they started, then sandboxes. The
//! preStop hooks of all of them begin together, as kubelet has it: a sidecar's turn is when its signal comes.

use std::time::Duration;

use super::super::orders::grace_of;
use super::super::time::Monotonic;
use super::super::view::{ContainerView, SandboxView};
use super::start::failed;
use super::{Action, Cause, Planner, init_of, is_sidecar};

/// What a sidecar gets at least when its turn comes, as in kubelet: however long the others took.
const LEAST: Duration = Duration::from_secs(2);

impl Planner<'_> {
    /// A pod on its way out; true when it is over.
    pub(super) fn end(&mut self) -> bool {
        if let Some(failure) = self.observed.history.fatal() {
            for (name, track) in &self.observed.history.containers {
                if track.failure.as_ref() == Some(failure) {
                    self.plan.waiting.insert(name.clone(), failed(failure, None));
                }
            }
        }
        self.stop_running(&Cause::Ending)
    }

    /// Stops everything in its order; true when nothing runs.
    pub(super) fn stop_running(&mut self, cause: &Cause) -> bool {
        let running: Vec<&ContainerView> = self.observed.containers.iter().filter(|seen| seen.running()).collect();
        self.stop_in_order(&running, self.patience(), Some(cause))
    }

    /// Stops these instances, sidecars after the pod's containers and one after the other, without a `cause` each for its
    /// own; true when there are none.
    pub(super) fn stop_in_order(
        &mut self,
        running: &[&ContainerView],
        deadline: Monotonic,
        cause: Option<&Cause>,
    ) -> bool {
        let sidecars: Vec<_> = init_of(self.spec).iter().filter(|init| is_sidecar(init)).collect();
        let rank = |seen: &ContainerView| sidecars.iter().rposition(|sidecar| sidecar.name == seen.name);
        // Init and ephemeral containers end beside the others: nobody waits for them.
        let main = |seen: &ContainerView| self.spec.containers.iter().any(|container| container.name == seen.name);
        let busy = running.iter().any(|seen| main(seen));
        let last = running.iter().filter_map(|seen| rank(seen)).max();
        let killed = self.desired.stop.is_some_and(|stop| stop.grace.is_zero());
        let mut ordered: Vec<&ContainerView> = running.to_vec();
        ordered.sort_by_key(|seen| std::cmp::Reverse(rank(seen).map_or(sidecars.len(), |rank| rank)));
        for seen in ordered {
            let action = match rank(seen) {
                None => self.stop(seen, deadline, true, cause),
                // A kill is a kill.
                Some(_) if killed => self.stop(seen, deadline, true, cause),
                rank if !busy && rank == last => self.stop(seen, deadline.max(self.now + LEAST), true, cause),
                Some(_) => self.stop(seen, deadline, false, cause),
            };
            self.plan.actions.push(action);
        }
        if !running.is_empty() {
            // The runtime kills at the deadline; a second later it is time to look whether it did.
            self.wake(deadline.max(self.now) + Duration::from_secs(1));
        }
        running.is_empty()
    }

    /// Everything of the pod's own accord is over: sidecars end, then the sandboxes are given back.
    pub(super) fn wind_up(&mut self) {
        if !self.stop_running(&Cause::Ending) {
            return;
        }
        let before = self.plan.actions.len();
        for sandbox in &self.observed.sandboxes {
            self.give_back(sandbox);
        }
        let noted = self.plan.actions.iter().any(|action| matches!(action, Action::Evict(_)));
        self.plan.finished = self.plan.actions.len() == before && !noted;
        if self.plan.finished {
            self.plan.actions.clear();
            self.plan.wake_at = None;
        }
    }

    /// Gives the sandboxes back that are not ready, or to be replaced.
    pub(super) fn stop_sandboxes(&mut self) {
        for sandbox in &self.observed.sandboxes {
            self.give_back(sandbox);
        }
    }

    /// Gives back what a sandbox holds, once.
    pub(super) fn give_back(&mut self, sandbox: &SandboxView) {
        if !sandbox.gone && !self.observed.history.stopped.contains(&sandbox.id) {
            self.plan.actions.push(Action::StopSandbox { id: sandbox.id.clone() });
        }
    }

    /// How long what is asked to stop now may take.
    pub(super) fn patience(&self) -> Monotonic {
        let history = &self.observed.history;
        match (self.desired.stop, &history.eviction) {
            (Some(stop), _) => stop.deadline,
            (None, Some(eviction)) => self.now + eviction.grace.unwrap_or_else(|| grace_of(self.desired.pod)),
            (None, None) => self.now + grace_of(self.desired.pod),
        }
    }

    fn stop(&self, seen: &ContainerView, deadline: Monotonic, turn: bool, cause: Option<&Cause>) -> Action {
        let cause = cause.cloned().or_else(|| self.why_void(seen)).unwrap_or(Cause::Void);
        Action::StopContainer { id: seen.id.clone(), name: seen.name.clone(), deadline, turn, cause }
    }
}
