//! Exec and attach: standard input, output and error, a terminal's size, and how it ended.

mod client;
mod protocol;
mod server;
mod sizes;
mod status;

pub use client::{Client, Outcome, Resizer};
pub use protocol::{Options, Protocol, Version, Wire};
pub use server::{Control, Resizes, Server};
pub use status::Status;

/// The size of a terminal, in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Columns.
    pub width: u16,
    /// Rows.
    pub height: u16,
}

/// For fuzzers: reads bytes as all that this protocol knows.
pub(super) fn read_anything(data: &[u8]) {
    let _ = Status::read(data, Version::V1);
    if let Ok(status) = Status::read(data, Version::V4) {
        let again = Status::read(&status.write(Version::V4), Version::V4);
        assert!(again.is_ok(), "{status:?} was read, and is not read again");
    }
    let mut pending = data.to_vec();
    while let Some(Some(_)) = sizes::next(&mut pending) {}
}
