//! Namespaces: the pod's, the node's, a container's own, another container's, a user's.

use e2e::cri::Endpoint;
use e2e::cri::proto::*;

use crate::harness::tests;
use crate::tools::{Pod, security};

tests![
    containers_of_a_pod_share_its_network_and_ipc,
    pids_are_shared_if_the_pod_says_so,
    a_pods_pids_are_each_containers_own_if_it_says_so,
    a_container_may_look_into_another,
    the_nodes_namespaces_are_the_nodes,
    a_user_namespace_maps_what_it_says,
    a_user_namespace_refuses_the_hosts_namespaces,
];

fn namespace(pod: &Pod, id: &str, name: &str) -> String {
    pod.endpoint.output(id, &["readlink", &format!("/proc/self/ns/{name}")])
}

fn of_machine(endpoint: &dyn Endpoint, name: &str) -> String {
    let read = || std::fs::read_link(format!("/proc/thread-self/ns/{name}"));
    let link = if name == "net" { endpoint.host().within(read) } else { read() };
    link.expect("the machine has it").display().to_string()
}

fn containers_of_a_pod_share_its_network_and_ipc(endpoint: &dyn Endpoint) {
    let (pod, other) = (Pod::new(endpoint), Pod::new(endpoint));
    let (a, b, c) = (pod.keeper(|_| {}), pod.keeper(|_| {}), other.keeper(|_| {}));
    for name in ["net", "ipc", "uts"] {
        let [of_a, of_b, of_c] = [&a, &b]
            .map(|id| namespace(&pod, id, name))
            .into_iter()
            .chain([namespace(&other, &c, name)])
            .collect::<Vec<_>>()
            .try_into()
            .expect("three");
        assert_eq!(of_a, of_b, "{name}");
        assert_ne!(of_a, of_c, "{name}");
        assert_ne!(of_a, of_machine(endpoint, name), "{name}");
    }
    assert_ne!(namespace(&pod, &a, "mnt"), namespace(&pod, &b, "mnt"));
}

fn with_pid(mode: NamespaceMode) -> impl Fn(&mut ContainerConfig) {
    move |config| {
        security(config).namespace_options = Some(NamespaceOption { pid: mode as i32, ..Default::default() });
    }
}

fn pids_are_shared_if_the_pod_says_so(endpoint: &dyn Endpoint) {
    let options = NamespaceOption { pid: NamespaceMode::Pod as i32, ..Default::default() };
    let pod = Pod::with_namespaces(endpoint, options);
    let (a, b) = (pod.keeper(with_pid(NamespaceMode::Pod)), pod.keeper(with_pid(NamespaceMode::Pod)));
    assert_eq!(namespace(&pod, &a, "pid"), namespace(&pod, &b, "pid"));
    assert_ne!(namespace(&pod, &a, "pid"), of_machine(endpoint, "pid"));
    endpoint.output(&a, &["sh", "-c", "sleep 8765 >/dev/null 2>&1 &"]);
    assert!(endpoint.output(&b, &["ps"]).contains("sleep 8765"));
}

fn a_pods_pids_are_each_containers_own_if_it_says_so(endpoint: &dyn Endpoint) {
    let options = NamespaceOption { pid: NamespaceMode::Container as i32, ..Default::default() };
    let pod = Pod::with_namespaces(endpoint, options);
    let (a, b) = (pod.keeper(with_pid(NamespaceMode::Container)), pod.keeper(with_pid(NamespaceMode::Container)));
    assert_ne!(namespace(&pod, &a, "pid"), namespace(&pod, &b, "pid"));
    // Of runc it is runc's own for a moment.
    let is_first = || endpoint.output(&a, &["cat", "/proc/1/cmdline"]).starts_with("sh");
    e2e::inspect::wait_until("its own program is the first", is_first);
}

fn a_container_may_look_into_another(endpoint: &dyn Endpoint) {
    let options = NamespaceOption { pid: NamespaceMode::Container as i32, ..Default::default() };
    let pod = Pod::with_namespaces(endpoint, options);
    let target = pod.keeper(with_pid(NamespaceMode::Container));
    endpoint.output(&target, &["sh", "-c", "sleep 9876 >/dev/null 2>&1 &"]);
    let debugger = pod.keeper(|config| {
        let options =
            NamespaceOption { pid: NamespaceMode::Target as i32, target_id: target.clone(), ..Default::default() };
        security(config).namespace_options = Some(options);
    });
    assert_eq!(namespace(&pod, &debugger, "pid"), namespace(&pod, &target, "pid"));
    assert!(endpoint.output(&debugger, &["ps"]).contains("sleep 9876"));
    endpoint.stop_container(&debugger, 0);
    assert_eq!(endpoint.status_of(&target).state(), ContainerState::ContainerRunning);
    let options =
        NamespaceOption { pid: NamespaceMode::Target as i32, target_id: "f".repeat(64), ..Default::default() };
    pod.refuses(|config| security(config).namespace_options = Some(options));
}

fn the_nodes_namespaces_are_the_nodes(endpoint: &dyn Endpoint) {
    let node = NamespaceMode::Node as i32;
    let options = NamespaceOption { network: node, pid: node, ipc: node, ..Default::default() };
    let pod = Pod::with(endpoint, |config| {
        config.hostname.clear();
        let linux = config.linux.get_or_insert_default();
        linux.security_context.get_or_insert_default().namespace_options = Some(options.clone());
    });
    let id = pod.keeper(|config| security(config).namespace_options = Some(options.clone()));
    for name in ["net", "pid", "ipc"] {
        assert_eq!(namespace(&pod, &id, name), of_machine(endpoint, name), "{name}");
    }
    let status = endpoint.pod_status(&pod.id);
    let shown = status.linux.and_then(|it| it.namespaces).and_then(|it| it.options).expect("it is shown");
    assert_eq!(
        (shown.network(), shown.pid(), shown.ipc()),
        (NamespaceMode::Node, NamespaceMode::Node, NamespaceMode::Node)
    );
    // The test itself is in the machine's process namespace: the container sees it.
    endpoint.output(&id, &["test", "-d", &format!("/proc/{}", std::process::id())]);
}

fn user_namespace() -> UserNamespace {
    let map = vec![IdMapping { host_id: 1_000_000, container_id: 0, length: 65_536 }];
    UserNamespace { mode: NamespaceMode::Pod as i32, uids: map.clone(), gids: map }
}

fn a_user_namespace_maps_what_it_says(endpoint: &dyn Endpoint) {
    let options = NamespaceOption { userns_options: Some(user_namespace()), ..Default::default() };
    let pod = Pod::with_namespaces(endpoint, options.clone());
    let mut seen = String::new();
    let id = pod.keeper(|config| {
        security(config).namespace_options = Some(options);
        seen = crate::tools::mark(config);
    });
    let map = endpoint.output(&id, &["cat", "/proc/self/uid_map"]);
    assert_eq!(map.split_whitespace().collect::<Vec<_>>(), ["0", "1000000", "65536"]);
    assert_eq!(endpoint.output(&id, &["id", "-u"]), "0");
    let uid = e2e::inspect::status(crate::tools::marked(&seen), "Uid").expect("it runs");
    assert!(uid.starts_with("1000000"), "{uid}");
    assert_eq!(endpoint.output(&id, &["sh", "-c", "touch /made && stat -c %u /made"]), "0");
}

fn a_user_namespace_refuses_the_hosts_namespaces(endpoint: &dyn Endpoint) {
    for change in [
        NamespaceOption { network: NamespaceMode::Node as i32, ..Default::default() },
        NamespaceOption { pid: NamespaceMode::Node as i32, ..Default::default() },
        NamespaceOption { ipc: NamespaceMode::Node as i32, ..Default::default() },
    ] {
        let mut config = endpoint.pod(&crate::tools::unique("userns"));
        let options = NamespaceOption { userns_options: Some(user_namespace()), ..change };
        let linux = config.linux.get_or_insert_default();
        linux.security_context.get_or_insert_default().namespace_options = Some(options);
        let refused = endpoint.try_run_pod(&config).expect_err("the host's namespaces have the host's users");
        assert_eq!(refused.code(), tonic::Code::InvalidArgument, "{refused}");
    }
}
