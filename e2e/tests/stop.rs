//! How a run ends when it is told to.

use std::time::{Duration, Instant};

use e2e::manifest::{pod, shell, with};
use e2e::pty::Session;
use e2e::{Finished, Node, need};
use rustix::process::Signal;
use serde_json::{Value, json};

const POLITE: &str = "trap 'echo asked to stop; exit 0' TERM; echo up; sleep 100000 & wait";
const DEAF: &str = "trap '' TERM; echo up; sleep 100000 & wait";

/// A grace that no test waits for.
const LONG: u64 = 3600;

fn with_grace(grace: u64, script: &str) -> Value {
    pod("stop", json!({"terminationGracePeriodSeconds": grace, "containers": [shell("c", script)]}))
}

/// Starts the pod, waits until it is up, sends the signal, and gives the end.
fn stopped(node: &Node, pod: Value, signal: Signal) -> Finished {
    let mut run = node.run(pod);
    run.wait_for("| up");
    run.signal(signal);
    let finished = run.wait();
    node.assert_nothing_left();
    finished
}

#[test]
fn ctrl_c_stops_with_the_containers_own_ending() {
    let node = need!(Node::with_busybox());
    let finished = stopped(&node, with_grace(LONG, POLITE), Signal::INT).says("stop/c | asked to stop");
    assert!(matches!(finished.status.code(), Some(0 | 130)), "{finished}");
}

#[test]
fn ctrl_c_typed_on_the_terminal_stops_as_gently_and_the_output_is_coloured() {
    let node = need!(Node::with_busybox());
    // The terminal signals every process of its foreground group, whatever part of Coracle that is.
    let manifest = node.manifest(with_grace(LONG, POLITE));
    let mut session = Session::start(&node, &["run", &manifest.to_string_lossy()]);
    session.wait_for("up");
    assert!(session.seen().contains("\x1b["), "no colour on a terminal: {:?}", session.seen());
    session.type_in("\x03");
    session.wait_for("asked to stop");
    let (status, seen) = session.wait();
    assert!(matches!(status.code(), Some(0 | 130)), "{status}: {seen}");
    node.assert_nothing_left();
}

#[test]
fn a_terminal_that_is_closed_stops_the_run() {
    let node = need!(Node::with_busybox());
    let manifest = node.manifest(with_grace(1, DEAF));
    let session = Session::start(&node, &["run", &manifest.to_string_lossy()]);
    session.wait_for("up");
    session.hang_up();
    node.assert_nothing_left();
}

#[test]
fn sigterm_stops_with_the_containers_own_ending() {
    let node = need!(Node::with_busybox());
    stopped(&node, with_grace(LONG, POLITE), Signal::TERM).says("stop/c | asked to stop");
}

#[test]
fn what_does_not_stop_is_killed_after_the_grace_period() {
    let node = need!(Node::with_busybox());
    let since = Instant::now();
    stopped(&node, with_grace(2, DEAF), Signal::INT);
    assert!(since.elapsed() >= Duration::from_secs(2), "it had no grace");
}

#[test]
fn a_second_ctrl_c_kills_at_once() {
    let node = need!(Node::with_busybox());
    let mut run = node.run(with_grace(LONG, DEAF));
    run.wait_for("| up");
    run.signal(Signal::INT);
    // Two at once would be one.
    run.wait_for("once more");
    run.signal(Signal::INT);
    run.wait();
    node.assert_nothing_left();
}

#[test]
fn process_1_without_a_handler_is_killed_after_the_grace_period() {
    let node = need!(Node::with_busybox());
    stopped(&node, with_grace(1, "echo up; exec sleep 100000"), Signal::TERM);
}

#[test]
fn the_images_stop_signal_is_the_one_that_is_sent() {
    let node = need!(Node::with_busybox());
    need!(node.import_variant("coracle.test/quit:1", json!({"StopSignal": "SIGQUIT"}), &[]));
    let script = "trap 'echo got quit; exit 0' QUIT; trap 'echo got term' TERM; echo up; sleep 100000 & wait";
    let container = json!({"name": "c", "image": "coracle.test/quit:1", "command": ["sh", "-c", script]});
    let pod = pod("stop", json!({"terminationGracePeriodSeconds": LONG, "containers": [container]}));
    stopped(&node, pod, Signal::TERM).says("got quit").never_says("got term");
}

#[test]
fn a_stop_signal_of_the_manifest_goes_before_the_images() {
    let node = need!(Node::with_busybox());
    need!(node.import_variant("coracle.test/quit:1", json!({"StopSignal": "SIGQUIT"}), &[]));
    let script = "trap 'echo got usr1; exit 0' USR1; trap 'echo got quit' QUIT; echo up; sleep 100000 & wait";
    let container = json!({
        "name": "c", "image": "coracle.test/quit:1", "command": ["sh", "-c", script], "lifecycle": {"stopSignal": "SIGUSR1"},
    });
    let spec = json!({"os": {"name": "linux"}, "terminationGracePeriodSeconds": LONG, "containers": [container]});
    let mut run = node.run(pod("stop", spec));
    run.wait_for("| up");
    let seen = node.wait_for_phase("stop", "Running");
    assert_eq!(seen["status"]["containerStatuses"][0]["stopSignal"], "SIGUSR1", "{seen:#}");
    run.signal(Signal::TERM);
    run.wait().says("got usr1").never_says("got quit");
    node.assert_nothing_left();
}

#[test]
fn all_pods_stop_together_not_one_after_another() {
    let node = need!(Node::with_busybox());
    let dir = node.make_dir("asked");
    // Each ends when all of them have been asked to.
    let pods: Vec<Value> = (0..4)
        .map(|number| {
            let all = "until [ $(ls /asked | wc -l) = 4 ]; do sleep 0.1; done; echo all were asked; exit 0";
            let script = format!("trap ': > /asked/{number}; {all}' TERM; echo up; sleep 100000 & wait");
            let mount = json!({"volumeMounts": [{"name": "asked", "mountPath": "/asked"}]});
            let spec = json!({
                "terminationGracePeriodSeconds": LONG, "containers": [with(shell("c", &script), mount)],
                "volumes": [{"name": "asked", "hostPath": {"path": dir}}],
            });
            pod(&format!("pod-{number}"), spec)
        })
        .collect();
    let mut run = node.run(e2e::manifest::several(&pods));
    for number in 0..4 {
        run.wait_for(&format!("pod-{number}/c | up"));
    }
    run.signal(Signal::INT);
    let finished = run.wait();
    for number in 0..4 {
        assert_eq!(finished.of(&format!("pod-{number}/c")), ["up", "all were asked"], "{finished}");
    }
    node.assert_nothing_left();
}

#[test]
fn a_stop_during_the_start_leaves_nothing() {
    let node = need!(Node::with_busybox());
    for after in [0, 5, 20, 60, 150] {
        let mut run = node.run(with_grace(1, POLITE));
        std::thread::sleep(Duration::from_millis(after));
        if run.is_running() {
            // Not an interrupt: until it listens, a run that was started in the background ignores those.
            run.signal(Signal::TERM);
        }
        run.wait();
        node.assert_nothing_left();
    }
}
