//! Pods lie by their class, with kubelet's limits.

use std::fs;
use std::path::{Path, PathBuf};

use e2e::agent::container_id;
use e2e::manifest::{keeper, with};
use e2e::{Node, inspect, need};
use serde_json::{Value, json};

use crate::agent;

fn marked(name: &str, resources: Value) -> Value {
    let mut pod = keeper(name);
    let container = &mut pod["spec"]["containers"][0];
    container["env"] = json!([{"name": "MARK", "value": name}]);
    container["resources"] = resources;
    pod
}

/// The directory of a pod's cgroup in a controller's hierarchy.
fn cgroup(node: &Node, pod: &str, controller: &str) -> PathBuf {
    let process = inspect::process_with_environment(node, &format!("MARK={pod}")).expect("the pod runs");
    let container = inspect::cgroup_of(process, controller).expect("the controller is there");
    container.parent().expect("a container is in a pod").to_owned()
}

/// A setting, under whichever of its names it is there, without words that only one version writes.
fn read(dir: &Path, v1: &str, v2: &str) -> String {
    let text = fs::read_to_string(dir.join(v1)).or_else(|_| fs::read_to_string(dir.join(v2)));
    let text = text.unwrap_or_else(|error| panic!("neither {v1} nor {v2} in {}: {error}", dir.display()));
    text.split_whitespace().next().unwrap_or_default().to_owned()
}

fn quota(dir: &Path) -> String {
    read(dir, "cpu.cfs_quota_us", "cpu.max")
}

/// Shares, or the weights that they become.
fn is_shared(dir: &Path, shares: u64, weight: u64) -> bool {
    match fs::read_to_string(dir.join("cpu.shares")) {
        Ok(text) => text.trim() == shares.to_string(),
        Err(_) => read(dir, "cpu.shares", "cpu.weight") == weight.to_string(),
    }
}

#[test]
fn pods_lie_by_their_class_with_their_limits() {
    let node = need!(Node::with_busybox());
    let agent = agent(&node, json!({"podPidsLimit": 64}));
    let full = json!({"limits": {"cpu": "500m", "memory": "64Mi"}});
    for pod in [
        marked("guaranteed", full),
        marked("burstable", json!({"requests": {"cpu": "300m", "memory": "16Mi"}})),
        marked("other", json!({"requests": {"cpu": "200m"}})),
        marked("besteffort", json!({})),
    ] {
        let name = pod["metadata"]["name"].as_str().expect("it has a name").to_owned();
        agent.write(&format!("{name}.yaml"), &pod);
    }
    for name in ["guaranteed", "burstable", "other", "besteffort"] {
        agent.wait_for_running(name);
    }
    for (name, class, place, (shares, weight), cpu, memory) in [
        ("guaranteed", "Guaranteed", "kubepods", (512, 59), "50000", Some(64u64 << 20)),
        ("burstable", "Burstable", "kubepods/burstable", (307, 37), "-1", None),
        ("besteffort", "BestEffort", "kubepods/besteffort", (2, 1), "-1", None),
    ] {
        let pod = node.pod(name).expect("it is there");
        assert_eq!(pod["status"]["qosClass"], class);
        let uid = pod["metadata"]["uid"].as_str().expect("it has a uid");
        let dir = cgroup(&node, name, "cpu");
        assert!(dir.ends_with(format!("{place}/pod{uid}")), "{}", dir.display());
        assert!(is_shared(&dir, shares, weight), "{name}: {}", read(&dir, "cpu.shares", "cpu.weight"));
        let seen = quota(&dir).replace("max", "-1");
        assert_eq!(seen, cpu, "{name}");
        let limit = read(&cgroup(&node, name, "memory"), "memory.limit_in_bytes", "memory.max");
        match memory {
            Some(memory) => assert_eq!(limit, memory.to_string(), "{name}"),
            None => assert!(limit == "max" || limit.parse::<u64>().is_ok_and(|it| it > 1 << 60), "{name}: {limit}"),
        }
        assert_eq!(read(&cgroup(&node, name, "pids"), "pids.max", "pids.max"), "64", "{name}");
        let pages = cgroup(&node, name, "hugetlb");
        let limits = ["hugetlb.2MB.max", "hugetlb.2MB.limit_in_bytes"];
        if let Some(file) = limits.iter().map(|file| pages.join(file)).find(|file| file.exists()) {
            assert_eq!(fs::read_to_string(file).expect("it can be read").trim(), "0", "{name} asked for no huge pages");
        }
    }
    // The classes get what their pods ask for together; that is worked out a moment later.
    let class = |pod: &str| cgroup(&node, pod, "cpu").parent().expect("a pod is in its class").to_owned();
    for (class, shares, weight) in [(class("burstable"), 512, 59), (class("besteffort"), 2, 1)] {
        let shared = inspect::wait_for(|| is_shared(&class, shares, weight).then_some(()));
        assert!(shared.is_some(), "{}: {}", class.display(), read(&class, "cpu.shares", "cpu.weight"));
    }
}

#[test]
fn limits_change_while_the_pod_runs() {
    let node = need!(Node::with_busybox());
    let agent = agent(&node, json!({}));
    let limited = |cpu: &str, memory: &str| json!({"limits": {"cpu": cpu, "memory": memory}});
    agent.write("p.yaml", marked("p", limited("500m", "64Mi")));
    let before = container_id(&agent.wait_for_running("p"), "c");
    let (cpu, memory) = (cgroup(&node, "p", "cpu"), cgroup(&node, "p", "memory"));
    for (limits, quota_us, bytes) in
        [(limited("2", "128Mi"), "200000", 128u64 << 20), (limited("250m", "32Mi"), "25000", 32 << 20)]
    {
        agent.write("p.yaml", marked("p", limits));
        let changed = inspect::wait_for(|| {
            let limit = read(&memory, "memory.limit_in_bytes", "memory.max");
            (quota(&cpu) == quota_us && limit == bytes.to_string()).then_some(())
        });
        assert!(
            changed.is_some(),
            "{} {}\n{}",
            quota(&cpu),
            read(&memory, "memory.limit_in_bytes", "memory.max"),
            agent.said()
        );
    }
    assert_eq!(container_id(&agent.wait_for_running("p"), "c"), before, "nothing was restarted");
}

#[test]
fn nothing_is_left_of_a_pod_that_goes() {
    let node = need!(Node::with_busybox());
    let agent = agent(&node, json!({}));
    agent.write("p.yaml", with(marked("p", json!({})), json!({})));
    agent.wait_for_running("p");
    let dirs = ["cpu", "memory", "pids"].map(|controller| cgroup(&node, "p", controller));
    agent.remove("p.yaml");
    agent.wait_until_gone("p");
    for dir in dirs {
        assert!(inspect::wait_for(|| (!dir.exists()).then_some(())).is_some(), "{} stays", dir.display());
    }
}

#[test]
fn pod_pids_limit_follows_the_settings_for_pods_that_run() {
    let node = need!(Node::with_busybox());
    let mut agent = agent(&node, json!({"podPidsLimit": 64}));
    agent.write("web.yaml", marked("web", json!({})));
    agent.wait_for_running("web");
    let dir = cgroup(&node, "web", "pids");
    let limit = || read(&dir, "pids.max", "pids.max");
    assert_eq!(limit(), "64");
    let path = node.dir().join("config.yaml");
    let mut config: Value = serde_json::from_slice(&fs::read(&path).expect("it is there")).expect("JSON");
    config["podPidsLimit"] = json!(77);
    fs::write(&path, config.to_string()).expect("it is ours");
    agent.run().signal(rustix::process::Signal::HUP);
    assert!(inspect::wait_for(|| (limit() == "77").then_some(())).is_some(), "{}: {}", limit(), agent.said());
    agent.write("late.yaml", marked("late", json!({})));
    agent.wait_for_running("late");
    assert_eq!(read(&cgroup(&node, "late", "pids"), "pids.max", "pids.max"), "77");
}

#[test]
fn what_a_runtime_class_adds_is_the_pods_beyond_its_containers() {
    let node = need!(Node::with_busybox());
    let agent = agent(&node, json!({}));
    let mut pod = marked("p", json!({"limits": {"cpu": "500m", "memory": "64Mi"}}));
    pod["spec"]["overhead"] = json!({"cpu": "250m", "memory": "16Mi"});
    agent.write("p.yaml", &pod);
    agent.wait_for_running("p");
    let (cpu, memory) = (cgroup(&node, "p", "cpu"), cgroup(&node, "p", "memory"));
    let limit = |dir: &Path| read(dir, "memory.limit_in_bytes", "memory.max");
    assert_eq!((quota(&cpu), limit(&memory)), ("75000".to_owned(), (80u64 << 20).to_string()));
    let process = inspect::process_with_environment(&node, "MARK=p").expect("the pod runs");
    let container = inspect::cgroup_of(process, "memory").expect("memory is controlled");
    assert_eq!(limit(&container), (64u64 << 20).to_string());
}
