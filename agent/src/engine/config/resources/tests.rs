#![allow(clippy::unwrap_used)]
use super::super::{Cgroups, Hugepages, PidsLimit};
use super::*;
use serde_json::json;

fn spec(resources: serde_json::Value) -> PodSpec {
    serde_json::from_value(json!({"containers": [{"name": "a", "resources": resources}]})).unwrap()
}

fn linux(resources: serde_json::Value) -> cri::LinuxContainerResources {
    let spec = spec(resources);
    of_container(&spec, &spec.containers[0], &settings())
}

fn settings() -> Settings {
    let hugepages = vec![Hugepages { size: 2 << 20, count: 8 }, Hugepages { size: 1 << 30, count: 0 }];
    Settings { node: Node { memory_bytes: 1 << 30, hugepages, ..Node::default() }, ..Settings::default() }
}

/// A pod whose containers have these resources, and the first ones in an init container each.
fn pod(init: &[serde_json::Value], containers: &[serde_json::Value]) -> PodSpec {
    let named = |prefix: &str, list: &[serde_json::Value]| {
        let one = |(index, resources): (usize, &serde_json::Value)| {
            let policy = resources.get("sidecar").map(|_| "Always");
            let mut container = json!({"name": format!("{prefix}{index}"), "resources": resources});
            if let Some(policy) = policy {
                container["restartPolicy"] = json!(policy);
            }
            container
        };
        list.iter().enumerate().map(one).collect::<Vec<_>>()
    };
    serde_json::from_value(json!({"initContainers": named("i", init), "containers": named("c", containers)})).unwrap()
}

#[test]
fn cpu_becomes_shares_and_quota() {
    for (request, limit, shares, quota) in [
        (None, None, 2, 0),
        (Some("1m"), None, 2, 0),
        (Some("100m"), None, 102, 0),
        (Some("2"), None, 2048, 0),
        (None, Some("500m"), 512, 50_000),
        (Some("100m"), Some("1m"), 102, 1000),
        (Some("1000"), None, 262_144, 0),
    ] {
        let mut resources = json!({});
        if let Some(request) = request {
            resources["requests"] = json!({"cpu": request});
        }
        if let Some(limit) = limit {
            resources["limits"] = json!({"cpu": limit});
        }
        let linux = linux(resources);
        assert_eq!((linux.cpu_shares, linux.cpu_quota), (shares, quota), "{request:?} {limit:?}");
        assert_eq!(linux.cpu_period, if quota == 0 { 0 } else { 100_000 });
    }
}

#[test]
fn the_oom_score_follows_the_class() {
    let both = json!({"cpu": "1", "memory": "256Mi"});
    for (resources, class, score) in [
        (json!({}), Qos::BestEffort, 1000),
        (json!({"limits": both}), Qos::Guaranteed, -997),
        (json!({"limits": both, "requests": {"cpu": "1", "memory": "256Mi"}}), Qos::Guaranteed, -997),
        (json!({"limits": both, "requests": {"cpu": "1", "memory": "128Mi"}}), Qos::Burstable, 875),
        (json!({"requests": {"memory": "512Mi"}}), Qos::Burstable, 500),
        (json!({"requests": {"cpu": "1"}}), Qos::Burstable, 999),
        (json!({"requests": {"memory": "64Gi"}}), Qos::Burstable, 3),
    ] {
        assert_eq!(Qos::of(&spec(resources.clone())), class, "{resources}");
        assert_eq!(linux(resources.clone()).oom_score_adj, score, "{resources}");
    }
}

#[test]
fn memory_and_huge_pages_are_limited() {
    let linux = linux(json!({"limits": {"memory": "64Mi", "hugepages-2Mi": "4Mi", "hugepages-1Gi": "1Gi"}}));
    assert_eq!(linux.memory_limit_in_bytes, 64 << 20);
    let pages: Vec<_> = linux.hugepage_limits.iter().map(|page| (page.page_size.as_str(), page.limit)).collect();
    assert_eq!(pages, [("1GB", 1 << 30), ("2MB", 4 << 20)]);
}

#[test]
fn a_pod_is_limited_only_when_every_container_is() {
    let first = json!({"limits": {"cpu": "500m", "memory": "64Mi"}});
    let limited = of_pod(&pod(&[], &[first.clone(), first.clone()]), &settings());
    assert_eq!((limited.memory_limit_in_bytes, limited.cpu_quota, limited.cpu_shares), (128 << 20, 100_000, 1024));
    let open = of_pod(&pod(&[], &[first, json!({})]), &settings());
    assert_eq!((open.memory_limit_in_bytes, open.cpu_quota, open.cpu_shares), (0, 0, 512));
}

#[test]
fn the_cgroup_of_a_pod_has_kubelets_limits() {
    let full = |cpu: &str, memory: &str| json!({"limits": {"cpu": cpu, "memory": memory}});
    let asks = |cpu: &str, memory: &str| json!({"requests": {"cpu": cpu, "memory": memory}});
    let sidecar = |cpu: &str, memory: &str| json!({"limits": {"cpu": cpu, "memory": memory}, "sidecar": true});
    for (what, spec, shares, quota, memory) in [
        ("guaranteed", pod(&[], &[full("500m", "64Mi")]), 512, 50_000, 64 << 20),
        ("burstable without limits", pod(&[], &[asks("100m", "64Mi")]), 102, -1, -1),
        ("burstable with one open container", pod(&[], &[full("1", "64Mi"), asks("100m", "1Mi")]), 1126, -1, -1),
        ("best effort", pod(&[], &[json!({})]), 2, -1, -1),
        ("an init container that needs more", pod(&[full("2", "1Gi")], &[full("1", "64Mi")]), 2048, 200_000, 1 << 30),
        ("an open init container", pod(&[json!({})], &[full("1", "64Mi")]), 1024, -1, -1),
        ("a sidecar beside containers", pod(&[sidecar("1", "64Mi")], &[full("1", "64Mi")]), 2048, 200_000, 128 << 20),
        (
            "a sidecar beside a later init container",
            pod(&[sidecar("1", "64Mi"), full("3", "64Mi")], &[full("1", "64Mi")]),
            4096,
            400_000,
            128 << 20,
        ),
        (
            "a sidecar after an init container",
            pod(&[full("3", "64Mi"), sidecar("1", "64Mi")], &[full("1", "64Mi")]),
            3072,
            300_000,
            128 << 20,
        ),
    ] {
        let limits = cgroup_of_pod(&spec, &settings());
        let seen = (limits.cpu_shares, limits.cpu_quota, limits.memory_limit);
        assert_eq!(seen, (Some(shares), Some(quota), Some(memory)), "{what}");
        assert_eq!(limits.cpu_period, (quota > 0).then_some(100_000), "{what}");
    }
}

#[test]
fn what_the_pod_says_itself_counts_instead() {
    let mut spec = pod(&[], &[json!({"limits": {"cpu": "4", "memory": "1Gi"}}), json!({})]);
    let own = json!({"requests": {"cpu": "1", "memory": "128Mi"}, "limits": {"cpu": "2", "memory": "256Mi"}});
    spec.resources = serde_json::from_value(own).unwrap();
    assert_eq!(Qos::of(&spec), Qos::Burstable);
    let limits = cgroup_of_pod(&spec, &settings());
    let seen = (limits.cpu_shares, limits.cpu_quota, limits.memory_limit);
    assert_eq!(seen, (Some(1024), Some(200_000), Some(256 << 20)));
    spec.resources = serde_json::from_value(json!({"limits": {"cpu": "2", "memory": "256Mi"}})).unwrap();
    assert_eq!(Qos::of(&spec), Qos::Guaranteed);
    assert_eq!(cgroup_of_pod(&spec, &settings()).cpu_shares, Some(2048));
    spec.resources = serde_json::from_value(json!({"limits": {"memory": "256Mi"}})).unwrap();
    assert_eq!(Qos::of(&spec), Qos::Burstable);
    assert_eq!(cgroup_of_pod(&spec, &settings()).cpu_quota, Some(-1));
}

#[test]
fn processes_and_periods_are_the_nodes_to_set() {
    let spec = pod(&[], &[json!({"limits": {"cpu": "500m", "memory": "64Mi"}})]);
    let mut settings = settings();
    assert_eq!(cgroup_of_pod(&spec, &settings).pids_limit, Some(-1));
    settings.cgroups = Cgroups { pids_limit: PidsLimit::new(Some(100)), cpu_period: 10_000, ..Cgroups::default() };
    let limits = cgroup_of_pod(&spec, &settings);
    assert_eq!((limits.pids_limit, limits.cpu_period, limits.cpu_quota), (Some(100), Some(10_000), Some(5000)));
    let linux = of_container(&spec, &spec.containers[0], &settings);
    assert_eq!((linux.cpu_period, linux.cpu_quota), (10_000, 5000));
    settings.cgroups.cpu_quota = false;
    assert_eq!(cgroup_of_pod(&spec, &settings).cpu_quota, Some(-1));
    assert_eq!(of_container(&spec, &spec.containers[0], &settings).cpu_quota, 0);
}

#[test]
fn huge_pages_that_a_pod_does_not_ask_for_are_not_there() {
    let spec = pod(&[], &[json!({"limits": {"hugepages-2Mi": "4Mi"}}), json!({"limits": {"hugepages-2Mi": "2Mi"}})]);
    let pages = cgroup_of_pod(&spec, &settings()).hugepages;
    let pages: Vec<_> = pages.iter().map(|page| (page.page_size.as_str(), page.limit)).collect();
    assert_eq!(pages, [("2MB", 6 << 20), ("1GB", 0)]);
}

#[test]
fn a_critical_pod_is_killed_last() {
    for (class, score) in [("system-node-critical", -997), ("system-cluster-critical", 1000), ("else", 1000)] {
        let mut spec = pod(&[], &[json!({})]);
        spec.priority_class_name = Some(class.to_owned());
        assert_eq!(of_container(&spec, &spec.containers[0], &settings()).oom_score_adj, score, "{class}");
    }
    let mut spec = pod(&[], &[json!({})]);
    (spec.priority, spec.priority_class_name) = (Some(5), Some("system-node-critical".into()));
    assert_eq!(priority(&spec), 5, "the number is what counts");
}

#[test]
fn a_sidecar_is_not_killed_before_those_that_it_serves() {
    let asks = |memory: &str| json!({"requests": {"memory": memory}});
    let spec = pod(&[json!({"requests": {"memory": "1Mi"}, "sidecar": true})], &[asks("256Mi"), asks("512Mi")]);
    let score = |container: &Container| of_container(&spec, container, &settings()).oom_score_adj;
    assert_eq!(score(&spec.init_containers.as_ref().unwrap()[0]), 750);
    assert_eq!(score(&spec.containers[1]), 500);
}

#[test]
fn what_a_pod_asks_for_beyond_its_containers_counts_for_each() {
    let asks = json!({"requests": {"memory": "256Mi"}});
    let mut spec = pod(&[], &[asks.clone(), asks]);
    spec.resources = serde_json::from_value(json!({"requests": {"memory": "768Mi"}})).unwrap();
    assert_eq!(of_container(&spec, &spec.containers[0], &settings()).oom_score_adj, 625);
}

#[test]
fn what_a_runtime_class_adds_is_the_pods_and_no_containers() {
    let mut spec = spec(json!({"limits": {"cpu": "500m", "memory": "64Mi"}}));
    spec.overhead = serde_json::from_value(json!({"cpu": "250m", "memory": "16Mi"})).unwrap();
    let cgroup = cgroup_of_pod(&spec, &settings());
    assert_eq!((cgroup.cpu_shares, cgroup.cpu_quota, cgroup.memory_limit), (Some(768), Some(75_000), Some(80 << 20)));
    let containers = of_pod(&spec, &settings());
    assert_eq!((containers.cpu_shares, containers.cpu_quota), (512, 50_000));
    assert_eq!(containers.memory_limit_in_bytes, 64 << 20);
    let overhead = of_overhead(&spec, &settings()).unwrap();
    assert_eq!((overhead.cpu_shares, overhead.cpu_quota, overhead.memory_limit_in_bytes), (256, 25_000, 16 << 20));
    // Without a limit there is still none; and nothing added is nothing told.
    spec.containers[0].resources = None;
    assert_eq!((cgroup_of_pod(&spec, &settings()).memory_limit, pod_request(&spec, "cpu", milli)), (Some(-1), 250));
    spec.overhead = None;
    assert!(of_overhead(&spec, &settings()).is_none());
}
