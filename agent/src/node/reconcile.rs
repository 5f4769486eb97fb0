//! Makes the pods that run those that shall: one task that owns the desired state and the pods' handles.
//!
//! ```text
//!            in a manifest                    not in one any more            gone, with every trace
//!  (nothing) ─────────────> record, worker ──────────────────────> leaving ────────────────────────> (nothing)
//!                              │    ^                                 │ in a manifest again: when this one is gone,
//!                              └────┘ changed: the worker is told     └─────> with a new uid
//! ```

mod bound;
mod endings;
mod identity;
mod obey;
mod room;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use k8s_openapi::api::core::v1::{Node, Pod};
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinSet;

use self::identity::identify;
use super::care::registry::Registry;
use super::control::{Command, Refusal};
use super::desired::disk::{self, Disk};
use super::desired::{Changes, Desired, Name};
use super::live::Live;
use super::order::{Order, State};
use super::shown::Shown;
use super::sources::Snapshot;
use super::strays::Strays;
use crate::cluster::objects::Following;
use crate::cluster::pods::Server;
use crate::engine::time::Monotonic;
use crate::engine::{Engine, Gate};
use crate::net::network::Network;
use crate::net::{Declared, Inputs, Picture, Surroundings};

/// How long to wait before something that failed is tried again.
const RETRY: Duration = Duration::from_secs(5);

/// How long a resize for which there was no room waits at most: what others wrote on the node may have changed (kubelet's
/// retryDelay in pkg/kubelet/allocation).
const AGAIN: Duration = Duration::from_secs(180);

/// The agent's one decision maker.
pub struct Reconciler {
    engine: Engine,
    disk: Disk,
    desired: Desired,
    shown: Shown,
    node_name: String,
    pods: BTreeMap<Name, Live>,
    /// Pods that are being stopped for good; each answers with its name when nothing of it is left.
    endings: JoinSet<Name>,
    /// Pods without a worker, of which what there is is being removed; each answers with its uid.
    removals: JoinSet<String>,
    removing: BTreeSet<String>,
    /// What an API server has bound to this node, where there is one.
    server: Option<Server>,
    /// Bound pods of which nobody has said yet whether the node takes them.
    unjudged: BTreeSet<String>,
    /// The node as the server has it.
    registered: Option<watch::Receiver<Option<Arc<Node>>>>,
    registration: Option<Arc<Node>>,
    /// What that refers to.
    objects: Option<Following>,
    /// Records that could not be written.
    unwritten: BTreeSet<String>,
    /// The same, of bound pods.
    unwritten_bound: BTreeSet<String>,
    /// A pod could not be given a worker.
    unstarted: bool,
    /// What runs and is in no record.
    strays: Strays,
    /// Asks the sources to look at once.
    look: watch::Sender<()>,
    /// A pod that others wait for may have changed.
    bell: Arc<Notify>,
    /// The pods, for who takes care of the node.
    registry: Registry,
    network: Network,
}

/// What a reconciler sees, for those who only look.
pub struct View<'a> {
    /// What shall run.
    pub desired: &'a Desired,
    /// What has a worker.
    pub pods: &'a BTreeMap<Name, Live>,
    /// The time now.
    pub now: Monotonic,
    /// What links lead to.
    pub network: &'a Network,
    shown: &'a Shown,
}

impl View<'_> {
    /// How a pod is, for those that wait for it; none when it is not there and will not be.
    pub fn state(&self, name: &Name, desired: &BTreeMap<Name, Arc<Pod>>) -> Option<State> {
        desired.get(name)?;
        let live = self.pods.get(name).filter(|live| !live.leaves());
        Some(live.map(Live::state).unwrap_or_default())
    }

    /// The object of that name that stands for a manifest that is not good.
    pub fn invalid(&self, name: &Name) -> Option<&Pod> {
        self.shown.find(name)
    }
}

impl Reconciler {
    /// A reconciler that knows nothing yet.
    pub fn new(
        engine: Engine,
        disk: Disk,
        shown: Shown,
        node_name: String,
        look: watch::Sender<()>,
        network: Network,
    ) -> Self {
        Reconciler {
            bell: network.bell(),
            network,
            engine,
            disk,
            desired: Desired::default(),
            shown,
            node_name,
            pods: BTreeMap::new(),
            endings: JoinSet::new(),
            removals: JoinSet::new(),
            removing: BTreeSet::new(),
            server: None,
            unjudged: BTreeSet::new(),
            registered: None,
            registration: None,
            objects: None,
            unwritten: BTreeSet::new(),
            unwritten_bound: BTreeSet::new(),
            unstarted: false,
            strays: Strays::default(),
            look,
            registry: Registry::default(),
        }
    }

    /// The pods that have a worker, for who takes care of the node.
    pub fn registry(&self) -> Registry {
        self.registry.clone()
    }

    /// Goes on where the last agent ended: what it desired last is started, and what it was stopping is stopped.
    pub async fn resume(&mut self, sources: BTreeSet<String>) -> anyhow::Result<()> {
        let (desired, ending, unusable) = self.disk.load().context("read the desired state")?;
        for record in &unusable {
            let (record, error) = (record.path.display(), &record.source);
            tracing::error!(%record, %error, "a record of the desired state cannot be used; its manifest is read again");
        }
        self.desired = desired;
        self.desired.set_sources(sources);
        let mut known: BTreeSet<String> = self.desired.pods().values().map(|pod| uid(pod).to_owned()).collect();
        known.extend(ending.iter().map(|pod| uid(pod).to_owned()));
        known.extend(self.desired.bound().all().map(|(uid, _)| uid.clone()));
        self.strays = Strays::find(&self.engine, &known).await.context("look for pods that run already")?;
        if let Some(devices) = self.engine.devices() {
            known.extend(self.strays.uids().into_values());
            devices.keep(&known);
        }
        self.strays.unusable = unusable.into_iter().map(|record| record.path).collect();
        self.engine.set_objects(self.desired.objects());
        for pod in ending {
            self.resume_ending(Arc::new(pod));
        }
        self.resume_bound();
        self.apply().await;
        self.tell_when_known();
        Ok(())
    }

    /// Says when every pod that the last agent had was looked at: from then on this one knows what that one knew.
    fn tell_when_known(&self) {
        let pods: Vec<_> = self.pods.values().map(Live::first_look).collect();
        tokio::spawn(async move {
            let count = pods.len();
            for known in pods {
                known.await;
            }
            tracing::info!(pods = count, "every pod of before is known again");
        });
    }

    /// Works until `end`.
    pub async fn run(
        &mut self,
        mut looks: mpsc::Receiver<Snapshot>,
        mut commands: mpsc::Receiver<Command>,
        end: impl Future<Output = anyhow::Result<()>>,
    ) -> anyhow::Result<()> {
        tokio::pin!(end);
        let mut bound = self.server.as_ref().map(Server::bound);
        bound.iter_mut().for_each(watch::Receiver::mark_changed);
        let mut registered = self.registered.clone();
        let mut known = self.objects.as_ref().map(Following::known);
        loop {
            let failed = self.unstarted || !self.unwritten.is_empty() || !self.unwritten_bound.is_empty();
            let (told, answered) = (changed(&mut bound), changed(&mut known));
            let first = changed(&mut registered);
            let retry = async { if failed { tokio::time::sleep(RETRY).await } else { std::future::pending().await } };
            let wanting = !self.desired.bound().wanting().is_empty();
            let again = async { if wanting { tokio::time::sleep(AGAIN).await } else { std::future::pending().await } };
            let bell = self.bell.clone();
            tokio::select! {
                ended = &mut end => return ended,
                Some(snapshot) = looks.recv() => self.merge(snapshot).await,
                Some(command) = commands.recv() => self.obey(command).await,
                Some(ended) = self.endings.join_next() => self.ended(ended).await,
                Some(ended) = self.removals.join_next() => self.removed_bound(ended),
                () = told => self.bound().await,
                () = answered => self.gate(),
                () = first, if self.registration.is_none() => self.bound().await,
                () = bell.notified() => self.rung().await,
                () = retry => self.retry().await,
                () = again => self.bound().await,
            }
        }
    }

    async fn retry(&mut self) {
        let files = std::mem::take(&mut self.unwritten);
        self.write(files);
        let bound = std::mem::take(&mut self.unwritten_bound);
        self.write_bound(bound);
        self.apply().await;
    }

    async fn merge(&mut self, snapshot: Snapshot) {
        let (node_name, strays) = (self.node_name.clone(), self.strays.uids());
        let mut identify = |pod: Pod, known: Option<&Pod>| identify(pod, known, &strays, &node_name);
        let changes = self.desired.merge(snapshot, &mut identify);
        if changes.judged {
            self.shown.judge(&self.desired, self.engine.settings()).await;
        }
        let Changes { changed, removed, .. } = changes;
        if !changed.is_empty() || !removed.is_empty() {
            // What is to be stopped is recorded first: without its manifest's record nobody would know of it.
            self.note_leaving();
            self.write(changed.into_iter().chain(removed).collect());
            self.engine.set_objects(self.desired.objects());
            self.shown.objects(&self.desired);
        }
        self.end_strays();
        self.apply().await;
    }

    /// Records manifests as they are desired now. What cannot be recorded is tried again; the pods do not wait for it.
    fn write(&mut self, files: BTreeSet<String>) {
        let mut written: Vec<PathBuf> = Vec::new();
        for file in files {
            match self.disk.write_file(&file, &self.desired) {
                Ok(record) => {
                    self.strays.unusable.remove(&record);
                    written.push(record);
                }
                Err(error) => {
                    tracing::error!(file, %error, "the desired state cannot be recorded; it is tried again");
                    self.unwritten.insert(file);
                }
            }
        }
        sync(written);
    }

    /// Starts, changes and stops pods until they are the desired ones.
    async fn apply(&mut self) {
        self.allocate().await;
        self.note_leaving();
        self.end_leaving();
        self.unstarted = false;
        let desired = self.desired.pods();
        let order = Order::of(&*desired);
        // What is wanted of the network is known before anybody begins who has to do with it.
        let picture = self.look_around(&desired);
        for (name, pod) in &*desired {
            match self.pods.get_mut(name) {
                None => {
                    self.clear_the_way(pod);
                    let gate = self.held(name, &order, &desired, &picture);
                    self.start(name, pod, gate, picture.surroundings(name));
                }
                // It is started when the one before it is gone.
                Some(live) if live.leaves() => {}
                Some(live) => live.update(pod),
            }
        }
        self.guide(&desired, &order, &picture);
        self.tell_own(&desired);
    }

    /// What the network shall be, now.
    fn look_around(&mut self, desired: &BTreeMap<Name, Arc<Pod>>) -> Arc<Picture> {
        // What is being stopped has its links to the end.
        let mut pods: BTreeMap<Name, Arc<Pod>> =
            self.pods.iter().map(|(name, live)| (name.clone(), live.pod.clone())).collect();
        pods.extend(desired.clone());
        let seen = self.pods.iter().filter_map(|(name, live)| Some((name.clone(), live.looks()?))).collect();
        let declared = Declared::of(self.desired.all());
        let picture = self.network.look(Inputs { pods, seen, declared, ..Inputs::default() });
        self.shown.network(picture.inputs());
        picture
    }

    /// Lets pods begin that waited for others, and holds those back that have to wait.
    fn gate(&mut self) {
        let desired = self.desired.pods();
        let order = Order::of(&*desired);
        let picture = self.look_around(&desired);
        self.guide(&desired, &order, &picture);
    }

    fn guide(&mut self, desired: &BTreeMap<Name, Arc<Pod>>, order: &Order, picture: &Picture) {
        for name in order.awaited().into_iter().chain(picture.watched()) {
            if let Some(live) = self.pods.get_mut(&name) {
                live.ring(&self.bell);
            }
        }
        for (name, live) in &self.pods {
            live.guide(self.held(name, order, desired, picture), picture.surroundings(name));
        }
    }

    /// Why a pod may not begin yet.
    fn held(&self, name: &Name, order: &Order, desired: &BTreeMap<Name, Arc<Pod>>, picture: &Picture) -> Option<Gate> {
        let order = order.gate(name, |target| self.view().state(target, desired));
        let victims = desired.get(name).and_then(|pod| self.held_by_victims(pod));
        let order = Gate::both(Gate::both(self.held_by_server(name), victims), order);
        Gate::both(order, picture.gate(name, self.network.unsupported().as_ref()))
    }

    /// What there is to be seen.
    fn view(&self) -> View<'_> {
        let (desired, pods, network) = (&self.desired, &self.pods, &self.network);
        View { desired, pods, network, shown: &self.shown, now: self.engine.now() }
    }

    fn start(&mut self, name: &Name, pod: &Arc<Pod>, gate: Option<Gate>, around: Surroundings) {
        match self.engine.start_among(pod.clone(), gate, around) {
            Ok(handle) => {
                self.registry.add(&handle);
                self.pods.insert(name.clone(), Live::new(pod.clone(), handle));
                self.make_way(pod);
            }
            Err(error) => {
                tracing::error!(pod = name.1, %error, "the pod cannot be started; it is tried again");
                self.unstarted = true;
            }
        }
    }
}

/// Until there is something new, which there never is where nothing is followed.
async fn changed<T>(followed: &mut Option<watch::Receiver<T>>) {
    let changed = match followed {
        Some(followed) => followed.changed().await.is_ok(),
        None => false,
    };
    if !changed {
        std::future::pending().await
    }
}

fn uid(pod: &Pod) -> &str {
    pod.metadata.uid.as_deref().unwrap_or_default()
}

fn not_found(name: &Name) -> Refusal {
    Refusal::NotFound { namespace: name.0.clone(), name: name.1.clone() }
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
