//! Room on the node: who is given more of it, and who makes room for a critical pod.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod};

use super::{Reconciler, uid};
use crate::cluster::pods::resize::{DEFERRED, Pending, pending};
use crate::cluster::pods::{House, Refusal, admit, is_critical, make_room};
use crate::engine::Gate;
use crate::engine::notice::Event;
use crate::engine::orders::Eviction;
use crate::engine::resizing::summary;
use crate::node::desired::bound::{BoundPod, Role, name_of};
use crate::node::file_of;
use crate::node::live::Live;

/// What is said of a pod that makes room, in kubelet's words.
const PREEMPTED: &str = "Preempted in order to admit critical pod";

impl Reconciler {
    /// Gives pods what the server wants for them by now, as far as there is room.
    pub(super) async fn allocate(&mut self) {
        let wanting = self.desired.bound().wanting();
        let Some(node) = (!wanting.is_empty()).then(|| self.node()).flatten() else { return };
        let mut noted = BTreeSet::new();
        for (uid, wants) in wanting {
            let before = self.desired.bound().get(&uid).map(|bound| bound.pod.clone());
            match self.pending(&uid, &wants, &node) {
                None => self.desired.bound_mut().give(&uid),
                Some(pending) => self.defer(&uid, &wants, &pending).await,
            }
            if self.desired.bound().get(&uid).map(|bound| &bound.pod) != before.as_ref() {
                noted.insert(uid);
            }
        }
        // What a pod was given holds for the next agent, too: it is recorded before the pod has it.
        self.write_bound(noted);
        if !self.desired.bound().wanting().is_empty() {
            // Room may appear with the end of any.
            self.pods.values_mut().for_each(|live| live.ring(&self.bell));
        }
    }

    /// Why a pod is not given what the server wants for it; whoever has to go for a critical one is asked to.
    fn pending(&mut self, uid: &str, wants: &Arc<Pod>, node: &Node) -> Option<Pending> {
        let pending = pending(wants, &self.others(uid), node);
        let deferred = pending.as_ref().is_some_and(|it| it.reason == DEFERRED);
        if pending.is_some() && !(deferred && is_critical(wants) && self.admitted(wants).is_ok()) {
            return pending;
        }
        self.held_by_victims(wants).map(|gate| Pending { reason: DEFERRED, message: gate.message })
    }

    /// Says why a pod keeps what it has.
    async fn defer(&mut self, uid: &str, wants: &Pod, pending: &Pending) {
        if self.desired.bound_mut().defer(uid, pending, Timestamp::now()) {
            let message = format!("Pod resize {}: {}", pending.reason, summary(wants, &pending.message));
            let reason = format!("Resize{}", pending.reason);
            self.shown.tell(wants, Event::Resize { reason, message, bad: true }).await;
        }
    }

    /// A pod that others wait for is not as it was.
    pub(super) async fn rung(&mut self) {
        if self.desired.bound().wanting().is_empty() { self.gate() } else { self.apply().await }
    }

    /// Why the node does not take a pod; whoever has to go for a critical one is asked to.
    pub(super) fn admitted(&mut self, pod: &Arc<Pod>) -> Result<(), Refusal> {
        let Some(node) = self.node() else { return Ok(()) };
        let house = House { unsafe_sysctls: &self.engine.settings().unsafe_sysctls, apparmor: runtime::has_apparmor() };
        // What a manifest asks for is its operator's word.
        if let Some(refusal) = house.refuses(pod).filter(|_| file_of(pod).is_none()) {
            return Err(refusal);
        }
        let others = self.others(uid(pod));
        if !is_critical(pod) {
            return admit(pod, &others, &node).map_or(Ok(()), Err);
        }
        let victims = make_room(pod, &others, &node)?;
        let uids: BTreeSet<String> = victims.iter().map(|victim| uid(victim).to_owned()).collect();
        for victim in &uids {
            self.desired.bound_mut().make_room(victim, uid(pod));
        }
        // The next agent has them go, too, and the critical pod wait for that.
        self.write_bound(uids);
        for victim in &victims {
            let (name, critical) = (victim.metadata.name.as_deref(), pod.metadata.name.as_deref());
            tracing::warn!(pod = name, critical, "the pod makes room for a critical one");
            self.preempt(victim, uid(pod));
        }
        Ok(())
    }

    /// Ends a pod that makes room; one that has not begun is asked as soon as it does.
    fn preempt(&mut self, victim: &Pod, critical: &str) {
        let live = self.pods.get_mut(&name_of(victim)).filter(|live| uid(&live.pod) == uid(victim));
        if let Some(live) = live {
            live.room_for = Some(critical.to_owned());
            live.evict(Eviction::PREEMPTING, PREEMPTED, None);
            live.ring(&self.bell);
        }
    }

    /// Has a pod that has just been given a worker go, if it makes room.
    pub(super) fn make_way(&mut self, pod: &Pod) {
        if let Some(critical) = self.desired.bound().room_for(uid(pod)).map(str::to_owned) {
            self.preempt(pod, &critical);
        }
    }

    /// Has whoever is in the way of a manifest's pod go. Where nobody can, it begins all the same: without the cluster it
    /// would, too.
    pub(super) fn clear_the_way(&mut self, pod: &Arc<Pod>) {
        if self.desired.bound().get(uid(pod)).is_none()
            && let Err(refusal) = self.admitted(pod)
        {
            let name = pod.metadata.name.as_deref();
            tracing::warn!(
                pod = name,
                reason = refusal.reason,
                "the cluster would not place the pod here: {}",
                refusal.message
            );
        }
    }

    /// What a critical pod waits for: that who makes room for it has ended.
    pub(super) fn held_by_victims(&self, pod: &Pod) -> Option<Gate> {
        if !is_critical(pod) {
            return None;
        }
        let critical = Some(uid(pod));
        let goes = |live: &&Live| live.room_for.as_deref() == critical && !live.seen().finished;
        let lives = |victim: &Pod| self.pods.get(&name_of(victim)).is_some_and(|live| uid(&live.pod) == uid(victim));
        let bound = self.desired.bound();
        let to_go = |(uid, it): &(&String, &BoundPod)| {
            it.role == Role::Runs && bound.room_for(uid) == critical && !lives(&it.pod)
        };
        let going = self.pods.values().filter(goes).map(|live| &live.pod);
        let pods = going.chain(bound.all().filter(to_go).map(|(_, bound)| &bound.pod));
        let names: Vec<&str> = pods.filter_map(|pod| pod.metadata.name.as_deref()).collect();
        let message = || format!("it waits for pods that make room for it: {}", names.join(", "));
        (!names.is_empty()).then(|| Gate { reason: "ContainerCreating".into(), message: message() })
    }
}
