//! What a kubelet and a monitoring system read: statistics, metrics, filesystems, the node's status.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::net::TcpStream;
use std::path::Path;
use std::time::{Duration, Instant};

use e2e::cri::proto::*;
use e2e::cri::{Containerd, Cri, Endpoint, map};
use e2e::{BUSYBOX, Node, deadline, need};
use tonic::Code;

const MIB: u64 = 1 << 20;

fn value(it: &Option<UInt64Value>) -> u64 {
    it.as_ref().map_or(0, |it| it.value)
}

/// Waits until `read` finds what it looks for.
#[track_caller]
fn eventually<T>(what: &str, mut read: impl FnMut() -> Result<T, String>) -> T {
    let deadline = Instant::now() + deadline();
    loop {
        match read() {
            Ok(found) => return found,
            Err(seen) => assert!(Instant::now() < deadline, "never: {what}; last seen: {seen}"),
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn container_stats(endpoint: &dyn Endpoint, id: &str) -> ContainerStats {
    let answer = endpoint.client().container_stats(ContainerStatsRequest { container_id: id.into() });
    answer.expect("it is there").stats.expect("it has statistics")
}

fn pod_stats(endpoint: &dyn Endpoint, id: &str) -> PodSandboxStats {
    let answer = endpoint.client().pod_sandbox_stats(PodSandboxStatsRequest { pod_sandbox_id: id.into() });
    answer.expect("it is there").stats.expect("it has statistics")
}

fn cpu_time_grows(endpoint: &dyn Endpoint, sandbox: &str, id: &str) {
    let read = || {
        let (container, pod) =
            (container_stats(endpoint, id).cpu, pod_stats(endpoint, sandbox).linux.and_then(|it| it.cpu));
        [container, pod].map(|cpu| cpu.expect("it uses the CPU"))
    };
    let before = read();
    endpoint.output(id, &["sh", "-c", "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done"]);
    for (before, after) in before.iter().zip(read()) {
        let used = value(&after.usage_core_nano_seconds) - value(&before.usage_core_nano_seconds);
        assert!(used > 20_000_000, "{before:?} {after:?}");
        assert!(after.timestamp > before.timestamp);
    }
}

fn memory_is_what_was_allocated(endpoint: &dyn Endpoint, sandbox: &str, pod: &PodSandboxConfig) {
    // tail keeps a line without end in memory.
    let script = "(head -c 50m /dev/zero; sleep 1000) | tail > /dev/null";
    let id = &endpoint.run_container(sandbox, pod, &endpoint.container("memory", BUSYBOX, &["sh", "-c", script]));
    eventually("50 MiB of memory", || {
        let memory = container_stats(endpoint, id).memory.unwrap_or_default();
        let seen = [value(&memory.rss_bytes), value(&memory.working_set_bytes)];
        let fits = seen.iter().all(|bytes| (50 * MIB..60 * MIB).contains(bytes));
        if fits && value(&memory.usage_bytes) >= seen[1] { Ok(()) } else { Err(format!("{memory:?}")) }
    });
    let memory = container_stats(endpoint, id).memory.expect("memory is counted");
    assert!(memory.timestamp > endpoint.status_of(id).started_at, "{memory:?}");
    assert!(value(&memory.page_faults) > 1000, "{memory:?}");
    let pod = pod_stats(endpoint, sandbox).linux.and_then(|it| it.memory).expect("the pod's memory is counted");
    assert!(value(&pod.usage_bytes) >= 50 * MIB, "{pod:?}");
}

fn files_are_counted(endpoint: &dyn Endpoint, id: &str) {
    let before = eventually("the writable layer", || {
        let layer = container_stats(endpoint, id).writable_layer.unwrap_or_default();
        if layer.used_bytes.is_some() && layer.timestamp > 0 { Ok(layer) } else { Err(format!("{layer:?}")) }
    });
    endpoint.output(id, &["sh", "-c", "dd if=/dev/zero of=/ten bs=1M count=10 2>/dev/null; sync"]);
    eventually("10 MiB of files", || {
        let layer = container_stats(endpoint, id).writable_layer.unwrap_or_default();
        let more = value(&layer.used_bytes).saturating_sub(value(&before.used_bytes));
        let fits = (10 * MIB..11 * MIB).contains(&more) && value(&layer.inodes_used) == value(&before.inodes_used) + 1;
        if fits { Ok(()) } else { Err(format!("{before:?} {layer:?}")) }
    });
}

fn what_goes_over_the_network_is_counted(endpoint: &dyn Endpoint, sandbox: &str, pod: &PodSandboxConfig) {
    let read = || pod_stats(endpoint, sandbox).linux.and_then(|it| it.network).and_then(|it| it.default_interface);
    let before = read().expect("the pod has a network");
    assert_eq!(before.name, "eth0");
    let script = "sleep 1000 | nc -l -p 7777 > /dev/null";
    endpoint.run_container(sandbox, pod, &endpoint.container("server", BUSYBOX, &["sh", "-c", script]));
    let address = endpoint.pod_status(sandbox).network.expect("the pod has an address").ip;
    let mut stream = eventually("a connection", || {
        let connect = || TcpStream::connect((address.as_str(), 7777));
        endpoint.host().within(connect).map_err(|error| error.to_string())
    });
    stream.write_all(&vec![1; MIB as usize]).expect("the pod takes what is sent");
    eventually("1 MiB received", || {
        let now = read().unwrap_or_default();
        let more = value(&now.rx_bytes) - value(&before.rx_bytes);
        let answered = value(&now.tx_bytes) > value(&before.tx_bytes);
        if (MIB..2 * MIB).contains(&more) && answered { Ok(()) } else { Err(format!("{before:?} {now:?}")) }
    });
}

fn what_a_pod_uses(endpoint: &dyn Endpoint) {
    let mut pod = endpoint.pod("p");
    pod.labels = map(&[("app", "a")]);
    pod.annotations = map(&[("note", "n")]);
    let sandbox = endpoint.run_pod(&pod);
    let mut config = endpoint.container("c", BUSYBOX, &["sh", "-c", "sleep 1000 & sleep 1000 & wait"]);
    config.labels = map(&[("part", "c")]);
    let id = endpoint.run_container(&sandbox, &pod, &config);
    eventually("three processes", || {
        let process = pod_stats(endpoint, &sandbox).linux.and_then(|it| it.process).unwrap_or_default();
        if value(&process.process_count) == 3 { Ok(()) } else { Err(format!("{process:?}")) }
    });
    cpu_time_grows(endpoint, &sandbox, &id);
    memory_is_what_was_allocated(endpoint, &sandbox, &pod);
    files_are_counted(endpoint, &id);
    what_goes_over_the_network_is_counted(endpoint, &sandbox, &pod);
    attributes_and_filters(endpoint, &sandbox, &id);
    what_has_ended_uses_nothing(endpoint, &sandbox, &id);
}

fn attributes_and_filters(endpoint: &dyn Endpoint, sandbox: &str, id: &str) {
    let attributes = container_stats(endpoint, id).attributes.expect("it says whose they are");
    assert_eq!((attributes.id.as_str(), attributes.metadata.map(|it| it.name)), (id, Some("c".into())));
    assert_eq!(attributes.labels, map(&[("part", "c")]));
    let attributes = pod_stats(endpoint, sandbox).attributes.expect("it says whose they are");
    assert_eq!((attributes.id.as_str(), attributes.metadata.map(|it| it.name)), (sandbox, Some("p".into())));
    assert_eq!((attributes.labels, attributes.annotations), (map(&[("app", "a")]), map(&[("note", "n")])));
    let containers = |filter: ContainerStatsFilter| {
        let request = ListContainerStatsRequest { filter: Some(filter) };
        endpoint.client().list_container_stats(request).expect("they are listed").stats.len()
    };
    let by = ContainerStatsFilter::default;
    assert_eq!(containers(ContainerStatsFilter { id: id.into(), ..by() }), 1);
    assert_eq!(containers(ContainerStatsFilter { pod_sandbox_id: sandbox.into(), ..by() }), 3);
    assert_eq!(containers(ContainerStatsFilter { label_selector: map(&[("part", "c")]), ..by() }), 1);
    assert_eq!(containers(ContainerStatsFilter { label_selector: map(&[("part", "d")]), ..by() }), 0);
    assert_eq!(containers(ContainerStatsFilter { id: "0".repeat(64), ..by() }), 0);
    let pods = |filter: PodSandboxStatsFilter| {
        let request = ListPodSandboxStatsRequest { filter: Some(filter) };
        endpoint.client().list_pod_sandbox_stats(request).expect("they are listed").stats.len()
    };
    assert_eq!(pods(PodSandboxStatsFilter { id: sandbox.into(), ..Default::default() }), 1);
    assert_eq!(pods(PodSandboxStatsFilter { label_selector: map(&[("app", "a")]), ..Default::default() }), 1);
    assert_eq!(pods(PodSandboxStatsFilter { label_selector: map(&[("app", "b")]), ..Default::default() }), 0);
    let none = "0".repeat(64);
    let missing = endpoint.client().container_stats(ContainerStatsRequest { container_id: none.clone() });
    assert_eq!(missing.expect_err("there is none").code(), Code::NotFound);
    let missing = endpoint.client().pod_sandbox_stats(PodSandboxStatsRequest { pod_sandbox_id: none });
    assert_eq!(missing.expect_err("there is none").code(), Code::NotFound);
}

fn what_has_ended_uses_nothing(endpoint: &dyn Endpoint, sandbox: &str, id: &str) {
    endpoint.stop_container(id, 0);
    let listed = endpoint.client().list_container_stats(ListContainerStatsRequest::default()).expect("they are listed");
    let ended = listed.stats.iter().find(|it| it.attributes.as_ref().is_some_and(|it| it.id == id));
    let ended = ended.expect("it is listed until it is removed");
    assert!(ended.cpu.is_none() && ended.memory.is_none() && ended.writable_layer.is_some(), "{ended:?}");
    endpoint.stop_pod(sandbox);
    let listed = endpoint.client().list_pod_sandbox_stats(ListPodSandboxStatsRequest {
        filter: Some(PodSandboxStatsFilter { id: sandbox.into(), ..Default::default() }),
    });
    assert_eq!(listed.expect("they are listed").stats.len(), 0, "one that is stopped has none");
}

#[test]
fn coracle_tells_what_a_pod_uses() {
    let node = need!(Node::with_busybox());
    what_a_pod_uses(&Cri::start(&node));
}

#[test]
fn containerd_tells_what_a_pod_uses() {
    let node = need!(e2e::skip::root().map(|()| Node::new()));
    let containerd = need!(Containerd::start(&node));
    what_a_pod_uses(&containerd);
}

/// Metrics by name, with the number of labels.
fn metrics(cri: &Cri, sandbox: &str) -> BTreeMap<String, Vec<Metric>> {
    let answer = cri.client().list_pod_sandbox_metrics(Default::default()).expect("they are listed");
    let pod = answer.pod_metrics.into_iter().find(|it| it.pod_sandbox_id == sandbox).expect("the pod is listed");
    let all = pod.metrics.into_iter().chain(pod.container_metrics.into_iter().flat_map(|it| it.metrics));
    let mut by_name: BTreeMap<String, Vec<Metric>> = BTreeMap::new();
    all.for_each(|metric| by_name.entry(metric.name.clone()).or_default().push(metric));
    by_name
}

#[test]
fn metrics_are_what_their_descriptors_say_and_what_the_statistics_say() {
    let node = need!(Node::with_busybox());
    let cri = Cri::start(&node);
    let pod = cri.pod("p");
    let sandbox = cri.run_pod(&pod);
    let mut config = cri.container("c", BUSYBOX, &["sh", "-c", "while [ ! -e /go ]; do :; done; exec sleep 1000"]);
    let limits = LinuxContainerResources {
        cpu_period: 100_000,
        cpu_quota: 80_000,
        cpu_shares: 512,
        memory_limit_in_bytes: 64 << 20,
        ..Default::default()
    };
    config.linux = Some(LinuxContainerConfig { resources: Some(limits), ..Default::default() });
    let id = cri.run_container(&sandbox, &pod, &config);
    eventually("a second of CPU time", || {
        let used = value(&container_stats(&cri, &id).cpu.unwrap_or_default().usage_core_nano_seconds);
        if used > 1_100_000_000 { Ok(()) } else { Err(used.to_string()) }
    });
    cri.output(&id, &["sh", "-c", "dd if=/dev/zero of=/ten bs=1M count=10 2>/dev/null; sync; : > /go"]);
    let descriptors = cri.client().list_metric_descriptors(Default::default()).expect("they are listed").descriptors;
    let labels: BTreeMap<&str, usize> = descriptors.iter().map(|it| (it.name.as_str(), it.label_keys.len())).collect();
    let found = metrics(&cri, &sandbox);
    for (name, metrics) in &found {
        let expected = labels.get(name.as_str()).unwrap_or_else(|| panic!("{name} has no descriptor"));
        let sets: BTreeSet<&Vec<String>> = metrics.iter().map(|it| &it.label_values).collect();
        assert_eq!(sets.len(), metrics.len(), "{name} is there twice with the same labels");
        for it in metrics {
            assert_eq!((it.label_values.len(), it.timestamp > 0), (*expected, true), "{it:?}");
            assert_eq!(it.label_values[..2], ["p".to_owned(), "e2e".to_owned()], "{it:?}");
        }
    }
    // What this kernel may not count.
    let optional =
        |name: &str| ["pressure", "hugetlb", "blkio", "fs_reads", "fs_writes"].iter().any(|it| name.contains(it));
    let missing: Vec<&&str> = labels.keys().filter(|it| !found.contains_key(**it) && !optional(it)).collect();
    assert!(missing.is_empty(), "{missing:?}");
    let one = |name: &str| value(&found[name][0].value);
    assert!(one("container_cpu_usage_seconds_total") >= 1);
    assert_eq!(one("container_spec_cpu_period"), 100_000);
    assert_eq!(one("container_spec_cpu_quota"), 80_000);
    assert_eq!(one("container_spec_cpu_shares"), 512);
    assert_eq!(one("container_spec_memory_limit_bytes"), 64 << 20);
    assert_eq!(one("container_start_time_seconds"), cri.status_of(&id).started_at as u64 / 1_000_000_000);
    assert!(one("container_processes") == 1 && one("container_threads") >= 1 && one("container_file_descriptors") >= 3);
    assert_eq!(found["container_processes"][0].label_values[2..4], ["c".to_owned(), id.clone()]);
    assert_eq!(found["container_network_receive_bytes_total"][0].label_values[2..], ["", &sandbox, "", "eth0"]);
    let memory = container_stats(&cri, &id).memory.expect("memory is counted");
    let difference = one("container_memory_usage_bytes").abs_diff(value(&memory.usage_bytes));
    assert!(difference < 4 * MIB, "{memory:?}");
    let streamed = cri.client().stream_pod_sandbox_metrics(Default::default()).expect("they are streamed");
    assert_eq!(streamed.iter().map(|it| it.pod_sandbox_metrics.len()).sum::<usize>(), 1);
}

#[test]
fn a_new_server_tells_the_same_of_the_same_containers() {
    let node = need!(Node::with_busybox());
    let mut cri = Cri::start(&node);
    let pod = cri.pod("p");
    let sandbox = cri.run_pod(&pod);
    let config = cri.container("c", BUSYBOX, &["sh", "-c", "dd if=/dev/zero of=/f bs=1M count=3; exec sleep 1000"]);
    let id = cri.run_container(&sandbox, &pod, &config);
    cri.wait_for_log(&pod, &config, "3+0 records out");
    let before = container_stats(&cri, &id);
    let rate = |stats: &ContainerStats| stats.cpu.as_ref().is_some_and(|it| it.usage_nano_cores.is_some());
    assert!(!rate(&before), "a rate takes two samples: {before:?}");
    std::thread::sleep(Duration::from_millis(300));
    assert!(rate(&container_stats(&cri, &id)));
    cri.kill();
    cri.restart();
    let after = container_stats(&cri, &id);
    assert_eq!(after.attributes, before.attributes);
    let used = |stats: &ContainerStats| value(&stats.cpu.as_ref().expect("it runs").usage_core_nano_seconds);
    assert!(used(&after) >= used(&before));
    let layer = after.writable_layer.expect("it has one");
    assert!(value(&layer.used_bytes) >= 3 * MIB && layer.fs_id == before.writable_layer.and_then(|it| it.fs_id));
    assert_eq!(pod_stats(&cri, &sandbox).linux.map(|it| it.containers.len()), Some(1));
    let streamed = cri.client().stream_container_stats(Default::default()).expect("they are streamed");
    assert_eq!(streamed.iter().map(|it| it.container_stats.len()).sum::<usize>(), 1);
    let streamed = cri.client().stream_pod_sandbox_stats(Default::default()).expect("they are streamed");
    assert_eq!(streamed.iter().map(|it| it.pod_sandbox_stats.len()).sum::<usize>(), 1);
}

#[test]
fn a_pod_on_the_hosts_network_has_no_network_of_its_own() {
    let node = need!(Node::with_busybox());
    let cri = Cri::start(&node);
    let mut pod = cri.pod("p");
    let options = NamespaceOption { network: NamespaceMode::Node as i32, ..Default::default() };
    let context = LinuxSandboxSecurityContext { namespace_options: Some(options), ..Default::default() };
    pod.linux.get_or_insert_default().security_context = Some(context);
    let sandbox = cri.run_pod(&pod);
    let linux = pod_stats(&cri, &sandbox).linux.expect("it has statistics");
    assert_eq!(linux.network, None);
    assert_eq!(linux.process.map(|it| value(&it.process_count)), Some(0));
    assert!(!metrics(&cri, &sandbox).contains_key("container_network_receive_bytes_total"));
}

#[test]
fn images_and_containers_are_on_filesystems_that_are_mounted() {
    let node = need!(Node::with_busybox());
    let cri = Cri::start(&node);
    let pod = cri.pod("p");
    let sandbox = cri.run_pod(&pod);
    let command = ["sh", "-c", "dd if=/dev/zero of=/f bs=1M count=10; sync; exec sleep 1000"];
    let config = cri.container("c", BUSYBOX, &command);
    let id = cri.run_container(&sandbox, &pod, &config);
    cri.wait_for_log(&pod, &config, "10+0 records out");
    let info = cri.client().image_fs_info(Default::default()).expect("it is known");
    let (images, containers) = (&info.image_filesystems[0], &info.container_filesystems[0]);
    assert!(value(&images.used_bytes) > 100_000 && value(&images.inodes_used) > 1, "{images:?}");
    eventually("10 MiB of containers' files", || {
        let info = cri.client().image_fs_info(Default::default()).expect("it is known");
        let used = value(&info.container_filesystems[0].used_bytes);
        if (10 * MIB..12 * MIB).contains(&used) { Ok(()) } else { Err(used.to_string()) }
    });
    let layer = container_stats(&cri, &id).writable_layer.expect("it has one");
    assert_eq!(layer.fs_id, containers.fs_id);
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").expect("there is procfs");
    for filesystem in [images, containers] {
        let point = &filesystem.fs_id.as_ref().expect("it has a name").mountpoint;
        assert!(mounts.lines().any(|line| line.split(' ').nth(4) == Some(point)), "{point} is no mount point");
        assert!(Path::new(&node.root_dir).starts_with(point));
    }
}

#[test]
fn the_node_says_that_it_is_ready_and_how_it_was_set_up() {
    let node = need!(Node::with_busybox());
    let cri = Cri::start(&node);
    let status = cri.client().status(StatusRequest { verbose: true }).expect("it serves");
    let conditions = status.status.expect("it has conditions").conditions;
    let ready: Vec<(&str, bool)> = conditions.iter().map(|it| (it.r#type.as_str(), it.status)).collect();
    assert_eq!(ready, [("RuntimeReady", true), ("NetworkReady", true)], "{conditions:?}");
    let config: serde_json::Value = serde_json::from_str(&status.info["config"]).expect("it is JSON");
    assert_eq!(config["rootDir"].as_str().map(Path::new), Some(node.root_dir.as_path()));
    assert_eq!(config["cgroupDriver"], "cgroupfs");
    let quiet = cri.client().status(StatusRequest { verbose: false }).expect("it serves");
    assert!(quiet.info.is_empty() && !quiet.runtime_handlers.is_empty());
}
