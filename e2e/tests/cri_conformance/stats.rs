//! Usage.

use e2e::cri::proto::*;
use e2e::cri::{Endpoint, map};
use tonic::Code;

use crate::harness::tests;
use crate::tools::{Pod, unique};

tests![
    a_container_has_stats,
    stats_of_containers_are_listed_by_filter,
    a_pod_has_stats,
    stats_of_pods_are_listed_by_filter,
    stats_of_what_is_not_there_are_not_found,
    stats_are_streamed_as_they_are_listed,
    pods_have_metrics,
];

fn value(value: &Option<UInt64Value>) -> u64 {
    value.as_ref().map_or(0, |it| it.value)
}

fn a_container_has_stats(endpoint: &dyn Endpoint) {
    let pod = Pod::new(endpoint);
    let id = pod.keeper(|config| config.labels = map(&[("of", "stats")]));
    endpoint.output(
        &id,
        &["sh", "-c", "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; head -c 1000000 /dev/zero > /file"],
    );
    let request = ContainerStatsRequest { container_id: id.clone() };
    let has_disk = || {
        let stats = endpoint.client().container_stats(request.clone()).expect("ContainerStats answers").stats;
        stats.filter(|it| it.writable_layer.as_ref().is_some_and(|layer| value(&layer.used_bytes) >= 1_000_000))
    };
    // Disks are looked at now and then.
    let deadline = std::time::Instant::now() + e2e::deadline();
    let stats = loop {
        if let Some(stats) = has_disk() {
            break stats;
        }
        assert!(std::time::Instant::now() < deadline, "the layer is never counted");
        std::thread::sleep(std::time::Duration::from_millis(200));
    };
    let attributes = stats.attributes.expect("attributes");
    assert_eq!((attributes.id.as_str(), attributes.labels), (id.as_str(), map(&[("of", "stats")])));
    let (cpu, memory) = (stats.cpu.expect("cpu"), stats.memory.expect("memory"));
    assert!(cpu.timestamp > 0 && value(&cpu.usage_core_nano_seconds) > 1_000_000, "{cpu:?}");
    assert!(memory.timestamp > 0 && value(&memory.working_set_bytes) > 0, "{memory:?}");
    let layer = stats.writable_layer.expect("a layer");
    assert!(layer.fs_id.is_some_and(|it| !it.mountpoint.is_empty()) && value(&layer.inodes_used) > 0);
}

fn stats_of_containers_are_listed_by_filter(endpoint: &dyn Endpoint) {
    let group = unique("stats");
    let pod = Pod::new(endpoint);
    let labels = map(&[("group", &group)]);
    let (a, b) = (pod.keeper(|config| config.labels = labels.clone()), pod.keeper(|_| {}));
    let created = pod.create(&pod.script("created", "true"));
    let listed = |filter: ContainerStatsFilter| {
        let answer = endpoint.client().list_container_stats(ListContainerStatsRequest { filter: Some(filter) });
        let stats = answer.expect("ListContainerStats answers").stats;
        let mut ids: Vec<String> = stats.into_iter().filter_map(|it| it.attributes).map(|it| it.id).collect();
        ids.sort();
        ids
    };
    let of_pod = ContainerStatsFilter { pod_sandbox_id: pod.id.clone(), ..Default::default() };
    let ids = listed(of_pod.clone());
    assert!(ids.contains(&a) && ids.contains(&b), "{ids:?}");
    drop(created);
    assert_eq!(listed(ContainerStatsFilter { id: b.clone(), ..Default::default() }), std::slice::from_ref(&b));
    assert_eq!(listed(ContainerStatsFilter { label_selector: labels, ..of_pod }), [a]);
}

fn a_pod_has_stats(endpoint: &dyn Endpoint) {
    let pod = Pod::with(endpoint, |config| config.labels = map(&[("of", "pod-stats")]));
    let id = pod.keeper(|_| {});
    let request = PodSandboxStatsRequest { pod_sandbox_id: pod.id.clone() };
    let stats = endpoint.client().pod_sandbox_stats(request).expect("PodSandboxStats answers").stats;
    let stats = stats.expect("stats");
    let attributes = stats.attributes.expect("attributes");
    assert_eq!(
        (attributes.id, attributes.metadata, attributes.labels),
        (pod.id.clone(), pod.config.metadata.clone(), pod.config.labels.clone())
    );
    let linux = stats.linux.expect("of Linux");
    assert!(linux.cpu.is_some_and(|it| value(&it.usage_core_nano_seconds) > 0));
    assert!(linux.memory.is_some_and(|it| value(&it.working_set_bytes) > 0));
    assert!(linux.process.is_some_and(|it| value(&it.process_count) >= 1));
    let network = linux.network.and_then(|it| it.default_interface).expect("an interface");
    assert_eq!(network.name, "eth0");
    let ids: Vec<String> = linux.containers.into_iter().filter_map(|it| it.attributes).map(|it| it.id).collect();
    assert_eq!(ids, [id]);
}

fn stats_of_pods_are_listed_by_filter(endpoint: &dyn Endpoint) {
    let group = unique("pod-stats");
    let labels = map(&[("group", &group)]);
    let pod = Pod::with(endpoint, |config| config.labels = labels.clone());
    let other = Pod::new(endpoint);
    let listed = |filter: PodSandboxStatsFilter| {
        let answer = endpoint.client().list_pod_sandbox_stats(ListPodSandboxStatsRequest { filter: Some(filter) });
        let stats = answer.expect("ListPodSandboxStats answers").stats;
        stats.into_iter().filter_map(|it| it.attributes).map(|it| it.id).collect::<Vec<_>>()
    };
    assert_eq!(
        listed(PodSandboxStatsFilter { label_selector: labels, ..Default::default() }),
        std::slice::from_ref(&pod.id)
    );
    assert_eq!(
        listed(PodSandboxStatsFilter { id: other.id.clone(), ..Default::default() }),
        std::slice::from_ref(&other.id)
    );
}

fn stats_of_what_is_not_there_are_not_found(endpoint: &dyn Endpoint) {
    let id = "f".repeat(64);
    let of_container = endpoint.client().container_stats(ContainerStatsRequest { container_id: id.clone() });
    assert_eq!(of_container.expect_err("there is none").code(), Code::NotFound);
    let of_pod = endpoint.client().pod_sandbox_stats(PodSandboxStatsRequest { pod_sandbox_id: id });
    assert_eq!(of_pod.expect_err("there is none").code(), Code::NotFound);
}

fn stats_are_streamed_as_they_are_listed(endpoint: &dyn Endpoint) {
    let pod = Pod::new(endpoint);
    let id = pod.keeper(|_| {});
    let filter = ContainerStatsFilter { pod_sandbox_id: pod.id.clone(), ..Default::default() };
    let containers = endpoint.client().stream_container_stats(StreamContainerStatsRequest { filter: Some(filter) });
    let containers = containers.expect("StreamContainerStats answers").into_iter().flat_map(|it| it.container_stats);
    let ids: Vec<String> = containers.filter_map(|it| it.attributes).map(|it| it.id).collect();
    assert_eq!(ids, [id]);
    let filter = PodSandboxStatsFilter { id: pod.id.clone(), ..Default::default() };
    let pods = endpoint.client().stream_pod_sandbox_stats(StreamPodSandboxStatsRequest { filter: Some(filter) });
    let pods = pods.expect("StreamPodSandboxStats answers").into_iter().flat_map(|it| it.pod_sandbox_stats);
    let ids: Vec<String> = pods.filter_map(|it| it.attributes).map(|it| it.id).collect();
    assert_eq!(ids, std::slice::from_ref(&pod.id));
}

fn pods_have_metrics(endpoint: &dyn Endpoint) {
    let client = endpoint.client();
    let descriptors = client.list_metric_descriptors(ListMetricDescriptorsRequest {});
    let descriptors = descriptors.expect("ListMetricDescriptors answers").descriptors;
    assert!(!descriptors.is_empty());
    let pod = Pod::new(endpoint);
    let id = pod.keeper(|_| {});
    let metrics = client.list_pod_sandbox_metrics(ListPodSandboxMetricsRequest {});
    let metrics = metrics.expect("ListPodSandboxMetrics answers").pod_metrics;
    let of_pod = metrics.iter().find(|it| it.pod_sandbox_id == pod.id).expect("each pod is there");
    let of_container =
        of_pod.container_metrics.iter().find(|it| it.container_id == id).expect("each container is there");
    for metric in of_pod.metrics.iter().chain(&of_container.metrics) {
        let descriptor = descriptors.iter().find(|it| it.name == metric.name);
        let descriptor = descriptor.unwrap_or_else(|| panic!("{metric:?} is described nowhere"));
        assert_eq!(descriptor.label_keys.len(), metric.label_values.len(), "{metric:?}");
    }
    let streamed = client.stream_pod_sandbox_metrics(StreamPodSandboxMetricsRequest {});
    let streamed = streamed.expect("StreamPodSandboxMetrics answers").into_iter().flat_map(|it| it.pod_sandbox_metrics);
    assert!(streamed.into_iter().any(|it| it.pod_sandbox_id == pod.id));
}
