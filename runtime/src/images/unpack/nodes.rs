//! Making what an entry describes: files, directories, links, devices, whiteouts.

use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat, makedev, mknodat};
use rustix::io::Errno;

use super::Unpacker;
use super::attributes::{On, own, owner, set_opaque, timestamps};
use super::directory::{is_whiteout, kind, look, lookup_problem, open_beneath};
use super::name::Name;
use super::problem::Problem;
use crate::images::tarstream::{EntryKind, TarEntry, TarReader, TarSource};

impl Unpacker<'_> {
    pub(super) fn node<R: TarSource>(
        &mut self,
        reader: &mut TarReader<R>,
        entry: &TarEntry,
        parent: &[u8],
        leaf: &[u8],
    ) -> Result<(), Problem> {
        let parent = self.directory(parent)?;
        let parent: BorrowedFd<'_> = (*parent).as_fd();
        match entry.kind {
            EntryKind::Regular => self.file(reader, entry, parent, leaf),
            EntryKind::Directory => self.directory_entry(entry, parent, leaf),
            EntryKind::HardLink => self.hard_link(entry, parent, leaf),
            EntryKind::Symlink => {
                if entry.link.is_empty() || entry.link.contains(&0) {
                    return Err(Problem::BadName);
                }
                self.make(parent, leaf, |parent, leaf| rustix::fs::symlinkat(entry.link.as_slice(), parent, leaf))?;
                self.dress_node(parent, leaf, entry, None)
            }
            EntryKind::Char => self.special(entry, parent, leaf, FileType::CharacterDevice),
            EntryKind::Block => self.special(entry, parent, leaf, FileType::BlockDevice),
            EntryKind::Fifo => self.special(entry, parent, leaf, FileType::Fifo),
            EntryKind::Unknown(kind) => Err(Problem::UnknownType { kind }),
        }
    }

    /// Runs `make`, and again after removing what stands in its way.
    fn make<T>(
        &mut self,
        parent: BorrowedFd<'_>,
        leaf: &[u8],
        make: impl Fn(BorrowedFd<'_>, &[u8]) -> Result<T, Errno>,
    ) -> Result<T, Problem> {
        self.count_inode(0)?;
        match make(parent, leaf) {
            Err(Errno::EXIST) => {}
            result => return result.map_err(|e| Problem::os("create", e)),
        }
        if let Some(stat) = look(parent, leaf)? {
            self.remove(parent, leaf, &stat)?;
        }
        make(parent, leaf).map_err(|e| Problem::os("create", e))
    }

    fn file<R: TarSource>(
        &mut self,
        reader: &mut TarReader<R>,
        entry: &TarEntry,
        parent: BorrowedFd<'_>,
        leaf: &[u8],
    ) -> Result<(), Problem> {
        let (uid, gid) = owner(entry)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = self
            .make(parent, leaf, |parent, leaf| rustix::fs::openat(parent, leaf, flags, Mode::from_raw_mode(0o600)))?;
        match &entry.sparse {
            None => write_at(reader, fd.as_fd(), 0, entry.size)?,
            Some(sparse) => {
                for (offset, length) in &sparse.segments {
                    write_at(reader, fd.as_fd(), *offset, *length)?;
                }
                rustix::fs::ftruncate(&fd, sparse.size).map_err(|e| Problem::os("write", e))?;
            }
        }
        own(fd.as_fd(), uid, gid, entry.mode)?;
        self.set_xattrs(On::Open(fd.as_fd()), entry)?;
        rustix::fs::futimens(&fd, &timestamps(entry.mtime)).map_err(|e| Problem::os("set the time of", e))
    }

    /// A directory that is there already stays with what is in it; anything else is replaced.
    fn directory_entry(&mut self, entry: &TarEntry, parent: BorrowedFd<'_>, leaf: &[u8]) -> Result<(), Problem> {
        let existing = look(parent, leaf)?;
        let mut hides_lower = false;
        if let Some(stat) = existing.filter(|stat| kind(stat) != FileType::Directory) {
            self.remove(parent, leaf, &stat)?;
            // A whiteout or a file took the place of what the layers below have: it must not show again.
            hides_lower = !self.is_base();
        }
        self.make_directory(parent, leaf, hides_lower)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
        let fd = open_beneath(parent, leaf, flags).map_err(lookup_problem)?;
        self.dress_directory(fd.as_fd(), entry)
    }

    fn hard_link(&mut self, entry: &TarEntry, parent: BorrowedFd<'_>, leaf: &[u8]) -> Result<(), Problem> {
        let target = || String::from_utf8_lossy(&entry.link).into_owned();
        let out = |reason: Problem| match reason {
            Problem::Absolute | Problem::ClimbsOut | Problem::SymlinkOut => {
                Problem::HardLinkOut { target: target(), reason: Box::new(reason) }
            }
            other => other,
        };
        let name = Name::parse(&entry.link, self.layer.limits.max_path_bytes).map_err(out)?;
        let (above, from) = name.split().ok_or_else(|| Problem::HardLinkDirectory { target: target() })?;
        let source = match open_beneath(self.root.as_fd(), above, OFlags::PATH | OFlags::DIRECTORY) {
            Ok(fd) => fd,
            Err(Errno::NOENT | Errno::NOTDIR) => return Err(Problem::HardLinkMissing { target: target() }),
            Err(e) => return Err(out(lookup_problem(e))),
        };
        let stat = match look(source.as_fd(), from)? {
            Some(stat) if !is_whiteout(&stat) => stat,
            _ => return Err(Problem::HardLinkMissing { target: target() }),
        };
        if kind(&stat) == FileType::Directory {
            return Err(Problem::HardLinkDirectory { target: target() });
        }
        if let Some(existing) = look(parent, leaf)? {
            if (existing.st_dev, existing.st_ino) == (stat.st_dev, stat.st_ino) {
                return Ok(());
            }
            // What is in the way may be a directory that holds the target: then the link below fails with ENOENT.
            self.remove(parent, leaf, &existing)?;
        }
        match rustix::fs::linkat(&source, from, parent, leaf, AtFlags::empty()) {
            Ok(()) => Ok(()),
            Err(Errno::NOENT) => Err(Problem::HardLinkMissing { target: target() }),
            Err(e) => Err(Problem::os("link", e)),
        }
    }

    fn special(
        &mut self,
        entry: &TarEntry,
        parent: BorrowedFd<'_>,
        leaf: &[u8],
        kind: FileType,
    ) -> Result<(), Problem> {
        let device = match kind {
            FileType::Fifo => 0,
            _ if entry.device == (0, 0) => return Err(Problem::WhiteoutDevice),
            _ => makedev(entry.device.0, entry.device.1),
        };
        let mode = Mode::from_raw_mode(0o600);
        self.make(parent, leaf, |parent, leaf| mknodat(parent, leaf, kind, mode, device))?;
        self.dress_node(parent, leaf, entry, Some(entry.mode))
    }

    /// Removes a name from the layers below. What this layer itself has at the name stays, wherever the whiteout
    /// stands in the archive: a file hides the lower one anyway, a directory is made to.
    pub(super) fn whiteout(&mut self, parent: &[u8], hidden: &[u8]) -> Result<(), Problem> {
        if self.is_base() {
            return Ok(());
        }
        let parent = self.directory(parent)?;
        match look(parent.as_fd(), hidden)? {
            Some(stat) => self.hide_lower(parent.as_fd(), hidden, &stat),
            None => {
                self.count_inode(0)?;
                let mode = Mode::from_raw_mode(0o600);
                mknodat(&*parent, hidden, FileType::CharacterDevice, mode, 0)
                    .map_err(|e| Problem::os("create a whiteout for", e))
            }
        }
    }

    fn hide_lower(&mut self, parent: BorrowedFd<'_>, leaf: &[u8], stat: &Stat) -> Result<(), Problem> {
        if kind(stat) != FileType::Directory {
            return Ok(());
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
        let fd = open_beneath(parent, leaf, flags).map_err(lookup_problem)?;
        set_opaque(fd.as_fd())
    }

    /// Hides everything that the layers below have in a directory.
    pub(super) fn opaque(&mut self, directory: &[u8]) -> Result<(), Problem> {
        if self.is_base() {
            return Ok(());
        }
        if directory.is_empty() {
            self.contents.opaque_root = true;
            return Ok(());
        }
        self.directory(directory)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let fd = open_beneath(self.root.as_fd(), directory, flags).map_err(lookup_problem)?;
        set_opaque(fd.as_fd())
    }
}

/// Writes `length` bytes of the entry's content at `offset`.
fn write_at<R: TarSource>(
    reader: &mut TarReader<R>,
    fd: BorrowedFd<'_>,
    mut offset: u64,
    mut length: u64,
) -> Result<(), Problem> {
    while length > 0 {
        let piece = reader.content().map_err(Problem::Stream)?;
        let piece = &piece[..piece.len().min(usize::try_from(length).unwrap_or(usize::MAX))];
        let n =
            rustix::io::retry_on_intr(|| rustix::io::pwrite(fd, piece, offset)).map_err(|e| Problem::os("write", e))?;
        if n == 0 {
            return Err(Problem::os("write", Errno::IO));
        }
        reader.consume(n);
        offset += n as u64;
        length -= n as u64;
    }
    Ok(())
}
