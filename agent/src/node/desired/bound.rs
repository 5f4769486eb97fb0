//! The pods that an API server has bound to this node: what each of them is to do here.
//!
//! ```text
//!             new                        deletionTimestamp                 nothing is left of it
//!  (nothing) ─────> Runs, or Refused ──────────────────────> Leaves ────────────────────────────> Gone
//!      ^      └───> Over: it was when it came                                                       │ final status, then
//!      └────────────────────── the server has it no more ───────────────────────────────────────────┘ DELETE
//! ```
//!
//! Each is recorded before anything is done for it, so that the last known ones start without the server, too. The record
//! has the resources that the pod was given: that is what it has, whoever asks next, until it is given others.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use serde::{Deserialize, Serialize};

use super::{Name, Pods};
use crate::cluster::pods::is_terminal;
use crate::cluster::pods::resize::{self, Pending};
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
    /// As it is run, with the resources that it was given. Its status says what is not its worker's to say: how it is
    /// about other resources, and all of one that does not run.
    pub pod: Arc<Pod>,
    /// As the server wants it, where it has not been given all of that.
    pub wants: Option<Arc<Pod>>,
    /// What it is to do.
    pub role: Role,
    /// What keeps it from beginning for good: something that it needs does not exist here.
    pub unsupported: Option<Gate>,
    /// The critical pod, by uid, for which it has to go.
    pub room_for: Option<String>,
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

impl BoundPod {
    /// One that has all that is wanted for it.
    pub fn new(pod: Arc<Pod>, role: Role) -> Self {
        BoundPod { pod, wants: None, role, unsupported: None, room_for: None }
    }

    /// Whether it runs, or is to begin.
    fn is_active(&self) -> bool {
        matches!(self.role, Role::Runs | Role::Leaves) && !is_terminal(&self.pod)
    }

    /// Takes in what the server says of a pod that runs: all but other resources than it was given. True when it is not
    /// as it was.
    fn take(&mut self, pod: &Arc<Pod>) -> bool {
        if *self.pod == **pod {
            self.wants = None;
            return false;
        }
        let mut given = resize::as_given(pod, &self.pod);
        self.wants = (given.spec != pod.spec).then(|| pod.clone());
        if self.wants.is_some() {
            resize::mark_as(&mut given, &self.pod);
        }
        let changed = *self.pod != given;
        if changed {
            self.pod = Arc::new(given);
        }
        changed
    }
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
                    let bound = BoundPod::new(pod.clone(), Role::Runs);
                    self.pods.insert(uid.clone(), bound);
                    changes.new.push(uid.clone());
                }
                Some(bound) => {
                    if bound.role == Role::Runs && bound.take(pod) {
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

    /// The pods that have not been given all that the server wants for them, in the order in which they are asked for.
    pub fn wanting(&self) -> Vec<(String, Arc<Pod>)> {
        let wants = |(uid, bound): (&String, &BoundPod)| {
            let wants = bound.wants.as_ref().filter(|_| bound.role == Role::Runs)?;
            Some((resize::turn(wants, &bound.pod), uid.clone(), wants.clone()))
        };
        let mut all: Vec<_> = self.pods.iter().filter_map(wants).collect();
        all.sort_by(|(one, ..), (other, ..)| one.cmp(other));
        all.into_iter().map(|(_, uid, wants)| (uid, wants)).collect()
    }

    /// Gives a pod what the server wants for it.
    pub fn give(&mut self, uid: &str) {
        if let Some(bound) = self.pods.get_mut(uid)
            && let Some(wants) = bound.wants.take()
        {
            bound.pod = wants;
        }
    }

    /// Says why a pod is not given what the server wants for it. True when that is not what was said before.
    pub fn defer(&mut self, uid: &str, pending: &Pending, now: Timestamp) -> bool {
        let Some(bound) = self.pods.get_mut(uid) else { return false };
        let mut pod = Pod::clone(&bound.pod);
        let news = resize::mark(&mut pod, Some(pending), now);
        if *bound.pod != pod {
            bound.pod = Arc::new(pod);
        }
        news
    }

    /// Says what keeps a pod from beginning for good.
    pub fn hold(&mut self, uid: &str, unsupported: Option<Gate>) {
        if let Some(bound) = self.pods.get_mut(uid) {
            bound.unsupported = unsupported;
        }
    }

    /// Says that a pod has to go, for a critical one to have its room.
    pub fn make_room(&mut self, uid: &str, critical: &str) {
        if let Some(bound) = self.pods.get_mut(uid) {
            bound.room_for = Some(critical.to_owned());
        }
    }

    /// The critical pod, by uid, for which a pod has to go that is not known to be over.
    pub fn room_for(&self, uid: &str) -> Option<&str> {
        self.pods.get(uid).filter(|bound| bound.is_active())?.room_for.as_deref()
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

#[cfg(test)]
mod tests;

/// Namespace and name of a pod.
pub fn name_of(pod: &Pod) -> Name {
    let key = PodKey::of(pod);
    (key.namespace, key.name)
}
