//! What a pod's status shall be at the API server, of what is seen here and what is there: pure, by kubelet's rules.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    ContainerState, ContainerStateTerminated, ContainerStatus, Pod, PodCondition, PodStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::engine::plan::{init_of, spec_of};

#[cfg(test)]
mod tests;

/// The conditions that this node alone writes.
const OWN: [&str; 8] = [
    "PodScheduled",
    "Ready",
    "Initialized",
    "ContainersReady",
    "PodResizeInProgress",
    "PodResizePending",
    "PodReadyToStartContainers",
    "AllContainersRestarting",
];

/// The condition that this node writes beside others.
const SHARED: &str = "DisruptionTarget";

/// The most bytes that all termination messages of a pod have together.
const MESSAGES: usize = 12 * 1024;

/// The status that `pod`, which is as the server has it, shall have when this node sees `local`.
pub fn merged(pod: &Pod, local: &PodStatus) -> PodStatus {
    let none = PodStatus::default();
    let there = pod.status.as_ref().unwrap_or(&none);
    let mut status = local.clone();
    normalize(pod, &mut status);
    keep_times(there, &mut status);
    let becomes_terminal = !is_terminal(there) && is_terminal(&status);
    let runs = containers(&status).any(|it| it.state.as_ref().is_some_and(|state| state.running.is_some()));
    // A pod is not over while anything of it may hold what others wait for; and what is over never begins again.
    if (becomes_terminal && runs) || (is_terminal(there) && there.phase != status.phase) {
        status.phase.clone_from(&there.phase);
        status.reason.clone_from(&there.reason);
        status.message.clone_from(&there.message);
    }
    // Whoever said that it is over also said why.
    if is_terminal(there) && there.reason.is_some() {
        status.reason.clone_from(&there.reason);
        status.message.clone_from(&there.message);
    }
    let disrupted = becomes_terminal && !runs;
    status.conditions = conditions(there, &status, disrupted);
    if is_terminal(&status) {
        unready(&mut status);
    }
    status.observed_generation = status.observed_generation.max(there.observed_generation);
    status.nominated_node_name.clone_from(&there.nominated_node_name);
    status.resource_claim_statuses.clone_from(&there.resource_claim_statuses);
    status.extended_resource_claim_status.clone_from(&there.extended_resource_claim_status);
    status.node_allocatable_resource_claim_statuses.clone_from(&there.node_allocatable_resource_claim_statuses);
    status
}

/// The last status of a pod of which nothing is left: what of it was not seen to end has failed, for nobody knows better.
pub fn last(pod: &Pod, local: Option<&PodStatus>) -> PodStatus {
    let mut status = local.or(pod.status.as_ref()).cloned().unwrap_or_default();
    let lost = || ContainerState {
        terminated: Some(ContainerStateTerminated {
            exit_code: 137,
            reason: Some("ContainerStatusUnknown".into()),
            message: Some("The container could not be located when the pod was terminated".into()),
            ..ContainerStateTerminated::default()
        }),
        ..ContainerState::default()
    };
    let ended = |it: &ContainerStatus| it.state.as_ref().is_some_and(|state| state.terminated.is_some());
    if had_begun(pod, &status) {
        for container in status.container_statuses.iter_mut().flatten().filter(|it| !ended(it)) {
            container.state = Some(lost());
            (container.ready, container.started) = (false, Some(false));
        }
    }
    let inits = status.init_container_statuses.as_deref().unwrap_or_default();
    let tried = inits.iter().rposition(has_tried).map_or(1, |last| last + 1);
    for container in status.init_container_statuses.iter_mut().flatten().take(tried).filter(|it| !ended(it)) {
        container.state = Some(lost());
        (container.ready, container.started) = (false, Some(false));
    }
    if !is_terminal(&status) {
        status.phase = Some("Failed".into());
    }
    unready(&mut status);
    status
}

/// Whether a container was ever begun.
fn has_tried(status: &ContainerStatus) -> bool {
    let waits = status.state.as_ref().is_some_and(|state| state.waiting.is_some());
    !waits || status.last_state.as_ref().is_some_and(|state| state.terminated.is_some())
}

/// Whether a pod has come beyond its init containers.
fn had_begun(pod: &Pod, status: &PodStatus) -> bool {
    let inits = init_of(spec_of(pod));
    let begun = || status.container_statuses.iter().flatten().any(has_tried);
    let last = || status.init_container_statuses.as_deref().and_then(<[_]>::last).cloned();
    let done = |status: ContainerStatus| {
        let states = [status.state, status.last_state];
        states.into_iter().flatten().any(|state| state.terminated.is_some_and(|end| end.exit_code == 0))
            || status.started == Some(true)
    };
    inits.is_empty() || begun() || last().is_some_and(done)
}

/// Whether a phase is one of those that a pod keeps.
pub fn is_terminal(status: &PodStatus) -> bool {
    matches!(status.phase.as_deref(), Some("Succeeded" | "Failed"))
}

fn containers(status: &PodStatus) -> impl Iterator<Item = &ContainerStatus> {
    let lists = [&status.init_container_statuses, &status.container_statuses, &status.ephemeral_container_statuses];
    lists.into_iter().flatten().flatten()
}

/// Others' conditions as they are, then this node's.
fn conditions(there: &PodStatus, here: &PodStatus, disrupted: bool) -> Option<Vec<PodCondition>> {
    let own = |it: &&PodCondition| OWN.contains(&it.type_.as_str());
    let known = there.conditions.iter().flatten();
    let mut all: Vec<PodCondition> = known.filter(|it| !own(it)).cloned().collect();
    all.extend(here.conditions.iter().flatten().filter(own).cloned());
    let shared = here.conditions.iter().flatten().find(|it| it.type_ == SHARED);
    if let Some(shared) = shared.filter(|_| disrupted) {
        match all.iter_mut().find(|it| it.type_ == SHARED) {
            Some(known) => known.clone_from(shared),
            None => all.push(shared.clone()),
        }
    }
    (!all.is_empty()).then_some(all)
}

/// A pod that is over is not ready, whatever was seen last.
fn unready(status: &mut PodStatus) {
    let reason = if status.phase.as_deref() == Some("Succeeded") { "PodCompleted" } else { "PodFailed" };
    let ready =
        |it: &&mut PodCondition| matches!(it.type_.as_str(), "Ready" | "ContainersReady") && it.status == "True";
    for condition in status.conditions.iter_mut().flatten().filter(ready) {
        condition.status = "False".into();
        condition.reason = Some(reason.into());
        condition.message = None;
        condition.last_transition_time = Timestamp::from_second(Timestamp::now().as_second()).ok().map(Time);
    }
}

/// What has not changed since the server was told has not changed now.
fn keep_times(there: &PodStatus, status: &mut PodStatus) {
    if there.start_time.is_some() {
        status.start_time.clone_from(&there.start_time);
    }
    for condition in status.conditions.iter_mut().flatten() {
        let known = there.conditions.iter().flatten().find(|it| it.type_ == condition.type_);
        if let Some(known) = known.filter(|known| known.status == condition.status) {
            condition.last_transition_time.clone_from(&known.last_transition_time);
        }
    }
}

/// As the server keeps it: times in whole seconds, lists in their order, messages within bounds.
fn normalize(pod: &Pod, status: &mut PodStatus) {
    let spec = spec_of(pod);
    let ephemeral = spec.ephemeral_containers.as_ref().map_or(0, Vec::len);
    let count = spec.containers.len() + init_of(spec).len() + ephemeral;
    let most = MESSAGES / count.max(1);
    whole(&mut status.start_time);
    for condition in status.conditions.iter_mut().flatten() {
        whole(&mut condition.last_probe_time);
        whole(&mut condition.last_transition_time);
    }
    let by_name = |one: &ContainerStatus, other: &ContainerStatus| one.name.cmp(&other.name);
    status.container_statuses.iter_mut().for_each(|it| it.sort_by(by_name));
    status.ephemeral_container_statuses.iter_mut().for_each(|it| it.sort_by(by_name));
    let lists =
        [&mut status.init_container_statuses, &mut status.container_statuses, &mut status.ephemeral_container_statuses];
    for container in lists.into_iter().flatten().flatten() {
        // The server knows no state that is not there, only an empty one.
        for state in [container.state.get_or_insert_default(), container.last_state.get_or_insert_default()] {
            if let Some(running) = &mut state.running {
                whole(&mut running.started_at);
            }
            if let Some(end) = &mut state.terminated {
                whole(&mut end.started_at);
                whole(&mut end.finished_at);
                end.message.iter_mut().for_each(|message| cut(message, most));
            }
        }
    }
}

fn whole(time: &mut Option<Time>) {
    if let Some(Time(at)) = time {
        *at = Timestamp::from_second(at.as_second()).unwrap_or(*at);
    }
}

fn cut(message: &mut String, most: usize) {
    message.truncate(message.floor_char_boundary(most));
}
