//! Which instances are to be replaced.

use k8s_openapi::api::core::v1::Container;

use super::super::change::{Follows, Resize, differs};
use super::super::view::{ContainerView, SandboxView, State};
use super::{Action, Cause, Planner, init_of, is_sidecar, names_of, rule_for};

impl<'a> Planner<'a> {
    /// Whether an instance is to be replaced.
    pub fn is_void(&self, seen: &ContainerView) -> bool {
        self.why_void(seen).is_some()
    }

    /// Why an instance is to be replaced, if it is.
    pub(super) fn why_void(&self, seen: &ContainerView) -> Option<Cause> {
        // Ephemeral containers never run twice, and what is not in the pod any more is not replaced.
        let wanted = self.desired.definition.containers.get(&seen.name)?;
        let mark = self.observed.history.container(&seen.name).and_then(|track| track.void);
        let objects = self.desired.objects.get(&seen.name);
        if mark.is_some_and(|mark| seen.attempt <= mark) {
            Some(Cause::Void)
        } else if self.observed.sandboxes.iter().any(|it| it.id == seen.sandbox && self.sandbox_is_void(it)) {
            Some(Cause::Replaced)
        } else if !self.follows(seen) {
            None
        } else if differs(seen.definition.as_deref(), &wanted.hash)
            || objects.is_some_and(|wanted| differs(seen.objects.as_deref(), wanted))
            || self.resize(seen) == Resize::Restart
        {
            Some(Cause::Changed)
        } else {
            None
        }
    }

    /// Whether an instance is made anew when what it was made from changes.
    fn follows(&self, seen: &ContainerView) -> bool {
        let ends = |init: &Container| !is_sidecar(init) && init.name == seen.name;
        match self.desired.definition.follows {
            Follows::All => true,
            Follows::Running => seen.exit().is_none() && !init_of(self.spec).iter().any(ends),
        }
    }

    /// Whether a sandbox is to be replaced.
    pub(super) fn sandbox_is_void(&self, sandbox: &SandboxView) -> bool {
        let definition = &self.desired.definition;
        let changed = || differs(sandbox.definition.as_deref(), &definition.sandbox);
        self.observed.history.sandbox.void.is_some_and(|mark| sandbox.attempt <= mark)
            || (definition.follows == Follows::All && changed())
    }

    /// What it takes to give a running instance the resources that it shall have.
    pub(super) fn resize(&self, seen: &ContainerView) -> Resize {
        let Some(container) = self.container(&seen.name).filter(|_| seen.running()) else { return Resize::None };
        let resized = self.observed.history.resized.get(&seen.id).and_then(|resized| resized.has.as_ref());
        match resized.or(seen.resources.as_ref()) {
            Some(has) => Resize::between(Some(has), container),
            // Made by somebody who did not say.
            None => Resize::None,
        }
    }

    /// A container of the pod by name.
    pub(super) fn container(&self, name: &str) -> Option<&'a Container> {
        init_of(self.spec).iter().chain(&self.spec.containers).find(|container| container.name == name)
    }

    /// The newest instance in a sandbox, where it counts: it was started and is not void.
    pub(super) fn current_in(&self, name: &str, sandbox: &str) -> Option<&'a ContainerView> {
        let latest = self.observed.latest_in(name, sandbox);
        latest.filter(|seen| seen.state != State::Created && !self.is_void(seen))
    }

    /// The init container from which on everything runs again: a void one that is no sidecar; or the first, where nothing
    /// in the sandbox counts any more.
    pub(super) fn void_from(&self, sandbox: &str) -> Option<usize> {
        let latest = |name: &str| self.observed.latest_in(name, sandbox).filter(|seen| seen.state != State::Created);
        let void = |name: &str| latest(name).is_some_and(|seen| self.is_void(seen));
        let mut known = names_of(self.spec).filter(|name| latest(name).is_some()).peekable();
        if known.peek().is_some() && known.all(void) {
            return Some(0);
        }
        init_of(self.spec).iter().position(|init| !is_sidecar(init) && void(&init.name))
    }

    /// What comes from the init container `from` on, in the order of the pod.
    pub(super) fn names_from(&self, from: usize) -> impl Iterator<Item = &'a str> {
        names_of(self.spec).skip(from)
    }

    /// What an end asks for whose rule is that all containers run again.
    pub(super) fn restart_all(&self) -> Option<Action> {
        let source = init_of(self.spec).iter().chain(&self.spec.containers).find(|container| {
            let seen = self.observed.latest(&container.name).filter(|seen| !self.is_void(seen));
            let Some(State::Exited(exit)) = seen.map(|seen| &seen.state) else { return false };
            rule_for(container, exit.code).is_some_and(|rule| rule.action == "RestartAllContainers")
        })?;
        let names = names_of(self.spec).map(str::to_owned).collect();
        Some(Action::Void { names, because: source.name.clone() })
    }
}
