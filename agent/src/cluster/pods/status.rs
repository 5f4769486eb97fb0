//! Brings what becomes of pods to the API server.
//!
//! What counts is the newest status of each pod, never a queue of them: while one is under way others are only noted. So
//! writes of one pod are in order, and a server that was away for hours gets one write a pod.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Pod, PodStatus};
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::{Api, Client, Error};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::answer::{is_gone, is_refusal};
use super::entry::{Entry, Known};
use super::merge::{is_terminal, last, merged};
use super::patch;
use super::server::{Bound, Server};
use super::wanted::is_mirror;
use crate::cluster::Link;
use crate::cluster::pace::Pauses;
use crate::engine::config::names::PodKey;
use crate::store::{Kind, Object, Store, Watch, What};

/// How many pods are written at a time.
const AT_ONCE: usize = 8;

/// How often what the server has is compared with what is so, as in kubelet.
const COMPARE: Duration = Duration::from_secs(10);

/// How long a write may take.
const ANSWER: Duration = Duration::from_secs(30);

const FIRST: Duration = Duration::from_millis(500);
const LONGEST: Duration = Duration::from_secs(10);

/// What became of one write.
struct Written {
    uid: String,
    result: Result<Done, Failure>,
}

enum Done {
    /// The server has this of it.
    Has(Box<Known>),
    /// The pod of this uid is gone, or about to be: there is nothing more to say of it.
    Deleted(String),
}

#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("{0}")]
    Server(#[from] Error),
    #[error("the API server did not answer within {ANSWER:?}")]
    Timeout,
    #[error("its status cannot be written as JSON: {0}")]
    Json(#[from] serde_json::Error),
}

/// Writes the statuses of the pods in `store` to the API server, for ever.
pub async fn report(link: Link, store: Store, server: Server) {
    Reporter::new(link, store, server).run().await;
}

struct Reporter {
    link: Link,
    store: Store,
    server: Server,
    /// By the uid at the server.
    pods: BTreeMap<String, Entry>,
    due: BTreeSet<String>,
    under_way: BTreeSet<String>,
    writes: JoinSet<Written>,
    gone: watch::Receiver<Arc<Bound>>,
    pauses: Pauses,
    /// Nothing is written before.
    not_before: Instant,
}

impl Reporter {
    fn new(link: Link, store: Store, server: Server) -> Self {
        let gone = server.gone();
        Self {
            link,
            store,
            server,
            pods: BTreeMap::new(),
            due: BTreeSet::new(),
            under_way: BTreeSet::new(),
            writes: JoinSet::new(),
            gone,
            pauses: Pauses::new(FIRST, LONGEST),
            not_before: Instant::now(),
        }
    }

    async fn run(mut self) {
        let mut changes = self.server.changes();
        let mut compare = tokio::time::interval(COMPARE);
        compare.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut watch = self.catch_up();
        self.gone.mark_changed();
        loop {
            let later = self.begin().await;
            let pause = tokio::time::sleep_until(later.unwrap_or_else(Instant::now));
            tokio::select! {
                change = watch.next() => match change {
                    Ok(change) => self.hear(change.what, change.object),
                    // Too much has happened for the store to keep it.
                    Err(_) => watch = self.catch_up(),
                },
                Ok(()) = changes.changed() => self.compare_new(),
                Ok(()) = self.gone.changed() => self.note_gone(),
                Some(written) = self.writes.join_next() => match written {
                    Ok(written) => self.settle(written),
                    Err(error) => tracing::error!(%error, "the report of a pod's status broke off"),
                },
                _ = compare.tick() => self.compare(),
                () = pause, if later.is_some() => {}
            }
        }
    }

    /// Takes in everything that the store has.
    fn catch_up(&mut self) -> Watch {
        loop {
            let listed = self.store.objects(Kind::Pod, None);
            for object in listed.items {
                self.hear(What::Added, object);
            }
            // Between the two nothing happens often enough for the store to forget it.
            if let Ok(watch) = self.store.watch(Kind::Pod, listed.version) {
                return watch;
            }
        }
    }

    fn hear(&mut self, what: What, object: Object) {
        let Object::Pod(pod) = object else { return };
        // What a pod was last holds until its end is told.
        if what == What::Deleted {
            return;
        }
        let uid = PodKey::of(&pod).uid;
        let entry = self.pods.entry(uid.clone()).or_default();
        entry.since.get_or_insert_with(Instant::now);
        entry.local = Some(pod);
        self.due.insert(uid);
    }

    fn note_gone(&mut self) {
        let gone = self.gone.borrow_and_update().clone();
        self.due.extend(gone.keys().cloned());
    }

    /// What the server told of for the first time may be known here already; what it has no more is forgotten.
    fn compare_new(&mut self) {
        let complete = self.server.is_complete();
        let store = &self.store;
        let known = |pod: &Pod| {
            let key = PodKey::of(pod);
            store.get::<Pod>(&key.namespace, &key.name).is_some_and(|shown| PodKey::of(&shown) == key)
        };
        self.pods.retain(|uid, entry| {
            let there = self.server.shown(uid);
            let here = entry.local.as_deref().is_some_and(known);
            // The first sight of it, or of another mirror.
            let written = entry.written.as_ref().map(|written| written.of.as_str());
            if there.as_ref().is_some_and(|there| there.metadata.uid.as_deref() != written) {
                self.due.insert(uid.clone());
            }
            there.is_some() || here || !complete || self.under_way.contains(uid)
        });
        // Of what was gone before the server told of it, nothing was begun.
        let gone = self.gone.borrow();
        self.due.extend(gone.keys().filter(|uid| !self.pods.contains_key(*uid)).cloned());
    }

    /// Has everything written that somebody else has changed at the server.
    fn compare(&mut self) {
        for (uid, entry) in &self.pods {
            let version = self.server.shown(uid).and_then(|pod| pod.metadata.resource_version.clone());
            let same = entry.written.as_ref().is_some_and(|written| written.version == version);
            if version.is_some() && !same {
                self.due.insert(uid.clone());
            }
        }
    }

    /// Begins as many writes as may be under way. What is left may have to wait until a moment, which is the answer.
    async fn begin(&mut self) -> Option<Instant> {
        let now = Instant::now();
        if self.not_before > now {
            return (!self.due.is_empty()).then_some(self.not_before);
        }
        let mut later: Option<Instant> = None;
        let ready: Vec<String> = self.due.iter().filter(|uid| !self.under_way.contains(*uid)).cloned().collect();
        for uid in ready {
            if self.under_way.len() >= AT_ONCE {
                // The end of one of them is the moment.
                return None;
            }
            let held = self.pods.get(&uid).and_then(Entry::held).filter(|until| *until > now);
            if let Some(until) = held.filter(|_| !self.gone.borrow().contains_key(&uid)) {
                later = Some(later.map_or(until, |later| later.min(until)));
                continue;
            }
            self.due.remove(&uid);
            let Some(work) = self.work(&uid) else { continue };
            // Until there is a way to the server nothing else is to be done here.
            let client = self.link.client().await;
            self.under_way.insert(uid.clone());
            self.writes.spawn(async move { Written { uid, result: work.run(client).await } });
        }
        later
    }

    /// What there is to do for a pod; none when the server has it as it is, or has it not.
    fn work(&self, uid: &str) -> Option<Work> {
        let there = self.server.shown(uid)?;
        let entry = self.pods.get(uid);
        if entry.is_some_and(|entry| entry.deleted.is_some() && entry.deleted == there.metadata.uid) {
            return None;
        }
        let gone = self.gone.borrow().get(uid).cloned();
        let local = entry.and_then(|entry| entry.local.as_ref()?.status.clone());
        let status = match &gone {
            Some(gone) => last(&there, gone.status.as_ref().filter(|it| it.phase.is_some()).or(local.as_ref())),
            None => local?,
        };
        let status = merged(&there, &status);
        let known = Known::of(&there, &status);
        if gone.is_none() && entry.is_some_and(|entry| entry.written.as_ref() == Some(&known)) {
            return None;
        }
        Some(Work { server: self.server.clone(), there, status, delete: gone.is_some() })
    }

    fn settle(&mut self, Written { uid, result }: Written) {
        self.under_way.remove(&uid);
        match result {
            Ok(done) => {
                self.pauses.reset();
                let entry = self.pods.entry(uid).or_default();
                entry.refused = None;
                match done {
                    Done::Has(known) => entry.written = Some(*known),
                    Done::Deleted(uid) => entry.deleted = Some(uid),
                }
            }
            Err(failure) => self.failed(uid, failure),
        }
    }

    fn failed(&mut self, uid: String, failure: Failure) {
        // Asked again it would be the same: with the next change, or comparison.
        let refused = match &failure {
            Failure::Server(error) => is_refusal(error),
            Failure::Json(_) => true,
            Failure::Timeout => false,
        };
        if !refused {
            tracing::debug!(%failure, "the status of a pod cannot be brought to the API server yet");
            self.due.insert(uid);
            self.not_before = self.not_before.max(Instant::now() + self.pauses.next());
            return;
        }
        let entry = self.pods.entry(uid).or_default();
        let message = failure.to_string();
        if entry.refused.as_ref() != Some(&message) {
            let pod = entry.local.as_ref().and_then(|pod| pod.metadata.name.clone());
            tracing::warn!(pod, "the API server does not take the status of the pod: {message}");
            entry.refused = Some(message);
        }
    }
}

/// One write: the status, and then for a pod of which nothing is left its end.
struct Work {
    server: Server,
    there: Arc<Pod>,
    status: PodStatus,
    delete: bool,
}

impl Work {
    async fn run(self, client: Client) -> Result<Done, Failure> {
        let key = PodKey::of(&self.there);
        let api: Api<Pod> = Api::namespaced(client, &key.namespace);
        match self.write(&api, &key).await {
            Err(Failure::Server(error)) if is_gone(&error) => Ok(Done::Deleted(key.uid)),
            other => other,
        }
    }

    async fn write(&self, api: &Api<Pod>, key: &PodKey) -> Result<Done, Failure> {
        let mut there = Pod::clone(&self.there);
        let before = serde_json::to_value(there.status.clone().unwrap_or_default())?;
        let after = serde_json::to_value(&self.status)?;
        if let Some(status) = patch::between(&before, &after) {
            // With another uid it is another pod, and the server refuses.
            let patch: Value = json!({"metadata": {"uid": key.uid}, "status": status});
            let params = PatchParams::default();
            let patch = Patch::Strategic(&patch);
            there = answered(api.patch_status(&key.name, &params, &patch)).await?;
            self.server.update(there.clone());
        }
        if self.delete && !is_mirror(&there) && there.status.as_ref().is_some_and(is_terminal) {
            let uid = Preconditions { uid: Some(key.uid.clone()), ..Preconditions::default() };
            let params = DeleteParams { grace_period_seconds: Some(0), preconditions: Some(uid), ..Default::default() };
            answered(api.delete(&key.name, &params)).await?;
            return Ok(Done::Deleted(key.uid.clone()));
        }
        Ok(Done::Has(Box::new(Known::of(&there, &self.status))))
    }
}

async fn answered<T>(request: impl Future<Output = Result<T, Error>>) -> Result<T, Failure> {
    Ok(tokio::time::timeout(ANSWER, request).await.map_err(|_| Failure::Timeout)??)
}
