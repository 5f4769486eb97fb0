//! postStart and preStop hooks of every kind: when they run, what waits for them, and what follows from their failure.

use std::path::Path;

use e2e::agent::status_of;
use e2e::manifest::{pod, several, shell, with};
use e2e::{Finished, Node, need};
use rustix::process::Signal;
use serde_json::{Value, json};

const BACKOFF: [&str; 2] = ["--restart-backoff", "initial=100ms,max=200ms"];

/// Runs until it is asked to stop, and says so.
const POLITE: &str = "trap 'echo asked to stop; exit 0' TERM; : > /up; echo up; sleep 100000 & wait";

fn exec(script: &str) -> Value {
    // What a hook prints goes nowhere: this goes to the container's own output.
    json!({"exec": {"command": ["sh", "-c", format!("exec >/proc/1/fd/1; {script}")]}})
}

fn hooked(name: &str, script: &str, hooks: Value) -> Value {
    with(shell(name, script), json!({"lifecycle": hooks}))
}

/// A container that may write to the test's directory, at `/n`, and notes its start and its end there.
fn noting(name: &str, hooks: Value) -> Value {
    let script = format!(
        "trap 'echo {name} down >> /n/notes; exit 0' TERM; echo {name} up >> /n/notes; echo up; sleep 100000 & wait"
    );
    with(hooked(name, &script, hooks), json!({"volumeMounts": [{"name": "n", "mountPath": "/n"}]}))
}

/// A sidecar that notes what it is asked over HTTP at port 80, which is certain before the containers start.
fn listener(dir: &Path) -> Value {
    let cgi = dir.join("cgi-bin");
    let script = "#!/bin/sh\necho $REQUEST_URI >> /n/notes; printf 'Content-Type: text/plain\\r\\n\\r\\nnoted\\n'\n";
    std::fs::create_dir(&cgi)
        .and_then(|()| std::fs::write(cgi.join("hook"), script))
        .expect("the directory is writable");
    e2e::fixtures::open_to_all(&cgi.join("hook"));
    let probe = json!({"periodSeconds": 1, "timeoutSeconds": 60, "failureThreshold": 1000, "tcpSocket": {"port": 80}});
    let more = json!({
        "restartPolicy": "Always", "startupProbe": probe, "volumeMounts": [{"name": "n", "mountPath": "/n"}],
    });
    with(shell("listener", "trap 'exit 0' TERM; httpd -f -p 80 -h /n & wait"), more)
}

/// Where a line is among those that were printed.
#[track_caller]
fn place(finished: &Finished, text: &str) -> usize {
    let place = finished.lines.iter().position(|line| line.text.contains(text));
    place.unwrap_or_else(|| panic!("nothing says {text:?}\n{finished}"))
}

fn container<'a>(pod: &'a Value, name: &str) -> &'a Value {
    status_of(pod, name).unwrap_or(&Value::Null)
}

#[test]
fn hooks_of_every_kind_run_after_the_start_and_before_the_stop() {
    let node = need!(Node::with_busybox());
    let dir = node.make_dir("notes");
    let http = |path: &str| json!({"httpGet": {"port": 80, "path": format!("/cgi-bin/hook?{path}")}});
    let exec = |note: &str| json!({"exec": {"command": ["sh", "-c", format!("echo {note} >> /n/notes")]}});
    let tcp = json!({"tcpSocket": {"port": 80}});
    let sleep = json!({"sleep": {"seconds": 1}});
    let containers = [
        noting("exec", json!({"postStart": exec("exec started"), "preStop": exec("exec stops")})),
        noting("http", json!({"postStart": http("start"), "preStop": http("stop")})),
        noting("tcp", json!({"postStart": tcp, "preStop": tcp})),
        noting("sleep", json!({"postStart": sleep, "preStop": sleep})),
        noting("last", json!({})),
    ];
    let spec = json!({
        "terminationGracePeriodSeconds": 3600, "initContainers": [listener(&dir)], "containers": containers,
        "volumes": [{"name": "n", "hostPath": {"path": dir}}],
    });
    let mut run = node.run(pod("hooks", spec));
    let names = ["exec", "http", "tcp", "sleep", "last"];
    for name in names {
        run.wait_for(&format!("hooks/{name} | up"));
    }
    let seen = node.wait_for_pod("hooks", "running", |pod| {
        names.iter().all(|name| container(pod, name)["state"]["running"].is_object())
    });
    // The next container starts when the hook of the one before it is through.
    let started = |name: &str| container(&seen, name)["state"]["running"]["startedAt"].as_str().map(str::to_owned);
    assert!(started("last") > started("sleep"), "{seen:#}");
    run.signal(Signal::TERM);
    let finished = run.wait();
    let notes = std::fs::read_to_string(dir.join("notes")).expect("they noted something");
    let place = |note: &str| {
        notes.lines().position(|it| it == note).unwrap_or_else(|| panic!("no {note:?} in {notes}\n{finished}"))
    };
    for name in names {
        place(&format!("{name} down"));
    }
    assert!(place("exec started") < place("last up"), "{notes}");
    assert!(place("/cgi-bin/hook?start") < place("last up"), "{notes}");
    assert!(place("exec stops") < place("exec down"), "{notes}");
    assert!(place("/cgi-bin/hook?stop") < place("http down"), "{notes}");
    assert!(!finished.lines.iter().any(|line| line.text.contains("hook of container")), "{finished}");
    node.assert_nothing_left();
}

#[test]
fn a_hook_that_fails_after_the_start_ends_the_container_which_is_restarted() {
    let node = need!(Node::with_busybox());
    let hooks = json!({"postStart": {"exec": {"command": ["sh", "-c", "until [ -e /up ]; do sleep 0.05; done; echo no licence; exit 3"]}}});
    let spec = json!({
        "restartPolicy": "Always", "terminationGracePeriodSeconds": 3600,
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
    let sleeps = hooked("c", POLITE, json!({"preStop": {"sleep": {"seconds": 1}}}));
    let hangs = hooked("c", POLITE, json!({"preStop": exec("echo begun; sleep 100000; echo never")}));
    let of = |grace: u32, container: Value| json!({"terminationGracePeriodSeconds": grace, "containers": [container]});
    let mut run = node.run(several(&[pod("in-time", of(3600, sleeps)), pod("late", of(5, hangs))]));
    run.wait_for("late/c | up");
    run.wait_for("in-time/c | up");
    run.signal(Signal::TERM);
    let finished = run.wait().says("late/c | begun").never_says("never");
    let finished = finished.says("in-time/c | asked to stop").says("exec hook of container c did not end within");
    // What is left when the hook has used it all up: time enough to hear the signal.
    place(&finished, "late/c | asked to stop");
    node.assert_nothing_left();
}

#[test]
fn a_restart_for_its_liveness_runs_the_hook_before_the_stop() {
    let node = need!(Node::with_busybox());
    let probe = json!({"livenessProbe": {
        "periodSeconds": 1, "timeoutSeconds": 60, "failureThreshold": 1,
        "exec": {"command": ["test", "!", "-e", "/tmp/sick"]},
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
