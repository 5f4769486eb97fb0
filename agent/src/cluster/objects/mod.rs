//! What the pods of a cluster refer to: read from the API server while a pod needs it, one object at a time, for a node may
//! read nothing else; and kept, so that a pod goes on with what was last known when the server is away.
//!
//! ```text
//!  pods ──want──> references ──> a watch each ──> state ──> engine: what each pod has
//!                                                  │  └───> Known: whom to hold back, because nobody has asked yet
//!                                                  └──────> ROOT/desired/objects: for the next start, with no server
//! ```

mod disk;
mod references;
mod state;
mod tokens;
mod watching;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, Service};
use tokio::sync::{Notify, Semaphore, watch};
use tokio::task::AbortHandle;

use self::disk::{Disk, Key, Recalled};
use self::references::Reference;
use self::state::{Answer, Given, Holder, Item, State, TokenKey};
use super::Link;
use crate::engine::config::objects::Token;
use crate::engine::{Engine, Gate};
use crate::net::services::OfCluster;
use crate::node::desired::disk::sync;
use crate::node::desired::{Name, Pods};

/// What kubelet calls it when a pod waits for what it refers to.
const REASON: &str = "ContainerCreating";

/// How many questions are asked at a time: many pods come at once when a node, or its API server, comes back.
const QUESTIONS: usize = 16;

/// How long Services are changed before that is recorded: in a large cluster they always are.
const RECORDED: Duration = Duration::from_secs(30);

/// Follows what pods refer to, until it is dropped with all its clones.
#[derive(Clone)]
pub struct Following {
    shared: Arc<Shared>,
    _end: Arc<End>,
}

/// What is known of what pods refer to.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// What each pod still waits for, by its uid.
    unknown: BTreeMap<String, Vec<String>>,
}

/// What all that works on it shares.
struct Shared {
    link: Link,
    engine: Engine,
    disk: Disk,
    state: Mutex<State>,
    services: Mutex<Arc<OfCluster>>,
    /// Services are others than those that are recorded.
    services_changed: Notify,
    tasks: Mutex<BTreeMap<Key, AbortHandle>>,
    others: Mutex<Vec<AbortHandle>>,
    known: watch::Sender<Arc<Known>>,
    asking: Semaphore,
    /// Held while records are written or removed: what is swept away is not what was just written.
    records: Mutex<()>,
}

/// Ends what works when nobody follows any more.
struct End(Arc<Shared>);

impl Drop for End {
    fn drop(&mut self) {
        lock(&self.0.tasks).values().for_each(AbortHandle::abort);
        lock(&self.0.others).iter().for_each(AbortHandle::abort);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Following {
    /// Begins to follow the Services, and whatever pods will refer to. What is recorded below `root` is known from before.
    pub fn begin(link: Link, engine: Engine, root: &Path) -> io::Result<Self> {
        let disk = Disk::open(root)?;
        let Recalled { objects, tokens, services } = disk.load()?;
        let services_known = services.is_some();
        let services = Arc::new(services.unwrap_or_default());
        let mut state = State::recalled(objects, tokens, services_known);
        state.node.clone_from(&engine.settings().node.name);
        engine.set_services(services.clone());
        let shared = Arc::new(Shared {
            link,
            engine,
            disk,
            state: Mutex::new(state),
            services: Mutex::new(services),
            services_changed: Notify::new(),
            tasks: Mutex::default(),
            others: Mutex::default(),
            known: watch::Sender::new(Arc::default()),
            asking: Semaphore::new(QUESTIONS),
            records: Mutex::default(),
        });
        let following = tokio::spawn(watching::follow_services(shared.clone())).abort_handle();
        let recording = tokio::spawn(record_services(shared.clone())).abort_handle();
        let labelling = tokio::spawn(follow_labels(shared.clone())).abort_handle();
        lock(&shared.others).extend([following, recording, labelling]);
        Ok(Following { _end: Arc::new(End(shared.clone())), shared })
    }

    /// From now on, follows what these pods refer to, and nothing else. To be called before any of them is given a worker,
    /// and the first time with every pod that is known from before: what nobody refers to is forgotten, on disk, too.
    pub fn want(&self, pods: &Pods) {
        let shared = &self.shared;
        let fresh = {
            let mut state = lock(&shared.state);
            let before = state.uids();
            let given = state.want(pods);
            shared.publish(&state, given);
            state.uids().difference(&before).flat_map(|uid| state.references_of(uid)).collect()
        };
        shared.arrange(&fresh);
        let shared = shared.clone();
        tokio::task::spawn_blocking(move || shared.sweep());
    }

    /// What is known, and whenever that changes. The engine has it already when this tells.
    pub fn known(&self) -> watch::Receiver<Arc<Known>> {
        self.shared.known.subscribe()
    }
}

impl Known {
    /// Why a pod may not begin yet: something that it refers to was never asked for.
    pub fn gate(&self, pod: &Pod) -> Option<Gate> {
        let waits = self.unknown.get(pod.metadata.uid.as_deref()?)?;
        let message = format!("the API server has not told yet: {}", waits.join(", "));
        (!waits.is_empty()).then(|| Gate { reason: REASON.to_owned(), message })
    }
}

impl Shared {
    /// Tells the engine, and those who hold pods back, in this order.
    fn publish(&self, state: &State, given: Given) {
        for (uid, objects) in given {
            self.engine.set_objects_of(&uid, objects);
        }
        let unknown = state.unknown(Timestamp::now());
        self.known.send_if_modified(|known| {
            let changed = known.unknown != unknown;
            if changed {
                *known = Arc::new(Known { unknown });
            }
            changed
        });
    }

    /// Everything that is asked for, and whom tokens are for.
    fn keys(&self) -> (BTreeSet<Key>, BTreeMap<TokenKey, Holder>) {
        let state = lock(&self.state);
        let tokens = state.token_keys();
        let objects = state.references().into_iter().map(Key::Object);
        (objects.chain(tokens.keys().cloned().map(Key::Token)).collect(), tokens)
    }

    /// Has somebody ask for everything that is referred to, and nobody for anything else. What cannot change any more is
    /// asked for once again if it is `fresh`: a new pod may mean another object of that name.
    fn arrange(self: &Arc<Self>, fresh: &BTreeSet<Reference>) {
        let mut tasks = lock(&self.tasks);
        let (keys, holders) = self.keys();
        tasks.retain(|key, task| {
            let is_stale = |key: &Key| matches!(key, Key::Object(reference) if fresh.contains(reference));
            let stays = keys.contains(key) && !(task.is_finished() && is_stale(key));
            if !stays {
                task.abort();
            }
            stays
        });
        for key in keys {
            let spawn = || match &key {
                Key::Object(reference) => tokio::spawn(watching::follow(self.clone(), reference.clone())),
                Key::Token(token) => {
                    tokio::spawn(tokens::keep(self.clone(), token.clone(), holders.get(token).cloned()))
                }
            };
            let task = match tasks.get(&key) {
                Some(_) => continue,
                None => spawn().abort_handle(),
            };
            tasks.insert(key, task);
        }
    }

    /// Forgets records that nobody needs.
    fn sweep(&self) {
        let _records = lock(&self.records);
        if let Err(error) = self.disk.keep(&self.keys().0) {
            tracing::warn!(%error, "records of objects that no pod refers to any more cannot be removed");
        }
    }

    /// Takes what was heard of an object: recorded first, so that nothing begins that could not begin again.
    async fn hear(self: &Arc<Self>, reference: &Reference, answer: Answer<Item>) {
        let key = Key::Object(reference.clone());
        let record = match &answer {
            // What is asked for again and again is not recorded each time.
            answer if lock(&self.state).knows(reference, answer) => None,
            Answer::Is(item) => self.record(key, item.clone().into()).await,
            Answer::Missing => self.record(key, disk::Content::Nothing).await,
            Answer::Unknown(_) | Answer::Refused(_) => None,
        };
        let leads_on = {
            let mut state = lock(&self.state);
            let before = state.references();
            let given = state.hear(reference, answer);
            self.publish(&state, given);
            before != state.references()
        };
        if leads_on {
            self.arrange(&BTreeSet::new());
        }
        sync_beside(record);
    }

    /// Takes what was heard of a token.
    async fn hear_token(self: &Arc<Self>, key: &TokenKey, answer: Answer<Token>) {
        let record = match &answer {
            Answer::Is(token) => self.record(Key::Token(key.clone()), disk::Content::Token(token.clone())).await,
            _ => None,
        };
        let mut state = lock(&self.state);
        let given = state.hear_token(key, answer);
        self.publish(&state, given);
        drop(state);
        sync_beside(record);
    }

    /// Writes a record, or removes it. What it answers is to be synced.
    async fn record(self: &Arc<Self>, key: Key, content: disk::Content) -> Option<PathBuf> {
        let shared = self.clone();
        let work = move || {
            let _records = lock(&shared.records);
            shared.disk.write(&key, &content)
        };
        match tokio::task::spawn_blocking(work).await {
            Ok(Ok(record)) => record,
            Ok(Err(error)) => {
                tracing::warn!(%error, "an object of the cluster cannot be recorded: a reboot without its server loses it");
                None
            }
            Err(_) => None,
        }
    }

    fn token(&self, key: &TokenKey) -> Option<Token> {
        lock(&self.state).token(key).cloned()
    }

    /// Takes a list of all Services.
    fn hear_services(&self, services: OfCluster) {
        self.change_services(|now| *now = services);
        let mut state = lock(&self.state);
        state.services_known = true;
        self.publish(&state, Given::new());
    }

    /// Takes one Service that is new, another or gone.
    fn hear_service(&self, name: Name, service: Option<Service>) {
        self.change_services(|now| match service {
            Some(service) => drop(now.insert(name, service)),
            None => drop(now.remove(&name)),
        });
    }

    fn change_services(&self, change: impl FnOnce(&mut OfCluster)) {
        let mut services = lock(&self.services);
        change(Arc::make_mut(&mut services));
        self.engine.set_services(services.clone());
        self.services_changed.notify_one();
    }
}

/// Makes a record outlast a power cut, while what it is of is used already.
fn sync_beside(record: Option<PathBuf>) {
    let Some(record) = record else { return };
    tokio::task::spawn_blocking(move || {
        if let Err(error) = sync(&[record]) {
            tracing::warn!(%error, "an object of the cluster cannot be synced to the disk; a power cut may lose it");
        }
    });
}

/// Takes over what is written on the node, which volumes may ask for.
async fn follow_labels(shared: Arc<Shared>) {
    let mut node = shared.link.node();
    let mut known = None;
    loop {
        let now = node.borrow_and_update().as_ref().map(|node| node.metadata.labels.clone().unwrap_or_default());
        if let Some(labels) = now.filter(|now| known.as_ref() != Some(now)) {
            known = Some(labels.clone());
            let mut state = lock(&shared.state);
            let given = state.hear_labels(labels);
            shared.publish(&state, given);
        }
        if node.changed().await.is_err() {
            return;
        }
    }
}

/// Records the Services when they are others, not more often than it is worth.
async fn record_services(shared: Arc<Shared>) {
    loop {
        shared.services_changed.notified().await;
        let (services, disk) = (lock(&shared.services).clone(), shared.disk.clone());
        let written = tokio::task::spawn_blocking(move || disk.write_services(&services)).await;
        if let Ok(Err(error)) = written {
            tracing::warn!(%error, "the Services of the cluster cannot be recorded");
        }
        tokio::time::sleep(RECORDED).await;
    }
}
