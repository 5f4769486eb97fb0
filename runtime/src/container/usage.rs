//! What containers take of the disk.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// Bytes and inodes below a directory. What vanishes meanwhile does not count, nor what cannot be read.
pub fn disk_usage(path: &Path) -> (u64, u64) {
    /// stat(2): blocks are of 512 bytes, whatever the filesystem's.
    const BLOCK: u64 = 512;
    let Ok(looks) = std::fs::symlink_metadata(path) else { return (0, 0) };
    let own = (looks.blocks() * BLOCK, 1);
    if !looks.is_dir() {
        return own;
    }
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
    entries.map(|entry| disk_usage(&entry.path())).fold(own, |sum, it| (sum.0 + it.0, sum.1 + it.1))
}
