//! Watching directories through inotify: that something changed, and which files are being written right now.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::inotify::{self, ReadFlags, WatchFlags};
use tokio::net::unix::pipe;
use tokio::time::Instant;

/// How long a file that somebody has open for writing is waited for after the last change to it.
const PATIENCE: Duration = Duration::from_secs(10);

/// Directories that are watched, and what is going on in them.
#[derive(Debug)]
pub struct Watch {
    /// Not a pipe, but read and waited for like one, and without a word of unsafe code.
    fd: pipe::Receiver,
    /// The directory of each watch.
    watched: BTreeMap<i32, PathBuf>,
    /// Files that somebody has begun to write and not closed, and the time of the last change.
    writing: BTreeMap<PathBuf, Instant>,
}

/// What is watched.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Places {
    /// Directories in which names come and go. What is written in them does not matter: it may be a lot.
    pub of_names: BTreeSet<PathBuf>,
    /// Directories of manifests.
    pub of_files: BTreeSet<PathBuf>,
}

impl Watch {
    /// Watches nothing yet.
    pub fn new() -> io::Result<Self> {
        let fd = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)?;
        Ok(Watch {
            fd: pipe::Receiver::from_owned_fd_unchecked(fd)?,
            watched: BTreeMap::new(),
            writing: BTreeMap::new(),
        })
    }

    /// Watches these directories and no others. One that cannot be watched is left out: it may come back, and its
    /// parent is watched too.
    pub fn set(&mut self, places: &Places) {
        let names = WatchFlags::CREATE
            | WatchFlags::MOVED_TO
            | WatchFlags::MOVED_FROM
            | WatchFlags::DELETE
            | WatchFlags::DELETE_SELF
            | WatchFlags::MOVE_SELF
            | WatchFlags::ONLYDIR;
        let files = names | WatchFlags::MODIFY | WatchFlags::CLOSE_WRITE | WatchFlags::ATTRIB;
        let (of_names, of_files) = (places.of_names.iter(), places.of_files.iter());
        let mut watched = BTreeMap::new();
        // The watch belongs to the directory itself, by whatever name: watching it again is the same watch, with the
        // flags that came last.
        for (dir, flags) in of_names.map(|dir| (dir, names)).chain(of_files.map(|dir| (dir, files))) {
            match inotify::add_watch(&self.fd, dir, flags) {
                Ok(id) => drop(watched.insert(id, dir.clone())),
                Err(error) => tracing::debug!(%error, dir = %dir.display(), "the directory cannot be watched"),
            }
        }
        for id in self.watched.keys().filter(|id| !watched.contains_key(id)) {
            // Gone with its directory, mostly.
            let _ = inotify::remove_watch(&self.fd, *id);
        }
        self.watched = watched;
    }

    /// Waits until something changed, or until a file that is being written has been waited for long enough.
    pub async fn changed(&mut self) {
        let give_up = self.writing.values().min().map(|at| *at + PATIENCE);
        let patience = async {
            match give_up {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            // Whatever it says: what there is is read next.
            _ = self.fd.readable() => {}
            () = patience => {}
        }
        let events = read_all(|buffer| self.fd.try_read(buffer));
        self.note(events);
    }

    /// Takes note of what has happened by now; whether anything has. What was read before that may have been read in half.
    pub fn catch_up(&mut self) -> bool {
        // Asked of the kernel itself: the reactor may not have heard of it yet.
        let events = read_all(|buffer| Ok(rustix::io::read(&self.fd, buffer)?));
        let any = !events.is_empty();
        self.note(events);
        any
    }

    fn note(&mut self, events: Vec<Event>) {
        let now = Instant::now();
        for Event { id, flags, name } in events {
            // What was lost may have been the end of a write.
            if flags.contains(ReadFlags::QUEUE_OVERFLOW) {
                self.writing.clear();
            }
            let Some(path) = self.watched.get(&id).zip(name).map(|(dir, name)| dir.join(name)) else { continue };
            if flags
                .intersects(ReadFlags::CLOSE_WRITE | ReadFlags::MOVED_TO | ReadFlags::MOVED_FROM | ReadFlags::DELETE)
            {
                self.writing.remove(&path);
            } else if flags.contains(ReadFlags::MODIFY) || (flags.contains(ReadFlags::CREATE) && is_plain_file(&path)) {
                self.writing.insert(path, now);
            }
        }
        self.writing.retain(|_, at| *at + PATIENCE > now);
    }

    /// Whether somebody is just writing the file.
    pub fn is_being_written(&self, path: &Path) -> bool {
        self.writing.contains_key(path)
    }
}

/// All events that there are now.
fn read_all(mut read: impl FnMut(&mut [u8]) -> io::Result<usize>) -> Vec<Event> {
    let mut buffer = [0; 8192];
    let mut events = Vec::new();
    while let Ok(count) = read(&mut buffer) {
        let before = events.len();
        events.extend(Events(&buffer[..count]));
        if events.len() == before {
            break;
        }
    }
    events
}

/// Whether it is a file that its creator has open: links come complete.
fn is_plain_file(path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::symlink_metadata(path).is_ok_and(|meta| meta.is_file() && meta.nlink() == 1)
}

/// One thing that happened.
#[derive(Debug, PartialEq, Eq)]
struct Event {
    /// The watch.
    id: i32,
    flags: ReadFlags,
    /// Of the file in the directory, where it is about one.
    name: Option<OsString>,
}

/// The events in what the kernel wrote: a watch, flags, a cookie and a length, each of four bytes, and a name of that
/// length with zeros after it.
struct Events<'a>(&'a [u8]);

impl Iterator for Events<'_> {
    type Item = Event;

    fn next(&mut self) -> Option<Event> {
        let (head, rest) = self.0.split_first_chunk::<16>()?;
        let word = |at: usize| head.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes);
        let (id, flags, length) = (word(0)?, word(4)?, usize::try_from(word(12)?).ok()?);
        let (name, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        let name = name.split(|byte| *byte == 0).next().filter(|name| !name.is_empty());
        let name = name.map(|name| OsStr::from_bytes(name).to_owned());
        Some(Event { id: id.cast_signed(), flags: ReadFlags::from_bits_retain(flags), name })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn events_are_read_and_a_piece_of_one_is_not() {
        let mut bytes = Vec::new();
        for (id, name) in [(1u32, &b""[..]), (7, b"a.yaml\0\0")] {
            for word in [id, ReadFlags::CREATE.bits(), 0, u32::try_from(name.len()).unwrap()] {
                bytes.extend(word.to_ne_bytes());
            }
            bytes.extend(name);
        }
        let event = |id, name: Option<&str>| Event { id, flags: ReadFlags::CREATE, name: name.map(OsString::from) };
        let both = [event(1, None), event(7, Some("a.yaml"))];
        assert_eq!(Events(&bytes).collect::<Vec<_>>(), both);
        assert_eq!(Events(&bytes[..bytes.len() - 1]).collect::<Vec<_>>(), both[..1]);
    }

    #[tokio::test]
    async fn a_file_is_being_written_until_its_writer_closes_it() {
        let dir = tempfile::tempdir().unwrap();
        let mut watch = Watch::new().unwrap();
        watch.set(&Places { of_files: BTreeSet::from([dir.path().to_owned()]), ..Places::default() });
        let path = dir.path().join("a.yaml");
        let mut file = std::fs::File::create(&path).unwrap();
        watch.changed().await;
        assert!(watch.is_being_written(&path));
        std::io::Write::write_all(&mut file, b"x").unwrap();
        drop(file);
        watch.changed().await;
        assert!(!watch.is_being_written(&path));
        let moved = dir.path().join("b.yaml");
        std::fs::rename(&path, &moved).unwrap();
        std::fs::hard_link(&moved, &path).unwrap();
        watch.changed().await;
        assert!(!watch.is_being_written(&path) && !watch.is_being_written(&moved));
    }

    #[tokio::test]
    async fn what_happened_meanwhile_is_known_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let mut watch = Watch::new().unwrap();
        watch.set(&Places { of_files: BTreeSet::from([dir.path().to_owned()]), ..Places::default() });
        assert!(!watch.catch_up());
        let path = dir.path().join("a.yaml");
        let file = std::fs::File::create(&path).unwrap();
        assert!(watch.catch_up() && watch.is_being_written(&path));
        drop(file);
        assert!(watch.catch_up() && !watch.is_being_written(&path) && !watch.catch_up());
    }

    #[tokio::test]
    async fn a_writer_that_forgets_its_file_is_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let mut watch = Watch::new().unwrap();
        watch.set(&Places { of_files: BTreeSet::from([dir.path().to_owned()]), ..Places::default() });
        let path = dir.path().join("a.yaml");
        let _file = std::fs::File::create(&path).unwrap();
        watch.changed().await;
        assert!(watch.is_being_written(&path));
        tokio::time::pause();
        watch.changed().await;
        assert!(!watch.is_being_written(&path));
    }
}
