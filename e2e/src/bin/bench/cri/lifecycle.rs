//! One pod after another: every call on its way, and commands in a standing one.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use anyhow::ensure;
use e2e::BUSYBOX;
use e2e::cri::Endpoint;
use e2e::cri::proto::{PodSandboxConfig, RemovePodSandboxRequest, StopPodSandboxRequest};

use super::Sides;
use crate::coracle::since;
use crate::report::Row;

/// The calls of a pod's life, and the way to a running container as a whole.
const CALLS: [&str; 6] = [
    "RunPodSandbox",
    "CreateContainer",
    "StartContainer",
    "the three together",
    "StopPodSandbox, its container running",
    "RemovePodSandbox",
];

/// All rows.
pub fn rows(sides: &Sides<'_>, runs: usize) -> anyhow::Result<Vec<Row>> {
    let mut rows = lives(sides, "", runs)?;
    rows.extend(execs(sides, runs * 3)?);
    Ok(rows)
}

/// Rows of whole lives; `when` goes behind each name.
pub fn lives(sides: &Sides<'_>, when: &str, runs: usize) -> anyhow::Result<Vec<Row>> {
    let pairs = sides.turns(runs, life)?;
    Ok(pairs.into_iter().zip(CALLS).flat_map(|(pair, what)| pair.rows(&format!("{what}{when}"), "ms")).collect())
}

fn life(side: &dyn Endpoint) -> anyhow::Result<[f64; 6]> {
    let pod = new_pod(side);
    let container = side.container("c", BUSYBOX, &["sleep", "1000"]);
    let (begun, mut figures) = (Instant::now(), [0.0; 6]);
    let sandbox = side.try_run_pod(&pod)?;
    figures[0] = since(begun);
    let id = side.try_create_container(&sandbox, &pod, &container)?;
    figures[1] = since(begun) - figures[0];
    side.try_start_container(&id)?;
    figures[3] = since(begun);
    figures[2] = figures[3] - figures[0] - figures[1];
    let begun = Instant::now();
    side.client().stop_pod_sandbox(StopPodSandboxRequest { pod_sandbox_id: sandbox.clone() })?;
    figures[4] = since(begun);
    side.client().remove_pod_sandbox(RemovePodSandboxRequest { pod_sandbox_id: sandbox })?;
    figures[5] = since(begun) - figures[4];
    Ok(figures)
}

fn execs(sides: &Sides<'_>, runs: usize) -> anyhow::Result<Vec<Row>> {
    let standing: Vec<Standing<'_>> = sides.all().into_iter().map(Standing::start).collect::<anyhow::Result<_>>()?;
    let [pair] = sides.turns(runs, |side| {
        let id = Standing::on(&standing, side);
        let begun = Instant::now();
        let answer = side.try_exec_sync(id, &["true"], 60)?;
        let took = since(begun);
        ensure!(answer.exit_code == 0, "`true` on {} exits with {}", side.name(), answer.exit_code);
        Ok([took])
    })?;
    Ok(pair.rows("ExecSync of `true`", "ms"))
}

/// The configuration of a pod that no other has.
pub fn new_pod(side: &dyn Endpoint) -> PodSandboxConfig {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    side.pod(&format!("bench-{}", COUNT.fetch_add(1, Ordering::Relaxed)))
}

/// A pod with one container that sleeps, removed when it is dropped.
pub struct Standing<'s> {
    side: &'s dyn Endpoint,
    sandbox: String,
    container: String,
}

impl<'s> Standing<'s> {
    fn start(side: &'s dyn Endpoint) -> anyhow::Result<Self> {
        Self::start_with(side, |_| {})
    }

    /// The container's configuration may be changed before it starts.
    pub fn start_with(
        side: &'s dyn Endpoint,
        change: impl FnOnce(&mut e2e::cri::proto::ContainerConfig),
    ) -> anyhow::Result<Self> {
        let pod = new_pod(side);
        let sandbox = side.try_run_pod(&pod)?;
        let mut standing = Self { side, sandbox, container: String::new() };
        let mut container = side.container("c", BUSYBOX, &["sleep", "100000"]);
        change(&mut container);
        standing.container = side.try_create_container(&standing.sandbox, &pod, &container)?;
        side.try_start_container(&standing.container)?;
        Ok(standing)
    }

    /// The id of the container on a side.
    pub fn on<'a>(all: &'a [Self], side: &dyn Endpoint) -> &'a str {
        all.iter().find(|one| one.side.name() == side.name()).map_or("", |one| &one.container)
    }
}

impl Drop for Standing<'_> {
    fn drop(&mut self) {
        let pod_sandbox_id = self.sandbox.clone();
        // What cannot be removed is told of by the endpoint's own drop.
        let _ = self.side.client().stop_pod_sandbox(StopPodSandboxRequest { pod_sandbox_id: pod_sandbox_id.clone() });
        let _ = self.side.client().remove_pod_sandbox(RemovePodSandboxRequest { pod_sandbox_id });
    }
}
