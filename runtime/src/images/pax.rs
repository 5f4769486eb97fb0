//! PAX extended headers: `LENGTH KEY=VALUE\n` records whose values are bytes, newlines included.

use std::io;

/// What an extended header says about the entry behind it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Pax {
    pub path: Option<Vec<u8>>,
    pub link: Option<Vec<u8>>,
    pub size: Option<u64>,
    pub uid: Option<u64>,
    pub gid: Option<u64>,
    pub mtime: Option<(i64, u32)>,
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    pub sparse: Option<Sparse>,
}

/// A file with holes: where its content belongs.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Sparse {
    /// Length of the file, holes included.
    pub size: u64,
    /// Offset and length of each piece of content.
    pub segments: Vec<(u64, u64)>,
    /// The segments stand at the beginning of the content (PAX 1.0).
    pub map_in_content: bool,
}

impl Sparse {
    /// Checks that the segments are in order, within the file, and as long as the content.
    pub(super) fn check(&self, content: u64) -> io::Result<()> {
        let (mut end, mut total) = (0u64, 0u64);
        for (offset, length) in &self.segments {
            let next = offset.checked_add(*length).filter(|next| *offset >= end && *next <= self.size);
            end = next.ok_or_else(|| invalid("a sparse file's segments overlap or pass its end"))?;
            total += length;
        }
        if total != content {
            return Err(invalid("a sparse file's segments are not as long as its content"));
        }
        Ok(())
    }
}

impl Pax {
    /// Reads the records of one extended header.
    pub(super) fn parse(mut bytes: &[u8]) -> io::Result<Pax> {
        let mut pax = Pax::default();
        let mut sparse = SparseKeys::default();
        while !bytes.is_empty() {
            let (record, rest) = split_record(bytes).ok_or_else(|| invalid("a malformed extended header"))?;
            let equals =
                record.iter().position(|b| *b == b'=').ok_or_else(|| invalid("an extended header without '='"))?;
            pax.set(&record[..equals], &record[equals + 1..], &mut sparse)?;
            bytes = rest;
        }
        pax.sparse = sparse.finish(&mut pax.path)?;
        Ok(pax)
    }

    fn set(&mut self, key: &[u8], value: &[u8], sparse: &mut SparseKeys) -> io::Result<()> {
        match key {
            b"path" => self.path = Some(value.to_vec()),
            b"linkpath" => self.link = Some(value.to_vec()),
            b"size" => self.size = Some(number(value)?),
            b"uid" => self.uid = Some(number(value)?),
            b"gid" => self.gid = Some(number(value)?),
            b"mtime" => self.mtime = Some(time(value)?),
            _ => {
                if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                    self.xattrs.push((name.to_vec(), value.to_vec()));
                } else if let Some(name) = key.strip_prefix(b"GNU.sparse.") {
                    sparse.set(name, value)?;
                }
            }
        }
        Ok(())
    }
}

/// The three ways in which GNU tar writes sparse files into PAX headers.
#[derive(Default)]
struct SparseKeys {
    major: Option<u64>,
    minor: Option<u64>,
    size: Option<u64>,
    name: Option<Vec<u8>>,
    numbers: Vec<u64>,
}

impl SparseKeys {
    fn set(&mut self, name: &[u8], value: &[u8]) -> io::Result<()> {
        match name {
            b"major" => self.major = Some(number(value)?),
            b"minor" => self.minor = Some(number(value)?),
            b"realsize" | b"size" => self.size = Some(number(value)?),
            b"name" => self.name = Some(value.to_vec()),
            b"offset" | b"numbytes" => self.numbers.push(number(value)?),
            b"map" => {
                let numbers: io::Result<Vec<u64>> =
                    value.split(|b| *b == b',').filter(|n| !n.is_empty()).map(number).collect();
                self.numbers = numbers?;
            }
            _ => {}
        }
        Ok(())
    }

    fn finish(self, path: &mut Option<Vec<u8>>) -> io::Result<Option<Sparse>> {
        let Some(size) = self.size else { return Ok(None) };
        if let Some(name) = self.name {
            *path = Some(name);
        }
        let map_in_content = match (self.major, self.minor) {
            (Some(1), Some(0)) => true,
            (None | Some(0), _) => false,
            _ => return Err(invalid("a sparse file of an unknown version")),
        };
        let segments = self.numbers.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect();
        Ok(Some(Sparse { size, segments, map_in_content }))
    }
}

/// One record without its length and newline, and what follows.
fn split_record(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let space = bytes.iter().take(20).position(|b| *b == b' ')?;
    let length: usize = std::str::from_utf8(&bytes[..space]).ok()?.parse().ok()?;
    let record = bytes.get(space + 1..length)?.strip_suffix(b"\n")?;
    Some((record, &bytes[length..]))
}

fn number(value: &[u8]) -> io::Result<u64> {
    std::str::from_utf8(value)
        .ok()
        .and_then(|v| v.parse().ok())
        .ok_or_else(|| invalid("a number in an extended header is not one"))
}

/// Seconds with a fraction, `1350244992.023960108` or `-1.5`, as seconds and nanoseconds.
fn time(value: &[u8]) -> io::Result<(i64, u32)> {
    parse_time(value).ok_or_else(|| invalid("a time in an extended header is not one"))
}

fn parse_time(value: &[u8]) -> Option<(i64, u32)> {
    let text = std::str::from_utf8(value).ok()?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let seconds: i64 = whole.parse().ok()?;
    let mut nanos: u32 = 0;
    for i in 0..9 {
        nanos = nanos * 10 + fraction.as_bytes().get(i).map_or(0, |b| u32::from(b - b'0'));
    }
    // The fraction of a negative time counts away from zero; the kernel's counts up.
    if whole.starts_with('-') && nanos > 0 {
        return Some((seconds.checked_sub(1)?, 1_000_000_000 - nanos));
    }
    Some((seconds, nanos))
}

pub(super) fn invalid(reason: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}
