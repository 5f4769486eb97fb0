//! Whether the disk has room, and which of bytes and inodes is missing when it has not.

use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::statvfs;

use super::error::Error;

/// Left free, so that a host whose disk an image fills can still write its records.
const RESERVE_BYTES: u64 = 16 << 20;
const RESERVE_INODES: u64 = 64;

/// True when the kernel says that there is no room.
pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// The error for a full disk at `path`: the kernel says ENOSPC for both bytes and inodes.
pub(super) fn full(path: &Path, needed: Option<u64>) -> Error {
    let (mut bytes, mut inodes) = (0, None);
    // The path may be a file that could not be made: its directory is on the same disk.
    let existing = path.ancestors().find(|p| p.exists()).unwrap_or(path);
    if let Ok(stat) = statvfs(existing) {
        bytes = stat.f_bavail.saturating_mul(stat.f_frsize);
        // Filesystems that make inodes as needed say 0 of 0.
        inodes = (stat.f_files > 0).then_some(stat.f_favail);
    }
    match inodes {
        Some(available) if available < RESERVE_INODES => {
            Error::NoInodes { path: existing.to_owned(), available, bytes }
        }
        _ => Error::NoSpace { path: existing.to_owned(), available: bytes, needed },
    }
}

/// Checks that `bytes` and `inodes` more fit at `path`.
pub(super) fn check(path: &Path, bytes: u64, inodes: u64) -> Result<(), Error> {
    let stat = statvfs(path).map_err(|e| Error::Io {
        operation: "ask for the free space of",
        path: PathBuf::from(path),
        source: e.into(),
    })?;
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    if stat.f_files > 0 && stat.f_favail < inodes.saturating_add(RESERVE_INODES) {
        return Err(Error::NoInodes { path: path.to_owned(), available: stat.f_favail, bytes: free });
    }
    let needed = bytes.saturating_add(RESERVE_BYTES);
    if free < needed {
        return Err(Error::NoSpace { path: path.to_owned(), available: free, needed: Some(needed) });
    }
    Ok(())
}
