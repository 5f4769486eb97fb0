//! The limits of a cgroup as they are, for putting them back.

use super::dir::Dir;
use super::{Cgroup, Controller, Error, Resources};

/// Values of files, each with the place of its hierarchy.
#[derive(Debug)]
pub struct Snapshot(Vec<(usize, String, String)>);

impl Cgroup {
    /// What the files hold that [`Cgroup::apply`] of these resources would write. A file that is not there is left out.
    pub fn snapshot(&self, resources: &Resources) -> Result<Snapshot, Error> {
        let mut values = Vec::new();
        for (controller, names) in files(resources) {
            let Some(dir) = self.with(controller) else { continue };
            let index = self.dirs.iter().position(|it| std::ptr::eq(it, dir)).unwrap_or_default();
            for name in names(dir) {
                if let Some(value) = dir.read_if_present(&name)? {
                    values.push((index, name, value.trim().to_owned()));
                }
            }
        }
        Ok(Snapshot(values))
    }

    /// Puts back what was there. The kernel may refuse one value while another is not back yet, so it is done twice.
    pub fn restore(&self, snapshot: &Snapshot) {
        for last in [false, true] {
            for (index, name, value) in &snapshot.0 {
                // An empty list of CPUs is written as a line.
                let value = if value.is_empty() { "\n" } else { value };
                match self.dirs[*index].write(name, value) {
                    Err(error) if last => tracing::warn!(%error, cgroup = self.path, "a limit could not be put back"),
                    _ => {}
                }
            }
        }
    }
}

type Names<'a> = Box<dyn Fn(&Dir) -> Vec<String> + 'a>;

/// Which files, by the controller's hierarchy.
fn files(r: &Resources) -> Vec<(Controller, Names<'_>)> {
    fn of<'a>(v1: &'static [&'static str], v2: &'static [&'static str]) -> Names<'a> {
        Box::new(move |dir| (if dir.is_v2() { v2 } else { v1 }).iter().map(|name| (*name).to_owned()).collect())
    }
    let mut files = Vec::new();
    if r.cpu_shares.is_some() || r.cpu_quota.is_some() || r.cpu_period.is_some() {
        let v1 = &["cpu.shares", "cpu.cfs_period_us", "cpu.cfs_quota_us"];
        files.push((Controller::Cpu, of(v1, &["cpu.weight", "cpu.max"])));
    }
    if r.cpuset_cpus.is_some() || r.cpuset_mems.is_some() {
        let both = &["cpuset.cpus", "cpuset.mems"];
        files.push((Controller::Cpuset, of(both, both)));
    }
    if r.memory_limit.is_some() || r.memory_swap.is_some() {
        let v1 = &["memory.limit_in_bytes", "memory.memsw.limit_in_bytes"];
        files.push((Controller::Memory, of(v1, &["memory.max", "memory.swap.max"])));
    }
    for limit in &r.hugepages {
        let names: Names<'_> = Box::new(|dir| {
            let file = if dir.is_v2() { "max" } else { "limit_in_bytes" };
            ["", "rsvd."].map(|rsvd| format!("hugetlb.{}.{rsvd}{file}", limit.page_size)).into()
        });
        files.push((Controller::Hugetlb, names));
    }
    for name in r.unified.keys() {
        if let Some(controller) = name.split_once('.').and_then(|(controller, _)| controller.parse().ok()) {
            files.push((controller, Box::new(move |_: &Dir| vec![name.clone()])));
        }
    }
    files
}
