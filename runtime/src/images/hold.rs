//! Beginning to use an image, against removing one: who makes a container holds the images until its record is
//! written, and who removes an image looks for such records while nobody holds them.

use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{FlockOperation, Mode, OFlags};

use super::error::Error;
use super::store::ImageStore;

/// As long as this is there no image is removed, or none begins to be used. It ends with its holder's life.
#[derive(Debug)]
pub struct Hold(#[allow(dead_code, reason = "the lock is in the descriptor")] OwnedFd);

impl ImageStore {
    /// No image is removed while this is held. Any number may hold.
    pub fn hold(&self) -> Result<Hold, Error> {
        lock(&self.path().join("use.lock"), FlockOperation::LockShared)
    }

    /// Nobody begins to use an image while this is held. To be taken before asking which images are in use.
    pub(super) fn withhold(&self) -> Result<Hold, Error> {
        lock(&self.path().join("use.lock"), FlockOperation::LockExclusive)
    }
}

fn lock(path: &Path, operation: FlockOperation) -> Result<Hold, Error> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let file = rustix::fs::open(path, flags, Mode::from_raw_mode(0o600)).map_err(|e| Error::io("open", path, e))?;
    loop {
        match rustix::fs::flock(&file, operation) {
            Ok(()) => return Ok(Hold(file)),
            Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(Error::io("lock", path, e)),
        }
    }
}
