//! The Kubernetes API in small: what this node has, to be read and watched; logs, exec, attach and port-forward; and two
//! writes. It is the one surface for kubectl and for Coracle's own verbs.
//!
//! ```text
//! serve      connections: a unix socket of this user's; TCP with TLS and a token (identity)
//!   answer   one request: route, query, selector -> read, watch, parts (logs and sessions, by access), writes
//!     store  what is shown      Control: what is done
//! ```
//!
//! Whatever is refused is refused with a `metav1.Status` (error).

mod answer;
pub mod client;
mod discovery;
mod identity;
mod parts;
mod read;
mod route;
mod selector;
mod serve;
pub mod table;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
mod watch;
mod writes;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

pub use self::identity::Identity;
pub use self::serve::{Tcp, serve_socket};
pub use self::table::network::selector as selector_text;
pub use crate::access::Error;
use crate::access::{Access, Query, body};
use crate::store::Store;

/// What an answer of [`Control`] is: boxed, for the control is known only when the program runs.
pub type Doing<'a, T> = Pin<Box<dyn Future<Output = Result<T, Error>> + Send + 'a>>;

/// What clients may ask of whoever runs the pods.
pub trait Control: Send + Sync {
    /// Begins to stop a pod, after which it is started anew if its manifest is still there. Its object goes away when it
    /// has stopped. The answer is what the client has to be told: where the manifest is.
    fn delete_pod<'a>(&'a self, namespace: &'a str, name: &'a str, grace: Option<Duration>) -> Doing<'a, String>;

    /// Starts a pod's containers, or one of them, anew.
    fn restart<'a>(&'a self, namespace: &'a str, name: &'a str, container: Option<&'a str>) -> Doing<'a, ()>;

    /// Why a pod is as it is.
    fn why<'a>(&'a self, namespace: &'a str, name: &'a str) -> Doing<'a, Value>;
}

/// What the API is served from. Cheap to clone.
#[derive(Clone)]
pub struct Api {
    inner: Arc<Inner>,
}

struct Inner {
    store: Store,
    access: Access,
    control: Arc<dyn Control>,
}

impl Api {
    /// An API of what `access` leads to.
    pub fn new(access: Access, control: Arc<dyn Control>) -> Self {
        Self { inner: Arc::new(Inner { store: access.store().clone(), access, control }) }
    }
}
