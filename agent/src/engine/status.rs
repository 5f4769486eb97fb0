//! A pod's status, from what is observed and planned: pure, and equal as long as nothing changed.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Container, ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting, ContainerStatus,
    HostIP, Pod, PodCondition, PodIP, PodStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;

use super::config::Node;
use super::config::resources::Qos;
use super::phase::Phase;
use super::plan::{Plan, Waiting, init_of, is_sidecar, spec_of};
use super::view::{ContainerView, PodStatusView};

/// What a status is made from.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    /// The pod.
    pub pod: &'a Pod,
    /// What is observed.
    pub view: &'a PodStatusView,
    /// What is planned.
    pub plan: &'a Plan,
    /// Termination messages by container name and attempt.
    pub messages: &'a BTreeMap<(String, u32), String>,
    /// The status before, whose transition times are kept.
    pub before: Option<&'a PodStatus>,
    /// When the pod was accepted.
    pub started: Timestamp,
    /// Wall clock.
    pub now: Timestamp,
    /// The runtime's name, for container ids.
    pub runtime: &'a str,
    /// The node.
    pub node: &'a Node,
}

/// Makes the status.
pub fn of(input: &Input<'_>) -> PodStatus {
    let spec = spec_of(input.pod);
    let statuses = |containers: &[Container]| -> Vec<ContainerStatus> {
        containers.iter().map(|container| container_status(input, container)).collect()
    };
    let init = statuses(init_of(spec));
    let main = statuses(&spec.containers);
    let fatal = input.view.history.fatal();
    let ips = ips(input);
    PodStatus {
        phase: Some(input.plan.phase.as_str().to_owned()),
        reason: fatal.map(|failure| failure.reason.clone()),
        message: fatal.map(|failure| failure.message.clone()),
        conditions: Some(conditions(input, &init, &main)),
        container_statuses: Some(main),
        init_container_statuses: (!init.is_empty()).then_some(init),
        start_time: Some(Time(input.started)),
        pod_ip: ips.first().cloned(),
        pod_ips: (!ips.is_empty()).then(|| ips.into_iter().map(|ip| PodIP { ip }).collect()),
        host_ip: input.node.ips.first().cloned(),
        host_ips: (!input.node.ips.is_empty())
            .then(|| input.node.ips.iter().map(|ip| HostIP { ip: ip.clone() }).collect()),
        qos_class: Some(Qos::of(spec).as_str().to_owned()),
        ..PodStatus::default()
    }
}

/// A pod keeps its addresses in its status when its sandbox is gone, for whoever asks where it was.
fn ips(input: &Input<'_>) -> Vec<String> {
    let sandbox = input.view.sandbox().map(|sandbox| sandbox.ips.clone()).unwrap_or_default();
    let ips = input.node.ips_of(input.pod, &sandbox);
    if ips.is_empty() {
        let before = input.before.and_then(|before| before.pod_ips.as_ref());
        return before.into_iter().flatten().map(|ip| ip.ip.clone()).collect();
    }
    ips
}

fn container_status(input: &Input<'_>, container: &Container) -> ContainerStatus {
    let mut instances = input.view.instances(&container.name);
    let latest = instances.next();
    let before = instances.next();
    let waiting = input.plan.waiting.get(&container.name);
    let ended = |seen: Option<&ContainerView>| seen.and_then(|seen| terminated(input, seen));
    let running = latest.filter(|seen| seen.running());
    let (state, last) = match (running, waiting, latest) {
        (Some(seen), ..) => {
            let started = ContainerStateRunning { started_at: time(seen.started_at) };
            (ContainerState { running: Some(started), ..ContainerState::default() }, ended(before))
        }
        (None, Some(waiting), _) => (waiting_state(waiting), ended(latest).or_else(|| ended(before))),
        (None, None, Some(seen)) if seen.exit().is_some() => {
            (ContainerState { terminated: terminated(input, seen), ..ContainerState::default() }, ended(before))
        }
        (None, None, _) => {
            let reason = if input.plan.finished { "ContainerStopped" } else { "ContainerCreating" };
            (waiting_state(&Waiting::new(reason, String::new())), ended(before))
        }
    };
    ContainerStatus {
        name: container.name.clone(),
        image: container.image.clone().unwrap_or_default(),
        image_id: latest.map(|seen| seen.image_ref.clone()).unwrap_or_default(),
        container_id: latest.map(|seen| format!("{}://{}", input.runtime, seen.id)),
        ready: if is_init(input, container) {
            state.terminated.as_ref().is_some_and(|end| end.exit_code == 0)
        } else {
            running.is_some()
        },
        started: Some(running.is_some()),
        restart_count: latest.and_then(|seen| i32::try_from(seen.attempt).ok()).unwrap_or(0),
        last_state: last.map(|end| ContainerState { terminated: Some(end), ..ContainerState::default() }),
        state: Some(state),
        ..ContainerStatus::default()
    }
}

fn is_init(input: &Input<'_>, container: &Container) -> bool {
    init_of(spec_of(input.pod)).iter().any(|init| init.name == container.name) && !is_sidecar(container)
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

fn conditions(input: &Input<'_>, init: &[ContainerStatus], main: &[ContainerStatus]) -> Vec<PodCondition> {
    let phase = input.plan.phase;
    let done = matches!(phase, Phase::Succeeded);
    let unready: Vec<&str> = main.iter().filter(|status| !status.ready).map(|status| status.name.as_str()).collect();
    let unfinished: Vec<&str> = init.iter().filter(|status| !status.ready).map(|status| status.name.as_str()).collect();
    let sandbox = input.view.sandbox().is_some_and(|sandbox| sandbox.ready);
    let unready = match phase {
        Phase::Succeeded => Some(("PodCompleted", String::new())),
        Phase::Failed => Some(("PodFailed", String::new())),
        _ if unready.is_empty() => None,
        _ => Some(("ContainersNotReady", format!("containers with unready status: [{}]", unready.join(" ")))),
    };
    let began = main.iter().any(|status| status.restart_count > 0 || status.container_id.is_some());
    let initialized = if done || began || unfinished.is_empty() {
        None
    } else {
        let names = unfinished.join(" ");
        Some(("ContainersNotInitialized", format!("containers with incomplete status: [{names}]")))
    };
    vec![
        condition(input, "PodReadyToStartContainers", (!sandbox).then_some(("", String::new()))),
        condition(input, "Initialized", initialized),
        condition(input, "Ready", unready.clone()),
        condition(input, "ContainersReady", unready),
        condition(input, "PodScheduled", None),
    ]
}

/// True unless there is a reason against it.
fn condition(input: &Input<'_>, kind: &str, problem: Option<(&str, String)>) -> PodCondition {
    let status = if problem.is_some() { "False" } else { "True" };
    let before = input.before.and_then(|before| before.conditions.as_ref());
    let same = before.into_iter().flatten().find(|before| before.type_ == kind && before.status == status);
    let since = same.and_then(|same| same.last_transition_time.clone());
    let (reason, message) = problem.unwrap_or_default();
    PodCondition {
        type_: kind.to_owned(),
        status: status.to_owned(),
        reason: Some(reason.to_owned()).filter(|reason| !reason.is_empty()),
        message: Some(message).filter(|message| !message.is_empty()),
        last_transition_time: since.or(Some(Time(input.now))),
        ..PodCondition::default()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::engine::view::{Exit, SandboxView, State};
    use serde_json::json;

    fn status_of(containers: Vec<ContainerView>, plan: &Plan) -> PodStatus {
        let pod: Pod = serde_json::from_value(json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"},
            "spec": {"initContainers": [{"name": "i", "image": "x"}], "containers": [{"name": "a", "image": "y"}]}
        }))
        .unwrap();
        let sandbox =
            SandboxView { id: "s".into(), ready: true, ips: vec!["10.0.0.2".into()], ..SandboxView::default() };
        let view = PodStatusView::new(vec![sandbox], containers, Default::default());
        let messages = BTreeMap::from([(("a".to_owned(), 0), "last words".to_owned())]);
        of(&Input {
            pod: &pod,
            view: &view,
            plan,
            messages: &messages,
            before: None,
            started: Timestamp::UNIX_EPOCH,
            now: Timestamp::UNIX_EPOCH,
            runtime: "coracle",
            node: &Node::default(),
        })
    }

    fn seen(name: &str, attempt: u32, state: State) -> ContainerView {
        let id = format!("{name}{attempt}");
        ContainerView { id, name: name.into(), sandbox: "s".into(), attempt, state, ..ContainerView::default() }
    }

    fn exited(code: i32) -> State {
        State::Exited(Exit { code, reason: "Error".into(), message: String::new() })
    }

    #[test]
    fn a_running_container_shows_how_the_one_before_it_ended() {
        let plan = Plan { phase: Phase::Running, ..Plan::default() };
        let containers = vec![seen("i", 0, exited(0)), seen("a", 1, State::Running), seen("a", 0, exited(3))];
        let status = status_of(containers, &plan);
        let main = &status.container_statuses.unwrap()[0];
        assert!(main.ready && main.state.as_ref().unwrap().running.is_some());
        assert_eq!((main.restart_count, main.container_id.as_deref()), (1, Some("coracle://a1")));
        let last = main.last_state.as_ref().unwrap().terminated.as_ref().unwrap();
        assert_eq!((last.exit_code, last.message.as_deref()), (3, Some("last words")));
        assert_eq!((status.phase.as_deref(), status.pod_ip.as_deref()), (Some("Running"), Some("10.0.0.2")));
        assert!(status.conditions.unwrap().iter().all(|condition| condition.status == "True"));
        assert_eq!(status.qos_class.as_deref(), Some("BestEffort"));
    }

    #[test]
    fn a_waiting_container_says_why() {
        let waiting = Waiting::new("CrashLoopBackOff", "m".into());
        let plan = Plan { waiting: BTreeMap::from([("a".to_owned(), waiting)]), ..Plan::default() };
        let status = status_of(vec![seen("i", 0, exited(0)), seen("a", 0, exited(3))], &plan);
        let main = &status.container_statuses.as_ref().unwrap()[0];
        assert_eq!(main.state.as_ref().unwrap().waiting.as_ref().unwrap().reason.as_deref(), Some("CrashLoopBackOff"));
        assert!(main.last_state.as_ref().unwrap().terminated.is_some() && !main.ready);
        let conditions = status.conditions.unwrap();
        let ready = conditions.iter().find(|condition| condition.type_ == "Ready").unwrap();
        assert_eq!((ready.status.as_str(), ready.reason.as_deref()), ("False", Some("ContainersNotReady")));
    }

    #[test]
    fn a_pod_keeps_its_addresses_when_its_sandbox_is_gone() {
        let pod = Pod::default();
        let ips = |sandboxes: Vec<SandboxView>, before: Option<&PodStatus>| {
            let status = of(&Input {
                pod: &pod,
                view: &PodStatusView::new(sandboxes, vec![], Default::default()),
                plan: &Plan::default(),
                messages: &BTreeMap::new(),
                before,
                started: Timestamp::UNIX_EPOCH,
                now: Timestamp::UNIX_EPOCH,
                runtime: "coracle",
                node: &Node { ips: vec!["10.0.0.1".into(), "fd01::1".into()], ..Node::default() },
            });
            assert_eq!((status.host_ip.as_deref(), status.host_ips.as_ref().unwrap().len()), (Some("10.0.0.1"), 2));
            status
        };
        let both = vec!["10.1.0.2".to_owned(), "fd00::2".to_owned()];
        let ready = SandboxView { id: "s".into(), ready: true, ips: both, ..SandboxView::default() };
        let gone = SandboxView { ready: false, ips: vec![], ..ready.clone() };
        let first = ips(vec![ready], None);
        let then = ips(vec![gone], Some(&first));
        assert_eq!(then.pod_ip.as_deref(), Some("10.1.0.2"));
        assert_eq!(then.pod_ips, first.pod_ips);
        assert_eq!(ips(vec![], None).pod_ips, None);
    }

    #[test]
    fn unfinished_init_containers_are_named() {
        let status = status_of(vec![seen("i", 0, State::Running)], &Plan::default());
        let conditions = status.conditions.unwrap();
        let initialized = conditions.iter().find(|condition| condition.type_ == "Initialized").unwrap();
        assert_eq!(initialized.message.as_deref(), Some("containers with incomplete status: [i]"));
    }
}
