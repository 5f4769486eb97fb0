//! What a cgroup may use, as the OCI and the CRI say it.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{Cgroup, Controller, Error, v1, v2};

/// Limits. What is `None` or empty is left as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Resources {
    /// Relative weight in version 1's unit: 2 to 262144, 1024 being one CPU's worth.
    pub cpu_shares: Option<u64>,
    /// Length of a quota's period in µs.
    pub cpu_period: Option<u64>,
    /// CPU time in a period in µs; negative is unlimited.
    pub cpu_quota: Option<i64>,
    /// CPUs as a list, "0-2,7".
    pub cpuset_cpus: Option<String>,
    /// Memory nodes as a list.
    pub cpuset_mems: Option<String>,
    /// Bytes of memory; negative is unlimited.
    pub memory_limit: Option<i64>,
    /// Bytes of memory and swap together; negative is unlimited.
    pub memory_swap: Option<i64>,
    /// Whether running out of memory ends every process of the cgroup (version 2 alone can).
    pub memory_oom_group: Option<bool>,
    /// Number of tasks; negative is unlimited.
    pub pids_limit: Option<i64>,
    /// Limits of huge pages, by size.
    pub hugepages: Vec<HugepageLimit>,
    /// Version 2 files by name, written last.
    pub unified: BTreeMap<String, String>,
    /// The devices that may be used, and no other. Replaces an earlier list.
    pub devices: Option<Vec<DeviceRule>>,
}

/// A limit of huge pages.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HugepageLimit {
    /// As the kernel writes it: "2MB", "1GB", "64KB".
    pub page_size: String,
    /// In bytes.
    pub limit: u64,
}

/// Which device files a rule is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeviceKind {
    /// Both.
    All,
    /// Character devices.
    Char,
    /// Block devices.
    Block,
}

/// What a rule permits: read, write, mknod.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Access {
    /// Open for reading.
    pub read: bool,
    /// Open for writing.
    pub write: bool,
    /// Make a node.
    pub mknod: bool,
}

impl Access {
    /// All three.
    pub const ALL: Access = Access { read: true, write: true, mknod: true };
    /// Making nodes only.
    pub const MKNOD: Access = Access { read: false, write: false, mknod: true };
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let letters = [(self.read, "r"), (self.write, "w"), (self.mknod, "m")];
        letters.iter().filter(|(on, _)| *on).try_for_each(|(_, letter)| f.write_str(letter))
    }
}

impl FromStr for Access {
    type Err = Error;

    /// Letters of "rwm", as the CRI and `docker --device` write them; at least one.
    fn from_str(text: &str) -> Result<Access, Error> {
        let mut access = Access { read: false, write: false, mknod: false };
        for letter in text.chars() {
            match letter {
                'r' => access.read = true,
                'w' => access.write = true,
                'm' => access.mknod = true,
                _ => return Err(bad_access(text)),
            }
        }
        if text.is_empty() { Err(bad_access(text)) } else { Ok(access) }
    }
}

fn bad_access(text: &str) -> Error {
    Error::Value { setting: "device permissions".to_owned(), value: text.to_owned(), expected: "letters of \"rwm\"" }
}

/// A device that may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct DeviceRule {
    /// Which device files.
    pub kind: DeviceKind,
    /// Major number; `None` is any.
    pub major: Option<u32>,
    /// Minor number; `None` is any.
    pub minor: Option<u32>,
    /// What is permitted.
    pub access: Access,
}

impl DeviceRule {
    /// Every device, every access: what a privileged container has.
    pub const ALL: DeviceRule = DeviceRule { kind: DeviceKind::All, major: None, minor: None, access: Access::ALL };

    /// A character device with every access.
    pub const fn char(major: u32, minor: Option<u32>) -> DeviceRule {
        DeviceRule { kind: DeviceKind::Char, major: Some(major), minor, access: Access::ALL }
    }
}

impl fmt::Display for DeviceRule {
    /// As version 1's `devices.allow` reads it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = |n: Option<u32>| n.map_or("*".to_owned(), |n| n.to_string());
        let kind = match self.kind {
            DeviceKind::All => "a",
            DeviceKind::Char => "c",
            DeviceKind::Block => "b",
        };
        write!(f, "{kind} {}:{} {}", number(self.major), number(self.minor), self.access)
    }
}

/// Something asked for that only shapes how resources are shared, and that this host does not have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shortfall {
    /// What was asked for.
    pub setting: String,
    /// Why it has no effect.
    pub why: String,
}

impl Cgroup {
    /// Applies limits. A limit that nothing on this host enforces is an error; a weight or a convenience is returned.
    pub fn apply(&self, resources: &Resources) -> Result<Vec<Shortfall>, Error> {
        validate(resources)?;
        let mut shortfalls = Vec::new();
        let r = resources;
        if r.cpu_shares.is_some() || r.cpu_quota.is_some() || r.cpu_period.is_some() {
            match self.with(Controller::Cpu) {
                Some(dir) if dir.is_v2() => v2::cpu(dir, r)?,
                Some(dir) => v1::cpu(dir, r)?,
                None if r.cpu_quota.is_some_and(|quota| quota > 0) => {
                    return Err(self.no_controller("cpu quota", Controller::Cpu));
                }
                None => shortfalls.push(self.shortfall("cpu shares", Controller::Cpu)),
            }
        }
        if r.cpuset_cpus.is_some() || r.cpuset_mems.is_some() {
            let dir = self.need("cpuset", Controller::Cpuset)?;
            set(dir, "cpuset.cpus", r.cpuset_cpus.as_deref())?;
            set(dir, "cpuset.mems", r.cpuset_mems.as_deref())?;
        }
        self.apply_memory(r, &mut shortfalls)?;
        if let Some(limit) = r.pids_limit {
            self.need("pids limit", Controller::Pids)?.write("pids.max", &or_max(limit))?;
        }
        for limit in &r.hugepages {
            self.apply_hugepages(limit)?;
        }
        if let Some(rules) = &r.devices {
            self.apply_devices(rules)?;
        }
        for (name, value) in &r.unified {
            self.apply_unified(name, value)?;
        }
        Ok(shortfalls)
    }

    fn apply_memory(&self, r: &Resources, shortfalls: &mut Vec<Shortfall>) -> Result<(), Error> {
        if r.memory_limit.is_none() && r.memory_swap.is_none() && r.memory_oom_group.is_none() {
            return Ok(());
        }
        match self.with(Controller::Memory) {
            Some(dir) if dir.is_v2() => shortfalls.extend(v2::memory(dir, r)?),
            Some(dir) => shortfalls.extend(v1::memory(dir, r)?),
            None if r.memory_limit.is_none() && r.memory_swap.is_none() => {
                shortfalls.push(self.shortfall("memory.oom.group", Controller::Memory));
            }
            None => return Err(self.no_controller("memory limit", Controller::Memory)),
        }
        Ok(())
    }

    fn apply_hugepages(&self, limit: &HugepageLimit) -> Result<(), Error> {
        let dir = match self.with(Controller::Hugetlb) {
            Some(dir) => dir,
            // Nothing to use is what a limit of nothing means.
            None if limit.limit == 0 => return Ok(()),
            None => return Err(self.no_controller("hugepage limit", Controller::Hugetlb)),
        };
        let value = limit.limit.to_string();
        let file = if dir.is_v2() { "max" } else { "limit_in_bytes" };
        dir.write(&format!("hugetlb.{}.{file}", limit.page_size), &value)?;
        // Reservations are counted apart since 5.7: without this limit a reservation fails only when it is touched.
        super::dir::absent(dir.write(&format!("hugetlb.{}.rsvd.{file}", limit.page_size), &value)).map(drop)
    }

    fn apply_devices(&self, rules: &[DeviceRule]) -> Result<(), Error> {
        match (self.with(Controller::Devices), self.unified()) {
            (Some(dir), _) => v1::devices(dir, rules),
            (None, Some(dir)) => super::device_program::apply(dir, rules),
            (None, None) => Err(self.no_controller("device rules", Controller::Devices)),
        }
    }

    fn apply_unified(&self, name: &str, value: &str) -> Result<(), Error> {
        let invalid = |expected| Error::Value { setting: "unified".to_owned(), value: name.to_owned(), expected };
        let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_'));
        let (controller, _) =
            name.split_once('.').filter(|_| plain).ok_or_else(|| invalid("a file name such as memory.high"))?;
        let controller: Controller = controller.parse().map_err(|()| invalid("a file of a version 2 controller"))?;
        match self.with(controller) {
            Some(dir) if dir.is_v2() => dir.write(name, value),
            _ => {
                let why = "not in the version 2 hierarchy of this host".to_owned();
                Err(Error::NoController { setting: format!("unified {name}"), controller, why })
            }
        }
    }

    fn need(&self, setting: &str, controller: Controller) -> Result<&super::dir::Dir, Error> {
        self.with(controller).ok_or_else(|| self.no_controller(setting, controller))
    }

    fn no_controller(&self, setting: &str, controller: Controller) -> Error {
        Error::NoController { setting: setting.to_owned(), controller, why: self.why_not(controller) }
    }

    fn shortfall(&self, setting: &str, controller: Controller) -> Shortfall {
        let why = format!("the {controller} controller is {}", self.why_not(controller));
        Shortfall { setting: setting.to_owned(), why }
    }

    fn why_not(&self, controller: Controller) -> String {
        match self.refused().into_iter().find(|(refused, _)| *refused == controller) {
            Some((_, why)) => why,
            None => "not in any mounted cgroup hierarchy".to_owned(),
        }
    }
}

fn validate(resources: &Resources) -> Result<(), Error> {
    let list = |setting: &str, value: &Option<String>| match value {
        Some(v) if !v.bytes().all(|b| b.is_ascii_digit() || matches!(b, b',' | b'-')) || v.is_empty() => {
            Err(Error::Value { setting: setting.to_owned(), value: v.clone(), expected: "a list such as 0-2,7" })
        }
        _ => Ok(()),
    };
    list("cpuset cpus", &resources.cpuset_cpus)?;
    list("cpuset mems", &resources.cpuset_mems)?;
    for limit in &resources.hugepages {
        let size = limit.page_size.strip_suffix("KB").or(limit.page_size.strip_suffix("MB"));
        let size = size.or(limit.page_size.strip_suffix("GB")).unwrap_or("");
        if size.is_empty() || !size.bytes().all(|b| b.is_ascii_digit()) {
            let setting = "hugepage size".to_owned();
            return Err(Error::Value { setting, value: limit.page_size.clone(), expected: "such as 2MB or 1GB" });
        }
    }
    Ok(())
}

pub(super) fn set(dir: &super::dir::Dir, file: &str, value: Option<&str>) -> Result<(), Error> {
    value.map_or(Ok(()), |value| dir.write(file, value))
}

/// A number, or "max" for a negative one.
pub(super) fn or_max(value: i64) -> String {
    if value < 0 { "max".to_owned() } else { value.to_string() }
}

/// Version 2's weight (1 to 10000) for version 1's shares (2 to 262144): the default meets the default (1024 and 100),
/// and the ends meet the ends. A straight line would give 1024 shares a weight of 39, and a container of one CPU too
/// little beside the host's services.
pub fn shares_to_weight(shares: u64) -> u64 {
    match shares {
        0..=2 => 1,
        262_144.. => 10_000,
        _ => {
            let log = (shares as f64).log2();
            let exponent = (log * log + 125.0 * log) / 612.0 - 7.0 / 34.0;
            // What is a whole number but for rounding errors stays one.
            (10f64.powf(exponent) - 1e-9).ceil() as u64
        }
    }
}
