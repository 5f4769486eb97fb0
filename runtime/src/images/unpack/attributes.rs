//! Owners, modes, times and extended attributes.

use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::fs::{
    AtFlags, Gid, Mode, Timespec, Timestamps, UTIME_OMIT, Uid, XattrFlags, fchmod, fchown, fsetxattr, lsetxattr,
};
use rustix::io::Errno;

use super::Unpacker;
use super::finish::Mark;
use super::problem::Problem;
use crate::images::tarstream::TarEntry;

const OPAQUE: &str = "trusted.overlay.opaque";
/// What overlay obeys, with and without its `userxattr` option.
const RESERVED: [&[u8]; 2] = [b"trusted.overlay.", b"user.overlay."];
/// Labels of the host that built the image.
const FOREIGN: &[u8] = b"security.selinux";

/// User and group of an entry. The number -1 would mean "leave it", so the file would stay root's.
pub(super) fn owner(entry: &TarEntry) -> Result<(u32, u32), Problem> {
    let id = |id: u64| u32::try_from(id).ok().filter(|id| *id != u32::MAX).ok_or(Problem::Owner { id });
    Ok((id(entry.uid)?, id(entry.gid)?))
}

/// Sets owner and mode, in this order: a change of owner clears set-user-id.
pub(super) fn own(fd: BorrowedFd<'_>, uid: u32, gid: u32, mode: u32) -> Result<(), Problem> {
    fchown(fd, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))
        .map_err(|e| Problem::os("change the owner of", e))?;
    fchmod(fd, Mode::from_raw_mode(mode & 0o7777)).map_err(|e| Problem::os("change the mode of", e))
}

pub(super) fn timestamps((tv_sec, nanos): (i64, u32)) -> Timestamps {
    Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec, tv_nsec: nanos.into() },
    }
}

pub(super) fn set_opaque(fd: BorrowedFd<'_>) -> Result<(), Problem> {
    fsetxattr(fd, OPAQUE, b"y", XattrFlags::empty()).map_err(|e| Problem::os("mark as opaque", e))
}

/// What an attribute is set on.
#[derive(Clone, Copy)]
pub(super) enum On<'a> {
    Open(BorrowedFd<'a>),
    /// A link, fifo or device, which is not opened, in its directory.
    Name(BorrowedFd<'a>, &'a [u8]),
}

impl Unpacker<'_> {
    /// Sets an entry's extended attributes, after its owner: a change of owner clears capabilities.
    pub(super) fn set_xattrs(&mut self, on: On<'_>, entry: &TarEntry) -> Result<(), Problem> {
        for (name, value) in &entry.xattrs {
            if RESERVED.iter().any(|reserved| name.starts_with(reserved)) {
                return Err(Problem::ReservedXattr { name: String::from_utf8_lossy(name).into_owned() });
            }
            if name == FOREIGN {
                continue;
            }
            let result = match on {
                On::Open(fd) => fsetxattr(fd, name.as_slice(), value, XattrFlags::empty()),
                On::Name(parent, leaf) => {
                    let mut path = format!("/proc/self/fd/{}/", parent.as_raw_fd()).into_bytes();
                    path.extend_from_slice(leaf);
                    lsetxattr(path, name.as_slice(), value, XattrFlags::empty())
                }
            };
            match result {
                Ok(()) => {}
                Err(Errno::OPNOTSUPP) => self.contents.skipped_xattrs += 1,
                // The kernel keeps `user.` for files and directories alone.
                Err(Errno::PERM) if name.starts_with(b"user.") => self.contents.skipped_xattrs += 1,
                // ext4 keeps one block of attributes and says that the disk is full.
                Err(Errno::NOSPC | Errno::TOOBIG | Errno::RANGE) if self.has_space() => {
                    return Err(Problem::LargeXattr { name: String::from_utf8_lossy(name).into_owned() });
                }
                Err(e) => return Err(Problem::os("set an attribute of", e)),
            }
        }
        Ok(())
    }

    fn has_space(&self) -> bool {
        crate::images::space::check(self.layer.target, 0, 0).is_ok()
    }

    /// Everything about a directory but its time, which its entries would change again.
    pub(super) fn dress_directory(&mut self, fd: BorrowedFd<'_>, entry: &TarEntry) -> Result<(), Problem> {
        let (uid, gid) = owner(entry)?;
        own(fd, uid, gid, entry.mode)?;
        self.set_xattrs(On::Open(fd), entry)?;
        let inode = rustix::fs::fstat(fd).map_err(|e| Problem::os("look at", e))?.st_ino;
        self.marks.push(Mark { inode, time: entry.mtime, implicit: false });
        Ok(())
    }

    /// Everything about a link, fifo or device that stands at `leaf`.
    pub(super) fn dress_node(
        &mut self,
        parent: BorrowedFd<'_>,
        leaf: &[u8],
        entry: &TarEntry,
        mode: Option<u32>,
    ) -> Result<(), Problem> {
        let (uid, gid) = owner(entry)?;
        rustix::fs::chownat(
            parent,
            leaf,
            Some(Uid::from_raw(uid)),
            Some(Gid::from_raw(gid)),
            AtFlags::SYMLINK_NOFOLLOW,
        )
        .map_err(|e| Problem::os("change the owner of", e))?;
        if let Some(mode) = mode {
            // Nobody else writes here, and what stands at the name is what was just made: no link to follow.
            rustix::fs::chmodat(parent, leaf, Mode::from_raw_mode(mode & 0o7777), AtFlags::empty())
                .map_err(|e| Problem::os("change the mode of", e))?;
        }
        self.set_xattrs(On::Name(parent, leaf), entry)?;
        rustix::fs::utimensat(parent, leaf, &timestamps(entry.mtime), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|e| Problem::os("set the time of", e))
    }
}
