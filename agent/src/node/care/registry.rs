//! The agent's pods as care sees them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use tokio::sync::watch;

use super::{PodState, Pods, Told};
use crate::engine::config::names::PodKey;
use crate::engine::orders::Eviction;
use crate::engine::{PodHandle, Seen, Stopper};
use crate::node::control::Control;

/// The pods that have a worker, by uid. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Registry {
    pods: Arc<Mutex<BTreeMap<String, Entry>>>,
}

#[derive(Clone, Debug)]
struct Entry {
    pod: Arc<Pod>,
    seen: watch::Receiver<Seen>,
    stopper: Stopper,
}

impl Registry {
    /// Adds a pod that was just given a worker.
    pub fn add(&self, handle: &PodHandle) {
        let entry = Entry { pod: handle.pod(), seen: handle.seen(), stopper: handle.stopper() };
        self.with(|pods| pods.insert(entry.pod.metadata.uid.clone().unwrap_or_default(), entry));
    }

    /// Forgets a pod of which nothing is left.
    pub fn remove(&self, pod: &Pod) {
        self.with(|pods| pods.remove(pod.metadata.uid.as_deref().unwrap_or_default()));
    }

    fn find(&self, uid: &str) -> Option<Entry> {
        self.with(|pods| pods.get(uid).cloned())
    }

    fn with<T>(&self, work: impl FnOnce(&mut BTreeMap<String, Entry>) -> T) -> T {
        work(&mut self.pods.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Who hears what care tells: of a pod, or of the node.
pub type Listener = Box<dyn Fn(Option<PodKey>, &Told) + Send + Sync>;

/// The pods of an agent.
pub struct OfAgent {
    /// Those that have a worker.
    pub registry: Registry,
    /// Who starts them anew.
    pub control: Control,
    /// Who hears of it.
    pub listener: Listener,
}

#[tonic::async_trait]
impl Pods for OfAgent {
    async fn pods(&self) -> Vec<PodState> {
        let state = |entry: &Entry| {
            let seen = entry.seen.borrow();
            PodState { pod: seen.pod.clone().unwrap_or_else(|| entry.pod.clone()), over: seen.finished }
        };
        self.registry.with(|pods| pods.values().map(state).collect())
    }

    async fn evict(&self, uid: &str, message: &str, grace: Duration) {
        if let Some(entry) = self.registry.find(uid) {
            entry.stopper.evict(Eviction::EVICTED, message, Some(grace));
        }
    }

    async fn renew(&self, uid: &str) {
        let Some(entry) = self.registry.find(uid) else { return };
        let key = PodKey::of(&entry.pod);
        if let Err(error) = self.control.delete_pod(&key.namespace, &key.name, Some(Duration::ZERO)).await {
            tracing::warn!(pod = key.name, %error, "a pod that was evicted cannot be started anew");
        }
    }

    async fn tell(&self, told: Told) {
        let pod = told.pod.as_deref().and_then(|uid| self.registry.find(uid));
        (self.listener)(pod.map(|entry| PodKey::of(&entry.pod)), &told);
    }
}
