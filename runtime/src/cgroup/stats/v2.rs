//! Use in version 2.

use super::super::Error;
use super::super::dir::{Dir, absent};
use super::parse::{field, io_stat, number};
use super::{Cpu, Device, Hugepages, Memory, throttling};

pub fn cpu(dir: &Dir) -> Result<Cpu, Error> {
    let text = dir.read("cpu.stat")?;
    let ns = |key| field(&text, key).unwrap_or(0).saturating_mul(1000);
    Ok(Cpu {
        usage_ns: ns("usage_usec"),
        user_ns: ns("user_usec"),
        system_ns: ns("system_usec"),
        ..throttling(&text, "throttled_usec", 1000)
    })
}

/// None where the controller could not be enabled.
pub fn memory(dir: &Dir) -> Result<Option<Memory>, Error> {
    let Some(usage) = absent(dir.read_u64("memory.current"))? else { return Ok(None) };
    let stat = dir.read("memory.stat")?;
    let get = |name| field(&stat, name).unwrap_or(0);
    let optional = |name| Ok::<_, Error>(dir.read_if_present(name)?.as_deref().and_then(number));
    let events = dir.read_if_present("memory.events")?.unwrap_or_default();
    let event = |name| field(&events, name).unwrap_or(0);
    // Before 5.18 there is no sum of it.
    let kernel = field(&stat, "kernel").unwrap_or_else(|| get("kernel_stack") + get("slab") + get("sock"));
    Ok(Some(Memory {
        usage,
        working_set: usage.saturating_sub(get("inactive_file")),
        rss: get("anon"),
        cache: get("file"),
        mapped_file: get("file_mapped"),
        active_file: get("active_file"),
        inactive_file: get("inactive_file"),
        kernel,
        page_faults: get("pgfault"),
        major_page_faults: get("pgmajfault"),
        limit: optional("memory.max")?,
        limit_hits: event("max"),
        peak: optional("memory.peak")?,
        swap: optional("memory.swap.current")?,
        swap_limit: optional("memory.swap.max")?,
        oom_kills: event("oom_kill"),
    }))
}

/// None where the controller could not be enabled.
pub fn io(dir: &Dir) -> Result<Option<Vec<Device>>, Error> {
    Ok(dir.read_if_present("io.stat")?.as_deref().map(io_stat))
}

pub fn hugepages(dir: &Dir, size: &str) -> Result<Option<Hugepages>, Error> {
    let usage = dir.read_if_present(&format!("hugetlb.{size}.current"))?;
    let usage = usage.as_deref().and_then(number);
    Ok(usage.map(|usage| Hugepages { size: size.to_owned(), usage, peak: None }))
}
