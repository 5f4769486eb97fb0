//! Statuses of one pod, a view a row.
#![allow(clippy::unwrap_used)]
use super::*;
use crate::engine::phase::Phase;
use crate::engine::plan::Waiting;
use crate::engine::view::{ContainerView, Exit, SandboxView, State};
use serde_json::json;

fn status_of(containers: Vec<ContainerView>, plan: &Plan) -> PodStatus {
    let pod: Pod = serde_json::from_value(json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"},
        "spec": {"initContainers": [{"name": "i", "image": "x"}], "containers": [{"name": "a", "image": "y"}]}
    }))
    .unwrap();
    let sandbox = SandboxView { id: "s".into(), ready: true, ips: vec!["10.0.0.2".into()], ..SandboxView::default() };
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
        health: &BTreeMap::new(),
        hooks: &BTreeSet::new(),
        unhooked: &BTreeSet::new(),
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
            health: &BTreeMap::new(),
            hooks: &BTreeSet::new(),
            unhooked: &BTreeSet::new(),
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

/// A condition as `STATUS REASON: MESSAGE`.
fn told(conditions: &[k8s_openapi::api::core::v1::PodCondition], kind: &str) -> String {
    let Some(it) = conditions.iter().find(|condition| condition.type_ == kind) else { return "none".to_owned() };
    let (reason, message) = (it.reason.as_deref().unwrap_or_default(), it.message.as_deref().unwrap_or_default());
    format!("{} {reason}: {message}", it.status).trim_end_matches([' ', ':']).to_owned()
}

/// The conditions of a pod with a rule that restarts all, with these sandboxes, containers and conditions of before.
fn conditions_of(
    sandboxes: Vec<SandboxView>,
    containers: Vec<ContainerView>,
    phase: Phase,
    before: Option<&PodStatus>,
    unhooked: &[&str],
) -> PodStatus {
    let rule = json!({"action": "RestartAllContainers", "exitCodes": {"operator": "In", "values": [42]}});
    let pod: Pod = serde_json::from_value(json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"},
        "spec": {
            "initContainers": [{"name": "i", "image": "x"}],
            "containers": [{"name": "a", "image": "y", "restartPolicy": "Never", "restartPolicyRules": [rule]}],
        },
    }))
    .unwrap();
    of(&Input {
        pod: &pod,
        view: &PodStatusView::new(sandboxes, containers, Default::default()),
        plan: &Plan { phase, ..Plan::default() },
        messages: &BTreeMap::new(),
        before,
        started: Timestamp::UNIX_EPOCH,
        now: Timestamp::UNIX_EPOCH,
        runtime: "coracle",
        node: &Node::default(),
        health: &BTreeMap::new(),
        hooks: &BTreeSet::new(),
        unhooked: &unhooked.iter().map(|id| (*id).to_owned()).collect(),
    })
}

#[test]
fn conditions_have_kubelet_s_words() {
    let sandbox = |id: &str, attempt, ready, ip: &str| SandboxView {
        id: id.into(),
        attempt,
        ready,
        ips: Some(ip.to_owned()).into_iter().filter(|ip| !ip.is_empty()).collect(),
        ..SandboxView::default()
    };
    let good = || vec![sandbox("s", 0, true, "10.0.0.2")];
    let two = vec![sandbox("t", 1, true, "10.0.0.3"), sandbox("s", 0, true, "10.0.0.2")];
    let dead = vec![sandbox("t", 1, false, "10.0.0.3"), sandbox("s", 0, true, "10.0.0.2")];
    let up = || vec![seen("i", 0, exited(0)), seen("a", 0, State::Running)];
    let ended = |code| vec![seen("i", 0, exited(0)), seen("a", 0, exited(code))];
    let (run, pend) = (Phase::Running, Phase::Pending);
    let unready = "False ContainersNotReady: containers with unready status: [a]";
    let again = "True RestartAllContainersStarted: container exited with restart policy rule";
    // Sandboxes, containers, phase; PodReadyToStartContainers, Initialized, Ready, AllContainersRestarting.
    for (sandboxes, containers, phase, expected) in [
        (good(), up(), run, ["True", "True", "True", "False"]),
        (
            vec![],
            vec![],
            pend,
            ["False", "False ContainersNotInitialized: containers with incomplete status: [i]", unready, "False"],
        ),
        (vec![sandbox("s", 0, true, "")], up(), run, ["False", "True", "True", "False"]),
        (two, up(), run, ["False", "True", "True", "False"]),
        (dead, up(), run, ["False", "True", "True", "False"]),
        (good(), ended(42), run, ["True", "True", unready, again]),
        (good(), ended(3), run, ["True", "True", unready, "False"]),
        (good(), ended(0), Phase::Succeeded, ["True", "True PodCompleted", "False PodCompleted", "False PodCompleted"]),
        (good(), ended(3), Phase::Failed, ["True", "True", "False PodFailed", "False PodFailed"]),
    ] {
        let conditions = conditions_of(sandboxes, containers, phase, None, &[]).conditions.unwrap();
        let kinds = ["PodReadyToStartContainers", "Initialized", "Ready", "AllContainersRestarting"];
        assert_eq!(kinds.map(|kind| told(&conditions, kind)), expected.map(str::to_owned), "{phase:?}");
        let order: Vec<_> = conditions.iter().map(|it| it.type_.as_str()).collect();
        let kubelets = ["PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled"];
        assert_eq!(order[..5], kubelets);
    }
    let plain = status_of(vec![], &Plan::default()).conditions.unwrap();
    assert_eq!(told(&plain, "AllContainersRestarting"), "none", "no rule asks for it");
    // Begun anew, with its init containers: it was initialized once.
    let first = conditions_of(good(), up(), run, None, &[]);
    let anew = conditions_of(good(), vec![seen("i", 1, State::Running)], pend, Some(&first), &[]);
    assert_eq!(told(&anew.conditions.unwrap(), "Initialized"), "True");
}

#[test]
fn a_container_whose_post_start_hook_failed_waits_with_kubelet_s_word() {
    let sandbox = SandboxView { id: "s".into(), ready: true, ips: vec!["10.0.0.2".into()], ..SandboxView::default() };
    let running = vec![seen("i", 0, exited(0)), seen("a", 0, State::Running)];
    let status = conditions_of(vec![sandbox], running, Phase::Running, None, &["a0"]);
    let main = &status.container_statuses.unwrap()[0];
    let waiting = main.state.as_ref().unwrap().waiting.as_ref().unwrap();
    assert_eq!((waiting.reason.as_deref(), main.ready, main.started), (Some("PostStartHookError"), false, Some(false)));
}
