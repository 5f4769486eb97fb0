//! What only a host with cgroup v2 alone, or with every capability, can show.

use std::path::{Path, PathBuf};
use std::process::Command;

use e2e::manifest::{pod, script_with, shell, with};
use e2e::{Node, inspect, need};
use rustix::process::Signal;
use serde_json::{Value, json};

/// The mount of cgroup v2, if it has what limits need.
fn unified() -> Result<PathBuf, String> {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").map_err(|error| error.to_string())?;
    let line = mounts.lines().find(|line| line.contains(" - cgroup2 "));
    let point = line.and_then(|line| line.split(' ').nth(4)).map(PathBuf::from).ok_or("cgroup v2 is not mounted")?;
    let controllers = std::fs::read_to_string(point.join("cgroup.controllers")).map_err(|error| error.to_string())?;
    let has = |name: &str| controllers.split_whitespace().any(|have| have == name);
    if ["cpu", "memory", "pids", "io"].iter().all(|name| has(name)) {
        Ok(point)
    } else {
        Err(format!("cgroup v2 has only the controllers {:?}: it is not the host's only version", controllers.trim()))
    }
}

/// A keeper whose container is marked for [`inspect`].
fn marked(container: Value) -> Value {
    let mark = json!({"env": [{"name": "MARK", "value": "unified"}]});
    pod("marked", json!({"containers": [with(with(shell("c", "echo up; exec sleep 1000"), mark), container)]}))
}

/// The directory of the marked container's cgroup.
fn cgroup(node: &Node) -> PathBuf {
    let pid = inspect::process_with_environment(node, "MARK=unified").expect("the container runs");
    inspect::cgroup_of(pid, "memory").expect("it has a cgroup")
}

fn read(dir: &Path, file: &str) -> String {
    let path = dir.join(file);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())).trim().to_owned()
}

#[test]
fn limits_are_in_the_files_of_version_2() {
    need!(unified());
    let node = need!(Node::with_busybox());
    let resources = json!({"requests": {"cpu": "500m"}, "limits": {"cpu": "750m", "memory": "48Mi"}});
    let mut run = node.run(marked(json!({"resources": resources})));
    run.wait_for("| up");
    let dir = cgroup(&node);
    for (file, expected) in [
        ("cpu.max", "75000 100000"),
        // 512 shares of version 1 on version 2's scale, as runtimes convert them since 2025.
        ("cpu.weight", "59"),
        ("memory.max", "50331648"),
        ("memory.oom.group", "1"),
        ("cgroup.type", "domain"),
    ] {
        assert_eq!(read(&dir, file), expected, "{file}");
    }
    run.signal(Signal::TERM);
    run.wait();
    node.assert_nothing_left();
}

#[test]
fn running_out_of_memory_ends_the_whole_container() {
    need!(unified());
    let node = need!(Node::with_busybox());
    // The shell would outlive its child, as it does where the kernel ends one process alone.
    let script = "dd if=/dev/zero of=/dev/null bs=200M count=1; echo outlived; sleep 1000";
    let finished =
        node.run_to_end(script_with(script, json!({"resources": {"limits": {"memory": "24Mi"}}}))).exits(137);
    finished.says("OOMKilled").never_says("outlived");
    node.assert_nothing_left();
}

#[test]
fn no_process_is_in_a_cgroup_that_has_cgroups_with_controllers_below_it() {
    let root = need!(unified());
    let node = need!(Node::with_busybox());
    let mut run = node.run(marked(json!({})));
    run.wait_for("| up");
    let mut exec = node.start(["exec", "marked", "-c", "c", "--", "sh", "-c", "echo inside; exec sleep 1000"]);
    exec.wait_for("inside");
    let container = cgroup(&node);
    let mut dir = container.parent().expect("it is below the root");
    while dir != root {
        assert_eq!(read(dir, "cgroup.procs"), "", "{} has processes", dir.display());
        let enabled = read(dir, "cgroup.subtree_control");
        for controller in ["cpu", "memory", "pids", "io"] {
            assert!(enabled.contains(controller), "{} has {enabled}", dir.display());
        }
        dir = dir.parent().expect("the root is above");
    }
    // The command is in a leaf of its own without controllers: its container's limits hold for both.
    assert_eq!(read(&container, "cgroup.subtree_control"), "");
    assert_eq!(read(&container, "pids.current"), "2");
    run.signal(Signal::TERM);
    run.wait();
    exec.wait();
    node.assert_nothing_left();
}

#[test]
fn a_container_sees_its_own_cgroup_as_the_root_and_cannot_change_it() {
    need!(unified());
    let node = need!(Node::with_busybox());
    let script = "cat /proc/self/cgroup; cat /sys/fs/cgroup/memory.max; echo max > /sys/fs/cgroup/memory.max; \
                  mkdir /sys/fs/cgroup/below; ls /sys/fs/cgroup/cgroup.kill";
    let finished = node.run_to_end(script_with(script, json!({"resources": {"limits": {"memory": "32Mi"}}})));
    finished.exits(0).says("0::/").says("33554432").says("Read-only file system").never_says("0::/..");
}

#[test]
fn a_cgroup_with_processes_of_its_own_is_refused_with_what_to_do() {
    let root = need!(unified());
    let mut node = need!(Node::with_busybox());
    // As in a service whose main process shares the delegated cgroup with what it starts.
    let outer = root.join(&node.cgroup_root);
    std::fs::create_dir_all(&outer).expect("a cgroup can be made");
    let mut holder = Command::new("sleep").arg("1000").spawn().expect("sleep starts");
    std::fs::write(outer.join("cgroup.procs"), holder.id().to_string()).expect("it can be moved");
    let pod = script_with("echo ran", json!({"resources": {"limits": {"memory": "32Mi"}}}));
    let finished = node.run_to_end(pod);
    holder.kill().and_then(|()| holder.wait().map(drop)).expect("it can be killed");
    node.on_drop(move || drop(std::fs::remove_dir(outer)));
    assert_eq!(finished.status.code(), Some(125), "{finished}");
    finished.says("memory limit cannot be enforced").says("has processes of its own: move them").never_says("| ran");
}

#[test]
fn a_pod_whose_requests_are_its_limits_is_the_last_to_be_killed() {
    let node = need!(Node::with_busybox());
    let effective =
        inspect::status(rustix::process::getpid(), "CapEff").and_then(|it| u64::from_str_radix(&it, 16).ok());
    // CAP_SYS_RESOURCE
    if effective.is_none_or(|set| set & 1 << 24 == 0) {
        e2e::skip!("CAP_SYS_RESOURCE is missing: oom_score_adj cannot be lowered");
    }
    let limits = json!({"cpu": "100m", "memory": "32Mi"});
    let mut run = node.run(marked(json!({"resources": {"requests": limits, "limits": limits}})));
    run.wait_for("| up");
    let pid = inspect::process_with_environment(&node, "MARK=unified").expect("the container runs");
    let file = format!("/proc/{}/oom_score_adj", pid.as_raw_nonzero());
    assert_eq!(std::fs::read_to_string(file).expect("it lives").trim(), "-997");
    run.signal(Signal::TERM);
    run.wait();
}

#[test]
fn a_raised_capability_is_held_and_used() {
    let node = need!(Node::with_busybox());
    let effective = inspect::status(rustix::process::getpid(), "CapEff").unwrap_or_default();
    if effective != "000001ffffffffff" {
        e2e::skip!("not every capability is there: {effective}");
    }
    let context = |capabilities: Value| json!({"securityContext": {"capabilities": capabilities}});
    let script = "grep CapEff /proc/self/status; ulimit -Hn 1000000 && echo raised";
    let all = node.run_to_end(script_with(script, context(json!({"add": ["ALL"]}))));
    all.says("CapEff:\t000001ffffffffff").says("raised");
    node.run_to_end(script_with(script, context(json!({})))).never_says("raised");
}

#[test]
fn a_fork_bomb_is_killed_at_once_and_whole() {
    need!(unified());
    let node = need!(Node::with_busybox());
    let bomb = "f() { while :; do sleep 0.01 & sleep 0.02; done; }; for i in 1 2 3 4; do f & done; echo up; f";
    let mut pod = pod("bomb", json!({"containers": [shell("c", bomb)]}));
    pod["spec"]["terminationGracePeriodSeconds"] = json!(0);
    let mut run = node.run(pod);
    run.wait_for("| up");
    run.signal(Signal::TERM);
    run.wait();
    node.assert_nothing_left();
}
