//! What a cgroup has used.

use super::dir::Dir;
use super::{Cgroup, Controller, Error};

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
    /// Periods of a quota that have passed.
    pub periods: u64,
    /// Periods in which the quota was used up.
    pub throttled_periods: u64,
    /// How long tasks waited for the next period, in ns.
    pub throttled_ns: u64,
}

/// Memory used, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Memory {
    /// All that is charged.
    pub usage: u64,
    /// What cannot be taken back easily: usage without inactive file pages.
    pub working_set: u64,
    /// Anonymous memory.
    pub rss: u64,
    /// Page faults.
    pub page_faults: u64,
    /// Page faults that read from a disk.
    pub major_page_faults: u64,
    /// The limit, if there is one.
    pub limit: Option<u64>,
    /// The most that was ever in use, where the kernel keeps it (version 2: from 5.19).
    pub peak: Option<u64>,
    /// Swap in use, where it is accounted.
    pub swap: Option<u64>,
}

/// Tasks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pids {
    /// Processes and threads now.
    pub current: u64,
    /// The limit, if there is one.
    pub limit: Option<u64>,
}

/// How much tasks waited for a resource: a line of a pressure file.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Pressure {
    /// Percentage of the last 10 s.
    pub avg10: f64,
    /// Percentage of the last minute.
    pub avg60: f64,
    /// Percentage of the last five minutes.
    pub avg300: f64,
    /// Ever, in µs.
    pub total_us: u64,
}

/// Version 1 writes "no limit" as the largest number of whole pages.
const UNLIMITED: u64 = 1 << 62;

impl Cgroup {
    /// What it has used so far; a cgroup that is gone is an error.
    pub fn stats(&self) -> Result<Stats, Error> {
        Ok(Stats { cpu: self.cpu_stats()?, memory: self.memory_stats()?, pids: self.pids_stats()? })
    }

    /// How many of its processes the kernel has killed for want of memory. It can be read after the last process has
    /// ended, until the cgroup is removed.
    pub fn oom_kills(&self) -> Result<u64, Error> {
        let Some(dir) = self.with(Controller::Memory) else { return Ok(0) };
        let text = dir.read(if dir.is_v2() { "memory.events" } else { "memory.oom_control" })?;
        Ok(field(&text, "oom_kill").unwrap_or(0))
    }

    /// The lines "some" and "full" of "cpu", "memory" or "io"; none where the kernel does not count pressure.
    pub fn pressure(&self, resource: &str) -> Result<Option<(Pressure, Pressure)>, Error> {
        let Some(dir) = self.unified() else { return Ok(None) };
        match dir.read(&format!("{resource}.pressure")) {
            Ok(text) => Ok(Some((pressure_line(&text, "some "), pressure_line(&text, "full ")))),
            Err(e) if matches!(e.errno(), Some(libc::ENOENT | libc::EOPNOTSUPP)) => Ok(None),
            Err(e) => Err(e),
        }
    }

    fn cpu_stats(&self) -> Result<Option<Cpu>, Error> {
        let Some(dir) = self.with(Controller::Cpuacct) else {
            // Version 2 counts CPU time in every cgroup, with or without the controller.
            return self.unified().map(cpu_v2).transpose();
        };
        let usage_ns = dir.read_u64("cpuacct.usage")?;
        let stat = match self.with(Controller::Cpu) {
            Some(dir) => dir.read("cpu.stat")?,
            None => String::new(),
        };
        Ok(Some(Cpu { usage_ns, ..throttling(&stat, "throttled_time", 1) }))
    }

    fn memory_stats(&self) -> Result<Option<Memory>, Error> {
        self.with(Controller::Memory).map(|dir| if dir.is_v2() { memory_v2(dir) } else { memory_v1(dir) }).transpose()
    }

    fn pids_stats(&self) -> Result<Option<Pids>, Error> {
        let Some(dir) = self.with(Controller::Pids) else { return Ok(None) };
        let limit = dir.read("pids.max")?.trim().parse().ok();
        Ok(Some(Pids { current: dir.read_u64("pids.current")?, limit }))
    }
}

fn cpu_v2(dir: &Dir) -> Result<Cpu, Error> {
    let text = dir.read("cpu.stat")?;
    let usage_ns = field(&text, "usage_usec").unwrap_or(0).saturating_mul(1000);
    Ok(Cpu { usage_ns, ..throttling(&text, "throttled_usec", 1000) })
}

fn throttling(text: &str, time: &str, unit: u64) -> Cpu {
    Cpu {
        usage_ns: 0,
        periods: field(text, "nr_periods").unwrap_or(0),
        throttled_periods: field(text, "nr_throttled").unwrap_or(0),
        throttled_ns: field(text, time).unwrap_or(0).saturating_mul(unit),
    }
}

fn memory_v1(dir: &Dir) -> Result<Memory, Error> {
    let usage = dir.read_u64("memory.usage_in_bytes")?;
    let stat = dir.read("memory.stat")?;
    let get = |name| field(&stat, name).unwrap_or(0);
    Ok(Memory {
        usage,
        working_set: usage.saturating_sub(get("total_inactive_file")),
        rss: get("total_rss"),
        page_faults: get("total_pgfault"),
        major_page_faults: get("total_pgmajfault"),
        limit: Some(dir.read_u64("memory.limit_in_bytes")?).filter(|limit| *limit < UNLIMITED),
        peak: Some(dir.read_u64("memory.max_usage_in_bytes")?),
        swap: field(&stat, "total_swap"),
    })
}

fn memory_v2(dir: &Dir) -> Result<Memory, Error> {
    let usage = dir.read_u64("memory.current")?;
    let stat = dir.read("memory.stat")?;
    let get = |name| field(&stat, name).unwrap_or(0);
    let number = |text: Option<String>| text.and_then(|text| text.trim().parse().ok());
    Ok(Memory {
        usage,
        working_set: usage.saturating_sub(get("inactive_file")),
        rss: get("anon"),
        page_faults: get("pgfault"),
        major_page_faults: get("pgmajfault"),
        limit: number(Some(dir.read("memory.max")?)),
        peak: number(dir.read_if_present("memory.peak")?),
        swap: number(dir.read_if_present("memory.swap.current")?),
    })
}

/// The number after a key in a flat keyed file.
fn field(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok())
}

fn pressure_line(text: &str, kind: &str) -> Pressure {
    let line = text.lines().find_map(|line| line.strip_prefix(kind)).unwrap_or("");
    let value = |key: &str| line.split(' ').find_map(|pair| pair.strip_prefix(key)?.strip_prefix('='));
    let average = |key| value(key).and_then(|v| v.parse().ok()).unwrap_or(0.0);
    Pressure {
        avg10: average("avg10"),
        avg60: average("avg60"),
        avg300: average("avg300"),
        total_us: value("total").and_then(|v| v.parse().ok()).unwrap_or(0),
    }
}
