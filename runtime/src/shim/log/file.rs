//! The file that a container's log is written to, and the next one when it is full.

use std::os::fd::{AsFd as _, OwnedFd};

use rustix::io::Errno;

/// When and where a log goes on in a new file.
#[derive(Debug)]
pub struct Rotation {
    /// The directory.
    pub dir: OwnedFd,
    /// The file's name in it.
    pub name: String,
    /// Bytes that a file may have. A single line may be longer.
    pub max_size: u64,
    /// How many files are kept, the one being written included.
    pub max_files: u32,
}

/// An open log file.
#[derive(Debug)]
pub struct LogFile {
    fd: OwnedFd,
    size: u64,
    /// It ends within a line.
    torn: bool,
    rotation: Option<Rotation>,
    /// It could not be put aside: at which size that is tried again.
    retry_at: u64,
}

impl LogFile {
    /// One that is open for appending.
    pub fn new(fd: OwnedFd, rotation: Option<Rotation>) -> Self {
        let size = size_of(&fd);
        Self { fd, size, torn: false, rotation, retry_at: 0 }
    }

    /// Goes on in another one. What was torn stays in the old.
    pub fn replace(&mut self, fd: OwnedFd) {
        (self.size, self.fd, self.torn, self.retry_at) = (size_of(&fd), fd, false, 0);
    }

    /// Writes whole lines, each into one file, or says how many bytes of them it could. `now` is in seconds since 1970.
    pub fn write(&mut self, lines: &[u8], now: i64) -> Result<(), usize> {
        let mut done = 0;
        while done < lines.len() {
            let rest = &lines[done..];
            let piece = match self.room() {
                Some(room) if room < rest.len() as u64 => self.make_room(rest, room, now),
                _ => rest,
            };
            done += self.put(piece).map_err(|written| done + written)?;
        }
        Ok(())
    }

    /// How much fits into the file; none for any amount.
    fn room(&self) -> Option<u64> {
        self.rotation.as_ref().map(|it| it.max_size.max(self.retry_at).saturating_sub(self.size))
    }

    /// What of `lines` goes into the file next, which may be a new one.
    fn make_room<'a>(&mut self, lines: &'a [u8], room: u64, now: i64) -> &'a [u8] {
        let fitting = lines[..room as usize].iter().rposition(|&byte| byte == b'\n');
        if let Some(end) = fitting {
            return &lines[..=end];
        }
        // Somebody may have emptied the file meanwhile.
        self.size = size_of(&self.fd);
        if self.size > 0 {
            self.rotate(now);
        }
        // At least one line, so that this comes to an end.
        let first = lines.iter().position(|&byte| byte == b'\n');
        first.map_or(lines, |end| &lines[..=end])
    }

    /// A log that cannot be put aside grows on: its lines count for more than its size.
    fn rotate(&mut self, now: i64) {
        let Some(rotation) = &self.rotation else { return };
        match crate::logs::rotate(rotation.dir.as_fd(), &rotation.name, rotation.max_files, now) {
            Ok(fd) => self.replace(fd),
            Err(_) => self.retry_at = self.size.max(rotation.max_size).saturating_add(rotation.max_size / 8 + 1),
        }
    }

    /// Writes everything, or says how much it could.
    fn put(&mut self, bytes: &[u8]) -> Result<usize, usize> {
        if self.torn {
            self.append(b"\n").map_err(|_| 0usize)?;
            self.torn = false;
        }
        self.append(bytes).map(|()| bytes.len()).inspect_err(|&written| {
            self.torn = written > 0 && bytes[written - 1] != b'\n';
        })
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), usize> {
        let mut written = 0;
        while written < bytes.len() {
            match rustix::io::write(&self.fd, &bytes[written..]) {
                Ok(0) => return Err(written),
                Ok(length) => {
                    written += length;
                    self.size += length as u64;
                }
                Err(Errno::INTR) => {}
                Err(_) => return Err(written),
            }
        }
        Ok(())
    }
}

/// A file that cannot say its size is taken for an empty one: it is rotated later than it should be.
fn size_of(fd: &OwnedFd) -> u64 {
    rustix::fs::fstat(fd).map_or(0, |stat| stat.st_size.max(0) as u64)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::path::Path;

    const NOW: i64 = 1_767_323_045;

    fn log(dir: &Path, max_size: u64, max_files: u32) -> LogFile {
        let file = std::fs::OpenOptions::new().append(true).create(true).open(dir.join("0.log")).unwrap();
        let rotation =
            Rotation { dir: std::fs::File::open(dir).unwrap().into(), name: "0.log".into(), max_size, max_files };
        LogFile::new(file.into(), Some(rotation))
    }

    /// The files' texts, oldest first.
    fn texts(dir: &Path) -> Vec<String> {
        let fd = std::fs::File::open(dir).unwrap();
        let kept = crate::logs::kept(fd.as_fd(), "0.log").unwrap();
        let names = kept.iter().map(|it| it.stamp.name("0.log")).chain(["0.log".to_owned()]);
        names.map(|name| std::fs::read_to_string(dir.join(name)).unwrap()).collect()
    }

    #[test]
    fn lines_fill_a_file_and_none_is_split() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = log(dir.path(), 10, 9);
        log.write(b"abc\ndef\nghi\n", NOW).unwrap();
        log.write(b"j\n", NOW).unwrap();
        log.write(b"longer than a file\nk\n", NOW).unwrap();
        assert_eq!(texts(dir.path()), ["abc\ndef\n", "ghi\nj\n", "longer than a file\n", "k\n"]);
    }

    #[test]
    fn every_line_is_in_exactly_one_file_whatever_the_pieces() {
        for limit in [1, 7, 64, 1000] {
            let dir = tempfile::tempdir().unwrap();
            let mut log = log(dir.path(), limit, 10_000);
            let lines: Vec<String> =
                (0..200).map(|number| format!("line {number} {}\n", "x".repeat(number % 13))).collect();
            for piece in lines.chunks(3) {
                log.write(piece.concat().as_bytes(), NOW).unwrap();
            }
            let texts = texts(dir.path());
            assert_eq!(texts.concat(), lines.concat(), "{limit}");
            for text in &texts {
                assert!(
                    text.ends_with('\n') && (text.len() as u64 <= limit || text.matches('\n').count() == 1),
                    "{limit}"
                );
            }
        }
    }

    #[test]
    fn a_log_that_cannot_be_put_aside_grows_and_is_put_aside_later() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = log(dir.path(), 80, 5);
        let obstacle = dir.path().join(".0.log.next");
        std::fs::create_dir(&obstacle).unwrap();
        for number in 0..20 {
            log.write(format!("line {number:02}\n").as_bytes(), NOW).unwrap();
        }
        assert_eq!(texts(dir.path()).len(), 1, "nothing could be put aside");
        std::fs::remove_dir(&obstacle).unwrap();
        for number in 20..30 {
            log.write(format!("line {number:02}\n").as_bytes(), NOW).unwrap();
        }
        let texts = texts(dir.path());
        assert!(texts.len() > 1, "{texts:?}");
        assert_eq!(texts.concat(), (0..30).map(|number| format!("line {number:02}\n")).collect::<String>());
    }

    #[test]
    fn a_file_that_was_emptied_by_others_is_filled_again() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = log(dir.path(), 10, 5);
        log.write(b"12345678\n", NOW).unwrap();
        std::fs::OpenOptions::new().write(true).truncate(true).open(dir.path().join("0.log")).unwrap();
        log.write(b"abc\n", NOW).unwrap();
        assert_eq!(texts(dir.path()), ["abc\n"]);
    }
}
