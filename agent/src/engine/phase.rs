//! The phase of a pod, by kubelet's rules.

use k8s_openapi::api::core::v1::PodSpec;

use super::plan::{RestartPolicy, init_of, is_sidecar};
use super::view::{ContainerView, PodStatusView, State};

/// The phase of a pod.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Phase {
    /// Accepted; not every container has started yet.
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
pub fn of(spec: &PodSpec, observed: &PodStatusView, over: bool) -> Phase {
    let policy = RestartPolicy::of(spec);
    let exit = |name: &str| observed.latest(name).and_then(ContainerView::exit);
    let succeeded = |name: &str| exit(name).is_some_and(|exit| exit.code == 0);
    if over {
        let all = spec.containers.iter().all(|container| succeeded(&container.name));
        return if all { Phase::Succeeded } else { Phase::Failed };
    }
    let sandbox = observed.sandbox().map(|sandbox| sandbox.id.as_str()).unwrap_or_default();
    let began = |name: &str| observed.instances(name).any(|seen| seen.state != State::Created);
    let any_main = spec.containers.iter().any(|container| began(&container.name));
    for container in init_of(spec) {
        let seen = observed.latest_in(&container.name, sandbox);
        let done = match seen {
            Some(seen) if is_sidecar(container) => seen.state != State::Created,
            Some(seen) => seen.exit().is_some_and(|exit| exit.code == 0),
            None => false,
        };
        if !done && !any_main {
            let failed = seen.and_then(ContainerView::exit).is_some_and(|exit| exit.code != 0);
            let lost = failed && policy == RestartPolicy::Never && !is_sidecar(container);
            return if lost { Phase::Failed } else { Phase::Pending };
        }
    }
    let all = spec.containers.iter().all(|container| began(&container.name));
    if all { Phase::Running } else { Phase::Pending }
}
