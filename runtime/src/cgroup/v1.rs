//! Version 1: one hierarchy for each controller.

use super::dir::Dir;
use super::resources::set;
use super::{Controller, DeviceRule, Error, Resources, Shortfall};

const CPUSET: [&str; 2] = ["cpuset.cpus", "cpuset.mems"];

/// Makes `path` below a root and opens it. Only the last component is usually missing: one mkdir and one open then do.
pub(super) fn create(root: &Dir, path: &str) -> Result<Dir, Error> {
    let cpuset = root.mount.has(Controller::Cpuset);
    match root.create_new(path) {
        Err(e) if e.errno() == Some(libc::ENOENT) => create_all(root, path, cpuset),
        Ok((dir, true)) if cpuset => {
            if !is_unfilled(&dir)? || inherit(root, path, &dir)? {
                return Ok(dir);
            }
            create_all(root, path, cpuset)
        }
        // Whoever made it may not have filled it yet.
        Ok((_, false)) if cpuset => create_all(root, path, cpuset),
        other => Ok(other?.0),
    }
}

fn create_all(root: &Dir, path: &str, cpuset: bool) -> Result<Dir, Error> {
    let ends = path.match_indices('/').map(|(slash, _)| slash).chain([path.len()]);
    let mut last = None;
    for end in ends {
        let dir = root.create_child(&path[..end])?;
        if cpuset && is_unfilled(&dir)? {
            inherit(root, &path[..end], &dir)?;
            // From here on the kernel gives each new cgroup what its parent has, without the work on its scheduling
            // domains that every write of them costs. An old way of doing it that is not there is done without.
            let _ = dir.write("cgroup.clone_children", "1");
        }
        last = Some(dir);
    }
    last.ok_or_else(|| Error::Path(path.to_owned()))
}

fn is_unfilled(dir: &Dir) -> Result<bool, Error> {
    Ok(CPUSET.iter().map(|file| dir.read(file)).collect::<Result<Vec<_>, _>>()?.iter().any(|t| t.trim().is_empty()))
}

/// A new cpuset is empty and admits no task: it gets what its parent has. False if the parent is empty itself.
fn inherit(root: &Dir, path: &str, dir: &Dir) -> Result<bool, Error> {
    let parent = path.rsplit_once('/').map_or(String::new(), |(parent, _)| format!("{parent}/"));
    for file in CPUSET {
        let value = root.read(&format!("{parent}{file}"))?;
        if value.trim().is_empty() {
            return Ok(false);
        }
        dir.write(file, value.trim())?;
    }
    Ok(true)
}

pub(super) fn cpu(dir: &Dir, r: &Resources) -> Result<(), Error> {
    set(dir, "cpu.shares", r.cpu_shares.map(|shares| shares.to_string()).as_deref())?;
    let period = r.cpu_period.map(|period| period.to_string());
    let quota = r.cpu_quota.map(|quota| quota.max(-1).to_string());
    match set(dir, "cpu.cfs_period_us", period.as_deref()) {
        // The old quota in a shorter period may be more than the parent has: then the new quota has to come first.
        Err(e) if e.errno() == Some(libc::EINVAL) && quota.is_some() => {
            set(dir, "cpu.cfs_quota_us", quota.as_deref())?;
            set(dir, "cpu.cfs_period_us", period.as_deref())
        }
        Err(e) => Err(e),
        Ok(()) => set(dir, "cpu.cfs_quota_us", quota.as_deref()),
    }
}

/// The kernel demands limit <= limit with swap at every moment: whichever moves away from the other goes first.
pub(super) fn memory(dir: &Dir, r: &Resources) -> Result<Vec<Shortfall>, Error> {
    const LIMIT: &str = "memory.limit_in_bytes";
    const SWAP: &str = "memory.memsw.limit_in_bytes";
    let mut shortfalls = Vec::new();
    let limit = r.memory_limit.map(|limit| limit.max(-1).to_string());
    let swap = r.memory_swap.map(|swap| swap.max(-1).to_string());
    let set_swap = |shortfalls: &mut Vec<Shortfall>| match set(dir, SWAP, swap.as_deref()) {
        Err(e) if e.errno() == Some(libc::ENOENT) => {
            let why = "swap is not accounted: boot with swapaccount=1".to_owned();
            shortfalls.push(Shortfall { setting: "memory and swap limit".to_owned(), why });
            Ok(())
        }
        other => other,
    };
    match set(dir, LIMIT, limit.as_deref()) {
        Err(e) if e.errno() == Some(libc::EINVAL) && swap.is_some() => {
            set_swap(&mut shortfalls)?;
            set(dir, LIMIT, limit.as_deref())?;
        }
        Err(e) => return Err(e),
        Ok(()) => set_swap(&mut shortfalls)?,
    }
    if r.memory_oom_group == Some(true) {
        let why = "only cgroup v2 ends a whole cgroup: the kernel ends one process".to_owned();
        shortfalls.push(Shortfall { setting: "memory.oom.group".to_owned(), why });
    }
    Ok(shortfalls)
}

/// Everything is denied first, then each rule allowed: in this order the list is complete whatever stood before.
pub(super) fn devices(dir: &Dir, rules: &[DeviceRule]) -> Result<(), Error> {
    if rules.contains(&DeviceRule::ALL) {
        return dir.write("devices.allow", "a");
    }
    dir.write("devices.deny", "a")?;
    let allow = dir.open("devices.allow", rustix::fs::OFlags::WRONLY)?;
    rules.iter().try_for_each(|rule| dir.write_to(&allow, "devices.allow", &rule.to_string()))
}
