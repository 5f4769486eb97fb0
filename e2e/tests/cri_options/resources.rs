//! Limits, at the making of a container and later.

use super::*;
use e2e::need;

/// Reads a setting of a container's cgroup as the container sees it: `v1` in its controller's hierarchy, else `v2`.
fn setting(pod: &Pod<'_>, id: &str, controller: &str, v1: &str, v2: &str) -> (bool, String) {
    let of_v1 = format!("/sys/fs/cgroup/{controller}/{v1}");
    let answer = pod.cri.exec_sync(id, &["cat", &of_v1]);
    if answer.exit_code == 0 {
        return (true, String::from_utf8_lossy(&answer.stdout).trim().to_owned());
    }
    (false, pod.sh(id, &format!("cat /sys/fs/cgroup/{v2} 2>/dev/null || cat /sys/fs/cgroup/unified/{v2}")))
}

fn limits(linux: &mut LinuxContainerConfig) -> &mut LinuxContainerResources {
    linux.resources.get_or_insert_default()
}

#[track_caller]
fn has(pod: &Pod<'_>, id: &str, shares: u64, quota: i64, memory: i64) {
    let (v1, text) = setting(pod, id, "cpu", "cpu.shares", "cpu.weight");
    if v1 {
        assert_eq!(text, shares.to_string());
    }
    let (v1, text) = setting(pod, id, "cpu", "cpu.cfs_quota_us", "cpu.max");
    let word = if quota < 0 { "max".to_owned() } else { quota.to_string() };
    assert_eq!(text, if v1 { quota.to_string() } else { format!("{word} 100000") });
    let (_, text) = setting(pod, id, "memory", "memory.limit_in_bytes", "memory.max");
    assert_eq!(text, memory.to_string());
    let shown = pod.cri.status_of(id).resources.unwrap().linux.unwrap();
    assert_eq!((shown.cpu_shares, shown.cpu_quota, shown.memory_limit_in_bytes), (shares as i64, quota, memory));
}

const MEGABYTE: i64 = 1 << 20;

#[test]
fn limits_are_in_force_shown_and_changed() {
    let node = need!(Node::with_busybox());
    let pod = Pod::new(&node);
    let create = || {
        let config = pod.config(|_, linux| {
            let limits = limits(linux);
            (limits.cpu_shares, limits.cpu_period, limits.cpu_quota) = (512, 100_000, 50_000);
            (limits.memory_limit_in_bytes, limits.oom_score_adj) = (64 * MEGABYTE, 500);
        });
        pod.cri.create_container(&pod.id, &pod.config, &config)
    };
    let update = |id: &str, change: LinuxContainerResources| {
        let request = UpdateContainerResourcesRequest {
            container_id: id.into(),
            linux: Some(change),
            annotations: e2e::cri::map(&[("any", "thing")]),
            ..Default::default()
        };
        pod.cri.client().update_container_resources(request).map(drop)
    };
    let id = create();
    pod.cri.start_container(&id);
    has(&pod, &id, 512, 50_000, 64 * MEGABYTE);
    assert_eq!(pod.output(&id, &["cat", "/proc/1/oom_score_adj"]), "500");
    // What is not said stays.
    update(&id, LinuxContainerResources { cpu_quota: 20_000, ..Default::default() }).unwrap();
    has(&pod, &id, 512, 20_000, 64 * MEGABYTE);
    let change =
        LinuxContainerResources { cpu_shares: 256, memory_limit_in_bytes: 96 * MEGABYTE, ..Default::default() };
    update(&id, change).unwrap();
    has(&pod, &id, 256, 20_000, 96 * MEGABYTE);
    // One that cannot be changes nothing.
    let impossible = LinuxContainerResources { cpu_shares: 1024, cpuset_cpus: "9999".into(), ..Default::default() };
    refused("9999", update(&id, impossible));
    has(&pod, &id, 256, 20_000, 96 * MEGABYTE);
    refused("linux.cpu_shares", update(&id, LinuxContainerResources { cpu_shares: -1, ..Default::default() }));
    update(&id, LinuxContainerResources { cpu_quota: -1, cpuset_cpus: "0".into(), ..Default::default() }).unwrap();
    has(&pod, &id, 256, -1, 96 * MEGABYTE);
    assert_eq!(setting(&pod, &id, "cpuset", "cpuset.cpus", "cpuset.cpus").1, "0");
    // Before it is started.
    let created = create();
    update(&created, LinuxContainerResources { cpu_shares: 128, ..Default::default() }).unwrap();
    pod.cri.start_container(&created);
    has(&pod, &created, 128, 50_000, 64 * MEGABYTE);
    // After its end there is nothing to limit, and no error.
    pod.cri.stop_container(&id, 0);
    update(&id, LinuxContainerResources { cpu_shares: 2, ..Default::default() }).unwrap();
    assert_eq!(pod.cri.status_of(&id).resources.unwrap().linux.unwrap().cpu_shares, 2);
    let status = update("0123456789abcdef", Default::default()).unwrap_err();
    assert_eq!(status.code(), tonic::Code::NotFound);
}

#[test]
fn a_limit_of_memory_is_one_of_swap_unless_more_is_given() {
    let node = need!(Node::with_busybox());
    let pod = Pod::new(&node);
    let run = |swap: i64| {
        pod.run(|_, linux| {
            let limits = limits(linux);
            (limits.memory_limit_in_bytes, limits.memory_swap_limit_in_bytes) = (64 * MEGABYTE, swap);
        })
    };
    let probe = run(0);
    let file = "cat /sys/fs/cgroup/memory/memory.memsw.limit_in_bytes /sys/fs/cgroup/memory.swap.max 2>/dev/null; true";
    if pod.sh(&probe, file).is_empty() {
        e2e::skip!("the kernel does not account swap");
    }
    for (swap, v1, v2) in [(0, 64, Some(0)), (96 * MEGABYTE, 96, Some(32)), (-1, -1, None)] {
        let id = run(swap);
        let (is_v1, text) = setting(&pod, &id, "memory", "memory.memsw.limit_in_bytes", "memory.swap.max");
        match (is_v1, v1, v2) {
            (true, -1, _) => assert!(text.parse::<i64>().unwrap() > 1 << 40, "{text}"),
            (true, megabytes, _) => assert_eq!(text, (megabytes * MEGABYTE).to_string()),
            (false, _, Some(megabytes)) => assert_eq!(text, (megabytes * MEGABYTE).to_string()),
            (false, _, None) => assert_eq!(text, "max"),
        }
    }
    pod.refuses("linux.resources.memory_swap_limit_in_bytes", |_, linux| {
        let limits = limits(linux);
        (limits.memory_limit_in_bytes, limits.memory_swap_limit_in_bytes) = (64 * MEGABYTE, 32 * MEGABYTE);
    });
}

#[test]
fn what_no_controller_of_the_host_enforces_is_refused() {
    let node = need!(Node::with_busybox());
    let pod = Pod::new(&node);
    let unified = |linux: &mut LinuxContainerConfig, name: &str, value: &str| {
        limits(linux).unified = [(name.to_owned(), value.to_owned())].into();
    };
    let v2 = std::path::Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
    if v2 {
        let id = pod.run(|_, linux| unified(linux, "memory.high", "67108864"));
        assert_eq!(pod.output(&id, &["cat", "/sys/fs/cgroup/memory.high"]), "67108864");
    } else {
        pod.refuses("unified memory.high", |_, linux| unified(linux, "memory.high", "67108864"));
    }
    pod.refuses("linux.resources.unified", |_, linux| unified(linux, "cgroup.procs", "1"));
    pod.refuses("linux.resources.hugepage_limits", |_, linux| {
        limits(linux).hugepage_limits = vec![HugepageLimit { page_size: "2Mi".into(), limit: 0 }];
    });
    // A limit of nothing is one that a host without huge pages keeps.
    pod.run(|_, linux| limits(linux).hugepage_limits = vec![HugepageLimit { page_size: "2MB".into(), limit: 0 }]);
    pod.refuses("linux.resources.oom_score_adj", |_, linux| limits(linux).oom_score_adj = 1001);
    pod.refuses("linux.resources.cpuset_cpus", |_, linux| limits(linux).cpuset_cpus = "zero".into());
}
