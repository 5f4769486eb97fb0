//! What containers take of the disk: measured when somebody asks, kept for a while, and measured anew beside the answers
//! where that takes longer than a client should wait.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, openat2, statat};

/// How long a measurement is good for at least, and how many times as long as it took.
const PERIOD: Duration = Duration::from_secs(10);
const TIMES: u32 = 50;

/// How long all the measuring for one answer may take.
const PATIENCE: Duration = Duration::from_millis(100);

/// How long the measurement of what nobody asks for any more is kept.
const FORGOTTEN: Duration = Duration::from_secs(600);

/// What a directory and everything below it takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Disk {
    /// Bytes, in whole blocks.
    pub bytes: u64,
    /// Files and directories.
    pub inodes: u64,
    /// When it was measured, in nanoseconds since 1970.
    pub at: i64,
}

#[derive(Clone, Copy)]
struct Measurement {
    disk: Disk,
    begun: Instant,
    took: Duration,
    asked: Instant,
}

impl Measurement {
    fn is_fresh(&self) -> bool {
        self.begun.elapsed() < PERIOD.max(self.took * TIMES)
    }
}

#[derive(Default)]
struct Known {
    measured: BTreeMap<PathBuf, Measurement>,
    /// What is measured beside the answers, in this order.
    queue: VecDeque<PathBuf>,
    /// Whether a thread does that.
    busy: bool,
}

/// The directories' sizes, as they were of late. Cheap to clone.
#[derive(Clone, Default)]
pub struct DiskUsage {
    known: Arc<Mutex<Known>>,
}

/// The directories' sizes, for one answer.
pub struct Survey<'a> {
    usage: &'a DiskUsage,
    deadline: Instant,
}

impl DiskUsage {
    /// For one answer: as long as its time is not used up, what is not known is measured on the way.
    pub fn survey(&self) -> Survey<'_> {
        Survey { usage: self, deadline: Instant::now() + PATIENCE }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn measure(&self, path: &Path, deadline: Option<Instant>) -> Option<Disk> {
        let begun = Instant::now();
        let disk = measure(path, deadline)?;
        let mut known = self.lock();
        known.measured.retain(|_, it| it.asked.elapsed() < FORGOTTEN);
        known.measured.insert(path.to_owned(), Measurement { disk, begun, took: begun.elapsed(), asked: begun });
        Some(disk)
    }

    /// One thread measures what takes long, one directory after the other, and ends when there is none left.
    fn measure_later(&self, path: &Path) {
        let mut known = self.lock();
        if known.queue.iter().any(|it| it == path) {
            return;
        }
        known.queue.push_back(path.to_owned());
        if known.busy {
            return;
        }
        let usage = self.clone();
        let run = move || {
            while let Some(path) = usage.next() {
                usage.measure(&path, None);
            }
        };
        match std::thread::Builder::new().name("disk-usage".into()).spawn(run) {
            Ok(_) => known.busy = true,
            Err(error) => tracing::warn!(%error, "no thread to measure what containers take of the disk"),
        }
    }

    fn next(&self) -> Option<PathBuf> {
        let mut known = self.lock();
        let next = known.queue.pop_front();
        known.busy = next.is_some();
        next
    }
}

impl Survey<'_> {
    /// What `path` takes, or took a while ago. None while it is being measured for the first time.
    pub fn of(&self, path: &Path) -> Option<Disk> {
        let mut known = self.usage.lock();
        let old = known.measured.get_mut(path).map(|it| {
            it.asked = Instant::now();
            *it
        });
        drop(known);
        if let Some(fresh) = old.filter(Measurement::is_fresh) {
            return Some(fresh.disk);
        }
        // What took long is not begun in the hope that it takes less time now.
        let fits = old.is_none_or(|it| Instant::now() + it.took < self.deadline);
        let new = if fits { self.usage.measure(path, Some(self.deadline)) } else { None };
        if new.is_none() {
            self.usage.measure_later(path);
        }
        new.or(old.map(|it| it.disk))
    }
}

/// Bytes and inodes of a directory with all below it, each file once, however many names it has. None when the time was
/// up first. What vanishes meanwhile does not count, nor what cannot be read.
///
/// What it walks belongs to a container, which may change it at any moment: no symlink is followed, and nothing that
/// depends on the tree's depth is held.
pub fn measure(path: &Path, deadline: Option<Instant>) -> Option<Disk> {
    let mut walk = Walk { disk: Disk { at: crate::shim::now(), ..Disk::default() }, linked: BTreeSet::new() };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let Ok(root) = rustix::fs::open(path, flags, Mode::empty()) else { return Some(walk.disk) };
    if let Ok(stat) = rustix::fs::fstat(&root) {
        walk.count(&stat);
    }
    let mut waiting = vec![PathBuf::from(".")];
    while let Some(directory) = waiting.pop() {
        if deadline.is_some_and(|it| Instant::now() > it) {
            return None;
        }
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        if let Ok(fd) = openat2(&root, &directory, flags, Mode::empty(), resolve) {
            walk.enter(fd, &directory, &mut waiting);
        }
    }
    Some(walk.disk)
}

struct Walk {
    disk: Disk,
    /// Files with several names that were counted.
    linked: BTreeSet<(u64, u64)>,
}

impl Walk {
    fn enter(&mut self, fd: OwnedFd, path: &Path, waiting: &mut Vec<PathBuf>) {
        let Ok(mut entries) = Dir::new(fd) else { return };
        while let Some(Ok(entry)) = entries.next() {
            let name = entry.file_name();
            if name == c"." || name == c".." {
                continue;
            }
            let Ok(fd) = entries.fd() else { return };
            let Ok(stat) = statat(fd, name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
            self.count(&stat);
            if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                waiting.push(path.join(OsStr::from_bytes(name.to_bytes())));
            }
        }
    }

    fn count(&mut self, stat: &rustix::fs::Stat) {
        /// stat(2): blocks are of 512 bytes, whatever the filesystem's.
        const BLOCK: u64 = 512;
        let several = stat.st_nlink > 1 && FileType::from_raw_mode(stat.st_mode) != FileType::Directory;
        if several && !self.linked.insert((stat.st_dev, stat.st_ino)) {
            return;
        }
        self.disk.bytes += u64::try_from(stat.st_blocks).unwrap_or(0) * BLOCK;
        self.disk.inodes += 1;
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn write(path: &Path, kib: usize) {
        std::fs::write(path, vec![1; kib << 10]).unwrap();
        std::fs::File::open(path).unwrap().sync_all().unwrap();
    }

    #[test]
    fn every_file_counts_once_and_no_symlink_is_followed() {
        let (dir, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        write(&outside.path().join("big"), 4096);
        let empty = measure(dir.path(), None).unwrap();
        assert_eq!(empty.inodes, 1);
        std::fs::create_dir(dir.path().join("sub")).unwrap();
        write(&dir.path().join("sub/file"), 64);
        std::fs::hard_link(dir.path().join("sub/file"), dir.path().join("again")).unwrap();
        std::os::unix::fs::symlink(outside.path(), dir.path().join("link")).unwrap();
        let disk = measure(dir.path(), None).unwrap();
        assert_eq!(disk.inodes, 4, "the directory, sub, file, link");
        let more = disk.bytes - empty.bytes;
        assert!((64 << 10..128 << 10).contains(&more), "{more}");
        assert_eq!(measure(&dir.path().join("none"), None).unwrap().inodes, 0);
        assert_eq!(measure(&dir.path().join("link"), None).unwrap().inodes, 0, "not even at the top");
    }

    #[test]
    fn a_tree_deeper_than_a_path_is_long_does_no_harm() {
        let dir = tempfile::tempdir().unwrap();
        let name = "d".repeat(200);
        let mut fd = rustix::fs::open(dir.path(), OFlags::PATH, Mode::empty()).unwrap();
        for _ in 0..40 {
            rustix::fs::mkdirat(&fd, &name, Mode::from_raw_mode(0o755)).unwrap();
            fd = rustix::fs::openat(&fd, &name, OFlags::PATH, Mode::empty()).unwrap();
        }
        let inodes = measure(dir.path(), None).unwrap().inodes;
        assert!((20..=41).contains(&inodes), "{inodes}");
    }

    #[test]
    fn what_was_measured_is_kept_and_what_takes_long_is_measured_beside() {
        let dir = tempfile::tempdir().unwrap();
        write(&dir.path().join("a"), 8);
        let usage = DiskUsage::default();
        let first = usage.survey().of(dir.path()).unwrap();
        write(&dir.path().join("b"), 8);
        assert_eq!(usage.survey().of(dir.path()), Some(first), "it is not measured twice in a moment");
        let other = tempfile::tempdir().unwrap();
        let late = Survey { usage: &usage, deadline: Instant::now() };
        assert_eq!(late.of(other.path()), None, "there was no time to measure it");
        let deadline = Instant::now() + Duration::from_secs(30);
        while late.of(other.path()).is_none() {
            assert!(Instant::now() < deadline, "it is measured by the thread beside");
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}
