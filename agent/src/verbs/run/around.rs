//! The pods of a run among each other and among those of others: their order, their links, and an end for those that
//! would wait for ever.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use k8s_openapi::api::core::v1::Pod;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

use crate::engine::config::names::PodKey;
use crate::engine::{Engine, Gate, Guide, PodHandle, Seen, Stopper};
use crate::host::HostError;
use crate::net::network::Network;
use crate::net::{Declared, Inputs, Picture};
use crate::node::desired::Name;
use crate::node::order::{Order, State};

/// The pods of a run, as they are told of each other.
pub struct Around {
    network: Network,
    declared: Declared,
    order: Order,
    pods: BTreeMap<Name, Arc<Pod>>,
    guided: BTreeMap<Name, Guided>,
}

struct Guided {
    guide: Guide,
    stopper: Stopper,
    seen: watch::Receiver<Seen>,
}

impl Around {
    /// Starts the pods, each as soon as it may.
    pub fn start(
        engine: &Engine,
        network: Network,
        declared: Declared,
        pods: Vec<Pod>,
    ) -> Result<(Self, Vec<PodHandle>), HostError> {
        let name = |pod: &Pod| {
            let key = PodKey::of(pod);
            (key.namespace, key.name)
        };
        let pods: BTreeMap<Name, Arc<Pod>> = pods.into_iter().map(|pod| (name(&pod), Arc::new(pod))).collect();
        let order = Order::of(&pods);
        let mut around = Around { network, declared, order, pods: pods.clone(), guided: BTreeMap::new() };
        let picture = around.look();
        let mut handles = Vec::new();
        for (name, pod) in pods {
            let handle = engine.start_among(pod, around.gate(&name, &picture), picture.surroundings(&name))?;
            let guided = Guided { guide: handle.guide(), stopper: handle.stopper(), seen: handle.seen() };
            around.guided.insert(name, guided);
            handles.push(handle);
        }
        Ok((around, handles))
    }

    fn look(&mut self) -> Arc<Picture> {
        let seen = |(name, it): (&Name, &Guided)| Some((name.clone(), it.seen.borrow().pod.clone()?));
        let seen = self.guided.iter().filter_map(seen).collect();
        let (pods, declared) = (self.pods.clone(), self.declared.clone());
        self.network.look(Inputs { pods, seen, declared, ..Inputs::default() })
    }

    fn gate(&self, name: &Name, picture: &Picture) -> Option<Gate> {
        let inputs = picture.inputs();
        let state = |target: &Name| self.pods.contains_key(target).then(|| inputs.state(target));
        Gate::both(self.order.gate(name, state), picture.gate(name, self.network.unsupported().as_ref()))
    }

    /// Tells the pods of each other, for ever.
    pub async fn guide(mut self) {
        let bell = self.network.bell();
        let mut given_up = BTreeSet::new();
        let mut ringing = JoinSet::new();
        for guided in self.guided.values() {
            ringing.spawn(ring(guided.seen.clone(), bell.clone()));
        }
        loop {
            bell.notified().await;
            let begun = Instant::now();
            // Before the picture is taken: who ends after it must not count as ended in it.
            let left: BTreeMap<Name, bool> = self.guided.iter().filter_map(still_there).collect();
            let picture = self.look();
            let mut held = Vec::new();
            for (name, guided) in &self.guided {
                let gate = self.gate(name, &picture);
                let waits = left.get(name).copied().unwrap_or(false);
                if let Some(gate) = gate.clone().filter(|_| waits) {
                    held.push((name.clone(), gate));
                }
                guided.guide.surround(picture.surroundings(name));
                guided.guide.gate(gate);
            }
            // When all that is left waits, and for nobody else's pods, nothing will ever change.
            let unsupported = self.network.unsupported();
            let in_vain = held.len() == left.len() && (!picture.looks_abroad() || unsupported.is_some());
            for (name, gate) in held {
                // What is not to be had here never comes, whoever else goes on.
                let refused = unsupported.is_some() && picture.gate(&name, unsupported.as_ref()).is_some();
                if (in_vain || refused)
                    && given_up.insert(name.clone())
                    && let Some(guided) = self.guided.get(&name)
                {
                    guided.stopper.evict(&gate.reason, &gate.message, None);
                }
            }
            // As long again, in which more may happen: many pods that begin together are not looked at one by one.
            tokio::time::sleep(begun.elapsed()).await;
        }
    }
}

/// A pod that has not ended, and whether it is held back.
fn still_there((name, it): (&Name, &Guided)) -> Option<(Name, bool)> {
    let seen = it.seen.borrow();
    (!seen.finished).then(|| (name.clone(), seen.held))
}

/// Rings the bell whenever somebody may have reason to look.
async fn ring(mut seen: watch::Receiver<Seen>, bell: Arc<Notify>) {
    let mut before = None;
    while seen.changed().await.is_ok() {
        let now = {
            let seen = seen.borrow_and_update();
            let addresses = |pod: &Pod| pod.status.as_ref().and_then(|status| status.pod_ips.clone());
            (seen.pod.as_deref().map(|pod| (State::of(pod), addresses(pod))), seen.finished, seen.held)
        };
        if before.as_ref() != Some(&now) {
            before = Some(now);
            bell.notify_one();
        }
    }
}
