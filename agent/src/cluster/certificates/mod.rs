//! The node's certificates: the one by which it is known to the API server, and the one by which it is known to whoever
//! asks the node itself.
//!
//! Both lie, with their keys, in the directory of certificates, under kubelet's names.

mod files;
mod pair;
mod request;
pub mod rotation;
mod self_signed;
mod server;

use std::path::{Path, PathBuf};

pub use self::files::Files;
pub use self::pair::{Pair, valid_until};
pub use self::request::{Purpose, Refused, ask};
pub use self::server::ServerCertificate;

/// Where certificates are, below a root directory, if nothing else is said.
pub fn directory(root: &Path) -> PathBuf {
    root.join("pki")
}

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file of it cannot be read or written.
    #[error("{operation} {}: {source}", path.display())]
    File {
        /// What was tried.
        operation: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// What is there is no certificate with its key.
    #[error("{}: {why}", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: Unusable,
    },
    /// One cannot be made.
    #[error("make a certificate: {0}")]
    Make(#[from] rcgen::Error),
}

/// What is wrong with a certificate and its key.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    /// There is none.
    #[error("there is no certificate in it")]
    NoCertificate,
    /// It cannot be parsed.
    #[error("the certificate cannot be read: {0}")]
    Certificate(String),
    /// There is no key, or it cannot be parsed.
    #[error("the private key cannot be read: {0}")]
    Key(String),
    /// It is another one's.
    #[error("the private key is not the certificate's: {0}")]
    Mismatch(rustls::Error),
}

/// Writes a file for its owner alone, whole or not at all.
pub fn write(path: &Path, text: &str) -> Result<(), Error> {
    self_signed::write(path, text)
}

/// A certificate and its key, as PEM, for tests.
#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub fn made(host: &str, now: jiff::Timestamp) -> (String, String) {
    self_signed::make(host, &[], now).unwrap()
}

/// For `map_err`: what was tried with which file.
fn at<'a>(operation: &'static str, path: &'a Path) -> impl FnOnce(std::io::Error) -> Error + 'a {
    move |source| Error::File { operation, path: path.to_owned(), source }
}
