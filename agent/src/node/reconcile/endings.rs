//! Pods that shall not be any more: marked and recorded, stopped in their order, and gone with every trace.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use manifests::kubelet::ShutdownStep;
use tokio::sync::watch;
use tokio::task::JoinError;

use super::{RETRY, Reconciler, changed, sync, uid};
use crate::cluster::pods::Server;
use crate::engine::Engine;
use crate::engine::config::names::PodKey;
use crate::net::Surroundings;
use crate::node::desired::Name;
use crate::node::desired::disk::{self, Disk};
use crate::node::live::Live;
use crate::node::order::Order;
use crate::node::shutdown::Shutdown;

impl Reconciler {
    /// Stops every pod, by their priorities within `steps` and else in the opposite of their order, and waits for that;
    /// `hurry` makes it quick. What an API server binds to this node meanwhile is refused.
    pub async fn shut_down(&mut self, steps: &[ShutdownStep], hurry: impl Future<Output = ()>) {
        let (left, endings) = (std::mem::take(&mut self.pods), std::mem::take(&mut self.endings));
        let mut bound = self.server.as_ref().map(Server::bound);
        bound.iter_mut().for_each(watch::Receiver::mark_changed);
        let ended = Shutdown { left, endings }.run(steps, hurry);
        tokio::pin!(ended);
        loop {
            tokio::select! {
                () = &mut ended => break,
                () = changed(&mut bound) => self.turn_away(),
            }
        }
        self.network.end().await;
    }

    /// What runs and is in no manifest goes, once every manifest is known.
    pub(super) fn end_strays(&mut self) {
        let told = self.server.as_ref().is_none_or(Server::is_complete);
        let certain = told && self.desired.knows_all() && self.desired.faults().is_empty();
        let unclear = self.desired.files().values().any(|file| file.invalid.is_some() && file.good.is_empty());
        if !certain || unclear {
            return;
        }
        for record in std::mem::take(&mut self.strays.unusable) {
            if let Err(error) = disk::discard(&record) {
                tracing::warn!(record = %record.display(), %error, "a record that cannot be used cannot be removed");
            }
        }
        let desired = self.desired.pods();
        for pod in self.strays.take() {
            let kept = desired.values().any(|wanted| uid(wanted) == uid(&pod))
                || self.desired.bound().get(uid(&pod)).is_some();
            if !kept {
                self.note_ending(&pod);
                self.resume_ending(Arc::new(pod));
            }
        }
    }

    /// Marks the pods that shall not be any more, and records that.
    pub(super) fn note_leaving(&mut self) {
        let desired = self.desired.pods();
        let mut leaving = Vec::new();
        for (name, live) in self.pods.iter_mut().filter(|(_, live)| !live.leaves()) {
            if desired.get(name).is_none_or(|pod| uid(pod) != uid(&live.pod)) {
                live.leave(None);
                leaving.push(live.pod.clone());
            }
        }
        leaving.iter().for_each(|pod| self.note_ending(pod));
    }

    pub(super) fn note_ending(&self, pod: &Pod) {
        match self.disk.write_ending(pod) {
            Ok(record) => sync(vec![record]),
            Err(error) => {
                tracing::error!(pod = pod.metadata.name, %error, "that the pod is being stopped cannot be recorded");
            }
        }
    }

    /// Stops those that leave, each when nobody who comes after it is left of them.
    pub(super) fn end_leaving(&mut self) {
        let order = Order::of(self.pods.iter().map(|(name, live)| (name, &live.pod)));
        let leaving = self.pods.iter().filter(|(_, live)| live.leaves()).map(|(name, _)| name.clone()).collect();
        for name in order.may_end(&leaving) {
            let Some(ending) = self.pods.get_mut(&name).and_then(Live::end) else { continue };
            let (engine, pod) = (self.engine.clone(), ending.pod);
            self.endings.spawn(async move {
                ending.handle.outcome().await;
                removed(&engine, &pod, &name).await;
                name
            });
        }
    }

    /// Goes on stopping a pod that nobody desires any more.
    pub(super) fn resume_ending(&mut self, pod: Arc<Pod>) {
        let key = PodKey::of(&pod);
        let name = (key.namespace, key.name);
        if self.pods.contains_key(&name) {
            // One of its name runs. This one has no worker, and ends without a word; then its record goes.
            let (engine, disk) = (self.engine.clone(), self.disk.clone());
            tokio::spawn(async move {
                removed(&engine, &pod, &name).await;
                forget(&disk, &pod, &name);
            });
            return;
        }
        self.start(&name, &pod, None, Surroundings::default());
        if let Some(live) = self.pods.get_mut(&name) {
            live.leave(None);
        }
    }

    /// A pod is gone: its record goes, and a new one of its name may start.
    pub(super) async fn ended(&mut self, ended: Result<Name, JoinError>) {
        let name = match ended {
            Ok(name) => name,
            Err(error) => {
                tracing::error!(%error, "the end of a pod broke off; restart the agent to have it ended");
                return;
            }
        };
        let Some(live) = self.pods.remove(&name) else { return };
        self.registry.remove(&live.pod);
        forget(&self.disk, &live.pod, &name);
        self.ended_bound(&live);
        self.apply().await;
    }
}

/// Removes a pod, however often it takes.
pub(super) async fn removed(engine: &Engine, pod: &Pod, name: &Name) {
    loop {
        let problems = engine.remove(pod).await;
        if problems.is_empty() {
            return;
        }
        tracing::warn!(pod = name.1, ?problems, "the pod cannot be removed yet");
        tokio::time::sleep(RETRY).await;
    }
}

/// Forgets that a pod was being stopped, which is gone.
fn forget(disk: &Disk, pod: &Pod, name: &Name) {
    if let Err(error) = disk.remove_ending(uid(pod)) {
        tracing::error!(pod = name.1, %error, "the record of a pod that is gone cannot be removed");
    }
}
