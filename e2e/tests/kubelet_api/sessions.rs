//! kubectl, through an API server, to a pod of the node: by SPDY and by WebSocket.

use e2e::kubectl::Kubectl;
use e2e::manifest::shell;
use e2e::{Node, need};
use serde_json::json;

use super::client::{Cluster, NODE};

struct Bench<'n> {
    cluster: Cluster<'n>,
    kubectl: Kubectl,
    node: &'n Node,
}

impl<'n> Bench<'n> {
    fn start(node: &'n Node, kubectl: Kubectl) -> Self {
        let cluster = Cluster::start(node);
        let container = shell("c", "echo one; echo two; exec sleep 1000");
        cluster.server.create(&json!({"apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "web", "namespace": "default"},
            "spec": {"nodeName": NODE, "automountServiceAccountToken": false, "containers": [container],
                     "tolerations": [{"operator": "Exists"}], "terminationGracePeriodSeconds": 0}}));
        cluster.server.wait_for("pods", "default/web", "running", |pod| pod["status"]["phase"] == "Running");
        Self { cluster, kubectl, node }
    }

    /// What it prints, and its exit code.
    fn kubectl(&self, args: &[&str]) -> (String, Option<i32>) {
        let config = self.cluster.server.kubeconfig_of_admin();
        let output = self.kubectl.command(self.node, &config, args).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!said.contains("error: unable"), "{args:?}: {said}");
        (String::from_utf8_lossy(&output.stdout).into_owned(), output.status.code())
    }
}

fn pods_are_talked_to(kubectl: Kubectl) {
    let node = need!(Node::with_busybox());
    let bench = Bench::start(&node, kubectl);
    assert_eq!(bench.kubectl(&["logs", "web", "--tail=1"]), ("two\n".into(), Some(0)));
    assert_eq!(bench.kubectl(&["exec", "web", "--", "echo", "hi"]), ("hi\n".into(), Some(0)));
    assert_eq!(bench.kubectl(&["exec", "web", "--", "sh", "-c", "exit 7"]), (String::new(), Some(7)));
}

#[test]
fn pods_are_talked_to_by_spdy() {
    pods_are_talked_to(need!(Kubectl::spdy()));
}

#[test]
fn pods_are_talked_to_by_websocket() {
    pods_are_talked_to(need!(Kubectl::websocket()));
}
