//! `coracle exec` from another terminal.

use std::time::{Duration, Instant};

use e2e::manifest::{keeper, pod, shell, with};
use e2e::process::Run;
use e2e::pty::Session;
use e2e::{Node, inspect, need, patience};
use rustix::process::Signal;
use serde_json::json;

/// A running pod `target` with a container `c`.
fn target() -> Result<(Node, Run), String> {
    let node = Node::with_busybox()?;
    let mut run = node.run(keeper("target"));
    run.wait_for("up");
    Ok((node, run))
}

/// Waits until a command runs.
#[track_caller]
fn running(node: &Node, command: &str) {
    let runs = || inspect::processes(node).into_iter().any(|pid| inspect::command_line(pid) == command);
    inspect::wait_until(command, runs);
}

fn stop(mut run: Run) {
    run.signal(Signal::TERM);
    run.wait();
}

#[test]
fn exec_gives_output_errors_and_the_commands_exit_code() {
    let (node, run) = need!(target());
    let finished = node.exec("target", "c", &["sh", "-c", "echo out; echo err >&2; exit 7"]).exits(7);
    assert_eq!((finished.stdout().as_str(), finished.stderr().as_str()), ("out\n", "err\n"), "{finished}");
    stop(run);
}

#[test]
fn exec_without_a_container_takes_the_first() {
    let (node, run) = need!(target());
    node.coracle(["exec", "target", "--", "echo", "reached"]).exits(0).says("reached");
    stop(run);
}

#[test]
fn exec_passes_standard_input_and_its_end() {
    let (node, run) = need!(target());
    let input: Vec<u8> = (0..200_000u32).flat_map(|number| format!("{number}\n").into_bytes()).collect();
    let mut command = node.command(["exec", "-i", "target", "-c", "c", "--", "sh", "-c", "wc -c; echo end"]);
    let finished = Run::start(&mut command, Some(&input)).wait().exits(0).says("end");
    assert_eq!(finished.stdout().lines().next(), Some(input.len().to_string().as_str()));
    stop(run);
}

#[test]
fn exec_brings_large_output_whole() {
    let (node, run) = need!(target());
    let finished = node.exec("target", "c", &["seq", "1", "100000"]).exits(0);
    let lines: Vec<&str> = finished.lines.iter().map(|line| line.text.as_str()).collect();
    assert_eq!(lines.len(), 100_000);
    assert!(lines.iter().enumerate().all(|(index, line)| *line == (index + 1).to_string()), "a line is out of order");
    stop(run);
}

#[test]
fn exec_sees_what_the_container_sees() {
    let node = need!(Node::with_busybox());
    let container = with(
        shell("c", "echo up; cd /; exec sleep 1000"),
        json!({
            "env": [{"name": "MINE", "value": "yes"}], "workingDir": "/home",
            "securityContext": {"runAsUser": 1000, "runAsGroup": 33, "allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
        }),
    );
    let mut run = node.run(pod("seen", json!({"containers": [container]})));
    run.wait_for("up");
    let ask = "echo uid $(id -u); echo gid $(id -g); echo mine $MINE; echo pwd $(pwd); \
        echo same $([ $(readlink /proc/self/ns/mnt) = $(readlink /proc/1/ns/mnt) ] && echo yes); \
        grep -E '^(CapEff|CapBnd|NoNewPrivs|Seccomp):' /proc/self/status";
    let finished = node.exec("seen", "c", &["sh", "-c", ask]).exits(0);
    for line in [
        "uid 1000",
        "gid 33",
        "mine yes",
        "pwd /home",
        "same yes",
        "CapEff:\t0000000000000000",
        "CapBnd:\t0000000000000000",
        "NoNewPrivs:\t1",
        "Seccomp:\t2",
    ] {
        assert!(finished.stdout().lines().any(|have| have == line), "no {line:?}\n{finished}");
    }
    stop(run);
}

#[test]
fn exec_on_a_terminal_is_on_a_terminal_of_the_same_size() {
    let (node, run) = need!(target());
    let mut session = Session::start(&node, &["exec", "-it", "target", "-c", "c", "--", "sh"]);
    session.type_in("tty; stty size\n");
    session.wait_for("/dev/pts/");
    session.wait_for("40 100");
    session.resize(77, 22);
    // The change travels as a signal: ask until it has arrived.
    let deadline = Instant::now() + patience(Duration::from_secs(10));
    while !session.seen().contains("22 77") && Instant::now() < deadline {
        session.type_in("stty size\n");
        std::thread::sleep(Duration::from_millis(200));
    }
    session.wait_for("22 77");
    session.type_in("exit 9\n");
    let (status, seen) = session.wait();
    assert_eq!(status.code(), Some(9), "{seen}");
    stop(run);
}

#[test]
fn ctrl_c_on_the_terminal_reaches_the_command_and_not_the_client() {
    let (node, run) = need!(target());
    let mut session = Session::start(&node, &["exec", "-it", "target", "-c", "c", "--", "sh"]);
    session.type_in("trap 'echo inter''rupted' INT; echo rea''dy; sleep 30; echo go''es on\n");
    session.wait_for("ready");
    // The shell has to be waiting for its child by then.
    running(&node, "sleep 30");
    session.type_in("\x03");
    session.wait_for("interrupted");
    session.type_in("exit 0\n");
    let (status, seen) = session.wait();
    assert_eq!(status.code(), Some(0), "{seen}");
    stop(run);
}

#[test]
fn exec_of_what_is_not_there_says_so() {
    let (node, run) = need!(target());
    node.exec("target", "c", &["no-such-command"]).exits(127).says("no-such-command");
    node.exec("target", "c", &["/etc/passwd"]).exits(126).says("/etc/passwd");
    node.exec("target", "nobody", &["true"]).exits(125).says("nobody");
    node.exec("elsewhere", "c", &["true"]).exits(125).says("elsewhere");
    stop(run);
}

#[test]
fn a_killed_client_leaves_no_command_behind() {
    let (node, run) = need!(target());
    let mut session =
        Session::start(&node, &["exec", "-it", "target", "-c", "c", "--", "env", "LEFT=1", "sleep", "1000"]);
    let pid = inspect::process_with_environment(&node, "LEFT=1").expect("the command runs");
    session.kill();
    let gone = inspect::wait_for(|| inspect::status(pid, "State").is_none().then_some(()));
    assert!(gone.is_some(), "the command still runs: {:?}", inspect::status(pid, "State"));
    stop(run);
}

#[test]
fn many_execs_at_once_each_get_their_own_output() {
    let (node, run) = need!(target());
    let running: Vec<Run> = (0..12)
        .map(|number| {
            let script = format!("sleep 0.2; echo number {number}; exit {number}");
            node.start(["exec", "target", "-c", "c", "--", "sh", "-c", &script])
        })
        .collect();
    for (number, exec) in running.into_iter().enumerate() {
        let finished = exec.wait().exits(number as i32);
        assert_eq!(finished.stdout(), format!("number {number}\n"));
    }
    stop(run);
}

#[test]
fn the_pods_end_ends_an_exec() {
    let (node, run) = need!(target());
    let exec = node.start(["exec", "target", "-c", "c", "--", "sleep", "1001"]);
    running(&node, "sleep 1001");
    stop(run);
    let finished = exec.wait();
    assert_ne!(finished.status.code(), Some(0), "{finished}");
    node.assert_nothing_left();
}
