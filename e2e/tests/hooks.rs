//! postStart and preStop hooks of every kind: when they run, what waits for them, and what follows from their failure.

use e2e::manifest::{pod, shell, with};
use e2e::{Finished, Node, need};
use rustix::process::Signal;
use serde_json::{Value, json};

const BACKOFF: [&str; 2] = ["--restart-backoff", "initial=100ms,max=200ms"];

/// Runs until it is asked to stop, and says so.
const POLITE: &str = "trap 'echo asked to stop; exit 0' TERM; echo up; while :; do sleep 0.05; done";

fn exec(script: &str) -> Value {
    // What a hook prints goes nowhere: this goes to the container's own output.
    json!({"exec": {"command": ["sh", "-c", format!("exec >/proc/1/fd/1; {script}")]}})
}

fn hooked(name: &str, script: &str, hooks: Value) -> Value {
    with(shell(name, script), json!({"lifecycle": hooks}))
}

/// A sidecar that listens on port 80, which is certain before the containers start, and prints what it is asked.
fn listener() -> Value {
    json!({
        "name": "listener", "image": "coracle.local/tools", "args": ["serve", "--port", "80", "--log"], "restartPolicy": "Always",
        "startupProbe": {"periodSeconds": 1, "failureThreshold": 100, "tcpSocket": {"port": 80}},
    })
}

/// Where a line is among those that were printed.
#[track_caller]
fn place(finished: &Finished, text: &str) -> usize {
    let place = finished.lines.iter().position(|line| line.text.contains(text));
    place.unwrap_or_else(|| panic!("nothing says {text:?}\n{finished}"))
}

fn container<'a>(pod: &'a Value, name: &str) -> &'a Value {
    let mut all = pod["status"]["containerStatuses"].as_array().into_iter().flatten();
    all.find(|container| container["name"] == name).unwrap_or(&Value::Null)
}

#[test]
fn hooks_of_every_kind_run_after_the_start_and_before_the_stop() {
    let node = need!(Node::with_busybox());
    let of = |port: u16| json!({"httpGet": {"port": port, "path": "/http-start"}});
    let containers = [
        hooked(
            "exec",
            POLITE,
            json!({"postStart": exec("echo after the start"), "preStop": exec("echo before the stop")}),
        ),
        hooked(
            "http",
            POLITE,
            json!({"postStart": of(80), "preStop": {"httpGet": {"port": 80, "path": "/http-stop"}}}),
        ),
        hooked(
            "tcp",
            POLITE,
            json!({"postStart": {"tcpSocket": {"port": 80}}, "preStop": {"tcpSocket": {"port": 80}}}),
        ),
        hooked("sleep", POLITE, json!({"postStart": {"sleep": {"seconds": 1}}, "preStop": {"sleep": {"seconds": 1}}})),
        shell("last", POLITE),
    ];
    let spec = json!({"terminationGracePeriodSeconds": 60, "initContainers": [listener()], "containers": containers});
    let mut run = node.run(pod("hooks", spec));
    run.wait_for("hooks/last | up");
    let seen = node.wait_for_phase("hooks", "Running");
    for name in ["exec", "http", "tcp", "sleep", "last"] {
        assert!(container(&seen, name)["state"]["running"].is_object(), "{name}: {seen:#}");
    }
    // The next container starts when the hook of the one before it is through.
    let started = |name: &str| container(&seen, name)["state"]["running"]["startedAt"].as_str().map(str::to_owned);
    assert!(started("last") > started("sleep"), "{seen:#}");
    run.signal(Signal::TERM);
    let finished = run.wait();
    for name in ["exec", "http", "tcp", "sleep"] {
        place(&finished, &format!("hooks/{name} | asked to stop"));
    }
    let place = |text: &str| place(&finished, text);
    assert!(place("hooks/exec | after the start") < place("hooks/last | up"), "{finished}");
    assert!(place("hooks/listener | GET /http-start HTTP/1.1") < place("hooks/last | up"), "{finished}");
    assert!(place("hooks/exec | before the stop") < place("hooks/exec | asked to stop"), "{finished}");
    assert!(place("hooks/listener | GET /http-stop HTTP/1.1") < place("hooks/http | asked to stop"), "{finished}");
    assert!(!finished.lines.iter().any(|line| line.text.contains("hook of container")), "{finished}");
    node.assert_nothing_left();
}

#[test]
fn a_hook_that_fails_after_the_start_ends_the_container_which_is_restarted() {
    let node = need!(Node::with_busybox());
    let hooks = json!({"postStart": {"exec": {"command": ["sh", "-c", "echo no licence; exit 3"]}}});
    let spec = json!({
        "restartPolicy": "Always", "terminationGracePeriodSeconds": 5,
        "containers": [hooked("c", POLITE, hooks), shell("other", POLITE)],
    });
    let mut run = node.run_with(pod("hook", spec), &BACKOFF);
    run.wait_for("exec hook of container c failed: command exited with 3, message: \"no licence\"");
    let twice = |pod: &Value| container(pod, "c")["restartCount"].as_u64() >= Some(2);
    let seen = node.wait_for_pod("hook", "restarted twice", twice);
    assert!(container(&seen, "c")["lastState"]["terminated"].is_object(), "{seen:#}");
    run.wait_for("hook/other | up");
    run.signal(Signal::TERM);
    run.wait().says("hook/c | asked to stop");
    node.assert_nothing_left();
}

#[test]
fn a_hook_that_fails_before_the_stop_holds_up_nothing() {
    let node = need!(Node::with_busybox());
    let nobody = json!({"preStop": {"httpGet": {"port": 81}}});
    let spec = json!({"terminationGracePeriodSeconds": 60, "containers": [hooked("c", POLITE, nobody)]});
    let mut run = node.run(pod("hook", spec));
    run.wait_for("hook/c | up");
    run.signal(Signal::TERM);
    let finished = run.wait().says("httpGet hook of container c failed: Get \"http://").says("connection refused");
    place(&finished, "hook/c | asked to stop");
    node.assert_nothing_left();
}

#[test]
fn a_hook_has_no_more_time_than_the_grace() {
    let node = need!(Node::with_busybox());
    let containers = [
        hooked("sleep", POLITE, json!({"preStop": {"sleep": {"seconds": 2}}})),
        hooked("exec", POLITE, json!({"preStop": exec("echo begun; sleep 100000; echo never")})),
    ];
    let spec = json!({"terminationGracePeriodSeconds": 3, "containers": containers});
    let mut run = node.run(pod("late", spec));
    run.wait_for("late/exec | up");
    run.signal(Signal::TERM);
    let finished = run.wait().says("late/exec | begun").never_says("never");
    let finished = finished.says("late/sleep | asked to stop").says("exec hook of container exec did not end within");
    // What is left when the hook has used it all up: time enough to hear the signal.
    place(&finished, "late/exec | asked to stop");
    node.assert_nothing_left();
}

#[test]
fn a_restart_for_its_liveness_runs_the_hook_before_the_stop() {
    let node = need!(Node::with_busybox());
    let probe = json!({"livenessProbe": {
        "periodSeconds": 1, "failureThreshold": 1, "exec": {"command": ["test", "!", "-e", "/tmp/sick"]},
    }});
    let script = format!("mkdir -p /tmp; {POLITE}");
    let container_ = with(hooked("c", &script, json!({"preStop": exec("echo before the stop")})), probe);
    let spec = json!({"restartPolicy": "Always", "terminationGracePeriodSeconds": 30, "containers": [container_]});
    let mut run = node.run_with(pod("live", spec), &BACKOFF);
    run.wait_for("live/c | up");
    node.exec("live", "c", &["touch", "/tmp/sick"]).exits(0);
    node.wait_for_pod("live", "restarted", |pod| container(pod, "c")["restartCount"] == 1);
    run.wait_for("live/c | before the stop");
    run.signal(Signal::TERM);
    let finished = run.wait();
    assert!(place(&finished, "live/c | before the stop") < place(&finished, "live/c | asked to stop"), "{finished}");
}
