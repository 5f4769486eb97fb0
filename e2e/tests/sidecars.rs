//! Sidecars: they start in their turn, run beside the containers, are kept whatever the policy, and stop last.

use e2e::manifest::{pod, shell, with};
use e2e::{Finished, Node, need};
use rustix::process::Signal;
use serde_json::{Value, json};

const BACKOFF: [&str; 2] = ["--restart-backoff", "initial=100ms,max=200ms"];

fn sidecar(name: &str, script: &str) -> Value {
    with(shell(name, script), json!({"restartPolicy": "Always"}))
}

/// Says when it is up, and when it is asked to stop.
fn polite(up: &str, down: &str) -> String {
    format!("trap 'echo {down}; exit 0' TERM; echo {up}; while :; do sleep 0.05; done")
}

/// What the containers said, in the order of its saying.
fn said(finished: &Finished) -> Vec<String> {
    let words = finished.lines.iter().filter_map(|line| line.text.split_once(" | "));
    words.map(|(_, text)| text.to_owned()).collect()
}

#[test]
fn a_pod_ends_when_its_containers_do_and_sidecars_stop_in_reverse() {
    let node = need!(Node::with_busybox());
    let spec = json!({
        "terminationGracePeriodSeconds": 30,
        "initContainers": [
            sidecar("one", &polite("one up", "one down")),
            shell("init", "echo init"),
            sidecar("two", &polite("two up", "two down")),
        ],
        "containers": [shell("c", "sleep 0.5; echo main; exit 3")],
    });
    let finished = node.run_to_end(pod("cars", spec)).exits(3);
    assert_eq!(said(&finished), ["one up", "init", "two up", "main", "two down", "one down"], "{finished}");
    node.assert_nothing_left();
}

#[test]
fn a_sidecars_own_end_does_not_count_and_it_is_started_again() {
    let node = need!(Node::with_busybox());
    let mut keeper = sidecar("car", "echo x >> /v/starts; exit 7");
    let mut main = shell("c", "until [ $(wc -l < /v/starts) -ge 3 ]; do sleep 0.05; done; echo enough");
    for container in [&mut keeper, &mut main] {
        container["volumeMounts"] = json!([{"name": "v", "mountPath": "/v"}]);
    }
    let spec = json!({
        "restartPolicy": "Never", "initContainers": [keeper], "containers": [main],
        "volumes": [{"name": "v", "emptyDir": {}}],
    });
    // It counts as started with each of its starts, however short: the container's turn comes.
    let finished = node.run_with(pod("cars", spec), &BACKOFF).wait().exits(0);
    finished.says("cars/c | enough").never_says("error");
}

#[test]
fn stopping_a_pod_stops_its_containers_first() {
    let node = need!(Node::with_busybox());
    let spec = json!({
        "terminationGracePeriodSeconds": 30,
        "initContainers": [sidecar("car", &polite("car up", "car down"))],
        "containers": [shell("c", "trap 'sleep 0.5; echo main down; exit 0' TERM; echo up; while :; do sleep 0.05; done")],
    });
    let mut run = node.run(pod("cars", spec));
    run.wait_for("cars/c | up");
    let running = node.pod("cars").expect("the pod is known");
    let status = &running["status"]["initContainerStatuses"][0];
    assert_eq!((&status["started"], &status["ready"]), (&json!(true), &json!(true)), "{running:#}");
    run.signal(Signal::TERM);
    let finished = run.wait();
    assert_eq!(said(&finished), ["car up", "up", "main down", "car down"], "{finished}");
    node.assert_nothing_left();
}

#[test]
fn a_sidecar_that_does_not_stop_is_killed_and_the_next_has_its_turn() {
    let node = need!(Node::with_busybox());
    let spec = json!({
        "terminationGracePeriodSeconds": 1,
        "initContainers": [
            sidecar("gentle", &polite("gentle up", "gentle down")),
            sidecar("deaf", "trap '' TERM; echo deaf up; while :; do sleep 0.05; done"),
        ],
        "containers": [shell("c", "exit 0")],
    });
    let finished = node.run_to_end(pod("cars", spec)).exits(0);
    assert_eq!(said(&finished), ["gentle up", "deaf up", "gentle down"], "{finished}");
    node.assert_nothing_left();
}

#[test]
fn pre_stop_hooks_of_a_pod_run_together_and_sidecars_still_stop_last() {
    let node = need!(Node::with_busybox());
    // Each hook waits for the other one to have begun.
    let hooked = |container: Value, own: &str, other: &str| {
        let script = format!(
            "exec >/proc/1/fd/1; : > /v/{own}; until [ -e /v/{other} ]; do sleep 0.05; done; echo {own} met {other}"
        );
        let more = json!({
            "lifecycle": {"preStop": {"exec": {"command": ["sh", "-c", script]}}},
            "volumeMounts": [{"name": "v", "mountPath": "/v"}],
        });
        with(container, more)
    };
    let spec = json!({
        "terminationGracePeriodSeconds": 60, "volumes": [{"name": "v", "emptyDir": {}}],
        "initContainers": [hooked(sidecar("car", &polite("car up", "car down")), "car", "main")],
        "containers": [hooked(shell("c", &polite("main up", "main down")), "main", "car")],
    });
    let mut run = node.run(pod("cars", spec));
    run.wait_for("cars/c | main up");
    run.signal(Signal::TERM);
    let finished = run.wait();
    let finished = finished.says("car met main").says("main met car");
    let place = |word: &str| said(&finished).iter().position(|it| it == word);
    assert!(place("main down").is_some() && place("main down") < place("car down"), "{finished}");
    node.assert_nothing_left();
}
