//! What a pod as a whole is asked to be.

use super::*;
use e2e::need;

#[test]
fn sysctls_are_of_the_pods_namespaces_alone() {
    let node = need!(Node::with_busybox());
    let sysctl = |linux: &mut LinuxPodSandboxConfig, name: &str, value: &str| {
        linux.sysctls.insert(name.into(), value.into());
    };
    let pod = Pod::with(&node, |_, linux| {
        sysctl(linux, "net.ipv4.ip_default_ttl", "77");
        sysctl(linux, "net/ipv4/ip_unprivileged_port_start", "80");
        sysctl(linux, "kernel.msgmax", "9000");
        sysctl(linux, "kernel.domainname", "example");
    });
    let id = pod.run(|_, _| {});
    for (path, value) in [
        ("net/ipv4/ip_default_ttl", "77"),
        ("net/ipv4/ip_unprivileged_port_start", "80"),
        ("kernel/msgmax", "9000"),
        ("kernel/domainname", "example"),
    ] {
        assert_eq!(pod.output(&id, &["cat", &format!("/proc/sys/{path}")]), value);
    }
    let node_mode = NamespaceMode::Node as i32;
    for (name, network, ipc) in [
        ("kernel.panic", 0, 0),
        ("net..ipv4", 0, 0),
        ("net.ipv4.ip_default_ttl", node_mode, 0),
        ("kernel/domainname", node_mode, 0),
        ("kernel.shmmax", 0, node_mode),
        ("fs.mqueue.msg_max", 0, node_mode),
    ] {
        let mut config = pod.cri.pod("refused");
        let linux = config.linux.get_or_insert_default();
        let options = NamespaceOption { network, ipc, ..Default::default() };
        linux.security_context.get_or_insert_default().namespace_options = Some(options);
        sysctl(linux, name, "1");
        refused("linux.sysctls", pod.cri.try_run_pod(&config));
    }
}

#[test]
fn a_resolver_is_written_as_it_is_given() {
    let node = need!(Node::with_busybox());
    let pod = Pod::with(&node, |config, _| {
        config.dns_config = Some(DnsConfig {
            servers: vec!["192.0.2.53".into(), "2001:db8::53".into()],
            searches: vec!["a.example".into(), "b.example".into()],
            options: vec!["ndots:5".into()],
        });
    });
    let expected = "search a.example b.example\nnameserver 192.0.2.53\nnameserver 2001:db8::53\noptions ndots:5";
    assert_eq!(pod.output(&pod.run(|_, _| {}), &["cat", "/etc/resolv.conf"]), expected);
    let empty = PodSandboxConfig { dns_config: Some(DnsConfig::default()), ..pod.cri.pod("empty") };
    let sandbox = pod.cri.run_pod(&empty);
    let container = pod.cri.container("c", BUSYBOX, &["sleep", "1000"]);
    let id = pod.cri.run_container(&sandbox, &empty, &container);
    assert_eq!(pod.output(&id, &["cat", "/etc/resolv.conf"]), "");
}

#[test]
fn a_parent_cgroup_is_a_path_or_the_name_of_a_slice() {
    let node = need!(Node::with_busybox());
    // Of the client's own: nobody but the client removes it.
    let name = format!("e2e{}opt", std::process::id());
    let points: Vec<std::path::PathBuf> = std::fs::read_to_string("/proc/self/mounts")
        .unwrap()
        .lines()
        .map(|line| line.split(' ').collect::<Vec<_>>())
        .filter(|fields| fields[2] == "cgroup" || fields[2] == "cgroup2")
        .map(|fields| fields[1].into())
        .collect();
    let expected = [
        (format!("/{name}/besteffort/pod1"), format!("{name}/besteffort/pod1")),
        (format!("{name}-a-b.slice"), format!("{name}.slice/{name}-a.slice/{name}-a-b.slice")),
    ];
    let cri = Cri::start(&node);
    for (number, (asked, path)) in expected.iter().enumerate() {
        let mut config = cri.pod(&format!("p{number}"));
        config.linux.get_or_insert_default().cgroup_parent.clone_from(asked);
        let sandbox = cri.run_pod(&config);
        let id = cri.run_container(&sandbox, &config, &cri.container("c", BUSYBOX, &["sleep", "1000"]));
        for point in &points {
            let procs = std::fs::read_to_string(point.join(path).join(&id).join("cgroup.procs"));
            assert_ne!(procs.unwrap_or_default(), "", "{}: {path}", point.display());
        }
        cri.remove_pod(&sandbox);
        for point in &points {
            assert!(point.join(path).is_dir(), "the client's own cgroup stays");
            let mut part = std::path::Path::new(path);
            while part != std::path::Path::new("") {
                std::fs::remove_dir(point.join(part)).unwrap();
                part = part.parent().unwrap();
            }
        }
    }
    for asked in ["/a/../b", "-.slice", "a--b.slice"] {
        let mut config = cri.pod("refused");
        config.linux.get_or_insert_default().cgroup_parent = asked.into();
        refused("linux.cgroup_parent", cri.try_run_pod(&config));
    }
}

#[test]
fn what_the_pod_uses_as_a_whole_is_kept_and_changed() {
    let node = need!(Node::with_busybox());
    let amount = |shares: i64| Some(LinuxContainerResources { cpu_shares: shares, ..Default::default() });
    let pod = Pod::with(&node, |_, linux| (linux.overhead, linux.resources) = (amount(10), amount(20)));
    let shown = || {
        let request = PodSandboxStatusRequest { pod_sandbox_id: pod.id.clone(), verbose: true };
        let info = pod.cri.client().pod_sandbox_status(request).unwrap().info;
        let info: serde_json::Value = serde_json::from_str(&info["info"]).unwrap();
        let text = info.to_string();
        let amounts = find(&info, "amounts").unwrap_or_else(|| panic!("no amounts in {text}")).clone();
        ["overhead", "resources"].map(|name| amounts[name]["cpu_shares"].as_i64().unwrap())
    };
    assert_eq!(shown(), [10, 20]);
    let update = |id: &str, overhead, resources| {
        let request = UpdatePodSandboxResourcesRequest { pod_sandbox_id: id.into(), overhead, resources };
        pod.cri.client().update_pod_sandbox_resources(request)
    };
    update(&pod.id, None, amount(30)).unwrap();
    assert_eq!(shown(), [10, 30]);
    update(&pod.id, amount(11), amount(31)).unwrap();
    assert_eq!(shown(), [11, 31]);
    refused("overhead.cpu_shares", update(&pod.id, amount(-1), None));
    assert_eq!(update("0123456789abcdef", None, None).unwrap_err().code(), tonic::Code::NotFound);
}

/// A field at whatever depth.
fn find<'a>(value: &'a serde_json::Value, name: &str) -> Option<&'a serde_json::Value> {
    let map = value.as_object()?;
    map.get(name).or_else(|| map.values().find_map(|inner| find(inner, name)))
}

#[test]
fn a_pod_that_cannot_be_is_refused_by_its_field() {
    let node = need!(Node::with_busybox());
    let cri = Cri::start(&node);
    let refuses = |field: &str, change: fn(&mut PodSandboxConfig)| {
        let mut config = cri.pod("refused");
        change(&mut config);
        refused(field, cri.try_run_pod(&config));
    };
    refuses("hostname", |it| it.hostname = "h".repeat(65));
    refuses("log_directory", |it| it.log_directory = "relative".into());
    refuses("dns_config.servers[0]", |it| {
        it.dns_config = Some(DnsConfig { servers: vec!["192.0.2.1\nx".into()], ..Default::default() });
    });
    refuses("port_mappings[0].host_port", |it| {
        it.port_mappings = vec![PortMapping { container_port: 80, host_port: 70_000, ..Default::default() }];
    });
    refuses("linux.security_context.selinux_options", |it| {
        let context = it.linux.get_or_insert_default().security_context.get_or_insert_default();
        context.selinux_options = Some(SeLinuxOption { r#type: "container_t".into(), ..Default::default() });
    });
    refuses("linux.security_context.namespace_options.ipc", |it| {
        let context = it.linux.get_or_insert_default().security_context.get_or_insert_default();
        context.namespace_options =
            Some(NamespaceOption { ipc: NamespaceMode::Container as i32, ..Default::default() });
    });
    let request = RunPodSandboxRequest { config: Some(cri.pod("refused")), runtime_handler: "kata".into() };
    refused("runtime_handler", cri.client().run_pod_sandbox(request).map(drop));
    assert_eq!(cri.client().list_pod_sandbox(Default::default()).unwrap().items, []);
}
