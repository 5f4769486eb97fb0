//! The last pass over a layer: what could not be set on a directory while entries were still being made in it.
//!
//! Directories are remembered by inode number, 32 bytes each, not by path: a million of them must fit in memory.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use rustix::fs::{CWD, Dir, FileType, Mode, OFlags, XattrFlags, fgetxattr, flistxattr, fsetxattr, fstat, openat};
use rustix::io::Errno;

use super::attributes::{own, timestamps};
use super::directory::{is_whiteout, kind, look, open_beneath};
use super::problem::Problem;

/// A directory to see to at the end.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mark {
    pub inode: u64,
    pub time: (i64, u32),
    /// No entry describes it: it is as the layers below have it.
    pub implicit: bool,
}

/// Walks the layer and sees to every marked directory.
pub(super) fn run(root: &OwnedFd, marks: &mut Vec<Mark>, lower: &[PathBuf]) -> Result<(), Problem> {
    // Stable, so that of several marks on one directory the last is the last.
    marks.sort_by_key(|mark| mark.inode);
    let lower: Result<Vec<OwnedFd>, Errno> = lower
        .iter()
        .rev()
        .map(|path| openat(CWD, path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()))
        .collect();
    let walk = Walk { marks, lower: lower.map_err(|e| Problem::os("open a lower layer of", e))? };
    let mut path = Vec::new();
    walk.directory(root.as_fd(), &mut path)
}

struct Walk<'a> {
    marks: &'a [Mark],
    /// Highest first.
    lower: Vec<OwnedFd>,
}

impl Walk<'_> {
    fn directory(&self, fd: BorrowedFd<'_>, path: &mut Vec<CString>) -> Result<(), Problem> {
        let os = |e: Errno| Problem::os("walk through", e);
        for entry in Dir::read_from(fd).map_err(os)? {
            let entry = entry.map_err(os)?;
            let name = entry.file_name();
            let maybe_directory = matches!(entry.file_type(), FileType::Directory | FileType::Unknown);
            if !maybe_directory || name == c"." || name == c".." {
                continue;
            }
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            match openat(fd, name, flags, Mode::empty()) {
                Ok(child) => {
                    path.push(name.to_owned());
                    self.directory(child.as_fd(), path)?;
                    path.pop();
                }
                Err(Errno::NOTDIR | Errno::LOOP) => {}
                Err(e) => return Err(os(e)),
            }
        }
        self.finish(fd, path)
    }

    fn finish(&self, fd: BorrowedFd<'_>, path: &[CString]) -> Result<(), Problem> {
        let inode = fstat(fd).map_err(|e| Problem::os("look at", e))?.st_ino;
        let end = self.marks.partition_point(|mark| mark.inode <= inode);
        let Some(mark) = self.marks[..end].last().filter(|mark| mark.inode == inode) else { return Ok(()) };
        let mut time = mark.time;
        if mark.implicit
            && let Some(below) = self.below(path)?
        {
            let stat = fstat(&below).map_err(|e| Problem::os("look at a lower layer of", e))?;
            own(fd, stat.st_uid, stat.st_gid, stat.st_mode)?;
            copy_xattrs(below.as_fd(), fd)?;
            time = (stat.st_mtime, u32::try_from(stat.st_mtime_nsec).unwrap_or(0));
        }
        rustix::fs::futimens(fd, &timestamps(time)).map_err(|e| Problem::os("set the time of", e))
    }

    /// The directory of this path in the highest layer below that shows one.
    fn below(&self, path: &[CString]) -> Result<Option<OwnedFd>, Problem> {
        let names: Vec<&CStr> = path.iter().map(|name| name.as_c_str()).collect();
        for layer in &self.lower {
            match find(layer, &names)? {
                Found::Directory(fd) => return Ok(Some(fd)),
                Found::Hidden => return Ok(None),
                Found::Nothing => {}
            }
        }
        Ok(None)
    }
}

enum Found {
    Directory(OwnedFd),
    /// Something stands in the way of the layers further down.
    Hidden,
    Nothing,
}

fn find(layer: &OwnedFd, names: &[&CStr]) -> Result<Found, Problem> {
    let os = |e: Errno| Problem::os("look into a lower layer of", e);
    let mut at = layer.try_clone().map_err(|e| Problem::os("open a lower layer of", e))?;
    let mut opaque = false;
    for name in names {
        opaque |= has_opaque(at.as_fd());
        let missing = || if opaque { Found::Hidden } else { Found::Nothing };
        match look(at.as_fd(), name.to_bytes())? {
            None => return Ok(missing()),
            Some(stat) if is_whiteout(&stat) || kind(&stat) != FileType::Directory => return Ok(Found::Hidden),
            Some(_) => {}
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
        at = open_beneath(at.as_fd(), name.to_bytes(), flags).map_err(os)?;
    }
    Ok(Found::Directory(at))
}

fn has_opaque(fd: BorrowedFd<'_>) -> bool {
    let mut value = [0u8; 1];
    matches!(fgetxattr(fd, "trusted.overlay.opaque", &mut value), Ok(1) if value[0] == b'y')
}

fn copy_xattrs(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Result<(), Problem> {
    let os = |e: Errno| Problem::os("copy an attribute of a lower layer to", e);
    let mut names = vec![0u8; 64 << 10];
    let length = match flistxattr(from, &mut names) {
        Ok(length) => length,
        Err(Errno::OPNOTSUPP) => return Ok(()),
        Err(e) => return Err(os(e)),
    };
    let mut value = vec![0u8; 64 << 10];
    for name in names[..length].split(|b| *b == 0).filter(|name| !name.is_empty()) {
        if name.starts_with(b"trusted.overlay.") || name == b"security.selinux" {
            continue;
        }
        let length = fgetxattr(from, name, &mut value[..]).map_err(os)?;
        fsetxattr(to, name, &value[..length], XattrFlags::empty()).map_err(os)?;
    }
    Ok(())
}
