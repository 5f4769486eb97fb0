//! The node as the API server has it: registered, alive, and as it is.
//!
//! ```text
//!  store ── Node ──> reporter ── create, PATCH status ──> kube-apiserver ── watch ──> follower ──> Link::node()
//!                    lease    ── PUT every 10 s ──────>
//! ```

mod follow;
mod lease;
mod object;
mod patch;
pub mod pod_cidr;
mod register;
mod report;

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Node;
use kube::api::Api;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

use super::{Link, NodeWish, Way};
use crate::cluster::reach::Reach;
use crate::events::{Events, Happening, Severity};
use crate::store::Store;

/// How long an answer to a sign of life may take, as kubelet has it.
const ANSWER: Duration = Duration::from_secs(10);

/// What telling the API server of the node needs.
#[derive(Clone)]
pub struct Telling {
    /// The way to it.
    pub link: Link,
    /// Where the node's object is.
    pub store: Store,
    /// What the node is to be.
    pub wish: NodeWish,
    /// The port of kubelet's API, once it is served.
    pub port: watch::Receiver<Option<u16>>,
    /// Why the node ends, once it does.
    pub ending: watch::Receiver<Option<String>>,
    /// The volumes that have to stay attached, as a status names them.
    pub in_use: watch::Receiver<Vec<String>>,
    /// Rung when the node may not be there any more.
    pub doubt: Arc<Notify>,
    /// Who keeps the node's events.
    pub events: Events,
    /// Who is told that no answer came.
    pub reach: Reach,
}

/// Why the API server was not told.
#[derive(Debug, thiserror::Error)]
enum Failed {
    /// It refused, or the connection broke.
    #[error("{operation} {name}: {source}")]
    Refused {
        /// What was tried.
        operation: &'static str,
        /// The object.
        name: String,
        /// What came of it.
        source: kube::Error,
    },
    /// It did not answer.
    #[error("{operation} {name}: there was no answer within {} s", ANSWER.as_secs())]
    Silence {
        /// What was tried.
        operation: &'static str,
        /// The object.
        name: String,
    },
}

impl Failed {
    /// The code of a refusal.
    fn code(&self) -> Option<u16> {
        match self {
            Self::Refused { source: kube::Error::Api(status), .. } => Some(status.code),
            _ => None,
        }
    }
}

impl Telling {
    /// Tells it, in `tasks`.
    pub fn begin(self, way: Way, tasks: &mut JoinSet<()>) {
        tasks.spawn(follow::follow(self.clone(), way.clone()));
        tasks.spawn(lease::keep(self.clone()));
        tasks.spawn(report::report(self, way));
    }

    /// Waits for the answer to a sign of life, or what comes of its absence.
    async fn answer<T>(
        &self,
        operation: &'static str,
        name: &str,
        request: impl Future<Output = Result<T, kube::Error>>,
    ) -> Result<T, Failed> {
        match tokio::time::timeout(ANSWER, request).await {
            Ok(answer) => answer.map_err(|source| Failed::Refused { operation, name: name.to_owned(), source }),
            Err(_) => {
                let silence = Failed::Silence { operation, name: name.to_owned() };
                self.reach.failed(&silence);
                Err(silence)
            }
        }
    }

    /// Tells what has become of the node, as kubelet does.
    fn remark(&self, before: &Node, after: &Node) {
        for word in object::transitions(before, after) {
            let message = format!("Node {} status is now: {word}", self.wish.name);
            self.events.node(Happening::new(Severity::Normal, word, message));
        }
    }

    async fn nodes(&self) -> Api<Node> {
        Api::all(self.link.clients().await.heartbeat)
    }
}

/// Whether the API server knows that a node is not ready, and why.
pub fn is_unready(node: &Node, why: &str) -> bool {
    let mut conditions = node.status.iter().flat_map(|it| it.conditions.iter().flatten());
    conditions.any(|it| it.type_ == "Ready" && it.status == "False" && it.message.as_deref() == Some(why))
}
