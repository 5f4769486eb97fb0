//! Tells when the configuration may have changed.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};

use super::poller::{Kind, Poller, Token};

/// Where the kernel has no watch left for this user, the file is looked at so often.
const LOOK: Duration = Duration::from_secs(2);

/// The configuration file, and what it held.
pub struct Watch {
    path: PathBuf,
    events: Option<OwnedFd>,
    held: Vec<u8>,
}

impl Watch {
    /// Watches a file, and reads it.
    pub fn new(path: &Path, poller: &mut Poller, now: Instant) -> io::Result<(Self, Vec<u8>)> {
        // Watched before it is read: no change falls between the two.
        let events = events(path).and_then(|fd| poller.add_readable(&fd, Token::only(Kind::Watch)).map(|()| fd)).ok();
        if events.is_none() {
            poller.at(now + LOOK, Token::only(Kind::Watch));
        }
        let held = std::fs::read(path)?;
        Ok((Self { path: path.to_owned(), events, held: held.clone() }, held))
    }

    /// What the file holds, if that is something else than before.
    pub fn changed(&mut self, poller: &mut Poller, now: Instant) -> Option<Vec<u8>> {
        match &self.events {
            Some(fd) => {
                let mut buffer = [MaybeUninit::uninit(); 1024];
                let mut reader = inotify::Reader::new(fd, &mut buffer);
                // What exactly happened does not matter.
                while reader.next().is_ok() {}
            }
            None => poller.at(now + LOOK, Token::only(Kind::Watch)),
        }
        // Gone for a moment, or for good: what it said counts.
        let held = std::fs::read(&self.path).ok()?;
        if held == self.held {
            return None;
        }
        self.held.clone_from(&held);
        Some(held)
    }
}

/// Events of the file's directory: files in volumes change by a link in it that is renamed.
fn events(path: &Path) -> io::Result<OwnedFd> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let fd = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
    let flags = WatchFlags::MOVED_TO | WatchFlags::CLOSE_WRITE | WatchFlags::CREATE;
    inotify::add_watch(&fd, directory, flags)?;
    Ok(fd)
}
