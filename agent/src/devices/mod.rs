//! Device plug-ins (KEP-3573, kubelet's `v1beta1`): programs that bring a node GPUs, USB sticks or parts of network cards, as
//! kubelet serves them (pkg/kubelet/cm/devicemanager).
//!
//! ```text
//!  plug-in ──Register──> registration ──dials──> plugin ──ListAndWatch──> pool ──counts──> Node object
//!                                                  ^                       ^
//!  worker: before a pod's sandbox, a container ──> allocate ──────────────┘ STATE/devices/UID.json
//! ```
//!
//! Plug-ins are root's programs, and still others': each call has a deadline, each list and each answer is bounded and looked at,
//! and whoever waits for one waits alone. What a pod was given is recorded before its container is made, and stays until the
//! pod is over. NUMA nodes are not looked at.

mod allocate;
mod answer;
mod directory;
mod list;
mod plugin;
mod pool;
mod record;
mod registration;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::{Notify, watch};
use tokio::task::AbortHandle;

pub use self::answer::Answer;
use self::plugin::Plugin;
pub use self::pool::Count;
use self::pool::Pool;
use self::record::Records;
pub use self::record::forget;

/// The devices of a node, and who has them; cheap to clone.
#[derive(Clone, Debug)]
pub struct Devices {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    state: Mutex<State>,
    records: Records,
    /// Whether plug-ins can register.
    hears: bool,
    /// Held by who takes note of a new resource: one after another, or one of two would not be written down.
    noting: Mutex<()>,
    /// Rung when there are more devices than before, or fewer.
    bell: Arc<Notify>,
    /// Counts how often a resource was served that had not been.
    arrivals: watch::Sender<u64>,
}

#[derive(Debug)]
struct State {
    pool: Pool,
    /// Who serves a resource, by its name.
    plugins: BTreeMap<String, Serving>,
    /// Counts registrations.
    serial: u64,
}

/// A plug-in that serves. What listens to it ends with this.
#[derive(Debug)]
struct Serving {
    serial: u64,
    plugin: Plugin,
    listening: Option<AbortHandle>,
}

impl Drop for Serving {
    fn drop(&mut self) {
        if let Some(task) = self.listening.take() {
            task.abort();
        }
    }
}

impl Devices {
    /// What is known from before: who has which devices, and which resources plug-ins have served. Also where none can register
    /// now (`hears`): pods keep what they have, and do not begin without what they ask for.
    pub fn open(root: PathBuf, state: PathBuf, boot_id: &str, hears: bool) -> io::Result<Self> {
        let records = Records { root, state, boot_id: boot_id.to_owned() };
        let pool = Pool::new(records.resources()?, records.pods()?);
        let state = State { pool, plugins: BTreeMap::new(), serial: 0 };
        let (noting, bell, arrivals) = (Mutex::default(), Arc::default(), watch::Sender::default());
        let inner = Inner { state: Mutex::new(state), records, hears, noting, bell, arrivals };
        Ok(Devices { inner: Arc::new(inner) })
    }

    /// How many devices there are of each resource that plug-ins serve or have served.
    pub fn counts(&self) -> BTreeMap<String, Count> {
        self.lock().pool.counts(Instant::now())
    }

    /// What is rung, for one listener, when the counts may have changed.
    pub fn bell(&self) -> Arc<Notify> {
        self.inner.bell.clone()
    }

    /// Counts how often a resource came to be served that had not been: whoever waits for its plug-in may try again.
    pub fn arrivals(&self) -> watch::Receiver<u64> {
        self.inner.arrivals.subscribe()
    }

    /// Takes back what a pod has, for it is over.
    pub fn release(&self, uid: &str) {
        let had = self.lock().pool.release(uid);
        if had && let Err(error) = self.inner.records.remove(uid) {
            tracing::warn!(uid, %error, "the record of a pod's devices cannot be removed; the next agent takes it for true");
        }
    }

    /// Takes back what pods have that are none of `known`.
    pub fn keep(&self, known: &BTreeSet<String>) {
        let unknown: Vec<String> = self.lock().pool.pods().filter(|uid| !known.contains(*uid)).cloned().collect();
        unknown.iter().for_each(|uid| self.release(uid));
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.inner.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A plug-in serves a resource from now on, whoever did before; the number of its registration.
    async fn serve_resource(&self, resource: &str, plugin: Plugin) -> io::Result<u64> {
        if !self.lock().pool.knows(resource) {
            let (devices, resource) = (self.clone(), resource.to_owned());
            tokio::task::spawn_blocking(move || devices.know(&resource)).await.map_err(io::Error::other)??;
        }
        let mut state = self.lock();
        state.serial += 1;
        let serial = state.serial;
        state.pool.registered(resource);
        state.plugins.insert(resource.to_owned(), Serving { serial, plugin, listening: None });
        Ok(serial)
    }

    /// Takes note of a resource for good; it waits for the disk.
    fn know(&self, resource: &str) -> io::Result<()> {
        let _turn = self.inner.noting.lock().unwrap_or_else(PoisonError::into_inner);
        let known = match &self.lock().pool {
            pool if pool.knows(resource) => return Ok(()),
            pool => pool.known_with(resource)?,
        };
        self.inner.records.write_resources(&known)?;
        self.lock().pool.know(resource);
        Ok(())
    }

    /// Has what listens to a plug-in end with it.
    fn listens(&self, resource: &str, serial: u64, task: AbortHandle) {
        match self.lock().plugins.get_mut(resource).filter(|it| it.serial == serial) {
            Some(serving) => serving.listening = Some(task),
            // Another one has come, or it is gone already.
            None => task.abort(),
        }
    }

    /// Takes in which devices there are, and whether each is healthy. False when another plug-in serves the resource by now.
    fn listed(&self, resource: &str, serial: u64, devices: BTreeMap<String, bool>) -> bool {
        let mut state = self.lock();
        let current = state.plugins.get(resource).is_some_and(|it| it.serial == serial);
        if current {
            let news = state.pool.listed(resource, devices);
            if news.counts {
                self.inner.bell.notify_one();
            }
            if news.served {
                self.inner.arrivals.send_modify(|count| *count += 1);
            }
        }
        current
    }

    /// A plug-in serves no more.
    fn gone(&self, resource: &str, serial: u64) {
        let mut state = self.lock();
        if state.plugins.get(resource).is_some_and(|it| it.serial == serial) {
            state.plugins.remove(resource);
            state.pool.gone(resource, Instant::now());
            self.inner.bell.notify_one();
        }
    }

    /// Who serves a resource.
    fn plugin(&self, resource: &str) -> Option<Plugin> {
        self.lock().plugins.get(resource).map(|it| it.plugin.clone())
    }
}
