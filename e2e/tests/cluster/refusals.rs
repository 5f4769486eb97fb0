//! Pods that the node does not take, or cannot begin.

use e2e::apiserver::ApiServer;
use e2e::manifest::keeper;
use e2e::{Node, need};
use serde_json::{Value, json};

use crate::{KEEPS, bound, is, join};

#[test]
fn a_pod_that_the_node_cannot_take_fails_and_says_why() {
    let node = need!(Node::with_busybox());
    let server = ApiServer::start(&node);
    let kubeconfig = server.kubeconfig_of_node(&crate::name());
    let mut agent = join(&node, &kubeconfig);
    agent.write("web.yaml", keeper("web"));
    agent.wait_for_running("web");
    let with = |name: &str, field: &str, value: Value| {
        let mut pod = bound(name, KEEPS);
        match field {
            "resources" => pod["spec"]["containers"][0]["resources"] = value,
            field => pod["spec"][field] = value,
        }
        pod
    };
    let rows = [
        (with("big", "resources", json!({"requests": {"cpu": "100k"}})), "OutOfcpu"),
        (with("elsewhere", "nodeSelector", json!({"there": "none"})), "NodeAffinity"),
        (
            with("tuned", "securityContext", json!({"sysctls": [{"name": "kernel.msgmax", "value": "9"}]})),
            "SysctlForbidden",
        ),
        (bound("web", KEEPS), "NameTaken"),
    ];
    for (pod, reason) in rows {
        server.create(&pod);
        let which = format!("default/{}", pod["metadata"]["name"].as_str().unwrap());
        let refused = server.wait_for("pods", &which, "refused", is("Failed"));
        assert_eq!(refused["status"]["reason"], reason, "{which}");
        let message = refused["status"]["message"].as_str().unwrap();
        assert!(message.starts_with("Pod was rejected: "), "{message}");
        server.delete("pods", &which);
        server.wait_until_gone("pods", &which);
    }
    agent.wait_for_running("web");
    agent.remove("web.yaml");
    agent.wait_until_gone("web");
    agent.stop_with_nothing_left();
}

#[test]
fn a_pod_that_asks_for_what_does_not_exist_here_waits_and_says_so() {
    let node = need!(Node::with_busybox());
    let server = ApiServer::start(&node);
    let kubeconfig = server.kubeconfig_of_node(&crate::name());
    let mut agent = join(&node, &kubeconfig);
    let mut pod = bound("web", KEEPS);
    pod["spec"]["volumes"] = json!([{"name": "v", "csi": {"driver": "csi.example.com"}}]);
    server.create(&pod);
    let waits = server.wait_for("pods", "default/web", "held back", |pod| {
        pod["status"]["containerStatuses"][0]["state"]["waiting"]["reason"] == "Unsupported"
    });
    assert_eq!(waits["status"]["phase"], "Pending");
    let said = waits["status"]["containerStatuses"][0]["state"]["waiting"]["message"].as_str().unwrap();
    assert!(said.contains("--kubelet-compat-dir"), "{said}");
    node.coracle(["why", "web"]).exits(0).says("what to do: kubectl -n default delete pod web");
    server.delete("pods", "default/web");
    server.wait_until_gone("pods", "default/web");
    agent.stop_with_nothing_left();
}
