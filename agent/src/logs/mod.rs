//! Container logs in the CRI's format, read and followed.
//!
//! ```text
//! 2026-11-22T18:31:45.123456789Z stdout F a whole line
//! 2026-11-22T18:31:45.123456790Z stderr P the beginning of a long one
//! ```

mod follower;
mod piece;

pub use follower::Follower;

/// The longest line that is put together from parts; a longer one comes in pieces.
const MAX_LINE: usize = 256 * 1024;

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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

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
}
