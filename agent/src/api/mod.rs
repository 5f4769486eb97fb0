//! The Kubernetes API in small: what this node has, to be read and watched; logs, exec, attach and port-forward; and two
//! writes. It is the one surface for kubectl and for Coracle's own verbs.
//!
//! ```text
//! serve      connections: a unix socket of this user's; TCP with TLS and a token (identity)
//!   answer   one request: route, query, selector -> read, watch, logs, sessions, writes
//!     store  what is shown      Control: what is done
//! ```
//!
//! Whatever is refused is refused with a `metav1.Status` (error).

mod answer;
mod body;
pub mod client;
mod discovery;
mod error;
mod identity;
mod logs;
mod query;
mod read;
mod relay;
mod route;
mod selector;
mod serve;
mod sessions;
pub mod table;
mod target;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
mod watch;
mod writes;

use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use runtime::Runtime;
use serde_json::Value;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

pub use self::error::Error;
pub use self::identity::Identity;
pub use self::serve::{Tcp, serve_socket};
pub use self::table::network::selector as selector_text;
use crate::channel::Cri;
use crate::store::Store;

/// Watches and followed logs at a time.
const WATCHERS: usize = 256;

/// Execs, attaches and port-forwards at a time.
const SESSIONS: usize = 256;

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
    cri: Cri,
    /// Coracle's own runtime, which sessions are taken from in memory; others have an address for each.
    runtime: Option<Runtime>,
    control: Arc<dyn Control>,
    log_dir: PathBuf,
    watchers: Arc<Semaphore>,
    sessions: Arc<Semaphore>,
}

impl Api {
    /// An API of what `store` has, of pods that run behind `cri` (in `runtime`, if that is in this process) and log below
    /// `log_dir`.
    pub fn new(store: Store, cri: Cri, runtime: Option<Runtime>, control: Arc<dyn Control>, log_dir: PathBuf) -> Self {
        let (watchers, sessions) = (Arc::new(Semaphore::new(WATCHERS)), Arc::new(Semaphore::new(SESSIONS)));
        Self { inner: Arc::new(Inner { store, cri, runtime, control, log_dir, watchers, sessions }) }
    }
}

impl Inner {
    /// A place for one more watch.
    fn watcher(&self) -> Result<OwnedSemaphorePermit, Error> {
        Arc::clone(&self.watchers).try_acquire_owned().map_err(|_| Error::TooMany("watches and followed logs"))
    }

    /// A place for one more session.
    fn session(&self) -> Result<OwnedSemaphorePermit, Error> {
        Arc::clone(&self.sessions).try_acquire_owned().map_err(|_| Error::TooMany("exec, attach and port-forward"))
    }
}
