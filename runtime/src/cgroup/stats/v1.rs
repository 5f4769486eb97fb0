//! Use in version 1: a file or two of each controller.

use super::super::dir::Dir;
use super::super::{Cgroup, Controller, Error};
use super::parse::{blkio, field, number};
use super::{Cpu, Device, Hugepages, Memory, throttling};

/// Version 1 writes "no limit" as the largest number of whole pages.
const UNLIMITED: u64 = 1 << 62;

/// One of the 100 ticks of a second in which the kernel shows times to programs (USER_HZ), whatever its own clock.
const TICK_NS: u64 = 10_000_000;

/// The `cpuacct` controller's, and of the `cpu` controller how tasks were held back.
pub fn cpu(cgroup: &Cgroup, dir: &Dir) -> Result<Cpu, Error> {
    let usage_ns = dir.read_u64("cpuacct.usage")?;
    let split = dir.read("cpuacct.stat")?;
    let ticks = |key| field(&split, key).unwrap_or(0).saturating_mul(TICK_NS);
    let stat = match cgroup.with(Controller::Cpu) {
        Some(dir) => dir.read("cpu.stat")?,
        None => String::new(),
    };
    let (user_ns, system_ns) = (ticks("user"), ticks("system"));
    Ok(Cpu { usage_ns, user_ns, system_ns, ..throttling(&stat, "throttled_time", 1) })
}

pub fn memory(dir: &Dir) -> Result<Memory, Error> {
    let usage = dir.read_u64("memory.usage_in_bytes")?;
    let stat = dir.read("memory.stat")?;
    let get = |name| field(&stat, name).unwrap_or(0);
    let bounded = |value: u64| Some(value).filter(|it| *it < UNLIMITED);
    let optional = |name| Ok::<_, Error>(dir.read_if_present(name)?.as_deref().and_then(number));
    let limit = bounded(dir.read_u64("memory.limit_in_bytes")?);
    // Memory and swap are limited together.
    let both = optional("memory.memsw.limit_in_bytes")?.and_then(bounded);
    Ok(Memory {
        usage,
        working_set: usage.saturating_sub(get("total_inactive_file")),
        rss: get("total_rss"),
        cache: get("total_cache"),
        mapped_file: get("total_mapped_file"),
        active_file: get("total_active_file"),
        inactive_file: get("total_inactive_file"),
        kernel: optional("memory.kmem.usage_in_bytes")?.unwrap_or(0),
        page_faults: get("total_pgfault"),
        major_page_faults: get("total_pgmajfault"),
        limit,
        limit_hits: optional("memory.failcnt")?.unwrap_or(0),
        peak: Some(dir.read_u64("memory.max_usage_in_bytes")?),
        // The line is in the file of a kernel that accounts for swap, and of no other.
        swap: field(&stat, "total_swap"),
        swap_limit: both.zip(limit).map(|(both, limit)| both.saturating_sub(limit)),
        oom_kills: field(&dir.read("memory.oom_control")?, "oom_kill").unwrap_or(0),
    })
}

/// The throttling layer counts what every scheduler's layer sees, whichever is in use.
pub fn io(dir: &Dir) -> Result<Vec<Device>, Error> {
    let read = |name: &str| match dir.read_if_present(&format!("{name}_recursive"))? {
        Some(text) => Ok(text),
        // Before 4.20 there is the cgroup's own count alone.
        None => dir.read(name),
    };
    Ok(blkio(&read("blkio.throttle.io_service_bytes")?, &read("blkio.throttle.io_serviced")?))
}

pub fn hugepages(dir: &Dir, size: &str) -> Result<Option<Hugepages>, Error> {
    let read = |what: &str| dir.read_if_present(&format!("hugetlb.{size}.{what}"));
    let Some(usage) = read("usage_in_bytes")?.as_deref().and_then(number) else { return Ok(None) };
    let peak = read("max_usage_in_bytes")?.as_deref().and_then(number);
    Ok(Some(Hugepages { size: size.to_owned(), usage, peak }))
}
