//! Pods: their life, their lists, what they are given.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use e2e::cri::proto::*;
use e2e::cri::{Endpoint, map};
use e2e::traffic;

use crate::harness::tests;
use crate::tools::{Pod, unique};

tests![
    a_pod_has_what_it_was_given,
    a_pod_that_is_stopped_is_not_ready,
    stopping_a_pod_stops_its_containers,
    removing_a_pod_removes_its_containers,
    a_running_pod_may_be_removed,
    pods_are_listed_by_id_state_and_label,
    pods_are_streamed_as_they_are_listed,
    a_pods_name_is_taken_until_it_is_removed,
    another_attempt_is_another_pod,
    a_pod_has_an_address_that_answers,
    names_are_resolved_as_the_pod_is_told,
    the_host_name_is_the_pods,
    sysctls_of_the_pod_are_set,
    a_port_of_the_host_leads_to_the_pod,
    more_is_told_of_a_pod_when_asked_for,
    a_stopped_pod_takes_no_container,
    an_unset_log_directory_is_no_error,
];

fn a_pod_has_what_it_was_given(endpoint: &dyn Endpoint) {
    let pod = Pod::with(endpoint, |config| {
        config.labels = map(&[("app", "a"), ("empty", "")]);
        config.annotations = map(&[("note", "two\nlines")]);
    });
    let status = endpoint.pod_status(&pod.id);
    assert_eq!((&status.id, status.state()), (&pod.id, PodSandboxState::SandboxReady));
    assert_eq!(status.metadata, pod.config.metadata);
    assert_eq!((status.labels, status.annotations), (pod.config.labels.clone(), pod.config.annotations.clone()));
    assert!(status.created_at > 1_600_000_000_000_000_000, "nanoseconds: {}", status.created_at);
    let options = status.linux.and_then(|it| it.namespaces).and_then(|it| it.options).expect("namespaces are told");
    assert_eq!((options.network(), options.ipc()), (NamespaceMode::Pod, NamespaceMode::Pod));
}

fn a_pod_that_is_stopped_is_not_ready(endpoint: &dyn Endpoint) {
    let pod = Pod::new(endpoint);
    let before = endpoint.pod_status(&pod.id);
    endpoint.stop_pod(&pod.id);
    let after = endpoint.pod_status(&pod.id);
    assert_eq!(after.state(), PodSandboxState::SandboxNotready);
    assert_eq!((before.created_at, before.metadata), (after.created_at, after.metadata));
}

fn stopping_a_pod_stops_its_containers(endpoint: &dyn Endpoint) {
    let pod = Pod::new(endpoint);
    let ids = [pod.keeper(|_| {}), pod.keeper(|_| {})];
    endpoint.stop_pod(&pod.id);
    for id in ids {
        assert_eq!(endpoint.status_of(&id).state(), ContainerState::ContainerExited);
    }
}

fn removing_a_pod_removes_its_containers(endpoint: &dyn Endpoint) {
    let pod = Pod::new(endpoint);
    let id = pod.keeper(|_| {});
    endpoint.remove_pod(&pod.id);
    let request = ContainerStatusRequest { container_id: id, verbose: false };
    let gone = endpoint.client().container_status(request).expect_err("it is gone");
    assert_eq!(gone.code(), tonic::Code::NotFound, "{gone}");
}

fn a_running_pod_may_be_removed(endpoint: &dyn Endpoint) {
    let pod = Pod::new(endpoint);
    pod.keeper(|_| {});
    let request = RemovePodSandboxRequest { pod_sandbox_id: pod.id.clone() };
    endpoint.client().remove_pod_sandbox(request).expect("RemovePodSandbox stops what runs");
    assert!(listed(endpoint, PodSandboxFilter { id: pod.id.clone(), ..Default::default() }).is_empty());
}

fn listed(endpoint: &dyn Endpoint, filter: PodSandboxFilter) -> Vec<String> {
    let answer = endpoint.client().list_pod_sandbox(ListPodSandboxRequest { filter: Some(filter) });
    let mut ids: Vec<String> = answer.expect("ListPodSandbox answers").items.into_iter().map(|it| it.id).collect();
    ids.sort();
    ids
}

fn pods_are_listed_by_id_state_and_label(endpoint: &dyn Endpoint) {
    let group = unique("group");
    let make = |name: &str| Pod::with(endpoint, |config| config.labels = map(&[("group", &group), ("name", name)]));
    let (up, down) = (make("up"), make("down"));
    endpoint.stop_pod(&down.id);
    let of_group = PodSandboxFilter { label_selector: map(&[("group", &group)]), ..Default::default() };
    let mut both = vec![up.id.clone(), down.id.clone()];
    both.sort();
    assert_eq!(listed(endpoint, of_group.clone()), both);
    let state = |state: PodSandboxState| PodSandboxFilter {
        state: Some(PodSandboxStateValue { state: state as i32 }),
        ..of_group.clone()
    };
    assert_eq!(listed(endpoint, state(PodSandboxState::SandboxReady)), std::slice::from_ref(&up.id));
    assert_eq!(listed(endpoint, state(PodSandboxState::SandboxNotready)), std::slice::from_ref(&down.id));
    let id = |id: &str| PodSandboxFilter { id: id.into(), ..Default::default() };
    assert_eq!(listed(endpoint, id(&up.id)), std::slice::from_ref(&up.id));
    assert_eq!(
        listed(endpoint, id(&up.id[..up.id.len() - 1])),
        std::slice::from_ref(&up.id),
        "the beginning of an id is enough"
    );
    assert!(listed(endpoint, id(&"f".repeat(64))).is_empty());
    let two = PodSandboxFilter { label_selector: map(&[("group", &group), ("name", "up")]), ..Default::default() };
    assert_eq!(listed(endpoint, two), std::slice::from_ref(&up.id));
    let contradiction = PodSandboxFilter { id: down.id.clone(), ..state(PodSandboxState::SandboxReady) };
    assert!(listed(endpoint, contradiction).is_empty());
    let everything = endpoint.client().list_pod_sandbox(ListPodSandboxRequest::default()).expect("a list").items;
    let item = everything.iter().find(|it| it.id == up.id).expect("without a filter all are listed");
    assert_eq!((&item.metadata, &item.labels), (&up.config.metadata, &up.config.labels));
}

fn pods_are_streamed_as_they_are_listed(endpoint: &dyn Endpoint) {
    let group = unique("stream");
    let make = || Pod::with(endpoint, |config| config.labels = map(&[("group", &group)]));
    let pods = [make(), make(), make()];
    let filter = PodSandboxFilter { label_selector: map(&[("group", &group)]), ..Default::default() };
    let streamed = endpoint.client().stream_pod_sandboxes(StreamPodSandboxesRequest { filter: Some(filter) });
    let streamed = streamed.expect("StreamPodSandboxes answers").into_iter().flat_map(|it| it.pod_sandboxes);
    let mut ids: Vec<String> = streamed.map(|it| it.id).collect();
    ids.sort();
    let mut expected: Vec<String> = pods.iter().map(|pod| pod.id.clone()).collect();
    expected.sort();
    assert_eq!(ids, expected);
}

fn a_pods_name_is_taken_until_it_is_removed(endpoint: &dyn Endpoint) {
    let pod = Pod::new(endpoint);
    let again = endpoint.try_run_pod(&pod.config).expect_err("its name is taken");
    assert!(again.message().contains(&pod.id) || again.message().contains("reserved"), "{again}");
    endpoint.stop_pod(&pod.id);
    endpoint.try_run_pod(&pod.config).expect_err("a stopped pod keeps its name");
    endpoint.remove_pod(&pod.id);
    let id = endpoint.run_pod(&pod.config);
    assert_ne!(id, pod.id);
    endpoint.remove_pod(&id);
}

fn another_attempt_is_another_pod(endpoint: &dyn Endpoint) {
    let pod = Pod::new(endpoint);
    let mut next = pod.config.clone();
    next.metadata.get_or_insert_default().attempt = 1;
    let id = endpoint.run_pod(&next);
    assert_eq!(endpoint.pod_status(&id).metadata.map(|it| it.attempt), Some(1));
    endpoint.remove_pod(&id);
    assert_eq!(pod.state(), PodSandboxState::SandboxReady);
}

const PAGE: &str = "while :; do printf 'HTTP/1.1 200 OK\\r\\ncontent-length: 5\\r\\nconnection: close\\r\\n\\r\\nhello' | nc -l -p 80; done";

/// Asks until somebody answers: the server inside starts when it does.
fn hears(endpoint: &dyn Endpoint, address: SocketAddr) {
    let heard = e2e::inspect::wait_for(|| {
        traffic::get_within(endpoint.host(), address, Duration::from_secs(5)).ok().filter(|page| page == "hello")
    });
    assert!(heard.is_some(), "nobody answers at {address} on {}", endpoint.name());
}

fn a_pod_has_an_address_that_answers(endpoint: &dyn Endpoint) {
    let pod = Pod::new(endpoint);
    pod.run(&pod.script("server", PAGE));
    let network = endpoint.pod_status(&pod.id).network.expect("it has a network");
    let address: IpAddr = network.ip.parse().expect("it has an address");
    hears(endpoint, (address, 80).into());
}

fn names_are_resolved_as_the_pod_is_told(endpoint: &dyn Endpoint) {
    let pod = Pod::with(endpoint, |config| {
        config.dns_config = Some(DnsConfig {
            servers: vec!["192.0.2.53".into(), "192.0.2.54".into()],
            searches: vec!["a.test".into(), "b.test".into()],
            options: vec!["ndots:8".into()],
        });
    });
    let said = pod.says("cat /etc/resolv.conf", |_| {});
    let lines: Vec<&str> = said.lines().filter(|line| !line.is_empty()).collect();
    for expected in ["nameserver 192.0.2.53", "nameserver 192.0.2.54", "search a.test b.test", "options ndots:8"] {
        assert!(lines.contains(&expected), "{expected}: {lines:#?}");
    }
}

fn the_host_name_is_the_pods(endpoint: &dyn Endpoint) {
    let pod = Pod::with(endpoint, |config| config.hostname = "a-name-of-its-own".into());
    assert_eq!(
        pod.says("hostname; cat /etc/hostname; echo $HOSTNAME", |_| {}).lines().next(),
        Some("a-name-of-its-own")
    );
    assert_eq!(pod.says("cat /etc/hostname", |_| {}), "a-name-of-its-own");
}

fn sysctls_of_the_pod_are_set(endpoint: &dyn Endpoint) {
    let pod = Pod::with(endpoint, |config| {
        let linux = config.linux.get_or_insert_default();
        linux.sysctls = map(&[("kernel.shm_rmid_forced", "1"), ("net.ipv4.ip_local_port_range", "2000 3000")]);
    });
    let said = pod.says("cat /proc/sys/kernel/shm_rmid_forced /proc/sys/net/ipv4/ip_local_port_range", |_| {});
    assert_eq!(said.replace('\t', " "), "1\n2000 3000");
}

fn a_port_of_the_host_leads_to_the_pod(endpoint: &dyn Endpoint) {
    let pod = Pod::with(endpoint, |config| {
        config.port_mappings.push(PortMapping {
            protocol: Protocol::Tcp as i32,
            container_port: 80,
            host_port: 18_181,
            host_ip: String::new(),
        });
    });
    pod.run(&pod.script("server", PAGE));
    hears(endpoint, ([127, 0, 0, 1], 18_181).into());
}

fn more_is_told_of_a_pod_when_asked_for(endpoint: &dyn Endpoint) {
    let pod = Pod::new(endpoint);
    let ask = |verbose: bool| {
        let request = PodSandboxStatusRequest { pod_sandbox_id: pod.id.clone(), verbose };
        endpoint.client().pod_sandbox_status(request).expect("PodSandboxStatus answers").info
    };
    assert!(ask(false).is_empty());
    let info = ask(true);
    let text = info.get("info").unwrap_or_else(|| panic!("{info:#?}"));
    serde_json::from_str::<serde_json::Value>(text).expect("it is JSON");
}

fn a_stopped_pod_takes_no_container(endpoint: &dyn Endpoint) {
    let pod = Pod::new(endpoint);
    let id = pod.create(&pod.script("before", "true"));
    endpoint.stop_pod(&pod.id);
    let config = pod.script("after", "true");
    endpoint.try_create_container(&pod.id, &pod.config, &config).expect_err("the pod is stopped");
    endpoint.try_start_container(&id).expect_err("the pod is stopped");
}

fn an_unset_log_directory_is_no_error(endpoint: &dyn Endpoint) {
    let pod = Pod::with(endpoint, |config| config.log_directory.clear());
    let mut config = pod.script("c", "echo nobody reads this");
    config.log_path.clear();
    assert_eq!(pod.run_to_end(&config).exit_code, 0);
}
