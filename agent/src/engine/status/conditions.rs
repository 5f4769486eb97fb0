//! The conditions of a pod.

use std::borrow::Cow;

use k8s_openapi::api::core::v1::{Container, ContainerStatus, PodCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::super::phase::Phase;
use super::super::plan::{init_of, is_sidecar, rule_for, spec_of};
use super::super::view::ContainerView;
use super::Input;

/// Why a condition is as it is: one word and the story.
type Why = (Cow<'static, str>, String);

/// The conditions, in kubelet's order.
pub fn of(input: &Input<'_>, init: &[ContainerStatus], main: &[ContainerStatus]) -> Vec<PodCondition> {
    let held = input.plan.held.as_ref().map(|gate| (gate.reason.clone().into(), gate.message.clone()));
    let unready = unready(input, init, main);
    let gates = unready.is_none().then(|| gates(input)).flatten();
    let (initialized, why) = initialized(input, init, main);
    let mut conditions = vec![
        condition(input, "PodReadyToStartContainers", has_sandbox(input), held),
        condition(input, "Initialized", initialized, why),
        condition(input, "Ready", unready.is_none() && gates.is_none(), unready.clone().or(gates)),
        condition(input, "ContainersReady", unready.is_none(), unready),
        condition(input, "PodScheduled", true, None),
    ];
    conditions
        .extend(all_restarting(input).map(|(holds, why)| condition(input, "AllContainersRestarting", holds, why)));
    if let Some(eviction) = input.view.history.eviction.as_ref().filter(|it| it.disrupts()) {
        let why = ("TerminationByKubelet".into(), eviction.message.clone());
        conditions.push(condition(input, "DisruptionTarget", true, Some(why)));
    }
    let failed = input.view.history.resized.values().find_map(|resized| resized.failure.as_ref());
    if let Some((message, _)) = failed {
        conditions.push(condition(input, "PodResizeInProgress", true, Some(("Error".into(), message.clone()))));
    }
    conditions
}

/// Whether the pod has the one sandbox that it needs, with its network: none has to be made.
fn has_sandbox(input: &Input<'_>) -> bool {
    let mut ready = input.view.sandboxes.iter().filter(|sandbox| sandbox.ready);
    let (first, more) = (ready.next(), ready.next().is_some());
    let newest = input.view.sandbox().filter(|newest| first.is_some_and(|first| first.id == newest.id));
    let on_host = spec_of(input.pod).host_network == Some(true);
    newest.is_some_and(|newest| !more && (on_host || !newest.ips.is_empty()))
}

/// Of a pod that has a rule for it: whether all its containers are being restarted because one has ended so.
fn all_restarting(input: &Input<'_>) -> Option<(bool, Option<Why>)> {
    const ALL: &str = "RestartAllContainers";
    let spec = spec_of(input.pod);
    let containers = || init_of(spec).iter().chain(&spec.containers);
    let could = |container: &Container| container.restart_policy_rules.iter().flatten().any(|rule| rule.action == ALL);
    if !containers().any(could) {
        return None;
    }
    let why = match input.plan.phase {
        Phase::Succeeded => return Some((false, Some(("PodCompleted".into(), String::new())))),
        Phase::Failed => return Some((false, Some(("PodFailed".into(), String::new())))),
        Phase::Pending | Phase::Running => ("RestartAllContainersStarted", "container exited with restart policy rule"),
    };
    let asks = |container: &Container| {
        let end = input.view.latest(&container.name).and_then(ContainerView::exit);
        end.and_then(|end| rule_for(container, end.code)).is_some_and(|rule| rule.action == ALL)
    };
    let holds = containers().any(asks);
    Some((holds, holds.then(|| (why.0.into(), why.1.to_owned()))))
}

fn unready(input: &Input<'_>, init: &[ContainerStatus], main: &[ContainerStatus]) -> Option<Why> {
    match input.plan.phase {
        Phase::Succeeded => return Some(("PodCompleted".into(), String::new())),
        Phase::Failed => return Some(("PodFailed".into(), String::new())),
        Phase::Pending | Phase::Running => {}
    }
    let sidecars = init_of(spec_of(input.pod)).iter().zip(init).filter(|(init, _)| is_sidecar(init));
    let all = sidecars.map(|(_, status)| status).chain(main);
    let names: Vec<&str> = all.filter(|status| !status.ready).map(|status| status.name.as_str()).collect();
    let message = || format!("containers with unready status: [{}]", names.join(" "));
    (!names.is_empty()).then(|| ("ContainersNotReady".into(), message()))
}

/// Conditions that somebody else gives the pod; on a node by itself nobody does.
fn gates(input: &Input<'_>) -> Option<Why> {
    let gates = spec_of(input.pod).readiness_gates.iter().flatten();
    let given = input.pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    let missing: Vec<String> = gates
        .filter_map(|gate| {
            let name = &gate.condition_type;
            match given.into_iter().flatten().find(|it| it.type_ == *name).map(|it| it.status.as_str()) {
                Some("True") => None,
                Some(status) => {
                    Some(format!("the status of pod readiness gate \"{name}\" is not \"True\", but {status}"))
                }
                None => Some(format!("corresponding condition of pod readiness gate \"{name}\" does not exist.")),
            }
        })
        .collect();
    (!missing.is_empty()).then(|| ("ReadinessGatesNotReady".into(), missing.join(", ")))
}

fn initialized(input: &Input<'_>, init: &[ContainerStatus], main: &[ContainerStatus]) -> (bool, Option<Why>) {
    let done = |(container, status): &(&Container, &ContainerStatus)| {
        if is_sidecar(container) { status.started == Some(true) } else { status.ready }
    };
    let pairs = init_of(spec_of(input.pod)).iter().zip(init);
    let names: Vec<&str> = pairs.filter(|pair| !done(pair)).map(|(container, _)| container.name.as_str()).collect();
    if input.plan.phase == Phase::Succeeded {
        return (true, Some(("PodCompleted".into(), String::new())));
    }
    // A pod that was initialized once stays so: its sidecars, or all its containers, may restart.
    let before = input.before.and_then(|before| before.conditions.as_ref());
    let was = before.into_iter().flatten().any(|before| before.type_ == "Initialized" && before.status == "True");
    let began = was || main.iter().any(|status| status.restart_count > 0 || status.container_id.is_some());
    if began || names.is_empty() {
        return (true, None);
    }
    let message = format!("containers with incomplete status: [{}]", names.join(" "));
    (false, Some(("ContainersNotInitialized".into(), message)))
}

fn condition(input: &Input<'_>, kind: &str, holds: bool, why: Option<Why>) -> PodCondition {
    let status = if holds { "True" } else { "False" };
    let before = input.before.and_then(|before| before.conditions.as_ref());
    let same = before.into_iter().flatten().find(|before| before.type_ == kind && before.status == status);
    let since = same.and_then(|same| same.last_transition_time.clone());
    let (reason, message) = why.unwrap_or_default();
    PodCondition {
        type_: kind.to_owned(),
        status: status.to_owned(),
        reason: Some(reason.into_owned()).filter(|reason| !reason.is_empty()),
        message: Some(message).filter(|message| !message.is_empty()),
        last_transition_time: since.or(Some(Time(input.now))),
        observed_generation: input.pod.metadata.generation,
        ..PodCondition::default()
    }
}
