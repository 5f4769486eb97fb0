//! Removing cgroup directories.

use std::time::{Duration, Instant};

use rustix::fs::AtFlags;
use rustix::io::Errno;

use super::Error;
use super::dir::{Dir, absent};

/// Removes `path` and everything below it, seen from `dir`.
pub(super) fn below(dir: &Dir, path: &str, deadline: Duration) -> Result<(), Error> {
    let begin = Instant::now();
    let mut pause = Duration::from_micros(200);
    loop {
        match tree(dir, path) {
            Err(e) if e.errno() == Some(libc::EBUSY) => {
                if begin.elapsed() >= deadline {
                    return Err(busy(dir, path, begin.elapsed()).unwrap_or(e));
                }
                std::thread::sleep(pause.min(deadline.saturating_sub(begin.elapsed())));
                pause = (pause * 2).min(Duration::from_millis(20));
            }
            other => return other,
        }
    }
}

/// Removes `path` if it is empty and has nothing below it.
pub(super) fn alone(dir: &Dir, path: &str) -> Result<(), Error> {
    match rustix::fs::unlinkat(&dir.fd, path, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT | Errno::BUSY | Errno::NOTEMPTY) => Ok(()),
        Err(source) => Err(dir.error("remove cgroup", path, source)),
    }
}

/// Removes what is empty at and below `path`; what is not stays, without a word.
pub(super) fn empty(dir: &Dir, path: &str) -> Result<(), Error> {
    match tree(dir, path) {
        Err(e) if e.errno() == Some(libc::EBUSY) => Ok(()),
        other => other,
    }
}

/// One pass: the directory itself first, for most have no children and one call does. The children of a busy one are
/// each tried, so that one that is in use keeps no other.
fn tree(dir: &Dir, path: &str) -> Result<(), Error> {
    let rmdir = || match rustix::fs::unlinkat(&dir.fd, path, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => Ok(true),
        Err(Errno::BUSY | Errno::NOTEMPTY) => Ok(false),
        Err(source) => Err(dir.error("remove cgroup", path, source)),
    };
    if rmdir()? {
        return Ok(());
    }
    if let Some(this) = absent(dir.open_child(path))? {
        let mut first = Ok(());
        for child in this.children()? {
            first = first.and(tree(&this, &child));
        }
        first?;
    }
    if rmdir()? { Ok(()) } else { Err(dir.error("remove cgroup", path, Errno::BUSY)) }
}

fn busy(dir: &Dir, path: &str, waited: Duration) -> Option<Error> {
    let this = absent(dir.open_child(path)).ok()??;
    let pids = super::signal::pids_of(&this).ok()?;
    Some(Error::Timeout { op: "remove cgroup", path: this.shown("").display().to_string(), waited, pids })
}
