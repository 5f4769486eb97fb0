//! What the pods of a cluster refer to: read from the API server while a pod needs it, one object at a time, for a node may
//! read nothing else; and kept, so that a pod goes on with what was last known when the server is away.
//!
//! ```text
//!  pods ──want──> references ──> a watch each ──> state ──> engine: what each pod has
//!                                                  │  └───> Known: whom to hold back, because nobody has asked yet
//!                                                  └──────> ROOT/cluster/objects: for the next start, with no server
//! ```

mod references;

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use tokio::sync::watch;

pub use self::references::{Reference, References, TokenWish};
use crate::engine::Gate;
use crate::node::desired::Pods;

/// Follows what pods refer to. Cheap to clone.
#[derive(Clone)]
pub struct Following {
    known: Arc<watch::Sender<Arc<Known>>>,
}

/// What is known of what pods refer to.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// What each pod still waits for, by its uid.
    unknown: BTreeMap<String, Vec<String>>,
}

/// One word for why a pod waits for the API server.
const REASON: &str = "WaitingForObjects";

impl Following {
    /// Follows nothing yet.
    pub fn new() -> Self {
        Following { known: Arc::new(watch::Sender::new(Arc::default())) }
    }

    /// From now on, follows what these pods refer to, and nothing else. To be called before any of them is given a worker,
    /// and the first time with every pod that is known from before: what nobody refers to is forgotten, on disk, too.
    pub fn want(&self, pods: &Pods) {
        let of = |pod: &Arc<Pod>| {
            let references = References::of(pod).objects;
            (pod.metadata.uid.clone().unwrap_or_default(), references.iter().map(ToString::to_string).collect())
        };
        self.known.send_replace(Arc::new(Known { unknown: pods.values().map(of).collect() }));
    }

    /// What is known, and whenever that changes. The engine has it already when this tells.
    pub fn known(&self) -> watch::Receiver<Arc<Known>> {
        self.known.subscribe()
    }
}

impl Known {
    /// Why a pod may not begin yet: something that it refers to was never asked for.
    pub fn gate(&self, pod: &Pod) -> Option<Gate> {
        let waits = self.unknown.get(pod.metadata.uid.as_deref()?)?;
        let message = format!("the API server has not told yet: {}", waits.join(", "));
        (!waits.is_empty()).then(|| Gate { reason: REASON.to_owned(), message })
    }
}
