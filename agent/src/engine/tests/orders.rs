//! What is asked of a worker while its pod lives: to wait, to begin again, to end.

use super::*;
use crate::engine::orders::Gate;

fn gate() -> Gate {
    Gate { reason: "WaitingForDependencies".into(), message: "db is not ready".into() }
}

fn gated(bench: &Bench, pod: Arc<Pod>) -> Result<PodHandle, HostError> {
    bench.engine.start_among(pod, Some(gate()), Surroundings::default())
}

#[tokio::test(start_paused = true)]
async fn a_gated_pod_says_what_it_waits_for_and_begins_when_it_is_let_go() {
    let bench = agent().await;
    let handle = gated(&bench, one("Always")).unwrap();
    at(60).await;
    assert_eq!(bench.fake.calls(), Vec::<String>::new());
    let waiting = bench.container(0)["state"]["waiting"].clone();
    assert_eq!(
        (&waiting["reason"], &waiting["message"]),
        (&json!("WaitingForDependencies"), &json!("db is not ready"))
    );
    assert_eq!(bench.record()["status"]["phase"], "Pending");
    handle.gate(None);
    at(1).await;
    assert_eq!(bench.fake.calls(), ["60 sandbox p 0", "60 create a 0"]);
    handle.gate(Some(gate()));
    at(60).await;
    assert_eq!(bench.fake.calls().len(), 2, "what runs is not touched");
    bench.fake.kill_shims();
    at(10).await;
    assert_eq!(bench.fake.calls()[2..], ["121 stop-sandbox p-s0"], "its next sandbox waits");
    handle.stop(Duration::ZERO);
    handle.outcome().await;
}

#[tokio::test(start_paused = true)]
async fn a_gated_pod_can_be_stopped() {
    let bench = agent().await;
    let handle = gated(&bench, one("Always")).unwrap();
    at(1).await;
    handle.stop(Duration::from_secs(30));
    handle.outcome().await;
    assert_eq!(bench.fake.calls(), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn the_time_behind_a_gate_does_not_count_for_the_deadline() {
    let bench = agent().await;
    let spec = json!({"activeDeadlineSeconds": 10, "containers": [{"name": "a"}]});
    let handle = gated(&bench, pod("p", spec)).unwrap();
    at(60).await;
    handle.gate(None);
    at(9).await;
    assert_eq!(bench.record()["status"]["phase"], "Running");
    at(3).await;
    assert_eq!(bench.record()["status"]["reason"], "DeadlineExceeded");
    handle.outcome().await;
}

#[tokio::test(start_paused = true)]
async fn one_container_restarts_at_once_whatever_its_policy_and_back_off() {
    let bench = agent().await;
    bench.fake.script("b", [exits(1, 3)]);
    let spec = json!({"restartPolicy": "OnFailure", "containers": [{"name": "a"}, {"name": "b"}]});
    let handle = bench.engine.start(pod("p", spec)).unwrap();
    at(40).await;
    assert_eq!(bench.container(1)["state"]["waiting"]["reason"], "CrashLoopBackOff");
    bench.new_calls();
    handle.restart(Some("b")).unwrap();
    at(1).await;
    assert_eq!(bench.new_calls(), ["create b 4", "remove p-s0-b2"]);
    handle.restart(Some("a")).unwrap();
    at(5).await;
    let calls = bench.new_calls();
    assert!(calls.contains(&"stop p-s0-a0 30".to_owned()) && calls.contains(&"create a 1".to_owned()), "{calls:?}");
    assert_eq!(bench.container(0)["restartCount"], 1);
    let error = handle.restart(Some("c")).unwrap_err();
    assert_eq!(error.to_string(), "pod default/p has no container \"c\"; there are: a, b");
    handle.stop(Duration::ZERO);
    handle.outcome().await;
}

#[tokio::test(start_paused = true)]
async fn a_pod_restarts_in_a_new_sandbox_with_its_init_containers_first() {
    let bench = agent().await;
    bench.fake.script("i", [exits(1, 0)]);
    let spec = json!({"initContainers": [{"name": "i"}], "containers": [{"name": "a"}]});
    let handle = bench.engine.start(pod("p", spec)).unwrap();
    at(5).await;
    bench.new_calls();
    handle.restart(None).unwrap();
    at(10).await;
    let expected = ["stop p-s0-a0 30", "stop-sandbox p-s0", "sandbox p 1", "create i 1", "create a 1"];
    assert_eq!(bench.new_calls(), expected);
    assert_eq!(bench.record()["status"]["phase"], "Running");
    handle.stop(Duration::ZERO);
    handle.outcome().await;
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_is_over_restarts_when_it_is_asked_to() {
    let mut bench = agent().await;
    bench.fake.script("a", [exits(1, 0)]);
    let handle = bench.engine.start(one("Never")).unwrap();
    at(100).await;
    assert_eq!(bench.record()["status"]["phase"], "Succeeded");
    assert!(handle.seen().borrow().finished);
    bench.new_calls();
    handle.restart(None).unwrap();
    at(100).await;
    assert_eq!(bench.new_calls(), ["sandbox p 1", "create a 1", "stop-sandbox p-s1"]);
    assert_eq!(bench.container(0)["restartCount"], 1);
    let ends = bench.events().iter().filter(|event| matches!(event, Event::Ended(_))).count();
    assert_eq!(ends, 2, "each end is told once");
    assert_eq!(handle.outcome().await.phase, Phase::Succeeded);
}

#[tokio::test(start_paused = true)]
async fn an_evicted_pod_is_failed_at_once_and_stays_so_until_it_is_restarted() {
    let mut bench = agent().await;
    bench.fake.script("a", [Script::Runs { stops_after: Some(Duration::from_secs(4)) }]);
    let handle = bench.engine.start(one("Always")).unwrap();
    at(1).await;
    handle.stopper().evict("Evicted", "The node was low on resource: memory.", Some(Duration::from_secs(3)));
    at(1).await;
    let status = bench.record()["status"].clone();
    assert_eq!((&status["phase"], &status["reason"]), (&json!("Failed"), &json!("Evicted")));
    assert_eq!(status["message"], "The node was low on resource: memory.");
    let disrupted =
        status["conditions"].as_array().unwrap().iter().find(|it| it["type"] == "DisruptionTarget").unwrap();
    assert_eq!(disrupted["reason"], "TerminationByKubelet");
    at(60).await;
    assert_eq!(bench.fake.calls()[2..], ["1 stop p-s0-a0 3", "4 stop-sandbox p-s0"]);
    assert!(bench.events().iter().any(|event| matches!(event, Event::Evicted { .. })));
    drop(handle);

    let bench = bench.next_agent("").await;
    let handle = bench.engine.start(one("Always")).unwrap();
    at(60).await;
    assert_eq!(creations(&bench.fake).len(), 1, "the next agent knows");
    assert_eq!(bench.record()["status"]["reason"], "Evicted");
    handle.restart(None).unwrap();
    at(1).await;
    assert_eq!(bench.record()["status"]["phase"], "Running");
    assert!(bench.record()["status"].get("reason").is_none());
    handle.stop(Duration::ZERO);
    handle.outcome().await;
}

#[tokio::test(start_paused = true)]
async fn who_is_evicted_again_with_less_time_has_less() {
    let bench = agent().await;
    bench.fake.script("a", [Script::Runs { stops_after: Some(Duration::from_secs(600)) }]);
    let handle = bench.engine.start(one("Always")).unwrap();
    at(1).await;
    handle.stopper().evict("Preempting", "It makes room.", None);
    at(1).await;
    handle.stopper().evict("Evicted", "The node was low on resource: memory.", Some(Duration::from_secs(2)));
    at(10).await;
    assert_eq!(bench.record()["status"]["reason"], "Preempting", "it has failed once");
    assert_eq!(bench.fake.calls()[2..], ["1 stop p-s0-a0 30", "2 stop p-s0-a0 2", "4 stop-sandbox p-s0"]);
    handle.stop(Duration::ZERO);
    handle.outcome().await;
}

#[tokio::test(start_paused = true)]
async fn a_deadline_fails_the_pod_and_a_new_definition_lets_it_begin_again() {
    let bench = agent().await;
    let spec = |image: &str| json!({"restartPolicy": "Never", "activeDeadlineSeconds": 10, "containers": [{"name": "a", "image": image}]});
    bench.fake.world().images.insert("j".into());
    let handle = bench.engine.start(pod("p", spec("i"))).unwrap();
    at(15).await;
    let status = bench.record()["status"].clone();
    assert_eq!((&status["phase"], &status["reason"]), (&json!("Failed"), &json!("DeadlineExceeded")));
    assert_eq!(status["message"], "Pod was active on the node longer than the specified deadline");
    assert_eq!(bench.fake.calls()[2..], ["10 stop p-s0-a0 30", "11 stop-sandbox p-s0"]);
    at(100).await;
    bench.new_calls();
    assert!(handle.update(pod("p", spec("j"))));
    at(5).await;
    assert_eq!(bench.new_calls(), ["sandbox p 1", "create a 1"]);
    assert_eq!(bench.record()["status"]["phase"], "Running");
    handle.stop(Duration::ZERO);
    handle.outcome().await;
}

#[tokio::test(start_paused = true)]
async fn what_the_worker_sees_can_be_watched() {
    let bench = agent().await;
    bench.fake.script("a", [exits(1, 3)]);
    let handle = bench.engine.start(one("Always")).unwrap();
    at(5).await;
    let seen = handle.seen().borrow().clone();
    let waiting = &seen.waiting["a"];
    assert_eq!(waiting.reason, "CrashLoopBackOff");
    assert_eq!(waiting.delay, Duration::from_secs(10));
    assert_eq!((waiting.until, seen.finished), (seen.wake_at, false));
    let pod = seen.pod.unwrap();
    assert_eq!(pod.status.as_ref().unwrap().phase.as_deref(), Some("Running"));
    handle.stop(Duration::ZERO);
    handle.outcome().await;
}
