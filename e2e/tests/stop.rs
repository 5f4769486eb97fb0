//! How a run ends when it is told to.

use std::time::{Duration, Instant};

use e2e::manifest::{pod, shell};
use e2e::pty::Session;
use e2e::{Finished, Node, Run, need, patience};
use rustix::process::Signal;
use serde_json::{Value, json};

const POLITE: &str = "trap 'echo asked to stop; exit 0' TERM; echo up; while :; do sleep 0.05; done";
const DEAF: &str = "trap '' TERM; echo up; while :; do sleep 0.05; done";

fn with_grace(grace: u64, script: &str) -> Value {
    pod("stop", json!({"terminationGracePeriodSeconds": grace, "containers": [shell("c", script)]}))
}

/// Starts the pod, waits until it is up, sends the signals 300 ms apart, and gives the end and how long it took.
fn stopped(node: &Node, pod: Value, signals: &[Signal]) -> (Finished, Duration) {
    let mut run: Run = node.run(pod);
    run.wait_for("| up");
    let since = Instant::now();
    for (number, signal) in signals.iter().enumerate() {
        if number > 0 {
            std::thread::sleep(Duration::from_millis(300));
        }
        run.signal(*signal);
    }
    let finished = run.wait();
    node.assert_nothing_left();
    (finished, since.elapsed())
}

#[test]
fn ctrl_c_stops_with_the_containers_own_ending() {
    let node = need!(Node::with_busybox());
    let (finished, took) = stopped(&node, with_grace(30, POLITE), &[Signal::INT]);
    let finished = finished.says("stop/c | asked to stop");
    assert!(took < patience(Duration::from_secs(5)), "it took {took:?}");
    assert!(matches!(finished.status.code(), Some(0 | 130)), "{finished}");
}

#[test]
fn ctrl_c_typed_on_the_terminal_stops_as_gently_and_the_output_is_coloured() {
    let node = need!(Node::with_busybox());
    // The terminal signals every process of its foreground group, whatever part of Coracle that is.
    let manifest = node.manifest(with_grace(30, POLITE));
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
    let (finished, took) = stopped(&node, with_grace(30, POLITE), &[Signal::TERM]);
    finished.says("stop/c | asked to stop");
    assert!(took < patience(Duration::from_secs(5)), "it took {took:?}");
}

#[test]
fn what_does_not_stop_is_killed_after_the_grace_period() {
    let node = need!(Node::with_busybox());
    let (_, took) = stopped(&node, with_grace(2, DEAF), &[Signal::INT]);
    assert!((Duration::from_millis(1900)..patience(Duration::from_secs(6))).contains(&took), "it took {took:?}");
}

#[test]
fn a_second_ctrl_c_kills_at_once() {
    let node = need!(Node::with_busybox());
    let (_, took) = stopped(&node, with_grace(60, DEAF), &[Signal::INT, Signal::INT]);
    assert!(took < patience(Duration::from_secs(5)), "it took {took:?}");
}

#[test]
fn process_1_without_a_handler_is_killed_after_the_grace_period() {
    let node = need!(Node::with_busybox());
    let (_, took) = stopped(&node, with_grace(1, "echo up; exec sleep 1000"), &[Signal::TERM]);
    assert!(took < patience(Duration::from_secs(5)), "it took {took:?}");
}

#[test]
fn the_images_stop_signal_is_the_one_that_is_sent() {
    let node = need!(Node::with_busybox());
    need!(node.import_variant("coracle.test/quit:1", json!({"StopSignal": "SIGQUIT"}), &[]));
    let script = "trap 'echo got quit; exit 0' QUIT; trap 'echo got term' TERM; echo up; while :; do sleep 0.05; done";
    let container = json!({"name": "c", "image": "coracle.test/quit:1", "command": ["sh", "-c", script]});
    let pod = pod("stop", json!({"terminationGracePeriodSeconds": 10, "containers": [container]}));
    let (finished, _) = stopped(&node, pod, &[Signal::TERM]);
    finished.says("got quit").never_says("got term");
}

#[test]
fn all_pods_stop_together_not_one_after_another() {
    let node = need!(Node::with_busybox());
    let pods: Vec<Value> = (0..4)
        .map(|number| {
            let spec = json!({"terminationGracePeriodSeconds": 2, "containers": [shell("c", DEAF)]});
            pod(&format!("deaf-{number}"), spec)
        })
        .collect();
    let mut run = node.run(e2e::manifest::several(&pods));
    for number in 0..4 {
        run.wait_for(&format!("deaf-{number}/c | up"));
    }
    let since = Instant::now();
    run.signal(Signal::INT);
    run.wait();
    assert!(since.elapsed() < patience(Duration::from_secs(6)), "it took {:?}", since.elapsed());
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
