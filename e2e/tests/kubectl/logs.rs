//! logs.

use e2e::kubectl::{Cluster, Transport};
use e2e::manifest::{pod, shell, with};
use serde_json::json;

crate::by_both! {
    a_log_is_shown_from_where_one_likes
    a_log_is_followed_until_its_container_ends
    the_instance_before_the_last_restart_has_its_own
    containers_are_told_apart
}

fn a_log_is_shown_from_where_one_likes(cluster: &Cluster) {
    let script = "echo one; sleep 3; echo two; echo three; exec sleep 1000";
    cluster.run(&pod("web", json!({"containers": [shell("c", script)]})));
    let logs = |args: &[&str]| {
        let got = cluster.text(["logs", "web"].iter().chain(args));
        got.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    cluster.start_kubectl(["logs", "-f", "web"]).wait_for("three");
    let all = logs(&[]);
    assert_eq!((all.len(), all[0].as_str(), all[1].as_str()), (3, "one", "two"));
    assert_eq!(logs(&["--tail=1"]), ["three"]);
    assert_eq!(logs(&["--tail=0"]), [""; 0]);
    assert_eq!(logs(&["--limit-bytes=5"]), ["one", "t"]);
    let stamped = logs(&["--timestamps"]);
    let (time, text) = stamped[1].split_once(' ').unwrap();
    assert_eq!(text, "two");
    assert_eq!(logs(&["--since-time", time]).first().map(String::as_str), Some("two"));
    assert_eq!(logs(&["--since=1h"]), all);
    // As a client reads a log of another moment: nothing is younger than now.
    assert_eq!(logs(&["--since-time", "2999-01-01T00:00:00Z"]), [""; 0]);
}

fn a_log_is_followed_until_its_container_ends(cluster: &Cluster) {
    let script = "while [ ! -e /tmp/go ]; do sleep 0.05; done; seq 1 20000; exit 3";
    cluster.run(&pod("web", json!({"containers": [shell("c", script)]})));
    let following = cluster.start_kubectl(["logs", "-f", "web"]);
    cluster.kubectl(["exec", "web", "--", "touch", "/tmp/go"]).exits(0);
    let lines: Vec<_> = following.wait().exits(0).lines.into_iter().map(|line| line.text).collect();
    let expected: Vec<_> = (1..=20_000).map(|number| number.to_string()).collect();
    assert!(lines == expected, "{} lines, the last is {:?}", lines.len(), lines.last());
}

fn the_instance_before_the_last_restart_has_its_own(cluster: &Cluster) {
    let script = "n=$(cat /data/n 2>/dev/null || echo 0); echo $((n+1)) >/data/n; echo run $n; [ $n -gt 0 ] || exit 1; \
                  exec sleep 1000";
    let container = with(shell("c", script), json!({"volumeMounts": [{"name": "data", "mountPath": "/data"}]}));
    let volumes = json!([{"name": "data", "emptyDir": {}}]);
    let spec = json!({"containers": [container], "volumes": volumes, "restartPolicy": "Always"});
    cluster.write("web.yaml", pod("web", spec));
    cluster.wait_for("web", "started again", |pod| {
        let status = &pod["status"]["containerStatuses"][0];
        status["restartCount"] == 1 && status["state"]["running"].is_object()
    });
    assert_eq!(cluster.text(["logs", "web"]), "run 1");
    assert_eq!(cluster.text(["logs", "web", "--previous"]), "run 0");
    cluster.run(&pod("new", json!({"containers": [shell("c", "exec sleep 1000")]})));
    let none = cluster.kubectl(["logs", "new", "-p"]).exits(1).stderr();
    assert!(none.contains(r#"previous terminated container "c" in pod "new" not found"#), "{none}");
}

fn containers_are_told_apart(cluster: &Cluster) {
    let (a, b) = (shell("a", "echo of a; exec sleep 1000"), shell("b", "echo of b; exec sleep 1000"));
    let init = json!([shell("i", "echo of i")]);
    cluster.run(&pod("web", json!({"containers": [a, b], "initContainers": init})));
    for container in ["a", "b", "i"] {
        let text = cluster.text(["logs", "web", "-c", container]);
        assert_eq!(text, format!("of {container}"));
    }
    let all = cluster.text(["logs", "web", "--all-containers"]);
    let mut all: Vec<_> = all.lines().collect();
    all.sort_unstable();
    assert_eq!(all, ["of a", "of b", "of i"]);
    let unknown = cluster.kubectl(["logs", "web", "-c", "x"]).exits(1).stderr();
    assert!(unknown.contains("container x is not valid for pod web"), "{unknown}");
    if cluster.transport() == Transport::WebSocket {
        // Newer clients choose the first one themselves.
        assert!(cluster.kubectl(["logs", "web"]).exits(0).stderr().contains("Defaulted container \"a\""));
    } else {
        let which = cluster.kubectl(["logs", "web"]).exits(1).stderr();
        assert!(which.contains("a container name must be specified for pod web, choose one of: [a b"), "{which}");
    }
}
