#![allow(clippy::unwrap_used)]

use super::storage::Place;
use super::*;
use crate::capabilities::CapSet;

fn here() -> Options {
    Options::new("/var/lib/coracle-not-there".into(), "/run/coracle-not-there".into())
}

fn state(findings: &[Finding], topic: &str) -> State {
    findings.iter().find(|finding| finding.topic == topic).unwrap_or_else(|| panic!("nothing about {topic}")).state
}

#[test]
fn this_host_is_described_and_left_as_it_was() {
    let modules = std::fs::read_to_string("/proc/modules").unwrap_or_default().lines().count();
    let findings = host(&here());
    for finding in &findings {
        println!("{finding:?}");
        assert!(!finding.what.is_empty() && !finding.what.ends_with('.'), "{finding:?}");
        let explained = finding.state == State::Ok || finding.consequence.is_some();
        assert!(explained, "what follows from {finding:?}");
    }
    for topic in ["root", "kernel", "openat2", "clone3", "pidfd", "mount API", "seccomp", "cgroups"] {
        let state = state(&findings, topic);
        assert!(state == State::Ok || !rustix::process::geteuid().is_root(), "{topic}");
    }
    assert_eq!(std::fs::read_to_string("/proc/modules").unwrap_or_default().lines().count(), modules);
    assert!(!Path::new("/var/lib/coracle-not-there").exists());
}

#[test]
fn a_host_that_shows_nothing_is_findings_and_no_panic() {
    let empty = tempfile::tempdir().unwrap();
    let root = empty.path().to_owned();
    let options = Options { proc_root: root.clone(), sys_root: root.clone(), modules_root: root, ..here() };
    let findings = host(&options);
    for topic in ["kernel", "capabilities", "overlayfs", "cgroups"] {
        assert_eq!(state(&findings, topic), State::Missing, "{topic}");
    }
    for topic in ["seccomp", "nf_tables", "bridges", "bandwidth", "IPv6", "forwarding", "inotify"] {
        assert_eq!(state(&findings, topic), State::Degraded, "{topic}");
    }
}

#[test]
fn parts_of_the_kernel_are_modules_or_symbols() {
    let empty = tempfile::tempdir().unwrap();
    let root = empty.path().to_owned();
    let options = Options { proc_root: root.clone(), sys_root: root.clone(), modules_root: root.clone(), ..here() };
    let found = |topic: &str| network::findings(&options).into_iter().find(|it| it.topic == topic).unwrap();
    std::fs::write(root.join("kallsyms"), "0 t tbf_init\n0 T br_add_if\n").unwrap();
    assert_eq!(found("bandwidth").what, "the kernel has no ifb, or hides its symbols");
    assert_eq!(found("bridges").what, "the kernel has no nf_tables for the family bridge, or hides its symbols");
    std::fs::write(root.join("modules"), "ifb 16384 0 - Live 0x0\nnft_meta_bridge 16384 0 - Live 0x0\n").unwrap();
    assert_eq!((found("bandwidth").state, found("bridges").state), (State::Ok, State::Ok));
}

#[test]
fn kernels_are_old_enough_or_not() {
    for (release, expected) in [
        ("5.12.0", State::Ok),
        ("6.18.44", State::Ok),
        ("5.10.0-28-amd64", State::Missing),
        ("4.19.0", State::Missing),
        ("", State::Missing),
        ("banana", State::Missing),
    ] {
        assert_eq!(kernel::version(release).state, expected, "{release}");
    }
}

#[test]
fn absent_capabilities_have_their_consequences() {
    let without = |names: &[&str]| limits::capabilities(CapSet::ALL.minus(CapSet::from_names(names).unwrap()));
    assert_eq!(without(&[]), [Finding::ok("capabilities", "all")]);
    let findings = without(&["SYS_RESOURCE"]);
    assert_eq!(findings[0].state, State::Degraded);
    assert!(findings[0].consequence.as_ref().unwrap().contains("clamped"));
    assert_eq!(without(&["SYS_ADMIN"])[0].state, State::Missing);
    assert!(without(&["SYS_MODULE"])[0].what.contains("CAP_SYS_MODULE"));
}

#[test]
fn limits_are_judged() {
    assert_eq!(limits::open_files(Some(20_000)).state, State::Degraded);
    assert_eq!(limits::open_files(Some(1 << 20)).state, State::Ok);
    assert_eq!(limits::open_files(None).state, State::Ok);
    let proc = |options: &str| format!("24 1 0:22 / /proc rw,nosuid - proc proc {options}\n");
    assert_eq!(limits::hidepid(&proc("rw")), None);
    assert_eq!(limits::hidepid(&proc("rw,hidepid=0")), None);
    assert_eq!(limits::hidepid(&proc("rw,gid=4,hidepid=invisible")).unwrap().state, State::Degraded);
}

#[test]
fn a_root_directory_needs_a_file_system_that_overlayfs_can_use() {
    let good = Place {
        wanted: "/var/lib/coracle".into(),
        kind: "ext4".into(),
        read_only: false,
        free_bytes: 10 << 30,
        free_inodes: Some(1 << 20),
        entry_types: true,
    };
    let rows = [
        (good.clone(), State::Ok),
        (Place { free_inodes: None, kind: "btrfs".into(), ..good.clone() }, State::Ok),
        (Place { read_only: true, ..good.clone() }, State::Missing),
        (Place { kind: "overlay".into(), ..good.clone() }, State::Missing),
        (Place { entry_types: false, ..good.clone() }, State::Missing),
        (Place { free_bytes: 1 << 20, ..good.clone() }, State::Degraded),
        (Place { free_inodes: Some(10), ..good.clone() }, State::Degraded),
    ];
    for (place, expected) in rows {
        assert_eq!(storage::root_dir(&place)[0].state, expected, "{place:?}");
    }
}

#[test]
fn firewalls_and_routes_of_others_are_said() {
    assert_eq!(network::foreign_rules(vec![]), None);
    let finding = network::foreign_rules(vec!["ip filter FORWARD".into()]).unwrap();
    assert_eq!(finding.state, State::Degraded);
    assert!(finding.what.contains("ip filter FORWARD") && finding.remedy.unwrap().contains("DOCKER-USER"));
    assert_eq!(network::range(Ok("10.201.0.0/16 is free".into())).state, State::Ok);
    assert_eq!(network::range(Err("all overlap".into())).state, State::Degraded);
}
