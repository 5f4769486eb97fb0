//! Mounts; their propagation is among the first seven.

use std::path::Path;

use e2e::cri::Endpoint;
use e2e::cri::proto::*;
use e2e::{BUSYBOX, need, skip};
use tonic::Code;

use crate::harness::tests;
use crate::tools::{Pod, image, unique};

tests![
    a_directory_of_the_host_is_mounted,
    a_mount_is_read_only_if_asked_for,
    a_file_of_the_host_is_mounted,
    a_link_of_the_host_is_followed,
    a_mount_covers_another,
    hosts_and_resolv_conf_are_the_requests_if_it_mounts_them,
    read_only_is_recursive_if_asked_for,
    an_image_is_mounted,
    a_part_of_an_image_is_mounted,
    options_of_a_mount_are_kept,
    ids_of_a_mount_are_mapped,
    contradictory_mounts_are_refused,
];

fn directory(endpoint: &dyn Endpoint) -> std::path::PathBuf {
    let path = endpoint.make_dir(&unique("volume"));
    std::fs::write(path.join("file"), "of the host\n").expect("the directory is writable");
    path
}

fn at(target: &str, source: &Path) -> Mount {
    Mount { container_path: target.into(), host_path: source.display().to_string(), ..Default::default() }
}

fn a_directory_of_the_host_is_mounted(endpoint: &dyn Endpoint) {
    let host = directory(endpoint);
    let pod = Pod::new(endpoint);
    let said = pod.says("cat /deep/er/file; echo back > /deep/er/made", |config| {
        config.mounts.push(at("/deep/er", &host));
    });
    assert_eq!(said, "of the host");
    assert_eq!(std::fs::read_to_string(host.join("made")).expect("it was made"), "back\n");
}

fn a_mount_is_read_only_if_asked_for(endpoint: &dyn Endpoint) {
    let host = directory(endpoint);
    let pod = Pod::new(endpoint);
    let said = pod.says("cat /m/file; touch /m/made 2>&1 || true", |config| {
        config.mounts.push(Mount { readonly: true, ..at("/m", &host) });
    });
    assert!(said.starts_with("of the host") && said.contains("Read-only file system"), "{said}");
    assert!(!host.join("made").exists());
}

fn a_file_of_the_host_is_mounted(endpoint: &dyn Endpoint) {
    let host = directory(endpoint);
    let pod = Pod::new(endpoint);
    let said = pod.says("cat /etc/own.conf", |config| config.mounts.push(at("/etc/own.conf", &host.join("file"))));
    assert_eq!(said, "of the host");
}

fn a_link_of_the_host_is_followed(endpoint: &dyn Endpoint) {
    let host = directory(endpoint);
    let link = host.with_extension("link");
    std::os::unix::fs::symlink(&host, &link).expect("the directory is writable");
    let pod = Pod::new(endpoint);
    assert_eq!(pod.says("cat /m/file", |config| config.mounts.push(at("/m", &link))), "of the host");
}

fn a_mount_covers_another(endpoint: &dyn Endpoint) {
    let (outer, inner) = (directory(endpoint), directory(endpoint));
    std::fs::write(inner.join("file"), "inner\n").expect("the directory is writable");
    let pod = Pod::new(endpoint);
    // Whatever their order: a parent is mounted before what lies in it.
    let said = pod.says("cat /m/file /m/in/file", |config| {
        config.mounts.push(at("/m/in", &inner));
        config.mounts.push(at("/m", &outer));
    });
    assert_eq!(said, "of the host\ninner");
}

fn hosts_and_resolv_conf_are_the_requests_if_it_mounts_them(endpoint: &dyn Endpoint) {
    let host = directory(endpoint);
    let pod = Pod::new(endpoint);
    let said = pod.says("cat /etc/hosts /etc/resolv.conf", |config| {
        config.mounts.push(at("/etc/hosts", &host.join("file")));
        config.mounts.push(at("/etc/resolv.conf", &host.join("file")));
    });
    assert_eq!(said, "of the host\nof the host");
}

fn read_only_is_recursive_if_asked_for(endpoint: &dyn Endpoint) {
    let base = endpoint.shared_dir().join(unique("recursive"));
    let below = base.join("below");
    std::fs::create_dir_all(&below).expect("the tmpfs is writable");
    rustix::mount::mount("below", &below, "tmpfs", rustix::mount::MountFlags::empty(), None).expect("root may mount");
    let pod = Pod::new(endpoint);
    let with = |recursive: bool| {
        pod.says("touch /m/made 2>&1; touch /m/below/made 2>&1; true", |config| {
            config.mounts.push(Mount { readonly: true, recursive_read_only: recursive, ..at("/m", &base) });
        })
    };
    let (plain, recursive) = (with(false), with(true));
    drop(pod);
    rustix::mount::unmount(&below, rustix::mount::UnmountFlags::DETACH).expect("it is mounted");
    assert_eq!(plain.matches("Read-only").count(), 1, "{plain}");
    assert_eq!(recursive.matches("Read-only").count(), 2, "{recursive}");
}

fn an_image_is_mounted(endpoint: &dyn Endpoint) {
    let pod = Pod::new(endpoint);
    let said = pod.says("/image/bin/busybox echo of the image; touch /image/made 2>&1 || true", |config| {
        config.mounts.push(Mount {
            image: image(BUSYBOX),
            readonly: true,
            container_path: "/image".into(),
            ..Default::default()
        });
    });
    assert!(said.starts_with("of the image") && said.contains("Read-only"), "{said}");
}

fn a_part_of_an_image_is_mounted(endpoint: &dyn Endpoint) {
    let pod = Pod::new(endpoint);
    let mount = |part: &str| Mount {
        image: image(BUSYBOX),
        image_sub_path: part.into(),
        readonly: true,
        container_path: "/part".into(),
        ..Default::default()
    };
    let said = pod.says("head -n 1 /part/passwd", |config| config.mounts.push(mount("etc")));
    assert!(said.starts_with("root:"), "{said}");
    for wrong in ["no/such", "../etc", "/etc/../.."] {
        pod.refuses(|config| config.mounts.push(mount(wrong)));
    }
}

fn options_of_a_mount_are_kept(endpoint: &dyn Endpoint) {
    let features = endpoint.client().status(StatusRequest::default()).expect("Status answers").features;
    if !features.is_some_and(|it| it.mount_options) {
        skip!("{} has no mount options, as its Status says", endpoint.name());
    }
    let host = directory(endpoint);
    let pod = Pod::new(endpoint);
    let said = pod.says("grep ' /m ' /proc/self/mountinfo", |config| {
        config.mounts.push(Mount { mount_options: vec!["noexec".into(), "nosuid".into()], ..at("/m", &host) });
    });
    assert!(said.contains("noexec") && said.contains("nosuid"), "{said}");
}

fn ids_of_a_mount_are_mapped(endpoint: &dyn Endpoint) {
    let host = directory(endpoint);
    let ids = vec![IdMapping { host_id: 1_000_000, container_id: 0, length: 65_536 }];
    let users = UserNamespace { mode: NamespaceMode::Pod as i32, uids: ids.clone(), gids: ids.clone() };
    let options = NamespaceOption { userns_options: Some(users), ..Default::default() };
    let pod = Pod::with_namespaces(endpoint, options.clone());
    let said = pod.says("stat -c %u:%g /m/file; touch /m/made", |config| {
        crate::tools::security(config).namespace_options = Some(options);
        config.mounts.push(Mount { uid_mappings: ids.clone(), gid_mappings: ids, ..at("/m", &host) });
    });
    assert_eq!(said, "0:0");
    use std::os::unix::fs::MetadataExt;
    let made = std::fs::metadata(host.join("made")).expect("it was made");
    assert_eq!((made.uid(), made.gid()), (0, 0), "what is written is the host's root's");
}

fn contradictory_mounts_are_refused(endpoint: &dyn Endpoint) {
    let host = need!(Ok::<_, String>(directory(endpoint)));
    let pod = Pod::new(endpoint);
    for (what, mount) in [
        ("recursive without read-only", Mount { recursive_read_only: true, ..at("/m", &host) }),
        (
            "recursive and propagated",
            Mount {
                readonly: true,
                recursive_read_only: true,
                propagation: MountPropagation::PropagationBidirectional as i32,
                ..at("/m", &host)
            },
        ),
        ("an image and a path", Mount { image: image(BUSYBOX), ..at("/m", &host) }),
        ("no target", Mount { container_path: String::new(), ..at("/m", &host) }),
        ("no source", Mount { host_path: String::new(), ..at("/m", &host) }),
        ("a part of no image", Mount { image_sub_path: "etc".into(), ..at("/m", &host) }),
    ] {
        let mut config = pod.script(&unique("c"), "true");
        config.mounts.push(mount);
        let refused = endpoint.try_create_container(&pod.id, &pod.config, &config).err();
        assert_eq!(refused.as_ref().map(|it| it.code()), Some(Code::InvalidArgument), "{what}: {refused:?}");
    }
}
