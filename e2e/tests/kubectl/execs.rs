//! exec, attach and cp.

use e2e::kubectl::{Cluster, Transport};
use e2e::manifest::{keeper, pod, shell, with};
use e2e::pty::Session;
use serde_json::json;

crate::by_both! {
    a_command_has_its_streams_and_its_exit_code
    a_command_on_a_terminal_sees_its_size_and_keys
    a_container_is_attached_to
    files_are_copied_both_ways
    what_does_not_run_is_not_entered
}

fn a_command_has_its_streams_and_its_exit_code(cluster: &Cluster) {
    cluster.run(&keeper("web"));
    let got = cluster.kubectl(["exec", "web", "--", "sh", "-c", "echo out; echo err >&2; exit 7"]).exits(7);
    assert_eq!(got.stdout(), "out\n");
    assert!(got.stderr().starts_with("err\n"), "{got}");
    // More than any buffer holds, both ways.
    let input: Vec<u8> = (0..300_000u32).flat_map(|it| format!("{it}\n").into_bytes()).collect();
    let sum = cluster.kubectl_reading(["exec", "-i", "web", "--", "md5sum"], &input).exits(0).stdout();
    let back = cluster.kubectl_reading(["exec", "-i", "web", "--", "cat"], &input).exits(0);
    assert_eq!(back.lines.len(), 300_000);
    let sum = sum.trim_end();
    let again = cluster.text(["exec", "web", "--", "sh", "-c", "seq 0 299999 | md5sum"]);
    assert_eq!(sum, again);
    // The way that is told is the way that is meant.
    let said = cluster.kubectl(["exec", "-v=6", "web", "--", "true"]).exits(0).stderr();
    let method = if cluster.transport() == Transport::WebSocket { "GET" } else { "POST" };
    let line = said.lines().find(|line| line.contains("/pods/web/exec")).unwrap_or_default();
    assert!(line.contains(method) && line.contains("101"), "{said}");
}

fn a_command_on_a_terminal_sees_its_size_and_keys(cluster: &Cluster) {
    cluster.run(&keeper("web"));
    let command = cluster.command(["exec", "-it", "web", "--", "sh"]);
    let mut session = Session::of(cluster.node.host(), command.inner());
    session.wait_for("# ");
    session.type_in("stty size; tty\n");
    session.wait_for("40 100");
    session.wait_for("/dev/pts/");
    session.resize(77, 33);
    // It arrives when it arrives.
    session.type_in("until stty size | grep '33 77'; do sleep 0.1; done; echo re''sized\n");
    session.wait_for("resized");
    session.type_in("sh -c 'trap \"echo inter\"rupted\"; exit\" INT; echo wait\"\"ing; sleep 1000'\n");
    session.wait_for("waiting");
    session.interrupt_until("interrupted");
    session.type_in("exit 5\n");
    assert_eq!(session.wait().0.code(), Some(5));
}

fn a_container_is_attached_to(cluster: &Cluster) {
    let script = "echo ready; while read line; do echo got $line; done";
    let stdin = with(shell("c", script), json!({"stdin": true}));
    let terminal = with(shell("t", "sh"), json!({"stdin": true, "tty": true}));
    cluster.run(&pod("web", json!({"containers": [stdin, terminal]})));
    let attach = cluster.command(["attach", "-i", "web", "-c", "c"]);
    let mut session = Session::of(cluster.node.host(), attach.inner());
    session.type_in("some words\n");
    session.wait_for("got some words");
    session.kill();
    let attach = cluster.command(["attach", "-it", "web", "-c", "t"]);
    let mut session = Session::of(cluster.node.host(), attach.inner());
    // What is typed before it is attached nobody sees.
    session.wait_for("command prompt");
    session.type_in("\n");
    session.wait_for("# ");
    session.type_in("echo typed; stty size\n");
    session.wait_for("typed");
    session.wait_for("40 100");
}

fn files_are_copied_both_ways(cluster: &Cluster) {
    cluster.run(&keeper("web"));
    let (from, back) = (cluster.node.make_dir("from"), cluster.node.dir().join("back"));
    let contents: Vec<u8> = (0..2_000_000u32).map(|it| (it.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    std::fs::write(from.join("big"), &contents).unwrap();
    std::fs::write(from.join("small"), "text").unwrap();
    let (from, back) = (from.to_str().unwrap(), back.to_str().unwrap());
    cluster.kubectl(["cp", from, "web:/tmp/there"]).exits(0);
    let list = cluster.text(["exec", "web", "--", "ls", "/tmp/there"]);
    assert_eq!(list.lines().collect::<Vec<_>>(), ["big", "small"]);
    cluster.kubectl(["cp", "web:/tmp/there", back]).exits(0);
    assert!(std::fs::read(format!("{back}/big")).unwrap() == contents);
    assert_eq!(std::fs::read_to_string(format!("{back}/small")).unwrap(), "text");
}

fn what_does_not_run_is_not_entered(cluster: &Cluster) {
    cluster.write("done.yaml", pod("done", json!({"containers": [shell("c", "exit 3")]})));
    cluster.wait_for("done", "Failed", |pod| pod["status"]["phase"] == "Failed");
    let ended = cluster.kubectl(["exec", "done", "--", "true"]).exits(1).stderr();
    assert!(ended.contains("completed pod") || ended.contains("is not running: Error, exit code 3"), "{ended}");
    cluster.run(&keeper("web"));
    let unknown = cluster.kubectl(["exec", "web", "-c", "x", "--", "true"]).exits(1).stderr();
    assert!(unknown.contains("container x is not valid for pod web") || unknown.contains("not found"), "{unknown}");
    let nothing = cluster.kubectl(["exec", "web", "--", "/no/such/program"]);
    assert!(!nothing.status.success() && nothing.stderr().contains("no such file"), "{nothing}");
}
