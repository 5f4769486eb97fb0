//! The node as one of a cluster: what an API server wants of it, and what it tells an API server.
//!
//! ```text
//!  kube-apiserver ── pods, objects ──> the reconciler            store ── Pod, Node, Event ──> kube-apiserver
//! ```
//!
//! Workers know nothing of this: they get pods, and what they see of them is in the store, from where it is brought to the
//! API server. So the loss of the server stops nothing that runs.

mod bootstrap;
pub mod certificates;
pub mod client;
pub mod connection;
pub mod credentials;
pub mod events;
mod flags;
mod label;
mod link;
pub mod node;
pub mod objects;
pub mod pace;
pub mod pods;
pub mod reach;
pub mod serving;

pub use self::flags::{Flags, NodeWish, Wish};
pub use self::link::{Link, Way};
