//! Processes that belong to a node.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::process::{Pid, Signal, kill_process};

use super::{Kind, Leak, Scope, names};

/// A process as the checker sees it.
struct Process {
    pid: u32,
    dir: PathBuf,
}

impl Process {
    fn all() -> impl Iterator<Item = Process> {
        let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
        entries.filter_map(|entry| {
            let pid = entry.file_name().to_str()?.parse().ok()?;
            (pid != std::process::id()).then(|| Process { pid, dir: entry.path() })
        })
    }

    // A process may be gone at any line below: then it has nothing to say, and is no leak.
    fn read(&self, file: &str) -> String {
        String::from_utf8_lossy(&fs::read(self.dir.join(file)).unwrap_or_default()).into_owned()
    }

    fn link(&self, file: &str) -> String {
        fs::read_link(self.dir.join(file)).map(|path| path.to_string_lossy().into_owned()).unwrap_or_default()
    }

    fn command(&self) -> String {
        let command = self.read("cmdline").replace('\0', " ").trim().to_owned();
        if command.is_empty() { format!("[{}]", self.read("comm").trim()) } else { command }
    }

    fn status(&self, key: &str) -> String {
        let status = self.read("status");
        let line = status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
        line.unwrap_or_default().trim().to_owned()
    }

    /// Why this process belongs to the node, if it does.
    fn belongs(&self, scope: &Scope, marks: &[String]) -> Option<String> {
        if self.status("State").starts_with('Z') && self.status("PPid") == "1" {
            // What has lost its parent is init's to bury, however slow it is.
            return None;
        }
        let cgroups = self.read("cgroup");
        if let Some(line) = cgroups.lines().find(|line| line.split(['/', ':']).any(|part| part == scope.cgroup_root)) {
            return Some(format!("cgroup {line}"));
        }
        if names(&self.read("cmdline").replace('\0', " "), marks) {
            return Some("its command line".into());
        }
        for link in ["exe", "root", "cwd"] {
            let target = self.link(link);
            if names(&target, marks) {
                return Some(format!("{link} {target}"));
            }
        }
        for entry in fs::read_dir(self.dir.join("fd")).into_iter().flatten().flatten() {
            let target = fs::read_link(entry.path()).unwrap_or_default();
            if names(&target.to_string_lossy(), marks) {
                return Some(format!("descriptor {} {}", entry.file_name().to_string_lossy(), target.display()));
            }
        }
        if self.is_at_home(scope) {
            return Some("it runs the binary in the network namespace of the node's host".into());
        }
        self.is_stray(scope).then(|| "it runs the binary, its parent is gone, and it is in no node's cgroup".into())
    }

    /// Our binary, in the namespace of the node's host, and not started by the test itself: that one it waits for.
    fn is_at_home(&self, scope: &Scope) -> bool {
        let Some(network) = &scope.network else { return false };
        let inode = |path: &Path| fs::metadata(path).map(|data| data.ino()).ok();
        self.runs_binary(scope)
            && inode(&self.dir.join("ns/net")) == Some(network.inode())
            && self.status("PPid") != std::process::id().to_string()
    }

    fn runs_binary(&self, scope: &Scope) -> bool {
        let identity = |path: &Path| fs::metadata(path).map(|data| (data.dev(), data.ino())).ok();
        let Some(binary) = scope.binary.as_deref().and_then(identity) else { return false };
        identity(&self.dir.join("exe")) == Some(binary)
    }

    /// Our binary, adopted by init, and no other node's: a zygote or shim that has lost its way. By the file and not by
    /// the name: other Coracles may run on this machine.
    fn is_stray(&self, scope: &Scope) -> bool {
        self.runs_binary(scope) && self.status("PPid") == "1" && !self.read("cgroup").contains("/coracle-e2e-")
    }

    fn describe(&self, why: &str) -> String {
        let (state, parent) = (self.status("State"), self.status("PPid"));
        format!("{} `{}` (state {state}, parent {parent}): {why}", self.pid, self.command())
    }
}

/// Every process of the node.
pub(super) fn find(scope: &Scope, marks: &[String]) -> Vec<Leak> {
    let found = Process::all().filter_map(|process| {
        let why = process.belongs(scope, marks)?;
        Some(Leak::new(Kind::Process, process.describe(&why)))
    });
    found.collect()
}

/// Kills every process of the node, again until none is found: some fork while others die.
pub(super) fn kill(scope: &Scope, marks: &[String]) {
    for _ in 0..50 {
        let mut found = false;
        for process in Process::all().filter(|process| process.belongs(scope, marks).is_some()) {
            found = true;
            if let Some(pid) = i32::try_from(process.pid).ok().and_then(Pid::from_raw) {
                // ESRCH: it was faster.
                let _ = kill_process(pid, Signal::KILL);
            }
        }
        if !found {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}
