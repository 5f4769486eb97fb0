//! A pod that has a worker.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use tokio::sync::{Notify, watch};
use tokio::task::AbortHandle;

use super::control::Refusal;
use super::order::State;
use crate::cluster::pods::is_terminal;
use crate::engine::{Gate, PodHandle, Seen, Stopper};
use crate::net::Surroundings;

/// How long the worker of a pod may take to note what is asked of it; it may be making a sandbox.
const NOTED: Duration = Duration::from_secs(20);

/// A pod that has a worker.
pub struct Live {
    /// The pod as it is wanted, or was wanted last.
    pub pod: Arc<Pod>,
    stopper: Stopper,
    seen: watch::Receiver<Seen>,
    /// None while it is being stopped for good: then somebody waits for its end.
    handle: Option<PodHandle>,
    /// It shall not be any more; within this time, if not its own.
    leaving: Option<Option<Duration>>,
    ringing: Option<AbortHandle>,
    /// The critical pod, by uid, for which it has to go.
    pub room_for: Option<String>,
}

/// A pod that is asked to end, for whoever waits for that.
pub struct Ending {
    /// The pod.
    pub pod: Arc<Pod>,
    /// To wait for.
    pub handle: PodHandle,
}

impl Drop for Live {
    fn drop(&mut self) {
        if let Some(ringing) = &self.ringing {
            ringing.abort();
        }
    }
}

impl Live {
    /// A pod that was just given a worker.
    pub fn new(pod: Arc<Pod>, handle: PodHandle) -> Self {
        let (stopper, seen) = (handle.stopper(), handle.seen());
        Live { pod, stopper, seen, handle: Some(handle), leaving: None, ringing: None, room_for: None }
    }

    /// Whether it shall not be any more.
    pub fn leaves(&self) -> bool {
        self.leaving.is_some()
    }

    /// It shall not be any more. Said again, it can only take less time.
    pub fn leave(&mut self, grace: Option<Duration>) {
        let shorter = |before: Option<Duration>| match (before, grace) {
            (Some(before), Some(now)) => Some(before.min(now)),
            (before, now) => before.or(now),
        };
        self.leaving = Some(shorter(self.leaving.flatten()));
        if self.handle.is_none()
            && let Some(grace) = grace
        {
            self.stopper.stop(grace);
        }
    }

    /// Asks it to end; the first caller has to wait for that.
    pub fn end(&mut self) -> Option<Ending> {
        let handle = self.handle.take()?;
        self.stopper.stop(self.leaving.flatten().unwrap_or_else(|| self.stopper.grace()));
        Some(Ending { pod: self.pod.clone(), handle })
    }

    /// Whether nothing of it begins any more, as far as it is known here or was told by an API server.
    pub fn is_over(&self) -> bool {
        let seen = self.seen();
        seen.finished || is_terminal(&self.pod) || seen.pod.as_deref().is_some_and(is_terminal)
    }

    /// Ends it as Failed with these words, which hold for the next agent, too.
    pub fn evict(&self, reason: &str, message: &str, grace: Option<Duration>) {
        self.stopper.evict(reason, message, grace);
    }

    /// How long its containers may take to stop.
    pub fn grace(&self) -> Duration {
        self.stopper.grace()
    }

    /// Gives it a new definition.
    pub fn update(&mut self, pod: &Arc<Pod>) {
        if let Some(handle) = self.handle.as_ref().filter(|_| !Arc::ptr_eq(&self.pod, pod) && *self.pod != **pod) {
            handle.update(pod.clone());
            self.pod = pod.clone();
        }
    }

    /// Holds it back or lets it begin, and tells it of others.
    pub fn guide(&self, gate: Option<Gate>, around: Surroundings) {
        if let Some(handle) = self.handle.as_ref().filter(|_| !self.leaves()) {
            let guide = handle.guide();
            // What it is told comes before it begins.
            guide.surround(around);
            guide.gate(gate);
        }
    }

    /// Restarts it, or one of its containers. What comes back ends when that is written down.
    pub fn restart(
        &self,
        container: Option<&str>,
    ) -> Result<impl Future<Output = Result<(), Refusal>> + use<>, Refusal> {
        let name = self.pod.metadata.name.clone().unwrap_or_default();
        let Some(handle) = self.handle.as_ref().filter(|_| !self.leaves()) else {
            return Err(Refusal::Failed(format!("pod {name} is being stopped")));
        };
        let order = handle.restart(container).map_err(|error| Refusal::NoContainer(error.to_string()))?;
        let mut seen = self.seen.clone();
        Ok(async move {
            match tokio::time::timeout(NOTED, seen.wait_for(|seen| seen.obeyed >= order)).await {
                Ok(Ok(_)) => Ok(()),
                Ok(Err(_)) => Err(Refusal::Failed(format!("pod {name} ended meanwhile"))),
                Err(_) => Err(Refusal::Failed(format!(
                    "pod {name} is asked to restart, but that was not written down within {NOTED:?}: an agent that \
                     starts anew may not know of it; see: coracle why {name}"
                ))),
            }
        })
    }

    /// How it is, for those that wait for it.
    pub fn state(&self) -> State {
        self.seen.borrow().pod.as_deref().map(State::of).unwrap_or_default()
    }

    /// Until its worker has looked at it once, or ended.
    pub fn first_look(&self) -> impl Future<Output = ()> + use<> {
        let mut seen = self.seen.clone();
        async move {
            // Without a worker there is nothing to wait for.
            let _ = seen.wait_for(|seen| seen.pod.is_some()).await;
        }
    }

    /// What its worker last saw.
    pub fn seen(&self) -> Seen {
        self.seen.borrow().clone()
    }

    /// How it looks to others: as its worker saw it, and gone already when it shall not be any more.
    pub fn looks(&self) -> Option<Arc<Pod>> {
        let pod = self.seen.borrow().pod.clone()?;
        if !self.leaves() || pod.metadata.deletion_timestamp.is_some() {
            return Some(pod);
        }
        let mut pod = Pod::clone(&pod);
        pod.metadata.deletion_timestamp = Some(Time(Timestamp::now()));
        Some(Arc::new(pod))
    }

    /// Rings the bell whenever its worker sees something new.
    pub fn ring(&mut self, bell: &Arc<Notify>) {
        if self.ringing.is_some() {
            return;
        }
        let (mut seen, bell) = (self.seen.clone(), bell.clone());
        let ringing = tokio::spawn(async move {
            let mut before = (None, None, false);
            while seen.changed().await.is_ok() {
                let now = {
                    let seen = seen.borrow_and_update();
                    let pod = seen.pod.as_deref();
                    let ips = pod.and_then(|pod| pod.status.as_ref()?.pod_ips.clone());
                    (pod.map(State::of), ips, seen.finished)
                };
                if now != before {
                    before = now;
                    bell.notify_one();
                }
            }
        });
        self.ringing = Some(ringing.abort_handle());
    }
}
