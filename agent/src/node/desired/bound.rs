//! The pods that an API server has bound to this node: what each of them is to do here.
//!
//! ```text
//!             new                        deletionTimestamp                 nothing is left of it
//!  (nothing) ─────> Runs, or Refused ──────────────────────> Leaves ────────────────────────────> Gone
//!      ^      └───> Over: it was when it came                                                       │ final status, then
//!      └────────────────────── the server has it no more ───────────────────────────────────────────┘ DELETE
//! ```
//!
//! Each is recorded before anything is done for it, so that the last known ones start without the server, too.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Pod, PodStatus};
use serde::{Deserialize, Serialize};

use super::{Name, Pods};
use crate::engine::Gate;
use crate::engine::config::names::PodKey;

/// What a pod that an API server has bound to this node is to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Role {
    /// It is run.
    #[default]
    Runs,
    /// The node does not take it; its status says why.
    Refused,
    /// It was over when it came to be known: nothing of it is run.
    Over,
    /// It is being stopped for good.
    Leaves,
    /// Nothing of it is left. Its status is the last one.
    Gone,
}

/// A pod that an API server has bound to this node.
#[derive(Clone, Debug)]
pub struct BoundPod {
    /// As it is run. It has a status when that is not its worker's to say: of one that does not run.
    pub pod: Arc<Pod>,
    /// What it is to do.
    pub role: Role,
    /// What keeps it from beginning for good: something that it needs does not exist here.
    pub unsupported: Option<Gate>,
}

/// The pods that an API server has bound to this node, by uid.
#[derive(Clone, Debug, Default)]
pub struct BoundPods {
    pods: BTreeMap<String, BoundPod>,
}

/// What a look at the server's pods came to: uids.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BoundChanges {
    /// Seen for the first time, in the order of their creation.
    pub new: Vec<String>,
    /// Other than before.
    pub changed: BTreeSet<String>,
    /// They shall end now.
    pub leaving: BTreeSet<String>,
    /// The server has them no more.
    pub removed: Vec<Arc<Pod>>,
}

impl BoundPods {
    /// The pods as they were recorded.
    pub fn recorded(pods: impl IntoIterator<Item = BoundPod>) -> Self {
        let uid = |it: BoundPod| (PodKey::of(&it.pod).uid, it);
        Self { pods: pods.into_iter().map(uid).collect() }
    }

    /// Takes in what the server has now. New ones are to run until somebody says otherwise.
    pub fn merge(&mut self, server: &BTreeMap<String, Arc<Pod>>) -> BoundChanges {
        let mut changes = BoundChanges::default();
        self.pods.retain(|uid, bound| {
            let kept = server.contains_key(uid);
            if !kept {
                changes.removed.push(bound.pod.clone());
            }
            kept
        });
        for (uid, pod) in server {
            match self.pods.get_mut(uid) {
                None => {
                    let bound = BoundPod { pod: pod.clone(), role: Role::Runs, unsupported: None };
                    self.pods.insert(uid.clone(), bound);
                    changes.new.push(uid.clone());
                }
                Some(bound) => {
                    if bound.role == Role::Runs && *bound.pod != **pod {
                        bound.pod = pod.clone();
                        changes.changed.insert(uid.clone());
                    }
                    // Whatever has no worker keeps the status that is known of it.
                    if bound.role != Role::Runs && differs(&bound.pod, pod) {
                        let status = bound.pod.status.clone();
                        bound.pod = Arc::new(Pod { status, ..Pod::clone(pod) });
                        changes.changed.insert(uid.clone());
                    }
                    if pod.metadata.deletion_timestamp.is_some() && bound.role != Role::Gone {
                        if bound.role != Role::Leaves {
                            changes.changed.insert(uid.clone());
                        }
                        bound.role = Role::Leaves;
                        changes.leaving.insert(uid.clone());
                    }
                }
            }
        }
        let created = |uid: &String| self.pods.get(uid).and_then(|it| it.pod.metadata.creation_timestamp.clone());
        changes.new.sort_by_cached_key(created);
        changes
    }

    /// The pods that are run.
    pub fn running(&self) -> impl Iterator<Item = (Name, &Arc<Pod>)> {
        self.pods.values().filter(|bound| bound.role == Role::Runs).map(|bound| (name_of(&bound.pod), &bound.pod))
    }

    /// Whether a pod of that name is run.
    pub fn runs(&self, name: &Name) -> bool {
        self.running().any(|(running, _)| running == *name)
    }

    /// The pod of that name that is run.
    pub fn find(&self, name: &Name) -> Option<&BoundPod> {
        self.pods.values().find(|bound| bound.role == Role::Runs && name_of(&bound.pod) == *name)
    }

    /// The pod of this uid.
    pub fn get(&self, uid: &str) -> Option<&BoundPod> {
        self.pods.get(uid)
    }

    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = (&String, &BoundPod)> {
        self.pods.iter()
    }

    /// Those of which nothing is left, with their last status.
    pub fn gone(&self) -> BTreeMap<String, Arc<Pod>> {
        let gone = self.pods.iter().filter(|(_, bound)| bound.role == Role::Gone);
        gone.map(|(uid, bound)| (uid.clone(), bound.pod.clone())).collect()
    }

    /// Says what a pod is to do from now on, with its status where that is not its worker's to say.
    pub fn assign(&mut self, uid: &str, role: Role, status: Option<PodStatus>) {
        if let Some(bound) = self.pods.get_mut(uid) {
            bound.role = role;
            if let Some(status) = status {
                bound.pod = Arc::new(Pod { status: Some(status), ..Pod::clone(&bound.pod) });
            }
        }
    }

    /// Says what keeps a pod from beginning for good.
    pub fn hold(&mut self, uid: &str, unsupported: Option<Gate>) {
        if let Some(bound) = self.pods.get_mut(uid) {
            bound.unsupported = unsupported;
        }
    }

    /// Adds those that are run to others.
    pub(super) fn extend(&self, pods: &mut Pods) {
        for (name, pod) in self.running() {
            pods.entry(name).or_insert_with(|| pod.clone());
        }
    }
}

/// Whether they differ in anything but their status.
fn differs(one: &Pod, other: &Pod) -> bool {
    one.metadata != other.metadata || one.spec != other.spec
}

/// Namespace and name of a pod.
pub fn name_of(pod: &Pod) -> Name {
    let key = PodKey::of(pod);
    (key.namespace, key.name)
}
