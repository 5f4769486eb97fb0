//! Volumes of the host, images as volumes, and what every container finds mounted.

use super::*;
use e2e::need;
use std::fs;

#[test]
fn volumes_come_in_order_whatever_they_are() {
    let node = need!(Node::with_busybox());
    let pod = Pod::new(&node);
    let dir = pod.cri.make_dir("volumes");
    fs::create_dir(dir.join("real")).unwrap();
    fs::write(dir.join("real/file"), "linked").unwrap();
    std::os::unix::fs::symlink("real", dir.join("link")).unwrap();
    let (outer, inner) = (pod.cri.make_dir("outer"), pod.cri.make_dir("inner"));
    fs::write(inner.join("file"), "inner").unwrap();
    fs::write(outer.join("file"), "outer").unwrap();
    let (first, last) = (pod.cri.make_dir("first"), pod.cri.make_dir("last"));
    fs::write(last.join("file"), "last").unwrap();
    let missing = dir.join("made/by/the/runtime");
    let mounts = vec![
        volume("/outer/inner", &inner),
        volume("/outer", &outer),
        volume("/link", &dir.join("link")),
        volume("/missing", &missing),
        volume("/twice", &first),
        volume("/twice", &last),
    ];
    let id = pod.run(|config, _| config.mounts.clone_from(&mounts));
    assert_eq!(pod.output(&id, &["cat", "/outer/file"]), "outer");
    assert_eq!(pod.output(&id, &["cat", "/outer/inner/file"]), "inner");
    assert_eq!(pod.output(&id, &["cat", "/link/file"]), "linked");
    assert_eq!(pod.output(&id, &["cat", "/twice/file"]), "last");
    pod.output(&id, &["touch", "/missing/file"]);
    assert!(missing.join("file").is_file());
    assert_eq!(pod.cri.status_of(&id).mounts, mounts);
    pod.refuses("mounts[0].container_path", |config, _| config.mounts = vec![volume("relative", &inner)]);
    pod.refuses("mounts[1].host_path", |config, _| {
        config.mounts = vec![volume("/a", &inner), volume("/b", "relative".as_ref())];
    });
}

#[test]
fn a_volume_is_read_only_alone_or_with_all_below_it() {
    let node = need!(Node::with_busybox());
    let pod = Pod::new(&node);
    let shared = pod.cri.shared_dir();
    let below = shared.join("below");
    fs::create_dir(&below).unwrap();
    rustix::mount::mount("e2e", &below, "tmpfs", rustix::mount::MountFlags::empty(), None).unwrap();
    let run = |recursive: bool| {
        pod.run(|config, _| {
            let mount = Mount { readonly: true, recursive_read_only: recursive, ..volume("/v", shared) };
            config.mounts = vec![mount];
        })
    };
    let writes = |id: &str, path: &str| pod.cri.exec_sync(id, &["touch", path]).exit_code == 0;
    let plain = run(false);
    assert!(!writes(&plain, "/v/x") && writes(&plain, "/v/below/x"));
    let recursive = run(true);
    assert!(!writes(&recursive, "/v/x") && !writes(&recursive, "/v/below/x"));
    for (readonly, propagation) in [(false, 0), (true, 1), (true, 2)] {
        pod.refuses("mounts[0].recursive_read_only", |config, _| {
            config.mounts = vec![Mount { readonly, propagation, recursive_read_only: true, ..volume("/v", shared) }];
        });
    }
    rustix::mount::unmount(&below, rustix::mount::UnmountFlags::DETACH).unwrap();
}

#[test]
fn a_volume_has_the_flags_that_were_asked_for() {
    let node = need!(Node::with_busybox());
    let pod = Pod::new(&node);
    let dir = pod.cri.make_dir("flags");
    let program = dir.join("program");
    fs::write(&program, "#!/bin/sh\n").unwrap();
    fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let id = pod.run(|config, _| {
        let options = ["noexec", "nosuid", "nodev"].map(str::to_owned).into();
        config.mounts = vec![volume("/plain", &dir), Mount { mount_options: options, ..volume("/flags", &dir) }];
    });
    pod.output(&id, &["/plain/program"]);
    assert!(pod.cri.try_exec_sync(&id, &["/flags/program"], 60).is_err());
    let line = pod.sh(&id, "grep ' /flags ' /proc/mounts");
    assert!(["noexec", "nosuid", "nodev"].iter().all(|flag| line.contains(flag)), "{line}");
    pod.refuses("mounts[0].mount_options", |config, _| {
        config.mounts = vec![Mount { mount_options: vec!["size=1".into()], ..volume("/v", &dir) }];
    });
    let status = pod.cri.client().status(StatusRequest::default()).unwrap();
    assert!(status.features.unwrap().mount_options);
}

#[test]
fn propagation_needs_a_mount_that_propagates() {
    let node = need!(Node::with_busybox());
    let pod = Pod::new(&node);
    let shared = pod.cri.shared_dir();
    let to_container = MountPropagation::PropagationHostToContainer as i32;
    let both = MountPropagation::PropagationBidirectional as i32;
    let mount = |name: &str, propagation: i32| Mount { propagation, ..volume(&format!("/{name}"), shared) };
    let id = pod
        .run(|config, _| config.mounts = vec![mount("private", 0), mount("slave", to_container), mount("both", both)]);
    let later = shared.join("later");
    fs::create_dir(&later).unwrap();
    rustix::mount::mount("e2e", &later, "tmpfs", rustix::mount::MountFlags::empty(), None).unwrap();
    fs::write(later.join("file"), "").unwrap();
    let seen = |place: &str| pod.cri.exec_sync(&id, &["ls", &format!("/{place}/later/file")]).exit_code == 0;
    assert_eq!((seen("private"), seen("slave"), seen("both")), (false, true, true));
    rustix::mount::unmount(&later, rustix::mount::UnmountFlags::DETACH).unwrap();
    let private = pod.cri.make_dir("private");
    rustix::mount::mount("e2e", &private, "tmpfs", rustix::mount::MountFlags::empty(), None).unwrap();
    rustix::mount::mount_change(&private, rustix::mount::MountPropagationFlags::PRIVATE).unwrap();
    for propagation in [to_container, both] {
        pod.refuses("mounts[0].propagation", |config, _| {
            config.mounts = vec![Mount { propagation, ..volume("/v", &private) }];
        });
    }
    pod.refuses("mounts[0].propagation", |config, _| config.mounts = vec![mount("v", 9)]);
    rustix::mount::unmount(&private, rustix::mount::UnmountFlags::DETACH).unwrap();
}

#[test]
fn the_pods_files_and_memory_are_there_unless_the_client_mounts_its_own() {
    let node = need!(Node::with_busybox());
    let pod = Pod::new(&node);
    let own = pod.cri.make_dir("own");
    fs::write(own.join("hosts"), "192.0.2.7 mine\n").unwrap();
    fs::write(own.join("passwd"), "root:x:0:0::/:/bin/sh\n").unwrap();
    let plain = pod.run(|_, _| {});
    assert!(pod.output(&plain, &["cat", "/etc/hosts"]).contains("p"));
    assert_eq!(pod.output(&plain, &["cat", "/etc/hostname"]), "p");
    pod.output(&plain, &["sh", "-c", "echo shared > /dev/shm/file"]);
    let etc = pod.run(|config, _| {
        let hosts = volume("/etc/hosts", &own.join("hosts"));
        config.mounts = vec![hosts, volume("/etc", &own), volume("/dev/shm", &own)];
    });
    assert_eq!(pod.output(&etc, &["cat", "/etc/hosts"]), "192.0.2.7 mine");
    // A volume above the others does not hide what the pod's containers share.
    assert_eq!(pod.output(&etc, &["cat", "/etc/hostname"]), "p");
    assert_eq!(pod.output(&etc, &["ls", "/dev/shm"]), "hostname\nhosts\npasswd\nresolv.conf");
    let other = pod.run(|_, _| {});
    assert_eq!(pod.output(&other, &["cat", "/dev/shm/file"]), "shared");
}

#[test]
fn the_hosts_devices_as_a_volume_stay_as_they_are() {
    let node = need!(Node::with_busybox());
    let pod = Pod::with(&node, |_, linux| linux.security_context.get_or_insert_default().privileged = true);
    let dev = pod.cri.make_dir("dev");
    for name in ["null", "mine"] {
        fs::write(dev.join(name), "").unwrap();
    }
    fs::remove_file(dev.join("null")).unwrap();
    let null = rustix::fs::makedev(1, 3);
    let kind = rustix::fs::FileType::CharacterDevice;
    rustix::fs::mknodat(rustix::fs::CWD, dev.join("null"), kind, 0o666.into(), null).unwrap();
    let id = pod.run(|config, linux| {
        config.mounts = vec![volume("/dev", &dev)];
        linux.security_context.get_or_insert_default().privileged = true;
    });
    assert_eq!(pod.output(&id, &["ls", "/dev"]), "mine\nnull\nshm");
    assert!(pod.sh(&id, "grep ' /dev/shm ' /proc/mounts").contains(" tmpfs "));
}

#[test]
fn an_image_is_a_read_only_volume() {
    let node = need!(Node::with_busybox());
    let layers = [
        e2e::archive::Layer::new().dir("data", 0o755).file("data/a", 0o644, b"below").file("data/b", 0o644, b"b"),
        e2e::archive::Layer::new().file("data/a", 0o644, b"above").symlink("data/out", "/../../etc"),
    ];
    let layers = layers.map(e2e::archive::Layer::finish);
    need!(node.import_variant("coracle.test/files:1", serde_json::json!({}), &layers));
    let pod = Pod::new(&node);
    let image = |path: &str, sub_path: &str| Mount {
        container_path: path.into(),
        readonly: true,
        image: Some(ImageSpec { image: "coracle.test/files:1".into(), ..Default::default() }),
        image_sub_path: sub_path.into(),
        ..Default::default()
    };
    let id = pod.run(|config, _| config.mounts = vec![image("/all", ""), image("/part", "data")]);
    assert_eq!(pod.output(&id, &["cat", "/all/data/a"]), "above");
    assert_eq!(pod.output(&id, &["ls", "/part"]), "a\nb\nout");
    assert_ne!(pod.cri.exec_sync(&id, &["touch", "/all/x"]).exit_code, 0);
    let shown = &pod.cri.status_of(&id).mounts[1];
    assert_eq!(
        (shown.image.as_ref().unwrap().image.as_str(), shown.image_sub_path.as_str()),
        ("coracle.test/files:1", "data")
    );
    let wrong = [
        ("nowhere", "not in the image"),
        ("data/a", "not a directory"),
        ("data/out/x", "not in the image"),
        ("../data", "holds «..»"),
    ];
    for (sub_path, word) in wrong {
        let config = pod.config(|config, _| config.mounts = vec![image("/v", sub_path)]);
        let status = pod.cri.try_create_container(&pod.id, &pod.config, &config).unwrap_err();
        assert_eq!(status.code(), tonic::Code::InvalidArgument);
        // Clients know the failure by its first word.
        assert!(status.message().starts_with("ImageVolumeMountFailed: "), "{status}");
        assert!(status.message().contains(word), "{sub_path}: {status}");
    }
    let config = pod.config(|config, _| {
        let missing = ImageSpec { image: "coracle.test/none:1".into(), ..Default::default() };
        config.mounts = vec![Mount { image: Some(missing), ..image("/v", "") }];
    });
    let status = pod.cri.try_create_container(&pod.id, &pod.config, &config).unwrap_err();
    assert_eq!(status.code(), tonic::Code::NotFound, "{status}");
    assert!(status.message().starts_with("ImageVolumeMountFailed: "), "{status}");
    // It is there as long as a container has it.
    let spec = ImageSpec { image: "coracle.test/files:1".into(), ..Default::default() };
    let remove = || pod.cri.client().remove_image(RemoveImageRequest { image: Some(spec.clone()) });
    assert!(remove().is_err());
    assert_eq!(pod.output(&id, &["cat", "/part/a"]), "above");
    pod.cri.remove_container(&id);
    remove().expect("nobody has it any more");
}
