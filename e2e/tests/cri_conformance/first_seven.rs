//! The seven things that a young runtime gets wrong first.

use e2e::archive::Packing;
use e2e::cri::Endpoint;
use e2e::cri::proto::*;
use e2e::{deadline, fixtures, need};
use serde_json::json;
use tonic::Code;

use crate::harness::tests;
use crate::tools::{Pod, image, resources};

tests![
    a_timeout_of_exec_sync_leaves_the_container_alone,
    a_timeout_of_exec_sync_kills_the_children_of_the_command,
    an_image_is_one_by_its_id_and_its_tags,
    mounts_propagate_as_they_are_asked_to,
    a_tag_is_removed_alone,
    stop_and_remove_may_be_repeated,
    stopping_what_is_unknown_is_no_error,
    memory_that_runs_out_is_the_reason,
    a_status_has_every_attribute,
    exec_attach_and_port_forward_have_addresses,
];

fn a_timeout_of_exec_sync_leaves_the_container_alone(endpoint: &dyn Endpoint) {
    let pod = Pod::new(endpoint);
    let id = pod.keeper(|_| {});
    let status = endpoint.try_exec_sync(&id, &["sleep", "4321"], 1).expect_err("it takes longer");
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status}");
    assert_eq!(endpoint.status_of(&id).state(), ContainerState::ContainerRunning);
    assert_eq!(endpoint.output(&id, &["echo", "alive"]), "alive");
    assert!(!endpoint.output(&id, &["ps"]).contains("4321"), "the command goes on");
}

fn a_timeout_of_exec_sync_kills_the_children_of_the_command(endpoint: &dyn Endpoint) {
    let pod = Pod::new(endpoint);
    let id = pod.keeper(|_| {});
    let script = "(setsid sleep 4322 &) ; sleep 4323 & wait";
    endpoint.try_exec_sync(&id, &["sh", "-c", script], 1).expect_err("it takes longer");
    let left = endpoint.output(&id, &["ps"]);
    assert!(!left.contains("432"), "children of the command go on:\n{left}");
    assert_eq!(endpoint.status_of(&id).state(), ContainerState::ContainerRunning);
}

fn an_image_is_one_by_its_id_and_its_tags(endpoint: &dyn Endpoint) {
    let names = ["a", "b", "c"].map(|tag| format!("conformance.test/tags:{tag}"));
    for name in &names {
        let built = need!(fixtures::busybox_image(name, json!({"Labels": {"of": "tags"}})));
        let path = endpoint.make_dir("archives").join("tags.tar");
        built.write_oci(&path, Packing::Gzip).expect("the directory is writable");
        endpoint.import(&path, name);
    }
    let client = endpoint.client();
    let status = |name: &str| {
        let request = ImageStatusRequest { image: image(name), verbose: false };
        client.image_status(request).expect("ImageStatus answers").image
    };
    let first = status(&names[0]).expect("it was imported");
    let mut tags = first.repo_tags.clone();
    tags.sort();
    assert_eq!(tags, names);
    for name in names.iter().chain([&first.id]) {
        assert_eq!(status(name).map(|it| it.id), Some(first.id.clone()), "{name}");
    }
    let listed = client.list_images(ListImagesRequest::default()).expect("ListImages answers").images;
    assert_eq!(listed.iter().filter(|it| it.id == first.id).count(), 1, "{listed:#?}");

    let pod = Pod::new(endpoint);
    let id = pod.keeper(|config| config.image = image(&first.id));
    assert_eq!(endpoint.output(&id, &["echo", "by id"]), "by id");
    endpoint.stop_container(&id, 0);
    endpoint.remove_container(&id);

    let remove = |name: &str| client.remove_image(RemoveImageRequest { image: image(name) });
    remove(&first.id).expect("RemoveImage answers");
    for name in names.iter().chain([&first.id]) {
        assert!(status(name).is_none(), "{name} is gone with the image");
    }
    remove(&first.id).expect("an image that is not there is none to remove");
}

fn a_tag_is_removed_alone(endpoint: &dyn Endpoint) {
    let names = ["a", "b"].map(|tag| format!("conformance.test/alone:{tag}"));
    for name in &names {
        let built = need!(fixtures::busybox_image(name, json!({"Labels": {"of": "alone"}})));
        let path = endpoint.make_dir("archives").join("alone.tar");
        built.write_oci(&path, Packing::Gzip).expect("the directory is writable");
        endpoint.import(&path, name);
    }
    let client = endpoint.client();
    let status = |name: &str| {
        let request = ImageStatusRequest { image: image(name), verbose: false };
        client.image_status(request).expect("ImageStatus answers").image
    };
    client.remove_image(RemoveImageRequest { image: image(&names[0]) }).expect("RemoveImage answers");
    assert!(status(&names[0]).is_none(), "the tag is gone");
    assert_eq!(status(&names[1]).map(|it| it.repo_tags), Some(vec![names[1].clone()]), "the other stays");
    client.remove_image(RemoveImageRequest { image: image(&names[1]) }).expect("RemoveImage answers");
    assert!(status(&names[1]).is_none(), "the image is gone with its last tag");
}

fn mounts_propagate_as_they_are_asked_to(endpoint: &dyn Endpoint) {
    let base = endpoint.shared_dir().join(crate::tools::unique("propagation"));
    std::fs::create_dir_all(&base).expect("the tmpfs is writable");
    let pod = Pod::with(endpoint, |config| {
        let linux = config.linux.get_or_insert_default();
        linux.security_context.get_or_insert_default().privileged = true;
    });
    let mounted = |propagation: MountPropagation| {
        pod.keeper(|config| {
            config.mounts.push(Mount {
                container_path: "/shared".into(),
                host_path: base.display().to_string(),
                propagation: propagation as i32,
                ..Default::default()
            });
            crate::tools::security(config).privileged = true;
        })
    };
    let private = mounted(MountPropagation::PropagationPrivate);
    let slave = mounted(MountPropagation::PropagationHostToContainer);
    let both = mounted(MountPropagation::PropagationBidirectional);
    let mount = |id: &str, name: &str| {
        let script =
            format!("mkdir /shared/{name} && mount -t tmpfs {name} /shared/{name} && echo x > /shared/{name}/file");
        endpoint.output(id, &["sh", "-c", &script]);
    };
    // The host's are seen by two of them.
    let host = base.join("host");
    std::fs::create_dir(&host).expect("the tmpfs is writable");
    rustix::mount::mount("host", &host, "tmpfs", rustix::mount::MountFlags::empty(), None).expect("root may mount");
    std::fs::write(host.join("file"), "x").expect("the tmpfs is writable");
    let sees = |id: &str, name: &str| {
        let path = format!("/shared/{name}/file");
        endpoint.exec_sync(id, &["test", "-e", &path]).exit_code == 0
    };
    assert_eq!([sees(&private, "host"), sees(&slave, "host"), sees(&both, "host")], [false, true, true]);
    // A container's own are seen by the host, and by what listens to it, if they were shared.
    mount(&private, "private");
    mount(&slave, "slave");
    mount(&both, "both");
    let on_host = |name: &str| base.join(name).join("file").exists();
    assert_eq!([on_host("private"), on_host("slave"), on_host("both")], [false, false, true]);
    assert_eq!([sees(&private, "both"), sees(&slave, "both")], [false, true]);
    drop(pod);
    for name in ["host", "both"] {
        rustix::mount::unmount(base.join(name), rustix::mount::UnmountFlags::DETACH).expect("it is mounted");
    }
}

fn stop_and_remove_may_be_repeated(endpoint: &dyn Endpoint) {
    let pod = Pod::new(endpoint);
    let id = pod.keeper(|_| {});
    for _ in 0..2 {
        endpoint.stop_container(&id, 5);
    }
    for _ in 0..2 {
        endpoint.remove_container(&id);
    }
    for _ in 0..2 {
        endpoint.stop_pod(&pod.id);
        assert_eq!(endpoint.client().list_pod_sandbox(by_id(&pod.id)).expect("a list").items.len(), 1);
    }
    for _ in 0..2 {
        let removed = endpoint.client().remove_pod_sandbox(RemovePodSandboxRequest { pod_sandbox_id: pod.id.clone() });
        removed.expect("RemovePodSandbox may be repeated");
    }
    let unknown = "0123456789abcdef".repeat(4);
    endpoint.remove_container(&unknown);
    let removed = endpoint.client().remove_pod_sandbox(RemovePodSandboxRequest { pod_sandbox_id: unknown });
    removed.expect("what is not there is none to remove");
}

fn stopping_what_is_unknown_is_no_error(endpoint: &dyn Endpoint) {
    let unknown = "0123456789abcdef".repeat(4);
    endpoint.stop_container(&unknown, 0);
    endpoint.stop_pod(&unknown);
}

fn by_id(id: &str) -> ListPodSandboxRequest {
    ListPodSandboxRequest { filter: Some(PodSandboxFilter { id: id.into(), ..Default::default() }) }
}

fn memory_that_runs_out_is_the_reason(endpoint: &dyn Endpoint) {
    let pod = Pod::new(endpoint);
    // One that dies at once containerd does not watch yet.
    let mut config = pod.script("hungry", "sleep 0.5; exec dd if=/dev/zero of=/dev/null bs=200M count=1");
    resources(&mut config).memory_limit_in_bytes = 24 << 20;
    let status = pod.run_to_end(&config);
    assert_eq!((status.reason.as_str(), status.exit_code), ("OOMKilled", 137), "{status:#?}");
}

fn a_status_has_every_attribute(endpoint: &dyn Endpoint) {
    let pod = Pod::new(endpoint);
    let host = endpoint.make_dir("attributes");
    // Of one that ends at once containerd may tell the end before the start.
    let mut config = pod.script("c", "sleep 0.3; exit 3");
    config.labels = e2e::cri::map(&[("of", "label")]);
    config.annotations = e2e::cri::map(&[("of", "annotation")]);
    config.metadata = Some(ContainerMetadata { name: "c".into(), attempt: 7 });
    config.mounts.push(Mount {
        container_path: "/m".into(),
        host_path: host.display().to_string(),
        readonly: true,
        ..Default::default()
    });
    let id = pod.create(&config);
    let created = endpoint.status_of(&id);
    assert_eq!(created.state(), ContainerState::ContainerCreated);
    assert_eq!((created.started_at, created.finished_at, created.exit_code), (0, 0, 0), "{created:#?}");
    endpoint.start_container(&id);
    let ended = endpoint.wait_for_state(&id, ContainerState::ContainerExited);
    assert_eq!((ended.id.as_str(), &ended.metadata), (id.as_str(), &config.metadata));
    assert_eq!((&ended.labels, &ended.annotations), (&config.labels, &config.annotations));
    assert_eq!(ended.log_path, endpoint.log_file(&pod.config, &config).display().to_string());
    assert_eq!(ended.image.as_ref().map(|it| it.image.as_str()), Some(e2e::BUSYBOX));
    assert!(ended.image_ref.contains("sha256:"), "{ended:#?}");
    assert_eq!((ended.reason.as_str(), ended.exit_code), ("Error", 3));
    assert!(created.created_at == ended.created_at && ended.created_at > 0, "{ended:#?}");
    assert!(ended.created_at <= ended.started_at && ended.started_at <= ended.finished_at, "{ended:#?}");
    let mount = ended.mounts.iter().find(|it| it.container_path == "/m").expect("the mount is shown");
    assert_eq!((mount.host_path.clone(), mount.readonly), (host.display().to_string(), true));
    let listed = endpoint.client().list_containers(ListContainersRequest {
        filter: Some(ContainerFilter { id: id.clone(), ..Default::default() }),
    });
    let listed = listed.expect("ListContainers answers").containers;
    let item = listed.first().expect("it is listed");
    assert_eq!((&item.pod_sandbox_id, &item.metadata, &item.labels), (&pod.id, &config.metadata, &config.labels));
    assert_eq!(item.image_ref, ended.image_ref);
    let done = pod.run_to_end(&pod.script("d", "exit 0"));
    assert_eq!((done.reason.as_str(), done.exit_code), ("Completed", 0));
}

fn exec_attach_and_port_forward_have_addresses(endpoint: &dyn Endpoint) {
    let pod = Pod::new(endpoint);
    let id = pod.keeper(|config| config.stdin = true);
    let client = endpoint.client();
    let cmd = vec!["true".to_owned()];
    let exec = ExecRequest { container_id: id.clone(), cmd, stdout: true, ..Default::default() };
    let urls = [
        client.exec(exec).expect("Exec answers").url,
        client
            .attach(AttachRequest { container_id: id, stdout: true, stdin: true, ..Default::default() })
            .expect("Attach answers")
            .url,
        client
            .port_forward(PortForwardRequest { pod_sandbox_id: pod.id.clone(), port: vec![80] })
            .expect("PortForward answers")
            .url,
    ];
    for url in urls {
        let address = url.strip_prefix("http://").and_then(|rest| rest.split('/').next()).unwrap_or_default();
        assert!(address.starts_with("127.0.0.1:"), "{url}");
        // Somebody listens there, in the runtime's network, and answers what is not meant for it.
        let socket = address.parse().expect("an address with a port");
        let answer = e2e::traffic::get_within(endpoint.host(), socket, deadline());
        assert!(answer.is_ok() || answer.is_err_and(|error| error.kind() != std::io::ErrorKind::ConnectionRefused));
    }
}
