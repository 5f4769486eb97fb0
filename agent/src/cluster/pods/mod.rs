//! The pods that an API server binds to this node, from there to the reconciler, and back what becomes of them.
//!
//! ```text
//!  kube-apiserver ──watch──> Server ──Bound──> reconciler ──> workers ──> store
//!        ^                     │ ^                                          │
//!        │                     │ └──────────────── Gone ──── reconciler     │
//!        └──PATCH, DELETE── status <────────────────────────────────────────┘
//! ```

mod admit;
mod answer;
mod entry;
mod merge;
mod mirror;
mod patch;
mod preempt;
mod refusal;
pub mod resize;
mod server;
mod status;
mod support;
mod wanted;
mod watch;

pub use self::admit::{House, admit};
pub use self::preempt::{is_critical, make_room};
pub use self::refusal::{Refusal, refused};
pub use self::server::{Bound, Server};
pub use self::support::unsupported;
pub use self::wanted::is_terminal;

use tokio::task::JoinSet;

use super::Link;
use crate::store::Store;

/// Begins to follow what the API server binds to the node `node`, and to tell it what becomes of that.
pub fn begin(tasks: &mut JoinSet<()>, link: &Link, node: &str, store: &Store, server: Server) {
    tasks.spawn(watch::follow(link.clone(), node.to_owned(), server.clone()));
    tasks.spawn(mirror::keep(link.clone(), node.to_owned(), server.clone()));
    tasks.spawn(status::report(link.clone(), store.clone(), server));
}
