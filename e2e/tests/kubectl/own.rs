//! Coracle's own verbs, over the socket of the same API.

use e2e::kubectl::{Cluster, Kubectl};
use e2e::manifest::{keeper, pod, shell, with};
use e2e::pty::Session;
use e2e::{Node, need};
use serde_json::json;

#[test]
fn a_pod_is_described_told_of_and_deleted() {
    let node = need!(Node::with_busybox());
    let cluster = Cluster::start(&node, need!(Kubectl::spdy()));
    let before = cluster.run(&keeper("web"));
    let describe = || node.coracle(["describe", "pod", "web"]).exits(0).stdout();
    e2e::inspect::wait_until("the start among the events", || describe().contains("Container started"));
    let said = describe();
    let ip = before["status"]["podIP"].as_str().unwrap();
    for expected in ["Name:              web", "Status:            Running", ip, "Container started", "QoS Class:"] {
        assert!(said.contains(expected), "{expected:?}: {said}");
    }
    let events = node.coracle(["events", "--for", "pod/web"]).exits(0).stdout();
    assert!(events.starts_with("LAST SEEN") && events.contains("Started"), "{events}");
    let list = node.coracle(["events", "-o", "json"]).exits(0).stdout();
    let list: serde_json::Value = serde_json::from_str(&list).unwrap();
    let about = |name: &str| list["items"].as_array().unwrap().iter().any(|it| it["involvedObject"]["name"] == name);
    assert!(about("web"), "{list}");
    let mut watching = node.start(["events", "--watch"]);
    let deleted = node.coracle(["delete", "pod", "web", "--grace-period", "0"]).exits(0);
    assert!(deleted.stdout().contains("pod \"web\" deleted") && deleted.stderr().contains("web.yaml"), "{deleted}");
    watching.wait_for("Started");
    cluster.wait_for("web", "another one", |pod| {
        pod["metadata"]["uid"] != before["metadata"]["uid"] && pod["status"]["phase"] == "Running"
    });
    node.coracle(["delete", "pod", "other"]).says("pods \"other\" not found");
}

#[test]
fn a_container_is_attached_to_and_a_port_reached() {
    let node = need!(Node::with_busybox());
    let cluster = Cluster::start(&node, need!(Kubectl::spdy()));
    let terminal = with(shell("t", "sh"), json!({"stdin": true, "tty": true}));
    let args = ["serve", "--port", "8080", "--text", "through a tunnel"];
    let probe = json!({"periodSeconds": 1, "tcpSocket": {"port": 8080}});
    let serve = json!({"name": "s", "image": "coracle.local/tools", "args": args, "readinessProbe": probe});
    cluster.run(&pod("web", json!({"containers": [terminal, serve]})));
    let attach = node.command(["attach", "-it", "web", "-c", "t"]);
    let mut session = Session::of(node.host(), attach.inner());
    session.type_in("\n");
    session.wait_for("# ");
    session.type_in("stty size; exit 0\n");
    session.wait_for("40 100");
    assert_eq!(session.wait().0.code(), Some(0));
    let mut forwarding = node.start(["port-forward", "web", ":8080"]);
    let line = forwarding.wait_for("Forwarding from 127.0.0.1:");
    for _ in 0..3 {
        let text = super::forwarding::fetch(&cluster, super::forwarding::port(&line), "/");
        assert!(text.contains("through a tunnel"), "{text}");
    }
}

#[test]
fn without_an_agent_that_is_said() {
    let node = need!(Node::with_busybox());
    for args in [&["describe", "pod", "web"][..], &["events"], &["attach", "web"], &["delete", "pod", "web"]] {
        node.coracle(args).exits(125).says("start one with: coracle agent");
    }
}
