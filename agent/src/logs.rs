//! Container logs in the CRI's format, read and followed.
//!
//! ```text
//! 2026-11-22T18:31:45.123456789Z stdout F a whole line
//! 2026-11-22T18:31:45.123456790Z stderr P the beginning of a long one
//! ```

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::inotify;
use tokio::net::unix::pipe;

/// The longest line that is put together from parts; a longer one comes in pieces.
const MAX_LINE: usize = 256 * 1024;

/// How often to look where the kernel cannot tell of changes (it runs out of watches).
const POLL: Duration = Duration::from_millis(200);

/// How long to trust the kernel's word alone: a write that goes on while the watch is made was seen to tell nobody.
const NET: Duration = Duration::from_millis(500);

/// Where a line was written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// One line of a log file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line<'a> {
    /// RFC 3339, with nanoseconds.
    pub time: &'a str,
    /// Where it was written to.
    pub stream: Stream,
    /// More of the same line follows.
    pub partial: bool,
    /// The text, without newline.
    pub content: &'a [u8],
}

/// Reads one line of a log file, without its newline; `None` when it is none of the format.
pub fn parse(line: &[u8]) -> Option<Line<'_>> {
    let mut parts = line.splitn(4, |byte| *byte == b' ');
    let time = std::str::from_utf8(parts.next()?).ok().filter(|time| time.contains('T'))?;
    let stream = match parts.next()? {
        b"stdout" => Stream::Stdout,
        b"stderr" => Stream::Stderr,
        _ => return None,
    };
    let partial = parts.next()?.split(|byte| *byte == b':').next() == Some(b"P");
    Some(Line { time, stream, partial, content: parts.next().unwrap_or_default() })
}

/// A line as the container wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// When its first part was written.
    pub time: String,
    /// Where to.
    pub stream: Stream,
    /// The text, without newline.
    pub content: Vec<u8>,
}

/// Puts a log file's bytes together to lines, whatever the pieces they come in.
#[derive(Debug, Default)]
pub struct Assembler {
    carry: Vec<u8>,
    pending: [Option<Entry>; 2],
}

impl Assembler {
    /// Takes more bytes, and gives each line that they complete to `sink`.
    pub fn push(&mut self, bytes: &[u8], mut sink: impl FnMut(Entry)) {
        self.carry.extend_from_slice(bytes);
        let mut start = 0;
        while let Some(length) = self.carry[start..].iter().position(|byte| *byte == b'\n') {
            let line = parse(&self.carry[start..start + length]);
            start += length + 1;
            if let Some(line) = line {
                join(&mut self.pending, line, &mut sink);
            }
        }
        self.carry.drain(..start);
    }

    /// The log ends here: gives out what has no end.
    pub fn finish(&mut self, mut sink: impl FnMut(Entry)) {
        for entry in self.pending.iter_mut().filter_map(Option::take) {
            sink(entry);
        }
    }
}

fn join(pending: &mut [Option<Entry>; 2], line: Line<'_>, sink: &mut impl FnMut(Entry)) {
    let slot = &mut pending[usize::from(line.stream == Stream::Stderr)];
    let entry =
        slot.get_or_insert_with(|| Entry { time: line.time.to_owned(), stream: line.stream, content: Vec::new() });
    entry.content.extend_from_slice(line.content);
    if (!line.partial || entry.content.len() >= MAX_LINE)
        && let Some(entry) = slot.take()
    {
        sink(entry);
    }
}

/// The offset at which the last `count` lines of a file begin.
pub fn tail_offset(file: &mut File, count: u64) -> io::Result<u64> {
    const CHUNK: u64 = 64 * 1024;
    let mut end = file.seek(SeekFrom::End(0))?;
    if count == 0 {
        return Ok(end);
    }
    let mut seen = 0;
    let mut buffer = Vec::new();
    while end > 0 {
        let start = end.saturating_sub(CHUNK);
        file.seek(SeekFrom::Start(start))?;
        buffer.clear();
        file.by_ref().take(end - start).read_to_end(&mut buffer)?;
        for (at, byte) in buffer.iter().enumerate().rev() {
            if *byte == b'\n' {
                seen += 1;
                // The last line's own newline is one too many.
                if seen == count + 1 {
                    return Ok(start + at as u64 + 1);
                }
            }
        }
        end = start;
    }
    Ok(0)
}

/// Reads a log file as it grows, and the file that takes its place when it is rotated.
#[derive(Debug)]
pub struct Follower {
    path: PathBuf,
    file: Option<File>,
    watch: Option<pipe::Receiver>,
}

impl Follower {
    /// Follows the file at `path`, which need not be there yet, from its beginning.
    pub fn new(path: PathBuf) -> Self {
        let watch = path.parent().and_then(watch);
        let file = File::open(&path).ok();
        Follower { path, file, watch }
    }

    /// Starts at `offset` instead.
    pub fn seek(&mut self, offset: u64) -> io::Result<()> {
        match &mut self.file {
            Some(file) => file.seek(SeekFrom::Start(offset)).map(drop),
            None => Ok(()),
        }
    }

    /// The open file, if there is one.
    pub fn file(&mut self) -> Option<&mut File> {
        self.file.as_mut()
    }

    /// Reads what is there now, at most `buffer`; 0 when there is no more for now.
    pub fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if let Some(file) = &mut self.file {
                let count = file.read(buffer)?;
                if count > 0 {
                    return Ok(count);
                }
            }
            if !self.reopen() {
                return Ok(0);
            }
        }
    }

    /// Opens the file that is now at the path, if it is another one.
    fn reopen(&mut self) -> bool {
        let Ok(there) = std::fs::metadata(&self.path) else { return false };
        let same = self
            .file
            .as_ref()
            .and_then(|file| file.metadata().ok())
            .is_some_and(|open| (open.dev(), open.ino()) == (there.dev(), there.ino()));
        if same {
            return false;
        }
        match File::open(&self.path) {
            Ok(file) => {
                self.file = Some(file);
                true
            }
            Err(_) => false,
        }
    }

    /// Waits until something may have changed.
    pub async fn changed(&mut self) {
        if self.watch.is_none() {
            self.watch = self.path.parent().and_then(watch);
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
    use std::io::Write;

    #[test]
    fn lines_are_read_and_others_are_not() {
        let line = parse(b"2026-11-22T18:31:45.1Z stderr F two words").unwrap();
        assert_eq!((line.time, line.stream, line.partial), ("2026-11-22T18:31:45.1Z", Stream::Stderr, false));
        assert_eq!(line.content, b"two words");
        assert!(parse(b"2026-11-22T18:31:45Z stdout P x").unwrap().partial);
        assert_eq!(parse(b"2026-11-22T18:31:45Z stdout F ").unwrap().content, b"");
        assert_eq!(parse(b"2026-11-22T18:31:45Z stdout F").unwrap().content, b"");
        for line in ["", "x", "no stdout F x", "2026-11-22T18:31:45Z other F x", "2026-11-22T18:31:45Z stdout"] {
            assert_eq!(parse(line.as_bytes()), None, "{line}");
        }
    }

    #[test]
    fn parts_are_joined_by_stream_whatever_the_pieces() {
        let text = b"1T stdout P ab\n1T stderr F err\n2T stdout P cd\n3T stdout F ef\n4T stdout P open\n";
        for size in [1, 3, 7, text.len()] {
            let mut assembler = Assembler::default();
            let mut lines = Vec::new();
            for piece in text.chunks(size) {
                assembler.push(piece, |entry| lines.push(entry));
            }
            assembler.finish(|entry| lines.push(entry));
            let lines: Vec<_> = lines.iter().map(|entry| (entry.time.as_str(), entry.content.as_slice())).collect();
            assert_eq!(lines, [("1T", &b"err"[..]), ("1T", b"abcdef"), ("4T", b"open")]);
        }
    }

    #[test]
    fn an_endless_line_comes_in_pieces() {
        let mut assembler = Assembler::default();
        let mut lines = 0;
        let part = format!("1T stdout P {}\n", "x".repeat(16 * 1024));
        for _ in 0..40 {
            assembler.push(part.as_bytes(), |_| lines += 1);
        }
        assert_eq!(lines, 2);
    }

    #[test]
    fn the_tail_is_found_from_the_end() {
        let mut file = tempfile::tempfile().unwrap();
        for number in 0..10_000 {
            writeln!(file, "2026-11-22T18:31:45Z stdout F line {number}").unwrap();
        }
        for (count, first) in [(1, "9999"), (3, "9997"), (5000, "5000"), (20_000, "0")] {
            let offset = tail_offset(&mut file, count).unwrap();
            file.seek(SeekFrom::Start(offset)).unwrap();
            let mut text = String::new();
            file.read_to_string(&mut text).unwrap();
            assert!(text.lines().next().unwrap().ends_with(&format!("line {first}")), "{count}");
        }
        assert_eq!(tail_offset(&mut file, 0).unwrap(), file.metadata().unwrap().len());
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
}
