//! The ways into pods, whoever asks: logs, exec, attach and port-forward. The Kubernetes API in small (`api`) and kubelet's
//! own (`kubelet`) are two sets of addresses for the same.
//!
//! ```text
//! api, kubelet    which pod is meant, what of it, whether the client may
//!   target        which container, which instance of it
//!   logs          its log, as it comes
//!   sessions      the container runtime is asked for a session (ours: in memory; others: relay)
//! ```

pub mod body;
mod error;
pub mod logs;
mod query;
mod relay;
mod sessions;
mod target;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use runtime::Runtime;
use rustix::net::sockopt;
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

pub use self::error::Error;
pub use self::query::Query;
pub use self::sessions::{Session, Streams};
pub use self::target::{choose, names, running};
use crate::channel::Cri;
use crate::store::Store;

/// Watches and followed logs at a time.
pub const WATCHERS: usize = 256;

/// Execs, attaches and port-forwards at a time.
const SESSIONS: usize = 256;

/// Without a byte in either direction for so long, a session is over: kubelet's.
pub const IDLE: Duration = Duration::from_secs(4 * 3600);

/// The ways into the pods of this node. Cheap to clone; all clones count together.
#[derive(Clone)]
pub struct Access {
    inner: Arc<Inner>,
}

struct Inner {
    store: Store,
    cri: Cri,
    /// Coracle's own runtime, which sessions are taken from in memory; others have an address for each.
    runtime: Option<Runtime>,
    log_dir: PathBuf,
    watchers: Arc<Semaphore>,
    sessions: Arc<Semaphore>,
}

impl Access {
    /// Ways into the pods that `store` has, which run behind `cri` (in `runtime`, if that is in this process) and log below
    /// `log_dir`.
    pub fn new(store: Store, cri: Cri, runtime: Option<Runtime>, log_dir: PathBuf) -> Self {
        let (watchers, sessions) = (Arc::new(Semaphore::new(WATCHERS)), Arc::new(Semaphore::new(SESSIONS)));
        Self { inner: Arc::new(Inner { store, cri, runtime, log_dir, watchers, sessions }) }
    }

    /// What is known of the pods.
    pub fn store(&self) -> &Store {
        &self.inner.store
    }

    /// What they run behind.
    pub fn cri(&self) -> &Cri {
        &self.inner.cri
    }

    /// A place for one more watch.
    pub fn watcher(&self) -> Result<OwnedSemaphorePermit, Error> {
        Arc::clone(&self.inner.watchers).try_acquire_owned().map_err(|_| Error::TooMany("watches and followed logs"))
    }

    /// A place for one more session.
    pub fn session_place(&self) -> Result<OwnedSemaphorePermit, Error> {
        let many = Error::TooMany("exec, attach and port-forward");
        Arc::clone(&self.inner.sessions).try_acquire_owned().map_err(|_| many)
    }
}

/// A machine that vanishes says nothing: after half a minute its connections, watches and sessions are known to be dead.
pub fn keep_alive(stream: &TcpStream) {
    let set = sockopt::set_socket_keepalive(stream, true)
        .and_then(|()| sockopt::set_tcp_keepidle(stream, Duration::from_secs(10)))
        .and_then(|()| sockopt::set_tcp_keepintvl(stream, Duration::from_secs(5)))
        .and_then(|()| sockopt::set_tcp_keepcnt(stream, 3))
        .and_then(|()| sockopt::set_tcp_nodelay(stream, true));
    if let Err(error) = set {
        tracing::debug!(%error, "an API client's connection cannot be kept alive");
    }
}
