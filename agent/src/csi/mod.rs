//! Volumes that drivers mount: this node as what the Container Storage Interface calls one (v1, its service Node).
//!
//! ```text
//!  DIR/plugins_registry ──sockets──> plugins ──> drivers ──> report: CSINode, the Node's annotation and labels
//!                                                   │
//!  a pod's worker ── Wish ──> volumes: stage, publish ── records, before each call ──> ROOT/csi
//!  its end, or nobody's use ──> volumes: unpublish, unstage
//! ```
//!
//! DIR is what `--kubelet-compat-dir` names: drivers are told paths below it, and their mounts come out there. Without it
//! there are no drivers; what was mounted by one before waits for it.

mod drivers;
mod plugins;
mod records;
mod report;
mod volumes;
mod wish;

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tonic::Status;

use self::drivers::Drivers;
use self::records::{Records, VolumeKey};
pub use self::records::{forget, is_recorded};
pub use self::wish::{Wish, attachment_of, of};
use crate::cluster::Link;
use crate::cluster::pace::Pauses;
use crate::host::HostError;

/// What to do where there is nobody to ask.
pub const NO_DIRECTORY: &str = "drivers are known to an agent that has --kubelet-compat-dir alone";

/// How long a call may take, as kubelet has it (pkg/volume/csi).
const DEADLINE: Duration = Duration::from_secs(120);

/// How long to wait for the API server to know that a volume is in use and attached, before that is said.
const ATTACHED: Duration = Duration::from_secs(10);

/// The waits after failures, as kubelet's operations have them.
fn pauses() -> Pauses {
    Pauses::new(Duration::from_millis(500), Duration::from_secs(122))
}

/// Has drivers mount volumes; cheap to clone.
#[derive(Clone)]
pub struct Csi {
    inner: Arc<Inner>,
}

struct Inner {
    /// Where pods have their directories.
    root: PathBuf,
    /// What looks like a kubelet's directory.
    dir: Option<PathBuf>,
    /// This boot: what was mounted in another one is not any more.
    boot: String,
    drivers: Drivers,
    records: Records,
    /// Of one volume there is one call at a time.
    turns: Mutex<HashMap<VolumeKey, Arc<tokio::sync::Mutex<()>>>>,
    /// What could not be unpublished, by pod and volume.
    failures: Mutex<HashMap<(String, String), Failure>>,
    /// Pods whose volumes are being unpublished while nobody waits for it.
    giving_back: Mutex<HashSet<String>>,
    /// Volumes that shall not be detached.
    in_use: watch::Sender<Vec<String>>,
    /// Rung when a volume may have lost its last user.
    unused: Notify,
    link: OnceLock<Link>,
}

/// A call that is not made again before its time.
#[derive(Debug)]
struct Failure {
    why: String,
    pauses: Pauses,
    until: Instant,
}

/// Why a volume is not mounted, or not unmounted.
#[derive(Debug, thiserror::Error)]
pub enum CsiError {
    /// No driver of that name is there.
    #[error("driver name {0} not found in the list of registered CSI drivers")]
    NoDriver(String),
    /// There can be none.
    #[error("volume {0} is of a CSI driver, and {NO_DIRECTORY}: start it with that")]
    NoDirectory(String),
    /// A driver refused, or did not answer; in the words that Kubernetes' tools know.
    #[error("rpc error: code = {:?} desc = {}", .0.code(), .0.message())]
    Call(Status),
    /// What is said already.
    #[error("{0}")]
    Waits(String),
    /// A directory.
    #[error(transparent)]
    Host(#[from] HostError),
    /// What is to be known later could not be written down, so that nothing was done.
    #[error("cannot record the volume in {}: {source}", path.display())]
    Record {
        /// Where.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
}

/// A volume that is mounted for a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// Where.
    pub path: PathBuf,
    /// Containers never write to it.
    pub read_only: bool,
    /// The group that it is still to be handed over to.
    pub hand_over: Option<u32>,
}

impl fmt::Debug for Csi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Csi").field("dir", &self.inner.dir).finish_non_exhaustive()
    }
}

impl Csi {
    /// Reads what is recorded below `root`. Where drivers are is `dir`.
    pub fn open(root: &Path, dir: Option<PathBuf>, boot: String) -> io::Result<Self> {
        let records = Records::open(root)?;
        let in_use = watch::Sender::new(records.in_use());
        Ok(Csi {
            inner: Arc::new(Inner {
                root: root.to_owned(),
                dir,
                boot,
                drivers: Drivers::default(),
                records,
                turns: Mutex::default(),
                failures: Mutex::default(),
                giving_back: Mutex::default(),
                in_use,
                unused: Notify::new(),
                link: OnceLock::new(),
            }),
        })
    }

    /// Begins to look for drivers, to tell the API server of them, and to unstage what nobody uses.
    pub fn begin(&self, link: &Link, node: &str, tasks: &mut JoinSet<()>) {
        let Some(dir) = &self.inner.dir else { return };
        let _ = self.inner.link.set(link.clone());
        tasks.spawn(plugins::follow(dir.join("plugins_registry"), self.inner.drivers.clone()));
        tasks.spawn(report::report(link.clone(), node.to_owned(), self.inner.drivers.infos()));
        tasks.spawn(volumes::sweep(self.clone()));
    }

    /// Whether there can be drivers.
    pub fn is_supported(&self) -> bool {
        self.inner.dir.is_some()
    }

    /// The volumes that the attach controller has to leave here, as a Node's status names them.
    pub fn in_use(&self) -> watch::Receiver<Vec<String>> {
        self.inner.in_use.subscribe()
    }
}
