//! Limits, and their change while a container runs.

use e2e::cri::Endpoint;
use e2e::cri::proto::*;
use e2e::{inspect, need};

use crate::harness::tests;
use crate::tools::{Pod, cgroup_file, is_v1, mark, marked, resources};

tests![
    cpu_limits_are_in_force,
    memory_limits_are_in_force,
    processors_are_chosen,
    the_oom_score_is_adjusted,
    the_pods_cgroup_is_below_the_parent,
    resources_of_a_running_container_are_updated,
    resources_of_a_created_container_are_updated,
    the_status_shows_the_resources,
    a_pods_resources_are_updated,
    overhead_and_resources_of_a_pod_are_taken,
];

fn cpu_limits_are_in_force(endpoint: &dyn Endpoint) {
    let pod = Pod::new(endpoint);
    let mut seen = String::new();
    pod.keeper(|config| {
        let limits = resources(config);
        (limits.cpu_period, limits.cpu_quota, limits.cpu_shares) = (50_000, 20_000, 512);
        seen = mark(config);
    });
    let pid = marked(&seen);
    if is_v1(pid, "cpu") {
        assert_eq!(need!(cgroup_file(pid, "cpu", "cfs_quota_us", "max")), "20000");
        assert_eq!(need!(cgroup_file(pid, "cpu", "cfs_period_us", "max")), "50000");
        assert_eq!(need!(cgroup_file(pid, "cpu", "shares", "weight")), "512");
    } else {
        assert_eq!(need!(cgroup_file(pid, "cpu", "cfs_quota_us", "max")), "20000 50000");
    }
}

fn memory_limits_are_in_force(endpoint: &dyn Endpoint) {
    let pod = Pod::new(endpoint);
    let mut seen = String::new();
    pod.keeper(|config| {
        resources(config).memory_limit_in_bytes = 64 << 20;
        seen = mark(config);
    });
    let limit = need!(cgroup_file(marked(&seen), "memory", "limit_in_bytes", "max"));
    assert_eq!(limit, (64 << 20).to_string());
}

fn processors_are_chosen(endpoint: &dyn Endpoint) {
    let pod = Pod::new(endpoint);
    let said = pod.says("grep Cpus_allowed_list /proc/self/status", |config| {
        (resources(config).cpuset_cpus, resources(config).cpuset_mems) = ("0".into(), "0".into());
    });
    assert_eq!(said.split_whitespace().last(), Some("0"), "{said}");
}

fn the_oom_score_is_adjusted(endpoint: &dyn Endpoint) {
    let pod = Pod::new(endpoint);
    let said = pod.says("cat /proc/self/oom_score_adj", |config| resources(config).oom_score_adj = 876);
    assert_eq!(said, "876");
}

fn the_pods_cgroup_is_below_the_parent(endpoint: &dyn Endpoint) {
    let parent = format!("{}/of-a-pod", endpoint.cgroup_parent());
    let parent = if parent.starts_with("/of") { format!("/{}/of-a-pod", endpoint.node().cgroup_root) } else { parent };
    let pod = Pod::with(endpoint, |config| config.linux.get_or_insert_default().cgroup_parent = parent.clone());
    let mut seen = String::new();
    pod.keeper(|config| seen = mark(config));
    let cgroup = inspect::cgroup_of(marked(&seen), "memory").expect("it has a cgroup");
    assert!(cgroup.display().to_string().contains(&format!("{parent}/")), "{}", cgroup.display());
}

fn change() -> LinuxContainerResources {
    LinuxContainerResources {
        cpu_period: 100_000,
        cpu_quota: 40_000,
        memory_limit_in_bytes: 96 << 20,
        ..Default::default()
    }
}

fn resources_of_a_running_container_are_updated(endpoint: &dyn Endpoint) {
    let pod = Pod::new(endpoint);
    let mut seen = String::new();
    let id = pod.keeper(|config| {
        let limits = resources(config);
        (limits.cpu_period, limits.cpu_quota, limits.memory_limit_in_bytes) = (100_000, 20_000, 64 << 20);
        seen = mark(config);
    });
    let request = UpdateContainerResourcesRequest { container_id: id, linux: Some(change()), ..Default::default() };
    endpoint.client().update_container_resources(request).expect("UpdateContainerResources answers");
    let pid = marked(&seen);
    assert_eq!(need!(cgroup_file(pid, "memory", "limit_in_bytes", "max")), (96 << 20).to_string());
    assert!(need!(cgroup_file(pid, "cpu", "cfs_quota_us", "max")).starts_with("40000"));
}

fn resources_of_a_created_container_are_updated(endpoint: &dyn Endpoint) {
    let pod = Pod::new(endpoint);
    let mut config = pod.script("c", "sleep 1000");
    resources(&mut config).memory_limit_in_bytes = 64 << 20;
    let seen = mark(&mut config);
    let id = pod.create(&config);
    let request =
        UpdateContainerResourcesRequest { container_id: id.clone(), linux: Some(change()), ..Default::default() };
    endpoint.client().update_container_resources(request).expect("UpdateContainerResources answers");
    endpoint.start_container(&id);
    let limit = need!(cgroup_file(marked(&seen), "memory", "limit_in_bytes", "max"));
    assert_eq!(limit, (96 << 20).to_string());
}

fn the_status_shows_the_resources(endpoint: &dyn Endpoint) {
    let pod = Pod::new(endpoint);
    let id = pod.keeper(|config| {
        let limits = resources(config);
        (limits.cpu_period, limits.cpu_quota, limits.memory_limit_in_bytes) = (100_000, 20_000, 64 << 20);
    });
    let shown = || endpoint.status_of(&id).resources.and_then(|it| it.linux).expect("they are shown");
    let limits = shown();
    assert_eq!((limits.cpu_quota, limits.memory_limit_in_bytes), (20_000, 64 << 20));
    let request =
        UpdateContainerResourcesRequest { container_id: id.clone(), linux: Some(change()), ..Default::default() };
    endpoint.client().update_container_resources(request).expect("UpdateContainerResources answers");
    let limits = shown();
    assert_eq!((limits.cpu_quota, limits.memory_limit_in_bytes), (40_000, 96 << 20));
}

fn a_pods_resources_are_updated(endpoint: &dyn Endpoint) {
    let pod = Pod::new(endpoint);
    let request = UpdatePodSandboxResourcesRequest {
        pod_sandbox_id: pod.id.clone(),
        overhead: Some(LinuxContainerResources { memory_limit_in_bytes: 8 << 20, ..Default::default() }),
        resources: Some(change()),
    };
    endpoint.client().update_pod_sandbox_resources(request).expect("UpdatePodSandboxResources answers");
}

fn overhead_and_resources_of_a_pod_are_taken(endpoint: &dyn Endpoint) {
    let pod = Pod::with(endpoint, |config| {
        let linux = config.linux.get_or_insert_default();
        (linux.overhead, linux.resources) = (Some(LinuxContainerResources::default()), Some(change()));
    });
    assert_eq!(pod.says("echo runs", |_| {}), "runs");
}
