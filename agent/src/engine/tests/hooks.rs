//! Hooks, probes, sidecars, ephemeral containers and restart rules, as workers carry them out.

use super::*;

fn hooked(hook: &str, command: &[&str]) -> Arc<Pod> {
    let container = json!({"name": "a", "lifecycle": {hook: {"exec": {"command": command}}}});
    pod("p", json!({"restartPolicy": "Always", "containers": [container, {"name": "b"}]}))
}

#[tokio::test(start_paused = true)]
async fn pre_stop_runs_first_and_its_time_is_part_of_the_grace() {
    for (command, grace, expected) in [
        (["sleep", "10"], 30, ["exec p-s0-a0 sleep 10", "stop p-s0-a0 20"]),
        // What is left is never less than two seconds.
        (["sleep", "29"], 30, ["exec p-s0-a0 sleep 29", "stop p-s0-a0 2"]),
        (["sleep", "60"], 30, ["exec p-s0-a0 sleep 60", "stop p-s0-a0 2"]),
        (["exit", "1"], 30, ["exec p-s0-a0 exit 1", "stop p-s0-a0 30"]),
    ] {
        let mut bench = agent().await;
        let handle = bench.engine.start(hooked("preStop", &command)).unwrap();
        at(1).await;
        bench.new_calls();
        handle.stop(Duration::from_secs(grace));
        handle.outcome().await;
        let calls: Vec<String> = bench.new_calls().into_iter().filter(|call| call.contains("p-s0-a0")).collect();
        assert_eq!(calls, expected, "{command:?}");
        let told = bench.events().iter().any(|event| matches!(event, Event::HookFailed { .. }));
        assert_eq!(told, command[0] == "exit" || command[1] == "60", "{command:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_kill_does_not_wait_for_pre_stop() {
    let bench = agent().await;
    let handle = bench.engine.start(hooked("preStop", &["sleep", "20"])).unwrap();
    at(1).await;
    bench.new_calls();
    handle.stop(Duration::ZERO);
    handle.outcome().await;
    assert!(bench.new_calls().contains(&"stop p-s0-a0 0".to_owned()));

    let bench = agent().await;
    let handle = bench.engine.start(hooked("preStop", &["sleep", "20"])).unwrap();
    at(1).await;
    handle.stop(Duration::from_secs(30));
    at(5).await;
    handle.stop(Duration::ZERO);
    handle.outcome().await;
    let calls = bench.fake.calls();
    assert!(calls.contains(&"6 stop p-s0-a0 0".to_owned()), "{calls:?}");
}

#[tokio::test(start_paused = true)]
async fn post_start_holds_the_next_container_back_and_the_container_counts_as_waiting() {
    let bench = agent().await;
    let handle = bench.engine.start(hooked("postStart", &["sleep", "10"])).unwrap();
    at(5).await;
    assert_eq!(bench.container(0)["state"]["waiting"]["reason"], "ContainerCreating");
    assert_eq!(bench.fake.calls()[2..], ["0 exec p-s0-a0 sleep 10"]);
    at(10).await;
    assert_eq!(bench.fake.calls()[3..], ["10 create b 0"]);
    assert!(bench.container(0)["state"]["running"].is_object());
    handle.stop(Duration::ZERO);
    handle.outcome().await;
}

#[tokio::test(start_paused = true)]
async fn a_post_start_that_fails_kills_the_container_and_the_policy_decides() {
    let mut bench = agent().await;
    let handle = bench.engine.start(hooked("postStart", &["exit", "3"])).unwrap();
    at(5).await;
    let calls = bench.new_calls();
    assert_eq!(calls[1..3], ["create a 0", "exec p-s0-a0 exit 3"]);
    for call in ["stop p-s0-a0 30", "create b 0", "create a 1"] {
        assert!(calls.iter().any(|it| it == call), "{call}: {calls:?}");
    }
    assert_eq!(bench.container(0)["state"]["waiting"]["reason"], "CrashLoopBackOff");
    assert!(bench.events().iter().any(|event| matches!(event, Event::HookFailed { .. })));
    handle.stop(Duration::ZERO);
    handle.outcome().await;
}

#[tokio::test(start_paused = true)]
async fn liveness_failures_restart_with_the_probes_own_grace() {
    let bench = agent().await;
    let probe = json!({"exec": {"command": ["exit", "1"]}, "periodSeconds": 5, "failureThreshold": 2,
        "successThreshold": 1, "timeoutSeconds": 1, "terminationGracePeriodSeconds": 7});
    let spec = json!({"restartPolicy": "OnFailure", "containers": [{"name": "a", "livenessProbe": probe}]});
    bench.fake.script("a", [Script::Runs { stops_after: Some(Duration::from_secs(1)) }]);
    let handle = bench.engine.start(pod("p", spec)).unwrap();
    at(20).await;
    let calls = bench.new_calls();
    assert!(calls.contains(&"stop p-s0-a0 7".to_owned()), "{calls:?}");
    assert!(calls.contains(&"create a 1".to_owned()), "{calls:?}");
    assert_eq!(bench.container(0)["restartCount"], 1);
    handle.stop(Duration::ZERO);
    handle.outcome().await;
}

#[tokio::test(start_paused = true)]
async fn a_startup_probe_gates_what_comes_after_a_sidecar() {
    let bench = agent().await;
    let probe = json!({"exec": {"command": ["true"]}, "initialDelaySeconds": 20, "periodSeconds": 5,
        "failureThreshold": 3, "successThreshold": 1, "timeoutSeconds": 1});
    let spec = json!({"initContainers": [{"name": "s", "restartPolicy": "Always", "startupProbe": probe}],
        "containers": [{"name": "a"}]});
    let handle = bench.engine.start(pod("p", spec)).unwrap();
    at(15).await;
    assert_eq!(creations(&bench.fake), ["0 create s 0"]);
    let sidecar = bench.record()["status"]["initContainerStatuses"][0].clone();
    assert_eq!((&sidecar["started"], &sidecar["ready"]), (&json!(false), &json!(false)));
    assert_eq!(bench.record()["status"]["phase"], "Pending");
    at(30).await;
    assert_eq!(creations(&bench.fake).len(), 2);
    assert_eq!(bench.record()["status"]["phase"], "Running");
    handle.stop(Duration::ZERO);
    handle.outcome().await;
}

#[tokio::test(start_paused = true)]
async fn readiness_is_in_the_status_and_restarts_nothing() {
    let bench = agent().await;
    let probe = json!({"exec": {"command": ["exit", "1"]}, "periodSeconds": 5, "failureThreshold": 1,
        "successThreshold": 1, "timeoutSeconds": 1});
    let spec = json!({"containers": [{"name": "a", "readinessProbe": probe}]});
    let handle = bench.engine.start(pod("p", spec)).unwrap();
    at(30).await;
    assert_eq!((&bench.container(0)["ready"], &bench.container(0)["started"]), (&json!(false), &json!(true)));
    let ready = bench.record()["status"]["conditions"][2].clone();
    assert_eq!((&ready["type"], &ready["message"]), (&json!("Ready"), &json!("containers with unready status: [a]")));
    assert_eq!(creations(&bench.fake).len(), 1);
    handle.stop(Duration::ZERO);
    handle.outcome().await;
}

#[tokio::test(start_paused = true)]
async fn sidecars_stop_last_one_after_the_other_with_two_seconds_at_least() {
    let bench = agent().await;
    bench.fake.script("a", [Script::Runs { stops_after: None }]);
    for name in ["s", "t"] {
        bench.fake.script(name, [Script::Runs { stops_after: Some(Duration::from_secs(1)) }]);
    }
    let sidecar = |name: &str| json!({"name": name, "restartPolicy": "Always"});
    let spec = json!({"initContainers": [sidecar("s"), sidecar("t")], "containers": [{"name": "a"}]});
    let handle = bench.engine.start(pod("p", spec)).unwrap();
    at(1).await;
    bench.new_calls();
    handle.stop(Duration::from_secs(10));
    handle.outcome().await;
    let expected = ["stop p-s0-a0 10", "stop p-s0-t0 2", "stop p-s0-s0 2", "stop-sandbox p-s0"];
    assert_eq!(bench.new_calls(), expected);
}

#[tokio::test(start_paused = true)]
async fn an_ephemeral_container_joins_at_any_time_and_never_twice() {
    let spec = |ephemeral: Value| {
        json!({"terminationGracePeriodSeconds": 30, "shareProcessNamespace": false,
            "containers": [{"name": "a"}], "ephemeralContainers": ephemeral})
    };
    let bench = agent().await;
    bench.fake.script("debug", [exits(3, 1)]);
    let handle = bench.engine.start(pod("p", spec(json!([])))).unwrap();
    at(1).await;
    bench.new_calls();
    let debug = json!([{"name": "debug", "image": "i", "imagePullPolicy": "IfNotPresent", "targetContainerName": "a"}]);
    handle.update(pod("p", spec(debug)));
    at(60).await;
    assert_eq!(bench.new_calls(), ["create debug 0"]);
    {
        let world = bench.fake.world();
        let linux = world.containers[1].config.linux.clone().unwrap();
        let options = linux.security_context.unwrap().namespace_options.unwrap();
        assert_eq!((options.pid(), options.target_id.as_str()), (cri::NamespaceMode::Target, "p-s0-a0"));
    }
    let ephemeral = bench.record()["status"]["ephemeralContainerStatuses"][0].clone();
    assert_eq!(ephemeral["state"]["terminated"]["exitCode"], 1);
    assert_eq!(bench.record()["status"]["phase"], "Running");
    handle.stop(Duration::ZERO);
    handle.outcome().await;
}

#[tokio::test(start_paused = true)]
async fn a_rule_restarts_what_its_policy_would_not() {
    let rules = json!([{"action": "Restart", "exitCodes": {"operator": "In", "values": [42]}}]);
    let bench = agent().await;
    bench.fake.script("a", [exits(1, 42), exits(1, 7)]);
    let container = json!({"name": "a", "restartPolicy": "Never", "restartPolicyRules": rules});
    let handle = bench.engine.start(pod("p", json!({"restartPolicy": "Never", "containers": [container]}))).unwrap();
    let outcome = handle.outcome().await;
    assert_eq!((outcome.phase, outcome.failure.map(|failure| failure.code)), (Phase::Failed, Some(7)));
    assert_eq!(creations(&bench.fake).len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_rule_restarts_all_containers_in_their_order() {
    let rules = json!([{"action": "RestartAllContainers", "exitCodes": {"operator": "In", "values": [88]}}]);
    let mut bench = agent().await;
    bench.fake.script("i", [exits(0, 0)]);
    bench.fake.script("w", [exits(2, 88), Script::Runs { stops_after: None }]);
    let spec = json!({"restartPolicy": "Never",
        "initContainers": [{"name": "i"}, {"name": "s", "restartPolicy": "Always"}],
        "containers": [{"name": "a"}, {"name": "w", "restartPolicy": "Never", "restartPolicyRules": rules}]});
    let handle = bench.engine.start(pod("p", spec)).unwrap();
    at(20).await;
    let calls = bench.new_calls();
    let expected = ["stop p-s0-a0 30", "stop p-s0-s0 29", "create i 1", "create s 1", "create a 1", "create w 1"];
    assert_eq!(calls[5..], expected);
    assert_eq!(bench.record()["status"]["phase"], "Running");
    assert!(bench.events().contains(&Event::BeginsAgain { because: "w".into() }));
    handle.stop(Duration::ZERO);
    handle.outcome().await;
}

#[tokio::test(start_paused = true)]
async fn pre_stop_hooks_of_a_pod_begin_together_and_sidecars_then_wait_for_their_turn() {
    let bench = agent().await;
    let hooked = |name: &str, seconds: &str, sidecar: bool| {
        let hook = json!({"preStop": {"exec": {"command": ["sleep", seconds]}}});
        json!({"name": name, "restartPolicy": if sidecar { json!("Always") } else { json!(null) }, "lifecycle": hook})
    };
    let spec = json!({
        "restartPolicy": "Always", "containers": [hooked("a", "5", false)],
        "initContainers": [hooked("s", "10", true), hooked("t", "3", true)],
    });
    let handle = bench.engine.start(pod("p", spec)).unwrap();
    at(1).await;
    handle.stop(Duration::from_secs(30));
    handle.outcome().await;
    let calls = bench.fake.calls();
    let of = |word: &str| calls.iter().filter(|call| call.split(' ').nth(1) == Some(word)).cloned().collect::<Vec<_>>();
    let begun = ["1 exec p-s0-a0 sleep 5", "1 exec p-s0-s0 sleep 10", "1 exec p-s0-t0 sleep 3"];
    let mut hooks = of("exec");
    hooks.sort();
    assert_eq!(hooks, begun, "{calls:?}");
    assert_eq!(of("stop"), ["6 stop p-s0-a0 25", "7 stop p-s0-t0 24", "11 stop p-s0-s0 20"], "{calls:?}");
}
