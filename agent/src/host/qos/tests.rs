#![allow(clippy::unwrap_used)]
use super::*;
use crate::engine::config::Cgroups;
use serde_json::json;

/// A root of its own for each test, taken away with everything in it.
struct Place {
    settings: Settings,
    cgroups: PodCgroups,
    root: Hierarchies,
}

impl Place {
    fn new(name: &str) -> Option<Place> {
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped: cgroups take root");
            return None;
        }
        let cgroup_root = format!("coracle-qos-test-{name}-{}", std::process::id());
        let cgroups = Cgroups { per_qos: true, ..Cgroups::default() };
        let settings = Settings { cgroup_root: cgroup_root.clone(), cgroups, ..Settings::default() };
        let cgroups = PodCgroups::open(Path::new("/proc"), &settings).unwrap();
        let root = Hierarchies::discover(Path::new("/proc"), &cgroup_root).unwrap();
        Some(Place { settings, cgroups, root })
    }

    fn exists(&self, path: &str) -> bool {
        self.root.exists(&format!("{}/kubepods{path}", self.settings.cgroup_root)).unwrap()
    }

    /// A setting, as whichever version of cgroups is here has it.
    fn read(&self, path: &str, v1: (&str, &str), v2: &str) -> String {
        let path = format!("{}/kubepods{path}", self.settings.cgroup_root);
        let controller: Controller = v1.0.parse().unwrap();
        let mount = self.root.mounts().find(|mount| mount.has(controller)).unwrap();
        let file = if mount.version == runtime::cgroup::Version::V1 { v1.1 } else { v2 };
        std::fs::read_to_string(mount.point.join(path).join(file)).unwrap().trim().to_owned()
    }

    fn shares(&self, path: &str) -> u64 {
        let text = self.read(path, ("cpu", "cpu.shares"), "cpu.weight");
        text.parse().unwrap()
    }

    /// The same shares in the version that is here.
    fn here(&self, shares: u64) -> u64 {
        let cpu = self.root.mounts().find(|mount| mount.has(Controller::Cpu)).unwrap();
        if cpu.version == runtime::cgroup::Version::V1 { shares } else { runtime::cgroup::shares_to_weight(shares) }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let gone = self.root.prune();
        if !std::thread::panicking() {
            assert!(gone.unwrap(), "nothing is left of the test's cgroups");
        }
    }
}

fn pod(uid: &str, resources: serde_json::Value) -> Pod {
    let spec = json!({"containers": [{"name": "c", "resources": resources}]});
    serde_json::from_value(json!({"metadata": {"name": uid, "uid": uid}, "spec": spec})).unwrap()
}

#[test]
fn a_pods_cgroup_lies_by_its_class_and_has_its_limits() {
    let Some(place) = Place::new("limits") else { return };
    let full = json!({"limits": {"cpu": "500m", "memory": "64Mi"}});
    for (pod, path, shares, memory) in [
        (pod("g", full), "/podg", 512, Some(64u64 << 20)),
        (pod("b", json!({"requests": {"cpu": "100m"}})), "/burstable/podb", 102, None),
        (pod("e", json!({})), "/besteffort/pode", 2, None),
    ] {
        place.cgroups.prepare(&pod, &place.settings, false).unwrap();
        assert_eq!(place.shares(path), place.here(shares), "{path}");
        let limit = place.read(path, ("memory", "memory.limit_in_bytes"), "memory.max");
        match memory {
            Some(memory) => assert_eq!(limit, memory.to_string(), "{path}"),
            None => {
                assert!(limit.parse::<u64>().is_ok_and(|limit| limit > 1 << 60) || limit == "max", "{path}: {limit}")
            }
        }
    }
    let uids: BTreeSet<String> = ["g", "b", "e"].map(str::to_owned).into();
    assert_eq!(place.cgroups.uids().unwrap(), uids);
    assert!(place.cgroups.usage("b").unwrap().is_some() && place.cgroups.usage("x").unwrap().is_none());
    for uid in ["g", "b", "e", "x"] {
        place.cgroups.remove(uid).unwrap();
    }
    assert!(!place.exists("/podg") && !place.exists("/burstable/podb") && !place.exists("/besteffort/pode"));
}

#[test]
fn limits_change_with_the_pod() {
    let Some(place) = Place::new("change") else { return };
    let quota = |place: &Place| place.read("/podp", ("cpu", "cpu.cfs_quota_us"), "cpu.max");
    let limited = |cpu: &str| pod("p", json!({"limits": {"cpu": cpu, "memory": "64Mi"}}));
    place.cgroups.prepare(&limited("500m"), &place.settings, false).unwrap();
    assert!(quota(&place).starts_with("50000"), "{}", quota(&place));
    place.cgroups.prepare(&limited("2"), &place.settings, false).unwrap();
    assert!(quota(&place).starts_with("200000"), "{}", quota(&place));
    place.cgroups.prepare(&limited("2"), &place.settings, true).unwrap();
    assert!(["-1", "max 100000"].contains(&quota(&place).as_str()), "{}", quota(&place));
    place.cgroups.prepare(&limited("500m"), &place.settings, false).unwrap();
    let unlimited =
        Settings { cgroups: Cgroups { cpu_quota: false, ..place.settings.cgroups.clone() }, ..place.settings.clone() };
    place.cgroups.prepare(&limited("2"), &unlimited, false).unwrap();
    assert!(["-1", "max 100000"].contains(&quota(&place).as_str()), "{}", quota(&place));
}

#[test]
fn classes_share_as_their_pods_ask() {
    let Some(place) = Place::new("classes") else { return };
    let asks = |uid: &str, cpu: &str| pod(uid, json!({"requests": {"cpu": cpu}}));
    let guaranteed = pod("g", json!({"limits": {"cpu": "4", "memory": "64Mi"}}));
    let pods = [asks("a", "500m"), asks("b", "1"), guaranteed, pod("e", json!({}))];
    let bounds = Bounds { cpu_milli: 2000, memory: Some(1 << 30), pids: Some(1000) };
    place.cgroups.balance(pods.iter(), &bounds).unwrap();
    for (path, shares) in [("", 2048), ("/burstable", 1536), ("/besteffort", 2)] {
        assert_eq!(place.shares(path), place.here(shares), "{path}");
    }
    assert_eq!(place.read("", ("memory", "memory.limit_in_bytes"), "memory.max"), (1u64 << 30).to_string());
    assert_eq!(place.read("", ("pids", "pids.max"), "pids.max"), "1000");
    place.cgroups.balance([].into_iter(), &Bounds { cpu_milli: 2000, ..Bounds::default() }).unwrap();
    assert_eq!(place.shares("/burstable"), place.here(2));
    assert_eq!(place.read("", ("pids", "pids.max"), "pids.max"), "max");
    assert!(place.cgroups.usage_of_all().unwrap().is_some());
}
