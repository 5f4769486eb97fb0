//! What a cgroup has used.

mod parse;
mod v1;
mod v2;

use super::dir::absent;
use super::{Cgroup, Controller, Error};
use parse::field;

/// Use at one moment. A part is `None` where nothing counts it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Stats {
    /// CPU time.
    pub cpu: Option<Cpu>,
    /// Memory.
    pub memory: Option<Memory>,
    /// Tasks.
    pub pids: Option<Pids>,
}

/// CPU time used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cpu {
    /// All, in ns.
    pub usage_ns: u64,
    /// Of programs, in ns.
    pub user_ns: u64,
    /// Of the kernel on their behalf, in ns.
    pub system_ns: u64,
    /// Periods of a quota that have passed.
    pub periods: u64,
    /// Periods in which the quota was used up.
    pub throttled_periods: u64,
    /// How long tasks waited for the next period, in ns.
    pub throttled_ns: u64,
}

/// Memory used, in bytes; of the cgroup and all below it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Memory {
    /// All that is charged.
    pub usage: u64,
    /// What cannot be taken back easily: usage without inactive file pages.
    pub working_set: u64,
    /// Anonymous memory.
    pub rss: u64,
    /// Pages of files.
    pub cache: u64,
    /// Pages of files that are mapped.
    pub mapped_file: u64,
    /// Pages of files that were used of late.
    pub active_file: u64,
    /// Pages of files that were not.
    pub inactive_file: u64,
    /// The kernel's own.
    pub kernel: u64,
    /// Page faults.
    pub page_faults: u64,
    /// Page faults that read from a disk.
    pub major_page_faults: u64,
    /// The limit, if there is one.
    pub limit: Option<u64>,
    /// How often the limit was met.
    pub limit_hits: u64,
    /// The most that was ever in use, where the kernel keeps it (version 2: from 5.19).
    pub peak: Option<u64>,
    /// Swap in use, where it is accounted.
    pub swap: Option<u64>,
    /// The limit of that, if there is one.
    pub swap_limit: Option<u64>,
    /// Processes that the kernel killed for want of memory.
    pub oom_kills: u64,
}

/// Tasks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pids {
    /// Processes and threads now.
    pub current: u64,
    /// The limit, if there is one.
    pub limit: Option<u64>,
}

/// What was read from and written to a block device.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Device {
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
    /// Bytes read.
    pub read_bytes: u64,
    /// Bytes written.
    pub write_bytes: u64,
    /// Requests to read.
    pub reads: u64,
    /// Requests to write.
    pub writes: u64,
}

/// Huge pages of one size.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hugepages {
    /// As the kernel writes it: "2MB".
    pub size: String,
    /// Bytes in use.
    pub usage: u64,
    /// The most that ever was; version 2 does not keep it.
    pub peak: Option<u64>,
}

/// How much tasks waited for a resource.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Pressure {
    /// Some of them did.
    pub some: Stall,
    /// All of them did, so that nothing was done.
    pub full: Stall,
}

/// A line of a pressure file.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Stall {
    /// Percentage of the last 10 s.
    pub avg10: f64,
    /// Percentage of the last minute.
    pub avg60: f64,
    /// Percentage of the last five minutes.
    pub avg300: f64,
    /// Ever, in µs.
    pub total_us: u64,
}

impl Cgroup {
    /// What it has used so far; a cgroup that is gone is an error.
    pub fn stats(&self) -> Result<Stats, Error> {
        Ok(Stats { cpu: self.cpu_stats()?, memory: self.memory_stats()?, pids: self.pids_stats()? })
    }

    /// What it has read and written, by device. None where nothing counts it.
    pub fn io(&self) -> Result<Option<Vec<Device>>, Error> {
        let dir = self.with(Controller::Io).or_else(|| self.with(Controller::Blkio));
        let Some(dir) = dir else { return Ok(None) };
        if dir.is_v2() { v2::io(dir) } else { v1::io(dir).map(Some) }
    }

    /// The huge pages that it has, of each of `sizes`.
    pub fn hugepages(&self, sizes: &[String]) -> Result<Vec<Hugepages>, Error> {
        let Some(dir) = self.with(Controller::Hugetlb) else { return Ok(Vec::new()) };
        let read = |size: &String| if dir.is_v2() { v2::hugepages(dir, size) } else { v1::hugepages(dir, size) };
        sizes.iter().filter_map(|size| read(size).transpose()).collect()
    }

    /// How many of its processes the kernel has killed for want of memory. It can be read after the last process has
    /// ended, until the cgroup is removed.
    pub fn oom_kills(&self) -> Result<u64, Error> {
        let Some(dir) = self.with(Controller::Memory) else { return Ok(0) };
        let text = dir.read(if dir.is_v2() { "memory.events" } else { "memory.oom_control" })?;
        Ok(field(&text, "oom_kill").unwrap_or(0))
    }

    /// How its tasks waited for "cpu", "memory" or "io"; none where the kernel does not count pressure.
    pub fn pressure(&self, resource: &str) -> Result<Option<Pressure>, Error> {
        let Some(dir) = self.unified() else { return Ok(None) };
        match dir.read(&format!("{resource}.pressure")) {
            Ok(text) => Ok(Some(parse::pressure(&text))),
            Err(e) if matches!(e.errno(), Some(libc::ENOENT | libc::EOPNOTSUPP)) => Ok(None),
            Err(e) => Err(e),
        }
    }

    fn cpu_stats(&self) -> Result<Option<Cpu>, Error> {
        match self.with(Controller::Cpuacct) {
            Some(dir) => v1::cpu(self, dir).map(Some),
            // Version 2 counts CPU time in every cgroup, with or without the controller.
            None => self.unified().map(v2::cpu).transpose(),
        }
    }

    fn memory_stats(&self) -> Result<Option<Memory>, Error> {
        let Some(dir) = self.with(Controller::Memory) else { return Ok(None) };
        if dir.is_v2() { v2::memory(dir) } else { v1::memory(dir).map(Some) }
    }

    fn pids_stats(&self) -> Result<Option<Pids>, Error> {
        let Some(dir) = self.with(Controller::Pids) else { return Ok(None) };
        // In version 2 it may not be enabled here.
        let Some(current) = absent(dir.read_u64("pids.current"))? else { return Ok(None) };
        Ok(Some(Pids { current, limit: parse::number(&dir.read("pids.max")?) }))
    }
}

/// The part of a `cpu.stat` that both versions have.
fn throttling(text: &str, time: &str, unit: u64) -> Cpu {
    Cpu {
        periods: field(text, "nr_periods").unwrap_or(0),
        throttled_periods: field(text, "nr_throttled").unwrap_or(0),
        throttled_ns: field(text, time).unwrap_or(0).saturating_mul(unit),
        ..Cpu::default()
    }
}
