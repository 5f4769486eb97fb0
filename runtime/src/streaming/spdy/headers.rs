//! Blocks of headers: one zlib stream a direction for the life of the connection, flushed after each block.

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};

use super::dictionary::DICTIONARY;
use crate::streaming::codec::Headers;

/// Packs the headers this end sends.
pub struct Packer(Compress);

/// Unpacks the headers the peer sends.
pub struct Unpacker {
    zlib: Decompress,
    limit: usize,
}

impl Packer {
    /// The beginning of a direction.
    pub fn new() -> Result<Self, String> {
        let mut zlib = Compress::new(Compression::default(), true);
        zlib.set_dictionary(DICTIONARY).map_err(|error| error.to_string())?;
        Ok(Self(zlib))
    }

    /// Packs one block.
    pub fn pack(&mut self, headers: &Headers) -> Result<Vec<u8>, String> {
        let mut plain = Vec::new();
        let number = |into: &mut Vec<u8>, number: usize| {
            u32::try_from(number).map(|it| into.extend_from_slice(&it.to_be_bytes())).map_err(|error| error.to_string())
        };
        number(&mut plain, headers.0.len())?;
        for (name, value) in &headers.0 {
            for text in [name, value] {
                number(&mut plain, text.len())?;
                plain.extend_from_slice(text.as_bytes());
            }
        }
        let mut packed = Vec::with_capacity(plain.len() + 64);
        let (mut rest, before) = (plain.as_slice(), self.0.total_in());
        let mut taken = 0;
        // A flush is complete once it leaves room in the output.
        loop {
            packed.reserve(256);
            self.0.compress_vec(rest, &mut packed, FlushCompress::Sync).map_err(|error| error.to_string())?;
            let total = usize::try_from(self.0.total_in() - before).unwrap_or(usize::MAX);
            rest = rest.get(total - taken..).unwrap_or_default();
            taken = total;
            if rest.is_empty() && packed.len() < packed.capacity() {
                return Ok(packed);
            }
        }
    }
}

impl Unpacker {
    /// The beginning of a direction, with the most bytes that one block may unpack to.
    pub fn new(limit: usize) -> Self {
        Self { zlib: Decompress::new(true), limit }
    }

    /// Unpacks one block.
    pub fn unpack(&mut self, packed: &[u8]) -> Result<Headers, String> {
        let plain = self.inflate(packed)?;
        let mut rest = plain.as_slice();
        let count = number(&mut rest)?;
        let mut headers = Headers::default();
        // Every header is two lengths at the least: a count beyond that ends at the end of the block.
        for _ in 0..count {
            let (name, value) = (text(&mut rest)?, text(&mut rest)?);
            if name.is_empty() {
                return Err("a header without a name".into());
            }
            if headers.get(&name).is_some() {
                return Err(format!("header {name:?} came twice"));
            }
            headers.0.push((name.to_ascii_lowercase(), value));
        }
        if rest.is_empty() { Ok(headers) } else { Err("headers with something after them".into()) }
    }

    fn inflate(&mut self, packed: &[u8]) -> Result<Vec<u8>, String> {
        let mut plain = Vec::new();
        let mut rest = packed;
        loop {
            if plain.len() > self.limit {
                return Err(format!("headers of more than {} bytes", self.limit));
            }
            plain.reserve(1024.min(self.limit + 1 - plain.len()).max(1));
            let before = (self.zlib.total_in(), plain.len());
            match self.zlib.decompress_vec(rest, &mut plain, FlushDecompress::Sync) {
                Ok(flate2::Status::StreamEnd) => return Err("the end of the compressed headers".into()),
                Ok(_) => {}
                // The peer's first block begins with the wish for a dictionary; set, it goes on behind that.
                Err(error) if error.needs_dictionary().is_some() => {
                    self.zlib.set_dictionary(DICTIONARY).map_err(|error| error.to_string())?;
                }
                Err(error) => return Err(error.to_string()),
            }
            let taken = usize::try_from(self.zlib.total_in() - before.0).unwrap_or(usize::MAX);
            rest = rest.get(taken..).unwrap_or_default();
            let stuck = taken == 0 && plain.len() == before.1;
            if rest.is_empty() && plain.len() < plain.capacity() || stuck && plain.len() < plain.capacity() {
                return if rest.is_empty() { Ok(plain) } else { Err("headers that cannot be unpacked".into()) };
            }
        }
    }
}

fn number(rest: &mut &[u8]) -> Result<usize, String> {
    let (head, tail) = rest.split_first_chunk::<4>().ok_or("headers that end too early")?;
    *rest = tail;
    usize::try_from(u32::from_be_bytes(*head)).map_err(|error| error.to_string())
}

fn text(rest: &mut &[u8]) -> Result<String, String> {
    let length = number(rest)?;
    let (head, tail) = rest.split_at_checked(length).ok_or("headers that end too early")?;
    *rest = tail;
    String::from_utf8(head.to_vec()).map_err(|_| "a header that is not UTF-8".into())
}
