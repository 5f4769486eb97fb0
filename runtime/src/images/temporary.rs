//! Directories of work in progress. Each is held by a lock on itself, so that after a crash anyone can tell the dead
//! from the living: what nobody holds is removed.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;

use super::durable::{lock, random_name};
use super::error::Error;

/// A directory of work in progress, removed with everything in it when dropped.
pub(super) struct Temporary {
    path: PathBuf,
    _held: File,
}

impl Temporary {
    /// Makes one below `parent`; `lock_path` is the store's lock, under which nobody sweeps.
    pub(super) fn new(parent: &Path, lock_path: &Path) -> Result<Temporary, Error> {
        let path = parent.join(random_name()?);
        let _store = lock(lock_path)?;
        DirBuilder::new().mode(0o700).create(&path).map_err(|e| Error::io("create", &path, e))?;
        let held = File::open(&path)
            .and_then(|dir| {
                rustix::fs::flock(&dir, FlockOperation::NonBlockingLockExclusive)?;
                Ok(dir)
            })
            .map_err(|e| Error::io("lock", &path, e))?;
        Ok(Temporary { path, _held: held })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if let Err(error) = remove_tree(&self.path) {
            tracing::warn!(%error, "a temporary directory of the image store is left to the next sweep");
        }
    }
}

/// Removes what is below `parent` and held by nobody; gives the paths removed. The caller holds the store's lock.
pub(super) fn claim_dead(parent: &Path) -> Result<Vec<(PathBuf, File)>, Error> {
    let mut dead = Vec::new();
    for entry in fs::read_dir(parent).map_err(|e| Error::io("list", parent, e))? {
        let path = entry.map_err(|e| Error::io("list", parent, e))?.path();
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            Err(e) => return Err(Error::io("open", &path, e)),
        };
        // The lock is kept until the tree is gone, so that two sweeps do not meet in one tree.
        if rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok() {
            dead.push((path, file));
        }
    }
    Ok(dead)
}

/// Removes a file or tree; absence is success.
pub(super) fn remove_tree(path: &Path) -> Result<(), Error> {
    let result = match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(e) => Err(e),
    };
    match result {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(Error::io("remove", path, e)),
        _ => Ok(()),
    }
}
