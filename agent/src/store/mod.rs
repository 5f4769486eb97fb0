//! The objects that this node has, as the Kubernetes API shows them: typed, in memory, versioned, to be watched.
//!
//! Writers `put` whole objects; one that is equal to what is there changes nothing and gets no new version. A bounded
//! ring keeps the latest changes: a watcher reads them from there at its own pace, so that a slow one costs nothing, and
//! one that has fallen behind the ring is told that it has to list again ([`Gone`]).
//!
//! Nothing here is durable: what has to survive is elsewhere, and is put here again by whoever reads it.

mod kind;
mod object;
mod ring;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
mod watch;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Namespace, NamespaceStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};

pub use self::kind::{Group, Kind};
pub use self::object::{Object, Stored};
use self::ring::Ring;
pub use self::ring::{Change, What};
pub use self::watch::{Gone, Watch};

/// How many changes are kept.
const CHANGES: usize = 1024;

/// How long a change is kept, as Kubernetes' API servers do: a client that was away for longer lists again.
const AGE: Duration = Duration::from_secs(75);

/// The namespace that is always there.
pub const DEFAULT_NAMESPACE: &str = "default";

/// The objects. Cheap to clone; all clones are one store.
#[derive(Clone, Debug)]
pub struct Store {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    state: Mutex<State>,
    /// The latest version, for whoever waits for another one.
    latest: tokio::sync::watch::Sender<u64>,
}

#[derive(Debug)]
struct State {
    objects: BTreeMap<Key, Object>,
    ring: Ring,
    version: u64,
}

/// Kind, namespace (empty for what has none) and name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    kind: Kind,
    namespace: String,
    name: String,
}

/// Objects and the version that they were listed at.
#[derive(Clone, Debug)]
pub struct Listed<T> {
    /// In the order of their namespaces and names.
    pub items: Vec<T>,
    /// To watch from.
    pub version: u64,
}

impl Store {
    /// A store whose versions begin after `version`, which is the time in milliseconds since the epoch: so they are others
    /// than an earlier store's, and a client of that is told to list again.
    pub fn new(version: u64) -> Self {
        let state = State { objects: BTreeMap::new(), ring: Ring::new(CHANGES, version), version };
        let store = Self {
            inner: Arc::new(Inner { state: Mutex::new(state), latest: tokio::sync::watch::Sender::new(version) }),
        };
        let since = i64::try_from(version).ok().and_then(|it| Timestamp::from_millisecond(it).ok());
        store.put(namespace(DEFAULT_NAMESPACE, since.map(Time)));
        store
    }

    /// Puts an object in the place of the one of its name, or adds it. The answer is the object as it is stored: with
    /// its version, which stays if nothing else has changed. An object in a namespace that is not known makes it so.
    pub fn put<T: Stored>(&self, object: T) -> Arc<T> {
        let mut state = self.lock();
        if T::KIND.namespaced() {
            let meta = object.metadata();
            let name = meta.namespace.clone().unwrap_or_else(|| DEFAULT_NAMESPACE.into());
            if !state.objects.contains_key(&Key { kind: Kind::Namespace, namespace: String::new(), name: name.clone() })
            {
                let made = namespace(&name, meta.creation_timestamp.clone());
                state.put(made);
            }
        }
        let stored = state.put(object);
        self.announce(&state);
        stored
    }

    /// Takes an object away. The answer is the object as its watchers see it last.
    pub fn remove<T: Stored>(&self, namespace: &str, name: &str) -> Option<Arc<T>> {
        let mut state = self.lock();
        let removed = state.remove(&Key::of(T::KIND, namespace, name))?;
        if T::KIND.namespaced() && namespace != DEFAULT_NAMESPACE && !state.inhabited(namespace) {
            state.remove(&Key::of(Kind::Namespace, "", namespace));
        }
        self.announce(&state);
        T::of(&removed).cloned()
    }

    /// One object.
    pub fn get<T: Stored>(&self, namespace: &str, name: &str) -> Option<Arc<T>> {
        T::of(self.lock().objects.get(&Key::of(T::KIND, namespace, name))?).cloned()
    }

    /// All objects of a type, or those of one namespace.
    #[cfg(test)]
    pub fn list<T: Stored>(&self, namespace: Option<&str>) -> Vec<Arc<T>> {
        self.lock().of(T::KIND, namespace).filter_map(|it| T::of(it).cloned()).collect()
    }

    /// One object of a kind that is known when the program runs.
    pub fn object(&self, kind: Kind, namespace: &str, name: &str) -> Option<Object> {
        self.lock().objects.get(&Key::of(kind, namespace, name)).cloned()
    }

    /// All objects of a kind, or those of one namespace, and the version to watch from.
    pub fn objects(&self, kind: Kind, namespace: Option<&str>) -> Listed<Object> {
        let state = self.lock();
        Listed { items: state.of(kind, namespace).cloned().collect(), version: state.version }
    }

    /// The latest version.
    pub fn version(&self) -> u64 {
        self.lock().version
    }

    /// The changes to objects of a kind after the version `since`.
    pub fn watch(&self, kind: Kind, since: u64) -> Result<Watch, Gone> {
        Watch::begin(self.clone(), kind, since)
    }

    /// Forgets changes that are older than any client should need. Whoever has a timer calls it now and then.
    pub fn forget_old_changes(&self, now: Instant) {
        self.lock().ring.forget_before(now.checked_sub(AGE));
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.inner.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn announce(&self, state: &State) {
        self.inner.latest.send_if_modified(|latest| std::mem::replace(latest, state.version) != state.version);
    }
}

impl State {
    fn put<T: Stored>(&mut self, mut object: T) -> Arc<T> {
        let meta = object.metadata_mut();
        if T::KIND.namespaced() {
            meta.namespace.get_or_insert_with(|| DEFAULT_NAMESPACE.into());
        }
        let namespace = meta.namespace.as_deref().unwrap_or_default();
        let key = Key::of(T::KIND, namespace, meta.name.as_deref().unwrap_or_default());
        let before = self.objects.get(&key).cloned();
        if let Some(there) = before.as_ref().and_then(T::of) {
            meta.resource_version.clone_from(&there.metadata().resource_version);
            if **there == object {
                return there.clone();
            }
        }
        self.version += 1;
        object.metadata_mut().resource_version = Some(self.version.to_string());
        let object = Arc::new(object);
        let what = if before.is_some() { What::Modified } else { What::Added };
        self.objects.insert(key, T::wrap(object.clone()));
        self.ring.push(Change { version: self.version, what, object: T::wrap(object.clone()), before });
        object
    }

    fn remove(&mut self, key: &Key) -> Option<Object> {
        let before = self.objects.remove(key)?;
        self.version += 1;
        // Watchers go on from the version of what they see last.
        let object = before.at_version(self.version);
        let change =
            Change { version: self.version, what: What::Deleted, object: object.clone(), before: Some(before) };
        self.ring.push(change);
        Some(object)
    }

    fn of(&self, kind: Kind, namespace: Option<&str>) -> impl Iterator<Item = &Object> {
        let first = Key::of(kind, namespace.unwrap_or_default(), "");
        let wanted = move |key: &Key| key.kind == kind && namespace.is_none_or(|it| key.namespace == it);
        self.objects.range(first..).take_while(move |(key, _)| wanted(key)).map(|(_, object)| object)
    }

    /// Whether anything is in a namespace. Events tell of what was there.
    fn inhabited(&self, namespace: &str) -> bool {
        let kinds = Kind::ALL.into_iter().filter(|kind| kind.namespaced());
        kinds.into_iter().any(|kind| self.of(kind, Some(namespace)).next().is_some())
    }
}

impl Key {
    fn of(kind: Kind, namespace: &str, name: &str) -> Self {
        let namespace = if kind.namespaced() { namespace } else { "" };
        Self { kind, namespace: namespace.to_owned(), name: name.to_owned() }
    }
}

fn namespace(name: &str, since: Option<Time>) -> Namespace {
    Namespace {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            creation_timestamp: since,
            labels: Some([("kubernetes.io/metadata.name".to_owned(), name.to_owned())].into()),
            ..ObjectMeta::default()
        },
        status: Some(NamespaceStatus { phase: Some("Active".into()), ..NamespaceStatus::default() }),
        ..Namespace::default()
    }
}
