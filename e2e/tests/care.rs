//! The agent takes care of its node: what is short is taken back, from images first and from pods in kubelet's order.

mod care {
    pub mod cgroups;
    pub mod disks;
    pub mod memory;
    pub mod processes;
}

use std::ffi::OsString;
use std::path::PathBuf;

use e2e::Node;
use e2e::agent::Agent;
use serde_json::{Value, json};

/// A file of kubelet's settings, with these in it and nothing that the machine's own state could set off.
fn config(node: &Node, settings: Value) -> PathBuf {
    let base = json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "imageGCHighThresholdPercent": 100,
        "evictionHard": {"memory.available": "1Mi"},
        "evictionPressureTransitionPeriod": "1s",
    });
    let path = node.dir().join("config.yaml");
    std::fs::write(&path, e2e::manifest::with(base, settings).to_string()).expect("the node's directory is writable");
    path
}

/// An agent that looks at its node often.
fn agent(node: &Node, settings: Value) -> Agent<'_> {
    agent_with(node, settings, &[])
}

/// One with more arguments.
fn agent_with<'n>(node: &'n Node, settings: Value, args: &[&str]) -> Agent<'n> {
    let config = config(node, settings).to_string_lossy().into_owned();
    let own = ["--config", &config, "--housekeeping-interval", "500ms"];
    Agent::start_with(node, own.iter().chain(args).map(OsString::from))
}

/// Waits until the node has evicted a pod; why, in its status.
#[track_caller]
fn evicted(agent: &Agent<'_>, pod: &str) -> String {
    let pod = agent.wait_for(pod, "evicted", |pod| pod["status"]["reason"] == "Evicted" && is_over(pod));
    assert_eq!(pod["status"]["phase"], "Failed", "{pod:#}");
    pod["status"]["message"].as_str().unwrap_or_default().to_owned()
}

fn is_over(pod: &Value) -> bool {
    let containers = pod["status"]["containerStatuses"].as_array();
    containers.is_none_or(|containers| containers.iter().all(|it| it["state"]["running"].is_null()))
}
