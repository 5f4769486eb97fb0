//! The status of one container.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Container, ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting, ContainerStatus,
    ContainerUser, LinuxContainerUser, ResourceRequirements, VolumeMount, VolumeMountStatus,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;

use super::super::config::quantity;
use super::super::plan::{Waiting, init_of, is_sidecar, spec_of};
use super::super::view::{ContainerView, Limits};
use super::Input;

/// The status of a container of whatever kind.
pub fn status(input: &Input<'_>, container: &Container) -> ContainerStatus {
    let mut instances = input.view.instances(&container.name);
    let latest = instances.next();
    let before = instances.next();
    let (state, last) = states(input, container, latest, before);
    let running = latest.filter(|_| state.running.is_some());
    let started = running.is_some_and(|seen| input.health.get(&seen.id).is_none_or(|health| health.started));
    let ready = running.filter(|_| started).is_some_and(|seen| {
        let health = input.health.get(&seen.id);
        health.and_then(|health| health.ready).unwrap_or(true)
    });
    // What was run has resources; what was not has none yet.
    let resources = latest.and_then(|seen| resources(input, container, seen));
    ContainerStatus {
        name: container.name.clone(),
        image: container.image.clone().unwrap_or_default(),
        image_id: latest.map(|seen| seen.image_ref.clone()).unwrap_or_default(),
        container_id: latest.map(|seen| format!("{}://{}", input.runtime, seen.id)),
        ready: if is_init(input, container) {
            state.terminated.as_ref().is_some_and(|end| end.exit_code == 0)
        } else {
            ready
        },
        started: Some(started),
        restart_count: latest.and_then(|seen| i32::try_from(seen.attempt).ok()).unwrap_or(0),
        last_state: last.map(|end| ContainerState { terminated: Some(end), ..ContainerState::default() }),
        state: Some(state),
        allocated_resources: latest.and_then(|_| container.resources.as_ref()?.requests.clone()),
        resources,
        volume_mounts: mounts(container),
        user: latest.and_then(|seen| seen.user.clone()).map(|user| ContainerUser {
            linux: Some(LinuxContainerUser {
                uid: user.uid,
                gid: user.gid,
                supplemental_groups: (!user.groups.is_empty()).then_some(user.groups),
            }),
        }),
        stop_signal: latest.and_then(|seen| seen.stop_signal.clone()),
        ..ContainerStatus::default()
    }
}

fn is_init(input: &Input<'_>, container: &Container) -> bool {
    init_of(spec_of(input.pod)).iter().any(|init| init.name == container.name) && !is_sidecar(container)
}

/// What the container does, and how it ended last.
fn states(
    input: &Input<'_>,
    container: &Container,
    latest: Option<&ContainerView>,
    before: Option<&ContainerView>,
) -> (ContainerState, Option<ContainerStateTerminated>) {
    let waiting = input.plan.waiting.get(&container.name);
    let ended = |seen: Option<&ContainerView>| seen.and_then(|seen| terminated(input, seen));
    match (latest.filter(|seen| seen.running()), waiting, latest) {
        (Some(seen), Some(waiting), _) if input.hooks.contains(&seen.id) => (waiting_state(waiting), ended(before)),
        // It is being stopped, and was never said to run.
        (Some(seen), ..) if input.unhooked.contains(&seen.id) => {
            let waiting = Waiting::new("PostStartHookError", "the postStart hook failed".to_owned());
            (waiting_state(&waiting), ended(before))
        }
        (Some(seen), ..) => {
            let started = ContainerStateRunning { started_at: time(seen.started_at) };
            (ContainerState { running: Some(started), ..ContainerState::default() }, ended(before))
        }
        (None, Some(waiting), _) => (waiting_state(waiting), ended(latest).or_else(|| ended(before))),
        (None, None, Some(seen)) if seen.exit().is_some() => {
            (ContainerState { terminated: terminated(input, seen), ..ContainerState::default() }, ended(before))
        }
        (None, None, _) => {
            let reason = match (input.plan.finished, init_of(spec_of(input.pod)).is_empty()) {
                (true, _) => "ContainerStopped",
                (false, true) => "ContainerCreating",
                (false, false) => "PodInitializing",
            };
            (waiting_state(&Waiting::new(reason, String::new())), ended(before))
        }
    }
}

fn waiting_state(waiting: &Waiting) -> ContainerState {
    let state = ContainerStateWaiting {
        reason: Some(waiting.reason.clone()),
        message: Some(waiting.message.clone()).filter(|message| !message.is_empty()),
    };
    ContainerState { waiting: Some(state), ..ContainerState::default() }
}

fn terminated(input: &Input<'_>, seen: &ContainerView) -> Option<ContainerStateTerminated> {
    let exit = seen.exit()?;
    let written = input.messages.get(&(seen.name.clone(), seen.attempt)).filter(|message| !message.is_empty());
    let message = written.cloned().unwrap_or(exit.message);
    Some(ContainerStateTerminated {
        container_id: Some(format!("{}://{}", input.runtime, seen.id)),
        exit_code: exit.code,
        reason: Some(exit.reason).filter(|reason| !reason.is_empty()),
        message: Some(message).filter(|message| !message.is_empty()),
        started_at: time(seen.started_at),
        finished_at: time(seen.finished_at),
        ..ContainerStateTerminated::default()
    })
}

fn time(nanoseconds: i64) -> Option<Time> {
    // Kubernetes' times are whole seconds; more would not come back from an API server.
    (nanoseconds > 0).then(|| Timestamp::from_second(nanoseconds / 1_000_000_000).ok().map(Time)).flatten()
}

/// What the container was given: what the manifest says, but for limits that the runtime knows otherwise.
fn resources(input: &Input<'_>, container: &Container, seen: &ContainerView) -> Option<ResourceRequirements> {
    let resized = input.view.history.resized.get(&seen.id).and_then(|resized| resized.has.as_ref());
    let given = resized.or(seen.resources.as_ref()).or(container.resources.as_ref());
    let mut given = given.filter(|_| seen.running()).or(container.resources.as_ref())?.clone();
    given.claims = None;
    if let (Some(actual), Some(limits)) = (seen.limits.filter(|_| seen.running()), given.limits.as_mut()) {
        correct(limits, actual);
    }
    Some(given)
}

fn correct(limits: &mut BTreeMap<String, Quantity>, actual: Limits) {
    let cpu = limits.get("cpu").and_then(quantity::milli);
    // A quota has a least value: what is below it is not shown.
    if cpu.is_some_and(|cpu| cpu != actual.cpu_milli && cpu.max(actual.cpu_milli) > 10) && actual.cpu_milli > 0 {
        limits.insert("cpu".into(), Quantity(format!("{}m", actual.cpu_milli)));
    }
    let memory = limits.get("memory").and_then(quantity::value);
    if memory.is_some_and(|memory| memory != actual.memory) && actual.memory > 0 {
        limits.insert("memory".into(), Quantity(binary(actual.memory)));
    }
}

/// A number of bytes as Kubernetes writes it.
fn binary(bytes: i64) -> String {
    let units = [("Gi", 30), ("Mi", 20), ("Ki", 10)];
    let unit = units.iter().find(|(_, shift)| bytes % (1 << shift) == 0);
    unit.map_or_else(|| bytes.to_string(), |(unit, shift)| format!("{}{unit}", bytes >> shift))
}

fn mounts(container: &Container) -> Option<Vec<VolumeMountStatus>> {
    let status = |mount: &VolumeMount| {
        let read_only = mount.read_only.filter(|read_only| *read_only);
        let recursive = match mount.recursive_read_only.as_deref() {
            Some("Enabled" | "IfPossible") => "Enabled",
            _ => "Disabled",
        };
        VolumeMountStatus {
            name: mount.name.clone(),
            mount_path: mount.mount_path.clone(),
            read_only,
            recursive_read_only: read_only.map(|_| recursive.to_owned()),
            ..VolumeMountStatus::default()
        }
    };
    let mounts: Vec<_> = container.volume_mounts.iter().flatten().map(status).collect();
    (!mounts.is_empty()).then_some(mounts)
}
