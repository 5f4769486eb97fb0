//! How the node is registered and told of.

use e2e::apiserver::ApiServer;
use e2e::{Node, inspect, need};
use serde_json::{Value, json};

use crate::{NAME, holds, join, ready, renewed};

#[test]
fn a_node_is_registered_with_what_it_has_and_what_was_asked_for() {
    let node = need!(Node::with_busybox());
    let server = ApiServer::start(&node);
    let kubeconfig = server.kubeconfig_of_node(NAME);
    let mut agent = join(
        &node,
        &kubeconfig,
        &[
            "--node-labels",
            "disk=ssd,example.com/rack=a",
            "--register-with-taints",
            "new=yes:NoSchedule",
            "--provider-id",
            "test://1",
            "--node-ip",
            "192.0.2.7",
        ],
    );
    let there = ready(&server);
    for (label, value) in [
        ("disk", "ssd"),
        ("example.com/rack", "a"),
        ("kubernetes.io/hostname", NAME),
        ("kubernetes.io/os", "linux"),
        ("beta.kubernetes.io/os", "linux"),
    ] {
        assert_eq!(there["metadata"]["labels"][label], value, "{label}");
    }
    let taints = there["spec"]["taints"].as_array().unwrap();
    assert!(taints.contains(&json!({"key": "new", "value": "yes", "effect": "NoSchedule"})), "{taints:?}");
    assert_eq!(there["spec"]["providerID"], "test://1");
    let status = &there["status"];
    let addresses = json!([{"type": "InternalIP", "address": "192.0.2.7"}, {"type": "Hostname", "address": NAME}]);
    assert_eq!(status["addresses"], addresses);
    for resource in ["cpu", "memory", "pods", "ephemeral-storage"] {
        assert!(status["capacity"][resource].is_string() && status["allocatable"][resource].is_string(), "{resource}");
    }
    let version = status["nodeInfo"]["kubeletVersion"].as_str().unwrap();
    assert!(version.starts_with("v1.36.0+coracle."), "tools read it as a version of Kubernetes: {version}");
    assert_eq!(status["features"], json!({"supplementalGroupsPolicy": true}));
    let handlers = status["runtimeHandlers"].as_array().unwrap();
    assert_eq!((handlers.len(), &handlers[0]["name"]), (1, &json!("")));
    assert_eq!(handlers[0]["features"]["recursiveReadOnlyMounts"], true);
    assert!(handlers[0]["features"]["userNamespaces"].is_boolean(), "{handlers:#?}");
    let kinds: Vec<&Value> = status["conditions"].as_array().unwrap().iter().map(|it| &it["type"]).collect();
    assert_eq!(kinds, ["MemoryPressure", "DiskPressure", "PIDPressure", "Ready"]);
    let lease = server.wait_for("leases", &format!("kube-node-lease/{NAME}"), "there", |_| true);
    assert_eq!(lease["spec"]["holderIdentity"], NAME);
    assert_eq!(lease["spec"]["leaseDurationSeconds"], 40);
    assert_eq!(lease["metadata"]["ownerReferences"][0]["uid"], there["metadata"]["uid"]);
    // Nothing changes any more, so nothing is said of it.
    let another = || {
        let before = renewed(&server);
        inspect::wait_until("a renewed lease", || renewed(&server) != before);
    };
    another();
    server.forget();
    another();
    another();
    let told: Vec<_> = server.requests().into_iter().filter(|it| it.method == "PATCH").collect();
    assert!(told.iter().all(|it| !it.path.contains("/nodes/")), "{}", server.told());
    agent.stop();
}

#[test]
fn a_node_that_is_there_is_taken_over_with_what_others_wrote_into_it() {
    let node = need!(Node::with_busybox());
    let server = ApiServer::start(&node);
    server.create(&json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {"name": NAME, "labels": {"kubernetes.io/hostname": "old", "theirs": "yes", "disk": "hdd"}},
        "spec": {"unschedulable": true, "taints": [{"key": "k", "effect": "NoSchedule"}]}
    }));
    server.merge(
        "nodes",
        &format!("{NAME}/status"),
        json!({"status": {
            "capacity": {"example.com/gpu": "2"},
            "conditions": [{"type": "Ready", "status": "Unknown", "reason": "NodeStatusUnknown"}]
        }}),
    );
    let kubeconfig = server.kubeconfig_of_node(NAME);
    let mut agent = join(&node, &kubeconfig, &["--node-labels", "disk=ssd"]);
    let there = ready(&server);
    let labels = &there["metadata"]["labels"];
    assert_eq!((labels["kubernetes.io/hostname"].as_str(), labels["theirs"].as_str()), (Some(NAME), Some("yes")));
    assert_eq!(labels["disk"], "hdd", "labels are given when the node is made");
    assert_eq!(there["spec"]["unschedulable"], true);
    assert_eq!(there["status"]["capacity"]["example.com/gpu"], "2");
    agent.stop();
}

#[test]
fn a_node_whose_pods_end_with_the_agent_says_so_first() {
    let node = need!(Node::with_busybox());
    let server = ApiServer::start(&node);
    let kubeconfig = server.kubeconfig_of_node(NAME);
    let mut agent = join(&node, &kubeconfig, &["--shutdown-pods"]);
    ready(&server);
    agent.stop();
    let there = server.get("nodes", NAME).unwrap();
    assert_eq!(holds(&there, "Ready"), Some(false));
    let conditions = there["status"]["conditions"].as_array().unwrap();
    assert!(conditions.iter().any(|it| it["message"] == "node is shutting down"), "{there:#}");
}

#[test]
fn a_pod_that_is_bound_while_its_node_goes_down_is_refused() {
    let node = need!(Node::with_busybox());
    let server = ApiServer::start(&node);
    let kubeconfig = server.kubeconfig_of_node(NAME);
    let mut agent = join(&node, &kubeconfig, &["--shutdown-pods"]);
    ready(&server);
    let of = |name: &str, script: &str| {
        let mut pod = e2e::manifest::pod(name, json!({"containers": [e2e::manifest::shell("c", script)]}));
        pod["metadata"]["namespace"] = json!("default");
        pod["spec"]["nodeName"] = json!(NAME);
        pod["spec"]["automountServiceAccountToken"] = json!(false);
        pod["spec"]["terminationGracePeriodSeconds"] = json!(600);
        pod
    };
    // It ends when the agent is asked a second time.
    server.create(&of("stays", "trap '' TERM; while :; do sleep 0.1; done"));
    server.wait_for("pods", "default/stays", "running", |pod| pod["status"]["phase"] == "Running");
    agent.run().signal(rustix::process::Signal::TERM);
    server.wait_for("nodes", NAME, "going down", |node| holds(node, "Ready") == Some(false));
    server.create(&of("late", "exec sleep 1000"));
    let refused = server.wait_for("pods", "default/late", "refused", |pod| pod["status"]["phase"] == "Failed");
    assert_eq!(refused["status"]["reason"], "NodeShutdown");
    let message = "Pod was rejected: Pod was rejected as the node is shutting down.";
    assert_eq!(refused["status"]["message"], message);
    agent.stop();
    agent.restart();
    for pod in ["stays", "late"] {
        assert_eq!(server.get("pods", &format!("default/{pod}")).unwrap()["status"]["phase"], "Failed", "{pod}");
        server.delete("pods", &format!("default/{pod}"));
        server.wait_until_gone("pods", &format!("default/{pod}"));
    }
    agent.stop();
}

#[test]
fn a_node_that_is_not_to_be_registered_waits_for_somebody_else_to_do_it() {
    let node = need!(Node::with_busybox());
    let server = ApiServer::start(&node);
    let kubeconfig = server.kubeconfig_of_node(NAME);
    let mut agent = join(&node, &kubeconfig, &["--register-node=false"]);
    agent.wait_for_words("the node is not registered");
    server.create(&json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": NAME}}));
    ready(&server);
    assert!(
        server.requests().iter().all(|it| it.method != "POST" || !it.path.ends_with("/nodes")),
        "{}",
        server.told()
    );
    agent.stop();
}

#[test]
fn pods_that_end_with_their_node_have_failed_and_stay_so() {
    let node = need!(Node::with_busybox());
    let server = ApiServer::start(&node);
    let kubeconfig = server.kubeconfig_of_node(NAME);
    let mut agent = join(&node, &kubeconfig, &["--shutdown-pods"]);
    ready(&server);
    let script = "trap 'exit 0' TERM; while :; do sleep 0.1; done";
    let mut pod = e2e::manifest::pod("web", json!({"containers": [e2e::manifest::shell("c", script)]}));
    pod["metadata"]["namespace"] = json!("default");
    pod["spec"]["nodeName"] = json!(NAME);
    pod["spec"]["automountServiceAccountToken"] = json!(false);
    server.create(&pod);
    server.wait_for("pods", "default/web", "running", |pod| pod["status"]["phase"] == "Running");
    agent.stop();
    let terminated = |pod: &Value| {
        let status = &pod["status"];
        let message = "Pod was terminated in response to imminent node shutdown.";
        assert_eq!((&status["phase"], &status["reason"]), (&json!("Failed"), &json!("Terminated")), "{pod:#}");
        assert_eq!(status["message"], message);
        let mut conditions = status["conditions"].as_array().unwrap().iter();
        let disrupted = conditions.find(|it| it["type"] == "DisruptionTarget").unwrap();
        assert_eq!((&disrupted["reason"], &disrupted["message"]), (&json!("TerminationByKubelet"), &json!(message)));
    };
    terminated(&server.get("pods", "default/web").unwrap());
    agent.restart();
    server.wait_for("nodes", NAME, "ready again", |node| holds(node, "Ready") == Some(true));
    terminated(&server.get("pods", "default/web").unwrap());
    server.delete("pods", "default/web");
    server.wait_until_gone("pods", "default/web");
    agent.stop();
}
