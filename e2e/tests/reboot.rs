//! The power goes while pods run. What was recorded belongs to a boot that is over; the same manifests run again.

use e2e::manifest::{keeper, pod, several, shell};
use e2e::{Node, Run, StateDir, need};
use rustix::process::Signal;
use serde_json::{Value, json};

/// Pods with what lies in both directories: one that stays, one with volumes, one whose container has ended.
fn pods() -> String {
    let spec = json!({
        "containers": [
            shell("done", "exit 3"),
            {"name": "c", "image": e2e::BUSYBOX, "command": ["sh", "-c", "echo up; exec sleep 1000"],
             "volumeMounts": [{"name": "e", "mountPath": "/e"}, {"name": "t", "mountPath": "/t"}]},
        ],
        "volumes": [{"name": "e", "emptyDir": {}}, {"name": "t", "emptyDir": {"medium": "Memory"}}],
    });
    several(&[keeper("plain"), pod("volumes", spec)])
}

fn start(node: &Node) -> Run {
    let mut run = node.run(pods());
    run.wait_for("plain/c | up");
    run.wait_for("volumes/c | up");
    node.wait_for_pod("volumes", "half over", |pod| ended(pod, "done").is_some());
    run
}

/// The terminated state of a container.
fn ended<'a>(pod: &'a Value, container: &str) -> Option<&'a Value> {
    let statuses = pod["status"]["containerStatuses"].as_array()?;
    let status = statuses.iter().find(|status| status["name"] == container)?;
    status["state"].get("terminated")
}

/// The addresses of both pods.
fn addresses(node: &Node) -> Vec<Value> {
    ["plain", "volumes"].map(|name| node.pod(name).expect("it runs")["status"]["podIPs"].clone()).to_vec()
}

/// Starts the pods again, and stops them: they have the addresses that they had.
fn again(node: &Node, before: &[Value]) {
    let run = start(node);
    assert_eq!(addresses(node), before, "a pod has another address after the reboot");
    stop(run);
}

fn stop(mut run: Run) {
    run.signal(Signal::TERM);
    run.wait();
}

#[test]
fn pods_of_another_boot_have_ended_and_the_same_manifests_run_again() {
    let mut node = need!(Node::with_busybox());
    let images = node.images();
    let run = start(&node);
    let before = addresses(&node);
    node.cut_power(StateDir::Kept);
    drop(run);
    for name in ["plain", "volumes"] {
        let pod = node.pod(name).expect("its record is there");
        assert_eq!(pod["status"]["phase"], "Failed", "{pod:#}");
        let end = ended(&pod, "c").unwrap_or_else(|| panic!("it has not ended: {pod:#}"));
        assert_eq!((&end["exitCode"], &end["reason"]), (&json!(255), &json!("ContainerStatusUnknown")), "{pod:#}");
    }
    let volumes = node.pod("volumes").expect("its record is there");
    assert_eq!(ended(&volumes, "done").map(|end| &end["exitCode"]), Some(&json!(3)), "{volumes:#}");
    node.exec("plain", "c", &["true"]).exits(125).says("ContainerStatusUnknown");
    // Again at once, then with nothing left of the boot before.
    again(&node, &before);
    node.coracle(["gc"]).exits(0);
    node.assert_nothing_left();
    node.assert_images(&images);
    again(&node, &before);
    node.assert_nothing_left();
}

#[test]
fn gc_spares_new_pods_and_removes_those_of_another_boot() {
    let mut node = need!(Node::with_busybox());
    let old = start(&node);
    node.cut_power(StateDir::Kept);
    drop(old);
    let run = start(&node);
    node.coracle(["gc"]).exits(0).says("pod default/plain");
    assert_eq!(node.pods().len(), 2, "the new pods alone");
    node.exec("plain", "c", &["true"]).exits(0);
    stop(run);
    node.assert_nothing_left();
}

#[test]
fn what_a_lost_state_directory_knew_is_collected() {
    let mut node = need!(Node::with_busybox());
    let images = node.images();
    let run = start(&node);
    let before = addresses(&node);
    node.cut_power(StateDir::Emptied);
    drop(run);
    assert!(node.pods().is_empty());
    again(&node, &before);
    node.coracle(["gc"]).exits(0);
    node.assert_nothing_left();
    node.assert_images(&images);
}
