//! `blobs/partial/HEX`: as much of a blob as has come. Whoever brings it holds a lock on the file itself, which ends
//! with its holder's life.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::FlockOperation;

use crate::images::{Digest, Error, ImageStore};

/// A partial blob that nobody has come back to for this long is not kept.
const MAX_AGE: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// A partial blob that is ours.
pub(super) struct Partial {
    file: File,
    path: PathBuf,
}

impl Partial {
    /// The partial of a blob, made if there is none; `None` while somebody else holds it.
    pub fn hold(directory: &Path, digest: &Digest) -> Result<Option<Partial>, Error> {
        let path = directory.join(digest.hex());
        loop {
            let file = File::options().read(true).write(true).create(true).truncate(false).open(&path);
            let file = file.map_err(|e| Error::io("open", &path, e))?;
            if !lock(&file, &path)? {
                return Ok(None);
            }
            // Its last holder may have moved it away before it let go.
            if is_at(&file, &path) {
                return Ok(Some(Partial { file, path }));
            }
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file; what is read and written says where.
    pub fn file(&self) -> Result<File, Error> {
        self.file.try_clone().map_err(|e| Error::io("open", &self.path, e))
    }

    pub fn length(&self) -> Result<u64, Error> {
        self.file.metadata().map(|meta| meta.len()).map_err(|e| Error::io("look at", &self.path, e))
    }

    /// Throws away what is there.
    pub fn clear(&self) -> Result<(), Error> {
        self.file.set_len(0).map_err(|e| Error::io("empty", &self.path, e))
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        // An empty one, or one that has become the store's, is nothing to come back to.
        if self.length().is_ok_and(|length| length == 0) && is_at(&self.file, &self.path) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn lock(file: &File, path: &Path) -> Result<bool, Error> {
    match rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(false),
        Err(error) => Err(Error::io("lock", path, error)),
    }
}

fn is_at(file: &File, path: &Path) -> bool {
    let place = |meta: fs::Metadata| (meta.dev(), meta.ino());
    let (own, there) = (file.metadata().map(place), fs::symlink_metadata(path).map(place));
    matches!((own, there), (Ok(own), Ok(there)) if own == there)
}

impl ImageStore {
    /// Removes partial blobs that nobody brings at the moment: old ones, or all. Gives how many.
    pub fn discard_partials(&self, all: bool) -> Result<usize, Error> {
        let directory = self.partials();
        let mut removed = 0;
        for entry in fs::read_dir(&directory).map_err(|e| Error::io("list", &directory, e))? {
            let path = entry.map_err(|e| Error::io("list", &directory, e))?.path();
            let Ok(file) = File::open(&path) else { continue };
            let age = file.metadata().and_then(|meta| meta.modified());
            let age = age.map(|time| SystemTime::now().duration_since(time).unwrap_or_default());
            if !(all || age.is_ok_and(|age| age > MAX_AGE)) || !lock(&file, &path)? || !is_at(&file, &path) {
                continue;
            }
            fs::remove_file(&path).map_err(|e| Error::io("remove", &path, e))?;
            removed += 1;
        }
        Ok(removed)
    }
}
