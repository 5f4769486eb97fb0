//! Process ids run short; and a soft threshold, which gives pods their time.

use e2e::agent::Agent;
use e2e::manifest::{pod, shell};
use e2e::{Node, need};
use serde_json::{Value, json};

use crate::{agent, evicted};

/// A pod of several processes, which says when it is asked to end and takes a while for that.
fn busy(node: &Node, grace: u32) -> Value {
    let out = node.make_dir("out").display().to_string();
    let script =
        "trap 'sleep 2; echo bye > /out/bye; exit 0' TERM; for i in 1 2 3; do sleep 1000 & done; echo up; wait";
    let mut container = shell("c", script);
    container["volumeMounts"] = json!([{"name": "out", "mountPath": "/out"}]);
    let volumes = json!([{"name": "out", "hostPath": {"path": out}}]);
    pod("busy", json!({"terminationGracePeriodSeconds": grace, "containers": [container], "volumes": volumes}))
}

#[test]
fn a_pod_goes_when_process_ids_are_short() {
    let node = need!(Node::with_busybox());
    // There are never all of them free.
    let agent = agent(&node, json!({"evictionHard": {"pid.available": "99.999%"}}));
    agent.write("busy.yaml", busy(&node, 3600));
    let why = evicted(&agent, "busy");
    assert!(why.starts_with("The node was low on resource: pids. "), "{why}");
    assert!(!node.dir().join("out/bye").exists(), "a hard threshold leaves no time for words");
}

#[test]
fn a_soft_threshold_has_to_be_crossed_for_a_while_and_leaves_pods_their_time() {
    let node = need!(Node::with_busybox());
    let settings = json!({
        "evictionHard": {"memory.available": "1Mi"},
        "evictionSoft": {"pid.available": "99.999%"},
        "evictionSoftGracePeriod": {"pid.available": "2s"},
        "evictionMaxPodGracePeriod": 3600,
    });
    let mut first = Agent::start(&node);
    first.write("busy.yaml", busy(&node, 3600));
    // It has to hear the signal.
    node.wait_for_output("busy", "c", "up");
    first.stop();
    let agent = agent(&node, settings);
    let why = evicted(&agent, "busy");
    assert!(why.starts_with("The node was low on resource: pids. "), "{why}");
    assert_eq!(std::fs::read_to_string(node.dir().join("out/bye")).ok().as_deref(), Some("bye\n"), "{}", agent.said());
}
