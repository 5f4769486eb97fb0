//! Room on the node: who is given more of it, and who makes room for a critical pod.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;

use super::{Reconciler, uid};
use crate::cluster::pods::resize::{Pending, pending};
use crate::cluster::pods::{House, Refusal, admit, is_critical, is_terminal, make_room};
use crate::engine::Gate;
use crate::engine::notice::Event;
use crate::engine::orders::Eviction;
use crate::engine::resizing::summary;
use crate::node::desired::bound::{Role, name_of};
use crate::node::file_of;

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
            match pending(&wants, &self.others(&uid), &node) {
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
        for victim in &victims {
            tracing::warn!(
                pod = victim.metadata.name,
                critical = pod.metadata.name,
                "the pod makes room for a critical one"
            );
            self.preempt(victim);
        }
        if !victims.is_empty() {
            let victims = victims.iter().map(|victim| uid(victim).to_owned()).collect();
            self.room_for.insert(uid(pod).to_owned(), victims);
        }
        Ok(())
    }

    /// Ends a pod that makes room; one that has not begun is asked as soon as it does.
    fn preempt(&mut self, victim: &Pod) {
        let live = self.pods.get_mut(&name_of(victim)).filter(|live| uid(&live.pod) == uid(victim));
        if let Some(live) = live {
            live.evict(Eviction::PREEMPTING, PREEMPTED, None);
            live.ring(&self.bell);
        }
    }

    /// Has a pod that has just begun go again, if it makes room.
    pub(super) fn make_way(&mut self, pod: &Pod) {
        if self.makes_room(uid(pod)) {
            self.preempt(pod);
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
        let victims = self.room_for.get(uid(pod))?;
        let names = self.pods.values().filter(|live| victims.contains(uid(&live.pod)) && !live.seen().finished);
        let names: Vec<&str> = names.filter_map(|live| live.pod.metadata.name.as_deref()).collect();
        let message = || format!("it waits for pods that make room for it: {}", names.join(", "));
        (!names.is_empty()).then(|| Gate { reason: "ContainerCreating".into(), message: message() })
    }

    /// Whether a pod makes room, and so holds nothing of the node that others could not have.
    pub(super) fn makes_room(&self, uid: &str) -> bool {
        self.room_for.values().any(|victims| victims.contains(uid))
    }

    /// Forgets who made room for whom, once they are gone.
    pub(super) fn forget_room(&mut self) {
        let (pods, bound) = (&self.pods, self.desired.bound());
        let to_begin =
            |victim: &String| bound.get(victim).is_some_and(|it| it.role == Role::Runs && !is_terminal(&it.pod));
        let there = |victim: &String| pods.values().any(|live| uid(&live.pod) == victim) || to_begin(victim);
        self.room_for.retain(|_, victims| victims.iter().any(there));
    }
}
