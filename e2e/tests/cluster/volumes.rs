//! Volumes of bound pods: whose files follow objects and the pod itself, and which end before the pod does.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use e2e::agent::Agent;
use e2e::apiserver::ApiServer;
use e2e::{Node, inspect, need};
use serde_json::{Value, json};

use crate::{KEEPS, bound, is, join, running};

/// A pod that mounts each of these volumes at a directory of the volume's name.
fn mounting(pod: &str, script: &str, volumes: &Value) -> Value {
    let mut pod = bound(pod, script);
    let names = volumes.as_array().unwrap().iter().map(|volume| volume["name"].as_str().unwrap());
    let mounts: Vec<Value> = names.map(|name| json!({"name": name, "mountPath": format!("/{name}")})).collect();
    pod["spec"]["containers"][0]["volumeMounts"] = mounts.into();
    pod["spec"]["volumes"] = volumes.clone();
    pod
}

fn config_map(name: &str, data: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "default"}, "data": data})
}

fn secret(namespace: &str, name: &str, value: &str) -> Value {
    let metadata = json!({"name": name, "namespace": namespace});
    json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": {"k": STANDARD.encode(value)}})
}

/// The directory of a pod's volumes on the node.
fn volumes_of(node: &Node, pod: &Value) -> PathBuf {
    node.root_dir.join("pods").join(pod["metadata"]["uid"].as_str().unwrap()).join("volumes")
}

fn has_mounts(dir: &Path) -> bool {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    mounts.contains(&format!(" {}/", dir.display()))
}

/// Deletes pods. The server forgets at once what has ended; the node takes a moment longer.
#[track_caller]
fn remove(server: &ApiServer, agent: &Agent<'_>, pods: &[&str]) {
    for pod in pods {
        server.delete("pods", &format!("default/{pod}"));
        server.wait_until_gone("pods", &format!("default/{pod}"));
        agent.wait_until_gone(pod);
    }
}

/// Waits until the agent has told of a pod that its volumes cannot be made, for this reason.
#[track_caller]
fn told_of(server: &ApiServer, pod: &str, why: &str) {
    let is = |event: &Value| {
        event["reason"] == "FailedMount"
            && event["involvedObject"]["name"] == pod
            && event["message"].as_str().unwrap_or_default().contains(why)
    };
    let said = inspect::wait_for(|| server.list("events").iter().any(is).then_some(()));
    assert!(said.is_some(), "nobody says {why:?}: {:#?}", server.list("events"));
}

#[test]
fn optional_objects_are_files_as_they_come_change_and_go() {
    let node = need!(Node::with_busybox());
    let server = ApiServer::start(&node);
    let kubeconfig = server.kubeconfig_of_node(&crate::name());
    let mut agent = join(&node, &kubeconfig);
    server.create(&secret("default", "goes", "here"));
    let volumes = json!([
        {"name": "comes", "configMap": {"name": "comes", "optional": true}},
        {"name": "picked", "configMap": {"name": "comes", "optional": true, "items": [{"key": "b", "path": "sub/b"}]}},
        {"name": "both", "projected": {"sources": [
            {"configMap": {"name": "comes", "optional": true}}, {"secret": {"name": "goes", "optional": true}}]}},
        {"name": "goes", "secret": {"secretName": "goes", "optional": true}},
    ]);
    let script = "is() { until [ \"$(cat $1 2>/dev/null)\" = \"$2\" ]; do sleep 0.1; done; }; \
        gone() { while [ -e $1 ]; do sleep 0.1; done; }; \
        is /goes/k here && is /both/k here && [ -z \"$(ls /comes /picked | grep -v :)\" ] || exit 3; echo empty; \
        is /comes/a 1; is /both/a 1; [ $(wc -c < /comes/raw) = 2 ] || exit 4; echo came; \
        is /comes/a 2; is /picked/sub/b 3; gone /comes/raw; echo changed; \
        gone /goes/k; gone /both/k; gone /comes/a; gone /picked/sub; gone /both/a; echo gone";
    server.create(&mounting("web", script, &volumes));
    running(&server, "web");
    node.wait_for_output("web", "c", "empty");
    let mut map = config_map("comes", json!({"a": "1"}));
    map["binaryData"] = json!({"raw": "/wA="});
    server.create(&map);
    node.wait_for_output("web", "c", "came");
    server.merge("configmaps", "default/comes", json!({"data": {"a": "2", "b": "3"}, "binaryData": null}));
    node.wait_for_output("web", "c", "changed");
    server.delete("secrets", "default/goes");
    server.delete("configmaps", "default/comes");
    server.wait_for("pods", "default/web", "done", is("Succeeded"));
    remove(&server, &agent, &["web"]);
    agent.stop_with_nothing_left();
}

#[test]
fn a_pods_labels_and_annotations_are_files_that_follow_them() {
    let node = need!(Node::with_busybox());
    let server = ApiServer::start(&node);
    let kubeconfig = server.kubeconfig_of_node(&crate::name());
    let mut agent = join(&node, &kubeconfig);
    let field = |path: &str| json!({"path": path, "fieldRef": {"fieldPath": format!("metadata.{path}")}});
    let items = json!([field("labels"), field("annotations")]);
    let volumes = json!([
        {"name": "plain", "downwardAPI": {"items": items}},
        {"name": "projected", "projected": {"sources": [{"downwardAPI": {"items": items}}]}},
    ]);
    let script = "for dir in plain projected; do until grep -qx 'app=\"two\"' /$dir/labels \
        && grep -qx 'note=\"later\"' /$dir/annotations; do sleep 0.1; done; done";
    let mut pod = mounting("web", script, &volumes);
    pod["metadata"]["labels"] = json!({"app": "one"});
    server.create(&pod);
    running(&server, "web");
    let changed = json!({"labels": {"app": "two"}, "annotations": {"note": "later"}});
    server.merge("pods", "default/web", json!({"metadata": changed}));
    let ended = server.wait_for("pods", "default/web", "done", is("Succeeded"));
    assert_eq!(ended["status"]["containerStatuses"][0]["restartCount"], 0);
    remove(&server, &agent, &["web"]);
    agent.stop_with_nothing_left();
}

#[test]
fn a_key_that_is_not_there_is_waited_for_and_a_name_is_its_namespaces() {
    let node = need!(Node::with_busybox());
    let server = ApiServer::start(&node);
    let kubeconfig = server.kubeconfig_of_node(&crate::name());
    let mut agent = join(&node, &kubeconfig);
    server.create(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "other"}}));
    server.create(&secret("other", "keys", "theirs"));
    server.create(&secret("default", "keys", "ours"));
    server.create(&config_map("map", json!({"a": "1"})));
    let volumes = json!([
        {"name": "keys", "secret": {"secretName": "keys"}},
        {"name": "map", "configMap": {"name": "map", "items": [{"key": "b", "path": "b"}]}},
    ]);
    server.create(&mounting("web", "[ $(cat /keys/k),$(cat /map/b) = ours,2 ]", &volumes));
    told_of(&server, "web", "ConfigMap \"map\" has no key \"b\"");
    server.merge("configmaps", "default/map", json!({"data": {"b": "2"}}));
    server.wait_for("pods", "default/web", "done", is("Succeeded"));
    remove(&server, &agent, &["web"]);
    agent.stop_with_nothing_left();
}

#[test]
fn volumes_of_a_pod_that_has_ended_are_given_back_while_it_is_still_told_of() {
    let node = need!(Node::with_busybox());
    let server = ApiServer::start(&node);
    let kubeconfig = server.kubeconfig_of_node(&crate::name());
    let mut agent = join(&node, &kubeconfig);
    server.create(&secret("default", "keys", "ours"));
    let volumes = json!([
        {"name": "keys", "secret": {"secretName": "keys"}},
        {"name": "memory", "emptyDir": {"medium": "Memory"}},
        {"name": "disk", "emptyDir": {}},
    ]);
    let script = "echo x > /memory/x; echo x > /disk/x; until [ -e /disk/go ]; do sleep 0.1; done";
    server.create(&mounting("job", script, &volumes));
    let dir = volumes_of(&node, &running(&server, "job"));
    assert!(has_mounts(&dir), "{}", dir.display());
    inspect::wait_until("written", || dir.join("kubernetes.io~empty-dir/disk/x").exists());
    std::fs::write(dir.join("kubernetes.io~empty-dir/disk/go"), "").unwrap();
    server.wait_for("pods", "default/job", "done", is("Succeeded"));
    inspect::wait_until("the volumes are gone", || !dir.exists() && !has_mounts(&dir));
    assert_eq!(server.get("pods", "default/job").unwrap()["status"]["phase"], "Succeeded");
    remove(&server, &agent, &["job"]);
    agent.stop_with_nothing_left();
}

#[test]
fn a_container_restarts_with_what_its_sub_paths_are_by_then() {
    let node = need!(Node::with_busybox());
    let server = ApiServer::start(&node);
    let kubeconfig = server.kubeconfig_of_node(&crate::name());
    let mut agent = join(&node, &kubeconfig);
    server.create(&config_map("map", json!({"conf": "one"})));
    let volumes = json!([{"name": "map", "configMap": {"name": "map"}}, {"name": "go", "emptyDir": {}}]);
    // The file stands in the place of one that the image has, and stays as it was until the container is started again.
    let script = "echo have $(cat /etc/group); until [ -e /go/$(cat /etc/group) ]; do sleep 0.1; done; exit 1";
    let mut web = mounting("web", script, &volumes);
    web["spec"]["restartPolicy"] = json!("OnFailure");
    web["spec"]["containers"][0]["volumeMounts"][0] =
        json!({"name": "map", "mountPath": "/etc/group", "subPath": "conf"});
    server.create(&web);
    let pod = running(&server, "web");
    node.wait_for_output("web", "c", "have one");
    server.merge("configmaps", "default/map", json!({"data": {"conf": "two"}}));
    let dir = volumes_of(&node, &pod);
    let file = dir.join("kubernetes.io~configmap/map/conf");
    inspect::wait_until("the volume has changed", || std::fs::read_to_string(&file).is_ok_and(|it| it == "two"));
    node.exec("web", "c", &["cat", "/etc/group"]).exits(0).says("one");
    std::fs::write(dir.join("kubernetes.io~empty-dir/go/one"), "").unwrap();
    node.wait_for_output("web", "c", "have two");
    remove(&server, &agent, &["web"]);
    agent.stop_with_nothing_left();
}

#[test]
fn nothing_stays_mounted_of_a_pod_that_is_deleted_while_no_agent_runs() {
    let node = need!(Node::with_busybox());
    let server = ApiServer::start(&node);
    let kubeconfig = server.kubeconfig_of_node(&crate::name());
    let mut agent = join(&node, &kubeconfig);
    server.create(&secret("default", "keys", "ours"));
    let volumes = json!([{"name": "disk", "emptyDir": {}}, {"name": "keys", "secret": {"secretName": "keys"}}]);
    for (pod, force) in [("asked", false), ("forced", true)] {
        let mut web = mounting(pod, KEEPS, &volumes);
        for (mount, sub) in [(0, "a/b"), (1, "k")] {
            web["spec"]["containers"][0]["volumeMounts"][mount]["subPath"] = json!(sub);
        }
        server.create(&web);
        let dir = volumes_of(&node, &running(&server, pod));
        let subpaths = dir.with_file_name("subpaths");
        assert!(has_mounts(&dir) && has_mounts(&subpaths), "{}", dir.display());
        agent.kill();
        match force {
            true => server.delete_within("pods", &format!("default/{pod}"), 0),
            false => server.delete("pods", &format!("default/{pod}")),
        }
        agent.restart();
        server.wait_until_gone("pods", &format!("default/{pod}"));
        inspect::wait_until("its directory is gone", || !dir.parent().unwrap().exists());
        assert!(!has_mounts(&dir) && !has_mounts(&subpaths));
    }
    agent.stop_with_nothing_left();
}
