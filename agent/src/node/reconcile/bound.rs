//! Pods that an API server has bound to this node: begun, changed and ended as it says.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Node, Pod, PodStatus};
use tokio::sync::watch;
use tokio::task::JoinError;

use super::endings::removed;
use super::{Reconciler, sync, uid};
use crate::cluster::objects::Following;
use crate::cluster::pods::{Refusal, Server, is_terminal, refused, unsupported};
use crate::csi::Csi;
use crate::engine::Gate;
use crate::net::Surroundings;
use crate::node::desired::bound::{Role, name_of};
use crate::node::desired::{Name, Pods};
use crate::node::live::Live;

/// What is said of a pod that comes too late, in kubelet's words.
const SHUTDOWN: &str = "Pod was rejected as the node is shutting down.";

impl Reconciler {
    /// From now on runs what an API server binds to this node, too.
    pub fn follow(&mut self, server: Server, objects: Following, registered: watch::Receiver<Option<Arc<Node>>>) {
        self.registered = Some(registered);
        self.server = Some(server);
        self.objects = Some(objects);
    }

    /// Asks for what the server's pods refer to, before any of them is given a worker.
    fn want_objects(&self) {
        let Some(objects) = &self.objects else { return };
        let leaving = self.pods.values().filter(|live| live.leaves());
        let bound = |pod: &Arc<Pod>| self.desired.bound().get(uid(pod)).is_some();
        // What is being stopped has what it refers to until it is gone.
        let leaving = leaving.map(|live| &live.pod).filter(|pod| bound(pod)).map(|pod| (name_of(pod), pod.clone()));
        let mut pods: Pods = leaving.collect();
        pods.extend(self.desired.bound().running().map(|(name, pod)| (name, pod.clone())));
        objects.want(&pods);
    }

    /// Why a pod may not begin yet, as far as the server has to do with it.
    pub(super) fn held_by_server(&self, name: &Name) -> Option<Gate> {
        let bound = self.desired.bound().find(name)?;
        let known = self.objects.as_ref().and_then(|objects| objects.known().borrow().gate(&bound.pod));
        bound.unsupported.clone().or(known)
    }

    /// Takes in what the server has bound to this node now.
    pub(super) async fn bound(&mut self) {
        let Some(told) = self.server.as_ref().and_then(|server| server.bound().borrow().clone()) else { return };
        if let Some(now) = self.registered.as_ref().and_then(|it| it.borrow().clone()) {
            self.registration = Some(now);
        }
        // Whether a pod may be here depends on what others have written on the node; it is told as soon as the pods are.
        if self.registration.is_none() {
            return;
        }
        let changes = self.desired.merge_bound(&told);
        self.unjudged = changes.new.iter().cloned().collect();
        for uid in &changes.new {
            self.judge(uid);
            self.unjudged.remove(uid);
        }
        let named: BTreeSet<String> = changes.new.iter().chain(&changes.changed).cloned().collect();
        for uid in &named {
            self.check(uid);
        }
        // What is to be stopped is recorded first: without its record nobody would know of it.
        self.note_leaving();
        let gone = changes.removed.iter().map(|pod| uid(pod).to_owned());
        self.write_bound(named.iter().cloned().chain(gone).collect());
        for uid in &changes.leaving {
            self.leave(uid);
        }
        for pod in changes.removed {
            self.forget_bound(pod);
        }
        self.announce_gone();
        self.want_objects();
        self.end_strays();
        self.apply().await;
    }

    /// Goes on with the pods that were bound when the last agent ended.
    pub(super) fn resume_bound(&mut self) {
        if self.server.is_none() {
            return self.resume_without_cluster();
        }
        let known: Vec<(String, Role, Arc<Pod>)> =
            self.desired.bound().all().map(|(uid, it)| (uid.clone(), it.role, it.pod.clone())).collect();
        for (uid, role, pod) in known {
            match role {
                Role::Runs => self.check(&uid),
                Role::Refused | Role::Over => self.show(&pod),
                Role::Leaves => self.leave(&uid),
                Role::Gone => {}
            }
        }
        self.want_objects();
        self.announce_gone();
    }

    /// The node is no cluster's any more: what a cluster had bound to it ends.
    fn resume_without_cluster(&mut self) {
        let pods: Vec<Arc<Pod>> = self.desired.merge_bound(&Default::default()).removed;
        for pod in &pods {
            tracing::warn!(
                pod = pod.metadata.name,
                "the node is none of a cluster any more: the cluster's pod is stopped"
            );
            self.note_ending(pod);
        }
        self.write_bound(pods.iter().map(|pod| uid(pod).to_owned()).collect());
        pods.into_iter().for_each(|pod| self.resume_ending(pod));
    }

    /// What a pod that was never seen is to do.
    fn judge(&mut self, uid: &str) {
        let Some(pod) = self.desired.bound().get(uid).map(|bound| bound.pod.clone()) else { return };
        let name = name_of(&pod);
        if pod.metadata.deletion_timestamp.is_some() {
            self.desired.bound_mut().assign(uid, Role::Leaves, None);
            return self.leave(uid);
        }
        if is_terminal(&pod) {
            self.desired.bound_mut().assign(uid, Role::Over, None);
            return self.show(&pod);
        }
        let refusal = self.desired.has_manifest(&name).then(|| Refusal {
            reason: "NameTaken".into(),
            message: format!("a manifest of this node has a pod {}/{} already; rename one of them", name.0, name.1),
        });
        if let Err(refusal) = refusal.map_or(Ok(()), Err).and_then(|()| self.admitted(&pod)) {
            self.refuse(uid, &pod, &refusal);
        }
    }

    /// The pods that hold something of the node, but for one; those that are new, and not judged yet, come after it.
    pub(super) fn others(&self, than: &str) -> Vec<Arc<Pod>> {
        let known_over = |pod: &Pod| self.desired.bound().get(uid(pod)).is_some_and(|bound| is_terminal(&bound.pod));
        // What makes room holds nothing that others could not have.
        let over = |live: &Live| live.is_over() || known_over(&live.pod) || live.room_for.is_some();
        let makes_room = |uid: &str| self.desired.bound().room_for(uid).is_some();
        let mut others: BTreeMap<String, Arc<Pod>> = BTreeMap::new();
        // One that a killed agent knew to be over is that, before anybody has looked at it again.
        let holds = |pod: &&Arc<Pod>| !self.unjudged.contains(uid(pod)) && !is_terminal(pod) && !makes_room(uid(pod));
        for pod in self.desired.pods().values().filter(holds) {
            others.insert(uid(pod).to_owned(), pod.clone());
        }
        for live in self.pods.values() {
            if over(live) {
                others.remove(uid(&live.pod));
            } else {
                // What it was given last, it may not have yet.
                others.entry(uid(&live.pod).to_owned()).or_insert_with(|| live.pod.clone());
            }
        }
        others.remove(than);
        others.into_values().collect()
    }

    /// The node: what it has, as it is seen here, or was when it was registered, and what others wrote on it.
    pub(super) fn node(&self) -> Option<Node> {
        let registered = self.registration.as_deref()?;
        let Some(here) = self.shown.node(&self.node_name) else { return Some(registered.clone()) };
        let mut node = Node::clone(&here);
        node.metadata.labels.clone_from(&registered.metadata.labels);
        node.spec.clone_from(&registered.spec);
        lend(&mut node, registered);
        Some(node)
    }

    /// Takes no pod any more: what the server binds to a node that goes down begins elsewhere.
    pub(super) fn turn_away(&mut self) {
        let Some(told) = self.server.as_ref().and_then(|server| server.bound().borrow().clone()) else { return };
        let new = self.desired.merge_bound(&told).new;
        let refusal = Refusal { reason: "NodeShutdown".into(), message: SHUTDOWN.into() };
        for uid in &new {
            let pod = self.desired.bound().get(uid).map(|bound| bound.pod.clone());
            if let Some(pod) = pod.filter(|pod| pod.metadata.deletion_timestamp.is_none() && !is_terminal(pod)) {
                self.refuse(uid, &pod, &refusal);
                self.write_bound([uid.clone()].into());
            }
        }
    }

    fn refuse(&mut self, uid: &str, pod: &Pod, refusal: &Refusal) {
        tracing::warn!(pod = pod.metadata.name, reason = refusal.reason, "the pod is refused: {}", refusal.message);
        self.desired.bound_mut().assign(uid, Role::Refused, Some(refused(pod, refusal, &self.engine.settings().node)));
        if let Some(bound) = self.desired.bound().get(uid) {
            self.show(&bound.pod);
        }
    }

    /// Holds a pod back that asks for what does not exist here.
    fn check(&mut self, uid: &str) {
        let running = self.desired.bound().get(uid).filter(|bound| bound.role == Role::Runs);
        let drivers = self.engine.csi().is_some_and(Csi::is_supported);
        let Some(gate) = running.map(|bound| unsupported(&bound.pod, drivers)) else { return };
        self.desired.bound_mut().hold(uid, gate);
    }

    /// Begins the end of a pod, within the time that the server grants it.
    fn leave(&mut self, uid: &str) {
        let Some(pod) = self.desired.bound().get(uid).map(|bound| bound.pod.clone()) else { return };
        let name = name_of(&pod);
        let grace = pod.metadata.deletion_grace_period_seconds.and_then(|it| u64::try_from(it).ok());
        let grace = grace.map(Duration::from_secs);
        // What has not run here has no worker and needs none.
        let never = pod.status.as_ref().is_some_and(|status| status.phase.is_some());
        match self.pods.get_mut(&name) {
            Some(live) if super::uid(&live.pod) == uid => {
                live.update(&pod);
                return live.leave(grace);
            }
            None if !never => self.start(&name, &pod, None, Surroundings::default()),
            _ => return self.remove_bound(pod),
        }
        if let Some(live) = self.pods.get_mut(&name) {
            live.leave(grace);
        }
    }

    /// Removes whatever there is of a pod that has no worker.
    fn remove_bound(&mut self, pod: Arc<Pod>) {
        let uid = uid(&pod).to_owned();
        if self.removing.insert(uid.clone()) {
            let engine = self.engine.clone();
            self.removals.spawn(async move {
                removed(&engine, &pod, &name_of(&pod)).await;
                uid
            });
        }
    }

    /// Nothing is left of a pod that had no worker.
    pub(super) fn removed_bound(&mut self, ended: Result<String, JoinError>) {
        let uid = match ended {
            Ok(uid) => uid,
            Err(error) => {
                tracing::error!(%error, "the removal of a pod broke off; restart the agent to have it ended");
                return;
            }
        };
        self.removing.remove(&uid);
        let status = self.desired.bound().get(&uid).and_then(|bound| bound.pod.status.clone());
        self.gone(&uid, status);
    }

    /// Nothing is left of a pod that had a worker.
    pub(super) fn ended_bound(&mut self, live: &Live) {
        let status = live.seen().pod.and_then(|pod| pod.status.clone());
        self.gone(uid(&live.pod), status);
    }

    fn gone(&mut self, uid: &str, status: Option<PodStatus>) {
        if self.desired.bound().get(uid).is_some_and(|bound| bound.role == Role::Leaves) {
            self.desired.bound_mut().assign(uid, Role::Gone, status);
            self.write_bound([uid.to_owned()].into());
            self.announce_gone();
        }
    }

    /// The server has a pod no more. One that has a worker is being stopped already.
    fn forget_bound(&mut self, pod: Arc<Pod>) {
        let lives = self.pods.get(&name_of(&pod)).is_some_and(|live| uid(&live.pod) == uid(&pod));
        if !lives {
            self.remove_bound(pod);
        }
    }

    /// Tells of which pods nothing is left.
    fn announce_gone(&self) {
        if let Some(server) = &self.server {
            server.set_gone(self.desired.bound().gone());
        }
    }

    /// Tells which pods are this node's own, for the server to show them.
    pub(super) fn tell_own(&self, desired: &Pods) {
        let Some(server) = self.server.as_ref().filter(|_| self.desired.knows_all()) else { return };
        let all = desired.values().chain(self.pods.values().map(|live| &live.pod));
        let own = all.filter(|pod| crate::node::file_of(pod).is_some() && self.desired.bound().get(uid(pod)).is_none());
        server.set_own(own.map(|pod| (uid(pod).to_owned(), pod.clone())).collect());
    }

    /// Shows a pod that has no worker.
    fn show(&self, pod: &Pod) {
        self.shown.put(pod.clone());
    }

    /// Records pods as they are bound now. What cannot be recorded is tried again; the pods do not wait for it.
    pub(super) fn write_bound(&mut self, uids: BTreeSet<String>) {
        let mut written: Vec<PathBuf> = Vec::new();
        for uid in uids {
            match self.disk.write_bound(&uid, &self.desired) {
                Ok(record) => written.push(record),
                Err(error) => {
                    tracing::error!(uid, %error, "that a pod is bound to this node cannot be recorded; it is tried again");
                    self.unwritten_bound.insert(uid);
                }
            }
        }
        sync(written);
    }
}

/// Gives a node, as it is seen here, the resources that others have written on it.
fn lend(node: &mut Node, registered: &Node) {
    let (Some(status), Some(theirs)) = (node.status.as_mut(), registered.status.as_ref()) else { return };
    let lists = [(&mut status.capacity, &theirs.capacity), (&mut status.allocatable, &theirs.allocatable)];
    for (mine, theirs) in lists {
        for (name, amount) in theirs.iter().flatten().filter(|(name, _)| name.contains('/')) {
            mine.get_or_insert_default().entry(name.clone()).or_insert_with(|| amount.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    #[test]
    fn resources_that_others_write_on_the_node_count_but_not_in_the_place_of_its_own() {
        let node =
            |amounts| serde_json::from_value::<Node>(json!({"metadata": {}, "status": {"allocatable": amounts}}));
        let mut here = node(json!({"cpu": "2", "example.com/own": "0"})).unwrap();
        let theirs = node(json!({"cpu": "4", "example.com/own": "3", "example.com/theirs": "1", "odd": "1"})).unwrap();
        lend(&mut here, &theirs);
        let expected = json!({"cpu": "2", "example.com/own": "0", "example.com/theirs": "1"});
        assert_eq!(json!(here.status.unwrap().allocatable), expected);
    }
}
