//! What can go wrong with networks.

use ipnet::IpNet;

use super::{cni, nft, ports};
use crate::error::Kind;
use crate::relay;

/// What went wrong.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A range that was asked for makes no sense.
    #[error("the pod range {range} {why}")]
    Range {
        /// The range.
        range: IpNet,
        /// What is wrong with it, and what to do.
        why: String,
    },
    /// A range that was asked for is somebody's.
    #[error("the pod range {range} overlaps {by}; choose another with --pod-cidr")]
    Taken {
        /// The range.
        range: IpNet,
        /// Whose: a route, an interface's address, a name server.
        by: String,
    },
    /// Every range that is tried by itself is somebody's.
    #[error("no range for pods is free: {first} overlaps {by}, and so it is with all others; name one with --pod-cidr")]
    NoneFree {
        /// The first that was tried.
        first: IpNet,
        /// Who has it.
        by: String,
    },
    /// The pods that are there have other ranges.
    #[error("the pods of this state directory have addresses of {used}, not of {wanted}: {help}")]
    Other {
        /// Theirs.
        used: String,
        /// What was asked for.
        wanted: String,
        /// What to do.
        help: &'static str,
    },
    /// The pods that are there are seen by their own addresses elsewhere.
    #[error(
        "the pods of this state directory are not masqueraded to {used}, and these shall not be to {wanted}; give them the \
         same --non-masquerade-cidr, or a --state-dir of their own"
    )]
    Destinations {
        /// Where they are.
        used: String,
        /// What was asked for.
        wanted: String,
    },
    /// No address is left.
    #[error("all {count} addresses for pods in {range} are taken; remove pods, or name a larger range")]
    Full {
        /// The range.
        range: String,
        /// How many addresses it has.
        count: u32,
    },
    /// A network that pods name and nobody wants.
    #[error("there is no network {network}; the pod waits until there is a Network object of this name")]
    Unknown {
        /// Its name.
        network: String,
    },
    /// A network cannot be as it shall.
    #[error("network {network}: {why}")]
    Named {
        /// Its name.
        network: String,
        /// What is wrong, and what to do.
        why: String,
    },
    /// The rules.
    #[error("{operation}: {source}")]
    Rules {
        /// What was tried.
        operation: &'static str,
        /// What nftables said.
        source: nft::Error,
    },
    /// A published port is somebody's.
    #[error(transparent)]
    Port(ports::Taken),
    /// What serves published ports on `[::1]`.
    #[error(transparent)]
    Relay(relay::Error),
    /// The plug-ins that connect pods in the place of this.
    #[error(transparent)]
    Cni(#[from] cni::Error),
    /// A pod could not be connected.
    #[error("connect pod {pod} to the network: {source}")]
    Pod {
        /// Namespace and name.
        pod: String,
        /// Why.
        source: Box<crate::Error>,
    },
}

impl Error {
    /// What kind of error this is.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Range { .. } => Kind::Invalid,
            Self::Taken { .. } | Self::NoneFree { .. } | Self::Other { .. } | Self::Destinations { .. } => {
                Kind::Conflict
            }
            Self::Full { .. } => Kind::Transient,
            Self::Port(_) | Self::Unknown { .. } | Self::Named { .. } => Kind::Conflict,
            Self::Rules { .. } | Self::Relay(_) => Kind::Internal,
            Self::Cni(error) => error.kind(),
            Self::Pod { source, .. } => source.kind(),
        }
    }
}
