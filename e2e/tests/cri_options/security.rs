//! Identity, capabilities, filters, hidden paths.

use super::*;
use e2e::need;

fn number(value: i64) -> Option<Int64Value> {
    Some(Int64Value { value })
}

#[test]
fn groups_are_the_first_the_asked_for_and_the_images() {
    let node = need!(Node::with_busybox());
    let layer = e2e::archive::Layer::new()
        .file("etc/passwd", 0o644, b"root:x:0:0::/root:/bin/sh\nweb:x:1000:1000::/home/web:/bin/sh\n")
        .file("etc/group", 0o644, b"root:x:0:\nweb:x:1000:\nextra:x:50000:web\n");
    need!(node.import_variant("coracle.test/groups:1", serde_json::json!({}), &[layer.finish()]));
    let pod = Pod::new(&node);
    let run = |policy: SupplementalGroupsPolicy, change: fn(&mut LinuxContainerSecurityContext)| {
        pod.run(|config, linux| {
            config.image = Some(ImageSpec { image: "coracle.test/groups:1".into(), ..Default::default() });
            let context = linux.security_context.get_or_insert_default();
            context.supplemental_groups = vec![1234];
            context.supplemental_groups_policy = policy.into();
            change(context);
        })
    };
    let merged = run(SupplementalGroupsPolicy::Merge, |it| it.run_as_user = number(1000));
    assert_eq!(pod.output(&merged, &["id", "-G"]), "1000 1234 50000");
    let user = pod.cri.status_of(&merged).user.unwrap().linux.unwrap();
    assert_eq!((user.uid, user.gid, user.supplemental_groups), (1000, 1000, vec![1000, 1234, 50000]));
    let strict = run(SupplementalGroupsPolicy::Strict, |it| it.run_as_user = number(1000));
    assert_eq!(pod.output(&strict, &["id", "-G"]), "1000 1234");
    let other = run(SupplementalGroupsPolicy::Strict, |it| {
        it.run_as_username = "web".into();
        it.run_as_group = number(7);
    });
    assert_eq!(pod.output(&other, &["id", "-G"]), "7 1234");
}

#[test]
fn an_identity_that_contradicts_itself_is_refused() {
    let node = need!(Node::with_busybox());
    let pod = Pod::new(&node);
    let secured = |field: &str, change: fn(&mut LinuxContainerSecurityContext)| {
        pod.refuses(field, |_, linux| change(linux.security_context.get_or_insert_default()));
    };
    secured("linux.security_context.run_as_group", |it| it.run_as_group = number(7));
    secured("linux.security_context.run_as_user", |it| it.run_as_user = number(-1));
    secured("linux.security_context.run_as_username", |it| {
        (it.run_as_user, it.run_as_username) = (number(1), "root".into());
    });
    secured("linux.security_context.supplemental_groups_policy", |it| it.supplemental_groups_policy = 9);
    secured("linux.security_context.selinux_options", |it| {
        it.selinux_options = Some(SeLinuxOption { level: "s0:c1,c2".into(), ..Default::default() });
    });
    secured("linux.security_context.privileged", |it| it.privileged = true);
    let pid = |mode: NamespaceMode, target: &str| {
        Some(NamespaceOption { pid: mode.into(), target_id: target.into(), ..Default::default() })
    };
    pod.refuses("linux.security_context.namespace_options.pid", |_, linux| {
        linux.security_context.get_or_insert_default().namespace_options = pid(NamespaceMode::Node, "");
    });
    let created = pod.cri.create_container(&pod.id, &pod.config, &pod.config(|_, _| {}));
    pod.refuses("linux.security_context.namespace_options.target_id", |_, linux| {
        linux.security_context.get_or_insert_default().namespace_options = pid(NamespaceMode::Target, &created);
    });
    let mut config = pod.cri.pod("other");
    let context = LinuxSandboxSecurityContext { run_as_group: number(7), ..Default::default() };
    config.linux.get_or_insert_default().security_context = Some(context);
    refused("linux.security_context.run_as_group", pod.cri.try_run_pod(&config));
}

#[test]
fn capabilities_are_added_and_dropped_by_name_and_all() {
    let node = need!(Node::with_busybox());
    let pod = Pod::new(&node);
    let run = |add: &[&str], drop: &[&str], ambient: &[&str], user: Option<i64>| {
        let list = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        pod.secured(|it| {
            it.run_as_user = user.and_then(number);
            it.capabilities = Some(Capability {
                add_capabilities: list(add),
                drop_capabilities: list(drop),
                add_ambient_capabilities: list(ambient),
            });
        })
    };
    let bits = |id: &str, set: &str| u64::from_str_radix(&pod.status_line(id, set), 16).unwrap();
    const CHOWN: u64 = 1;
    const NET_BIND: u64 = 1 << 10;
    const DEFAULT: u64 = 0xa804_25fb;
    assert_eq!(bits(&run(&[], &[], &[], None), "CapEff"), DEFAULT);
    assert_eq!(bits(&run(&[], &["CAP_CHOWN"], &[], None), "CapBnd"), DEFAULT & !CHOWN);
    assert_eq!(bits(&run(&["chown"], &["ALL"], &[], None), "CapEff"), CHOWN);
    assert_eq!(bits(&run(&["ALL"], &["ALL"], &[], None), "CapBnd"), 0);
    let all = bits(&run(&["ALL"], &[], &[], None), "CapBnd");
    assert_eq!(all & DEFAULT, DEFAULT);
    assert_eq!(bits(&run(&["ALL"], &["CHOWN"], &[], None), "CapBnd"), all & !CHOWN);
    let ambient = run(&["NET_BIND_SERVICE"], &["ALL"], &["CAP_NET_BIND_SERVICE"], Some(1000));
    for set in ["CapAmb", "CapEff", "CapBnd"] {
        assert_eq!(bits(&ambient, set), NET_BIND, "{set}");
    }
    let without = run(&[], &[], &[], Some(1000));
    assert_eq!((bits(&without, "CapEff"), bits(&without, "CapAmb")), (0, 0));
    pod.refuses("capabilities.add_capabilities", |_, linux| {
        let capabilities = Capability { add_capabilities: vec!["CAP_NOPE".into()], ..Default::default() };
        linux.security_context.get_or_insert_default().capabilities = Some(capabilities);
    });
    pod.refuses("capabilities.add_ambient_capabilities", |_, linux| {
        let capabilities = Capability { add_ambient_capabilities: vec!["SYS_TIME".into()], ..Default::default() };
        linux.security_context.get_or_insert_default().capabilities = Some(capabilities);
    });
}

#[test]
fn a_filter_is_there_where_it_was_asked_for_and_not_for_a_privileged_container() {
    let node = need!(Node::with_busybox());
    let privileged = |_: &mut PodSandboxConfig, linux: &mut LinuxPodSandboxConfig| {
        linux.security_context.get_or_insert_default().privileged = true;
    };
    let pod = Pod::with(&node, privileged);
    let file = pod.cri.dir().join("no-chmod.json");
    let text = r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["chmod","fchmod","fchmodat","fchmodat2"],"action":"SCMP_ACT_ERRNO"}]}"#;
    std::fs::write(&file, text).unwrap();
    let run = |profile: Option<security_profile::ProfileType>, privileged: bool| {
        pod.secured(|it| {
            it.privileged = privileged;
            it.no_new_privs = privileged;
            let localhost = profile == Some(security_profile::ProfileType::Localhost);
            it.seccomp = profile.map(|kind| SecurityProfile {
                profile_type: kind.into(),
                localhost_ref: if localhost { file.display().to_string() } else { String::new() },
            });
        })
    };
    use security_profile::ProfileType::{Localhost, RuntimeDefault, Unconfined};
    for (profile, privileged, expected) in [
        (None, false, "0"),
        (Some(Unconfined), false, "0"),
        (Some(RuntimeDefault), false, "2"),
        (Some(Localhost), false, "2"),
        (Some(Localhost), true, "0"),
    ] {
        let id = run(profile, privileged);
        assert_eq!(pod.status_line(&id, "Seccomp"), expected, "{profile:?}");
        assert_eq!(pod.status_line(&id, "NoNewPrivs"), u8::from(privileged).to_string());
        let refuses = pod.cri.exec_sync(&id, &["chmod", "700", "/etc"]).exit_code != 0;
        assert_eq!(refuses, profile == Some(Localhost) && !privileged, "{profile:?}");
    }
    pod.refuses("linux.security_context.seccomp", |_, linux| {
        linux.security_context.get_or_insert_default().seccomp =
            Some(SecurityProfile { profile_type: Localhost.into(), localhost_ref: "/not/there.json".into() });
    });
}

#[test]
fn paths_are_hidden_and_protected_exactly_as_given() {
    let node = need!(Node::with_busybox());
    let pod = Pod::new(&node);
    let writes =
        |id: &str| pod.cri.exec_sync(id, &["sh", "-c", "echo 7 > /proc/sys/net/ipv4/ip_default_ttl"]).exit_code;
    let open = pod.secured(|_| {});
    assert_ne!(pod.output(&open, &["cat", "/proc/interrupts"]), "");
    assert_eq!(writes(&open), 0);
    let protected = pod.secured(|it| {
        it.masked_paths = vec!["/proc/interrupts".into(), "/var".into(), "/not/there".into()];
        it.readonly_paths = vec!["/proc/sys".into()];
        it.readonly_rootfs = true;
    });
    assert_eq!(pod.output(&protected, &["cat", "/proc/interrupts"]), "");
    assert_eq!(pod.output(&protected, &["ls", "/var"]), "");
    assert_ne!(writes(&protected), 0);
    assert_ne!(pod.cri.exec_sync(&protected, &["touch", "/file"]).exit_code, 0);
}

#[test]
fn apparmor_is_refused_by_name_where_the_host_has_none() {
    let enabled = std::fs::read_to_string("/sys/module/apparmor/parameters/enabled").unwrap_or_default();
    if enabled.trim() == "Y" {
        e2e::skip!("the kernel has AppArmor");
    }
    let node = need!(Node::with_busybox());
    let pod = Pod::new(&node);
    use security_profile::ProfileType::{Localhost, RuntimeDefault, Unconfined};
    for (kind, name) in [(RuntimeDefault, ""), (Localhost, "some-profile")] {
        pod.refuses("linux.security_context.apparmor", |_, linux| {
            linux.security_context.get_or_insert_default().apparmor =
                Some(SecurityProfile { profile_type: kind.into(), localhost_ref: name.into() });
        });
    }
    pod.secured(|it| {
        it.apparmor = Some(SecurityProfile { profile_type: Unconfined.into(), ..Default::default() });
    });
}
