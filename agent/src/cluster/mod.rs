//! The node as one of a cluster: what an API server wants of it, and what it tells an API server.
//!
//! ```text
//!  kube-apiserver ── pods, objects ──> the reconciler            store ── Pod, Node, Event ──> kube-apiserver
//! ```
//!
//! Workers know nothing of this: they get pods, and what they see of them is in the store, from where it is brought to the
//! API server. So the loss of the server stops nothing that runs.

pub mod certificates;
mod flags;
mod link;

pub use self::flags::{Flags, Wish};
pub use self::link::{Link, Way};
