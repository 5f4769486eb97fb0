//! An agent whose pods run in Debian's containerd: its streaming server is reached through the API.

use e2e::cri::Containerd;
use e2e::kubectl::{Cluster, Kubectl};
use e2e::manifest::{pod, shell, with};
use e2e::pty::Session;
use e2e::{Node, need};
use serde_json::json;

#[test]
fn spdy() {
    sessions_reach_the_pods_of_another_runtime(need!(Kubectl::spdy()));
}

#[test]
fn websocket() {
    sessions_reach_the_pods_of_another_runtime(need!(Kubectl::websocket()));
}

fn sessions_reach_the_pods_of_another_runtime(kubectl: Kubectl) {
    let node = need!(Node::with_busybox());
    let containerd = need!(Containerd::start(&node));
    let endpoint = format!("unix://{}", containerd.socket().display());
    let cluster = Cluster::start_with(&node, kubectl, &["--container-runtime-endpoint", &endpoint]);
    let serve = "echo hello >/tmp/index.html; echo up; exec httpd -f -p 8080 -h /tmp";
    let probe = json!({"readinessProbe": {"periodSeconds": 1, "tcpSocket": {"port": 8080}}});
    let shown = cluster.run(&pod("web", json!({"containers": [with(shell("c", serve), probe)]})));
    let id = shown["status"]["containerStatuses"][0]["containerID"].as_str().unwrap();
    assert!(id.starts_with("containerd://"), "{id}");
    cluster.start_kubectl(["logs", "-f", "web"]).wait_for("up");
    let got = cluster.kubectl_reading(["exec", "-i", "web", "--", "sh", "-c", "cat; exit 4"], b"words\n").exits(4);
    assert_eq!(got.stdout(), "words\n");
    let mut session = Session::of(node.host(), cluster.command(["exec", "-it", "web", "--", "sh"]).inner());
    session.wait_for("# ");
    session.type_in("stty size; exit 6\n");
    session.wait_for("40 100");
    assert_eq!(session.wait().0.code(), Some(6));
    let mut forwarding = cluster.start_kubectl(["port-forward", "pod/web", ":8080"]);
    let line = forwarding.wait_for("Forwarding from 127.0.0.1:");
    let port = super::forwarding::port(&line);
    assert!(super::forwarding::fetch(&cluster, port, "/index.html").contains("hello"));
    let none = cluster.kubectl(["exec", "web", "--", "/no/such/program"]);
    assert!(!none.status.success(), "{none}");
    cluster.remove("web.yaml");
    cluster.wait_until_gone("web");
}
