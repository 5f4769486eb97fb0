//! The agent as a node of a cluster: how it comes to be one, how it is told of, and what becomes of it while the API server
//! is away.

#![allow(clippy::unwrap_used)]

mod cluster {
    mod certificates;
    mod events;
    mod node;
    mod partition;
}

use std::path::Path;

use e2e::Node;
use e2e::agent::Agent;
use e2e::apiserver::ApiServer;
use serde_json::Value;

/// The node's name.
const NAME: &str = "worker";

/// An agent that is a node of the server's cluster, with more arguments.
#[track_caller]
fn join<'n>(node: &'n Node, kubeconfig: &Path, more: &[&str]) -> Agent<'n> {
    let kubeconfig = kubeconfig.to_str().unwrap();
    let args = ["--kubeconfig", kubeconfig, "--hostname-override", NAME].into_iter().chain(more.iter().copied());
    Agent::start_with(node, args)
}

/// A condition of a node: whether it is `True`.
fn holds(node: &Value, kind: &str) -> Option<bool> {
    let conditions = node["status"]["conditions"].as_array()?;
    Some(conditions.iter().find(|condition| condition["type"] == kind)?["status"] == "True")
}

/// Waits until the node is ready.
#[track_caller]
fn ready(server: &ApiServer) -> Value {
    server.wait_for("nodes", NAME, "ready", |node| holds(node, "Ready") == Some(true))
}

/// When the node's lease was renewed last.
fn renewed(server: &ApiServer) -> Option<String> {
    server.get("leases", &format!("kube-node-lease/{NAME}"))?["spec"]["renewTime"].as_str().map(str::to_owned)
}
