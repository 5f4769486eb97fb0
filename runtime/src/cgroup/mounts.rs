//! The cgroup mounts of a host, from `/proc/self/mountinfo`.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::Error;

/// Which interface a hierarchy has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Version {
    /// One hierarchy for each controller or few of them.
    V1,
    /// The unified hierarchy.
    V2,
}

/// What a hierarchy controls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Controller {
    /// Shares and quota of CPU time.
    Cpu,
    /// CPU time used (version 1; in version 2 part of the core).
    Cpuacct,
    /// Which CPUs and memory nodes.
    Cpuset,
    /// Memory and swap.
    Memory,
    /// Number of tasks.
    Pids,
    /// Huge pages.
    Hugetlb,
    /// Devices (version 1; in version 2 a BPF program).
    Devices,
    /// Freezing (version 1; in version 2 part of the core).
    Freezer,
    /// Block I/O, version 1.
    Blkio,
    /// Block I/O, version 2.
    Io,
    /// RDMA resources.
    Rdma,
    /// Miscellaneous scalar resources.
    Misc,
    /// Network classes (version 1).
    NetCls,
    /// Network priorities (version 1).
    NetPrio,
    /// Performance events (version 1; in version 2 implicit).
    PerfEvent,
    /// systemd's named hierarchy, by which it knows processes on a version 1 host.
    Systemd,
}

const CONTROLLERS: [(Controller, &str); 16] = [
    (Controller::Cpu, "cpu"),
    (Controller::Cpuacct, "cpuacct"),
    (Controller::Cpuset, "cpuset"),
    (Controller::Memory, "memory"),
    (Controller::Pids, "pids"),
    (Controller::Hugetlb, "hugetlb"),
    (Controller::Devices, "devices"),
    (Controller::Freezer, "freezer"),
    (Controller::Blkio, "blkio"),
    (Controller::Io, "io"),
    (Controller::Rdma, "rdma"),
    (Controller::Misc, "misc"),
    (Controller::NetCls, "net_cls"),
    (Controller::NetPrio, "net_prio"),
    (Controller::PerfEvent, "perf_event"),
    (Controller::Systemd, "name=systemd"),
];

impl Controller {
    /// The kernel's name.
    pub fn name(self) -> &'static str {
        CONTROLLERS.iter().find(|(controller, _)| *controller == self).map_or("", |(_, name)| name)
    }
}

impl FromStr for Controller {
    type Err = ();

    fn from_str(name: &str) -> Result<Controller, ()> {
        CONTROLLERS.iter().find(|(_, known)| *known == name).map(|(controller, _)| *controller).ok_or(())
    }
}

impl fmt::Display for Controller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One mounted hierarchy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// Where.
    pub point: PathBuf,
    /// Which interface.
    pub version: Version,
    /// What it controls; of version 2 known only after its `cgroup.controllers` has been read.
    pub controllers: Vec<Controller>,
    /// Whether it can be written to.
    pub writable: bool,
}

impl Mount {
    /// Whether it has this controller.
    pub fn has(&self, controller: Controller) -> bool {
        self.controllers.contains(&controller)
    }
}

/// The cgroup mounts in a mountinfo text: version 2 first, each hierarchy once, by its last mount on a place. Named
/// version 1 hierarchies other than systemd's are somebody else's and left out.
pub fn parse_mountinfo(text: &str) -> Vec<Mount> {
    let mut found: Vec<(String, Mount)> = Vec::new();
    for line in text.lines() {
        let Some((device, mount)) = parse_line(line) else { continue };
        // What is mounted later on the same place hides the earlier.
        found.retain(|(_, earlier)| earlier.point != mount.point);
        if mount.version == Version::V1 && mount.controllers.is_empty() {
            continue;
        }
        match found.iter_mut().find(|(known, _)| *known == device) {
            Some((_, known)) if mount.writable && !known.writable => *known = mount,
            Some(_) => {}
            None => found.push((device, mount)),
        }
    }
    let mut mounts: Vec<Mount> = found.into_iter().map(|(_, mount)| mount).collect();
    mounts.sort_by_key(|mount| mount.version == Version::V1);
    mounts
}

fn parse_line(line: &str) -> Option<(String, Mount)> {
    let (left, right) = line.split_once(" - ")?;
    let mut left = left.split(' ');
    let device = left.nth(2)?.to_owned();
    let point = PathBuf::from(unescape(left.nth(1)?));
    let options = left.next()?;
    let mut right = right.split(' ');
    let kind = right.next()?;
    let super_options = right.nth(1)?;
    let read_only = |options: &str| options.split(',').any(|option| option == "ro");
    let (version, controllers) = match kind {
        "cgroup2" => (Version::V2, Vec::new()),
        "cgroup" => (Version::V1, super_options.split(',').filter_map(|name| name.parse().ok()).collect()),
        _ => return None,
    };
    let writable = !read_only(options) && !read_only(super_options);
    Some((device, Mount { point, version, controllers, writable }))
}

/// mountinfo writes space, tab, newline and backslash as three octal digits.
pub(crate) fn unescape(text: &str) -> String {
    let mut result = Vec::with_capacity(text.len());
    let mut bytes = text.as_bytes();
    while let [first, rest @ ..] = bytes {
        let code = match (first, rest) {
            (b'\\', [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', ..]) => {
                Some((a - b'0') * 64 + (b - b'0') * 8 + (c - b'0'))
            }
            _ => None,
        };
        result.push(code.unwrap_or(*first));
        bytes = if code.is_some() { &rest[3..] } else { rest };
    }
    String::from_utf8_lossy(&result).into_owned()
}

/// A path of plain components, relative and without surprises; leading and trailing slashes are taken off.
pub(super) fn components(path: &str) -> Result<&str, Error> {
    let trimmed = path.trim_matches('/');
    let plain = |part: &str| {
        !part.is_empty() && part != "." && part != ".." && part.len() <= 255 && !part.contains(char::is_control)
    };
    if trimmed.split('/').all(plain) { Ok(trimmed) } else { Err(Error::Path(path.to_owned())) }
}
