//! A real kubelet on a containerd of its own: what a node of a cluster is without Coracle.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};
use serde_json::json;

use super::containerd::{Containerd, apart};
use super::endpoint::Endpoint as _;
use crate::{Node, Run, leaks, patience};

/// What it sets for the machine as a whole, to be put back.
const SYSCTLS: [&str; 6] = [
    "vm/overcommit_memory",
    "vm/panic_on_oom",
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/keys/root_maxkeys",
    "kernel/keys/root_maxbytes",
];

/// A running kubelet. Dropping it stops it, and what it ran goes with its containerd.
pub struct Kubelet<'n> {
    // Before the containerd: it would start again what that removes.
    run: Stopped,
    containerd: Containerd<'n>,
}

/// A process that is stopped when this is dropped, and then the sysctls that were before it.
struct Stopped {
    run: Run,
    sysctls: Vec<(PathBuf, String)>,
}

impl<'n> Kubelet<'n> {
    /// Starts a program as a node of a cluster. The containerd has the busybox image.
    pub fn start(
        node: &'n Node,
        program: &Path,
        name: &str,
        kubeconfig: &Path,
        authority: &Path,
    ) -> Result<Self, String> {
        let containerd = Containerd::start(node)?;
        let cgroups = containerd.cgroup_parent();
        for hierarchy in leaks::hierarchies() {
            let dir = hierarchy.join(cgroups.trim_start_matches('/'));
            std::fs::create_dir_all(&dir).map_err(|error| format!("cannot create {}: {error}", dir.display()))?;
        }
        let dir = node.make_dir("kubelet");
        // What it mounts for pods has to reach the containerd.
        let volumes = containerd.shared_dir().join("kubelet");
        let config = dir.join("config.yaml");
        let text = json!({
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "containerRuntimeEndpoint": format!("unix://{}", containerd.socket().display()),
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": cgroups,
            "failCgroupV1": false,
            "failSwapOn": false,
            "enforceNodeAllocatable": [],
            "evictionHard": {"memory.available": "1Mi"},
            "imageGCHighThresholdPercent": 100,
            "podLogsDir": node.make_dir("kubelet-logs"),
            "volumePluginDir": dir.join("plugins"),
            "authentication": {"anonymous": {"enabled": false}, "x509": {"clientCAFile": authority}},
        });
        std::fs::write(&config, text.to_string()).map_err(|error| format!("{}: {error}", config.display()))?;
        let mut command = apart(&dir);
        command.arg(program).arg("--config").arg(&config).arg("--kubeconfig").arg(kubeconfig);
        command.arg("--root-dir").arg(&volumes).arg("--cert-dir").arg(dir.join("pki"));
        command.args(["--hostname-override", name]);
        let of = |name: &&str| {
            let path = Path::new("/proc/sys").join(name);
            Some((path.clone(), std::fs::read_to_string(path).ok()?))
        };
        let sysctls = SYSCTLS.iter().filter_map(of).collect();
        let run = Run::start(&mut node.host().command(command), None);
        Ok(Self { run: Stopped { run, sysctls }, containerd })
    }

    /// The kubelet, and its containerd.
    pub fn daemons(&self) -> Vec<Pid> {
        std::iter::once(self.run.run.pid()).chain(self.containerd.pid()).collect()
    }

    /// The processes of its pods: shims, and all in containers.
    pub fn of_pods(&self) -> Vec<Pid> {
        self.containerd.of_pods()
    }

    /// The last that it said, for messages.
    pub fn said(&self) -> String {
        let lines = self.run.run.lines();
        let skipped = lines.len().saturating_sub(20);
        lines[skipped..].iter().map(|line| format!("  {}\n", line.text)).collect()
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        if self.run.is_running() {
            self.run.signal(Signal::TERM);
        }
        let end = Instant::now() + patience(Duration::from_secs(10));
        while self.run.is_running() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(20));
        }
        for (path, value) in &self.sysctls {
            if let Err(error) = std::fs::write(path, value) {
                eprintln!("{}: {error}", path.display());
            }
        }
    }
}
