//! The errors of this crate, and the one place that says what kind each is.

use std::io;

use crate::images;
use crate::launch::LaunchFailure;

/// The result of what the runtime does.
pub type Result<T> = std::result::Result<T, Error>;

/// What went wrong.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A sandbox, container or session that is not there, or is somebody else's.
    #[error("{what} {id:?} was not found")]
    NotFound {
        /// `sandbox`, `container`, …
        what: &'static str,
        /// What was asked for.
        id: String,
    },
    /// The object is not in a state for it.
    #[error("{0}")]
    Conflict(String),
    /// The request asks for something that makes no sense or that this host does not have.
    #[error("{0}")]
    Invalid(String),
    /// An image.
    #[error(transparent)]
    Image(#[from] images::Error),
    /// An image that was to be mounted. Clients know it by its first word.
    #[error("ImageVolumeMountFailed: {0}")]
    ImageMount(Box<Error>),
    /// The pods' network.
    #[error(transparent)]
    Network(#[from] crate::network::Error),
    /// Control groups.
    #[error(transparent)]
    Cgroup(#[from] crate::cgroup::Error),
    /// A seccomp profile.
    #[error(transparent)]
    Seccomp(#[from] crate::seccomp::Error),
    /// The container's process could not be set up or run.
    #[error("{0}")]
    Launch(LaunchFailure),
    /// A shim did not answer, or said no.
    #[error("{operation}: {why}")]
    Shim {
        /// What it was asked.
        operation: String,
        /// Its answer.
        why: String,
    },
    /// Something took longer than it was given.
    #[error("{0}")]
    Timeout(String),
    /// A system call failed.
    #[error("{operation}: {source}")]
    Io {
        /// What was tried, with the path.
        operation: String,
        /// The kernel's word.
        source: io::Error,
    },
    /// This process was started for reading only, without a zygote.
    #[error("this process cannot start sandboxes: it was started to look at them")]
    NoZygote,
}

/// What kind of error it is: what a caller decides by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It does not exist.
    NotFound,
    /// It exists already, or is in the wrong state.
    Conflict,
    /// Asking again will not help.
    Invalid,
    /// A registry does not let us in.
    Unauthenticated,
    /// It may work later.
    Transient,
    /// It took too long.
    Timeout,
    /// None of these.
    Internal,
}

impl Error {
    /// What kind of error this is.
    pub fn kind(&self) -> Kind {
        match self {
            Self::NotFound { .. } => Kind::NotFound,
            Self::Conflict(_) => Kind::Conflict,
            Self::Invalid(_) | Self::Seccomp(_) => Kind::Invalid,
            Self::Image(error) => error.kind().into(),
            Self::ImageMount(error) => error.kind(),
            Self::Cgroup(error) if error.is_refusal() => Kind::Invalid,
            Self::Network(error) => error.kind(),
            Self::Timeout(_) => Kind::Timeout,
            Self::Shim { .. } => Kind::Transient,
            Self::Cgroup(_) | Self::Launch(_) | Self::Io { .. } | Self::NoZygote => Kind::Internal,
        }
    }
}

impl From<images::Kind> for Kind {
    fn from(kind: images::Kind) -> Self {
        match kind {
            images::Kind::NotFound => Self::NotFound,
            images::Kind::Conflict => Self::Conflict,
            images::Kind::Invalid => Self::Invalid,
            images::Kind::Unauthenticated => Self::Unauthenticated,
            images::Kind::Transient => Self::Transient,
            images::Kind::Internal => Self::Internal,
        }
    }
}

/// Names the operation that an I/O error belongs to.
pub trait During<T> {
    /// Turns an error into [`Error::Io`] of `operation`, which is only written when there is one.
    fn during(self, operation: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E: Into<io::Error>> During<T> for std::result::Result<T, E> {
    fn during(self, operation: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|error| Error::Io { operation: operation(), source: error.into() })
    }
}
