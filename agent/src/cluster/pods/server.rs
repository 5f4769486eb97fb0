//! The pods of this node as the API server has them, as far as they are known here.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use k8s_openapi::api::core::v1::Pod;
use tokio::sync::watch;

use super::mirror::mirrored;
use super::wanted::{is_mirror, wanted};
use crate::engine::config::names::PodKey;

/// The pods that the API server has bound to this node, by uid, each as this node is to run it. Mirrors of this node's own
/// pods are none of them.
pub type Bound = BTreeMap<String, Arc<Pod>>;

/// The pods of this node as the API server has them. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct Server {
    inner: Arc<Inner>,
}

struct Inner {
    state: Mutex<State>,
    /// None until the server has told all of them once.
    bound: watch::Sender<Option<Arc<Bound>>>,
    /// Counts changes.
    changes: watch::Sender<u64>,
    /// The pods of which nothing is left here, with their last status.
    gone: watch::Sender<Arc<Bound>>,
    /// This node's own pods; none until every manifest was read.
    own: watch::Sender<Option<Arc<Bound>>>,
}

#[derive(Default)]
struct State {
    pods: BTreeMap<String, Arc<Pod>>,
    bound: Arc<Bound>,
    complete: bool,
    doubted: bool,
}

impl Server {
    /// Nothing is known yet.
    pub fn new() -> Self {
        let inner = Inner {
            state: Mutex::default(),
            bound: watch::Sender::new(None),
            changes: watch::Sender::new(0),
            gone: watch::Sender::new(Arc::default()),
            own: watch::Sender::new(None),
        };
        Self { inner: Arc::new(inner) }
    }

    /// What is bound to this node, whenever that changes; nothing is told before all of it is known.
    pub fn bound(&self) -> watch::Receiver<Option<Arc<Bound>>> {
        self.inner.bound.subscribe()
    }

    /// Tells that anything has changed.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.inner.changes.subscribe()
    }

    /// Of these pods nothing is left here: they have their last status, and may be removed from the server.
    pub fn set_gone(&self, gone: Bound) {
        self.inner.gone.send_if_modified(|before| {
            let changed = **before != gone;
            if changed {
                *before = Arc::new(gone);
            }
            changed
        });
    }

    /// The pods of which nothing is left here, whenever that changes.
    pub fn gone(&self) -> watch::Receiver<Arc<Bound>> {
        self.inner.gone.subscribe()
    }

    /// These are this node's own pods, by uid: those of manifests.
    pub fn set_own(&self, own: Bound) {
        self.inner.own.send_if_modified(|before| {
            let changed = before.as_deref() != Some(&own);
            if changed {
                *before = Some(Arc::new(own));
            }
            changed
        });
    }

    /// This node's own pods, whenever that changes; none until every manifest was read.
    pub fn own(&self) -> watch::Receiver<Option<Arc<Bound>>> {
        self.inner.own.subscribe()
    }

    /// Whether all pods of this node were told once.
    pub fn is_complete(&self) -> bool {
        self.lock().complete
    }

    /// What the server has of a pod: the pod itself, or the mirror of one of this node's own.
    pub fn shown(&self, uid: &str) -> Option<Arc<Pod>> {
        let state = self.lock();
        let mirror = || state.pods.values().find(|pod| mirrored(pod) == Some(uid)).cloned();
        state.pods.get(uid).cloned().or_else(mirror)
    }

    /// The mirrors of this node's own pods.
    pub fn mirrors(&self) -> Vec<Arc<Pod>> {
        self.lock().pods.values().filter(|pod| is_mirror(pod)).cloned().collect()
    }

    /// What is listed next counts, whatever version is known: the server's storage may be another one.
    pub fn doubt(&self) {
        self.lock().doubted = true;
    }

    /// These are all the pods there are.
    pub fn replace(&self, pods: impl IntoIterator<Item = Pod>) {
        let mut state = self.lock();
        let doubted = std::mem::take(&mut state.doubted);
        let mut now = BTreeMap::new();
        for pod in pods {
            let pod = slim(pod);
            let uid = PodKey::of(&pod).uid;
            // A write of this node's may have been answered since the list was made.
            let newer = state.pods.get(&uid).filter(|known| !doubted && version(known) > version(&pod)).cloned();
            now.insert(uid, newer.unwrap_or_else(|| Arc::new(pod)));
        }
        state.pods = now;
        let pods: Vec<Arc<Pod>> = state.pods.values().cloned().collect();
        let mut bound = Bound::new();
        for pod in pods.iter().filter(|pod| !is_mirror(pod)) {
            let uid = PodKey::of(pod).uid;
            let wanted = wanted(pod);
            let before = state.bound.get(&uid).filter(|before| ***before == wanted).cloned();
            bound.insert(uid, before.unwrap_or_else(|| Arc::new(wanted)));
        }
        state.complete = true;
        let changed = *state.bound != bound;
        if changed {
            state.bound = Arc::new(bound);
        }
        self.tell(&state, changed);
    }

    /// A pod as it is now, unless something newer is known of it.
    pub fn put(&self, pod: Pod) {
        let pod = slim(pod);
        let mut state = self.lock();
        let uid = PodKey::of(&pod).uid;
        if state.pods.get(&uid).is_some_and(|known| version(known) >= version(&pod)) {
            return;
        }
        let wanted = (!is_mirror(&pod)).then(|| wanted(&pod));
        let changed = wanted.filter(|wanted| state.bound.get(&uid).is_none_or(|before| **before != *wanted));
        state.pods.insert(uid.clone(), Arc::new(pod));
        let has_changed = changed.is_some();
        if let Some(wanted) = changed {
            Arc::make_mut(&mut state.bound).insert(uid, Arc::new(wanted));
        }
        self.tell(&state, has_changed);
    }

    /// A pod as the answer to a write shows it. It may be gone by now: then it stays so.
    pub fn update(&self, pod: Pod) {
        let known = self.lock().pods.contains_key(&PodKey::of(&pod).uid);
        if known {
            self.put(pod);
        }
    }

    /// A pod is gone.
    pub fn remove(&self, uid: &str) {
        let mut state = self.lock();
        if state.pods.remove(uid).is_none() {
            return;
        }
        let bound = state.bound.contains_key(uid);
        if bound {
            Arc::make_mut(&mut state.bound).remove(uid);
        }
        self.tell(&state, bound);
    }

    fn tell(&self, state: &State, bound: bool) {
        if state.complete && (bound || self.inner.bound.borrow().is_none()) {
            self.inner.bound.send_replace(Some(state.bound.clone()));
        }
        self.inner.changes.send_modify(|count| *count = count.wrapping_add(1));
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.inner.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The version of a pod, to be compared with another one of the same pod.
fn version(pod: &Pod) -> u64 {
    pod.metadata.resource_version.as_deref().and_then(|it| it.parse().ok()).unwrap_or(0)
}

/// A pod without who wrote which field when, which is most of it and nothing to a node.
fn slim(mut pod: Pod) -> Pod {
    pod.metadata.managed_fields = None;
    pod
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::{Value, json};

    use super::*;

    fn pod(uid: &str, version: u64, more: Value) -> Pod {
        let mut metadata = json!({"namespace": "ns", "name": uid, "uid": uid, "resourceVersion": version.to_string(),
            "managedFields": [{"manager": "m"}]});
        metadata.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        serde_json::from_value(json!({"metadata": metadata, "spec": {"containers": []}})).unwrap()
    }

    fn plain(uid: &str, version: u64) -> Pod {
        pod(uid, version, json!({}))
    }

    fn mirror(uid: &str, of: &str) -> Pod {
        pod(uid, 1, json!({"annotations": {"kubernetes.io/config.mirror": of, "kubernetes.io/config.hash": of}}))
    }

    fn bound(server: &Server) -> Option<Vec<String>> {
        server.bound().borrow().as_ref().map(|bound| bound.keys().cloned().collect())
    }

    fn shown_version(server: &Server, uid: &str) -> Option<u64> {
        server.shown(uid).map(|pod| version(&pod))
    }

    #[test]
    fn nothing_is_bound_before_all_was_told_and_mirrors_never_are() {
        let server = Server::new();
        server.put(plain("a", 1));
        assert_eq!((bound(&server), server.is_complete()), (None, false));
        server.replace([plain("a", 1), mirror("m", "own")]);
        assert_eq!((bound(&server), server.is_complete()), (Some(vec!["a".to_owned()]), true));
        assert_eq!(server.mirrors().len(), 1);
        assert_eq!(server.shown("own").unwrap().metadata.uid.as_deref(), Some("m"), "the server has it as its mirror");
        server.remove("a");
        assert_eq!(bound(&server), Some(vec![]));
    }

    #[test]
    fn the_newest_version_counts_unless_the_storage_is_doubted() {
        let server = Server::new();
        server.replace([plain("a", 5)]);
        server.put(plain("a", 4));
        assert_eq!(shown_version(&server, "a"), Some(5), "it was on its way for longer");
        server.put(plain("a", 6));
        server.replace([plain("a", 5)]);
        assert_eq!(shown_version(&server, "a"), Some(6), "a list may be older than what a write was answered");
        server.doubt();
        server.replace([plain("a", 2)]);
        assert_eq!(shown_version(&server, "a"), Some(2), "another storage counts anew");
        server.update(plain("b", 9));
        assert_eq!(shown_version(&server, "b"), None, "what is gone does not come back with an answer");
    }

    #[test]
    fn who_runs_pods_hears_of_what_concerns_them_alone() {
        let server = Server::new();
        server.replace([plain("a", 1)]);
        let (mut bound, mut changes) = (server.bound(), server.changes());
        let heard = || (bound.has_changed().unwrap(), changes.has_changed().unwrap());
        assert_eq!(heard(), (false, false));
        server.put(plain("a", 2));
        assert_eq!(heard(), (false, true), "its version is the server's business");
        server.put(pod("a", 3, json!({"labels": {"k": "v"}})));
        assert_eq!(heard(), (true, true));
        let _ = (bound.borrow_and_update(), changes.borrow_and_update());
        server.remove("b");
        assert_eq!((bound.has_changed().unwrap(), changes.has_changed().unwrap()), (false, false));
        assert!(server.shown("a").unwrap().metadata.managed_fields.is_none(), "most of it, and nothing to a node");
    }
}
