//! PersistentVolumeClaims: directories of the node that outlive the pods.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use e2e::manifest::{pod, several, shell, with};
use e2e::{Node, need};
use rustix::process::Signal;
use serde_json::{Value, json};

fn claim(storage: &str) -> Value {
    let spec = json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": storage}}});
    json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "data"}, "spec": spec})
}

/// The claim, and a pod that mounts it at /data and runs a script.
fn using(script: &str, source: Value, spec: Value) -> String {
    let container = with(shell("c", script), json!({"volumeMounts": [{"name": "v", "mountPath": "/data"}]}));
    let source = with(json!({"claimName": "data"}), source);
    let volumes = json!([{"name": "v", "persistentVolumeClaim": source}]);
    let pod = pod("user", with(json!({"containers": [container], "volumes": volumes}), spec));
    several(&[claim("1Mi"), pod])
}

fn directory(node: &Node) -> PathBuf {
    node.root_dir.join("claims/default/data")
}

#[test]
fn what_a_pod_writes_the_next_one_reads() {
    let node = need!(Node::with_busybox());
    node.run_to_end(using("echo precious > /data/file", json!({}), json!({}))).exits(0);
    node.assert_nothing_left();
    let script = "cat /data/file; touch /data/x 2>&1 | sed 's/^/write /'";
    let finished = node.run_to_end(using(script, json!({"readOnly": true}), json!({}))).exits(0).says("| precious");
    assert!(finished.value("user/c", "write").contains("Read-only"), "{finished}");
    node.coracle(["gc", "--all"]).exits(0);
    assert_eq!(fs::read_to_string(directory(&node).join("file")).expect("it stays"), "precious\n");
    node.coracle(["gc", "--claims"]).exits(0).says("removed data of claim default/data");
    assert!(!directory(&node).exists());
    let finished = node.run_to_end(using("ls -A /data | wc -l | sed 's/^/files /'", json!({}), json!({}))).exits(0);
    assert_eq!(finished.value("user/c", "files"), "0", "{finished}");
}

#[test]
fn a_claim_that_a_pod_mounts_is_not_removed() {
    let node = need!(Node::with_busybox());
    let mut run = node.run(using("echo up; exec sleep 1000", json!({}), json!({})));
    run.wait_for("| up");
    node.coracle(["gc", "--claims"]).exits(0).says("spared data of claim default/data: pod default/user mounts it");
    assert!(directory(&node).exists());
    run.signal(Signal::TERM);
    run.wait();
}

#[test]
fn a_claim_asks_for_no_more_than_there_is() {
    let node = need!(Node::with_busybox());
    let text = using("echo ran", json!({}), json!({})).replace("1Mi", "6Ei");
    node.run_to_end(text)
        .exits(125)
        .says("PersistentVolumeClaim default/data asks for 6917529027641081856 bytes")
        .never_says("| ran");
    assert!(!directory(&node).exists());
}

#[test]
fn a_claim_is_handed_over_to_the_group_always_or_when_its_root_is_not() {
    let node = need!(Node::with_busybox());
    let security = |group: u32, policy: &str| json!({"securityContext": {"fsGroup": group, "fsGroupChangePolicy": policy, "runAsUser": 1000, "runAsGroup": 1000}});
    let groups = || {
        let gid = |path: PathBuf| fs::metadata(path).expect("it is there").gid();
        (gid(directory(&node)), gid(directory(&node).join("file")))
    };
    node.run_to_end(using("echo 1 > /data/file", json!({}), security(10, "Always"))).exits(0);
    assert_eq!(groups(), (10, 10), "what is made in the volume belongs to its group");
    std::os::unix::fs::chown(directory(&node).join("file"), None, Some(5)).expect("root may");
    node.run_to_end(using("true", json!({}), security(10, "OnRootMismatch"))).exits(0);
    assert_eq!(groups(), (10, 5));
    node.run_to_end(using("true", json!({}), security(10, "Always"))).exits(0);
    assert_eq!(groups(), (10, 10));
    node.run_to_end(using("echo 2 > /data/file", json!({}), security(11, "OnRootMismatch"))).exits(0);
    assert_eq!(groups(), (11, 11));
}
