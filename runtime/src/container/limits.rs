//! What a container may use: what of it the kernel is told, and changing it.

use std::sync::{Mutex, PoisonError};

use super::record::Record;
use super::status::view;
use crate::cgroup::{Resources, Shortfall};
use crate::core::Core;
use crate::error::{Error, Result};
use crate::ids::Owner;
use crate::shim::protocol::State;

/// Two changes of one container would each write down what the other has not; changes are rare, so all of them wait.
static CHANGES: Mutex<()> = Mutex::new(());

/// What the kernel is told. A container with a limit of memory does not swap unless it was said that it may, as clients
/// expect who know no swap.
pub fn effective(asked: &Resources) -> Resources {
    let mut resources = asked.clone();
    resources.memory_swap = resources.memory_swap.or(resources.memory_limit);
    resources
}

/// Whether somebody has to be told that a setting has no effect. Killing a container as a whole exists in cgroup v2 only,
/// and a limit of swap is no loss where nobody named one.
pub fn was_asked_for(shortfall: &Shortfall, asked: &Resources) -> bool {
    match shortfall.setting.as_str() {
        "memory.oom.group" => false,
        setting if setting.contains("swap") => asked.memory_swap.is_some(),
        _ => true,
    }
}

/// Changes what a container may use: what `wanted` does not say stays. In force when this returns; after an error
/// everything is as before. Of one that has ended only the record is changed.
pub fn update(core: &Core, owner: &Owner, id: &str, wanted: Resources) -> Result<()> {
    let _alone = CHANGES.lock().unwrap_or_else(PoisonError::into_inner);
    let mut record = super::owned(core, owner, id)?;
    let change = change(&record.request.resources, wanted)?;
    record.request.resources = merged(&record.request.resources, &change);
    let ended = view(core, &record)?.is_some_and(|it| it.state == State::Exited);
    let cgroup = if ended { None } else { core.hierarchies.find(&record.cgroup)? };
    let Some(cgroup) = cgroup else { return record.save(core) };
    let before = cgroup.snapshot(&change)?;
    let done = apply(&cgroup, &change, &mut record).and_then(|()| record.save(core));
    if done.is_err() {
        cgroup.restore(&before);
    }
    done
}

fn apply(cgroup: &crate::cgroup::Cgroup, change: &Resources, record: &mut Record) -> Result<()> {
    for shortfall in cgroup.apply(change)? {
        if was_asked_for(&shortfall, &record.request.resources) {
            let note = format!("{} has no effect: {}", shortfall.setting, shortfall.why);
            if !record.notes.contains(&note) {
                record.notes.push(note);
            }
        }
    }
    Ok(())
}

/// What has to be written for what is wanted: memory and swap are told to the kernel together, or not at all.
fn change(old: &Resources, wanted: Resources) -> Result<Resources> {
    let mut change = wanted;
    if change.memory_limit.is_some() {
        change.memory_swap = change.memory_swap.or(change.memory_limit);
    } else if let (Some(swap), limit) = (change.memory_swap, old.memory_limit) {
        change.memory_limit = limit;
        if swap >= 0 && limit.is_none_or(|limit| limit < 0 || swap < limit) {
            let why =
                "it counts memory and swap together, so it is at least the limit of memory, which there has to be";
            return Err(Error::Invalid(format!("linux.memory_swap_limit_in_bytes {swap}: {why}")));
        }
    }
    Ok(change)
}

fn merged(old: &Resources, change: &Resources) -> Resources {
    let mut hugepages = change.hugepages.clone();
    let named = |size: &str| change.hugepages.iter().any(|it| it.page_size == size);
    hugepages.extend(old.hugepages.iter().filter(|it| !named(&it.page_size)).cloned());
    let mut unified = old.unified.clone();
    unified.extend(change.unified.clone());
    Resources {
        cpu_shares: change.cpu_shares.or(old.cpu_shares),
        cpu_period: change.cpu_period.or(old.cpu_period),
        cpu_quota: change.cpu_quota.or(old.cpu_quota),
        cpuset_cpus: change.cpuset_cpus.clone().or(old.cpuset_cpus.clone()),
        cpuset_mems: change.cpuset_mems.clone().or(old.cpuset_mems.clone()),
        memory_limit: change.memory_limit.or(old.memory_limit),
        memory_swap: change.memory_swap.or(old.memory_swap),
        hugepages,
        unified,
        ..old.clone()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::cgroup::HugepageLimit;

    fn page(size: &str, limit: u64) -> HugepageLimit {
        HugepageLimit { page_size: size.into(), limit }
    }

    #[test]
    fn a_limit_of_memory_is_one_of_swap_unless_that_is_given() {
        let limited = Resources { memory_limit: Some(64), ..Resources::default() };
        assert_eq!(effective(&limited).memory_swap, Some(64));
        let swapping = Resources { memory_swap: Some(-1), ..limited };
        assert_eq!(effective(&swapping).memory_swap, Some(-1));
        assert_eq!(effective(&Resources::default()), Resources::default());
    }

    #[test]
    fn what_is_not_said_stays() {
        let old = Resources {
            cpu_shares: Some(512),
            cpu_quota: Some(50_000),
            memory_limit: Some(64),
            hugepages: vec![page("2MB", 1), page("1GB", 1)],
            unified: [("memory.high".to_owned(), "1".to_owned())].into(),
            ..Resources::default()
        };
        let wanted = Resources {
            cpu_quota: Some(-1),
            cpuset_cpus: Some("0".into()),
            hugepages: vec![page("1GB", 0)],
            unified: [("cpu.idle".to_owned(), "1".to_owned())].into(),
            ..Resources::default()
        };
        let change = change(&old, wanted).unwrap();
        assert_eq!((change.memory_limit, change.memory_swap), (None, None));
        let merged = merged(&old, &change);
        assert_eq!((merged.cpu_shares, merged.cpu_quota, merged.memory_limit), (Some(512), Some(-1), Some(64)));
        assert_eq!(merged.cpuset_cpus.as_deref(), Some("0"));
        assert_eq!(merged.hugepages, [page("1GB", 0), page("2MB", 1)]);
        assert_eq!(merged.unified.len(), 2);
    }

    #[test]
    fn memory_and_swap_change_together() {
        let old = Resources { memory_limit: Some(64), memory_swap: Some(128), ..Resources::default() };
        let both = |limit, swap| {
            let wanted = Resources { memory_limit: limit, memory_swap: swap, ..Resources::default() };
            change(&old, wanted).map(|it| (it.memory_limit, it.memory_swap))
        };
        assert_eq!(both(Some(256), None).unwrap(), (Some(256), Some(256)));
        assert_eq!(both(None, Some(96)).unwrap(), (Some(64), Some(96)));
        assert_eq!(both(None, Some(-1)).unwrap(), (Some(64), Some(-1)));
        assert!(both(None, Some(32)).unwrap_err().to_string().starts_with("linux.memory_swap_limit_in_bytes"));
    }
}
