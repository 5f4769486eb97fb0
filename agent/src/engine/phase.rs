//! The phase of a pod, by kubelet's rules.

use k8s_openapi::api::core::v1::Container;

use super::plan::{Planner, init_of, is_sidecar};
use super::view::{ContainerView, State};

/// The phase of a pod.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Phase {
    /// Accepted; not every container has started yet, or an init container runs.
    #[default]
    Pending,
    /// At least one container runs, or is about to run again.
    Running,
    /// Every container ended with 0 and none will run again.
    Succeeded,
    /// Every container ended, one of them with a failure, and none will run again.
    Failed,
}

impl Phase {
    /// The word in `status.phase`.
    pub fn as_str(self) -> &'static str {
        match self {
            Phase::Pending => "Pending",
            Phase::Running => "Running",
            Phase::Succeeded => "Succeeded",
            Phase::Failed => "Failed",
        }
    }
}

/// The phase of a pod; `over` says that nothing of it will run again.
pub(super) fn of(rules: &Planner<'_>, over: bool) -> Phase {
    let (spec, observed) = (rules.spec, rules.observed);
    let exit = |name: &str| observed.latest(name).and_then(ContainerView::exit);
    let succeeded = |name: &str| exit(name).is_some_and(|exit| exit.code == 0);
    if over {
        let all = spec.containers.iter().all(|container| succeeded(&container.name));
        return if all { Phase::Succeeded } else { Phase::Failed };
    }
    // Also when it runs once more, in another sandbox.
    let runs = |init: &Container| observed.latest(&init.name).is_some_and(ContainerView::running);
    if init_of(spec).iter().any(|init| !is_sidecar(init) && runs(init)) {
        return Phase::Pending;
    }
    let began = |name: &str| observed.instances(name).any(|seen| seen.state != State::Created);
    // A pod that was initialized once is not set back by a sidecar that restarts.
    if !spec.containers.iter().any(|container| began(&container.name)) {
        if is_lost(rules) {
            return Phase::Failed;
        }
        if init_of(spec).iter().any(|init| progress(rules, init) == Progress::Pending) {
            return Phase::Pending;
        }
    }
    let all = spec.containers.iter().all(|container| began(&container.name));
    if all { Phase::Running } else { Phase::Pending }
}

/// Whether an init container has failed for good, so that no container will ever run.
pub(super) fn is_lost(rules: &Planner<'_>) -> bool {
    init_of(rules.spec).iter().any(|init| progress(rules, init) == Progress::Lost)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    Done,
    Pending,
    Lost,
}

fn progress(rules: &Planner<'_>, init: &Container) -> Progress {
    let sandbox = rules.observed.sandbox().map(|sandbox| sandbox.id.as_str()).unwrap_or_default();
    let Some(seen) = rules.observed.latest_in(&init.name, sandbox) else { return Progress::Pending };
    let done = if is_sidecar(init) {
        seen.running() && rules.has_started(seen)
    } else {
        seen.exit().is_some_and(|exit| exit.code == 0)
    };
    if done {
        Progress::Done
    } else if !is_sidecar(init) && !rules.is_void(seen) && rules.stays_ended(init, seen) {
        Progress::Lost
    } else {
        Progress::Pending
    }
}
