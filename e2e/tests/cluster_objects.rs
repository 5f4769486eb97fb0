//! The agent as a node of a cluster: what its pods refer to.

#![allow(clippy::unwrap_used)]

use std::path::Path;

use e2e::agent::Agent;
use e2e::apiserver::{ApiServer, Fault, Which};
use e2e::node::StateDir;
use e2e::{Node, need};
use serde_json::{Value, json};

/// The node's name: the host's, for nobody says otherwise.
fn name() -> String {
    rustix::system::uname().nodename().to_string_lossy().to_lowercase()
}

#[track_caller]
fn join<'n>(node: &'n Node, kubeconfig: &Path) -> Agent<'n> {
    Agent::start_with(node, ["--kubeconfig", kubeconfig.to_str().unwrap()])
}

const TOKEN: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// A pod of the node with a ConfigMap, a Secret and a token of its service account, as an API server makes it.
fn pod(pod: &str, script: &str) -> Value {
    let mut container = e2e::manifest::shell("c", script);
    container["env"] = json!([
        {"name": "FROM_MAP", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "k"}}},
        {"name": "FROM_SECRET", "valueFrom": {"secretKeyRef": {"name": "keys", "key": "pw"}}}]);
    container["volumeMounts"] = json!([
        {"name": "settings", "mountPath": "/settings"}, {"name": "keys", "mountPath": "/keys"},
        {"name": "kube-api-access-e2e", "mountPath": TOKEN, "readOnly": true}]);
    let volumes = json!([
        {"name": "settings", "configMap": {"name": "settings"}},
        {"name": "keys", "secret": {"secretName": "keys"}},
        {"name": "kube-api-access-e2e", "projected": {"sources": [
            {"serviceAccountToken": {"path": "token", "expirationSeconds": 3607}},
            {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"fieldPath": "metadata.namespace"}}]}}]}}]);
    let mut pod = e2e::manifest::pod(pod, json!({"containers": [container], "volumes": volumes}));
    pod["metadata"]["namespace"] = json!("default");
    pod["spec"]["nodeName"] = json!(name());
    pod["spec"]["serviceAccountName"] = json!("default");
    // With none, the server forgets a pod at once.
    pod["spec"]["terminationGracePeriodSeconds"] = json!(20);
    pod["spec"]["automountServiceAccountToken"] = json!(false);
    pod
}

fn settings(value: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings", "namespace": "default"},
        "data": {"k": value}})
}

fn keys() -> Value {
    let pw = json!({"pw": "aHVudGVyMg=="});
    json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "keys", "namespace": "default"}, "data": pw})
}

/// A server that has what the real one makes by itself.
fn start(node: &Node) -> ApiServer {
    let server = ApiServer::start(node);
    let meta = |name: &str| json!({"name": name, "namespace": "default"});
    server.create(&json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta("default")}));
    let spec = json!({"clusterIP": "10.96.0.1", "ports": [{"name": "https", "port": 443, "protocol": "TCP"}]});
    server.create(&json!({"apiVersion": "v1", "kind": "Service", "metadata": meta("kubernetes"), "spec": spec}));
    server
}

/// What runs until it is stopped.
const KEEPS: &str = "trap 'exit 0' TERM; while :; do sleep 0.1; done";

fn is(phase: &str) -> impl Fn(&Value) -> bool {
    move |pod: &Value| pod["status"]["phase"] == phase
}

/// Deletes the pod, and waits until the agent has forgotten it and what it referred to.
#[track_caller]
fn end(node: &Node, agent: &Agent<'_>, server: &ApiServer) {
    server.delete("pods", "default/web");
    server.wait_until_gone("pods", "default/web");
    agent.wait_until_gone("web");
    let patience = std::time::Instant::now() + e2e::deadline();
    for records in ["desired/bound", "desired/objects"] {
        let records = node.root_dir.join(records);
        while std::fs::read_dir(&records).is_ok_and(|mut entries| entries.next().is_some()) {
            assert!(std::time::Instant::now() < patience, "{} is never empty", records.display());
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }
}

#[test]
fn a_pod_has_what_it_refers_to_and_sees_it_change() {
    let node = need!(Node::with_busybox());
    let server = start(&node);
    let kubeconfig = server.kubeconfig_of_node(&name());
    let mut agent = join(&node, &kubeconfig);
    server.create(&settings("one"));
    server.create(&keys());
    let script = format!(
        "[ $FROM_MAP,$FROM_SECRET = one,hunter2 ] && [ $(cat /settings/k),$(cat /keys/pw) = one,hunter2 ] && \
         [ -s {TOKEN}/token ] && [ $(cat {TOKEN}/namespace) = default ] && [ -n \"$KUBERNETES_SERVICE_HOST\" ] || exit 3; \
         until [ $(cat /settings/k) = two ]; do sleep 0.1; done"
    );
    server.create(&pod("web", &script));
    server.wait_for("pods", "default/web", "running", is("Running"));
    server.merge("configmaps", "default/settings", json!({"data": {"k": "two"}}));
    server.wait_for("pods", "default/web", "done", is("Succeeded"));
    for kind in ["secrets", "configmaps"] {
        let asked = server.requests().into_iter().filter(|it| it.user.starts_with("system:node:"));
        let asked: Vec<_> = asked.filter(|it| it.path.ends_with(kind)).collect();
        assert!(!asked.is_empty());
        let one = |it: &e2e::apiserver::Seen| {
            it.query("fieldSelector").is_some_and(|selector| selector.starts_with("metadata.name="))
        };
        assert!(asked.iter().all(one), "a node reads what its pods refer to: {asked:#?}");
    }
    end(&node, &agent, &server);
    agent.stop_with_nothing_left();
}

#[test]
fn a_pod_waits_for_what_is_not_there_and_begins_when_it_is() {
    let node = need!(Node::with_busybox());
    let server = start(&node);
    let kubeconfig = server.kubeconfig_of_node(&name());
    let mut agent = join(&node, &kubeconfig);
    server.create(&keys());
    server.create(&pod("web", KEEPS));
    let why = |event: &Value| {
        event["reason"] == "FailedMount"
            && event["message"].as_str().unwrap_or_default().contains("\"settings\" not found")
    };
    let end_of_patience = std::time::Instant::now() + e2e::deadline();
    while !server.list("events").iter().any(why) {
        assert!(std::time::Instant::now() < end_of_patience, "nobody says why: {:#?}", server.list("events"));
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    server.create(&settings("one"));
    server.wait_for("pods", "default/web", "running", is("Running"));
    end(&node, &agent, &server);
    agent.stop_with_nothing_left();
}

#[test]
fn a_volume_is_mounted_on_the_nodes_that_it_is_for() {
    let node = need!(Node::with_busybox());
    let server = start(&node);
    let kubeconfig = server.kubeconfig_of_node(&name());
    let mut agent = join(&node, &kubeconfig);
    let directory = node.make_dir("here");
    std::fs::write(directory.join("f"), "there").unwrap();
    let ssd = json!([{"matchExpressions": [{"key": "disk", "operator": "In", "values": ["ssd"]}]}]);
    server.bind_claim("data", &directory, ssd);
    let mut container = e2e::manifest::shell("c", KEEPS);
    container["volumeMounts"] = json!([{"name": "d", "mountPath": "/d"}]);
    let volumes = json!([{"name": "d", "persistentVolumeClaim": {"claimName": "data"}}]);
    let mut web = e2e::manifest::pod("web", json!({"containers": [container], "volumes": volumes}));
    web["metadata"]["namespace"] = json!("default");
    web["spec"]["nodeName"] = json!(name());
    web["spec"]["automountServiceAccountToken"] = json!(false);
    server.create(&web);
    let words = "MountVolume.NodeAffinity check failed for volume \"data\" : no matching NodeSelectorTerms";
    let refused = |event: &Value| event["reason"] == "FailedMount" && event["message"].as_str() == Some(words);
    e2e::inspect::wait_until("the mount refused", || server.list("events").iter().any(refused));
    server.merge("nodes", &name(), json!({"metadata": {"labels": {"disk": "ssd"}}}));
    server.wait_for("pods", "default/web", "running", is("Running"));
    node.exec("web", "c", &["cat", "/d/f"]).exits(0).says("there");
    end(&node, &agent, &server);
    agent.stop_with_nothing_left();
}

#[test]
fn a_pod_whose_objects_cannot_be_asked_for_waits_until_they_can() {
    let node = need!(Node::with_busybox());
    let server = start(&node);
    let kubeconfig = server.kubeconfig_of_node(&name());
    let mut agent = join(&node, &kubeconfig);
    server.create(&settings("one"));
    server.create(&keys());
    server.fail_always(Which::of("POST", "/token"), Fault::Status(503, None));
    server.create(&pod("web", KEEPS));
    server.wait_for_request("asked for a token", |it| it.path.ends_with("/token") && it.status == 503);
    server.wait_for("pods", "default/web", "waiting", |pod| {
        pod["status"]["containerStatuses"][0]["state"]["waiting"]["reason"] == "ContainerCreating"
    });
    server.heal();
    server.wait_for("pods", "default/web", "running", is("Running"));
    end(&node, &agent, &server);
    agent.stop_with_nothing_left();
}

#[test]
fn after_a_reboot_a_pod_begins_with_what_was_last_known_while_the_server_is_away() {
    let mut node = need!(Node::with_busybox());
    let server = start(&node);
    let kubeconfig = server.kubeconfig_of_node(&name());
    server.create(&settings("one"));
    server.create(&keys());
    let mut web = pod("web", KEEPS);
    web["spec"]["restartPolicy"] = json!("Always");
    server.create(&web);
    let mut agent = join(&node, &kubeconfig);
    server.wait_for("pods", "default/web", "running", is("Running"));
    agent.kill();
    drop(agent);
    server.stop();
    node.cut_power(StateDir::Emptied);
    let mut agent = join(&node, &kubeconfig);
    agent.wait_for("web", "running again", |pod| {
        let container = &pod["status"]["containerStatuses"][0];
        container["restartCount"] == 1 && !container["state"]["running"].is_null()
    });
    let seen = node.exec("web", "c", &["cat", "/settings/k", "/keys/pw", &format!("{TOKEN}/token")]);
    seen.exits(0).says("onehunter2");
    agent.stop();
}
