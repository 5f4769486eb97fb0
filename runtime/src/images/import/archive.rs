//! An archive file as named parts that can be read in any order.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crate::images::decompress::{Compression, Decompressor};
use crate::images::digest::Digest;
use crate::images::error::Error;
use crate::images::section::Section;
use crate::images::space;
use crate::images::tarstream::{EntryKind, TarReader, TarSource};
use crate::images::temporary::Temporary;

/// Parts of an archive: images have a few hundred at most.
const MAX_MEMBERS: usize = 100_000;
/// A document: manifests are kilobytes, the registries refuse more than 4 MiB.
const MAX_DOCUMENT: u64 = 8 << 20;
/// Links from one part to another.
const MAX_LINKS: usize = 8;

enum Member {
    File { offset: u64, size: u64 },
    Link(String),
}

/// An archive that is open and indexed.
pub(super) struct Archive {
    path: PathBuf,
    file: File,
    members: HashMap<String, Member>,
}

impl Archive {
    /// Opens and indexes an archive; one that is compressed as a whole is decompressed into `work` first.
    pub(super) fn open(path: &Path, work: &Temporary) -> Result<Archive, Error> {
        let file = File::open(path).map_err(|e| Error::io("open", path, e))?;
        let meta = file.metadata().map_err(|e| Error::io("look at", path, e))?;
        let mut archive = Archive { path: path.to_owned(), file, members: HashMap::new() };
        if !meta.is_file() {
            return Err(archive.error("is not a file; expected an oci-archive or docker-archive"));
        }
        let mut source = BufReader::with_capacity(64 << 10, archive.reopen()?);
        let start = source.fill_buf().map_err(|e| archive.unreadable(e))?;
        if start.is_empty() {
            return Err(archive.error("is empty"));
        }
        if Compression::of(start) != Compression::None {
            archive.file = archive.decompress(source, &work.path().join("archive"))?;
        }
        archive.index()?;
        Ok(archive)
    }

    fn decompress(&self, source: BufReader<File>, target: &Path) -> Result<File, Error> {
        let mut decoder = Decompressor::new(source).map_err(|e| self.unreadable(e))?;
        let mut file = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(target)
            .map_err(|e| Error::io("create", target, e))?;
        let mut buffer = vec![0; 1 << 20];
        loop {
            let n = decoder.read(&mut buffer).map_err(|e| self.unreadable(e))?;
            if n == 0 {
                return Ok(file);
            }
            // An archive that decompresses without end stops at the disk's reserve.
            space::check(target, n as u64, 0)?;
            file.write_all(&buffer[..n]).map_err(|e| Error::io("write", target, e))?;
        }
    }

    fn index(&mut self) -> Result<(), Error> {
        let length = self.file.metadata().map_err(|e| Error::io("look at", &self.path, e))?.len();
        let mut file = self.reopen()?;
        file.seek(SeekFrom::Start(0)).map_err(|e| self.unreadable(e))?;
        let mut reader = TarReader::new(SeekSource(BufReader::with_capacity(16 << 10, file)));
        while let Some(entry) = reader.next().map_err(|e| self.unreadable(e))? {
            let name = plain(&String::from_utf8_lossy(&entry.path));
            let link = String::from_utf8_lossy(&entry.link);
            let offset = reader.position();
            if offset.saturating_add(entry.size) > length {
                let reason = format!("is truncated: it ends at {length} bytes, in the middle of {name}");
                return Err(self.error(reason));
            }
            let member = match entry.kind {
                EntryKind::Regular if entry.sparse.is_none() => Member::File { offset, size: entry.size },
                EntryKind::HardLink => Member::Link(plain(&link)),
                EntryKind::Symlink => Member::Link(relative(&name, &link)),
                _ => continue,
            };
            self.members.insert(name, member);
            if self.members.len() > MAX_MEMBERS {
                return Err(self.error("has too many parts for an image archive"));
            }
        }
        Ok(())
    }

    /// The file with a position shared by nobody who reads at the same time: all other reads say where.
    fn reopen(&self) -> Result<File, Error> {
        self.file.try_clone().map_err(|e| Error::io("open", &self.path, e))
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.members.contains_key(name)
    }

    /// Where a part is, through links.
    pub(super) fn locate(&self, name: &str) -> Result<(u64, u64), Error> {
        let mut at = plain(name);
        for _ in 0..MAX_LINKS {
            match self.members.get(&at) {
                Some(Member::File { offset, size }) => return Ok((*offset, *size)),
                Some(Member::Link(to)) => at = to.clone(),
                None => return Err(self.error(format!("lacks {name}; the archive is incomplete"))),
            }
        }
        Err(self.error(format!("has too many links behind {name}")))
    }

    pub(super) fn part(&self, offset: u64, size: u64) -> Result<Section, Error> {
        Ok(Section::new(self.reopen()?, offset, size))
    }

    /// A part that is a document, whole.
    pub(super) fn document(&self, name: &str) -> Result<Vec<u8>, Error> {
        let (offset, size) = self.locate(name)?;
        if size > MAX_DOCUMENT {
            return Err(self.error(format!("has a {name} of {size} bytes, too large for a document")));
        }
        let mut bytes = Vec::with_capacity(size as usize);
        self.part(offset, size)?.read_to_end(&mut bytes).map_err(|e| self.unreadable(e))?;
        Ok(bytes)
    }

    /// A document of the layout's blobs, its length and digest verified.
    pub(super) fn blob(&self, digest: &Digest, size: u64, what: &str) -> Result<Vec<u8>, Error> {
        let bytes = self.document(&blob_name(digest))?;
        self.verify(&bytes, digest, Some(size), what)?;
        Ok(bytes)
    }

    pub(super) fn verify(&self, bytes: &[u8], digest: &Digest, size: Option<u64>, what: &str) -> Result<(), Error> {
        let what = || format!("{}: the {what}", self.path.display());
        let actual = bytes.len() as u64;
        if let Some(expected) = size.filter(|expected| *expected != actual) {
            return Err(Error::Size { what: what(), expected, actual });
        }
        let found = Digest::of(bytes);
        if found != *digest {
            return Err(Error::DigestMismatch { what: what(), expected: digest.clone(), actual: found });
        }
        Ok(())
    }

    pub(super) fn parse<T: serde::de::DeserializeOwned>(&self, bytes: &[u8], what: &str) -> Result<T, Error> {
        serde_json::from_slice(bytes).map_err(|e| self.error(format!("has a broken {what}: {e}")))
    }

    pub(super) fn error(&self, reason: impl Into<String>) -> Error {
        Error::Archive { path: self.path.clone(), reason: reason.into() }
    }

    pub(super) fn unreadable(&self, source: io::Error) -> Error {
        self.error(format!("cannot be read as an image archive: {source}"))
    }
}

/// Where an OCI layout keeps a blob.
pub(super) fn blob_name(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

/// A part's name without `./`, as other parts name it.
fn plain(name: &str) -> String {
    relative("", name)
}

/// What a symbolic link in the directory of `name` points at. Names are looked up, never opened: `..` is harmless.
fn relative(name: &str, link: &str) -> String {
    let mut parts: Vec<&str> = name.split('/').filter(|part| !part.is_empty()).collect();
    parts.pop();
    for part in link.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// A file, in which content is passed over by seeking.
struct SeekSource(BufReader<File>);

impl Read for SeekSource {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl BufRead for SeekSource {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.0.fill_buf()
    }

    fn consume(&mut self, count: usize) {
        self.0.consume(count);
    }
}

impl TarSource for SeekSource {
    fn skip(&mut self, count: u64) -> io::Result<()> {
        let count = i64::try_from(count).map_err(|_| io::Error::from(io::ErrorKind::UnexpectedEof))?;
        self.0.seek_relative(count)
    }
}
