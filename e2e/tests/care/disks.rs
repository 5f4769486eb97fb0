//! Disks run full, and pods take more of them than they may.

use e2e::agent::{Agent, container_id};
use e2e::manifest::{keeper, pod, shell, with};
use e2e::{Node, fixtures, inspect, need};
use serde_json::{Value, json};

use crate::{agent, evicted};

/// A pod whose container writes to its volume `v`, an emptyDir, and stays.
fn writer(name: &str, script: &str, volume: Value) -> Value {
    let mut container = shell("c", &format!("{script}; echo up; exec sleep 1000"));
    container["volumeMounts"] = json!([{"name": "v", "mountPath": "/v"}]);
    pod(name, json!({"containers": [container], "volumes": [{"name": "v", "emptyDir": volume}]}))
}

fn free(node: &Node) -> u64 {
    let space = rustix::fs::statvfs(node.disk().expect("a small disk")).expect("it is mounted");
    space.f_bavail * space.f_frsize
}

/// An agent with these settings that finds a pod running.
fn with_pod<'n>(node: &'n Node, pod: &str, settings: Value) -> Agent<'n> {
    let mut first = Agent::start(node);
    first.write(&format!("{pod}.yaml"), keeper(pod));
    first.wait_for_running(pod);
    first.stop();
    agent(node, settings)
}

#[test]
fn who_fills_the_disk_goes() {
    let node = need!(Node::on_small_disk(96, 8000));
    let agent = agent(&node, json!({"evictionHard": {"nodefs.available": "24Mi"}}));
    agent.write("modest.yaml", keeper("modest"));
    let before = container_id(&agent.wait_for_running("modest"), "c");
    let room = free(&node) >> 20;
    let fill = format!("dd if=/dev/zero of=/v/file bs=1M count={}", room - 12);
    agent.write("greedy.yaml", writer("greedy", &fill, json!({})));
    let why = evicted(&agent, "greedy");
    let expected = "The node was low on resource: ephemeral-storage. Threshold quantity: 24Mi, available: ";
    assert!(why.starts_with(expected), "{why}");
    let back = inspect::wait_for(|| (free(&node) >> 20 > room - 4).then_some(()));
    assert!(back.is_some(), "{} of {room} MiB are free again\n{}", free(&node) >> 20, agent.said());
    assert_eq!(container_id(&agent.wait_for_running("modest"), "c"), before, "{}", agent.said());
    assert_eq!(node.pod("greedy").expect("it is told of")["status"]["reason"], "Evicted", "Never is never");
}

#[test]
fn who_uses_up_the_files_goes() {
    let node = need!(Node::on_small_disk(64, 4000));
    let agent = agent(&node, json!({"evictionHard": {"nodefs.inodesFree": "20%"}}));
    agent.write("modest.yaml", keeper("modest"));
    agent.wait_for_running("modest");
    let fill = "i=0; while [ $i -lt 3500 ]; do : > /v/$i || break; i=$((i+1)); done";
    agent.write("greedy.yaml", writer("greedy", fill, json!({})));
    let why = evicted(&agent, "greedy");
    assert!(why.starts_with("The node was low on resource: inodes. "), "{why}");
    agent.wait_for_running("modest");
}

#[test]
fn images_that_nothing_uses_go_before_pods() {
    let node = need!(Node::on_small_disk(128, 8000));
    node.import(&need!(fixtures::big(32, 200)));
    let used: Vec<Value> = node.images().into_iter().filter(|it| !it.to_string().contains("big")).collect();
    assert_eq!(used.len(), node.images().len() - 1);
    // Between what is free now and what is free without that image.
    let threshold = format!("{}Mi", (free(&node) >> 20) + 8);
    let hard = json!({"imagefs.available": threshold});
    let agent = with_pod(&node, "modest", json!({"evictionHard": hard, "imageMinimumGCAge": "1ms"}));
    let gone = inspect::wait_for(|| (node.images().len() == used.len()).then_some(()));
    assert!(gone.is_some(), "{:#?}\n{}", node.images(), agent.said());
    node.assert_images(&used);
    agent.wait_for_running("modest");
    assert!(!agent.said().contains("Evicted"), "{}", agent.said());
}

#[test]
fn images_go_when_their_disk_is_nearly_full() {
    let node = need!(Node::on_small_disk(128, 8000));
    let used = node.images();
    node.import(&need!(fixtures::big(32, 200)));
    let percent = |free: u64| 100 - u8::try_from((free >> 20) * 100 / 128).expect("a percentage");
    let high = percent(free(&node)) - 10;
    let settings = json!({
        "imageGCHighThresholdPercent": high,
        "imageGCLowThresholdPercent": high - 5,
        "imageMinimumGCAge": "1ms",
    });
    let agent = with_pod(&node, "modest", settings);
    let gone = inspect::wait_for(|| (node.images().len() == used.len()).then_some(()));
    assert!(gone.is_some(), "{:#?}\n{}", node.images(), agent.said());
    node.assert_images(&used);
    agent.wait_for_running("modest");
}

#[test]
fn a_volume_over_its_limit_ends_its_pod_which_comes_back_without_it() {
    let node = need!(Node::with_busybox());
    let agent = agent(&node, json!({}));
    // Only in its first life: the file that tells so is not the pod's.
    let once = node.make_dir("once");
    let script = "[ -e /once/done ] || { touch /once/done; dd if=/dev/zero of=/v/file bs=1M count=12; }; ls /v";
    let mut greedy = writer("greedy", script, json!({"sizeLimit": "8Mi"}));
    greedy["spec"]["restartPolicy"] = json!("Always");
    let spec = &mut greedy["spec"];
    let once_volume = json!({"name": "once", "hostPath": {"path": once}});
    spec["volumes"].as_array_mut().expect("a list").push(once_volume);
    let mount = json!({"name": "once", "mountPath": "/once"});
    spec["containers"][0]["volumeMounts"].as_array_mut().expect("a list").push(mount);
    agent.write("greedy.yaml", &greedy);
    let why = evicted(&agent, "greedy");
    assert_eq!(why, "Usage of EmptyDir volume \"v\" exceeds the limit \"8Mi\". ");
    let first = node.pod("greedy").expect("it is told of")["metadata"]["uid"].clone();
    let again = agent.wait_for("greedy", "another pod that runs", |pod| {
        pod["metadata"]["uid"] != first && pod["status"]["phase"] == "Running"
    });
    let uid = again["metadata"]["uid"].as_str().expect("it has a uid");
    let volume = node.scope().root_dir.join("pods").join(uid).join("volumes/kubernetes.io~empty-dir/v");
    assert_eq!(std::fs::read_dir(volume).expect("the volume is there").count(), 0);
}

#[test]
fn a_container_over_its_limit_ends_its_pod() {
    let node = need!(Node::with_busybox());
    let agent = agent(&node, json!({}));
    let limit = |limit: &str| json!({"resources": {"limits": {"ephemeral-storage": limit}}});
    let greedy = with(shell("c", "dd if=/dev/zero of=/file bs=1M count=8; exec sleep 1000"), limit("4Mi"));
    let modest = with(shell("d", "exec sleep 1000"), limit("100Mi"));
    agent.write("p.yaml", pod("p", json!({"containers": [greedy, modest]})));
    agent.write("other.yaml", keeper("other"));
    let why = evicted(&agent, "p");
    assert_eq!(why, "Container c exceeded its local ephemeral storage limit \"4Mi\". ");
    agent.wait_for_running("other");
}
