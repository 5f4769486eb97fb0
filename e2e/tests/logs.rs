//! Output: on the terminal of `run`, in the CRI log files, and by `coracle logs`.

use std::path::PathBuf;

use e2e::manifest::{pod, script, shell};
use e2e::{Node, inspect, need};
use rustix::process::Signal;
use serde_json::json;

/// The log file of a container: NS_NAME_UID/CONTAINER/N.log.
fn log_file(node: &Node, pod: &str, container: &str) -> PathBuf {
    let prefix = format!("default_{pod}_");
    let pods = std::fs::read_dir(&node.log_dir).expect("there are logs").flatten();
    let dir = pods
        .map(|entry| entry.path())
        .find(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&prefix)));
    dir.expect("the pod has logs").join(container).join("0.log")
}

#[test]
fn a_line_longer_than_16_kib_is_split_in_the_file_and_whole_again_for_the_reader() {
    let node = need!(Node::with_busybox());
    let mut run = node.run(script("head -c 40000 /dev/zero | tr '\\0' x; echo; echo after; exec sleep 1000"));
    run.wait_for("| after");
    let log = std::fs::read_to_string(log_file(&node, "test", "c")).expect("the log file");
    let mut parts = Vec::new();
    for line in log.lines() {
        let fields: Vec<&str> = line.splitn(4, ' ').collect();
        assert_eq!(fields.len(), 4, "not a CRI log line: {line:.80}");
        assert!(fields[0].contains('T') && fields[0].len() >= 20, "no RFC 3339 time: {line:.80}");
        assert_eq!(fields[1], "stdout");
        parts.push((fields[2], fields[3].len()));
    }
    assert_eq!(parts, [("P", 16384), ("P", 16384), ("F", 7232), ("F", 5)]);
    let printed = node.coracle(["logs", "test", "-c", "c"]).exits(0);
    assert_eq!(printed.lines.iter().map(|line| line.text.len()).collect::<Vec<_>>(), [40000, 5]);
    run.signal(Signal::TERM);
    let finished = run.wait();
    assert_eq!(finished.of("test/c").iter().map(String::len).collect::<Vec<_>>(), [40000, 5]);
}

#[test]
fn output_without_a_newline_at_its_end_is_shown() {
    let node = need!(Node::with_busybox());
    let finished = node.run_to_end(script("echo one; printf two")).exits(0);
    assert_eq!(finished.of("test/c"), ["one", "two"]);
}

#[test]
fn a_hundred_thousand_lines_all_arrive_in_their_order() {
    let node = need!(Node::with_busybox());
    let finished = node.run_to_end(script("exec seq 1 100000")).exits(0);
    let lines = finished.of("test/c");
    assert_eq!(lines.len(), 100_000, "the last line is {:?}", lines.last());
    let wrong = lines.iter().enumerate().find(|(index, line)| **line != (index + 1).to_string());
    assert_eq!(wrong, None);
}

#[test]
fn output_just_before_the_end_is_not_lost() {
    let node = need!(Node::with_busybox());
    for round in 0..10 {
        let finished = node.run_to_end(script(&format!("seq 1 50; echo last {round} >&2; exit 0"))).exits(0);
        assert_eq!(finished.of("test/c").len(), 51, "{finished}");
    }
}

#[test]
fn logs_shows_what_was_and_follows_what_comes_until_the_container_ends() {
    let node = need!(Node::with_busybox());
    let spec = json!({"containers": [
        shell("c", "echo early; while [ ! -e /tmp/go ]; do sleep 0.05; done; echo late; exit 0"),
        shell("keeper", "trap 'exit 0' TERM; while :; do sleep 0.1; done"),
    ]});
    let mut run = node.run(pod("talks", spec));
    run.wait_for("early");
    let mut follow = node.start(["logs", "-f", "talks", "-c", "c"]);
    follow.wait_for("early");
    let now = node.coracle(["logs", "talks", "-c", "c"]).exits(0);
    assert_eq!(now.stdout(), "early\n");
    node.exec("talks", "c", &["touch", "/tmp/go"]).exits(0);
    follow.wait_for("late");
    let followed = follow.wait().exits(0);
    assert_eq!(followed.stdout(), "early\nlate\n", "{followed}");
    run.signal(Signal::TERM);
    run.wait();
}

#[test]
fn standard_error_is_kept_apart_in_the_file() {
    let node = need!(Node::with_busybox());
    let mut run = node.run(script("echo to out; echo to err >&2; echo done; exec sleep 1000"));
    run.wait_for("| done");
    let file = log_file(&node, "test", "c");
    for line in [" stdout F to out\n", " stderr F to err\n"] {
        let written = || std::fs::read_to_string(&file).is_ok_and(|log| log.contains(line));
        inspect::wait_until(line, written);
    }
    run.signal(Signal::TERM);
    run.wait();
}

#[test]
fn bytes_that_are_no_text_go_through() {
    let node = need!(Node::with_busybox());
    let mut run = node.run(script("printf 'a\\377\\000b\\n'; echo done; exec sleep 1000"));
    run.wait_for("| done");
    let log = std::fs::read(log_file(&node, "test", "c")).expect("the log file");
    assert!(log.windows(4).any(|bytes| bytes == [b'a', 0xff, 0, b'b']), "{:?}", String::from_utf8_lossy(&log));
    run.signal(Signal::TERM);
    run.wait();
}

#[test]
fn logs_of_what_is_not_there_says_so() {
    let node = need!(Node::with_busybox());
    node.coracle(["logs", "nobody"]).exits(125).says("nobody");
}
