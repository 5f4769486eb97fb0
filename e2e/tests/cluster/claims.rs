//! Claims of a cluster that are bound to directories of the node.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use e2e::agent::Agent;
use e2e::apiserver::ApiServer;
use e2e::{Node, inspect, need};
use serde_json::{Value, json};

use crate::{KEEPS, bound, is, join, running};

/// A claim `data` that is bound to a volume of the node, as a volume's controller would have done it.
fn bind(server: &ApiServer, source: &Value) {
    let amount = json!({"storage": "1Mi"});
    let modes = json!(["ReadWriteOnce"]);
    let claim = server.create(&json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim",
        "metadata": {"name": "data", "namespace": "default"},
        "spec": {"accessModes": modes, "resources": {"requests": amount}, "volumeName": "disk", "storageClassName": ""}}));
    let back = json!({"kind": "PersistentVolumeClaim", "namespace": "default", "name": "data",
        "uid": claim["metadata"]["uid"]});
    let mut spec = json!({"accessModes": modes, "capacity": amount, "claimRef": back});
    spec.as_object_mut().unwrap().extend(source.as_object().unwrap().clone());
    server.create(&json!({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "disk"}, "spec": spec}));
    server.merge("persistentvolumeclaims", "default/data/status", json!({"status": {"phase": "Bound"}}));
}

fn using(pod: &str, script: &str, spec: &Value) -> Value {
    let mut pod = bound(pod, script);
    pod["spec"]["volumes"] = json!([{"name": "v", "persistentVolumeClaim": {"claimName": "data"}}]);
    pod["spec"]["containers"][0]["volumeMounts"] = json!([{"name": "v", "mountPath": "/data"}]);
    pod["spec"].as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    pod
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

/// A local volume's nodes are those that it says: this one.
fn local(path: &Path) -> Value {
    let here = json!([{"key": "kubernetes.io/hostname", "operator": "In", "values": [crate::name()]}]);
    json!({"local": {"path": path}, "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": here}]}}})
}

#[test]
fn pods_share_a_claim_of_the_node_and_the_next_finds_what_they_left() {
    let node = need!(Node::with_busybox());
    let server = ApiServer::start(&node);
    let kubeconfig = server.kubeconfig_of_node(&crate::name());
    let mut agent = join(&node, &kubeconfig);
    let disk = node.make_dir("disk");
    bind(&server, &local(&disk));
    let user = json!({"securityContext": {"runAsUser": 1000, "runAsGroup": 1000, "fsGroup": 4321}});
    server.create(&using("one", &format!("echo one > /data/one; {KEEPS}"), &user));
    let read = "until [ \"$(cat /data/one 2>/dev/null)\" = one ]; do sleep 0.1; done; echo two > /data/two";
    server.create(&using("two", read, &user));
    server.wait_for("pods", "default/two", "done", is("Succeeded"));
    running(&server, "one");
    for file in ["one", "two"] {
        let metadata = std::fs::metadata(disk.join(file)).unwrap();
        assert_eq!((metadata.uid(), metadata.gid()), (1000, 4321), "{file}");
    }
    remove(&server, &agent, &["one", "two"]);
    let other = json!({"securityContext": {"runAsUser": 1001, "runAsGroup": 1001, "fsGroup": 4322}});
    server.create(&using("three", "cat /data/one /data/two && echo more >> /data/one", &other));
    server.wait_for("pods", "default/three", "done", is("Succeeded"));
    assert_eq!(std::fs::metadata(disk.join("one")).unwrap().gid(), 4322);
    remove(&server, &agent, &["three"]);
    assert_eq!(std::fs::read_to_string(disk.join("one")).unwrap(), "one\nmore\n");
    agent.stop_with_nothing_left();
}

#[test]
fn a_claim_whose_directory_is_not_there_is_waited_for() {
    let node = need!(Node::with_busybox());
    let server = ApiServer::start(&node);
    let kubeconfig = server.kubeconfig_of_node(&crate::name());
    let mut agent = join(&node, &kubeconfig);
    let disk = node.dir().join("later");
    bind(&server, &local(&disk));
    server.create(&using("one", "echo one > /data/one", &json!({})));
    let path = disk.display().to_string();
    let why = |event: &Value| {
        event["reason"] == "FailedMount" && event["message"].as_str().unwrap_or_default().contains(&path)
    };
    inspect::wait_until("it is said", || server.list("events").iter().any(why));
    assert!(!disk.exists(), "a local volume is its operator's to make");
    std::fs::create_dir(&disk).unwrap();
    server.wait_for("pods", "default/one", "done", is("Succeeded"));
    assert_eq!(std::fs::read_to_string(disk.join("one")).unwrap(), "one\n");
    remove(&server, &agent, &["one"]);
    agent.stop_with_nothing_left();
}
