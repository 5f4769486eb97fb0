//! Makes the pods that run those that shall: one task that owns the desired state and the pods' handles.
//!
//! ```text
//!            in a manifest                    not in one any more            gone, with every trace
//!  (nothing) ─────────────> record, worker ──────────────────────> ending ─────────────────────────> (nothing)
//!                              │    ^                                 │ in a manifest again: waits, with a new uid
//!                              └────┘ changed: the worker is told     └──> ...
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;

use super::control::{Command, Deleted, Refusal};
use super::desired::disk::{self, Disk};
use super::desired::{Changes, Desired, Name};
use super::sources::Snapshot;
use crate::engine::config::names::PodKey;
use crate::engine::{Engine, PodHandle, Stopper, grace_of};
use crate::identity::new_uid;

/// How long to wait before something that failed is tried again.
const RETRY: Duration = Duration::from_secs(5);

/// The agent's one decision maker.
pub struct Reconciler {
    engine: Engine,
    disk: Disk,
    desired: Desired,
    node_name: String,
    pods: BTreeMap<Name, Live>,
    /// Pods that are being stopped for good; each answers with its name when nothing of it is left.
    endings: JoinSet<Name>,
    /// Records that could not be written.
    unwritten: BTreeSet<String>,
    look: Arc<Notify>,
}

/// A pod with a worker.
struct Live {
    pod: Arc<Pod>,
    stopper: Stopper,
    /// None while it is being stopped for good: then somebody waits for its end.
    handle: Option<PodHandle>,
}

impl Reconciler {
    /// A reconciler that knows nothing yet.
    pub fn new(engine: Engine, disk: Disk, node_name: String, look: Arc<Notify>) -> Self {
        Reconciler {
            engine,
            disk,
            desired: Desired::default(),
            node_name,
            pods: BTreeMap::new(),
            endings: JoinSet::new(),
            unwritten: BTreeSet::new(),
            look,
        }
    }

    /// Goes on where the last agent ended: what it desired last is started, and what it was stopping is stopped.
    pub async fn resume(&mut self, sources: BTreeSet<String>) -> anyhow::Result<()> {
        let (desired, ending, unusable) = self.disk.load().context("read the desired state")?;
        for record in unusable {
            tracing::error!(record = %record.path.display(), error = %record.source, "a record of the desired state cannot be used; what it says is read again from its manifest");
        }
        self.desired = desired;
        self.desired.set_sources(sources);
        for pod in ending {
            self.resume_ending(Arc::new(pod));
        }
        self.apply().await;
        Ok(())
    }

    /// Works until `end`.
    pub async fn run(
        &mut self,
        mut looks: mpsc::Receiver<Snapshot>,
        mut commands: mpsc::Receiver<Command>,
        end: impl Future<Output = ()>,
    ) {
        tokio::pin!(end);
        loop {
            let retry = async {
                if self.unwritten.is_empty() { std::future::pending().await } else { tokio::time::sleep(RETRY).await }
            };
            tokio::select! {
                () = &mut end => return,
                Some(snapshot) = looks.recv() => self.merge(snapshot).await,
                Some(command) = commands.recv() => self.obey(command).await,
                Some(ended) = self.endings.join_next() => self.ended(ended).await,
                () = retry => {
                    let files = std::mem::take(&mut self.unwritten);
                    self.write(files).await;
                }
            }
        }
    }

    async fn merge(&mut self, snapshot: Snapshot) {
        let node_name = self.node_name.clone();
        let changes = self.desired.merge(snapshot, &mut |pod, known| identify(pod, known, &node_name));
        self.report(&changes);
        let Changes { changed, removed, .. } = changes;
        if changed.is_empty() && removed.is_empty() {
            return;
        }
        // What is to be stopped is recorded first: without its manifest's record nobody would know of it.
        self.note_endings();
        self.write(changed.into_iter().chain(removed).collect()).await;
        self.apply().await;
    }

    fn report(&self, changes: &Changes) {
        if !changes.judged {
            return;
        }
        for (source, fault) in self.desired.faults() {
            tracing::warn!(source, fault, "a source cannot be read");
        }
        for (file, why) in self.desired.files().iter().filter_map(|(file, it)| Some((file, it.invalid.as_ref()?))) {
            tracing::warn!(file, "the manifest is invalid; what it said before stays in force\n{why}");
        }
    }

    /// Records manifests as they are desired now. What cannot be recorded is tried again; the pods do not wait for it.
    async fn write(&mut self, files: BTreeSet<String>) {
        let mut written: Vec<PathBuf> = Vec::new();
        for file in files {
            match self.disk.write_file(&file, &self.desired) {
                Ok(record) => written.extend(record),
                Err(error) => {
                    tracing::error!(file, %error, "the desired state cannot be recorded; it is tried again");
                    self.unwritten.insert(file);
                }
            }
        }
        sync(written);
    }

    /// Pods that shall not be any more.
    fn surplus(&self) -> Vec<Name> {
        let desired = self.desired.pods();
        let kept = |name: &Name, live: &Live| desired.get(name).is_some_and(|pod| uid(pod) == uid(&live.pod));
        let gone = self.pods.iter().filter(|(name, live)| live.handle.is_some() && !kept(name, live));
        gone.map(|(name, _)| name.clone()).collect()
    }

    fn note_endings(&self) {
        for name in self.surplus() {
            if let Some(live) = self.pods.get(&name) {
                match self.disk.write_ending(&live.pod) {
                    Ok(record) => sync(vec![record]),
                    Err(error) => {
                        tracing::error!(pod = name.1, %error, "that the pod is being stopped cannot be recorded")
                    }
                }
            }
        }
    }

    /// Starts, changes and stops pods until they are the desired ones.
    async fn apply(&mut self) {
        for name in self.surplus() {
            self.end(&name, None);
        }
        for (name, pod) in self.desired.pods() {
            match self.pods.get_mut(&name) {
                None => self.start(name, pod),
                // It is started when the one before it is gone.
                Some(live) if live.handle.is_none() => {}
                Some(live) => live.change(pod),
            }
        }
    }

    fn start(&mut self, name: Name, pod: Arc<Pod>) {
        match self.engine.start(pod.clone()) {
            Ok(handle) => {
                let live = Live { pod, stopper: handle.stopper(), handle: Some(handle) };
                self.pods.insert(name, live);
            }
            Err(error) => tracing::error!(pod = name.1, %error, "the pod cannot be started"),
        }
    }

    /// Stops a pod for good.
    fn end(&mut self, name: &Name, grace: Option<Duration>) {
        let Some(live) = self.pods.get_mut(name) else { return };
        live.stopper.stop(grace.unwrap_or_else(|| live.stopper.grace()));
        let Some(handle) = live.handle.take() else { return };
        let (engine, name, pod) = (self.engine.clone(), name.clone(), live.pod.clone());
        self.endings.spawn(async move {
            handle.outcome().await;
            loop {
                let problems = engine.remove(&pod).await;
                if problems.is_empty() {
                    return name;
                }
                tracing::warn!(pod = name.1, ?problems, "the pod cannot be removed yet");
                tokio::time::sleep(RETRY).await;
            }
        });
    }

    /// Goes on stopping a pod that an agent before this one was stopping.
    fn resume_ending(&mut self, pod: Arc<Pod>) {
        let key = PodKey::of(&pod);
        let name = (key.namespace, key.name);
        if self.pods.contains_key(&name) {
            return;
        }
        self.start(name.clone(), pod);
        self.end(&name, None);
    }

    /// A pod is gone: its record goes, and a new one of its name may start.
    async fn ended(&mut self, ended: Result<Name, tokio::task::JoinError>) {
        let Ok(name) = ended else { return };
        let Some(live) = self.pods.remove(&name) else { return };
        if let Err(error) = self.disk.remove_ending(uid(&live.pod)) {
            tracing::error!(pod = name.1, %error, "the record of a pod that is gone cannot be removed");
        }
        self.apply().await;
    }

    async fn obey(&mut self, command: Command) {
        match command {
            Command::Delete { name, grace, reply } => drop(reply.send(self.delete(&name, grace).await)),
            Command::Restart { name, reply, .. } => drop(reply.send(Err(not_found(&name)))),
            Command::Reload { reply } => {
                self.look.notify_waiters();
                let _ = reply.send(());
            }
        }
    }

    /// Stops a pod and starts it anew.
    async fn delete(&mut self, name: &Name, grace: Option<Duration>) -> Result<Deleted, Refusal> {
        let live = self.pods.get(name).ok_or_else(|| not_found(name))?;
        let (old, grace) = (live.pod.clone(), grace.unwrap_or_else(|| live.stopper.grace()));
        let mut file = None;
        if live.handle.is_some() {
            if let Some(pod) = self.desired.pods().get(name) {
                let mut anew = Pod::clone(pod);
                anew.metadata.uid = Some(new_uid().map_err(|error| Refusal::Failed(error.to_string()))?);
                anew.metadata.creation_timestamp = now();
                file = self.desired.replace(name, anew);
            }
            self.note_endings();
            self.write(file.iter().cloned().collect()).await;
        }
        self.end(name, Some(grace));
        Ok(Deleted { uid: uid(&old).to_owned(), file, grace })
    }

    /// Stops every pod and waits for that; a further signal makes it quick.
    pub async fn shut_down(&mut self, hurry: impl Future<Output = ()>) {
        let stop = |grace: Option<Duration>| {
            for live in self.pods.values() {
                live.stopper.stop(grace.unwrap_or_else(|| grace_of(&live.pod)));
            }
        };
        stop(None);
        let stoppers: Vec<Stopper> = self.pods.values().map(|live| live.stopper.clone()).collect();
        let handles: Vec<PodHandle> = self.pods.values_mut().filter_map(|live| live.handle.take()).collect();
        let all = futures_util::future::join_all(handles.into_iter().map(PodHandle::outcome));
        tokio::pin!(all, hurry);
        tokio::select! {
            _ = &mut all => return,
            () = &mut hurry => stoppers.iter().for_each(|stopper| stopper.stop(Duration::ZERO)),
        }
        all.await;
    }
}

impl Live {
    fn change(&mut self, pod: Arc<Pod>) {
        if *self.pod != *pod {
            tracing::warn!(pod = pod.metadata.name, "the manifest has changed");
            self.pod = pod;
        }
    }
}

fn uid(pod: &Pod) -> &str {
    pod.metadata.uid.as_deref().unwrap_or_default()
}

fn not_found(name: &Name) -> Refusal {
    Refusal::NotFound { namespace: name.0.clone(), name: name.1.clone() }
}

fn now() -> Option<Time> {
    // Kubernetes' times are whole seconds.
    Timestamp::from_second(Timestamp::now().as_second()).ok().map(Time)
}

/// Makes records durable, beside whatever goes on.
fn sync(records: Vec<PathBuf>) {
    if records.is_empty() {
        return;
    }
    tokio::task::spawn_blocking(move || {
        if let Err(error) = disk::sync(&records) {
            tracing::warn!(%error, "the desired state cannot be synced to the disk; a power cut may lose it");
        }
    });
}

/// Gives a pod its identity: that of the one that is there, or a new one.
fn identify(mut pod: Pod, known: Option<&Pod>, node_name: &str) -> Pod {
    let meta = &mut pod.metadata;
    meta.namespace.get_or_insert_with(|| "default".into());
    (meta.uid, meta.creation_timestamp) = match known {
        Some(known) => (known.metadata.uid.clone(), known.metadata.creation_timestamp.clone()),
        // Without randomness there is no id; the kernel has always some once it is up.
        None => (new_uid().ok(), now()),
    };
    pod.spec.get_or_insert_default().node_name.get_or_insert_with(|| node_name.to_owned());
    pod
}
