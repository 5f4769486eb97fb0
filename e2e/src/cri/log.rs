//! The log format of the CRI: `TIME STREAM TAGS TEXT`.

use std::path::Path;

/// Where a line was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// One entry of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// As written: RFC 3339 with nanoseconds.
    pub time: String,
    /// Where it was written.
    pub stream: Stream,
    /// Whether the entry ends a line (`F`) or is a part of one (`P`).
    pub full: bool,
    /// Without the newline.
    pub text: String,
}

impl Entry {
    /// The entry of a line of the file.
    pub fn parse(line: &str) -> Result<Self, String> {
        let wrong = || format!("not a line of a CRI log: {line:?}");
        let mut parts = line.splitn(4, ' ');
        let mut next = || parts.next().ok_or_else(wrong);
        let (time, stream, tag, text) = (next()?, next()?, next()?, next()?);
        let stream = match stream {
            "stdout" => Stream::Stdout,
            "stderr" => Stream::Stderr,
            _ => return Err(wrong()),
        };
        let full = match tag {
            "F" => true,
            "P" => false,
            _ => return Err(wrong()),
        };
        Ok(Self { time: time.to_owned(), stream, full, text: text.to_owned() })
    }

    /// The whole entries of a file; none if it is not there.
    pub fn read(path: &Path) -> Vec<Self> {
        let bytes = std::fs::read(path).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        // What has no newline yet is being written.
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        whole.lines().map(|line| Self::parse(line).unwrap_or_else(|why| panic!("{}: {why}", path.display()))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_with_its_tags() {
        let entry = Entry::parse("2026-11-22T18:31:45.123456790Z stderr P the beginning").expect("a line");
        assert_eq!((entry.stream, entry.full, entry.text.as_str()), (Stream::Stderr, false, "the beginning"));
        assert_eq!(Entry::parse("2026-11-22T18:31:45.1Z stdout F ").expect("an empty line").text, "");
        assert!(Entry::parse("2026-11-22T18:31:45.1Z stdout X a").is_err());
    }
}
