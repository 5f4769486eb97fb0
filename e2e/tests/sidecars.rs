//! Sidecars: they start in their turn, run beside the containers, are kept whatever the policy, and stop last.

use std::path::Path;

use e2e::agent::{condition, container_id, restarts};
use e2e::manifest::{pod, shell, with};
use e2e::{Node, need};
use rustix::process::Signal;
use serde_json::{Value, json};

const BACKOFF: [&str; 2] = ["--restart-backoff", "initial=100ms,max=200ms"];

/// A container that may write to the test's directory, at `/n`.
fn container(name: &str, script: &str) -> Value {
    with(shell(name, script), json!({"volumeMounts": [{"name": "n", "mountPath": "/n"}]}))
}

/// A sidecar, which has started when it has noted that it is up.
fn sidecar(name: &str, script: &str) -> Value {
    let up = json!({"command": ["grep", "-qx", format!("{name} up"), "/n/notes"]});
    let probe = json!({"periodSeconds": 1, "timeoutSeconds": 60, "failureThreshold": 1000, "exec": up});
    with(container(name, script), json!({"restartPolicy": "Always", "startupProbe": probe}))
}

/// Notes when it is up, and when it is asked to stop.
fn polite(name: &str) -> String {
    format!(
        "trap 'echo {name} down >> /n/notes; exit 0' TERM; echo {name} up >> /n/notes; echo up; sleep 100000 & wait"
    )
}

fn cars(dir: &Path, spec: Value) -> Value {
    pod("cars", with(json!({"volumes": [{"name": "n", "hostPath": {"path": dir}}]}), spec))
}

/// What the containers noted, in its order: what they print goes by as many ways as there are containers.
fn noted(dir: &Path) -> Vec<String> {
    let notes = std::fs::read_to_string(dir.join("notes")).expect("they noted something");
    notes.lines().map(str::to_owned).collect()
}

#[test]
fn a_pod_ends_when_its_containers_do_and_sidecars_stop_in_reverse() {
    let node = need!(Node::with_busybox());
    let dir = node.make_dir("notes");
    let spec = json!({
        "terminationGracePeriodSeconds": 3600,
        "initContainers": [
            sidecar("one", &polite("one")), container("init", "echo init >> /n/notes"), sidecar("two", &polite("two")),
        ],
        "containers": [container("c", "echo main >> /n/notes; exit 3")],
    });
    let finished = node.run_to_end(cars(&dir, spec)).exits(3);
    assert_eq!(noted(&dir), ["one up", "init", "two up", "main", "two down", "one down"], "{finished}");
    node.assert_nothing_left();
}

#[test]
fn a_sidecars_own_end_does_not_count_and_it_is_started_again() {
    let node = need!(Node::with_busybox());
    let mut keeper = container("car", "echo x >> /n/starts; exit 7");
    keeper["restartPolicy"] = json!("Always");
    let main = container("c", "until [ $(wc -l < /n/starts) -ge 3 ]; do sleep 0.05; done; echo enough");
    let spec = json!({"restartPolicy": "Never", "initContainers": [keeper], "containers": [main]});
    // It counts as started with each of its starts, however short: the container's turn comes.
    let finished = node.run_with(cars(&node.make_dir("notes"), spec), &BACKOFF).wait().exits(0);
    finished.says("cars/c | enough").never_says("error");
}

#[test]
fn stopping_a_pod_stops_its_containers_first() {
    let node = need!(Node::with_busybox());
    let dir = node.make_dir("notes");
    let slow = "trap 'sleep 0.5; echo main down >> /n/notes; exit 0' TERM; echo main up >> /n/notes; echo up; sleep 100000 & wait";
    let spec = json!({
        "terminationGracePeriodSeconds": 3600,
        "initContainers": [sidecar("car", &polite("car"))],
        "containers": [container("c", slow)],
    });
    let mut run = node.run(cars(&dir, spec));
    run.wait_for("cars/c | up");
    let running = node.pod("cars").expect("the pod is known");
    let status = &running["status"]["initContainerStatuses"][0];
    assert_eq!((&status["started"], &status["ready"]), (&json!(true), &json!(true)), "{running:#}");
    run.signal(Signal::TERM);
    let finished = run.wait();
    assert_eq!(noted(&dir), ["car up", "main up", "main down", "car down"], "{finished}");
    node.assert_nothing_left();
}

#[test]
fn a_sidecar_that_does_not_stop_is_killed_and_the_next_has_its_turn() {
    let node = need!(Node::with_busybox());
    let dir = node.make_dir("notes");
    let spec = json!({
        "terminationGracePeriodSeconds": 1,
        "initContainers": [
            sidecar("gentle", &polite("gentle")),
            sidecar("deaf", "trap '' TERM; echo deaf up >> /n/notes; while :; do sleep 1; done"),
        ],
        "containers": [container("c", "exit 0")],
    });
    let finished = node.run_to_end(cars(&dir, spec)).exits(0);
    assert_eq!(noted(&dir), ["gentle up", "deaf up", "gentle down"], "{finished}");
    node.assert_nothing_left();
}

#[test]
fn pre_stop_hooks_of_a_pod_run_together_and_sidecars_still_stop_last() {
    let node = need!(Node::with_busybox());
    let dir = node.make_dir("notes");
    // Each hook waits for the other one to have begun.
    let hooked = |container: Value, own: &str, other: &str| {
        let meet =
            format!(": > /n/{own}; until [ -e /n/{other} ]; do sleep 0.05; done; echo {own} met {other} >> /n/notes");
        with(container, json!({"lifecycle": {"preStop": {"exec": {"command": ["sh", "-c", meet]}}}}))
    };
    let spec = json!({
        "terminationGracePeriodSeconds": 3600,
        "initContainers": [hooked(sidecar("car", &polite("car")), "car", "main")],
        "containers": [hooked(container("c", &polite("main")), "main", "car")],
    });
    let mut run = node.run(cars(&dir, spec));
    run.wait_for("cars/c | up");
    run.signal(Signal::TERM);
    let finished = run.wait();
    let noted = noted(&dir);
    let place = |note: &str| noted.iter().position(|it| it == note);
    assert!(place("car met main").is_some() && place("main met car").is_some(), "{noted:?} {finished}");
    assert!(place("main down").is_some() && place("main down") < place("car down"), "{noted:?} {finished}");
    node.assert_nothing_left();
}

#[test]
fn a_sidecar_has_probes_and_hooks_of_its_own() {
    let node = need!(Node::with_busybox());
    let dir = node.make_dir("notes");
    let exists = |file: &str| json!({"exec": {"command": ["test", "-e", format!("/n/{file}")]}});
    let quick = |action: Value| with(json!({"periodSeconds": 1, "timeoutSeconds": 60, "failureThreshold": 1}), action);
    let note = |what: &str| json!({"exec": {"command": ["sh", "-c", format!("echo {what} >> /n/notes")]}});
    let mut car = container("car", &polite("car"));
    car["restartPolicy"] = json!("Always");
    car["readinessProbe"] = quick(exists("ready"));
    car["livenessProbe"] = quick(exists("alive"));
    car["lifecycle"] = json!({"postStart": note("hooked"), "preStop": note("before the stop")});
    std::fs::write(dir.join("alive"), "").expect("the directory is writable");
    let spec = json!({
        "restartPolicy": "Always", "terminationGracePeriodSeconds": 3600,
        "initContainers": [car], "containers": [container("c", &polite("main"))],
    });
    let mut run = node.run_with(cars(&dir, spec), &BACKOFF);
    run.wait_for("cars/c | up");
    let seen = node.wait_for_pod("cars", "running", |pod| pod["status"]["phase"] == "Running");
    assert_eq!((condition(&seen, "Ready"), condition(&seen, "Initialized")), (Some(false), Some(true)), "{seen:#}");
    let main = container_id(&seen, "c");
    std::fs::write(dir.join("ready"), "").expect("the directory is writable");
    node.wait_for_pod("cars", "ready", |pod| condition(pod, "Ready") == Some(true));
    std::fs::remove_file(dir.join("alive")).expect("it is there");
    run.wait_for("Liveness probe failed");
    std::fs::write(dir.join("alive"), "").expect("the directory is writable");
    let again = node.wait_for_pod("cars", "ready again", |pod| {
        restarts(pod, "car").is_some_and(|count| count > 0) && condition(pod, "Ready") == Some(true)
    });
    assert_eq!((container_id(&again, "c"), restarts(&again, "c")), (main, Some(0)), "{again:#}");
    assert_eq!(again["status"]["phase"], "Running");
    run.signal(Signal::TERM);
    let finished = run.wait();
    let noted = noted(&dir);
    let place = |note: &str| noted.iter().position(|it| it == note);
    assert!(place("hooked") < place("main up"), "the next one waits for the hook: {noted:?} {finished}");
    assert!(place("before the stop") < place("car down"), "{noted:?} {finished}");
    node.assert_nothing_left();
}
