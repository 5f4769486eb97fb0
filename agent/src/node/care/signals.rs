//! What is left of the node: memory, disks, process ids.

use std::os::linux::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::pressure::{Observation, Observations};
use super::threshold::Signal;
use crate::host::qos::PodCgroups;

#[cfg(test)]
mod tests;

/// Where the signals come from.
#[derive(Clone, Debug)]
pub struct Sources {
    /// `/proc`.
    pub proc_root: PathBuf,
    /// A directory on the filesystem of volumes and logs.
    pub nodefs: PathBuf,
    /// A directory on the filesystem of images, where the runtime names one.
    pub imagefs: Option<PathBuf>,
    /// The cgroups of pods, and the bytes that they may use together.
    pub pods: Option<(PodCgroups, u64)>,
}

impl Sources {
    /// Whether images, and with them writable layers, are on another filesystem than the pods' files.
    pub fn images_apart(&self) -> bool {
        let device = |path: &Path| std::fs::metadata(path).ok().map(|it| it.st_dev());
        let images = self.imagefs.as_deref().and_then(device);
        images.is_some_and(|images| device(&self.nodefs).is_some_and(|node| node != images))
    }

    /// Everything that can be observed now. What cannot is told in the log, and left out.
    pub fn observe(&self) -> Observations {
        let mut seen = self.memory();
        let mut disk = |path: &Path, bytes: Signal, inodes: Signal| match filesystem(path) {
            Ok(space) => {
                seen.insert(bytes, space.bytes);
                // Some filesystems make inodes as they need them.
                seen.extend(space.inodes.map(|space| (inodes, space)));
            }
            Err(error) => tracing::warn!(path = %path.display(), %error, "the space that is left cannot be told"),
        };
        disk(&self.nodefs, Signal::NodefsAvailable, Signal::NodefsInodesFree);
        let images = self.imagefs.as_deref().unwrap_or(&self.nodefs);
        disk(images, Signal::ImagefsAvailable, Signal::ImagefsInodesFree);
        seen.extend(self.processes().map(|left| (Signal::PidAvailable, left)));
        seen
    }

    /// The signals of memory alone: cheap enough to be asked for often.
    pub fn memory(&self) -> Observations {
        let mut seen = Observations::new();
        let path = self.proc_root.join("meminfo");
        match std::fs::read_to_string(&path).ok().as_deref().and_then(meminfo) {
            Some(left) => drop(seen.insert(Signal::MemoryAvailable, left)),
            None => tracing::warn!(path = %path.display(), "the memory that is left cannot be told"),
        }
        if let Some((cgroups, limit)) = &self.pods
            && let Ok(Some(stats)) = cgroups.usage_of_all()
            && let Some(memory) = stats.memory
        {
            let available = limit.saturating_sub(memory.working_set);
            seen.insert(Signal::AllocatableMemoryAvailable, Observation { available, capacity: *limit });
        }
        seen
    }

    /// Tasks of the whole machine against the smaller of its two limits.
    fn processes(&self) -> Option<Observation> {
        let read = |name: &str| std::fs::read_to_string(self.proc_root.join(name)).ok();
        let number = |name: &str| read(name)?.trim().parse::<u64>().ok();
        let capacity = number("sys/kernel/pid_max")?.min(number("sys/kernel/threads-max").unwrap_or(u64::MAX));
        let tasks = tasks(&read("loadavg")?)?;
        Some(Observation { available: capacity.saturating_sub(tasks), capacity })
    }
}

/// What is left of a filesystem.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// Bytes.
    pub bytes: Observation,
    /// Files; none where there is no limit of their own.
    pub inodes: Option<Observation>,
}

/// Asks the filesystem that `path` is on. What is kept for root is not there for pods, which is how kubelet counts.
pub fn filesystem(path: &Path) -> std::io::Result<Space> {
    let stat = rustix::fs::statvfs(path)?;
    let bytes = |blocks: u64| blocks.saturating_mul(stat.f_frsize);
    let inodes = Observation { available: stat.f_favail, capacity: stat.f_files };
    Ok(Space {
        bytes: Observation { available: bytes(stat.f_bavail), capacity: bytes(stat.f_blocks) },
        inodes: (inodes.capacity > 0).then_some(inodes),
    })
}

/// What programs can be given without swapping, by the kernel's own estimate: it knows which caches can go. kubelet
/// counts every page of a file that was used of late as taken.
fn meminfo(text: &str) -> Option<Observation> {
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        line.split_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
    };
    Some(Observation { available: field("MemAvailable")?, capacity: field("MemTotal")? })
}

/// `0.00 0.01 0.05 1/234 5678`: of 234 tasks one runs.
fn tasks(loadavg: &str) -> Option<u64> {
    loadavg.split_whitespace().nth(3)?.split_once('/')?.1.parse().ok()
}
