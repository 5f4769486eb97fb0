//! A log read as it grows, over all the files that it comes in.

use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use runtime::logs::Stamp;
use rustix::fs::inotify;
use tokio::net::unix::pipe;

use super::piece::{Piece, Place};

/// How often to look where the kernel cannot tell of changes (it runs out of watches).
const POLL: Duration = Duration::from_millis(200);

/// How long to trust the kernel's word alone: a write that goes on while the watch is made was seen to tell nobody.
const NET: Duration = Duration::from_millis(500);

/// Reads a log as it grows: each file that was put aside to its end, then the one after it. No line is left out as long
/// as it is kept.
#[derive(Debug)]
pub struct Follower {
    place: Place,
    current: Option<Piece>,
    /// What comes when the current one has been read again: it may have grown before the next one began.
    next: Option<Piece>,
    watch: Option<pipe::Receiver>,
}

impl Follower {
    /// Follows the log at `path`, which need not be there yet, from the oldest file that is kept.
    pub fn new(path: PathBuf) -> Self {
        let place = Place::of(&path);
        let watch = watch(place.dir());
        Follower { place, current: None, next: None, watch }
    }

    /// Follows it from its last `lines` on.
    pub fn tail(path: PathBuf, lines: u64) -> io::Result<Self> {
        let mut follower = Follower::new(path);
        let mut kept = follower.place.kept();
        let mut lacking = lines;
        let mut piece = follower.place.open_live()?;
        loop {
            if let Some(mut piece) = piece {
                lacking = piece.seek_tail(lacking)?;
                follower.current = Some(piece);
            }
            let Some(older) = kept.pop().filter(|_| lacking > 0 || follower.current.is_none()) else { break };
            piece = follower.place.open(&older.stamp)?;
        }
        Ok(follower)
    }

    /// Whether there is a file to read from by now.
    pub fn exists(&mut self) -> io::Result<bool> {
        if self.current.is_none() {
            self.current = self.successor()?;
        }
        Ok(self.current.is_some())
    }

    /// Reads what is there now, at most `buffer`; 0 when there is no more for now.
    pub fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if let Some(current) = &mut self.current {
                let count = current.read(buffer)?;
                if count > 0 {
                    return Ok(count);
                }
            }
            if let Some(next) = self.next.take() {
                self.current = Some(next);
                continue;
            }
            let Some(piece) = self.successor()? else { return Ok(0) };
            match self.current {
                Some(_) => self.next = Some(piece),
                None => self.current = Some(piece),
            }
        }
    }

    /// The file whose lines come after those of the current one.
    fn successor(&self) -> io::Result<Option<Piece>> {
        if self.current.as_ref().is_some_and(|it| it.is_live(&self.place)) {
            return Ok(None);
        }
        // Asked after it was seen that another one is live: so this is the name that it was put aside by.
        let stamp = self.current.as_ref().map(|it| it.stamp(&self.place));
        // One that was not put aside but taken away is followed by the live one.
        let taken_away = matches!(stamp, Some(None));
        let put_aside = || if taken_away { Ok(None) } else { self.put_aside(stamp.as_ref().and_then(Option::as_ref)) };
        if let Some(piece) = put_aside()? {
            return Ok(Some(piece));
        }
        // Who writes may not have gone on yet in a file that is there: while nothing is in it, nothing is missed.
        let live = self.place.open_live()?.filter(|live| self.current.is_none() || !live.is_empty());
        // The one that was live when nothing was put aside may have been, before this one was opened.
        let before = if live.is_some() { put_aside()? } else { None };
        Ok(before.or(live))
    }

    /// The oldest file that was put aside after another one, or of all.
    fn put_aside(&self, after: Option<&Stamp>) -> io::Result<Option<Piece>> {
        for kept in self.place.kept() {
            let later = after.is_none_or(|stamp| kept.stamp > *stamp);
            if let Some(piece) = if later { self.place.open(&kept.stamp)? } else { None } {
                return Ok(Some(piece));
            }
        }
        Ok(None)
    }

    /// Waits until something may have changed.
    pub async fn changed(&mut self) {
        if self.watch.is_none() {
            self.watch = watch(self.place.dir());
        }
        let Some(watch) = &self.watch else {
            tokio::time::sleep(POLL).await;
            return;
        };
        match tokio::time::timeout(NET, watch.readable()).await {
            Ok(Ok(())) | Err(_) => {}
            Ok(Err(_)) => tokio::time::sleep(POLL).await,
        }
        let mut buffer = [0u8; 4096];
        while watch.try_read(&mut buffer).is_ok_and(|count| count > 0) {}
    }
}

/// Watches a directory: its files' growth and their coming and going.
fn watch(directory: &Path) -> Option<pipe::Receiver> {
    let watcher = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK).ok()?;
    let events = inotify::WatchFlags::MODIFY | inotify::WatchFlags::CREATE | inotify::WatchFlags::MOVED_TO;
    inotify::add_watch(&watcher, directory, events).ok()?;
    // Not a pipe, but read and waited for like one, and without a word of unsafe code.
    pipe::Receiver::from_owned_fd_unchecked(watcher).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::fs::File;
    use std::io::Write as _;
    use std::os::fd::AsFd as _;

    use flate2::{Compression, write::GzEncoder};

    fn all(follower: &mut Follower) -> String {
        let (mut text, mut buffer) = (Vec::new(), [0; 7]);
        loop {
            match follower.read(&mut buffer).unwrap() {
                0 => return String::from_utf8(text).unwrap(),
                count => text.extend_from_slice(&buffer[..count]),
            }
        }
    }

    fn rotate(dir: &Path, max_files: u32) -> File {
        let fd = File::open(dir).unwrap();
        runtime::logs::rotate(fd.as_fd(), "0.log", max_files, 1_767_323_045).unwrap().into()
    }

    fn compress(path: &Path) {
        let mut encoder =
            GzEncoder::new(File::create(format!("{}.gz", path.display())).unwrap(), Compression::default());
        encoder.write_all(&std::fs::read(path).unwrap()).unwrap();
        encoder.finish().unwrap();
        std::fs::remove_file(path).unwrap();
    }

    #[tokio::test]
    async fn a_log_is_followed_from_before_it_exists_and_over_rotation() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.log");
        let mut follower = Follower::new(path.clone());
        let mut buffer = [0; 64];
        assert_eq!(follower.read(&mut buffer).unwrap(), 0);
        let mut file = File::create(&path).unwrap();
        file.write_all(b"one").unwrap();
        follower.changed().await;
        assert_eq!(follower.read(&mut buffer).unwrap(), 3);
        file.write_all(b"two").unwrap();
        std::fs::rename(&path, dir.path().join("0.log.1")).unwrap();
        std::fs::write(&path, "three").unwrap();
        follower.changed().await;
        assert_eq!(follower.read(&mut buffer).unwrap(), 3, "the rest of the old file first");
        assert_eq!(follower.read(&mut buffer).unwrap(), 5);
        assert_eq!(follower.read(&mut buffer).unwrap(), 0);
    }

    #[tokio::test]
    async fn a_slow_follower_gets_every_file_in_turn() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.log");
        std::fs::write(&path, "0\n").unwrap();
        let mut follower = Follower::new(path.clone());
        assert_eq!(all(&mut follower), "0\n");
        for number in 1..5 {
            rotate(dir.path(), 9).write_all(format!("{number}\n").as_bytes()).unwrap();
        }
        compress(&dir.path().join("0.log.20260102-030405"));
        compress(&dir.path().join("0.log.20260102-030405-001"));
        assert_eq!(all(&mut follower), "1\n2\n3\n4\n");
        assert_eq!(all(&mut Follower::new(path)), "0\n1\n2\n3\n4\n");
    }

    #[tokio::test]
    async fn a_follower_whose_file_is_gone_goes_on_with_what_is_left() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.log");
        std::fs::write(&path, "0\n").unwrap();
        let mut follower = Follower::new(path.clone());
        assert_eq!(all(&mut follower), "0\n");
        for number in 1..6 {
            rotate(dir.path(), 3).write_all(format!("{number}\n").as_bytes()).unwrap();
        }
        assert_eq!(all(&mut follower), "3\n4\n5\n");
    }

    #[tokio::test]
    async fn what_is_written_while_the_next_file_is_made_is_not_left_out() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.log");
        let mut old = File::create(&path).unwrap();
        old.write_all(b"0\n").unwrap();
        let mut follower = Follower::new(path);
        assert_eq!(all(&mut follower), "0\n");
        let mut new = rotate(dir.path(), 5);
        assert_eq!(all(&mut follower), "");
        old.write_all(b"1\n").unwrap();
        assert_eq!(all(&mut follower), "1\n");
        old.write_all(b"2\n").unwrap();
        new.write_all(b"3\n").unwrap();
        assert_eq!(all(&mut follower), "2\n3\n");
    }

    #[tokio::test]
    async fn the_last_lines_reach_back_into_older_files() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.log");
        std::fs::write(&path, "0\n1\n").unwrap();
        for number in [2, 4, 6] {
            rotate(dir.path(), 9).write_all(format!("{number}\n{}\n", number + 1).as_bytes()).unwrap();
        }
        compress(&dir.path().join("0.log.20260102-030405"));
        let tail = |count| all(&mut Follower::tail(path.clone(), count).unwrap());
        assert_eq!(tail(0), "");
        assert_eq!(tail(1), "7\n");
        assert_eq!(tail(5), "3\n4\n5\n6\n7\n");
        assert_eq!(tail(7), "1\n2\n3\n4\n5\n6\n7\n");
        assert_eq!(tail(99), "0\n1\n2\n3\n4\n5\n6\n7\n");
    }
}
