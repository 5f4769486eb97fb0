//! As much of HTTP/1.1 as the applets speak: message heads, and bodies by length, in chunks or to the end.

use std::io::{self, BufRead, Read, Write};

/// The head of a message may not be longer.
const MAX_HEAD_BYTES: u64 = 16 * 1024;

/// The first line of a message and its fields.
#[derive(Debug, PartialEq)]
pub struct Head {
    /// Request or status line.
    pub first_line: String,
    fields: Vec<(String, String)>,
}

impl Head {
    /// Reads a head. `None` if the peer closed the connection before it began.
    pub fn read(input: &mut impl BufRead) -> io::Result<Option<Self>> {
        let mut input = input.take(MAX_HEAD_BYTES);
        let mut lines = Vec::new();
        loop {
            let mut line = Vec::new();
            input.read_until(b'\n', &mut line)?;
            if line.is_empty() && lines.is_empty() && input.limit() == MAX_HEAD_BYTES {
                return Ok(None);
            }
            if line.pop() != Some(b'\n') {
                let why = if input.limit() == 0 { "the head is too long" } else { "the head is cut short" };
                return Err(invalid(why));
            }
            let line = String::from_utf8_lossy(line.strip_suffix(b"\r").unwrap_or(&line)).into_owned();
            // Empty lines before a request are allowed for old clients' sake.
            match (line.is_empty(), lines.is_empty()) {
                (true, true) => {}
                (true, false) => break,
                (false, _) => lines.push(line),
            }
        }
        let fields = lines.split_off(1);
        let first_line = lines.swap_remove(0);
        let fields = fields.iter().map(|line| {
            let (name, value) = line.split_once(':').ok_or_else(|| invalid("a header line has no colon"))?;
            Ok((name.trim().to_ascii_lowercase(), value.trim().to_owned()))
        });
        Ok(Some(Self { first_line, fields: fields.collect::<io::Result<_>>()? }))
    }

    /// A field's value; its name in lower case.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// Whether a comma-separated field holds a word.
    pub fn says(&self, name: &str, word: &str) -> bool {
        self.field(name).is_some_and(|value| value.split(',').any(|part| part.trim().eq_ignore_ascii_case(word)))
    }

    /// The length of the body, if the head tells.
    pub fn content_length(&self) -> io::Result<Option<u64>> {
        let parse = |text: &str| text.parse().map_err(|_| invalid("the content-length is no number"));
        self.field("content-length").map(parse).transpose()
    }
}

/// Copies a body in chunks, and reads its trailer.
pub fn copy_chunks(input: &mut impl BufRead, out: &mut impl Write) -> io::Result<()> {
    loop {
        let line = chunk_line(input)?;
        let size = line.split(';').next().unwrap_or_default().trim();
        let size = u64::from_str_radix(size, 16).map_err(|_| invalid("a chunk has no size"))?;
        if size == 0 {
            while !chunk_line(input)?.is_empty() {}
            return Ok(());
        }
        copy_exactly(input, out, size)?;
        if !chunk_line(input)?.is_empty() {
            return Err(invalid("a chunk is longer than it says"));
        }
    }
}

/// Copies a body of known length.
pub fn copy_exactly(input: &mut impl BufRead, out: &mut impl Write, length: u64) -> io::Result<()> {
    let copied = io::copy(&mut input.take(length), out)?;
    if copied < length {
        let why = format!("the connection closed after {copied} of {length} bytes");
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, why));
    }
    Ok(())
}

fn chunk_line(input: &mut impl BufRead) -> io::Result<String> {
    let mut line = String::new();
    input.take(1024).read_line(&mut line)?;
    match line.strip_suffix('\n') {
        Some(text) => Ok(text.strip_suffix('\r').unwrap_or(text).to_owned()),
        None => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the connection closed within a chunk")),
    }
}

fn invalid(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_head_is_read_up_to_its_empty_line() {
        let mut input = &b"\r\nGET / HTTP/1.1\r\nHost: a\r\nCONNECTION: Keep-Alive, x\r\n\r\nrest"[..];
        let head = Head::read(&mut input).unwrap().unwrap();
        assert_eq!(head.first_line, "GET / HTTP/1.1");
        assert_eq!(head.field("host"), Some("a"));
        assert!(head.says("connection", "keep-alive") && !head.says("connection", "close"));
        assert_eq!(input, b"rest");
    }

    #[test]
    fn no_head_is_not_a_broken_head() {
        assert_eq!(Head::read(&mut &b""[..]).unwrap(), None);
        assert!(Head::read(&mut &b"GET / HT"[..]).is_err());
        assert!(Head::read(&mut &b"GET / HTTP/1.1\r\nHost: a\r\n"[..]).is_err());
        assert!(Head::read(&mut &b"GET / HTTP/1.1\r\nno colon\r\n\r\n"[..]).is_err());
        assert!(Head::read(&mut vec![b'a'; 20_000].as_slice()).unwrap_err().to_string().contains("too long"));
    }

    #[test]
    fn chunks_are_joined_and_their_trailer_skipped() {
        let mut out = Vec::new();
        copy_chunks(&mut &b"3\r\nabc\r\nA;x=y\r\n0123456789\r\n0\r\nT: v\r\n\r\n"[..], &mut out).unwrap();
        assert_eq!(out, b"abc0123456789");
        for bad in ["", "3\r\nab", "3\r\nabcd\r\n0\r\n\r\n", "x\r\n", "3\r\nabc\r\n", "0\r\n"] {
            assert!(copy_chunks(&mut bad.as_bytes(), &mut Vec::new()).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_short_body_is_an_error() {
        assert!(copy_exactly(&mut &b"abc"[..], &mut Vec::new(), 4).is_err());
    }
}
