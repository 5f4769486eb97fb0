//! User namespaces through the Container Runtime Interface.

use std::os::unix::fs::MetadataExt;

use e2e::cri::proto::*;
use e2e::cri::{Cri, Endpoint};
use e2e::{BUSYBOX, Node, need};
use tonic::Code;

const UIDS: IdMapping = IdMapping { container_id: 0, host_id: 200_000, length: 65_536 };
const GIDS: IdMapping = IdMapping { container_id: 0, host_id: 300_000, length: 65_536 };

/// A node whose runtime says that it can.
macro_rules! served {
    ($node:ident) => {{
        let cri = Cri::start(&$node);
        let status = cri.client().status(StatusRequest::default()).expect("it serves");
        let features = status.runtime_handlers[0].features.expect("it has features");
        if !features.user_namespaces {
            need!(Err::<(), String>("the runtime says that this kernel cannot map ids".into()));
        }
        cri
    }};
}

fn mapped() -> UserNamespace {
    UserNamespace { mode: NamespaceMode::Pod as i32, uids: vec![UIDS], gids: vec![GIDS] }
}

/// Options of namespaces with a container's own processes.
fn options(user: Option<UserNamespace>) -> NamespaceOption {
    NamespaceOption { pid: NamespaceMode::Container as i32, userns_options: user, ..Default::default() }
}

fn pod(cri: &Cri<'_>, name: &str, options: NamespaceOption) -> PodSandboxConfig {
    let mut pod = cri.pod(name);
    let security = LinuxSandboxSecurityContext { namespace_options: Some(options), ..Default::default() };
    pod.linux.as_mut().expect("it is Linux").security_context = Some(security);
    pod
}

fn container(cri: &Cri<'_>, name: &str, options: NamespaceOption, script: &str) -> ContainerConfig {
    let mut container = cri.container(name, BUSYBOX, &["sh", "-c", script]);
    let security = LinuxContainerSecurityContext { namespace_options: Some(options), ..Default::default() };
    container.linux.as_mut().expect("it is Linux").security_context = Some(security);
    container
}

#[test]
fn a_pod_gets_the_ids_that_its_client_chose() {
    let node = need!(Node::with_busybox());
    let mut cri = served!(node);
    let pod = pod(&cri, "mapped", options(Some(mapped())));
    let sandbox = cri.run_pod(&pod);
    let status = cri.pod_status(&sandbox);
    let shown = status.linux.and_then(|it| it.namespaces).and_then(|it| it.options).and_then(|it| it.userns_options);
    assert_eq!(shown, Some(mapped()));
    let container = container(&cri, "c", options(Some(mapped())), "echo up; exec sleep 1000");
    let id = cri.run_container(&sandbox, &pod, &container);
    cri.wait_for_log(&pod, &container, "up");
    for (file, id_map) in [("uid_map", UIDS), ("gid_map", GIDS)] {
        let map = cri.output(&id, &["cat", &format!("/proc/1/{file}")]);
        let map: Vec<u32> = map.split_whitespace().map(|it| it.parse().expect("a number")).collect();
        assert_eq!(map, [0, id_map.host_id, id_map.length], "{file}");
    }
    assert_eq!(cri.output(&id, &["sh", "-c", "touch /file; stat -c %u:%g /file /dev/null | sort -u"]), "0:0");
    // Its root has the default capabilities and no more.
    assert_eq!(cri.output(&id, &["sh", "-c", "ip link set lo mtu 1000 2>/dev/null || echo refused"]), "refused");
    // A runtime that was killed finds it again.
    cri.kill();
    cri.restart();
    assert_eq!(cri.output(&id, &["id", "-u"]), "0");
    let stats = cri.client().container_stats(ContainerStatsRequest { container_id: id.clone() }).expect("it has stats");
    assert!(stats.stats.and_then(|it| it.memory).is_some());
    cri.stop_container(&id, 0);
    assert_eq!(cri.wait_for_state(&id, ContainerState::ContainerExited).exit_code, 137);
    cri.remove_pod(&sandbox);
}

#[test]
fn the_pods_network_and_messages_are_governed_by_its_root() {
    let node = need!(Node::with_busybox());
    let cri = served!(node);
    let mut pod = pod(&cri, "owned", options(Some(mapped())));
    let sysctls = [("net.ipv4.ping_group_range", "0 1000"), ("kernel.shm_rmid_forced", "1"), ("kernel.msgmax", "9000")];
    pod.linux.as_mut().expect("it is Linux").sysctls = e2e::cri::map(&sysctls);
    let sandbox = cri.run_pod(&pod);
    let script = "ip link set lo mtu 1000 && echo linked; hostname other && hostname; \
        cat /proc/sys/net/ipv4/ping_group_range /proc/sys/kernel/shm_rmid_forced /proc/sys/kernel/msgmax";
    let mut container = container(&cri, "c", options(Some(mapped())), script);
    let security = container.linux.as_mut().and_then(|it| it.security_context.as_mut()).expect("it has one");
    let add = vec!["NET_ADMIN".to_owned(), "SYS_ADMIN".to_owned()];
    security.capabilities = Some(Capability { add_capabilities: add, ..Default::default() });
    cri.run_to_end(&sandbox, &pod, &container);
    let logs = cri.logs(&pod, &container);
    let said: Vec<String> = logs.iter().map(|it| it.text.replace('\t', " ").trim().to_owned()).collect();
    assert_eq!(said, ["linked", "other", "0 1000", "1", "9000"]);
}

#[test]
fn a_terminal_belongs_to_the_pods_user() {
    let node = need!(Node::with_busybox());
    let cri = served!(node);
    let pod = pod(&cri, "tty", options(Some(mapped())));
    let sandbox = cri.run_pod(&pod);
    let script = "test -t 0 && test -t 1 && echo terminal $(stat -c %u:%g $(tty)); echo again > /dev/console && \
        test -c /dev/console && echo console";
    let mut container = container(&cri, "c", options(Some(mapped())), script);
    container.tty = true;
    cri.run_to_end(&sandbox, &pod, &container);
    let text: Vec<String> = cri.logs(&pod, &container).iter().map(|it| it.text.trim().to_owned()).collect();
    assert_eq!(text, ["terminal 0:5", "again", "console"]);
}

#[test]
fn volumes_are_mapped_as_each_mount_says() {
    let node = need!(Node::with_busybox());
    let cri = served!(node);
    let dir = cri.make_dir("volume");
    std::fs::write(dir.join("old"), "").expect("it is writable");
    let path = dir.display().to_string();
    let mount = |container_path: &str, uid_mappings: Vec<IdMapping>, gid_mappings: Vec<IdMapping>| Mount {
        container_path: container_path.into(),
        host_path: path.clone(),
        uid_mappings,
        gid_mappings,
        ..Default::default()
    };
    let script = "for d in /mapped /plain /shifted; do echo $d $(stat -c %u:%g $d/old); done; touch /mapped/new; \
        touch /plain/new2 || echo closed";
    let pod = pod(&cri, "volumes", options(Some(mapped())));
    let sandbox = cri.run_pod(&pod);
    let mut container = container(&cri, "c", options(Some(mapped())), script);
    // One more that is not the pod's: id 0 on the disk is 7 inside.
    let shifted = |it: IdMapping| IdMapping { host_id: it.host_id + 7, length: 10, ..it };
    container.mounts = vec![
        mount("/mapped", vec![UIDS], vec![GIDS]),
        mount("/plain", vec![], vec![]),
        mount("/shifted", vec![shifted(UIDS)], vec![shifted(GIDS)]),
    ];
    cri.run_to_end(&sandbox, &pod, &container);
    let text: Vec<String> = cri
        .logs(&pod, &container)
        .iter()
        .map(|it| it.text.trim().to_owned())
        .filter(|it| !it.starts_with("touch"))
        .collect();
    assert_eq!(text, ["/mapped 0:0", "/plain 65534:65534", "/shifted 7:7", "closed"]);
    let made = std::fs::metadata(dir.join("new")).expect("it was made");
    assert_eq!((made.uid(), made.gid()), (0, 0));

    // It works for a pod without a user namespace as well.
    let plain = cri.pod("plain");
    let sandbox = cri.run_pod(&plain);
    let mut container = cri.container("c", BUSYBOX, &["stat", "-c", "%u:%g", "/mapped/old"]);
    container.mounts = vec![mount("/mapped", vec![UIDS], vec![GIDS])];
    cri.run_to_end(&sandbox, &plain, &container);
    assert_eq!(cri.logs(&plain, &container)[0].text.trim(), "200000:300000");
}

#[test]
fn a_volume_that_cannot_be_mapped_is_refused() {
    let node = need!(Node::with_busybox());
    let cri = served!(node);
    let pod = pod(&cri, "refused", options(Some(mapped())));
    let sandbox = cri.run_pod(&pod);
    let mut container = container(&cri, "c", options(Some(mapped())), "true");
    let mount = Mount {
        container_path: "/v".into(),
        host_path: "/proc".into(),
        uid_mappings: vec![UIDS],
        gid_mappings: vec![GIDS],
        ..Default::default()
    };
    for (mount, expected) in [
        (mount.clone(), "/proc cannot be mounted with mapped ids"),
        (Mount { gid_mappings: vec![], ..mount.clone() }, "the mount at /v has no gid mapping"),
        (Mount { uid_mappings: vec![IdMapping { length: 0, ..UIDS }], ..mount }, "a uid mapping of the mount at /v"),
    ] {
        container.mounts = vec![mount];
        let error = cri.try_create_container(&sandbox, &pod, &container).expect_err(expected);
        assert_eq!(error.code(), Code::InvalidArgument, "{error}");
        assert!(error.message().contains(expected), "{error}");
    }
}

#[test]
fn what_no_pod_can_have_is_an_invalid_argument() {
    let node = need!(Node::with_busybox());
    let cri = served!(node);
    let user = |mode: NamespaceMode, uids: &[IdMapping], gids: &[IdMapping]| {
        options(Some(UserNamespace { mode: mode as i32, uids: uids.to_vec(), gids: gids.to_vec() }))
    };
    let second = IdMapping { container_id: 65_536, host_id: 900_000, length: 10 };
    let pod_mode = NamespaceMode::Pod;
    let node_mode = NamespaceMode::Node as i32;
    let rows = [
        ("two mappings", user(pod_mode, &[UIDS, second], &[GIDS, second])),
        ("no mapping", user(pod_mode, &[], &[])),
        ("no gids", user(pod_mode, &[UIDS], &[])),
        ("no root", user(pod_mode, &[IdMapping { container_id: 1, ..UIDS }], &[IdMapping { container_id: 1, ..GIDS }])),
        ("different lengths", user(pod_mode, &[UIDS], &[IdMapping { length: 5, ..GIDS }])),
        ("no length", user(pod_mode, &[IdMapping { length: 0, ..UIDS }], &[IdMapping { length: 0, ..GIDS }])),
        ("too far", user(pod_mode, &[IdMapping { host_id: u32::MAX - 5, ..UIDS }], &[GIDS])),
        ("container", user(NamespaceMode::Container, &[], &[])),
        ("target", user(NamespaceMode::Target, &[], &[])),
        ("node with mappings", user(NamespaceMode::Node, &[UIDS], &[GIDS])),
        ("the host's network", NamespaceOption { network: node_mode, ..options(Some(mapped())) }),
        ("the host's processes", NamespaceOption { pid: node_mode, ..options(Some(mapped())) }),
        ("the host's ipc", NamespaceOption { ipc: node_mode, ..options(Some(mapped())) }),
    ];
    for (what, options) in rows {
        let error = cri.try_run_pod(&pod(&cri, "wrong", options)).expect_err(what);
        assert_eq!(error.code(), Code::InvalidArgument, "{what}: {error}");
        assert!(error.message().contains("namespace_options"), "{what}: {error}");
    }
}

#[test]
fn a_container_says_what_its_pod_says() {
    let node = need!(Node::with_busybox());
    let cri = served!(node);
    let other = UserNamespace { uids: vec![IdMapping { host_id: 400_000, ..UIDS }], ..mapped() };
    let node_mode = UserNamespace { mode: NamespaceMode::Node as i32, ..Default::default() };
    let inside = pod(&cri, "inside", options(Some(mapped())));
    let outside = pod(&cri, "outside", options(None));
    let (in_sandbox, out_sandbox) = (cri.run_pod(&inside), cri.run_pod(&outside));
    for (sandbox, pod, user) in [
        (&in_sandbox, &inside, None),
        (&in_sandbox, &inside, Some(other)),
        (&in_sandbox, &inside, Some(node_mode.clone())),
        (&out_sandbox, &outside, Some(mapped())),
    ] {
        let container = container(&cri, "c", options(user.clone()), "true");
        let error = cri.try_create_container(sandbox, pod, &container).expect_err("it differs");
        assert_eq!(error.code(), Code::InvalidArgument, "{user:?}: {error}");
        assert!(error.message().contains("userns_options"), "{user:?}: {error}");
    }
    let mut beyond = container(&cri, "c", options(Some(mapped())), "true");
    let security = beyond.linux.as_mut().and_then(|it| it.security_context.as_mut()).expect("it has one");
    security.run_as_user = Some(Int64Value { value: 65_536 });
    let error = cri.try_create_container(&in_sandbox, &inside, &beyond).expect_err("it is not mapped");
    assert_eq!(error.code(), Code::InvalidArgument, "{error}");
    assert!(error.message().contains("the user 65536 is not mapped"), "{error}");
    // The host's by name is as good as nothing said.
    let host = container(&cri, "host", options(Some(node_mode)), "cat /proc/self/uid_map");
    cri.run_to_end(&out_sandbox, &outside, &host);
    assert!(cri.logs(&outside, &host)[0].text.contains("4294967295"));
}
