#![allow(clippy::unwrap_used)]

use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;

mod fake;
mod real;

const SOON: Duration = Duration::from_secs(10);

/// Cgroups of one test, killed and removed at its end whatever happened.
struct Playground {
    hierarchies: Hierarchies,
    name: String,
}

impl Playground {
    /// None, with a printed reason, where the machine lets nobody make cgroups.
    fn new(test: &str) -> Option<Playground> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        if !rustix::process::geteuid().is_root() {
            println!("skipped: not root");
            return None;
        }
        let prefix = format!("coracle-test-{}-{}-{test}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let hierarchies = Hierarchies::discover("/proc".as_ref(), &prefix).unwrap();
        if hierarchies.mounts().any(|mount| !mount.writable) {
            println!("skipped: cgroups are mounted read-only");
            return None;
        }
        Some(Playground { hierarchies, name: prefix })
    }

    fn create(&self, path: &str) -> Cgroup {
        self.hierarchies.create(&format!("{}/{path}", self.name)).unwrap()
    }

    fn path(&self, path: &str) -> String {
        format!("{}/{path}", self.name)
    }
}

impl Drop for Playground {
    fn drop(&mut self) {
        if let Some(all) = self.hierarchies.find(&self.name).unwrap() {
            all.kill(SOON).unwrap();
        }
        for child in self.hierarchies.children(&self.name).unwrap() {
            self.hierarchies.remove(&self.path(&child), SOON).unwrap();
        }
        assert!(self.hierarchies.prune().unwrap(), "{} is still there", self.name);
    }
}

/// A shell that joins the cgroup before it runs the script, as a container's process does: it writes "0" to each
/// `cgroup.procs`.
fn spawn(cgroup: &Cgroup, script: &str) -> Child {
    let fds = cgroup.procs_fds().unwrap();
    let mut command = Command::new("sh");
    command.arg("-c").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut joined = String::new();
    for fd in &fds {
        use std::os::fd::AsRawFd;
        // The test's own descriptors, through procfs: they are close-on-exec in the child.
        joined += &format!("echo 0 > /proc/{}/fd/{}; ", std::process::id(), fd.as_raw_fd());
    }
    let child = command.arg(format!("set -e; {joined} set +e; echo ready >&2; {script}")).spawn().unwrap();
    let mut child = child;
    // The descriptors stay open until the child has used them.
    let mut ready = [0; 6];
    std::io::Read::read_exact(child.stderr.as_mut().unwrap(), &mut ready).unwrap();
    assert_eq!(&ready, b"ready\n");
    child
}

fn output(cgroup: &Cgroup, script: &str) -> String {
    let output = spawn(cgroup, script).wait_with_output().unwrap();
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn mounts_are_found_in_version_1_version_2_and_hybrid_hosts() {
    let v2 = "29 22 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot\n";
    let mounts = parse_mountinfo(v2);
    assert_eq!(mounts.len(), 1);
    assert_eq!((mounts[0].version, mounts[0].point.as_path()), (Version::V2, "/sys/fs/cgroup".as_ref()));

    let hybrid = "\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct
33 31 0:30 / /sys/fs/cgroup/memory ro,relatime - cgroup cgroup rw,memory
34 31 0:30 / /mnt/with\\040space rw,relatime - cgroup cgroup rw,memory
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,xattr,name=systemd
41 31 0:39 / /sys/fs/cgroup/elogind rw,relatime - cgroup cgroup rw,name=elogind
42 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
nonsense
43 31 0:29 / /other rw - cgroup cgroup rw,cpu,cpuacct
";
    let mounts = parse_mountinfo(hybrid);
    let seen: Vec<(&str, &[Controller])> =
        mounts.iter().map(|mount| (mount.point.to_str().unwrap(), mount.controllers.as_slice())).collect();
    let expected: [(&str, &[Controller]); 4] = [
        ("/sys/fs/cgroup/unified", &[]),
        ("/sys/fs/cgroup/cpu,cpuacct", &[Controller::Cpu, Controller::Cpuacct]),
        ("/mnt/with space", &[Controller::Memory]),
        ("/sys/fs/cgroup/systemd", &[Controller::Systemd]),
    ];
    assert_eq!(seen, expected);
    assert!(mounts.iter().all(|mount| mount.writable));
    assert!(parse_mountinfo("1 2 0:3 / / rw - ext4 /dev/vda rw\n").is_empty());
    assert!(matches!(Hierarchies::open(Vec::new(), "coracle"), Err(Error::NoHierarchy)));
}

proptest! {
    #[test]
    fn any_mountinfo_is_read_without_a_panic(text in "[ -~\n]{0,200}") {
        parse_mountinfo(&text);
    }

    #[test]
    fn a_mount_point_of_any_name_is_found(name in "[a-z \t\\\\0-9]{1,20}") {
        let escape = |c: char| if " \t\\".contains(c) { format!("\\{:03o}", c as u32) } else { c.to_string() };
        let escaped: String = name.chars().map(escape).collect();
        let mounts = parse_mountinfo(&format!("29 22 0:26 / /{escaped} rw - cgroup2 none rw"));
        let expected = std::path::PathBuf::from(format!("/{name}"));
        prop_assert_eq!(&mounts[0].point, &expected);
    }
}

#[test]
fn paths_are_plain_components() {
    for bad in ["", "/", "a//b", "../x", "a/../b", "a/.", "a\nb", "a\0b"] {
        assert!(mounts::components(bad).is_err(), "{bad:?}");
    }
    assert_eq!(mounts::components("/a/b.c-d/").unwrap(), "a/b.c-d");
    assert!(mounts::components(&"x".repeat(256)).is_err());
}

#[test]
fn shares_become_weights() {
    for (shares, weight) in [(0, 1), (2, 1), (1024, 100), (262_144, 10_000), (1 << 40, 10_000)] {
        assert_eq!(shares_to_weight(shares), weight, "{shares}");
    }
    let weights: Vec<u64> = (2..=262_144).map(shares_to_weight).collect();
    assert!(weights.is_sorted());
}

#[test]
fn device_rules_are_written_as_the_kernel_reads_them() {
    assert_eq!(DeviceRule::char(1, Some(3)).to_string(), "c 1:3 rwm");
    assert_eq!(DeviceRule::char(136, None).to_string(), "c 136:* rwm");
    assert_eq!(DeviceRule::ALL.to_string(), "a *:* rwm");
    let block = DeviceRule { kind: DeviceKind::Block, major: None, minor: None, access: Access::MKNOD };
    assert_eq!(block.to_string(), "b *:* m");
    assert_eq!("rw".parse::<Access>().unwrap(), Access { read: true, write: true, mknod: false });
    assert!("".parse::<Access>().is_err());
    assert!("rx".parse::<Access>().is_err());
}
