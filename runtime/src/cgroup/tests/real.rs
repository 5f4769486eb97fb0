//! The host's own hierarchies.

use super::*;

/// The same cgroup without its version 2 directory, as a pure version 1 host has it.
fn only_v1(mut cgroup: Cgroup) -> Cgroup {
    cgroup.dirs.retain(|dir| !dir.is_v2());
    cgroup
}

/// Whether limits of the kind can be tested here.
fn has(playground: &Playground, controller: Controller) -> bool {
    let has = playground.hierarchies.has(controller);
    if !has {
        println!("skipped: no {controller} controller");
    }
    has
}

/// Waits for something that another process brings about.
fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !holds() {
        assert!(begin.elapsed() < SOON, "never: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn a_process_that_writes_zero_is_in_every_hierarchy() {
    let Some(playground) = Playground::new("join") else { return };
    let cgroup = playground.create("pods/a/b");
    assert_eq!(cgroup.dir_fds().len(), playground.hierarchies.mounts().count());
    assert!(!cgroup.is_populated().unwrap());
    let seen = output(&cgroup, "cat /proc/self/cgroup");
    let expected = format!("/{}/pods/a/b", playground.name);
    for mount in playground.hierarchies.mounts() {
        let inside = match mount.version {
            Version::V2 => seen.lines().any(|line| line == format!("0::{expected}")),
            Version::V1 => {
                let names: Vec<&str> = mount.controllers.iter().map(|c| c.name()).collect();
                seen.lines().any(|line| line.ends_with(&format!(":{}:{expected}", names.join(","))))
            }
        };
        assert!(inside, "{:?} in {seen}", mount.point);
    }
}

#[test]
fn a_process_is_attached_by_its_number() {
    let Some(playground) = Playground::new("attach") else { return };
    let cgroup = playground.create("c");
    let mut child = Command::new("sleep").arg("100").spawn().unwrap();
    cgroup.attach(child.id() as i32).unwrap();
    assert_eq!(cgroup.pids().unwrap(), [child.id() as i32]);
    cgroup.kill(SOON).unwrap();
    child.wait().unwrap();
    cgroup.wait_empty(SOON).unwrap();
}

#[test]
fn memory_over_the_limit_is_an_oom_kill_that_stays_counted() {
    let Some(playground) = Playground::new("oom") else { return };
    if !has(&playground, Controller::Memory) {
        return;
    }
    let cgroup = playground.create("c");
    let limit = 24 << 20;
    let resources = Resources { memory_limit: Some(limit), memory_swap: Some(limit), ..Resources::default() };
    cgroup.apply(&resources).unwrap();
    assert_eq!(cgroup.stats().unwrap().memory.unwrap().limit, Some(limit as u64));
    assert_eq!(cgroup.oom_kills().unwrap(), 0);
    // tail keeps a last line without end in memory.
    let status = spawn(&cgroup, "exec tail /dev/zero").wait().unwrap();
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(libc::SIGKILL));
    cgroup.wait_empty(SOON).unwrap();
    assert_eq!(cgroup.oom_kills().unwrap(), 1);
    let memory = cgroup.stats().unwrap().memory.unwrap();
    assert!(memory.peak.unwrap() > limit as u64 / 2 && memory.page_faults > 1000, "{memory:?}");
}

#[test]
fn memory_limits_move_up_and_down_with_swap() {
    let Some(playground) = Playground::new("swap") else { return };
    if !has(&playground, Controller::Memory) {
        return;
    }
    let cgroup = playground.create("c");
    for limit in [64i64 << 20, 32 << 20, 128 << 20, 16 << 20] {
        let resources =
            Resources { memory_limit: Some(limit), memory_swap: Some(limit + (1 << 20)), ..Resources::default() };
        cgroup.apply(&resources).unwrap();
        assert_eq!(cgroup.stats().unwrap().memory.unwrap().limit, Some(limit as u64));
    }
    cgroup.apply(&Resources { memory_limit: Some(-1), memory_swap: Some(-1), ..Resources::default() }).unwrap();
    assert_eq!(cgroup.stats().unwrap().memory.unwrap().limit, None);
}

#[test]
fn the_number_of_tasks_is_limited() {
    let Some(playground) = Playground::new("pids") else { return };
    if !has(&playground, Controller::Pids) {
        return;
    }
    let cgroup = playground.create("c");
    cgroup.apply(&Resources { pids_limit: Some(4), ..Resources::default() }).unwrap();
    let mut child = spawn(&cgroup, "for i in 1 2 3 4 5 6 7 8; do sleep 100 & done; wait");
    let refused = || cgroup.with(Controller::Pids).unwrap().read("pids.events").unwrap();
    eventually("a fork refused", || !refused().contains("max 0"));
    let pids = cgroup.stats().unwrap().pids.unwrap();
    assert_eq!(pids.limit, Some(4));
    assert!(pids.current <= 4);
    cgroup.kill(SOON).unwrap();
    child.wait().unwrap();
}

#[test]
fn cpus_are_inherited_and_then_chosen() {
    let Some(playground) = Playground::new("cpuset") else { return };
    if !has(&playground, Controller::Cpuset) {
        return;
    }
    let cpus =
        |text: String| text.lines().find_map(|l| l.strip_prefix("Cpus_allowed_list:").map(str::to_owned)).unwrap();
    let own = cpus(std::fs::read_to_string("/proc/self/status").unwrap());
    let cgroup = playground.create("pod/c");
    assert_eq!(cpus(output(&cgroup, "cat /proc/self/status")), own);
    let mems = Some("0".to_owned());
    cgroup.apply(&Resources { cpuset_cpus: Some("0".to_owned()), cpuset_mems: mems, ..Resources::default() }).unwrap();
    assert_eq!(cpus(output(&cgroup, "cat /proc/self/status")).trim(), "0");
}

#[test]
fn a_cpu_quota_is_set_and_throttling_counted() {
    let Some(playground) = Playground::new("cpu") else { return };
    if !has(&playground, Controller::Cpu) {
        return;
    }
    let cgroup = playground.create("c");
    let with = |period, quota| Resources {
        cpu_shares: Some(256),
        cpu_period: Some(period),
        cpu_quota: Some(quota),
        ..Resources::default()
    };
    cgroup.apply(&with(100_000, 50_000)).unwrap();
    // With the old quota the shorter period would be twice the CPU.
    cgroup.apply(&with(10_000, 1_000)).unwrap();
    let mut child = spawn(&cgroup, "while :; do :; done");
    eventually("throttling", || {
        let cpu = cgroup.stats().unwrap().cpu.unwrap();
        cpu.throttled_periods > 2 && cpu.throttled_ns > 0 && cpu.periods > 2 && cpu.usage_ns > 0
    });
    cgroup.kill(SOON).unwrap();
    child.wait().unwrap();
}

#[test]
fn a_limit_of_block_io_is_kept_and_what_is_written_is_counted() {
    let Some(playground) = Playground::new("io") else { return };
    if !has(&playground, Controller::Io) {
        return;
    }
    let disks = std::fs::read_dir("/sys/block").unwrap().flatten();
    let mut disks = disks.filter(|disk| disk.path().join("device").exists());
    let Some(disk) = disks.find_map(|disk| std::fs::read_to_string(disk.path().join("dev")).ok()) else {
        println!("skipped: no block device");
        return;
    };
    let disk = disk.trim();
    let cgroup = playground.create("c");
    let unified = [("io.max".to_owned(), format!("{disk} wbps=33554432"))].into();
    cgroup.apply(&Resources { unified, ..Resources::default() }).unwrap();
    let dir = cgroup.unified().unwrap();
    assert_eq!(dir.read("io.max").unwrap().trim(), format!("{disk} rbps=max wbps=33554432 riops=max wiops=max"));
    // On whichever disk the directory is: only the first is limited, all are counted.
    let file = tempfile::NamedTempFile::new_in(".").unwrap();
    let path = file.path().canonicalize().unwrap();
    let seen = output(&cgroup, &format!("dd if=/dev/zero of={} bs=1M count=2 conv=fsync", path.display()));
    assert!(seen.contains("2097152"), "{seen}");
    let counted = |line: &str| line.split(' ').any(|word| word.starts_with("wbytes=") && word != "wbytes=0");
    eventually("the writes are counted", || dir.read("io.stat").unwrap().lines().any(counted));
}

const DEVICES: &str = "cat /dev/null && echo null; head -c1 /dev/full | wc -c; \
                       mknod $D/node c 1 7 && echo made; echo x > /dev/zero && echo written; \
                       mknod $D/block b 7 0 || echo refused";

fn check_devices(cgroup: &Cgroup) {
    let dir = tempfile::tempdir().unwrap();
    let script = format!("D={}; {DEVICES}", dir.path().display());
    let seen = output(cgroup, &script);
    assert!(seen.contains("null\n") && seen.contains("made\n"), "{seen}");
    assert!(seen.contains("/dev/full' for reading: Operation not permitted"), "{seen}");
    assert!(!seen.contains("written") && seen.contains("/dev/zero: Operation not permitted"), "{seen}");
    assert!(seen.contains("refused"), "{seen}");
}

fn device_rules() -> Vec<DeviceRule> {
    let mknod = DeviceRule { kind: DeviceKind::Char, major: None, minor: None, access: Access::MKNOD };
    let zero = DeviceRule { access: "r".parse().unwrap(), ..DeviceRule::char(1, Some(5)) };
    vec![mknod, DeviceRule::char(1, Some(3)), zero]
}

#[test]
fn devices_outside_the_list_are_refused() {
    let Some(playground) = Playground::new("devices") else { return };
    let cgroup = playground.create("c");
    cgroup.apply(&Resources { devices: Some(device_rules()), ..Resources::default() }).unwrap();
    check_devices(&cgroup);
    cgroup.apply(&Resources { devices: Some(vec![DeviceRule::ALL]), ..Resources::default() }).unwrap();
    assert!(output(&cgroup, "echo x > /dev/zero && echo written").contains("written"));
}

#[test]
fn the_device_program_refuses_what_is_outside_the_list() {
    let Some(playground) = Playground::new("bpf") else { return };
    let cgroup = playground.create("c");
    let Some(dir) = cgroup.unified() else {
        println!("skipped: no cgroup v2");
        return;
    };
    device_program::apply(dir, &device_rules()).unwrap();
    check_devices(&cgroup);
    // A second list takes the place of the first, wider or narrower.
    device_program::apply(dir, &[DeviceRule::ALL]).unwrap();
    assert!(output(&cgroup, "echo x > /dev/zero && echo written").contains("written"));
    device_program::apply(dir, &[]).unwrap();
    assert!(output(&cgroup, "cat /dev/null || echo refused").contains("refused"));
}

/// Appends to a file as long as it runs.
fn freezes(cgroup: &Cgroup) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("count");
    let count = || std::fs::metadata(&file).map_or(0, |m| m.len());
    let mut child = spawn(cgroup, &format!("while :; do echo >> {}; done", file.display()));
    eventually("counting", || count() > 10);
    cgroup.freeze(SOON).unwrap();
    assert!(cgroup.is_frozen().unwrap());
    let at = count();
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(count(), at);
    cgroup.thaw().unwrap();
    eventually("counting again", || count() > at);
    cgroup.freeze(SOON).unwrap();
    cgroup.kill(SOON).unwrap();
    assert!(!cgroup.is_populated().unwrap(), "a frozen cgroup can be killed");
    child.wait().unwrap();
}

#[test]
fn a_frozen_process_stands_still() {
    let Some(playground) = Playground::new("freeze") else { return };
    freezes(&playground.create("a"));
    if playground.hierarchies.mode() != Mode::V2 && has(&playground, Controller::Freezer) {
        freezes(&only_v1(playground.create("b")));
    }
}

/// Processes that fork without end, as many as a limit permits.
fn kills_forks(cgroup: &Cgroup) {
    cgroup.apply(&Resources { pids_limit: Some(60), ..Resources::default() }).unwrap();
    let mut child =
        spawn(cgroup, "f() { while :; do sleep 0.01 & sleep 0.02; done; }; for i in 1 2 3 4 5 6; do f & done; f");
    eventually("forking", || cgroup.pids().unwrap().len() > 15);
    let begin = Instant::now();
    cgroup.kill(SOON).unwrap();
    println!("killed in {:?}", begin.elapsed());
    assert!(cgroup.pids().unwrap().is_empty());
    child.wait().unwrap();
}

#[test]
fn a_tree_of_forking_processes_is_killed() {
    let Some(playground) = Playground::new("kill") else { return };
    if !has(&playground, Controller::Pids) {
        return;
    }
    kills_forks(&playground.create("a"));
    if playground.hierarchies.mode() != Mode::V2 && has(&playground, Controller::Freezer) {
        kills_forks(&only_v1(playground.create("b")));
    }
    let c = playground.create("c");
    c.apply(&Resources { pids_limit: Some(60), ..Resources::default() }).unwrap();
    let mut child = spawn(&c, "for i in 1 2 3 4 5 6 7; do sleep 100 & done; wait");
    eventually("all started", || c.pids().unwrap().len() == 8);
    c.kill_one_by_one(SOON).unwrap();
    assert!(!c.is_populated().unwrap());
    child.wait().unwrap();
}

fn session_alone_is_killed(container: &Cgroup) {
    let mut main = spawn(container, "sleep 100");
    let leaf = container.leaf("exec-1").unwrap();
    let mut session = spawn(&leaf, "sleep 100 & sleep 100");
    eventually("both run", || container.pids().unwrap().len() >= 4);
    assert!(leaf.pids().unwrap().contains(&(session.id() as i32)));
    assert!(!leaf.pids().unwrap().contains(&(main.id() as i32)));
    if let Some(pids) = container.stats().unwrap().pids {
        assert!(pids.current >= 4, "the session counts for the container");
    }
    leaf.kill(SOON).unwrap();
    session.wait().unwrap();
    container.remove_leaf("exec-1", SOON).unwrap();
    container.remove_leaf("exec-1", SOON).unwrap();
    assert_eq!(main.try_wait().unwrap(), None);
    assert!(container.is_populated().unwrap());
    assert!(container.leaf("../x").is_err());
    container.kill(SOON).unwrap();
    main.wait().unwrap();
}

#[test]
fn an_exec_session_is_killed_alone_and_limited_with_its_container() {
    let Some(playground) = Playground::new("exec") else { return };
    session_alone_is_killed(&playground.create("a"));
    if playground.hierarchies.mode() != Mode::V2 && has(&playground, Controller::Freezer) {
        session_alone_is_killed(&only_v1(playground.create("b")));
    }
}

#[test]
fn a_cgroup_is_rebuilt_from_its_descriptors() {
    let Some(playground) = Playground::new("parts") else { return };
    let cgroup = playground.create("c");
    let parts = serde_json::from_str(&serde_json::to_string(&cgroup.parts()).unwrap()).unwrap();
    let fds: Vec<OwnedFd> = cgroup.dir_fds().iter().map(|fd| fd.try_clone_to_owned().unwrap()).collect();
    let rebuilt = Cgroup::from_parts(cgroup.path().to_owned(), parts, fds).unwrap();
    assert_eq!(rebuilt.parts(), cgroup.parts());
    let mut child = spawn(&rebuilt, "sleep 100");
    assert!(cgroup.is_populated().unwrap());
    rebuilt.kill(SOON).unwrap();
    child.wait().unwrap();
    assert!(Cgroup::from_parts("x".to_owned(), cgroup.parts(), Vec::new()).is_err());
}

#[test]
fn removal_is_recursive_idempotent_and_stays_below_the_prefix() {
    let Some(playground) = Playground::new("remove") else { return };
    let h = &playground.hierarchies;
    playground.create("pods/a/b/c");
    playground.create("pods/a/d");
    assert_eq!(h.children(&playground.path("pods/a")).unwrap(), ["b".to_owned(), "d".to_owned()].into());
    for path in ["/", "..", &playground.name, "other/x", &format!("{}-x/y", playground.name), "coracle/../x"] {
        let error = h.remove(path, SOON).unwrap_err();
        assert!(matches!(error, Error::Foreign { .. } | Error::Path(_)), "{path}: {error}");
    }
    h.remove(&playground.path("pods/a"), SOON).unwrap();
    assert!(!h.exists(&playground.path("pods/a")).unwrap());
    assert!(h.exists(&playground.path("pods")).unwrap());
    h.remove(&playground.path("pods/a"), SOON).unwrap();
    h.remove(&playground.path("never/was"), SOON).unwrap();
    assert!(h.find(&playground.path("never")).unwrap().is_none());
}

#[test]
fn a_busy_cgroup_is_not_removed_and_says_who_is_in_it() {
    let Some(playground) = Playground::new("busy") else { return };
    let cgroup = playground.create("a/b");
    playground.create("a/empty");
    let mut child = spawn(&cgroup, "exec sleep 100");
    let error = playground.hierarchies.remove(&playground.path("a"), Duration::from_millis(20)).unwrap_err();
    match &error {
        Error::Timeout { pids, .. } => assert_eq!(*pids, [child.id() as i32]),
        other => panic!("{other}"),
    }
    assert!(!playground.hierarchies.exists(&playground.path("a/empty")).unwrap());
    assert!(!playground.hierarchies.prune().unwrap());
    cgroup.kill(SOON).unwrap();
    child.wait().unwrap();
    assert!(playground.hierarchies.prune().unwrap());
    assert!(cgroup.stats().is_err());
    cgroup.kill(SOON).unwrap();
    assert!(cgroup.pids().unwrap().is_empty());
}

#[test]
fn huge_pages_are_limited_where_the_controller_is() {
    let Some(playground) = Playground::new("huge") else { return };
    if !has(&playground, Controller::Hugetlb) {
        return;
    }
    let cgroup = playground.create("c");
    assert_eq!(cgroup.refused(), []);
    let limit = HugepageLimit { page_size: "2MB".to_owned(), limit: 4 << 20 };
    cgroup.apply(&Resources { hugepages: vec![limit], ..Resources::default() }).unwrap();
    let dir = cgroup.with(Controller::Hugetlb).unwrap();
    let file = if dir.is_v2() { "hugetlb.2MB.max" } else { "hugetlb.2MB.limit_in_bytes" };
    assert_eq!(dir.read_u64(file).unwrap(), 4 << 20);
}

#[test]
fn cgroups_are_made_while_others_are_pruned() {
    let Some(playground) = Playground::new("race") else { return };
    let h = &playground.hierarchies;
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let pruner = scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                h.prune().unwrap();
            }
        });
        let makers = ["a", "b"].map(|name| {
            let path = playground.path(&format!("pods/{name}/c"));
            scope.spawn(move || {
                for _ in 0..30 {
                    // An empty cgroup may be pruned at once; that nothing else fails is the point.
                    drop(h.create(&path).unwrap());
                    h.remove(&path, SOON).unwrap();
                }
            })
        });
        let results = makers.map(|maker| maker.join());
        stop.store(true, Ordering::Relaxed);
        pruner.join().unwrap();
        results.into_iter().for_each(|result| result.unwrap());
    });
}

#[test]
fn a_controller_that_processes_stand_in_the_way_of_is_named_when_it_is_needed() {
    let Some(playground) = Playground::new("refused") else { return };
    let parent = playground.create("pod");
    let Some(controller) = parent.unified().and_then(|dir| dir.mount.controllers.first().copied()) else {
        println!("skipped: no controllers in version 2");
        return;
    };
    let mut child = spawn(&parent, "exec sleep 100");
    let cgroup = playground.create("pod/c");
    let (_, why) = cgroup.refused().into_iter().find(|(refused, _)| *refused == controller).unwrap();
    assert!(why.contains("/pod") && why.contains("has processes of its own"), "{why}");
    let limit = HugepageLimit { page_size: "2MB".to_owned(), limit: 1 << 21 };
    let error = cgroup.apply(&Resources { hugepages: vec![limit], ..Resources::default() }).unwrap_err().to_string();
    assert!(controller != Controller::Hugetlb || error.contains("has processes of its own"), "{error}");
    parent.kill(SOON).unwrap();
    child.wait().unwrap();
}
