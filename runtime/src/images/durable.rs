//! Files that are whole or absent, whatever moment the power goes.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{FlockOperation, Mode, OFlags};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::error::Error;
use crate::store::{self, Durability};

/// Writes `name` in `dir`: a temporary, fsync, rename, fsync of the directory.
pub(super) fn write(dir: &Path, name: &str, bytes: &[u8]) -> Result<(), Error> {
    let path = dir.join(name);
    let temporary = dir.join(format!(".{name}.{}", random_name()?));
    let result = write_synced(&temporary, bytes).and_then(|()| fs::rename(&temporary, &path));
    if let Err(source) = result {
        // The first failure is the one to report; `sweep` removes the temporary if this cannot.
        let _ = fs::remove_file(&temporary);
        return Err(Error::io("write", &path, source));
    }
    sync_dir(dir)
}

fn write_synced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::options().write(true).create_new(true).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Writes a record in the same way.
pub(super) fn write_json<T: Serialize>(dir: &Path, name: &str, value: &T) -> Result<(), Error> {
    store::write_json(dir, name, value, Durability::Durable).map_err(|e| Error::io("write", &dir.join(name), e))
}

/// A document's bytes.
pub(super) fn json<T: Serialize>(value: &T) -> Result<Vec<u8>, Error> {
    serde_json::to_vec(value).map_err(|e| Error::io("encode", Path::new("a record"), e))
}

/// Reads a record; `None` when there is none.
pub(super) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, Error> {
    store::read_json(path).map_err(|e| match e.kind() {
        io::ErrorKind::InvalidData => Error::Record { path: path.to_owned(), reason: e.to_string() },
        _ => Error::io("read", path, e),
    })
}

/// Makes the names in `dir` durable.
pub(super) fn sync_dir(dir: &Path) -> Result<(), Error> {
    File::open(dir).and_then(|d| d.sync_all()).map_err(|e| Error::io("sync", dir, e))
}

/// An exclusive lock on `path`, which ends with the descriptor, so with its holder's death too.
pub(super) fn lock(path: &Path) -> Result<OwnedFd, Error> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let file = rustix::fs::open(path, flags, Mode::from_raw_mode(0o600)).map_err(|e| Error::io("open", path, e))?;
    loop {
        match rustix::fs::flock(&file, FlockOperation::LockExclusive) {
            Ok(()) => return Ok(file),
            Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(Error::io("lock", path, e)),
        }
    }
}

/// A name that no other process chooses.
pub(super) fn random_name() -> Result<String, Error> {
    let mut bytes = [0u8; 8];
    getrandom::fill(&mut bytes).map_err(|e| Error::Io {
        operation: "read",
        path: "the kernel's random numbers".into(),
        source: io::Error::other(e.to_string()),
    })?;
    Ok(format!("{:016x}", u64::from_ne_bytes(bytes)))
}
