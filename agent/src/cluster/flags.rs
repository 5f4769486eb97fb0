//! What the command line says of the cluster.

use std::path::PathBuf;

/// Flags of `agent` that make its node one of a cluster.
#[derive(Clone, Debug, Default, clap::Args)]
#[group(id = "cluster")]
pub struct Flags {
    /// Kubeconfig of the API server that this is to be a node of
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
}

/// What is asked for: the node is one of a cluster.
#[derive(Clone, Debug)]
pub struct Wish {
    /// How the API server is reached, and as whom.
    pub kubeconfig: PathBuf,
}

impl Flags {
    /// The node is one of a cluster if they name an API server.
    pub fn wish(&self) -> Option<Wish> {
        Some(Wish { kubeconfig: self.kubeconfig.clone()? })
    }
}
