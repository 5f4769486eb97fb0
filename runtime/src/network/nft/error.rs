//! What can go wrong between this process and the kernel's tables.

use std::io;

/// The result of work on the tables.
pub type Result<T> = std::result::Result<T, Error>;

/// A failure of nftables or of connection tracking.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The socket itself.
    #[error("{operation}: {source}")]
    Socket {
        /// What was tried.
        operation: String,
        /// The kernel's word.
        source: io::Error,
    },
    /// The kernel refused one change, and with it the whole batch: nothing of it is in effect.
    #[error("nftables: {object}: {source}{}", detail(.hint))]
    Refused {
        /// Which object of the batch, such as `add set pod_addresses4`.
        object: String,
        /// The kernel's word.
        source: io::Error,
        /// What the kernel adds to it; mostly nothing.
        hint: String,
    },
    /// Rules that cannot be put into the table.
    #[error("{0}")]
    Invalid(String),
}

fn detail(hint: &str) -> String {
    if hint.is_empty() { String::new() } else { format!(" ({hint})") }
}

/// Names the operation that an I/O error belongs to.
pub trait During<T> {
    /// Turns an error into [`Error::Socket`] of `operation`.
    fn during(self, operation: &str) -> Result<T>;
}

impl<T, E: Into<io::Error>> During<T> for std::result::Result<T, E> {
    fn during(self, operation: &str) -> Result<T> {
        self.map_err(|error| Error::Socket { operation: operation.to_owned(), source: error.into() })
    }
}
