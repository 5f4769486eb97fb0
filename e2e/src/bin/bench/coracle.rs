//! Coracle's own figures.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context, anyhow, ensure};
use e2e::manifest::{command, pod};
use e2e::{Node, Run, inspect};
use rustix::process::{Pid, Signal};
use serde_json::json;

/// Milliseconds since.
pub fn since(start: Instant) -> f64 {
    start.elapsed().as_secs_f64() * 1000.0
}

fn node() -> anyhow::Result<Node> {
    Node::with_busybox().map_err(anyhow::Error::msg)
}

/// `coracle run` of a pod whose container is `true`, from fork to exit. One run first warms the caches.
pub fn run_to_exit(runs: usize) -> anyhow::Result<Vec<f64>> {
    let node = node()?;
    let manifest = node.manifest(pod("bench", json!({"containers": [command("c", &["true"])]})));
    let mut samples = Vec::new();
    for _ in 0..=runs {
        let start = Instant::now();
        let output = node.command(["run".as_ref(), manifest.as_os_str()]).output()?;
        samples.push(since(start));
        ensure!(output.status.success(), "run failed: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(samples.split_off(1))
}

fn running(node: &Node, manifest: serde_json::Value) -> Run {
    let run = node.run(manifest);
    node.wait_for_phase("bench", "Running");
    run
}

/// Ends a run and waits for the end.
pub fn stop(mut run: Run) {
    run.signal(Signal::TERM);
    run.wait();
}

/// `coracle exec` of `true`, from fork to exit.
pub fn exec(runs: usize) -> anyhow::Result<Vec<f64>> {
    let node = node()?;
    let run = running(&node, pod("bench", json!({"containers": [command("c", &["sleep", "1000"])]})));
    let mut samples = Vec::new();
    for _ in 0..=runs {
        let start = Instant::now();
        let output = node.command(["exec", "bench", "-c", "c", "--", "true"]).output()?;
        samples.push(since(start));
        ensure!(output.status.success(), "exec failed: {}", String::from_utf8_lossy(&output.stderr));
    }
    stop(run);
    Ok(samples.split_off(1))
}

/// `coracle image import` into an empty store.
pub fn import(archive: &Path, runs: usize) -> anyhow::Result<Vec<f64>> {
    let mut samples = Vec::new();
    for _ in 0..runs {
        let node = Node::new();
        // The built-in image is made on first use: that is not the import's.
        node.images();
        let start = Instant::now();
        let output = node.command(["image".as_ref(), "import".as_ref(), archive.as_os_str()]).output()?;
        samples.push(since(start));
        ensure!(output.status.success(), "import failed: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(samples)
}

/// Memory in KiB, of ten one-container pods.
pub struct Memory {
    /// All that is private to a shim.
    pub shim: Vec<f64>,
    /// What of it was written.
    pub shim_dirty: Vec<f64>,
    /// All that is private to an idle `serve`.
    pub serve: Vec<f64>,
}

/// What shims and their containers hold when nothing happens.
pub fn memory() -> anyhow::Result<Memory> {
    let node = Node::new();
    let mut memory = Memory { shim: Vec::new(), shim_dirty: Vec::new(), serve: Vec::new() };
    let pods: Vec<_> = (0..10)
        .map(|number| {
            let container = json!({
                "name": "c", "image": "coracle.local/tools", "args": ["serve", "--port", "8080"],
                "env": [{"name": "BENCH", "value": number.to_string()}],
            });
            pod(&format!("bench-{number}"), json!({"containers": [container]}))
        })
        .collect();
    let run = node.run(e2e::manifest::several(&pods));
    for number in 0..10 {
        node.wait_for_phase(&format!("bench-{number}"), "Running");
        let serve = inspect::process_with_environment(&node, &format!("BENCH={number}"));
        let serve = serve.ok_or_else(|| anyhow!("pod bench-{number} has no process"))?;
        let shim = inspect::shim_of(serve).ok_or_else(|| anyhow!("pod bench-{number} has no shim"))?;
        let (clean, dirty) = private(shim)?;
        memory.shim.push(clean + dirty);
        memory.shim_dirty.push(dirty);
        let (clean, dirty) = private(serve)?;
        memory.serve.push(clean + dirty);
    }
    stop(run);
    Ok(memory)
}

/// Private_Clean and Private_Dirty of a process, in KiB.
pub fn private(pid: Pid) -> anyhow::Result<(f64, f64)> {
    let path = format!("/proc/{}/smaps_rollup", pid.as_raw_nonzero());
    let text = std::fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
    let field = |name: &str| -> anyhow::Result<f64> {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        let value = line.and_then(|line| line.trim().strip_suffix(" kB"));
        Ok(value.with_context(|| format!("{path} has no {name}"))?.parse()?)
    };
    Ok((field("Private_Clean")?, field("Private_Dirty")?))
}
