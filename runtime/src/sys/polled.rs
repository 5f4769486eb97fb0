//! Descriptors that tasks wait for.
#![allow(unsafe_code)]

use std::io;
use std::ops::Deref;
use std::os::fd::OwnedFd;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A descriptor under the async runtime's care. It is lent, and never given out to be changed: another one in its place
/// would be waited for under its name.
#[derive(Debug)]
pub struct Polled(AsyncFd<OwnedFd>);

/// Puts a descriptor under the async runtime's care.
pub fn polled(fd: OwnedFd, interest: Interest) -> io::Result<Polled> {
    // SAFETY: an OwnedFd is open as long as it lives and never stands for another descriptor. It lives in the AsyncFd, and
    // that in a Polled, which lends it as shared alone: nobody can put another one in its place or take it out.
    Ok(Polled(unsafe { AsyncFd::register_with_interest(fd, interest) }?))
}

impl Deref for Polled {
    type Target = AsyncFd<OwnedFd>;

    fn deref(&self) -> &AsyncFd<OwnedFd> {
        &self.0
    }
}
