//! Looks at a container's processes from the host, where they cannot pretend.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::Node;
use crate::netns::Host;

/// The lowest-numbered process of the node whose environment holds `entry` (`NAME=value`), waiting a moment for it.
///
/// Tests mark the containers that they want to find with a variable of their own.
pub fn process_with_environment(node: &Node, entry: &str) -> Option<Pid> {
    wait_for(|| processes(node).into_iter().find(|pid| environment(*pid).iter().any(|have| have == entry)))
}

/// The network of a pod, by the variable that marks one of its containers.
pub fn network_of(node: &Node, entry: &str) -> Option<Host> {
    Host::of_process(process_with_environment(node, entry)?).ok()
}

/// All processes in the node's cgroups, shims included, by number.
pub fn processes(node: &Node) -> Vec<Pid> {
    in_cgroups(&node.cgroup_root)
}

/// All processes in cgroups below one of this name, by number.
pub fn in_cgroups(root: &str) -> Vec<Pid> {
    let ours = |pid: &Pid| {
        let cgroups = fs::read_to_string(proc_file(*pid, "cgroup")).unwrap_or_default();
        cgroups.lines().any(|line| line.split('/').any(|part| part == root))
    };
    all().into_iter().filter(ours).collect()
}

/// All processes, by number.
pub fn all() -> Vec<Pid> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let mut pids: Vec<i32> = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    pids.sort_unstable();
    pids.into_iter().filter_map(Pid::from_raw).collect()
}

/// The environment that a process was started with; none if it is gone.
pub fn environment(pid: Pid) -> Vec<String> {
    let bytes = fs::read(proc_file(pid, "environ")).unwrap_or_default();
    bytes.split(|byte| *byte == 0).map(|entry| String::from_utf8_lossy(entry).into_owned()).collect()
}

fn proc_file(pid: Pid, file: &str) -> PathBuf {
    Path::new("/proc").join(pid.as_raw_nonzero().to_string()).join(file)
}

/// A field of `/proc/PID/status`.
pub fn status(pid: Pid, key: &str) -> Option<String> {
    let text = fs::read_to_string(proc_file(pid, "status")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
    Some(line.trim().to_owned())
}

/// The parent of a process.
pub fn parent(pid: Pid) -> Option<Pid> {
    Pid::from_raw(status(pid, "PPid")?.parse().ok()?)
}

/// The children of a process.
pub fn children(of: Pid) -> Vec<Pid> {
    all().into_iter().filter(|pid| parent(*pid) == Some(of)).collect()
}

/// The command line of a process, with blanks between the arguments.
pub fn command_line(pid: Pid) -> String {
    let bytes = fs::read(proc_file(pid, "cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&bytes).replace('\0', " ").trim().to_owned()
}

/// The shim above a process: the nearest ancestor that is called so.
pub fn shim_of(pid: Pid) -> Option<Pid> {
    let mut above = parent(pid)?;
    while !command_line(above).starts_with("coracle-shim") {
        above = parent(above)?;
    }
    Some(above)
}

/// The directory of a process' cgroup in the hierarchy that has `controller`.
pub fn cgroup_of(pid: Pid, controller: &str) -> Option<PathBuf> {
    let text = fs::read_to_string(proc_file(pid, "cgroup")).ok()?;
    let path_in = |wanted: &str| {
        let line = text.lines().find(|line| {
            line.split(':').nth(1).is_some_and(|controllers| controllers.split(',').any(|have| have == wanted))
        });
        line.and_then(|line| line.splitn(3, ':').nth(2))
    };
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    let mounted = |kind: &str, option: &str| {
        let line = mounts.lines().find(|line| {
            let rest = line.split_once(" - ").map_or("", |(_, rest)| rest);
            rest.starts_with(kind) && (option.is_empty() || rest.rsplit([' ', ',']).any(|have| have == option))
        })?;
        line.split(' ').nth(4)
    };
    let (mount, path) = match path_in(controller) {
        Some(path) => (mounted("cgroup ", controller)?, path),
        None => (mounted("cgroup2 ", "")?, path_in("")?),
    };
    Some(Path::new(mount).join(path.trim_start_matches('/')))
}

/// Kills a process of a container from outside, as an operator or the kernel would.
pub fn kill(pid: Pid) {
    kill_process(pid, Signal::KILL).unwrap_or_else(|error| panic!("cannot kill {pid:?}: {error}"));
}

/// Waits until something holds; the message says what never did.
#[track_caller]
pub fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    assert!(wait_for(|| holds().then_some(())).is_some(), "never: {what}");
}

/// The first `Some`, before the test's deadline.
pub fn wait_for<T>(mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + crate::deadline();
    loop {
        let found = look();
        if found.is_some() || Instant::now() > deadline {
            return found;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}
