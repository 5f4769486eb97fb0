//! Care of the node: what no pod asks for, and without which none runs for long.
//!
//! Every few seconds it looks at the node's memory, disks and process ids (`signals`), compares what is left with the
//! thresholds (`pressure`, pure), and gives back what it can: dead containers (`containers`), images that nothing uses
//! (`images`), and, where that does not do, the pod that comes first in kubelet's order (`rank`, pure). A pod that takes
//! more of the disk than it may have (`limits`, pure) goes without any pressure. What was evicted comes back when the
//! pressure is over (`comeback`, pure): there is no scheduler that would take it elsewhere.

mod allocatable;
mod carer;
pub mod comeback;
pub mod containers;
mod images;
mod limits;
mod message;
mod node_object;
mod pressure;
pub mod rank;
pub mod registry;
mod signals;
mod stalls;
mod system;
pub mod threshold;
pub mod usage;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use manifests::kubelet::Config;
use tokio::sync::{mpsc, watch};

pub use self::allocatable::for_pods;
pub use self::threshold::Condition;
use self::usage::Meter;
use crate::channel::Cri;
use crate::csi::Csi;
use crate::devices::Devices;
use crate::engine::config::{Cgroups, Settings};
use crate::engine::notice::{Event, Notice, Pull};
use crate::engine::time::Clock;
use crate::host::qos::PodCgroups;
use crate::store::Store;

/// How often the node is looked at, as kubelet does.
pub const PERIOD: Duration = Duration::from_secs(10);

/// Pulls that wait to be noted; beyond that they are not, and their images stay.
const PULLS: usize = 64;

/// A pod as whoever runs it knows it.
#[derive(Clone, Debug)]
pub struct PodState {
    /// With its status.
    pub pod: Arc<Pod>,
    /// Nothing of it runs, and nothing will unless it is asked for.
    pub over: bool,
}

/// What somebody should know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// The pod that it is about; the node, if none.
    pub pod: Option<String>,
    /// Whether it is something to worry about.
    pub warning: bool,
    /// kubelet's word.
    pub reason: &'static str,
    /// The signal, or the limit, that a pod is evicted for.
    pub signal: Option<&'static str>,
    /// The whole story.
    pub message: String,
}

/// The pods, and what care may do with them.
#[tonic::async_trait]
pub trait Pods: Send + Sync + 'static {
    /// Every pod of the agent, those included that are being stopped.
    async fn pods(&self) -> Vec<PodState>;

    /// Ends a pod as Failed, `Evicted`, with this message. It stays so until it is renewed, restarted or changed.
    async fn evict(&self, uid: &str, message: &str, grace: Duration);

    /// Starts a pod that was evicted anew, with nothing of what it left.
    async fn renew(&self, uid: &str);

    /// Tells an event.
    async fn tell(&self, told: Told);
}

/// How care is taken.
#[derive(Clone, Debug)]
pub struct Options {
    /// Directories and facts.
    pub settings: Settings,
    /// The cgroups of pods, where this agent makes them.
    pub cgroups: Option<PodCgroups>,
    /// kubelet's settings, as they are now.
    pub config: watch::Receiver<Arc<Config>>,
    /// The runtime is not ours alone: only what this agent has made is removed.
    pub foreign: bool,
    /// How many dead containers are kept.
    pub containers: containers::Policy,
    /// `/proc`.
    pub proc_root: PathBuf,
    /// How often the node is looked at.
    pub period: Duration,
    /// Who has drivers unmount volumes.
    pub csi: Option<Csi>,
    /// The devices that plug-ins bring.
    pub devices: Option<Devices>,
}

impl Options {
    /// The usual ones, for Coracle's own runtime.
    pub fn new(settings: Settings, cgroups: Option<PodCgroups>, config: watch::Receiver<Arc<Config>>) -> Self {
        Options {
            settings,
            cgroups,
            config,
            foreign: false,
            containers: containers::Policy::default(),
            proc_root: "/proc".into(),
            period: PERIOD,
            csi: None,
            devices: None,
        }
    }
}

/// Takes care of a node.
pub struct Care {
    cri: Cri,
    store: Store,
    options: Options,
    meter: Meter,
    clock: Clock,
    pulled: (mpsc::Sender<String>, mpsc::Receiver<String>),
}

/// What others may know of it; cheap to clone.
#[derive(Clone, Debug)]
pub struct Watched {
    pulled: mpsc::Sender<String>,
}

impl Care {
    /// Of the node whose containers are reached by `cri`; its Node object is kept in `store`.
    pub fn new(cri: Cri, store: Store, options: Options) -> Self {
        let meter = Meter::new(cri.clone(), options.settings.clone(), options.cgroups.clone());
        Care { cri, store, options, meter, clock: Clock::start(), pulled: mpsc::channel(PULLS) }
    }

    /// What measures pods: whoever else asks it makes no directory be measured twice.
    pub fn meter(&self) -> Meter {
        self.meter.clone()
    }

    /// What others may know of it.
    pub fn watched(&self) -> Watched {
        Watched { pulled: self.pulled.0.clone() }
    }

    /// Takes care for ever.
    pub async fn run(self, pods: Arc<dyn Pods>) {
        carer::Carer::new(self, pods).run().await;
    }
}

impl Watched {
    /// Takes note of images that this agent has pulled: on a runtime that others use too, only such are removed.
    pub fn hear(&self, notice: &Notice) {
        if let Event::Pull { pull: Pull::Done { image, .. }, .. } = &notice.event
            && self.pulled.try_send(image.clone()).is_err()
        {
            tracing::debug!(image, "that the image was pulled is not noted; it will not be removed");
        }
    }
}

/// How kubelet's settings have pods grouped and bounded.
pub fn cgroups(settings: &Settings) -> Cgroups {
    Cgroups { per_qos: true, ..settings.cgroups.clone() }
}
