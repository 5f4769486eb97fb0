//! `activeDeadlineSeconds`: what runs longer is stopped, and the pod has failed.

use e2e::agent::condition_of;
use e2e::manifest::{keeper, pod, several, shell};
use e2e::{Node, need};
use rustix::process::Signal;
use serde_json::{Value, json};

#[test]
fn a_pod_that_runs_too_long_is_stopped_and_failed() {
    let node = need!(Node::with_busybox());
    let script = "trap 'echo asked to stop; exit 0' TERM; echo up; sleep 100000 & wait";
    let spec = json!({
        "restartPolicy": "Always", "activeDeadlineSeconds": 5, "terminationGracePeriodSeconds": 3600,
        "containers": [shell("c", script)],
    });
    // The other one keeps the run, so that the record can be looked at.
    let mut run = node.run(several(&[keeper("keeper"), pod("late", spec)]));
    let late = node.wait_for_phase("late", "Failed");
    assert_eq!(late["status"]["reason"], "DeadlineExceeded", "{late:#}");
    assert_eq!(late["status"]["message"], "Pod was active on the node longer than the specified deadline");
    let ended = |pod: &Value| pod["status"]["containerStatuses"][0]["state"]["terminated"].is_object();
    let late = node.wait_for_pod("late", "stopped", ended);
    assert_eq!(late["status"]["containerStatuses"][0]["restartCount"], 0, "{late:#}");
    assert_eq!(condition_of(&late, "Ready").map(|it| &it["reason"]), Some(&json!("PodFailed")), "{late:#}");
    run.signal(Signal::TERM);
    let finished = run.wait();
    let finished = finished.says("late/c | asked to stop").says("DeadlineExceeded");
    assert!(!finished.status.success(), "a pod has failed: {finished}");
    node.assert_nothing_left();
}

#[test]
fn init_containers_count_and_a_pod_in_time_is_left_alone() {
    let node = need!(Node::with_busybox());
    let slow = json!({
        "activeDeadlineSeconds": 5, "initContainers": [shell("init", "echo waiting; exec sleep 1000")],
        "containers": [shell("c", "echo never")],
    });
    let quick = json!({"activeDeadlineSeconds": 600, "containers": [shell("c", "echo in time")]});
    let finished = node.run_to_end(several(&[pod("slow", slow), pod("quick", quick)]));
    let finished = finished.says("slow/init | waiting").never_says("never").says("quick/c | in time");
    assert!(!finished.status.success(), "{finished}");
    node.assert_nothing_left();
}
