//! What every pod goes through, in full.

use super::*;

#[test]
fn nothing_yet_makes_a_sandbox_and_is_pending() {
    let plan = decide(&pod("Always", &[], &["a"]), &PodStatusView::default(), 0);
    assert_eq!(plan.actions, [Action::CreateSandbox { attempt: 0 }]);
    assert_eq!(plan.phase, Phase::Pending);
    assert_eq!(plan.waiting["a"].reason, "ContainerCreating");
}

#[test]
fn the_restart_policy_table_holds() {
    let oom = State::Exited(Exit { code: 137, reason: "OOMKilled".into(), message: String::new() });
    let cases = [("exit 0", exited(0)), ("exit 3", exited(3)), ("SIGKILL", exited(137)), ("OOM", oom)];
    for policy in ["Always", "OnFailure", "Never"] {
        for (what, state) in &cases {
            let restarts = policy == "Always" || (policy == "OnFailure" && *what != "exit 0");
            let pod = pod(policy, &[], &["a"]);
            let observed = view(vec![container("a", 0, state.clone())]);
            let plan = decide(&pod, &observed, 100);
            if restarts {
                assert_eq!(plan.actions, [start("a", 1)], "{policy}, {what}");
                assert_eq!(plan.phase, Phase::Running, "{policy}, {what}");
            } else {
                assert_eq!(plan.actions, [stop_sandbox("s0")], "{policy}, {what}");
                let phase = if *what == "exit 0" { Phase::Succeeded } else { Phase::Failed };
                assert_eq!(plan.phase, phase, "{policy}, {what}");
                assert!(!plan.finished, "the sandbox has to be given back first");
            }
        }
    }
}

#[test]
fn a_pod_is_finished_when_its_sandbox_is_given_back() {
    let mut observed = view(vec![container("a", 0, exited(0))]);
    observed.sandboxes[0].ready = false;
    observed.history.stopped.insert("s0".into());
    let plan = decide(&pod("Never", &[], &["a"]), &observed, 100);
    assert!(plan.finished && plan.actions.is_empty());
    assert_eq!(plan.phase, Phase::Succeeded);
}

#[test]
fn restarts_wait_for_the_back_off_and_say_so() {
    let pod = pod("Always", &[], &["a"]);
    let mut history = History::default();
    let backoff = Policy::default();
    let mut waits = Vec::new();
    let mut now = at(100);
    for attempt in 0..4 {
        let containers = vec![container("a", attempt, exited(3))];
        history.note(&[], &containers, now);
        let mut observed = PodStatusView::new(vec![sandbox(0, true)], containers, history.clone());
        let first = Asked::default().decide(&pod, &observed, now);
        let due = first.wake_at.unwrap_or(now);
        waits.push((due - now).as_secs());
        if due > now {
            assert!(first.actions.is_empty());
            assert_eq!(first.waiting["a"].reason, "CrashLoopBackOff");
            assert_eq!(first.waiting["a"].until, Some(due));
        }
        assert_eq!(first.phase, Phase::Running);
        observed.history = history.clone();
        assert_eq!(Asked::default().decide(&pod, &observed, due).actions, [start("a", attempt + 1)]);
        history.starting(Some("a"), &backoff, due);
        now = due + Duration::from_secs(1);
    }
    assert_eq!(waits, [0, 10, 20, 40]);
}

#[test]
fn the_back_off_message_is_kubelets() {
    let mut observed = view(vec![container("a", 1, exited(3))]);
    observed.history.track_for_tests("a", at(99));
    let plan = decide(&pod("Always", &[], &["a"]), &observed, 100);
    assert_eq!(plan.waiting["a"].message, "back-off 10s restarting failed container=a pod=p_default(u)");
}

#[test]
fn init_containers_run_one_after_the_other_before_any_container() {
    let pod = pod("Always", &["i", "j"], &["a", "b"]);
    let rows = [
        (vec![], vec![start("i", 0)]),
        (vec![container("i", 0, State::Running)], vec![]),
        (vec![container("i", 0, exited(0))], vec![start("j", 0)]),
        (vec![container("i", 0, exited(0)), container("j", 0, exited(0))], vec![start("a", 0), start("b", 0)]),
    ];
    for (containers, actions) in rows {
        let plan = decide(&pod, &view(containers), 100);
        assert_eq!(plan.actions, actions);
        assert_eq!(plan.phase, Phase::Pending);
        assert!(plan.waiting.contains_key("a"));
    }
}

#[test]
fn a_failed_init_container_fails_a_never_pod_and_is_retried_otherwise() {
    for (policy, actions, phase) in [
        ("Never", vec![stop_sandbox("s0")], Phase::Failed),
        ("OnFailure", vec![start("i", 1)], Phase::Pending),
        ("Always", vec![start("i", 1)], Phase::Pending),
    ] {
        let plan = decide(&pod(policy, &["i"], &["a"]), &view(vec![container("i", 0, exited(3))]), 100);
        assert_eq!((plan.actions, plan.phase), (actions, phase), "{policy}");
    }
}

#[test]
fn a_failed_init_container_waits_for_the_back_off() {
    let mut observed = view(vec![container("i", 1, exited(3))]);
    observed.history.track_for_tests("i", at(99));
    let plan = decide(&pod("OnFailure", &["i"], &["a"]), &observed, 101);
    assert_eq!((plan.actions, plan.wake_at), (vec![], Some(at(110))));
    assert_eq!(plan.waiting["i"].reason, "CrashLoopBackOff");
    assert_eq!(plan.waiting["a"].reason, "PodInitializing");
}

#[test]
fn a_dead_sandbox_is_stopped_and_replaced_and_its_init_containers_run_again() {
    let pod = pod("Always", &["i"], &["a"]);
    let containers = vec![container("i", 0, exited(0)), container("a", 0, exited(255))];
    let mut observed = view(containers);
    observed.sandboxes[0].ready = false;
    observed.history.note(&observed.sandboxes.clone(), &[], at(100));
    let plan = decide(&pod, &observed, 100);
    assert_eq!(plan.actions, [stop_sandbox("s0"), Action::CreateSandbox { attempt: 1 }]);

    observed.sandboxes.insert(0, sandbox(1, true));
    observed.history.stopped.insert("s0".into());
    let plan = decide(&pod, &observed, 100);
    assert_eq!(
        plan.actions,
        [Action::StartContainer { name: "i".into(), attempt: 1, sandbox: "s1".into() }],
        "the init container ended in the old sandbox: it runs again"
    );
}

#[test]
fn a_dead_sandbox_is_replaced_only_when_something_may_run_again() {
    let rows = [
        ("Always", vec![exited(0), exited(0)], true),
        ("OnFailure", vec![exited(0), exited(255)], true),
        ("OnFailure", vec![exited(0), exited(0)], false),
        ("Never", vec![exited(255), exited(255)], false),
    ];
    for (policy, states, replaced) in rows {
        let containers = ["a", "b"].iter().zip(states).map(|(name, state)| container(name, 0, state)).collect();
        let mut observed = view(containers);
        observed.sandboxes[0].ready = false;
        let plan = decide(&pod(policy, &[], &["a", "b"]), &observed, 100);
        assert_eq!(plan.actions.contains(&Action::CreateSandbox { attempt: 1 }), replaced, "{policy}");
        assert!(plan.actions.contains(&stop_sandbox("s0")));
    }
}

#[test]
fn a_never_pod_whose_sandbox_died_before_any_container_gets_another() {
    let mut observed = view(vec![]);
    observed.sandboxes[0].ready = false;
    let plan = decide(&pod("Never", &[], &["a"]), &observed, 100);
    assert_eq!(plan.actions, [stop_sandbox("s0"), Action::CreateSandbox { attempt: 1 }]);
}

#[test]
fn a_succeeded_container_stays_ended_in_the_new_sandbox() {
    let mut observed = view(vec![container("a", 0, exited(0)), container("b", 0, exited(255))]);
    observed.sandboxes[0].ready = false;
    observed.sandboxes.insert(0, sandbox(1, true));
    observed.history.stopped.insert("s0".into());
    let plan = decide(&pod("OnFailure", &[], &["a", "b"]), &observed, 100);
    assert_eq!(plan.actions, [Action::StartContainer { name: "b".into(), attempt: 1, sandbox: "s1".into() }]);
}

#[test]
fn a_sandbox_that_keeps_dying_is_replaced_with_back_off() {
    let mut observed = view(vec![]);
    observed.sandboxes[0].ready = false;
    observed.history.note(&observed.sandboxes.clone(), &[], at(99));
    observed.history.starting(None, &Policy::default(), at(99));
    observed.sandboxes = vec![sandbox(1, false)];
    observed.history.stopped.insert("s1".into());
    observed.history.note(&observed.sandboxes.clone(), &[], at(100));
    let plan = decide(&pod("Always", &[], &["a"]), &observed, 100);
    assert_eq!((plan.actions, plan.wake_at), (vec![], Some(at(110))));
}

#[test]
fn containers_are_started_and_restarted_each_by_itself() {
    let observed =
        view(vec![container("a", 0, State::Running), container("b", 2, exited(1)), container("c", 0, exited(0))]);
    let plan = decide(&pod("OnFailure", &[], &["a", "b", "c", "d"]), &observed, 100);
    assert_eq!(plan.actions, [start("b", 3), start("d", 0)]);
    assert_eq!(plan.phase, Phase::Pending, "d has never run");
}

#[test]
fn phases_are_kubelets() {
    let rows: Vec<(&str, Vec<State>, Phase)> = vec![
        ("Always", vec![State::Running, State::Running], Phase::Running),
        ("Always", vec![exited(0), exited(0)], Phase::Running),
        ("Never", vec![State::Running, exited(3)], Phase::Running),
        ("Never", vec![exited(0), exited(0)], Phase::Succeeded),
        ("Never", vec![exited(0), exited(3)], Phase::Failed),
        ("OnFailure", vec![exited(0), exited(3)], Phase::Running),
        ("OnFailure", vec![exited(0), exited(0)], Phase::Succeeded),
        ("Never", vec![State::Unknown, exited(0)], Phase::Failed),
        ("Always", vec![State::Running, State::Created], Phase::Pending),
    ];
    for (policy, states, phase) in rows {
        let containers = ["a", "b"].iter().zip(states.clone()).map(|(name, state)| container(name, 0, state));
        let plan = decide(&pod(policy, &[], &["a", "b"]), &view(containers.collect()), 100);
        assert_eq!(plan.phase, phase, "{policy} {states:?}");
    }
}

#[test]
fn an_unknown_container_counts_as_ended_with_255() {
    let observed = view(vec![container("a", 0, State::Unknown)]);
    assert_eq!(decide(&pod("OnFailure", &[], &["a"]), &observed, 100).actions, [start("a", 1)]);
    assert_eq!(decide(&pod("Never", &[], &["a"]), &observed, 100).phase, Phase::Failed);
}

#[test]
fn a_container_that_was_made_and_never_started_is_made_again_under_its_number() {
    let observed = view(vec![container("a", 2, State::Created), container("a", 1, exited(1))]);
    let removal = Action::RemoveContainer { id: "a2".into(), name: "a".into(), attempt: 2 };
    assert_eq!(decide(&pod("Always", &[], &["a"]), &observed, 100).actions, [removal, start("a", 2)]);
}

#[test]
fn failed_creations_are_retried_with_back_off() {
    let pod = pod("Never", &[], &["a"]);
    let policy = Policy::default();
    for (reason, later) in [
        ("ErrImagePull", "ImagePullBackOff"),
        ("ErrImageNeverPull", "ErrImageNeverPull"),
        ("CreateContainerError", "CreateContainerError"),
        ("CreateContainerConfigError", "CreateContainerConfigError"),
    ] {
        let failure =
            |seconds| Failure { reason: reason.into(), message: "why".into(), at: at(seconds), count: 0, fatal: false };
        let mut observed = view(vec![]);
        observed.history.failed(Some("a"), &policy, failure(100));
        let plan = decide(&pod, &observed, 101);
        assert_eq!((plan.actions, plan.wake_at, plan.phase), (vec![], Some(at(110)), Phase::Pending), "{reason}");
        assert_eq!((plan.waiting["a"].reason.as_str(), plan.waiting["a"].message.as_str()), (reason, "why"));
        assert_eq!(decide(&pod, &observed, 110).actions, [start("a", 0)]);
        observed.history.failed(Some("a"), &policy, failure(110));
        let plan = decide(&pod, &observed, 111);
        assert_eq!((plan.wake_at, plan.waiting["a"].reason.as_str()), (Some(at(130)), later));
        observed.history.started(Some("a"));
        assert_eq!(decide(&pod, &observed, 111).wake_at, None);
    }
}

#[test]
fn a_fatal_failure_ends_the_pod() {
    let failure = Failure { reason: "ErrImagePull".into(), message: "no".into(), at: at(100), count: 0, fatal: true };
    let mut observed = view(vec![container("b", 0, State::Running)]);
    observed.history.failed(Some("a"), &Policy::default(), failure);
    let pod = pod("Always", &[], &["a", "b"]);
    let plan = decide(&pod, &observed, 100);
    assert_eq!(plan.actions, [halt("b", 130)]);
    observed.containers[0].state = exited(143);
    let plan = decide(&pod, &observed, 100);
    assert_eq!((plan.actions, plan.phase), (vec![stop_sandbox("s0")], Phase::Failed));
    assert_eq!(plan.waiting["a"].reason, "ErrImagePull");
}

#[test]
fn stopping_stops_what_runs_and_starts_nothing() {
    let pod = pod("Always", &["i"], &["a", "b", "c"]);
    let mut observed = view(vec![
        container("i", 0, exited(0)),
        container("a", 0, State::Running),
        container("b", 0, exited(3)),
        container("c", 0, State::Running),
    ]);
    let asked = Asked::to_stop(130);
    assert_eq!(asked.decide(&pod, &observed, at(100)).actions, [halt("a", 130), halt("c", 130)]);
    for seen in &mut observed.containers {
        if seen.running() {
            seen.state = exited(0);
        }
    }
    let over = asked.decide(&pod, &observed, at(101));
    assert_eq!((over.actions, over.phase), (vec![stop_sandbox("s0")], Phase::Failed));
}

#[test]
fn stopping_before_anything_exists_is_the_end() {
    let pod = pod("Always", &[], &["a"]);
    let asked = Asked::to_stop(130);
    let plan = asked.decide(&pod, &PodStatusView::default(), at(100));
    assert!(plan.finished && plan.actions.is_empty());
}

#[test]
fn stopping_during_init_stops_the_init_container() {
    let pod = pod("Always", &["i"], &["a"]);
    let asked = Asked::to_stop(130);
    let plan = asked.decide(&pod, &view(vec![container("i", 0, State::Running)]), at(100));
    assert_eq!(plan.actions, [halt("i", 130)]);
}

#[test]
fn sidecars_start_in_turn_run_beside_and_stop_last_in_reverse() {
    let pod = pod("Never", &["s+", "t+", "i"], &["a"]);
    let running = |names: &[&str]| names.iter().map(|name| container(name, 0, State::Running)).collect::<Vec<_>>();
    assert_eq!(decide(&pod, &view(vec![]), 100).actions, [start("s", 0)]);
    assert_eq!(decide(&pod, &view(running(&["s"])), 100).actions, [start("t", 0)]);
    assert_eq!(decide(&pod, &view(running(&["s", "t"])), 100).actions, [start("i", 0)]);
    let mut seen = running(&["s", "t", "a"]);
    seen.push(container("i", 0, exited(0)));
    seen[0].state = exited(1);
    assert_eq!(decide(&pod, &view(seen.clone()), 100).actions, [start("s", 1)], "whatever the pod's policy");
    seen[0].state = State::Running;
    seen[2].state = exited(0);
    let hold = Action::StopContainer {
        id: "s0".into(),
        name: "s".into(),
        deadline: at(130),
        turn: false,
        cause: Cause::Ending,
    };
    assert_eq!(decide(&pod, &view(seen.clone()), 100).actions, [halt("t", 130), hold]);
    seen[1].state = exited(143);
    assert_eq!(decide(&pod, &view(seen.clone()), 100).actions, [halt("s", 130)]);
    seen[0].state = exited(143);
    let plan = decide(&pod, &view(seen), 100);
    assert_eq!((plan.actions, plan.phase), (vec![stop_sandbox("s0")], Phase::Succeeded));
}

#[test]
fn old_instances_and_sandboxes_are_forgotten() {
    let mut observed =
        view(vec![container("a", 2, State::Running), container("a", 1, exited(1)), container("a", 0, exited(1))]);
    observed.containers[0].sandbox = "s2".into();
    observed.containers[1].sandbox = "s2".into();
    observed.sandboxes = vec![sandbox(2, true), sandbox(0, false)];
    observed.history.stopped.insert("s0".into());
    let plan = decide(&pod("Always", &[], &["a"]), &observed, 100);
    assert_eq!(
        plan.actions,
        [
            Action::RemoveContainer { id: "a0".into(), name: "a".into(), attempt: 0 },
            Action::RemoveSandbox { id: "s0".into() }
        ]
    );
}
