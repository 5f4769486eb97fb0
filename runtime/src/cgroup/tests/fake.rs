//! Version 2 on a directory tree: which values go to which files.

use super::*;

const CONTROLLERS: &str = "cpuset cpu io memory hugetlb pids rdma misc\n";

struct Fake {
    dir: tempfile::TempDir,
}

impl Fake {
    /// Directories `t`, `t/pod` and `t/pod/c` with the files of a version 2 hierarchy.
    fn new(controllers: &str) -> Fake {
        let dir = tempfile::tempdir().unwrap();
        for level in ["", "t", "t/pod", "t/pod/c"] {
            let level = dir.path().join(level);
            std::fs::create_dir_all(&level).unwrap();
            std::fs::write(level.join("cgroup.controllers"), controllers).unwrap();
            for file in FILES {
                std::fs::write(level.join(file), "").unwrap();
            }
        }
        Fake { dir }
    }

    fn hierarchies(&self) -> Hierarchies {
        let point = self.dir.path().to_owned();
        let mount = Mount { point, version: Version::V2, controllers: Vec::new(), writable: true };
        Hierarchies::open(vec![mount], "t").unwrap()
    }

    fn cgroup(&self) -> Cgroup {
        self.hierarchies().create("t/pod/c").unwrap()
    }

    fn put(&self, file: &str, text: &str) {
        std::fs::write(self.dir.path().join(file), text).unwrap();
    }

    fn get(&self, file: &str) -> String {
        std::fs::read_to_string(self.dir.path().join(file)).unwrap()
    }

    /// The files of the container that are not empty.
    fn written(&self) -> Vec<(&'static str, String)> {
        let files = FILES.iter().filter(|file| !file.starts_with("cgroup."));
        files.map(|file| (*file, self.get(&format!("t/pod/c/{file}")))).filter(|(_, text)| !text.is_empty()).collect()
    }
}

const FILES: [&str; 16] = [
    "cgroup.subtree_control",
    "cgroup.procs",
    "cpu.weight",
    "cpu.max",
    "cpu.stat",
    "cpuset.cpus",
    "cpuset.mems",
    "memory.max",
    "memory.high",
    "memory.swap.max",
    "memory.oom.group",
    "pids.max",
    "hugetlb.2MB.max",
    "hugetlb.2MB.rsvd.max",
    "hugetlb.1GB.max",
    "io.weight",
];

#[test]
fn controllers_are_enabled_above_a_cgroup_and_not_in_it() {
    let fake = Fake::new(CONTROLLERS);
    fake.put("t/pod/c/cgroup.controllers", "memory pids");
    fake.put("cgroup.subtree_control", "cpu memory cpuset io pids hugetlb");
    fake.put("t/cgroup.subtree_control", "memory pids");
    assert_eq!(fake.hierarchies().mode(), Mode::V2);
    let cgroup = fake.cgroup();
    assert!(cgroup.is_unified_only() && cgroup.unified_fd().is_some());
    assert_eq!(fake.get("cgroup.subtree_control"), "cpu memory cpuset io pids hugetlb", "nothing was missing");
    assert_eq!(&fake.get("t/cgroup.subtree_control")[..24], "+cpu +cpuset +io +hugetl");
    assert_eq!(fake.get("t/pod/cgroup.subtree_control"), "+cpu +cpuset +io +memory +pids +hugetlb");
    assert_eq!(fake.get("t/pod/c/cgroup.subtree_control"), "");
}

#[test]
fn limits_go_to_their_files() {
    let none = Resources::default();
    let rows: Vec<(Resources, &[(&str, &str)])> = vec![
        (none.clone(), &[]),
        (Resources { cpu_shares: Some(1024), ..none.clone() }, &[("cpu.weight", "100")]),
        (
            Resources { cpu_quota: Some(50_000), cpu_period: Some(100_000), ..none.clone() },
            &[("cpu.max", "50000 100000")],
        ),
        (Resources { cpu_quota: Some(-1), ..none.clone() }, &[("cpu.max", "max")]),
        (Resources { cpu_period: Some(50_000), ..none.clone() }, &[("cpu.max", "max 50000")]),
        (
            Resources { cpuset_cpus: Some("0-1".into()), cpuset_mems: Some("0".into()), ..none.clone() },
            &[("cpuset.cpus", "0-1"), ("cpuset.mems", "0")],
        ),
        (
            Resources { memory_limit: Some(1 << 20), memory_oom_group: Some(true), ..none.clone() },
            &[("memory.max", "1048576"), ("memory.oom.group", "1")],
        ),
        (
            Resources { memory_limit: Some(100), memory_swap: Some(150), ..none.clone() },
            &[("memory.max", "100"), ("memory.swap.max", "50")],
        ),
        (
            Resources { memory_limit: Some(100), memory_swap: Some(-1), ..none.clone() },
            &[("memory.max", "100"), ("memory.swap.max", "max")],
        ),
        (Resources { memory_limit: Some(-1), ..none.clone() }, &[("memory.max", "max")]),
        (Resources { pids_limit: Some(-1), ..none.clone() }, &[("pids.max", "max")]),
        (
            Resources { hugepages: vec![HugepageLimit { page_size: "2MB".into(), limit: 4 << 20 }], ..none.clone() },
            &[("hugetlb.2MB.max", "4194304"), ("hugetlb.2MB.rsvd.max", "4194304")],
        ),
        (
            // No file for reserved pages: a kernel before 5.7.
            Resources { hugepages: vec![HugepageLimit { page_size: "1GB".into(), limit: 0 }], ..none.clone() },
            &[("hugetlb.1GB.max", "0")],
        ),
        (Resources { unified: [("memory.high".into(), "1G".into())].into(), ..none.clone() }, &[("memory.high", "1G")]),
    ];
    for (resources, files) in rows {
        let fake = Fake::new(CONTROLLERS);
        let cgroup = fake.cgroup();
        if resources.cpu_period == Some(50_000) {
            fake.put("t/pod/c/cpu.max", "max 50000");
        }
        assert_eq!(cgroup.apply(&resources).unwrap(), []);
        let written = fake.written();
        let written: Vec<(&str, &str)> = written.iter().map(|(file, text)| (*file, text.as_str())).collect();
        assert_eq!(written, files, "{resources:?}");
    }
}

#[test]
fn limits_that_mean_nothing_are_errors() {
    let none = Resources::default();
    let fake = Fake::new(CONTROLLERS);
    let cgroup = fake.cgroup();
    let unified = |key: &str| Resources { unified: [(key.to_owned(), "1".to_owned())].into(), ..none.clone() };
    let huge = |size: &str| HugepageLimit { page_size: size.to_owned(), limit: 1 };
    let rows = [
        (Resources { cpuset_cpus: Some("0;1".into()), ..none.clone() }, "cpuset cpus \"0;1\""),
        (Resources { memory_limit: Some(100), memory_swap: Some(50), ..none.clone() }, "at least the memory limit"),
        (Resources { memory_swap: Some(50), ..none.clone() }, "together with a memory limit"),
        (Resources { hugepages: vec![huge("2M")], ..none.clone() }, "hugepage size \"2M\""),
        (Resources { hugepages: vec![huge("../MB")], ..none.clone() }, "hugepage size"),
        (unified("../memory.max"), "unified \"../memory.max\""),
        (unified("memory/max"), "unified"),
        (unified("cgroup.procs"), "a file of a version 2 controller"),
        (unified("memory"), "a file name"),
        (unified("memory.nosuch"), "memory.nosuch"),
    ];
    for (resources, message) in rows {
        let error = cgroup.apply(&resources).unwrap_err().to_string();
        assert!(error.contains(message), "{error}");
    }
    assert!(fake.written().is_empty());
}

#[test]
fn a_missing_controller_is_an_error_for_a_limit_and_a_shortfall_for_a_weight() {
    let none = Resources::default();
    let fake = Fake::new("hugetlb\n");
    let cgroup = fake.cgroup();
    let shortfalls = cgroup.apply(&Resources { cpu_shares: Some(512), ..none.clone() }).unwrap();
    assert_eq!(shortfalls[0].setting, "cpu shares");
    let rows = [
        Resources { cpu_quota: Some(1000), ..none.clone() },
        Resources { memory_limit: Some(1000), ..none.clone() },
        Resources { pids_limit: Some(10), ..none.clone() },
        Resources { cpuset_cpus: Some("0".into()), ..none.clone() },
    ];
    for resources in rows {
        let error = cgroup.apply(&resources).unwrap_err();
        assert!(matches!(error, Error::NoController { .. }), "{error}");
    }
}

#[test]
fn statistics_are_read() {
    let fake = Fake::new("cpu memory pids");
    fake.put(
        "t/pod/c/cpu.stat",
        "usage_usec 1500\nuser_usec 1400\nsystem_usec 100\nnr_periods 4\nnr_throttled 3\nthrottled_usec 2\n",
    );
    fake.put("t/pod/c/memory.current", "5000\n");
    fake.put("t/pod/c/memory.max", "8000\n");
    fake.put("t/pod/c/memory.peak", "6000\n");
    fake.put(
        "t/pod/c/memory.stat",
        "anon 3000\nfile 2000\nkernel_stack 16\nslab 32\ninactive_file 1000\npgfault 7\npgmajfault 2\n",
    );
    fake.put("t/pod/c/memory.events", "low 0\nhigh 0\nmax 9\noom 3\noom_kill 2\noom_group_kill 1\n");
    fake.put("t/pod/c/pids.current", "3\n");
    fake.put("t/pod/c/pids.max", "max\n");
    fake.put(
        "t/pod/c/cpu.pressure",
        "some avg10=1.50 avg60=0.25 avg300=0.00 total=77\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=5\n",
    );
    let cgroup = fake.cgroup();
    let expected = Stats {
        cpu: Some(Cpu {
            usage_ns: 1_500_000,
            user_ns: 1_400_000,
            system_ns: 100_000,
            periods: 4,
            throttled_periods: 3,
            throttled_ns: 2000,
        }),
        memory: Some(Memory {
            usage: 5000,
            working_set: 4000,
            rss: 3000,
            cache: 2000,
            inactive_file: 1000,
            kernel: 48,
            page_faults: 7,
            major_page_faults: 2,
            limit: Some(8000),
            limit_hits: 9,
            peak: Some(6000),
            oom_kills: 2,
            ..Memory::default()
        }),
        pids: Some(Pids { current: 3, limit: None }),
    };
    assert_eq!(cgroup.stats().unwrap(), expected);
    assert_eq!(cgroup.oom_kills().unwrap(), 2);
    let Pressure { some, full } = cgroup.pressure("cpu").unwrap().unwrap();
    assert_eq!((some.avg10, some.avg60, some.total_us, full.total_us), (1.5, 0.25, 77, 5));
    assert_eq!(cgroup.pressure("io").unwrap(), None);
}

#[test]
fn freezing_and_waiting_read_the_events() {
    let fake = Fake::new(CONTROLLERS);
    for file in ["cgroup.freeze", "cgroup.kill"] {
        fake.put(&format!("t/pod/c/{file}"), "");
    }
    fake.put("t/pod/c/cgroup.events", "populated 1\nfrozen 0\n");
    fake.put("t/pod/c/cgroup.procs", "12\n0\n13\n");
    let cgroup = fake.cgroup();
    assert!(cgroup.is_populated().unwrap());
    assert_eq!(cgroup.pids().unwrap(), [12, 13], "a process outside this pid namespace has no number here");
    let error = cgroup.freeze(Duration::from_millis(5)).unwrap_err();
    assert!(matches!(error, Error::Timeout { ref pids, .. } if *pids == [12, 13]), "{error}");
    assert_eq!(fake.get("t/pod/c/cgroup.freeze"), "0", "thawed again");
    let error = cgroup.kill(Duration::from_millis(5)).unwrap_err();
    assert!(matches!(error, Error::Timeout { op: "kill", .. }), "{error}");
    assert_eq!(fake.get("t/pod/c/cgroup.kill"), "1");
    fake.put("t/pod/c/cgroup.events", "populated 0\nfrozen 1\n");
    cgroup.freeze(SOON).unwrap();
    cgroup.kill(SOON).unwrap();
}
