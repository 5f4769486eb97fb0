//! The agent as a node of a cluster: the pods that an API server binds to it.

#![allow(clippy::unwrap_used)]

mod cluster {
    mod claims;
    mod mirrors;
    mod pods;
    mod pods_apart;
    mod pods_changed;
    mod pods_ended;
    mod pods_shown;
    mod refusals;
    mod resizes;
    mod volumes;
}

use std::path::Path;

use e2e::Node;
use e2e::agent::Agent;
use e2e::apiserver::ApiServer;
use serde_json::{Value, json};

/// The node's name: the host's, for nobody says otherwise.
fn name() -> String {
    rustix::system::uname().nodename().to_string_lossy().to_lowercase()
}

/// An agent that is a node of the server's cluster.
#[track_caller]
fn join<'n>(node: &'n Node, kubeconfig: &Path) -> Agent<'n> {
    Agent::start_with(node, ["--kubeconfig", kubeconfig.to_str().unwrap()])
}

/// A pod that is bound to the node, whose one container does what `script` says.
fn bound(pod: &str, script: &str) -> Value {
    let mut pod = e2e::manifest::pod(pod, json!({"containers": [e2e::manifest::shell("c", script)]}));
    pod["metadata"]["namespace"] = json!("default");
    pod["spec"]["nodeName"] = json!(name());
    pod["spec"]["automountServiceAccountToken"] = json!(false);
    pod["spec"]["terminationGracePeriodSeconds"] = json!(20);
    pod
}

/// What runs until it is stopped, and ends at once then.
const KEEPS: &str = "trap 'exit 0' TERM; while :; do sleep 0.1; done";

/// Whether a pod is what is said of it.
fn is(phase: &str) -> impl Fn(&Value) -> bool {
    move |pod: &Value| pod["status"]["phase"] == phase
}

/// Waits until a bound pod runs.
#[track_caller]
fn running(server: &ApiServer, pod: &str) -> Value {
    server.wait_for("pods", &format!("default/{pod}"), "running", is("Running"))
}
