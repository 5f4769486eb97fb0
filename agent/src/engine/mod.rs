//! The engine: what a pod needs next (`plan`, pure), and the workers that carry it out through the CRI.

pub mod action;
pub mod backoff;
pub mod change;
pub mod check;
pub mod config;
mod follow;
pub mod history;
mod hub;
pub mod image;
pub mod lifecycle;
mod links;
pub mod memory;
pub mod notice;
mod observe;
pub mod orders;
pub mod phase;
pub mod plan;
pub mod probe;
mod reboot;
pub mod record;
mod removal;
pub mod resizing;
mod settle;
pub mod status;
mod steps;
pub mod time;
pub mod view;
mod worker;

#[cfg(test)]
pub mod fake;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::num::NonZero;
use std::sync::{Arc, PoisonError, RwLock};

use cri_proto::cri;
use k8s_openapi::api::core::v1::Pod;
use tokio::sync::{Notify, Semaphore, SemaphorePermit, mpsc, watch};
use tokio::task::JoinHandle;
use tonic::Status;

use self::action::Actions;
use self::backoff::Policy;
use self::config::names::PodKey;
use self::config::{Objects, Settings};
use self::hub::Hub;
use self::notice::Notice;
use self::orders::Orders;
pub use self::orders::{Gate, Guide, PodHandle, Seen, Stopper, grace_of};
use self::probe::Counts;
use self::settle::Settler;
use self::steps::Steps;
use self::time::{Clock, Monotonic};
#[cfg(test)]
pub use self::worker::FirstFailure;
pub use self::worker::Outcome;
use crate::channel::Cri;
use crate::csi::Csi;
use crate::devices::Devices;
use crate::host::HostError;
use crate::host::qos::PodCgroups;
use crate::net::sender::{Sender, Trouble};
use crate::net::services::OfCluster;
use crate::net::{Surroundings, networks};
use crate::store::Store;

/// How many sandboxes and containers are made at a time for each processor of this node: while one waits for the kernel
/// or a disk, another works. More would only contend for the locks on network links and cgroups.
const CREATIONS: usize = 2;

/// How an engine works.
#[derive(Clone, Debug)]
pub struct Options {
    /// Directories and facts.
    pub settings: Settings,
    /// ConfigMaps and Secrets to begin with; see [`Engine::set_objects`].
    pub objects: Objects,
    /// The cgroups of pods, where this agent makes them itself.
    pub pod_cgroups: Option<PodCgroups>,
    /// Restart back-off.
    pub backoff: Policy,
    /// `run:ID`, `agent` or `cri`.
    pub owner: String,
    /// A first creation that fails ends its pod, instead of being tried again for ever.
    pub fail_fast: bool,
    /// Pods outlive this process: what their workers remember is written down, for the next one and after a reboot.
    pub keep: bool,
    /// Where pods are put with their status, for whoever asks the API.
    pub store: Option<Store>,
    /// What brings the pods' links and the like to the runtime: no pod begins before those that concern it are there.
    pub network: Option<Sender>,
    /// Who has drivers mount volumes.
    pub csi: Option<Csi>,
    /// The devices that plug-ins bring.
    pub devices: Option<Devices>,
}

/// Runs pods; cheap to clone.
#[derive(Clone, Debug)]
pub struct Engine {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    cri: Cri,
    options: Options,
    objects: RwLock<Arc<Objects>>,
    /// What pods of a cluster refer to, by their uids.
    given: RwLock<HashMap<String, Arc<Objects>>>,
    /// The Services of the cluster.
    services: RwLock<Arc<OfCluster>>,
    backoff: RwLock<Policy>,
    runtime_name: String,
    creations: Semaphore,
    clock: Clock,
    actions: Actions,
    hub: Hub,
    settler: Settler,
    probe_counts: Counts,
    notices: mpsc::Sender<Notice>,
    listener: JoinHandle<()>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.listener.abort();
    }
}

/// Has workers look when something happens in the runtime, and when a device plug-in comes.
async fn listen(hub: Hub, cri: Cri, arrivals: Option<watch::Receiver<u64>>) {
    let plugins = async {
        let Some(mut arrivals) = arrivals else { return };
        while arrivals.changed().await.is_ok() {
            hub.ring_all();
        }
    };
    tokio::join!(hub.clone().listen(cri), plugins);
}

impl Engine {
    /// An engine that works through `cri` and tells what happens to `notices`; workers wait while that is full.
    pub async fn new(cri: Cri, options: Options, notices: mpsc::Sender<Notice>) -> Result<Engine, Status> {
        Engine::at(Clock::start(), cri, options, notices).await
    }

    async fn at(clock: Clock, cri: Cri, options: Options, notices: mpsc::Sender<Notice>) -> Result<Engine, Status> {
        let request = cri::VersionRequest { version: "0.1.0".into() };
        let runtime_name = cri.runtime.clone().version(request).await?.into_inner().runtime_name;
        let hub = Hub::default();
        let listener = tokio::spawn(listen(hub.clone(), cri.clone(), options.devices.as_ref().map(Devices::arrivals)));
        let creations = Semaphore::new(std::thread::available_parallelism().map_or(1, NonZero::get) * CREATIONS);
        let objects = RwLock::new(Arc::new(options.objects.clone()));
        let actions = Actions::new(cri.clone());
        let settler = Settler::start();
        let backoff = RwLock::new(options.backoff);
        let inner = Inner {
            cri,
            options,
            objects,
            given: RwLock::default(),
            services: RwLock::default(),
            backoff,
            runtime_name,
            creations,
            clock,
            actions,
            hub,
            settler,
            probe_counts: Counts::default(),
            notices,
            listener,
        };
        Ok(Engine { inner: Arc::new(inner) })
    }

    /// Starts a worker for a pod that has nothing to do with others.
    #[cfg(test)]
    pub fn start(&self, pod: Arc<Pod>) -> Result<PodHandle, HostError> {
        self.start_among(pod, None, Surroundings::default())
    }

    /// Starts a worker for a pod that may have to wait for others, and knows of them. What exists with its uid is taken
    /// over as it is: an agent that was restarted finds its pods so.
    pub fn start_among(&self, pod: Arc<Pod>, gate: Option<Gate>, around: Surroundings) -> Result<PodHandle, HostError> {
        let around = Arc::new(around);
        let steps = Steps::new(self.clone(), pod.clone(), around.clone())?;
        let (orders, asked) = watch::channel(Orders::new(pod, gate, around));
        let (tell, seen) = watch::channel(Seen::default());
        let wanted = Arc::new(Notify::new());
        let worker = worker::Worker::new(self.clone(), steps, asked, tell);
        let task = tokio::spawn(worker.run(wanted.clone()));
        Ok(PodHandle::new(orders, seen, wanted, task, self.inner.clock))
    }

    /// Replaces the ConfigMaps, Secrets and claims that pods refer to, and has every worker look what that means.
    pub fn set_objects(&self, objects: Objects) {
        let mut now = self.inner.objects.write().unwrap_or_else(PoisonError::into_inner);
        if **now != objects {
            *now = Arc::new(objects);
            self.inner.hub.ring_all();
        }
    }

    /// Gives a pod of a cluster what it refers to: from now on it has nothing of what manifests declare. Its worker looks
    /// what that means.
    pub fn set_objects_of(&self, uid: &str, objects: Arc<Objects>) {
        self.inner.given.write().unwrap_or_else(PoisonError::into_inner).insert(uid.to_owned(), objects);
        self.inner.hub.ring(Some(uid));
    }

    /// Replaces the Services of the cluster, of which containers are told when they start.
    pub fn set_services(&self, services: Arc<OfCluster>) {
        *self.inner.services.write().unwrap_or_else(PoisonError::into_inner) = services;
    }

    /// Changes the restart back-off, for waits that are worked out from now on.
    pub fn set_backoff(&self, policy: Policy) {
        *self.inner.backoff.write().unwrap_or_else(PoisonError::into_inner) = policy;
    }

    pub(crate) fn cri(&self) -> &Cri {
        &self.inner.cri
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.inner.options.settings
    }

    /// What a pod may refer to.
    pub(crate) fn objects_of(&self, uid: &str) -> Arc<Objects> {
        let given = self.inner.given.read().unwrap_or_else(PoisonError::into_inner).get(uid).cloned();
        given.unwrap_or_else(|| self.inner.objects.read().unwrap_or_else(PoisonError::into_inner).clone())
    }

    fn services(&self) -> Arc<OfCluster> {
        self.inner.services.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn pod_cgroups(&self) -> Option<&PodCgroups> {
        self.inner.options.pod_cgroups.as_ref()
    }

    /// Who has drivers mount volumes.
    pub(crate) fn csi(&self) -> Option<&Csi> {
        self.inner.options.csi.as_ref()
    }

    pub(crate) fn devices(&self) -> Option<&Devices> {
        self.inner.options.devices.as_ref()
    }

    fn backoff(&self) -> Policy {
        *self.inner.backoff.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn fail_fast(&self) -> bool {
        self.inner.options.fail_fast
    }

    fn owner(&self) -> &str {
        &self.inner.options.owner
    }

    fn runtime_name(&self) -> &str {
        &self.inner.runtime_name
    }

    fn hub(&self) -> &Hub {
        &self.inner.hub
    }

    fn settler(&self) -> &Settler {
        &self.inner.settler
    }

    fn actions(&self) -> &Actions {
        &self.inner.actions
    }

    /// How often probes were asked, and what they answered.
    pub fn probe_counts(&self) -> Counts {
        self.inner.probe_counts.clone()
    }

    fn keep(&self) -> bool {
        self.inner.options.keep
    }

    fn store(&self) -> Option<&Store> {
        self.inner.options.store.as_ref()
    }

    /// Waits until what is wanted of a pod's network is in force.
    async fn network(&self, key: &PodKey, pod: &Pod) -> Result<(), Trouble> {
        let name = (key.namespace.clone(), key.name.clone());
        match &self.inner.options.network {
            Some(network) => network.in_force(&name, networks::of(pod, &self.settings().default_network)).await,
            None => Ok(()),
        }
    }

    fn clock(&self) -> Clock {
        self.inner.clock
    }

    /// The time now, by the clock that everything of the engine goes by.
    pub fn now(&self) -> Monotonic {
        self.inner.clock.now()
    }

    /// A permit to make a sandbox or container. The semaphore is never closed.
    async fn creation(&self) -> Option<SemaphorePermit<'_>> {
        self.inner.creations.acquire().await.ok()
    }

    /// Tells a notice. Nobody listening is no reason to stop working.
    async fn tell(&self, notice: Notice) {
        if self.inner.notices.send(notice).await.is_err() {
            tracing::debug!("nobody listens to the engine's notices");
        }
    }
}
