#![allow(clippy::unwrap_used)]
use super::*;

fn sources(proc_root: &Path) -> Sources {
    Sources { proc_root: proc_root.to_owned(), nodefs: "/".into(), imagefs: None, pods: None }
}

fn proc(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(dir.path().join("sys/kernel")).unwrap();
    for (name, text) in files {
        std::fs::write(dir.path().join(name), text).unwrap();
    }
    dir
}

#[test]
fn signals_are_read_where_they_are_said_to_be() {
    let proc = proc(&[
        ("meminfo", "MemTotal:       1000 kB\nMemFree:  1 kB\nMemAvailable:    200 kB\n"),
        ("loadavg", "0.00 0.01 0.05 1/234 5678\n"),
        ("sys/kernel/pid_max", "1000\n"),
        ("sys/kernel/threads-max", "900\n"),
    ]);
    let seen = sources(proc.path()).observe();
    let of = |signal| seen.get(&signal).map(|it: &Observation| (it.available, it.capacity));
    assert_eq!(of(Signal::MemoryAvailable), Some((200 << 10, 1000 << 10)));
    assert_eq!(of(Signal::PidAvailable), Some((666, 900)));
    assert_eq!(of(Signal::NodefsAvailable).map(|it| it.1), of(Signal::ImagefsAvailable).map(|it| it.1));
    assert_eq!(of(Signal::AllocatableMemoryAvailable), None);
}

#[test]
fn what_cannot_be_read_is_left_out() {
    let proc = proc(&[("meminfo", "MemTotal: 1000 kB\n"), ("loadavg", "x"), ("sys/kernel/pid_max", "1000")]);
    let mut sources = sources(proc.path());
    sources.nodefs = proc.path().join("none");
    assert!(sources.observe().is_empty());
}

#[test]
fn this_machine_has_all_of_them() {
    let seen = sources(Path::new("/proc")).observe();
    for signal in [Signal::MemoryAvailable, Signal::NodefsAvailable, Signal::PidAvailable] {
        let Observation { available, capacity } = seen[&signal];
        assert!(0 < available && available <= capacity, "{signal:?}: {available} of {capacity}");
    }
}

#[test]
fn filesystems_are_told_apart() {
    let mut sources = sources(Path::new("/proc"));
    assert!(!sources.images_apart());
    sources.imagefs = Some("/".into());
    assert!(!sources.images_apart());
    sources.imagefs = Some("/proc".into());
    assert!(sources.images_apart());
    sources.imagefs = Some("/nowhere".into());
    assert!(!sources.images_apart());
}
