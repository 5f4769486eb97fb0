//! Pulling one large image from a registry on this machine: Coracle's figures, and containerd's for the same image.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use e2e::registry::{DockerRegistry, inside};
use e2e::{Node, Run, debian, fixtures};

use crate::coracle::since;
use crate::report::Row;

/// How long a daemon may take to answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// What is pulled, and where from.
struct Source {
    node: Node,
    /// Serves until it is dropped.
    _registry: DockerRegistry,
    reference: String,
}

/// Rows of a pull of `megabytes` before compression in `files` files, measured `runs` times each.
pub fn rows(megabytes: usize, files: usize, runs: usize) -> anyhow::Result<Vec<Row>> {
    let archive = fixtures::big(megabytes, files).map_err(anyhow::Error::msg)?;
    let size = std::fs::metadata(&archive)?.len() / 1_000_000;
    let what = format!("pull of {megabytes} MiB, {size} MB gzip, {files} files, 2 layers, from loopback");
    let memory = format!("peak memory of it ({size} MB gzip)");
    let source = match source(&archive) {
        Ok(source) => source,
        Err(why) => return Ok(vec![Row::absent(&what, "ms", "coracle", &why)]),
    };
    // In turns, so that what else the machine does hits both.
    let (mut times, mut peaks, mut theirs) = (Vec::new(), Vec::new(), Ok(Vec::new()));
    for _ in 0..runs {
        let (time, peak) = coracle(&source)?;
        times.push(time);
        peaks.push(peak);
        theirs = theirs.and_then(|mut samples: Vec<f64>| {
            samples.push(containerd(&source)?);
            Ok(samples)
        });
    }
    let ratio = theirs
        .as_ref()
        .map_err(Clone::clone)
        .map(|theirs| times.iter().zip(theirs).map(|(ours, theirs)| 100.0 * ours / theirs).collect::<Vec<_>>());
    Ok(vec![
        Row::new(&what, "ms", "coracle", times),
        Row::of(&what, "ms", "containerd", theirs),
        Row::of("coracle's time of containerd's", "%", "coracle", ratio),
        Row::new(&memory, "KiB", "coracle", peaks),
    ])
}

fn source(archive: &Path) -> Result<Source, String> {
    let node = Node::new();
    let registry = DockerRegistry::open(&node)?;
    let reference = registry.push(&node, archive, "bench/big:1")?;
    // The built-in image is made on first use: that is not the pull's.
    node.images();
    Ok(Source { node, _registry: registry, reference })
}

/// Milliseconds of a pull into a store without the image, and the most memory in KiB that the process had.
fn coracle(source: &Source) -> anyhow::Result<(f64, f64)> {
    rustix::fs::sync();
    let start = Instant::now();
    let mut run = source.node.start(["image", "pull", "--quiet", &source.reference]);
    let mut peak = 0.0;
    while run.is_running() {
        // It never falls, so the last look counts; an ended process has none.
        peak = high_water_mark(run.pid()).unwrap_or(peak);
        std::thread::sleep(Duration::from_millis(2));
    }
    let time = since(start);
    run.wait().exits(0);
    source.node.coracle(["image", "rm", &source.reference]).exits(0);
    Ok((time, peak))
}

/// VmHWM of a process, in KiB.
fn high_water_mark(pid: rustix::process::Pid) -> Option<f64> {
    let text = std::fs::read_to_string(format!("/proc/{}/status", pid.as_raw_nonzero())).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse().ok()
}

/// A containerd with nothing in it and directories of its own.
struct Containerd {
    dir: tempfile::TempDir,
    socket: PathBuf,
    ctr: PathBuf,
    run: Run,
}

impl Containerd {
    fn start(node: &Node) -> Result<Self, String> {
        let (daemon, ctr) = match (debian::which("containerd"), debian::which("ctr")) {
            (Some(daemon), Some(ctr)) => (daemon, ctr),
            // Unpacked, not installed: installing starts a service.
            _ => {
                let root = debian::unpacked(&["containerd"])?;
                (root.join("usr/bin/containerd"), root.join("usr/bin/ctr"))
            }
        };
        // Beside the node's directories: on the same filesystem.
        let dir = tempfile::tempdir_in(node.dir()).map_err(|error| error.to_string())?;
        let (socket, config) = (dir.path().join("sock"), dir.path().join("config.toml"));
        let path = |name: &str| dir.path().join(name).display().to_string();
        let text = format!(
            "version = 2\nroot = \"{}\"\nstate = \"{}\"\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n\
             [grpc]\n  address = \"{}\"\n",
            path("root"),
            path("state"),
            socket.display()
        );
        std::fs::write(&config, text).map_err(|error| error.to_string())?;
        let run = Run::start(inside(node, daemon).args(["--log-level", "error", "--config"]).arg(&config), None);
        let mut containerd = Self { dir, socket, ctr, run };
        let deadline = Instant::now() + PATIENCE;
        while !containerd.answers() {
            if !containerd.run.is_running() || Instant::now() > deadline {
                return Err(format!("containerd does not come up: {:?}", containerd.run.lines()));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(containerd)
    }

    fn answers(&self) -> bool {
        let mut command = Command::new(&self.ctr);
        command.arg("--address").arg(&self.socket).arg("version").stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    }

    fn stop(mut self) {
        if self.run.is_running() {
            self.run.signal(rustix::process::Signal::TERM);
        }
        self.run.wait();
        drop(self.dir);
    }
}

/// Milliseconds of `ctr image pull` into a new containerd, unpacked into overlayfs snapshots.
fn containerd(source: &Source) -> Result<f64, String> {
    let containerd = Containerd::start(&source.node)?;
    rustix::fs::sync();
    // It is the client that resolves the name.
    let mut command = inside(&source.node, &containerd.ctr);
    command.arg("--address").arg(&containerd.socket);
    command.args(["image", "pull", "--plain-http", "--snapshotter", "overlayfs", &source.reference]);
    let start = Instant::now();
    let output = command.output().map_err(|error| format!("ctr: {error}"))?;
    let time = since(start);
    containerd.stop();
    let said = String::from_utf8_lossy(&output.stderr);
    if output.status.success() { Ok(time) } else { Err(said.trim().lines().last().unwrap_or("failed").to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn containerd_pulls_our_image() {
        e2e::need!(e2e::skip::root());
        let source = e2e::need!(source(&e2e::need!(fixtures::big(2, 100))));
        e2e::need!(Containerd::start(&source.node).map(Containerd::stop));
        let time = containerd(&source).expect("containerd works on this machine");
        assert!(time > 1.0, "{time}");
    }

    #[test]
    fn a_process_has_a_high_water_mark() {
        let peak = high_water_mark(rustix::process::getpid()).expect("Linux counts it");
        assert!(peak > 100.0, "{peak}");
    }
}
