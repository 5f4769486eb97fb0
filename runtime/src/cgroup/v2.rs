//! Version 2: one hierarchy, controllers enabled from the root down.

use super::dir::Dir;
use super::resources::{or_max, set};
use super::{Controller, Error, Resources, Shortfall, shares_to_weight};

/// What a container's limits and statistics need.
const WANTED: [Controller; 6] =
    [Controller::Cpu, Controller::Cpuset, Controller::Io, Controller::Memory, Controller::Pids, Controller::Hugetlb];

/// Makes `path` below a root and opens it, with the controllers enabled in every cgroup above it. One that cannot be
/// enabled is remembered with the reason: it is an error only when a limit asks for it.
pub(super) fn create(root: &Dir, path: &str) -> Result<Dir, Error> {
    // Usually everything above it is there and enabled: then it has all controllers from its birth.
    match root.create_child(path) {
        Ok(dir) if has_all(&dir)? => return Ok(dir),
        Err(e) if e.errno() != Some(libc::ENOENT) => return Err(e),
        _ => {}
    }
    let mut refused = Vec::new();
    let mut parent = None;
    for name in path.split('/') {
        let above = parent.as_ref().unwrap_or(root);
        enable(above, &mut refused)?;
        parent = Some(above.create_child(name)?);
    }
    let mut dir = parent.ok_or_else(|| Error::Path(path.to_owned()))?;
    dir.refused = refused;
    Ok(dir)
}

fn has_all(dir: &Dir) -> Result<bool, Error> {
    let mut wanted = WANTED.iter().filter(|wanted| dir.mount.has(**wanted)).peekable();
    if wanted.peek().is_none() {
        return Ok(true);
    }
    let there = dir.read("cgroup.controllers")?;
    Ok(wanted.all(|wanted| there.split_whitespace().any(|name| name == wanted.name())))
}

fn enable(dir: &Dir, refused: &mut Vec<(Controller, String)>) -> Result<(), Error> {
    const FILE: &str = "cgroup.subtree_control";
    let wanted: Vec<Controller> = WANTED
        .into_iter()
        .filter(|wanted| dir.mount.has(*wanted) && !refused.iter().any(|(known, _)| known == wanted))
        .collect();
    if wanted.is_empty() {
        return Ok(());
    }
    let enabled = dir.read(FILE)?;
    let missing: Vec<Controller> =
        wanted.into_iter().filter(|c| !enabled.split_whitespace().any(|name| name == c.name())).collect();
    let plus: Vec<String> = missing.iter().map(|controller| format!("+{controller}")).collect();
    if plus.is_empty() {
        return Ok(());
    }
    match dir.write(FILE, &plus.join(" ")) {
        Ok(()) => return Ok(()),
        Err(e) if e.errno() == Some(libc::EBUSY) => {
            // Some of them could be enabled alone, but then the child would be of a threaded tree and take no process.
            let why = explain(dir, &e);
            refused.extend(missing.into_iter().map(|controller| (controller, why.clone())));
            return Ok(());
        }
        // The kernel takes all or none: one by one shows which.
        Err(_) => {}
    }
    for (controller, plus) in missing.into_iter().zip(plus) {
        if let Err(e) = dir.write(FILE, &plus) {
            refused.push((controller, explain(dir, &e)));
        }
    }
    Ok(())
}

fn explain(dir: &Dir, error: &Error) -> String {
    let place = dir.shown("").display().to_string();
    match error.errno() {
        Some(libc::EBUSY) => {
            format!("not enabled in {place}, which has processes of its own: move them into a cgroup below it")
        }
        Some(libc::EINVAL) => {
            format!("not enabled in {place}: real-time processes, or a threaded cgroup, forbid it")
        }
        Some(libc::EACCES | libc::EPERM | libc::EROFS) => {
            format!("not enabled in {place}, which may not be written: delegate it (systemd: Delegate=yes)")
        }
        Some(libc::ENOENT) => format!("not enabled in {place}: not delegated by the cgroup above it"),
        _ => format!(
            "not enabled in {place}: {}",
            std::error::Error::source(error).map_or(error.to_string(), |s| s.to_string())
        ),
    }
}

pub(super) fn cpu(dir: &Dir, r: &Resources) -> Result<(), Error> {
    set(dir, "cpu.weight", r.cpu_shares.map(|shares| shares_to_weight(shares).to_string()).as_deref())?;
    match (r.cpu_quota, r.cpu_period) {
        (None, None) => Ok(()),
        (Some(quota), None) => dir.write("cpu.max", &or_max(quota)),
        (Some(quota), Some(period)) => dir.write("cpu.max", &format!("{} {period}", or_max(quota))),
        (None, Some(period)) => {
            let old = dir.read("cpu.max")?;
            let quota = old.split_whitespace().next().unwrap_or("max");
            dir.write("cpu.max", &format!("{quota} {period}"))
        }
    }
}

pub(super) fn memory(dir: &Dir, r: &Resources) -> Result<Vec<Shortfall>, Error> {
    let mut shortfalls = Vec::new();
    if let Some(swap) = swap_max(r)? {
        match dir.write("memory.swap.max", &swap) {
            Err(e) if e.errno() == Some(libc::ENOENT) => {
                let why = "the kernel has no swap accounting".to_owned();
                shortfalls.push(Shortfall { setting: "swap limit".to_owned(), why });
            }
            other => other?,
        }
    }
    set(dir, "memory.max", r.memory_limit.map(or_max).as_deref())?;
    set(dir, "memory.oom.group", r.memory_oom_group.map(|on| u8::from(on).to_string()).as_deref())?;
    Ok(shortfalls)
}

/// Version 2 limits swap alone, the OCI says memory and swap together.
fn swap_max(r: &Resources) -> Result<Option<String>, Error> {
    let invalid = |swap: i64, expected| Error::Value {
        setting: "memory and swap limit".to_owned(),
        value: swap.to_string(),
        expected,
    };
    match (r.memory_swap, r.memory_limit) {
        (None, _) => Ok(None),
        (Some(swap), _) if swap < 0 => Ok(Some("max".to_owned())),
        (Some(swap), Some(limit)) if limit >= 0 && swap >= limit => Ok(Some((swap - limit).to_string())),
        (Some(swap), Some(limit)) if limit >= 0 => Err(invalid(swap, "at least the memory limit")),
        (Some(swap), _) => Err(invalid(swap, "given together with a memory limit")),
    }
}
