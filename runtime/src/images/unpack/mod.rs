//! Unpacks one layer into its directory, and nowhere else.
//!
//! Every path goes through the kernel's own confinement (`openat2` with RESOLVE_BENEATH) from the layer's descriptor;
//! then one call works on one name in the directory found. What the layer says about lower layers (whiteouts, opaque
//! directories) becomes what overlay reads: devices 0:0 and `trusted.overlay.opaque`.

mod attributes;
mod directory;
mod finish;
mod name;
mod nodes;
mod problem;

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags};

pub use problem::Problem;

use self::directory::Parents;
use self::finish::Mark;
use self::name::{Name, Whiteout};
use super::error::Error;
use super::tarstream::{EntryKind, TarEntry, TarReader, TarSource};
use super::{Limits, space};

/// What unpacking one layer needs to know.
pub(super) struct Layer<'a> {
    /// Its name in messages.
    pub name: &'a str,
    /// The directory to fill, empty.
    pub target: &'a Path,
    /// The directories of the layers below, lowest first.
    pub lower: &'a [PathBuf],
    /// Returns when the layers below are whole: only the end of unpacking looks into them.
    pub lower_ready: &'a (dyn Fn() -> Result<(), Error> + Sync),
    pub limits: &'a Limits,
}

/// What a layer turned out to hold.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Contents {
    /// Bytes of the files' content.
    pub bytes: u64,
    /// The same in whole blocks, directories included.
    pub disk_bytes: u64,
    pub inodes: u64,
    pub opaque_root: bool,
    /// Attributes that this filesystem cannot keep.
    pub skipped_xattrs: u64,
}

/// The block of nearly every filesystem: what a small file costs at least.
const DISK_BLOCK: u64 = 4096;
/// Free space is looked at again after this many bytes or entries.
const CHECK_BYTES: u64 = 64 << 20;
const CHECK_ENTRIES: u64 = 1024;

/// Unpacks the whole of `reader`. On an error the target holds a part, for the caller to throw away.
pub(super) fn unpack<R: TarSource>(reader: &mut TarReader<R>, layer: &Layer<'_>) -> Result<Contents, Error> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let root =
        rustix::fs::openat(CWD, layer.target, flags, Mode::empty()).map_err(|e| Error::io("open", layer.target, e))?;
    let mut unpacker = Unpacker {
        layer,
        parents: Parents::default(),
        marks: Vec::new(),
        contents: Contents::default(),
        entries: 0,
        unchecked: (0, 0),
        root,
    };
    space::check(layer.target, 0, 0)?;
    while let Some(entry) = reader.next().map_err(|e| layer_error(layer.name, e))? {
        unpacker.count(&entry)?;
        if let Err(problem) = unpacker.entry(reader, &entry) {
            return Err(unpacker.explain(&entry, problem));
        }
    }
    (layer.lower_ready)()?;
    finish::run(&unpacker.root, &mut unpacker.marks, layer.lower)
        .map_err(|problem| unpacker.explain_path("", problem))?;
    Ok(unpacker.contents)
}

pub(super) fn layer_error(name: &str, source: std::io::Error) -> Error {
    Error::Layer { layer: name.to_owned(), source }
}

struct Unpacker<'a> {
    layer: &'a Layer<'a>,
    root: OwnedFd,
    parents: Parents,
    /// Directories whose times or attributes are set last.
    marks: Vec<Mark>,
    contents: Contents,
    entries: u64,
    /// Bytes and entries since free space was last looked at.
    unchecked: (u64, u64),
}

impl Unpacker<'_> {
    /// Holds the layer to its limits before anything of the entry is made.
    fn count(&mut self, entry: &TarEntry) -> Result<(), Error> {
        let limits = self.layer.limits;
        self.entries += 1;
        self.check_entries()?;
        self.contents.bytes = self.contents.bytes.saturating_add(entry.size);
        if self.contents.bytes > limits.max_bytes {
            return Err(limit(self.layer.name, "bytes", limits.max_bytes, "--max-bytes"));
        }
        self.contents.disk_bytes = self.contents.disk_bytes.saturating_add(entry.size.next_multiple_of(DISK_BLOCK));
        self.unchecked = (self.unchecked.0.saturating_add(entry.size), self.unchecked.1 + 1);
        if self.unchecked.0 >= CHECK_BYTES || self.unchecked.1 >= CHECK_ENTRIES {
            self.unchecked = (0, 0);
            space::check(self.layer.target, entry.size, 0)?;
        }
        Ok(())
    }

    fn check_entries(&self) -> Result<(), Error> {
        let limit_entries = self.layer.limits.max_entries;
        if self.entries.max(self.contents.inodes) > limit_entries {
            return Err(limit(self.layer.name, "entries", limit_entries, "--max-entries"));
        }
        Ok(())
    }

    fn entry<R: TarSource>(&mut self, reader: &mut TarReader<R>, entry: &TarEntry) -> Result<(), Problem> {
        let name = Name::parse(&entry.path, self.layer.limits.max_path_bytes)?;
        let Some((parent, leaf)) = name.split() else {
            return self.root_entry(entry);
        };
        match name.whiteout()? {
            Some(Whiteout::Ignored) => return Ok(()),
            Some(Whiteout::Opaque) => return self.opaque(parent),
            Some(Whiteout::Of(hidden)) => return self.whiteout(parent, hidden),
            None => {}
        }
        if let EntryKind::Unknown(kind) = entry.kind {
            return Err(Problem::UnknownType { kind });
        }
        self.node(reader, entry, parent, leaf)
    }

    /// `./`: the layer's own directory.
    fn root_entry(&mut self, entry: &TarEntry) -> Result<(), Problem> {
        if entry.kind != EntryKind::Directory {
            return Err(Problem::RootNotDirectory);
        }
        let root = self.root.try_clone().map_err(|e| Problem::os("open", e))?;
        self.dress_directory(root.as_fd(), entry)
    }

    fn is_base(&self) -> bool {
        self.layer.lower.is_empty()
    }

    fn explain(&self, entry: &TarEntry, problem: Problem) -> Error {
        self.explain_path(&String::from_utf8_lossy(&entry.path), problem)
    }

    fn explain_path(&self, path: &str, problem: Problem) -> Error {
        match problem {
            Problem::Os { source, .. } if space::is_full(&source) => space::full(self.layer.target, None),
            Problem::Stream(source) => layer_error(self.layer.name, source),
            Problem::TooManyEntries => {
                limit(self.layer.name, "entries", self.layer.limits.max_entries, "--max-entries")
            }
            Problem::PathTooLong { limit: bytes } => {
                limit(&format!("{}, entry {path:?}: the path", self.layer.name), "bytes", bytes, "--max-path-bytes")
            }
            problem => Error::Entry { layer: self.layer.name.to_owned(), entry: path.to_owned(), problem },
        }
    }
}

pub(super) fn limit(layer: &str, unit: &'static str, limit: u64, flag: &'static str) -> Error {
    Error::Limit { what: format!("layer {layer}"), unit, limit, flag }
}
