//! The agent as a node of a cluster: volumes that a CSI driver mounts.

#![allow(clippy::unwrap_used)]

use std::path::PathBuf;

use e2e::agent::Agent;
use e2e::apiserver::ApiServer;
use e2e::csi::{Driver, Fault, NAME, NODE_ID, TOPOLOGY};
use e2e::{Node, inspect, need};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tonic::Code;

const KEEPS: &str = "trap 'exit 0' TERM; while :; do sleep 0.1; done";

/// The node's name: the host's, for nobody says otherwise.
fn name() -> String {
    rustix::system::uname().nodename().to_string_lossy().to_lowercase()
}

fn kubelet(node: &Node) -> PathBuf {
    node.root_dir.with_file_name("kubelet")
}

fn join<'n>(node: &'n Node, server: &ApiServer) -> Agent<'n> {
    let (kubeconfig, dir) = (server.kubeconfig_of_node(&name()), kubelet(node).into_os_string());
    Agent::start_with(node, ["--kubeconfig".into(), kubeconfig.into_os_string(), "--kubelet-compat-dir".into(), dir])
}

fn driver(node: &Node) -> Driver {
    Driver::new(&kubelet(node), node.make_dir("volumes"))
}

/// What a cluster's operator says of the driver.
fn declare(server: &ApiServer, spec: Value) {
    server.create(
        &json!({"apiVersion": "storage.k8s.io/v1", "kind": "CSIDriver", "metadata": {"name": NAME}, "spec": spec}),
    );
}

/// A claim of a volume of the driver, bound as the provisioner and the controllers would have done it.
fn bind(server: &ApiServer, claim: &str, modes: &Value, more: &[(&str, Value)]) {
    let amount = json!({"storage": "1Mi"});
    let made = server.create(&json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim",
        "metadata": {"name": claim, "namespace": "default"},
        "spec": {"accessModes": modes, "resources": {"requests": amount}, "volumeName": format!("pv-{claim}"), "storageClassName": ""}}));
    let back =
        json!({"kind": "PersistentVolumeClaim", "namespace": "default", "name": claim, "uid": made["metadata"]["uid"]});
    let mut csi =
        json!({"driver": NAME, "volumeHandle": format!("vol-{claim}"), "volumeAttributes": {"colour": "green"}});
    for (field, value) in more {
        csi[*field] = value.clone();
    }
    server.create(&json!({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": format!("pv-{claim}")},
        "spec": {"accessModes": modes, "capacity": amount, "claimRef": back, "csi": csi, "mountOptions": ["noatime"]}}));
    server.merge("persistentvolumeclaims", &format!("default/{claim}/status"), json!({"status": {"phase": "Bound"}}));
}

fn once() -> Value {
    json!(["ReadWriteOnce"])
}

/// A pod with a volume at `/data`.
fn using(pod: &str, script: &str, volume: &Value) -> Value {
    let mut pod = e2e::manifest::pod(pod, json!({"containers": [e2e::manifest::shell("c", script)]}));
    pod["metadata"]["namespace"] = json!("default");
    pod["spec"]["nodeName"] = json!(name());
    pod["spec"]["automountServiceAccountToken"] = json!(false);
    pod["spec"]["terminationGracePeriodSeconds"] = json!(20);
    let mut named = json!({"name": "v"});
    named.as_object_mut().unwrap().extend(volume.as_object().unwrap().clone());
    pod["spec"]["volumes"] = json!([named]);
    pod["spec"]["containers"][0]["volumeMounts"] = json!([{"name": "v", "mountPath": "/data"}]);
    pod
}

fn claimed(claim: &str) -> Value {
    json!({"persistentVolumeClaim": {"claimName": claim}})
}

fn is(phase: &str) -> impl Fn(&Value) -> bool {
    move |pod: &Value| pod["status"]["phase"] == phase
}

fn wait_for_phase(server: &ApiServer, pod: &str, phase: &str) {
    server.wait_for("pods", &format!("default/{pod}"), phase, is(phase));
}

#[track_caller]
fn remove(server: &ApiServer, agent: &Agent<'_>, pod: &str) {
    server.delete("pods", &format!("default/{pod}"));
    server.wait_until_gone("pods", &format!("default/{pod}"));
    agent.wait_until_gone(pod);
}

#[track_caller]
fn wait_for_event(server: &ApiServer, said: &str) {
    let is = |event: &Value| {
        event["reason"] == "FailedMount" && event["message"].as_str().unwrap_or_default().contains(said)
    };
    inspect::wait_until(&format!("an event says {said}"), || server.list("events").iter().any(is));
}

/// What Kubernetes calls something that has a name of those of others.
fn digest(names: &[&str]) -> String {
    let digest = Sha256::digest(names.concat());
    digest.iter().fold("csi-".to_owned(), |name, byte| name + &format!("{byte:02x}"))
}

/// Nothing of the driver's is mounted or recorded any more.
#[track_caller]
fn settled(node: &Node, driver: &Driver) {
    let recorded = |kind: &str| std::fs::read_dir(node.root_dir.join("csi").join(kind)).map_or(0, Iterator::count);
    inspect::wait_until("every volume is given back", || {
        driver.mounted().is_empty() && recorded("used") == 0 && recorded("staged") == 0
    });
    assert!(!kubelet(node).join("plugins/kubernetes.io").exists(), "directories of volumes stay");
}

/// Ends the agent, and with it what looks like a kubelet's directory.
fn end(node: &Node, mut agent: Agent<'_>, mut driver: Driver) {
    driver.leave();
    agent.stop();
    drop(driver);
    node.coracle(["gc", "--all"]).exits(0);
    node.assert_nothing_left();
}

#[test]
fn a_claim_is_attached_staged_once_and_published_for_each_pod() {
    let node = need!(Node::on_shared_mount());
    let server = ApiServer::start(&node);
    let agent = join(&node, &server);
    let mut driver = driver(&node);
    driver.come();
    let known = server.wait_for("csinodes", &name(), "known", |it| it["spec"]["drivers"][0]["name"] == NAME);
    let expected =
        json!([{"name": NAME, "nodeID": NODE_ID, "topologyKeys": [TOPOLOGY.0], "allocatable": {"count": 5}}]);
    assert_eq!(known["spec"]["drivers"], expected);
    let told = server.get("nodes", &name()).unwrap();
    assert_eq!(told["metadata"]["labels"][TOPOLOGY.0], TOPOLOGY.1);
    let id = told["metadata"]["annotations"]["csi.volume.kubernetes.io/nodeid"].as_str().unwrap();
    assert_eq!(id, json!({NAME: NODE_ID}).to_string());

    declare(&server, json!({"attachRequired": true, "podInfoOnMount": true}));
    let keys = json!({"name": "keys", "namespace": "default"});
    server.create(&json!({"apiVersion": "v1", "kind": "Secret", "metadata": keys, "data": {"pw": "aHVudGVyMg=="}}));
    bind(&server, "data", &once(), &[("nodeStageSecretRef", keys), ("fsType", json!("ext4"))]);
    let mut one = using("one", &format!("echo one > /data/file; {KEEPS}"), &claimed("data"));
    one["spec"]["securityContext"] = json!({"fsGroup": 4321});
    server.create(&one);
    wait_for_event(&server, "MountVolume.WaitForAttach failed for volume \"pv-data\"");
    assert!(driver.calls("NodeStageVolume").is_empty(), "it is not attached yet");
    let attachment = digest(&["vol-data", NAME, &name()]);
    server.create(
        &json!({"apiVersion": "storage.k8s.io/v1", "kind": "VolumeAttachment", "metadata": {"name": attachment},
        "spec": {"attacher": NAME, "nodeName": name(), "source": {"persistentVolumeName": "pv-data"}}}),
    );
    let attached = json!({"status": {"attached": true, "attachmentMetadata": {"device": "sdx"}}});
    server.merge("volumeattachments", &format!("{attachment}/status"), attached);
    let volume = format!("kubernetes.io/csi/{NAME}^vol-data");
    // Before it is used, the node has said that it will be.
    server.wait_for("nodes", &name(), "using the volume", |node| node["status"]["volumesInUse"] == json!([volume]));
    assert!(driver.calls("NodeStageVolume").is_empty(), "the node does not say that it is attached");
    let volumes = json!({"status": {"volumesAttached": [{"name": volume, "devicePath": ""}]}});
    server.merge("nodes", &format!("{}/status", name()), volumes);
    wait_for_phase(&server, "one", "Running");

    let read = "until [ \"$(cat /data/file)\" = one ]; do sleep 0.1; done; echo more >> /data/file";
    server.create(&using("two", read, &claimed("data")));
    wait_for_phase(&server, "two", "Succeeded");
    let (staged, published) = (driver.calls("NodeStageVolume"), driver.calls("NodePublishVolume"));
    assert_eq!((staged.len(), published.len()), (1, 2), "{staged:?} {published:?}");
    for said in ["hunter2", "sdx", "green", "noatime", "ext4", "SingleNodeWriter"] {
        assert!(staged[0].said.contains(said), "{said}: {}", staged[0].said);
    }
    for said in ["sdx", "green", "\"csi.storage.k8s.io/pod.name\": \"one\"", staged[0].path.to_str().unwrap()] {
        assert!(published[0].said.contains(said), "{said}: {}", published[0].said);
    }
    let file = node.dir().join("volumes/vol-data/file");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "one\nmore\n");
    let group = std::os::unix::fs::MetadataExt::gid(&std::fs::metadata(file.with_file_name("")).unwrap());
    assert_eq!(group, 4321, "the volume is the pod's group's");

    remove(&server, &agent, "two");
    assert!(driver.calls("NodeUnstageVolume").is_empty(), "the other pod uses it");
    remove(&server, &agent, "one");
    driver.wait_for("NodeUnstageVolume", "vol-data");
    settled(&node, &driver);
    assert_eq!(driver.calls("NodeUnpublishVolume").len(), 2);
    server.wait_for("nodes", &name(), "done with it", |node| node["status"]["volumesInUse"].is_null());
    driver.leave();
    server.wait_for("csinodes", &name(), "without it", |it| it["spec"]["drivers"].as_array().is_none_or(Vec::is_empty));
    end(&node, agent, driver);
}

#[test]
fn a_volume_of_the_pods_own_begins_and_ends_with_it() {
    let node = need!(Node::on_shared_mount());
    let server = ApiServer::start(&node);
    let agent = join(&node, &server);
    let mut driver = driver(&node);
    let modes = json!(["Persistent", "Ephemeral"]);
    declare(&server, json!({"attachRequired": false, "podInfoOnMount": true, "volumeLifecycleModes": modes}));
    let csi = json!({"csi": {"driver": NAME, "volumeAttributes": {"size": "1"}}});
    let mut pod = using("web", &format!("echo x > /data/deep/file; {KEEPS}"), &csi);
    // The part of it is made, and mounted beside the whole.
    let mounts =
        json!([{"name": "v", "mountPath": "/all"}, {"name": "v", "mountPath": "/data/deep", "subPath": "a/b"}]);
    pod["spec"]["containers"][0]["volumeMounts"] = mounts;
    let uid = server.create(&pod)["metadata"]["uid"].as_str().unwrap().to_owned();
    wait_for_event(&server, &format!("driver name {NAME} not found in the list of registered CSI drivers"));
    driver.come();
    wait_for_phase(&server, "web", "Running");
    let call = driver.wait_for("NodePublishVolume", &digest(&[&uid, "v"]));
    for said in ["\"csi.storage.k8s.io/ephemeral\": \"true\"", "\"size\": \"1\"", "staging_target_path: \"\""] {
        assert!(call.said.contains(said), "{said}: {}", call.said);
    }
    let data = node.dir().join("volumes").join(&call.volume);
    inspect::wait_until("the pod writes", || {
        std::fs::read_to_string(data.join("a/b/file")).is_ok_and(|it| it == "x\n")
    });
    assert!(driver.calls("NodeStageVolume").is_empty());
    remove(&server, &agent, "web");
    settled(&node, &driver);
    assert!(!data.exists(), "its driver has removed it");
    end(&node, agent, driver);
}

#[test]
fn an_agent_that_is_killed_in_the_middle_of_it_leaves_nothing() {
    let node = need!(Node::on_shared_mount());
    let server = ApiServer::start(&node);
    let mut agent = join(&node, &server);
    let mut driver = driver(&node);
    declare(&server, json!({"attachRequired": false}));
    driver.come();
    for (index, method) in ["NodeStageVolume", "NodePublishVolume"].into_iter().enumerate() {
        let (claim, goes_on, ends) = (format!("c{index}"), format!("goes-on{index}"), format!("ends{index}"));
        bind(&server, &claim, &once(), &[]);
        bind(&server, &format!("{claim}x"), &once(), &[]);
        driver.fail(method, Fault::Hangs);
        server.create(&using(&goes_on, KEEPS, &claimed(&claim)));
        server.create(&using(&ends, KEEPS, &claimed(&format!("{claim}x"))));
        driver.wait_for(method, &format!("vol-{claim}x"));
        inspect::wait_until("both are asked for", || driver.calls(method).len() >= 2);
        agent.kill();
        // What it was asked for it does, when nobody hears of it any more.
        driver.heal();
        driver.forget();
        server.delete_within("pods", &format!("default/{ends}"), 0);
        agent.restart();
        wait_for_phase(&server, &goes_on, "Running");
        agent.wait_until_gone(&ends);
        driver.wait_for("NodeUnstageVolume", &format!("vol-{claim}x"));
        // Killed while all is well, it asks for nothing again.
        driver.forget();
        agent.kill();
        agent.restart();
        wait_for_phase(&server, &goes_on, "Running");
        assert!(driver.calls("NodePublishVolume").is_empty());
        // And killed in the middle of the end.
        let undo = ["NodeUnpublishVolume", "NodeUnstageVolume"][index];
        driver.fail(undo, Fault::Hangs);
        server.delete("pods", &format!("default/{goes_on}"));
        driver.wait_for(undo, &format!("vol-{claim}"));
        agent.kill();
        driver.heal();
        agent.restart();
        let gone = || server.get("pods", &format!("default/{goes_on}")).is_none().then_some(());
        assert!(inspect::wait_for(gone).is_some(), "{goes_on} stays:\n{}", agent.said());
        settled(&node, &driver);
        driver.forget();
    }
    end(&node, agent, driver);
}

#[test]
fn a_pod_whose_driver_is_away_is_not_gone_before_its_volume_is() {
    let node = need!(Node::on_shared_mount());
    let server = ApiServer::start(&node);
    let mut agent = join(&node, &server);
    let mut driver = driver(&node);
    declare(&server, json!({"attachRequired": false}));
    driver.come();
    bind(&server, "data", &once(), &[]);
    server.create(&using("web", KEEPS, &claimed("data")));
    wait_for_phase(&server, "web", "Running");
    driver.leave();
    server.wait_for("csinodes", &name(), "without it", |it| it["spec"]["drivers"].as_array().is_none_or(Vec::is_empty));
    server.delete("pods", "default/web");
    agent.wait_for_words("not found in the list of registered CSI drivers");
    assert!(server.get("pods", "default/web").is_some(), "its volume is still mounted");
    assert!(!driver.mounted().is_empty());
    // Another agent waits, too.
    agent.kill();
    agent.restart();
    agent.wait_for_words("not found in the list of registered CSI drivers");
    assert!(server.get("pods", "default/web").is_some(), "its volume is still mounted");
    driver.come();
    server.wait_until_gone("pods", "default/web");
    settled(&node, &driver);
    end(&node, agent, driver);
}

#[test]
fn a_driver_that_hangs_or_refuses_is_the_matter_of_its_own_pods() {
    let node = need!(Node::on_shared_mount());
    let server = ApiServer::start(&node);
    let agent = join(&node, &server);
    let mut driver = driver(&node);
    declare(&server, json!({"attachRequired": false}));
    driver.come();
    for claim in ["slow", "other"] {
        bind(&server, claim, &once(), &[]);
    }
    bind(&server, "many", &json!(["ReadWriteMany"]), &[]);
    driver.fail("NodeStageVolume", Fault::Hangs);
    server.create(&using("slow", KEEPS, &claimed("slow")));
    driver.wait_for("NodeStageVolume", "vol-slow");
    // Neither a pod without volumes nor one of the same driver waits for it, once that answers the other.
    server.create(&using("plain", KEEPS, &json!({"emptyDir": {}})));
    wait_for_phase(&server, "plain", "Running");
    server.create(&using("other", KEEPS, &claimed("other")));
    driver.wait_for("NodeStageVolume", "vol-other");
    driver.heal();
    for pod in ["slow", "other"] {
        wait_for_phase(&server, pod, "Running");
    }
    let refused = "access mode MULTI_NODE_MULTI_WRITER is not supported";
    driver.fail("NodePublishVolume", Fault::Refused(Code::InvalidArgument, refused));
    server.create(&using("many", KEEPS, &claimed("many")));
    wait_for_event(&server, &format!("rpc error: code = InvalidArgument desc = {refused}"));
    assert!(driver.calls("NodePublishVolume").last().unwrap().said.contains("MultiNodeMultiWriter"));
    remove(&server, &agent, "many");
    driver.wait_for("NodeUnstageVolume", "vol-many");
    let asked = driver.calls("NodeUnpublishVolume");
    assert!(asked.iter().all(|call| call.volume != "vol-many"), "it was never published: {asked:?}");
    driver.heal();
    for pod in ["slow", "other", "plain"] {
        remove(&server, &agent, pod);
    }
    settled(&node, &driver);
    end(&node, agent, driver);
}
