//! The agent as a node of a cluster: how fast it follows, what it asks of the API server at rest, what it takes.
//!
//! First with the tests' own API server, which costs next to nothing; then, where the programs of a real control plane
//! are, in a real cluster, and beside it a kubelet with Debian's containerd.

mod bound;
mod real;
mod rest;

use std::path::PathBuf;
use std::time::Duration;

use e2e::manifest::pod;
use serde_json::{Value, json};

use crate::report::Report;

/// How much is measured.
pub struct Scale {
    /// Times that one pod is bound.
    pub runs: usize,
    /// Times that several are, and that a Deployment is made and scaled.
    pub rounds: usize,
    /// Pods at once.
    pub pods: usize,
    /// How long it is quiet before anything is counted at rest.
    pub settle: Duration,
    /// How long processor time and requests are counted while nothing happens.
    pub rest: Duration,
    /// Where the programs of a real control plane are.
    pub kubernetes: Option<PathBuf>,
}

/// Measures all of it. An interrupt takes away what the agent runs, but not what a kubelet does.
pub fn measure(scale: &Scale, report: &mut Report) -> anyhow::Result<()> {
    bound::measure(scale, report)?;
    real::measure(scale, report)
}

/// One that stays, and ends at once when it is told to.
fn spec() -> Value {
    let script = "trap 'exit 0' TERM; sleep 1000000 & wait";
    let container = json!({"image": e2e::BUSYBOX, "imagePullPolicy": "Never"});
    let container = e2e::manifest::with(e2e::manifest::shell("c", script), container);
    pod("bench", json!({"terminationGracePeriodSeconds": 5, "containers": [container]}))["spec"].take()
}
