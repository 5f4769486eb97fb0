//! The planner: what one pod needs next. A pure function of the desired pod, the observed one and the time; the worker
//! carries out what it answers and asks again.
//!
//! It follows kubelet's rules (`computePodActions`, `getPhase`):
//! ```text
//!  no sandbox ──create──> init containers, in order ──> containers, each by itself ──> nothing runs, nothing is due
//!      ^                          |                           |                                    |
//!      └── the sandbox died ──────┴───────────────────────────┘                 sidecars, sandbox stopped: finished
//! ```
//! What ends is restarted in place by its restart policy and back-off. A sandbox that died is replaced, with its init
//! containers run again, unless nothing of the pod may run again.
//!
//! An instance is *void* when it is to be replaced: it was made from another definition, or somebody asked for it. It is
//! stopped while it runs, and how it ended decides nothing: as if it had never been, but for its number. All of a void
//! sandbox is void.

mod advance;
mod start;
mod stop;
#[cfg(test)]
mod tests;
mod void;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, ContainerRestartRule, Pod, PodSpec};

use super::backoff::Policy;
pub use super::change::preview;
use super::change::{Definition, Follows, Resize};
use super::orders::{Eviction, Gate, Stop, seconds};
use super::phase::{self, Phase};
use super::probe::{Kind, ProbeResult};
use super::time::Monotonic;
use super::view::{ContainerView, PodStatusView};

/// What somebody wants of one pod.
#[derive(Clone, Copy, Debug)]
pub struct Desired<'a> {
    /// The pod, after defaulting.
    pub pod: &'a Pod,
    /// The hashes of what its sandbox and containers are made from.
    pub definition: &'a Definition,
    /// The hashes of the objects that containers follow, by container.
    pub objects: &'a BTreeMap<String, String>,
    /// Restart back-off.
    pub backoff: Policy,
    /// Set when the pod shall end: what still runs then is killed.
    pub stop: Option<Stop>,
    /// Set while the pod shall not begin.
    pub gate: Option<&'a Gate>,
    /// What probes say about running instances, by id.
    pub health: &'a BTreeMap<String, ProbeResult>,
    /// Instances, by id, whose postStart hook has not come back yet.
    pub hooks: &'a BTreeSet<String>,
    /// Instances, by id, whose postStart hook failed.
    pub unhooked: &'a BTreeSet<String>,
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
    /// What keeps the pod from beginning.
    pub held: Option<Gate>,
    /// A running container has not yet the resources that it shall have.
    pub resizing: bool,
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
    /// Stop a container: its preStop hook, then in its turn its stop signal, and SIGKILL at `deadline`.
    StopContainer {
        /// Its id.
        id: String,
        /// The name in the spec.
        name: String,
        /// When patience ends.
        deadline: Monotonic,
        /// Nothing has to stop before it: its signal follows its hook at once.
        turn: bool,
        /// Why.
        cause: Cause,
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
    /// Give a running container the resources that it shall have.
    Resize {
        /// Its id.
        id: String,
        /// The name in the spec.
        name: String,
    },
    /// Take note that these containers begin again, all together.
    Void {
        /// The names in the spec.
        names: Vec<String>,
        /// The container that asks for it.
        because: String,
    },
    /// Take note that the pod has failed, for the node's reasons.
    Evict(Eviction),
}

/// Why a container is stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The pod ends.
    Ending,
    /// It is not in the pod any more.
    Unwanted,
    /// It is made from another definition now.
    Changed,
    /// It is void for another reason: somebody asked, or what comes before it runs again.
    Void,
    /// Its sandbox is replaced.
    Replaced,
    /// Its postStart hook failed.
    Hook,
    /// A probe failed for good.
    Unhealthy(Kind),
}

impl Cause {
    /// What is told when a container is stopped for it, in kubelet's words.
    pub fn message(&self, container: &str) -> String {
        match self {
            Cause::Ending | Cause::Unwanted => format!("Stopping container {container}"),
            Cause::Hook => "FailedPostStartHook".to_owned(),
            Cause::Changed => format!("Container {container} definition changed, will be restarted"),
            Cause::Void | Cause::Replaced => format!("Stopping container {container}, will be restarted"),
            Cause::Unhealthy(kind) => {
                let kind = kind.to_string().to_lowercase();
                format!("Container {container} failed {kind} probe, will be restarted")
            }
        }
    }
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
        RestartPolicy::read(spec.restart_policy.as_deref()).unwrap_or(RestartPolicy::Always)
    }

    /// The policy of a container: its own before its pod's.
    pub fn of_container(spec: &PodSpec, container: &Container) -> Self {
        RestartPolicy::read(container.restart_policy.as_deref()).unwrap_or_else(|| RestartPolicy::of(spec))
    }

    fn read(text: Option<&str>) -> Option<Self> {
        match text {
            Some("Always") => Some(RestartPolicy::Always),
            Some("OnFailure") => Some(RestartPolicy::OnFailure),
            Some("Never") => Some(RestartPolicy::Never),
            _ => None,
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

/// Whether a container that ended with `code` by itself runs again: by its first rule that fits, else by its policy.
pub fn restarts_after(spec: &PodSpec, container: &Container, code: i32) -> bool {
    let acts = |rule: &ContainerRestartRule| matches!(rule.action.as_str(), "Restart" | "RestartAllContainers");
    rule_for(container, code).is_some_and(acts) || RestartPolicy::of_container(spec, container).restarts(code)
}

/// The first of a container's restart rules that an exit code fits.
pub fn rule_for(container: &Container, code: i32) -> Option<&ContainerRestartRule> {
    // Rules count beside a policy of the container's own, as the API server has it.
    container.restart_policy.as_ref()?;
    container.restart_policy_rules.iter().flatten().find(|rule| {
        let Some(codes) = &rule.exit_codes else { return false };
        let listed = codes.values.iter().flatten().any(|listed| *listed == code);
        match codes.operator.as_str() {
            "In" => listed,
            "NotIn" => !listed,
            _ => false,
        }
    })
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

/// The names of a pod's ephemeral containers.
pub fn ephemeral_of(spec: &PodSpec) -> impl Iterator<Item = &str> {
    spec.ephemeral_containers.iter().flatten().map(|container| container.name.as_str())
}

/// Decides what `desired` needs next.
pub fn plan(desired: &Desired<'_>, observed: &PodStatusView, now: Monotonic) -> Plan {
    let spec = spec_of(desired.pod);
    let policy = RestartPolicy::of(spec);
    let mut planner = Planner { desired, spec, policy, observed, now, plan: Plan::default() };
    planner.prune();
    let evicted = planner.evict();
    let ending = evicted || desired.stop.is_some() || observed.history.fatal().is_some() || is_over(desired);
    planner.plan.resizing = !ending && observed.containers.iter().any(|seen| planner.resize(seen) != Resize::None);
    let over = if ending { planner.end() } else { planner.advance() };
    if over {
        planner.wind_up();
    }
    // What goes on beside the containers keeps the pod from its end.
    let over = over && !observed.containers.iter().any(ContainerView::running);
    planner.plan.phase = if evicted { Phase::Failed } else { phase::of(&planner, over) };
    planner.plan
}

/// Whether an API server has it that the pod is over, whoever said so: then nothing of it begins again.
fn is_over(desired: &Desired<'_>) -> bool {
    let phase = desired.pod.status.as_ref().and_then(|status| status.phase.as_deref());
    desired.definition.follows == Follows::Running && matches!(phase, Some("Succeeded" | "Failed"))
}

/// What the rules of a pod are asked about.
pub(super) struct Planner<'a> {
    pub(super) desired: &'a Desired<'a>,
    pub(super) spec: &'a PodSpec,
    policy: RestartPolicy,
    pub(super) observed: &'a PodStatusView,
    now: Monotonic,
    plan: Plan,
}

impl Planner<'_> {
    /// Forgets what is older than the newest instance and the one before it, what has no container in the pod any more,
    /// and sandboxes that hold none of them.
    fn prune(&mut self) {
        let newest = self.observed.sandbox().map(|sandbox| sandbox.id.as_str());
        let wanted: BTreeSet<&str> = names_of(self.spec).chain(ephemeral_of(self.spec)).collect();
        let mut seen: BTreeMap<&str, u32> = BTreeMap::new();
        let mut kept = Vec::new();
        for container in self.observed.containers.iter().filter(|container| !container.gone) {
            let count = seen.entry(&container.name).or_default();
            *count += 1;
            let unwanted = !wanted.contains(container.name.as_str());
            if (*count > 2 || unwanted) && !container.running() {
                self.plan.actions.push(remove(container));
            } else {
                kept.push(container.sandbox.as_str());
            }
        }
        for sandbox in self.observed.sandboxes.iter().filter(|sandbox| !sandbox.gone) {
            let id = sandbox.id.as_str();
            if Some(id) != newest && self.observed.history.stopped.contains(id) && !kept.contains(&id) {
                self.plan.actions.push(Action::RemoveSandbox { id: sandbox.id.clone() });
            }
        }
    }

    /// Whether the node has ended the pod, or does so now for its deadline.
    fn evict(&mut self) -> bool {
        let history = &self.observed.history;
        if history.eviction.is_some() {
            return true;
        }
        let (Some(allowed), Some(since)) = (self.spec.active_deadline_seconds, history.active_since) else {
            return false;
        };
        // What was over in time stays as it ended, whenever somebody looks again.
        let over = |it: &Container| self.observed.latest(&it.name).is_some_and(|seen| self.is_done(it, seen));
        let over = self.spec.containers.iter().all(over) || phase::is_lost(self);
        if over || is_over(self.desired) || history.fatal().is_some() {
            return false;
        }
        let deadline = since + seconds(allowed).saturating_sub(history.active_before);
        if self.desired.stop.is_some() || deadline > self.now {
            self.wake(deadline);
            return false;
        }
        self.plan.actions.push(Action::Evict(Eviction {
            reason: Eviction::DEADLINE_EXCEEDED.into(),
            message: "Pod was active on the node longer than the specified deadline".into(),
            grace: None,
        }));
        true
    }

    /// Whether an instance has started, as far as its startup probe goes.
    pub(super) fn has_started(&self, seen: &ContainerView) -> bool {
        self.desired.health.get(&seen.id).is_none_or(|health| health.started)
    }

    fn wake(&mut self, at: Monotonic) {
        if at > self.now {
            self.plan.wake_at = Some(self.plan.wake_at.map_or(at, |before| before.min(at)));
        }
    }
}

fn remove(container: &ContainerView) -> Action {
    Action::RemoveContainer { id: container.id.clone(), name: container.name.clone(), attempt: container.attempt }
}
