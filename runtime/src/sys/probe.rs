//! Whether the kernel has a system call, asked in a way that does nothing.
#![allow(unsafe_code)]

use std::io;

/// Whether clone3(2) can be called here: neither missing nor refused by a seccomp filter.
pub fn has_clone3() -> bool {
    // SAFETY: a size of zero is refused before the pointer is looked at, and nothing is cloned.
    unsafe { libc::syscall(libc::SYS_clone3, std::ptr::null::<u8>(), 0) };
    io::Error::last_os_error().raw_os_error() == Some(libc::EINVAL)
}

/// Whether mount_setattr(2) can be called here.
pub fn has_mount_setattr() -> bool {
    // SAFETY: a size of zero is refused before the pointers are looked at, and nothing is changed.
    unsafe { libc::syscall(libc::SYS_mount_setattr, -1, c"".as_ptr(), 0, std::ptr::null::<u8>(), 0) };
    io::Error::last_os_error().raw_os_error() == Some(libc::EINVAL)
}
