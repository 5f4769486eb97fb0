//! Descriptors that tasks wait for.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::OwnedFd;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Puts a descriptor under the async runtime's care.
pub fn polled(fd: OwnedFd, interest: Interest) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an OwnedFd is open as long as it lives and never stands for another descriptor; it lives in the AsyncFd,
    // which gives out no mutable access here that would be used to replace it.
    Ok(unsafe { AsyncFd::register_with_interest(fd, interest) }?)
}
