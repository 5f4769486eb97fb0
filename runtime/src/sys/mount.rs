//! mount_setattr(2), which no library wraps (Linux 5.12).
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// What to change of a mount: `MOUNT_ATTR_*` bits to set and to clear, and a propagation (`MS_PRIVATE`, `MS_SLAVE`,
/// `MS_SHARED`), 0 to leave it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Attributes<'a> {
    /// Bits to set.
    pub set: u64,
    /// Bits to clear.
    pub clear: u64,
    /// New propagation, or 0.
    pub propagation: u64,
    /// With [`IDMAP`] set: the user namespace by which the mount's ids are mapped.
    pub user_namespace: Option<BorrowedFd<'a>>,
}

/// Read-only.
pub const RDONLY: u64 = 0x1;
/// Set-user-ID means nothing.
pub const NOSUID: u64 = 0x2;
/// Device nodes cannot be opened.
pub const NODEV: u64 = 0x4;
/// Programs cannot be executed.
pub const NOEXEC: u64 = 0x8;
/// Ids are mapped (linux/mount.h, MOUNT_ATTR_IDMAP; Linux 5.12).
pub const IDMAP: u64 = 0x0010_0000;

/// Changes the mount that `mount` is the root of, and with `recursive` every mount below it.
pub fn set_attributes(mount: BorrowedFd<'_>, recursive: bool, attributes: Attributes<'_>) -> io::Result<()> {
    // linux/mount.h, struct mount_attr.
    let user_namespace = attributes.user_namespace.map_or(0, |fd| fd.as_raw_fd() as u64);
    let value: [u64; 4] = [attributes.set, attributes.clear, attributes.propagation, user_namespace];
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: an empty C string, and a structure of the size that is passed, alive during the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            value.as_ptr(),
            size_of_val(&value),
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
