//! The three pid namespaces that a pod may ask for.

use e2e::manifest::{pod, shell, with};
use e2e::{Node, inspect, need};
use rustix::process::{Pid, Signal};
use serde_json::{Value, json};

/// Leaves an orphan that ends at once, and says what process 1 is and how many zombies there stay.
const ORPHANS: &str = "\
    sh -c '(sh -c \"sleep 0.1; exit 0\" &) ; exit 0'; \
    sleep 0.5; \
    echo one $(cat /proc/1/comm); \
    echo self $$; \
    n=0; while cat /proc/[0-9]*/stat 2>/dev/null | grep -q ') Z ' && [ $n -lt 200 ]; do n=$((n+1)); sleep 0.1; done; \
    echo zombies $(cat /proc/[0-9]*/stat 2>/dev/null | grep -c ') Z '); \
    echo ready";

fn container(script: &str) -> Value {
    with(shell("app", script), json!({"env": [{"name": "MARK", "value": "app"}]}))
}

#[test]
fn by_default_process_1_is_the_app_and_nothing_else_is_there() {
    let node = need!(Node::with_busybox());
    let spec = json!({"containers": [
        container("echo self $$; echo one $(cat /proc/1/comm); set -- /proc/[0-9]*; echo count $#"),
        shell("other", "echo self $$"),
    ]});
    let finished = node.run_to_end(pod("own", spec)).exits(0);
    assert_eq!(finished.value("own/app", "self"), "1");
    assert_eq!(finished.value("own/app", "one"), "sh");
    assert_eq!(finished.value("own/app", "count"), "1", "processes of others are visible\n{finished}");
    assert_eq!(finished.value("own/other", "self"), "1");
}

#[test]
fn in_a_namespace_of_its_own_the_app_reaps_the_orphans() {
    let node = need!(Node::with_busybox());
    // busybox's shell waits for any child when it waits for one.
    let spec = json!({"containers": [container(ORPHANS)]});
    let finished = node.run_to_end(pod("own", spec)).exits(0);
    assert_eq!(finished.value("own/app", "zombies"), "0", "{finished}");
}

#[test]
fn in_a_shared_namespace_process_1_is_not_the_app_and_reaps_the_orphans() {
    let node = need!(Node::with_busybox());
    let spec = json!({"shareProcessNamespace": true, "containers": [
        container(ORPHANS),
        shell("other", "sleep 3; echo done"),
    ]});
    let finished = node.run_to_end(pod("shared", spec)).exits(0);
    assert_ne!(finished.value("shared/app", "self"), "1");
    assert_ne!(finished.value("shared/app", "one"), "sh");
    assert_eq!(finished.value("shared/app", "zombies"), "0", "{finished}");
}

#[test]
fn containers_of_a_shared_namespace_see_each_other() {
    let node = need!(Node::with_busybox());
    let spec = json!({"shareProcessNamespace": true, "containers": [
        shell("watched", "exec sleep 4321"),
        shell("watcher", "until grep -q 4321 /proc/[0-9]*/cmdline 2>/dev/null; do sleep 0.1; done; echo seen; pkill -f 'sleep 4321' || killall sleep"),
    ]});
    node.run_to_end(pod("shared", spec)).says("shared/watcher | seen");
}

#[test]
fn a_container_restarts_into_the_shared_namespace() {
    let node = need!(Node::with_busybox());
    let spec = json!({"restartPolicy": "Always", "shareProcessNamespace": true, "containers": [
        container("echo namespace $(readlink /proc/self/ns/pid); echo one $(cat /proc/1/comm); sleep 0.2; exit 1"),
        shell("other", "echo namespace $(readlink /proc/self/ns/pid); exec sleep 1000"),
    ]});
    let mut run = node.run_with(pod("shared", spec), &["--restart-backoff", "initial=100ms,max=200ms"]);
    node.wait_for_pod("shared", "restarted twice", |pod| {
        let statuses = pod["status"]["containerStatuses"].as_array().cloned().unwrap_or_default();
        statuses.iter().any(|status| status["restartCount"].as_u64() >= Some(2))
    });
    run.signal(Signal::TERM);
    let finished = run.wait();
    let mut namespaces = finished.of("shared/app");
    namespaces.extend(finished.of("shared/other"));
    namespaces.retain(|line| line.starts_with("namespace "));
    assert!(namespaces.len() >= 4, "{finished}");
    namespaces.sort();
    namespaces.dedup();
    assert_eq!(namespaces.len(), 1, "the container came back into another pid namespace: {namespaces:?}");
}

#[test]
fn with_host_pid_the_container_sees_the_hosts_processes_and_its_orphans_are_reaped() {
    let node = need!(Node::with_busybox());
    let script = format!("echo namespace $(readlink /proc/self/ns/pid); {ORPHANS}; exec sleep 1000");
    let spec = json!({"hostPID": true, "containers": [container(&script)]});
    let mut run = node.run(pod("host", spec));
    run.wait_for("ready");
    let pid = inspect::process_with_environment(&node, "MARK=app").expect("the container runs");
    let shim = inspect::shim_of(pid).expect("it has a shim");
    let zombies = || {
        let is_one = |pid: &Pid| inspect::status(*pid, "State").is_some_and(|state| state.starts_with('Z'));
        let all = inspect::processes(&node).into_iter().filter(is_one);
        all.map(|pid| format!("{pid:?} below {:?} (the shim is {shim:?})", inspect::parent(pid))).collect::<Vec<_>>()
    };
    assert!(inspect::wait_for(|| zombies().is_empty().then_some(())).is_some(), "{:?}", zombies());
    run.signal(Signal::TERM);
    let finished = run.wait();
    let host = std::fs::read_link("/proc/self/ns/pid").expect("procfs");
    assert_eq!(finished.value("host/app", "namespace"), host.to_string_lossy());
    let init = std::fs::read_to_string("/proc/1/comm").expect("procfs");
    assert_eq!(finished.value("host/app", "one"), init.trim());
    node.assert_nothing_left();
}

#[test]
fn what_the_main_process_leaves_running_dies_with_it() {
    let node = need!(Node::with_busybox());
    for (name, more) in
        [("own", json!({})), ("shared", json!({"shareProcessNamespace": true})), ("host", json!({"hostPID": true}))]
    {
        let spec = with(more, json!({"containers": [shell("c", "setsid sleep 1000 & sleep 0.2; echo gone; exit 0")]}));
        node.run_to_end(pod(name, spec)).exits(0).says("gone");
        node.assert_nothing_left();
    }
}
