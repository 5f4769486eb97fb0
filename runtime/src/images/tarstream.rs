//! A tar stream as entries: headers are read by the `tar` crate, the extensions (GNU long names and sparse files, PAX)
//! here. The crate's own iterator splits PAX records at newlines, which binary attributes contain, reads extensions of
//! any length into memory, and knows no PAX sparse files. Sizes follow Go's reader, as every image builder does.

use std::io::{self, BufRead};
use std::ops::Range;

use tar::{EntryType, GnuExtSparseHeader, Header};

use super::pax::{self, Pax, Sparse};

const BLOCK: u64 = 512;
/// Longer extensions are an attack: names are bounded by the kernel, attributes by 64 KiB each.
const MAX_EXTENSION: u64 = 1 << 20;
/// Segments of one sparse file.
const MAX_SEGMENTS: usize = 1 << 16;

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum EntryKind {
    Regular,
    Directory,
    Symlink,
    HardLink,
    Char,
    Block,
    Fifo,
    /// A type that no image has a use for.
    Unknown(u8),
}

/// One entry, its content still in the stream.
#[derive(Debug)]
pub(super) struct TarEntry {
    pub path: Vec<u8>,
    pub link: Vec<u8>,
    pub kind: EntryKind,
    pub mode: u32,
    pub uid: u64,
    pub gid: u64,
    pub mtime: (i64, u32),
    pub device: (u32, u32),
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    pub sparse: Option<Sparse>,
    /// Bytes of content in the stream.
    pub size: u64,
}

/// A source of tar that can pass over content.
pub(super) trait TarSource: BufRead {
    /// Passes over `count` bytes; fewer are an error.
    fn skip(&mut self, mut count: u64) -> io::Result<()> {
        while count > 0 {
            let n = (self.fill_buf()?.len() as u64).min(count);
            if n == 0 {
                return Err(truncated());
            }
            self.consume(n as usize);
            count -= n;
        }
        Ok(())
    }
}

/// Reads entries one after the other.
pub(super) struct TarReader<R> {
    source: R,
    /// Bytes of the current entry's content not yet read, and the padding behind them.
    remaining: u64,
    padding: u64,
    /// Bytes passed since the beginning.
    position: u64,
}

impl<R: TarSource> TarReader<R> {
    pub(super) fn new(source: R) -> Self {
        TarReader { source, remaining: 0, padding: 0, position: 0 }
    }

    pub(super) fn source(&mut self) -> &mut R {
        &mut self.source
    }

    /// Where the next byte is; after `next`, where the entry's content begins.
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// The next entry, or `None` at the end of the archive.
    pub(super) fn next(&mut self) -> io::Result<Option<TarEntry>> {
        let (mut long_name, mut long_link, mut pax) = (None, None, Pax::default());
        let mut extended = false;
        loop {
            let Some(header) = self.header()? else {
                return if extended { Err(invalid("the archive ends after an extension")) } else { Ok(None) };
            };
            match header.entry_type() {
                EntryType::GNULongName => long_name = Some(self.name_extension(&header)?),
                EntryType::GNULongLink => long_link = Some(self.name_extension(&header)?),
                EntryType::XHeader => pax = Pax::parse(&self.extension(&header)?)?,
                EntryType::XGlobalHeader => {
                    self.extension(&header)?;
                    continue;
                }
                _ => {
                    let mut entry = entry(&header, long_name, long_link, pax)?;
                    self.begin_content(&header, &mut entry)?;
                    return Ok(Some(entry));
                }
            }
            extended = true;
        }
    }

    /// The next piece of the current entry's content; empty at its end.
    pub(super) fn content(&mut self) -> io::Result<&[u8]> {
        if self.remaining == 0 {
            return Ok(&[]);
        }
        let limit = self.remaining.min(usize::MAX as u64) as usize;
        let buffer = self.source.fill_buf()?;
        if buffer.is_empty() {
            return Err(truncated());
        }
        Ok(&buffer[..buffer.len().min(limit)])
    }

    /// Marks `count` bytes of [`content`](Self::content) as read.
    pub(super) fn consume(&mut self, count: usize) {
        self.source.consume(count);
        self.remaining -= count as u64;
        self.position += count as u64;
    }

    fn begin_content(&mut self, header: &Header, entry: &mut TarEntry) -> io::Result<()> {
        if entry.kind == EntryKind::Regular && header.entry_type() == EntryType::GNUSparse {
            entry.sparse = Some(self.gnu_sparse(header)?);
        }
        self.remaining = entry.size;
        self.padding = padding(entry.size)?;
        if entry.sparse.as_ref().is_some_and(|s| s.map_in_content) {
            self.sparse_map(entry)?;
        }
        if let Some(sparse) = &entry.sparse {
            sparse.check(entry.size)?;
        }
        Ok(())
    }

    fn header(&mut self) -> io::Result<Option<Header>> {
        let rest = self.remaining.checked_add(self.padding).ok_or_else(|| invalid("an entry's size overflows"))?;
        self.source.skip(rest)?;
        self.position += rest;
        (self.remaining, self.padding) = (0, 0);
        let mut header = Header::new_old();
        // Archives without the closing blocks of zeros exist.
        if self.source.fill_buf()?.is_empty() {
            return Ok(None);
        }
        self.read_block(header.as_mut_bytes())?;
        let bytes = header.as_bytes();
        if bytes.iter().all(|b| *b == 0) {
            return Ok(None);
        }
        let sum: u32 = bytes.iter().map(|b| u32::from(*b)).sum::<u32>()
            - bytes[148..156].iter().map(|b| u32::from(*b)).sum::<u32>()
            + 8 * u32::from(b' ');
        if header.cksum().ok() != Some(sum) {
            return Err(invalid("a header's checksum is wrong: this is no tar archive, or a damaged one"));
        }
        Ok(Some(header))
    }

    fn read_block(&mut self, block: &mut [u8; BLOCK as usize]) -> io::Result<()> {
        let mut filled = 0;
        while filled < block.len() {
            let buffer = self.source.fill_buf()?;
            if buffer.is_empty() {
                return Err(truncated());
            }
            let n = buffer.len().min(block.len() - filled);
            block[filled..filled + n].copy_from_slice(&buffer[..n]);
            self.source.consume(n);
            filled += n;
        }
        self.position += BLOCK;
        Ok(())
    }

    fn extension(&mut self, header: &Header) -> io::Result<Vec<u8>> {
        let size = header.entry_size()?;
        if size > MAX_EXTENSION {
            return Err(invalid("a name or an extended header is longer than 1 MiB"));
        }
        self.remaining = size;
        self.padding = padding(size)?;
        let mut bytes = Vec::new();
        loop {
            let piece = self.content()?;
            if piece.is_empty() {
                return Ok(bytes);
            }
            bytes.extend_from_slice(piece);
            let n = piece.len();
            self.consume(n);
        }
    }

    fn name_extension(&mut self, header: &Header) -> io::Result<Vec<u8>> {
        let mut name = self.extension(header)?;
        if let Some(end) = name.iter().position(|b| *b == 0) {
            name.truncate(end);
        }
        Ok(name)
    }

    /// The map of an old GNU sparse file: in the header, and in blocks that follow it.
    fn gnu_sparse(&mut self, header: &Header) -> io::Result<Sparse> {
        let gnu = header.as_gnu().ok_or_else(|| invalid("a sparse entry without a GNU header"))?;
        let mut sparse = Sparse { size: gnu.real_size()?, ..Sparse::default() };
        let mut add = |blocks: &[tar::GnuSparseHeader]| -> io::Result<()> {
            for block in blocks.iter().filter(|b| !b.is_empty()) {
                sparse.segments.push((block.offset()?, block.length()?));
            }
            if sparse.segments.len() > MAX_SEGMENTS { Err(invalid("a sparse file has too many holes")) } else { Ok(()) }
        };
        add(&gnu.sparse)?;
        let mut more = gnu.is_extended();
        while more {
            let mut extension = GnuExtSparseHeader::new();
            self.read_block(extension.as_mut_bytes())?;
            add(extension.sparse())?;
            more = extension.is_extended();
        }
        Ok(sparse)
    }

    /// The map of a PAX 1.0 sparse file: decimal lines at the beginning of the content, padded to a block.
    fn sparse_map(&mut self, entry: &mut TarEntry) -> io::Result<()> {
        let start = self.remaining;
        let mut numbers = Vec::new();
        let mut wanted = 1;
        while numbers.len() < wanted {
            numbers.push(self.decimal_line()?);
            if numbers.len() == 1 {
                let count = usize::try_from(numbers[0]).unwrap_or(usize::MAX);
                if count > MAX_SEGMENTS {
                    return Err(invalid("a sparse file has too many holes"));
                }
                wanted = 1 + 2 * count;
            }
        }
        let pad = padding(start - self.remaining)?;
        if pad > self.remaining {
            return Err(invalid("a sparse file's map is longer than its content"));
        }
        self.source.skip(pad)?;
        self.remaining -= pad;
        self.position += pad;
        entry.size = self.remaining;
        if let Some(sparse) = &mut entry.sparse {
            sparse.segments = numbers[1..].chunks_exact(2).map(|pair| (pair[0], pair[1])).collect();
        }
        Ok(())
    }

    fn decimal_line(&mut self) -> io::Result<u64> {
        let mut number: u64 = 0;
        loop {
            let Some(byte) = self.content()?.first().copied() else {
                return Err(invalid("a sparse file's map is cut off"));
            };
            self.consume(1);
            match byte {
                b'\n' => return Ok(number),
                b'0'..=b'9' => {
                    number = number
                        .checked_mul(10)
                        .and_then(|n| n.checked_add(u64::from(byte - b'0')))
                        .ok_or_else(|| invalid("a number in a sparse file's map overflows"))?;
                }
                _ => return Err(invalid("a sparse file's map is not numbers")),
            }
        }
    }
}

fn entry(header: &Header, long_name: Option<Vec<u8>>, long_link: Option<Vec<u8>>, pax: Pax) -> io::Result<TarEntry> {
    let path = pax.path.or(long_name).unwrap_or_else(|| header.path_bytes().into_owned());
    let link = pax.link.or(long_link).or_else(|| header.link_name_bytes().map(|l| l.into_owned())).unwrap_or_default();
    let (kind, has_content) = match header.entry_type() {
        EntryType::Regular if header.as_bytes()[156] == 0 && path.ends_with(b"/") => (EntryKind::Directory, true),
        EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => (EntryKind::Regular, true),
        EntryType::Directory => (EntryKind::Directory, false),
        EntryType::Symlink => (EntryKind::Symlink, false),
        EntryType::Link => (EntryKind::HardLink, false),
        EntryType::Char => (EntryKind::Char, false),
        EntryType::Block => (EntryKind::Block, false),
        EntryType::Fifo => (EntryKind::Fifo, false),
        other => (EntryKind::Unknown(other.as_byte()), true),
    };
    let size = match (has_content, pax.size) {
        (false, _) => 0,
        (true, Some(size)) => size,
        (true, None) => or_blank(header, SIZE, header.entry_size())?,
    };
    let device = match kind {
        EntryKind::Char | EntryKind::Block => {
            (header.device_major()?.unwrap_or(0), header.device_minor()?.unwrap_or(0))
        }
        _ => (0, 0),
    };
    Ok(TarEntry {
        path,
        link,
        kind,
        mode: or_blank(header, MODE, header.mode().map(u64::from))? as u32,
        uid: pax.uid.map_or_else(|| or_blank(header, UID, header.uid()), Ok)?,
        gid: pax.gid.map_or_else(|| or_blank(header, GID, header.gid()), Ok)?,
        // A time before 1970 is a negative number in base 256, which the crate reads as unsigned.
        mtime: pax
            .mtime
            .map_or_else(|| Ok::<_, io::Error>((or_blank(header, MTIME, header.mtime())? as i64, 0)), Ok)?,
        device,
        xattrs: pax.xattrs,
        sparse: pax.sparse.filter(|_| kind == EntryKind::Regular),
        size,
    })
}

/// Where the numbers of a header are (POSIX ustar).
const MODE: Range<usize> = 100..108;
const UID: Range<usize> = 108..116;
const GID: Range<usize> = 116..124;
const SIZE: Range<usize> = 124..136;
const MTIME: Range<usize> = 136..148;

/// A number that was left blank, as some writers do, is 0; the crate takes it for a broken one.
fn or_blank(header: &Header, field: Range<usize>, parsed: io::Result<u64>) -> io::Result<u64> {
    let blank = header.as_bytes()[field].iter().all(|byte| matches!(byte, 0 | b' '));
    if blank { Ok(0) } else { parsed }
}

fn padding(size: u64) -> io::Result<u64> {
    size.checked_next_multiple_of(BLOCK).map(|end| end - size).ok_or_else(|| invalid("an entry's size overflows"))
}

pub(super) fn invalid(reason: &'static str) -> io::Error {
    pax::invalid(reason)
}

fn truncated() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the archive ends in the middle of an entry: it is truncated")
}
