//! Filesystems.

use std::path::Path;

use super::types::{FsStats, Moment};

/// A filesystem.
#[derive(Clone, Copy, Debug)]
pub struct Space {
    at: Moment,
    bytes: u64,
    free: u64,
    available: u64,
    inodes: u64,
    free_inodes: u64,
}

/// The one that a path is on. None where there is nothing.
pub fn space(path: &Path) -> Option<Space> {
    let stat = rustix::fs::statvfs(path).ok()?;
    let bytes = |blocks: u64| blocks.saturating_mul(stat.f_frsize);
    Some(Space {
        at: Moment::now(),
        bytes: bytes(stat.f_blocks),
        free: bytes(stat.f_bfree),
        available: bytes(stat.f_bavail),
        inodes: stat.f_files,
        free_inodes: stat.f_ffree,
    })
}

impl Space {
    /// All of it.
    pub fn of_all(&self) -> FsStats {
        let inodes = self.inodes.saturating_sub(self.free_inodes);
        used(Some(self), Some(self.bytes.saturating_sub(self.free)), Some(inodes))
    }
}

/// What something takes of a filesystem.
pub fn used(space: Option<&Space>, bytes: Option<u64>, inodes: Option<u64>) -> FsStats {
    FsStats {
        time: space.map_or_else(Moment::now, |it| it.at),
        available_bytes: space.map(|it| it.available),
        capacity_bytes: space.map(|it| it.bytes),
        used_bytes: bytes,
        inodes_free: space.map(|it| it.free_inodes),
        inodes: space.map(|it| it.inodes),
        inodes_used: inodes,
    }
}
