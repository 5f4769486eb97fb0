//! One stream of the runtime's events for all workers, and a slow relist in case it lost one: one for all, which wakes
//! those whose pods are not as they were.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cri_proto::cri;
use tokio::sync::Notify;
use tonic::Status;

use super::config::names::POD_UID;
use crate::channel::Cri;

/// How often it is looked whether anything has changed that no event told of.
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

    /// Has one worker look, or every one.
    pub fn ring(&self, uid: Option<&str>) {
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
                    self.drain(stream.into_inner(), &cri).await;
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

    async fn drain(&self, mut stream: tonic::Streaming<cri::ContainerEventResponse>, cri: &Cri) {
        let mut relist = tokio::time::interval_at(tokio::time::Instant::now() + RELIST, RELIST);
        relist.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        // Unknown at first: whatever there is then is looked at once.
        let mut known = World::default();
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
                _ = relist.tick() => match World::of(cri).await {
                    Ok(now) => {
                        known.differences(&now).for_each(|uid| self.ring(Some(uid)));
                        known = now;
                    }
                    // The workers meet the same and say so.
                    Err(_) => self.ring(None),
                },
            }
        }
    }
}

/// What there is of each pod, by uid: sandboxes and containers with their states.
#[derive(Debug, Default)]
struct World(HashMap<String, Vec<(String, i32)>>);

impl World {
    async fn of(cri: &Cri) -> Result<World, Status> {
        let mut runtime = cri.runtime.clone();
        let sandboxes = runtime.list_pod_sandbox(cri::ListPodSandboxRequest::default()).await?.into_inner().items;
        let containers = runtime.list_containers(cri::ListContainersRequest::default()).await?.into_inner().containers;
        let sandboxes = sandboxes.into_iter().map(|it| (it.labels, it.id, it.state));
        let all = sandboxes.chain(containers.into_iter().map(|it| (it.labels, it.id, it.state)));
        let mut pods: HashMap<String, Vec<(String, i32)>> = HashMap::new();
        for (mut labels, id, state) in all {
            if let Some(uid) = labels.remove(POD_UID) {
                pods.entry(uid).or_default().push((id, state));
            }
        }
        pods.values_mut().for_each(|parts| parts.sort_unstable());
        Ok(World(pods))
    }

    /// The pods that are not the same in both.
    fn differences<'a>(&'a self, other: &'a World) -> impl Iterator<Item = &'a str> {
        let changed = other.0.iter().filter(|(uid, parts)| self.0.get(*uid) != Some(*parts));
        let gone = self.0.keys().filter(|uid| !other.0.contains_key(*uid));
        changed.map(|(uid, _)| uid.as_str()).chain(gone.map(String::as_str))
    }
}

/// The pod that an event is about; `None` when it does not say.
fn uid_of(event: &cri::ContainerEventResponse) -> Option<&str> {
    let sandbox = event.pod_sandbox_status.as_ref().and_then(|status| status.metadata.as_ref());
    let container = event.containers_statuses.iter().find_map(|status| status.labels.get(POD_UID));
    sandbox.map(|metadata| metadata.uid.as_str()).filter(|uid| !uid.is_empty()).or(container.map(String::as_str))
}
