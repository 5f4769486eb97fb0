//! What can go wrong with plug-ins.

use std::path::PathBuf;
use std::time::Duration;

use super::exec::Failure;
use crate::error::Kind;

/// The first word of what pods are told that have to wait for a configuration: clients know it by that.
pub const NOT_READY: &str = "NetworkPluginNotReady";

/// What went wrong.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is nothing to connect pods with.
    #[error("{NOT_READY}: {0}")]
    NotReady(String),
    /// The network cannot do what the pod asks for.
    #[error("CNI network {network} of {}: {why}", file.display())]
    Unsupported {
        /// The network.
        network: String,
        /// Where it is configured.
        file: PathBuf,
        /// What it cannot, and what to do.
        why: String,
    },
    /// A plug-in failed.
    #[error("{verb} of CNI plug-in {plugin} (network {network} of {}): {source}", file.display())]
    Plugin {
        /// What it was asked.
        verb: &'static str,
        /// Its type.
        plugin: String,
        /// The network.
        network: String,
        /// Where it is configured.
        file: PathBuf,
        /// How.
        source: Box<Failure>,
    },
    /// Several failed.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Several(Vec<Error>),
}

impl Error {
    /// What kind of error this is.
    pub fn kind(&self) -> Kind {
        match self {
            Self::NotReady(_) => Kind::Transient,
            Self::Unsupported { .. } => Kind::Invalid,
            Self::Plugin { source, .. } => match **source {
                Failure::TimedOut(_) => Kind::Timeout,
                // "Try again later".
                Failure::Said { code: 11, .. } => Kind::Transient,
                Failure::Missing { .. } => Kind::Conflict,
                _ => Kind::Internal,
            },
            Self::Several(all) => all.first().map_or(Kind::Internal, Self::kind),
        }
    }
}

/// A duration as people write it.
pub fn seconds(time: Duration) -> String {
    if time.subsec_nanos() == 0 { format!("{} s", time.as_secs()) } else { format!("{:.1} s", time.as_secs_f64()) }
}
