//! A real kubectl works on the test server.

use std::path::PathBuf;

use e2e::apiserver::ApiServer;
use e2e::kubectl::Kubectl;
use e2e::{Finished, Node, Run, need};
use serde_json::{Value, json};

struct World {
    node: Node,
    kubectl: Kubectl,
    server: ApiServer,
    kubeconfig: PathBuf,
}

impl World {
    fn new() -> Result<Self, String> {
        let kubectl = Kubectl::websocket()?;
        let node = Node::new();
        let server = ApiServer::start(&node);
        let kubeconfig = server.kubeconfig_of_admin();
        Ok(Self { node, kubectl, server, kubeconfig })
    }

    fn kubectl(&self, args: &[&str]) -> Finished {
        Run::start(&mut self.kubectl.command(&self.node, &self.kubeconfig, args), None).wait()
    }

    fn reading(&self, args: &[&str], input: &Value) -> Finished {
        let mut command = self.kubectl.command(&self.node, &self.kubeconfig, args);
        Run::start(&mut command, Some(input.to_string().as_bytes())).wait()
    }
}

fn pod(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "default", "labels": {"app": "web"}},
        "spec": {"containers": [{"name": "c", "image": "busybox", "env": [{"name": "A", "value": "1"}]}]},
    })
}

#[test]
fn pods_are_applied_shown_changed_and_deleted() {
    let world = need!(World::new());
    world.reading(&["apply", "-f", "-"], &pod("web")).exits(0).says("pod/web created");
    world.kubectl(&["get", "pods"]).exits(0).says("web");
    world.kubectl(&["get", "po", "-l", "app in (web, db),!missing", "-o", "name"]).exits(0).says("pod/web");
    world.reading(&["apply", "-f", "-"], &pod("web")).exits(0).says("pod/web unchanged");
    let mut changed = pod("web");
    changed["metadata"]["labels"]["app"] = "db".into();
    changed["spec"]["containers"][0]["image"] = "busybox:2".into();
    world.reading(&["apply", "-f", "-"], &changed).exits(0).says("pod/web configured");
    let there = world.server.get("pods", "default/web").unwrap();
    assert_eq!(there["metadata"]["labels"], json!({"app": "db"}));
    assert_eq!(there["spec"]["containers"][0]["image"], "busybox:2");
    assert_eq!(there["metadata"]["generation"], 2);
    world.kubectl(&["label", "pod", "web", "tier=front"]).exits(0);
    world.kubectl(&["delete", "pod", "web"]).exits(0).says("deleted");
    assert_eq!(world.server.get("pods", "default/web"), None);
}

#[test]
fn a_pod_on_a_node_is_deleted_by_its_node() {
    let world = need!(World::new());
    let mut pod = pod("web");
    pod["spec"]["nodeName"] = "n".into();
    world.server.create(&pod);
    world.kubectl(&["delete", "pod", "web", "--wait=false"]).exits(0);
    let there = world.server.get("pods", "default/web").unwrap();
    assert_eq!(there["metadata"]["deletionGracePeriodSeconds"], 30);
    world.kubectl(&["delete", "pod", "web", "--force", "--grace-period=0"]).exits(0);
    assert_eq!(world.server.get("pods", "default/web"), None);
}

#[test]
fn what_kubectl_asks_for_in_vain_is_said_as_by_the_real_server() {
    let world = need!(World::new());
    world.kubectl(&["get", "pod", "web"]).exits(1).says("pods \"web\" not found");
    world.reading(&["create", "-f", "-"], &pod("web")).exits(0);
    world.reading(&["create", "-f", "-"], &pod("web")).exits(1).says("pods \"web\" already exists");
    world.kubectl(&["get", "pods", "-n", "nowhere"]).exits(0).says("No resources found in nowhere namespace");
    let node = world.server.kubeconfig_of_node("n");
    let mut command = world.kubectl.command(&world.node, &node, ["get", "secrets"]);
    let why = "User \"system:node:n\" cannot list resource \"secrets\" in API group \"\" in the namespace \"default\": \
        No Object name found";
    Run::start(&mut command, None).wait().exits(1).says(why);
}
