//! What a container may do.

use e2e::cri::Endpoint;
use e2e::cri::proto::security_profile::ProfileType;
use e2e::cri::proto::*;
use e2e::skip;

use crate::harness::tests;
use crate::tools::{Pod, number, security};

tests![
    capabilities_are_the_usual_ones,
    capabilities_are_added_and_dropped,
    all_capabilities_are_dropped_or_added,
    a_capability_that_does_not_exist_is_refused,
    capabilities_of_another_user_are_bounded,
    privileged_has_all_and_the_devices,
    a_privileged_container_wants_a_privileged_pod,
    the_root_is_read_only_if_asked_for,
    no_new_privileges_are_as_given,
    paths_are_masked_and_read_only_as_given,
    seccomp_is_what_the_profile_says,
    an_unset_seccomp_is_unconfined,
    a_seccomp_profile_of_the_host_is_loaded,
    a_seccomp_profile_that_is_not_there_is_refused,
    apparmor_without_a_kernel_that_has_it_is_refused,
];

/// A set of capabilities of a container's first process.
fn capabilities(pod: &Pod, set: &str, change: impl FnOnce(&mut ContainerConfig)) -> u64 {
    let said = pod.says(&format!("grep {set}: /proc/self/status"), change);
    let hex = said.split_whitespace().last().unwrap_or_default();
    u64::from_str_radix(hex, 16).unwrap_or_else(|error| panic!("{said}: {error}"))
}

const CHOWN: u64 = 1;
const NET_ADMIN: u64 = 1 << 12;
const SYS_ADMIN: u64 = 1 << 21;
const NET_BIND: u64 = 1 << 10;

fn of(add: &[&str], drop: &[&str]) -> Option<Capability> {
    let words = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect();
    Some(Capability { add_capabilities: words(add), drop_capabilities: words(drop), ..Default::default() })
}

fn capabilities_are_the_usual_ones(endpoint: &dyn Endpoint) {
    let pod = Pod::new(endpoint);
    let effective = capabilities(&pod, "CapEff", |_| {});
    assert_eq!(effective & (CHOWN | NET_BIND | NET_ADMIN | SYS_ADMIN), CHOWN | NET_BIND, "{effective:x}");
    assert_eq!(capabilities(&pod, "CapAmb", |_| {}), 0);
}

fn capabilities_are_added_and_dropped(endpoint: &dyn Endpoint) {
    let pod = Pod::new(endpoint);
    let set = capabilities(&pod, "CapEff", |config| security(config).capabilities = of(&["NET_ADMIN"], &["CHOWN"]));
    assert_eq!(set & (CHOWN | NET_BIND | NET_ADMIN), NET_BIND | NET_ADMIN, "{set:x}");
}

fn all_capabilities_are_dropped_or_added(endpoint: &dyn Endpoint) {
    let pod = Pod::new(endpoint);
    assert_eq!(capabilities(&pod, "CapBnd", |config| security(config).capabilities = of(&[], &["ALL"])), 0);
    let one = capabilities(&pod, "CapEff", |config| security(config).capabilities = of(&["NET_ADMIN"], &["ALL"]));
    assert_eq!(one, NET_ADMIN);
    let all = capabilities(&pod, "CapEff", |config| security(config).capabilities = of(&["ALL"], &[]));
    assert_eq!(all & (SYS_ADMIN | NET_ADMIN), SYS_ADMIN | NET_ADMIN);
    let but = capabilities(&pod, "CapEff", |config| security(config).capabilities = of(&["ALL"], &["SYS_ADMIN"]));
    assert_eq!(but & (SYS_ADMIN | NET_ADMIN), NET_ADMIN);
}

fn a_capability_that_does_not_exist_is_refused(endpoint: &dyn Endpoint) {
    let pod = Pod::new(endpoint);
    let refused = pod.refuses(|config| security(config).capabilities = of(&["NO_SUCH"], &[]));
    assert!(refused.contains("NO_SUCH"), "{refused}");
}

fn capabilities_of_another_user_are_bounded(endpoint: &dyn Endpoint) {
    let pod = Pod::new(endpoint);
    let as_user = |config: &mut ContainerConfig| security(config).run_as_user = number(1000);
    assert_eq!(capabilities(&pod, "CapEff", as_user), 0);
    assert_eq!(capabilities(&pod, "CapBnd", as_user) & CHOWN, CHOWN);
}

fn privileged(endpoint: &dyn Endpoint) -> Pod<'_> {
    Pod::with(endpoint, |config| {
        config.linux.get_or_insert_default().security_context.get_or_insert_default().privileged = true;
    })
}

fn privileged_has_all_and_the_devices(endpoint: &dyn Endpoint) {
    let pod = privileged(endpoint);
    let set = capabilities(&pod, "CapEff", |config| security(config).privileged = true);
    assert_eq!(set & (SYS_ADMIN | NET_ADMIN), SYS_ADMIN | NET_ADMIN);
    let script = "test -c /dev/kmsg && mkdir /m && mount -t tmpfs x /m && mount -o remount,rw /sys 2>&1; \
                  grep -q 'Seccomp:.*0' /proc/self/status && echo unconfined";
    let said = pod.says(script, |config| security(config).privileged = true);
    assert!(said.contains("unconfined"), "{said}");
    pod.says("! mount -t tmpfs x /mnt 2>/dev/null", |_| {});
}

fn a_privileged_container_wants_a_privileged_pod(endpoint: &dyn Endpoint) {
    let pod = Pod::new(endpoint);
    pod.refuses(|config| security(config).privileged = true);
}

fn the_root_is_read_only_if_asked_for(endpoint: &dyn Endpoint) {
    let pod = Pod::new(endpoint);
    pod.says("touch /made", |_| {});
    let said = pod.says("touch /made 2>&1 || true; touch /dev/shm/made", |config| {
        security(config).readonly_rootfs = true;
    });
    assert!(said.contains("Read-only file system"), "{said}");
}

fn no_new_privileges_are_as_given(endpoint: &dyn Endpoint) {
    let pod = Pod::new(endpoint);
    for (given, expected) in [(true, "1"), (false, "0")] {
        let said = pod.says("grep NoNewPrivs /proc/self/status", |config| security(config).no_new_privs = given);
        assert!(said.ends_with(expected), "{said}");
    }
}

fn paths_are_masked_and_read_only_as_given(endpoint: &dyn Endpoint) {
    let pod = Pod::new(endpoint);
    let script = "cat /proc/keys | wc -c; echo x 2>&1 > /proc/sys/kernel/shm_rmid_forced && echo written || echo kept";
    let said = pod.says(script, |config| {
        security(config).masked_paths = vec!["/proc/keys".into()];
        security(config).readonly_paths = vec!["/proc/sys".into()];
    });
    assert!(said.starts_with('0') && said.ends_with("kept"), "{said}");
    let said = pod.says("ls /etc/passwd; ls /bin | wc -l", |config| {
        security(config).masked_paths = vec!["/bin/wget".into(), "/home".into()];
    });
    assert!(said.starts_with("/etc/passwd"), "{said}");
    pod.says("! test -s /bin/wget", |config| security(config).masked_paths = vec!["/bin/wget".into()]);
}

fn mode(pod: &Pod, profile: Option<SecurityProfile>) -> String {
    let said = pod.says("grep Seccomp: /proc/self/status", |config| security(config).seccomp = profile);
    said.split_whitespace().last().unwrap_or_default().to_owned()
}

fn profile(kind: ProfileType, localhost: &str) -> Option<SecurityProfile> {
    Some(SecurityProfile { profile_type: kind as i32, localhost_ref: localhost.into() })
}

fn seccomp_is_what_the_profile_says(endpoint: &dyn Endpoint) {
    let pod = Pod::new(endpoint);
    assert_eq!(mode(&pod, profile(ProfileType::RuntimeDefault, "")), "2");
    assert_eq!(mode(&pod, profile(ProfileType::Unconfined, "")), "0");
}

fn an_unset_seccomp_is_unconfined(endpoint: &dyn Endpoint) {
    let pod = Pod::new(endpoint);
    assert_eq!(mode(&pod, None), "0");
}

fn a_seccomp_profile_of_the_host_is_loaded(endpoint: &dyn Endpoint) {
    let path = endpoint.make_dir("profiles").join("no-chmod.json");
    let text = r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
        {"names": ["chmod", "fchmod", "fchmodat"], "action": "SCMP_ACT_ERRNO"}]}"#;
    std::fs::write(&path, text).expect("the directory is writable");
    let pod = Pod::new(endpoint);
    let said = pod.says("touch /made; chmod 600 /made && echo changed || echo kept", |config| {
        // A client of 1.6 gives the path with a prefix, and a newer one without.
        let reference = path.display().to_string();
        security(config).seccomp = profile(ProfileType::Localhost, &reference);
    });
    assert!(said.ends_with("kept"), "{said}");
}

fn a_seccomp_profile_that_is_not_there_is_refused(endpoint: &dyn Endpoint) {
    let pod = Pod::new(endpoint);
    let refused = pod.refuses(|config| {
        security(config).seccomp = profile(ProfileType::Localhost, "/no/such/profile.json");
    });
    assert!(refused.contains("/no/such/profile.json"), "{refused}");
}

fn apparmor_without_a_kernel_that_has_it_is_refused(endpoint: &dyn Endpoint) {
    if std::fs::read_to_string("/sys/module/apparmor/parameters/enabled").is_ok_and(|text| text.starts_with('Y')) {
        skip!("this kernel has AppArmor");
    }
    let pod = Pod::new(endpoint);
    let refused = pod.refuses(|config| security(config).apparmor = profile(ProfileType::Localhost, "some-profile"));
    assert!(refused.to_lowercase().contains("apparmor"), "{refused}");
    pod.says("true", |config| security(config).apparmor = profile(ProfileType::Unconfined, ""));
}
