//! Who asks, and whether they may.

mod cache;
mod certificate;
mod rights;
mod token;
mod user;

pub use self::certificate::{Certificates, Unverified};
pub use self::rights::{Asked, Rights};
pub use self::token::Tokens;
pub use self::user::User;

/// Why it is not known.
#[derive(Debug, thiserror::Error)]
pub enum Unknown {
    /// The API server refused, or cannot be reached.
    #[error("ask the API server: {0}")]
    Refused(#[from] kube::Error),
    /// It has not answered.
    #[error("the API server has not answered for {0:?}")]
    Silent(std::time::Duration),
    /// So many ask that no more are asked about.
    #[error("too many questions wait for the API server")]
    Busy,
    /// Its answer says nothing.
    #[error("the API server's answer has no status")]
    Empty,
}
