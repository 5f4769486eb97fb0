//! One stream of the runtime's events for all workers, and a slow relist in case it lost one.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cri_proto::cri;
use tokio::sync::Notify;

use super::config::names::POD_UID;
use crate::channel::Cri;

/// How often every worker looks by itself.
pub const RELIST: Duration = Duration::from_secs(30);

/// How long to wait before a broken stream is opened again.
const REOPEN: Duration = Duration::from_secs(1);

/// Wakes workers by their pod's uid. An event only says "look"; what is seen is what the runtime then lists, so a lost
/// or doubled event changes nothing but the time.
#[derive(Clone, Debug, Default)]
pub struct Hub {
    workers: Arc<Mutex<HashMap<String, Arc<Notify>>>>,
}

impl Hub {
    /// The bell of a pod's worker.
    pub fn register(&self, uid: &str) -> Arc<Notify> {
        let mut workers = self.workers.lock().unwrap_or_else(PoisonError::into_inner);
        workers.entry(uid.to_owned()).or_default().clone()
    }

    /// Forgets a pod.
    pub fn forget(&self, uid: &str) {
        self.workers.lock().unwrap_or_else(PoisonError::into_inner).remove(uid);
    }

    /// Has every worker look.
    pub fn ring_all(&self) {
        self.ring(None);
    }

    fn ring(&self, uid: Option<&str>) {
        let workers = self.workers.lock().unwrap_or_else(PoisonError::into_inner);
        match uid {
            Some(uid) => workers.get(uid).into_iter().for_each(|bell| bell.notify_one()),
            None => workers.values().for_each(|bell| bell.notify_one()),
        }
    }

    /// Listens for ever. A runtime that has no events is looked at as often as a stream would be opened again.
    pub async fn listen(self, cri: Cri) {
        let mut told = None;
        loop {
            match cri.runtime.clone().get_container_events(cri::GetEventsRequest {}).await {
                Ok(stream) => {
                    told = None;
                    // What happened before the stream was open.
                    self.ring(None);
                    self.drain(stream.into_inner()).await;
                }
                Err(status) if told == Some(status.code()) => {}
                Err(status) => {
                    told = Some(status.code());
                    tracing::warn!(
                        error = status.message(),
                        "the runtime's events cannot be had; it is looked at instead"
                    );
                }
            }
            tokio::time::sleep(REOPEN).await;
            self.ring(None);
        }
    }

    async fn drain(&self, mut stream: tonic::Streaming<cri::ContainerEventResponse>) {
        let mut relist = tokio::time::interval(RELIST);
        relist.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                message = stream.message() => match message {
                    Ok(Some(event)) => self.ring(uid_of(&event)),
                    Ok(None) => return,
                    Err(status) => {
                        tracing::warn!(error = status.message(), "the runtime's events broke off");
                        return;
                    }
                },
                _ = relist.tick() => self.ring(None),
            }
        }
    }
}

/// The pod that an event is about; `None` when it does not say.
fn uid_of(event: &cri::ContainerEventResponse) -> Option<&str> {
    let sandbox = event.pod_sandbox_status.as_ref().and_then(|status| status.metadata.as_ref());
    let container = event.containers_statuses.iter().find_map(|status| status.labels.get(POD_UID));
    sandbox.map(|metadata| metadata.uid.as_str()).filter(|uid| !uid.is_empty()).or(container.map(String::as_str))
}
