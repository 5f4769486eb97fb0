use super::*;

fn context() -> cri::LinuxContainerSecurityContext {
    cri::LinuxContainerSecurityContext::default()
}

fn id(value: i64) -> Option<cri::Int64Value> {
    Some(cri::Int64Value { value })
}

fn profile(kind: ProfileType, localhost_ref: &str) -> Option<cri::SecurityProfile> {
    Some(cri::SecurityProfile { profile_type: kind as i32, localhost_ref: localhost_ref.into() })
}

#[test]
fn nothing_said_is_unconfined_and_the_images_user() {
    let security = security(context()).unwrap();
    assert_eq!(security, Security::default());
    assert_eq!(security.seccomp, Seccomp::Unconfined);
}

#[test]
fn identity_is_a_user_or_a_name_and_a_group_beside_either() {
    let by_number = cri::LinuxContainerSecurityContext { run_as_user: id(7), run_as_group: id(8), ..context() };
    let found = security(by_number).unwrap();
    assert_eq!((found.user, found.group), (Some(7), Some(8)));
    let by_name = cri::LinuxContainerSecurityContext {
        run_as_username: "web".into(),
        run_as_group: id(8),
        supplemental_groups: vec![9],
        supplemental_groups_policy: 1,
        ..context()
    };
    let found = security(by_name).unwrap();
    assert_eq!((found.user, found.username.as_str(), found.group), (None, "web", Some(8)));
    assert_eq!((found.groups, found.strict_groups), (vec![9], true));
}

#[test]
fn profiles_are_read_from_the_messages_and_else_from_the_strings() {
    let rows = [
        (profile(ProfileType::RuntimeDefault, ""), "", Seccomp::RuntimeDefault),
        (profile(ProfileType::Unconfined, ""), "runtime/default", Seccomp::Unconfined),
        (profile(ProfileType::Localhost, "/a.json"), "", Seccomp::Localhost("/a.json".into())),
        (profile(ProfileType::Localhost, "localhost//a.json"), "", Seccomp::Localhost("/a.json".into())),
        (None, "runtime/default", Seccomp::RuntimeDefault),
        (None, "docker/default", Seccomp::RuntimeDefault),
        (None, "unconfined", Seccomp::Unconfined),
        (None, "localhost//a.json", Seccomp::Localhost("/a.json".into())),
        (None, "", Seccomp::Unconfined),
    ];
    for (profile, string, expected) in rows {
        assert_eq!(seccomp(profile.as_ref(), string).unwrap(), expected, "{profile:?} {string}");
    }
    let rows = [
        (profile(ProfileType::RuntimeDefault, ""), "localhost/x", (None, true)),
        (profile(ProfileType::Localhost, "localhost/x"), "", (Some("x".to_owned()), false)),
        (None, "localhost/x", (Some("x".to_owned()), false)),
        (None, "unconfined", (Some("unconfined".to_owned()), false)),
        (None, "", (None, false)),
    ];
    for (profile, string, expected) in rows {
        assert_eq!(apparmor(profile.as_ref(), string).unwrap(), expected, "{profile:?} {string}");
    }
}

#[test]
fn what_cannot_be_names_its_field() {
    let pid = |pid, target: &str| {
        let options = cri::NamespaceOption { pid, target_id: target.into(), ..Default::default() };
        cri::LinuxContainerSecurityContext { namespace_options: Some(options), ..context() }
    };
    let capability = |add: &str, drop: &str, ambient: &str| {
        let list = |name: &str| if name.is_empty() { vec![] } else { vec![name.to_owned()] };
        let capabilities = cri::Capability {
            add_capabilities: list(add),
            drop_capabilities: list(drop),
            add_ambient_capabilities: list(ambient),
        };
        cri::LinuxContainerSecurityContext { capabilities: Some(capabilities), ..context() }
    };
    let label = cri::SeLinuxOption { level: "s0".into(), ..Default::default() };
    let rows = [
        (cri::LinuxContainerSecurityContext { run_as_group: id(1), ..context() }, "run_as_group"),
        (cri::LinuxContainerSecurityContext { run_as_user: id(-1), ..context() }, "run_as_user"),
        (
            cri::LinuxContainerSecurityContext { run_as_user: id(1), run_as_group: id(1 << 32), ..context() },
            "run_as_group",
        ),
        (
            cri::LinuxContainerSecurityContext { run_as_user: id(1), run_as_username: "a".into(), ..context() },
            "run_as_username",
        ),
        (cri::LinuxContainerSecurityContext { supplemental_groups: vec![-2], ..context() }, "supplemental_groups"),
        (
            cri::LinuxContainerSecurityContext { supplemental_groups_policy: 2, ..context() },
            "supplemental_groups_policy",
        ),
        (cri::LinuxContainerSecurityContext { masked_paths: vec!["proc".into()], ..context() }, "masked_paths"),
        (cri::LinuxContainerSecurityContext { readonly_paths: vec!["".into()], ..context() }, "readonly_paths"),
        (cri::LinuxContainerSecurityContext { selinux_options: Some(label), ..context() }, "selinux_options"),
        (
            cri::LinuxContainerSecurityContext { seccomp: profile(ProfileType::Localhost, "a.json"), ..context() },
            "seccomp.localhost_ref",
        ),
        (
            cri::LinuxContainerSecurityContext { seccomp: profile(ProfileType::Unconfined, "/a.json"), ..context() },
            "seccomp.localhost_ref",
        ),
        (
            cri::LinuxContainerSecurityContext {
                seccomp: Some(cri::SecurityProfile { profile_type: 3, ..Default::default() }),
                ..context()
            },
            "seccomp.profile_type",
        ),
        (
            cri::LinuxContainerSecurityContext { apparmor: profile(ProfileType::Localhost, ""), ..context() },
            "apparmor.localhost_ref",
        ),
        (pid(3, ""), "namespace_options.target_id"),
        (pid(4, ""), "namespace_options.pid"),
        (capability("CAP_NOPE", "", ""), "capabilities.add_capabilities"),
        (capability("", "NOPE", ""), "capabilities.drop_capabilities"),
        (capability("", "", "NOPE"), "capabilities.add_ambient_capabilities"),
    ];
    for (asked, field) in rows {
        let error = security(asked).unwrap_err();
        assert_eq!(error.kind(), crate::Kind::Invalid);
        assert!(error.to_string().starts_with(&format!("linux.security_context.{field}")), "{field}: {error}");
    }
}

#[test]
fn capabilities_are_named_with_and_without_their_prefix() {
    let capabilities = cri::Capability {
        add_capabilities: vec!["ALL".into(), "cap_sys_time".into()],
        drop_capabilities: vec!["NET_RAW".into(), "all".into()],
        add_ambient_capabilities: vec!["CAP_CHOWN".into()],
    };
    let asked = cri::LinuxContainerSecurityContext { capabilities: Some(capabilities.clone()), ..context() };
    assert_eq!(security(asked).unwrap().add, capabilities.add_capabilities);
}
