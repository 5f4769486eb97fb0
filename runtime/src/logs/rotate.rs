//! Putting a log file aside and going on in a new one.
//!
//! Everything here works on an open directory, for a shim knows no paths, and with a buffer of a few kilobytes, for a
//! shim has no more.

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, Mode, OFlags, RawDir, SeekFrom, openat, renameat, seek, unlinkat};
use rustix::io::{Errno, Result};

use super::Stamp;

/// A file that was put aside.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Kept {
    /// When.
    pub stamp: Stamp,
    /// It is there as it was written.
    pub plain: bool,
    /// It is there compressed.
    pub compressed: bool,
}

/// The files that were put aside for the live file `live` of a directory, oldest first.
pub fn kept(dir: BorrowedFd<'_>, live: &str) -> Result<Vec<Kept>> {
    let mut buffer = [MaybeUninit::<u8>::uninit(); 4096];
    let mut found: Vec<Kept> = Vec::new();
    seek(dir, SeekFrom::Start(0))?;
    let mut entries = RawDir::new(dir, &mut buffer);
    while let Some(entry) = entries.next() {
        let entry = entry?;
        let Ok(name) = entry.file_name().to_str() else { continue };
        let Some((stamp, packed)) = Stamp::of(live, name) else { continue };
        match found.iter_mut().find(|it| it.stamp == stamp) {
            Some(kept) if packed => kept.compressed = true,
            Some(kept) => kept.plain = true,
            None => found.push(Kept { stamp, plain: !packed, compressed: packed }),
        }
    }
    found.sort();
    Ok(found)
}

/// Removes the oldest of `kept` until no more than `keep` are left. Answers with those that are.
pub fn remove_excess(dir: BorrowedFd<'_>, live: &str, mut kept: Vec<Kept>, keep: usize) -> Result<Vec<Kept>> {
    let excess = kept.len().saturating_sub(keep);
    for old in kept.drain(..excess) {
        // Both: it may be just being compressed.
        for name in [old.stamp.name(live), old.stamp.compressed_name(live)] {
            match unlinkat(dir, name, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(kept)
}

/// Puts the live file aside, by name alone: who writes to it goes on. Answers with its new name.
pub fn rename_aside(dir: BorrowedFd<'_>, live: &str, kept: &[Kept], now: i64) -> Result<String> {
    let name = Stamp::after(kept.last().map(|it| &it.stamp), now).name(live);
    renameat(dir, live, dir, &name)?;
    Ok(name)
}

/// Puts the live file aside and answers with the new one; `max_files` are kept, both included. Nothing has changed but
/// that old ones may be gone when it fails.
pub fn rotate(dir: BorrowedFd<'_>, live: &str, max_files: u32, now: i64) -> Result<OwnedFd> {
    let keep = (max_files as usize).saturating_sub(2);
    let kept = remove_excess(dir, live, kept(dir, live)?, keep)?;
    // The new file comes first: on a full disk it is what fails. Its name is none that collectors of logs look for.
    let fresh = format!(".{live}.next");
    let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = openat(dir, &fresh, flags, Mode::from_raw_mode(0o640))?;
    let renamed = replace(dir, live, &fresh, &kept, now);
    if renamed.is_err() {
        let _ = unlinkat(dir, &fresh, AtFlags::empty());
    }
    renamed.map(|()| file)
}

fn replace(dir: BorrowedFd<'_>, live: &str, fresh: &str, kept: &[Kept], now: i64) -> Result<()> {
    let aside = match rename_aside(dir.as_fd(), live, kept, now) {
        Ok(aside) => Some(aside),
        // Somebody has taken it away: there is nothing to keep.
        Err(Errno::NOENT) => None,
        Err(error) => return Err(error),
    };
    renameat(dir, fresh, dir, live).inspect_err(|_| {
        if let Some(aside) = aside {
            let _ = renameat(dir, aside, dir, live);
        }
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::io::Write as _;

    fn open(path: &std::path::Path) -> OwnedFd {
        std::fs::File::open(path).unwrap().into()
    }

    fn names(path: &std::path::Path) -> Vec<String> {
        let mut names: Vec<_> =
            std::fs::read_dir(path).unwrap().map(|it| it.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn the_newest_files_are_kept_and_others_are_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path();
        for other in ["0.log.bak", "1.log", "1.log.20200101-000000"] {
            std::fs::write(path.join(other), other).unwrap();
        }
        std::fs::write(path.join("0.log"), "0").unwrap();
        let fd = open(path);
        for round in 1..6 {
            let file = rotate(fd.as_fd(), "0.log", 3, 1_767_323_045).unwrap();
            std::fs::File::from(file).write_all(round.to_string().as_bytes()).unwrap();
        }
        assert_eq!(
            names(path),
            [
                "0.log",
                "0.log.20260102-030405-003",
                "0.log.20260102-030405-004",
                "0.log.bak",
                "1.log",
                "1.log.20200101-000000"
            ]
        );
        let text = |name| std::fs::read_to_string(path.join(name)).unwrap();
        assert_eq!((text("0.log"), text("0.log.20260102-030405-004")), ("5".into(), "4".into()));
    }

    #[test]
    fn a_compressed_file_counts_once_and_goes_in_both_forms() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path();
        for name in ["0.log", "0.log.20200101-000000", "0.log.20200101-000000.gz", "0.log.20210101-000000.gz"] {
            std::fs::write(path.join(name), name).unwrap();
        }
        let fd = open(path);
        let both = kept(fd.as_fd(), "0.log").unwrap();
        assert_eq!(both.iter().map(|it| (it.plain, it.compressed)).collect::<Vec<_>>(), [(true, true), (false, true)]);
        rotate(fd.as_fd(), "0.log", 3, 1_767_323_045).unwrap();
        assert_eq!(names(path), ["0.log", "0.log.20210101-000000.gz", "0.log.20260102-030405"]);
    }

    #[test]
    fn a_log_that_was_taken_away_begins_anew() {
        let dir = tempfile::tempdir().unwrap();
        let fd = open(dir.path());
        drop(rotate(fd.as_fd(), "0.log", 5, 1_767_323_045).unwrap());
        assert_eq!(names(dir.path()), ["0.log"]);
    }

    #[test]
    fn what_cannot_be_put_aside_stays_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        // What stands where the new file is to be made.
        std::fs::create_dir(dir.path().join(".0.log.next")).unwrap();
        std::fs::write(dir.path().join("0.log"), "kept").unwrap();
        let fd = open(dir.path());
        assert!(rotate(fd.as_fd(), "0.log", 5, 1_767_323_045).is_err());
        assert_eq!(names(dir.path()), [".0.log.next", "0.log"]);
        assert_eq!(std::fs::read_to_string(dir.path().join("0.log")).unwrap(), "kept");
    }
}
