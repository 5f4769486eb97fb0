//! The objects, each change of them by number, and who watches.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::kinds::Kind;
use super::refusal::Refusal;
use super::select::Selector;

/// Which object: its kind's qualified name, its namespace (empty without), its name.
pub type Key = (String, String, String);

/// A change of one object.
#[derive(Clone)]
struct Change {
    revision: u64,
    kind: String,
    namespace: String,
    before: Option<Arc<Value>>,
    /// What it became; nothing if it is gone.
    after: Option<Arc<Value>>,
}

struct Watcher {
    kind: String,
    namespace: Option<String>,
    selector: Selector,
    bookmarks: bool,
    to: UnboundedSender<Value>,
}

/// The storage.
#[derive(Default)]
pub struct Store {
    revision: u64,
    /// Changes up to this one are forgotten.
    compacted: u64,
    objects: BTreeMap<Key, Arc<Value>>,
    changes: Vec<Change>,
    watchers: Vec<Watcher>,
    /// What is still to come of lists that are read in parts, and the revision they are of.
    parts: BTreeMap<String, (u64, Vec<Value>)>,
}

impl Store {
    /// The number of the last change.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// An object.
    pub fn get(&self, kind: &Kind, namespace: &str, name: &str) -> Option<Arc<Value>> {
        self.objects.get(&(kind.qualified(), namespace.to_owned(), name.to_owned())).cloned()
    }

    /// All objects of a kind, in one namespace or in all.
    pub fn list(&self, kind: &Kind, namespace: Option<&str>, selector: &Selector) -> Vec<Arc<Value>> {
        let first = (kind.qualified(), namespace.unwrap_or_default().to_owned(), String::new());
        let of_kind = self.objects.range(first.clone()..).take_while(|(key, _)| key.0 == first.0);
        let here = of_kind.filter(|(key, _)| namespace.is_none_or(|it| it == key.1));
        here.filter(|(_, object)| selector.matches(object)).map(|(_, object)| Arc::clone(object)).collect()
    }

    /// Writes an object, and tells who watches. It gets its resourceVersion.
    pub fn put(&mut self, kind: &Kind, mut object: Value) -> Arc<Value> {
        self.revision += 1;
        object["metadata"]["resourceVersion"] = self.revision.to_string().into();
        let object = Arc::new(object);
        let key = key_of(kind, &object);
        let before = self.objects.insert(key.clone(), Arc::clone(&object));
        self.tell(Change {
            revision: self.revision,
            kind: key.0,
            namespace: key.1,
            before,
            after: Some(Arc::clone(&object)),
        });
        object
    }

    /// Removes an object, and tells who watches.
    pub fn remove(&mut self, kind: &Kind, object: &Value) {
        let key = key_of(kind, object);
        if let Some(before) = self.objects.remove(&key) {
            self.revision += 1;
            let change =
                Change { revision: self.revision, kind: key.0, namespace: key.1, before: Some(before), after: None };
            self.tell(change);
        }
    }

    fn tell(&mut self, change: Change) {
        self.watchers.retain(|watcher| match watcher.event(&change) {
            Some(event) => watcher.to.send(event).is_ok(),
            None => !watcher.to.is_closed(),
        });
        self.changes.push(change);
    }

    /// Begins a watch with what changed after a revision; with revision 0, or none, with what is there.
    pub fn watch(&mut self, kind: &Kind, wish: Wish) -> Result<UnboundedReceiver<Value>, Refusal> {
        let (to, events) = unbounded_channel();
        let watcher = Watcher {
            kind: kind.qualified(),
            namespace: wish.namespace,
            selector: wish.selector,
            bookmarks: wish.bookmarks,
            to,
        };
        // A receiver that is here takes everything.
        let send = |event| drop(watcher.to.send(event));
        match wish.since {
            Some(since) if since > self.revision => return Err(Refusal::too_large(since, self.revision)),
            Some(since) if since < self.compacted => {
                let message = format!("too old resource version: {since} ({})", self.compacted);
                send(json!({"type": "ERROR", "object": Refusal::expired(message).status()}));
                return Ok(events);
            }
            Some(since) => {
                self.changes.iter().filter(|it| it.revision > since).filter_map(|it| watcher.event(it)).for_each(send);
            }
            None => {
                let there = self.list(kind, watcher.namespace.as_deref(), &watcher.selector);
                there.iter().for_each(|object| send(json!({"type": "ADDED", "object": **object})));
            }
        }
        if wish.says_initial_end {
            let mut bookmark = bookmark(kind, self.revision);
            bookmark["object"]["metadata"]["annotations"] = json!({"k8s.io/initial-events-end": "true"});
            send(bookmark);
        }
        self.watchers.push(watcher);
        Ok(events)
    }

    /// Tells every watch that wants to know how far it is.
    pub fn bookmark(&mut self) {
        let revision = self.revision;
        self.watchers.retain(|watcher| {
            let kind = super::kinds::KINDS.iter().find(|kind| kind.qualified() == watcher.kind);
            match kind.filter(|_| watcher.bookmarks) {
                Some(kind) => watcher.to.send(bookmark(kind, revision)).is_ok(),
                None => !watcher.to.is_closed(),
            }
        });
    }

    /// How many watches there are of a kind.
    pub fn watches(&mut self, kind: &Kind) -> usize {
        self.watchers.retain(|watcher| !watcher.to.is_closed());
        self.watchers.iter().filter(|watcher| watcher.kind == kind.qualified()).count()
    }

    /// Ends every watch.
    pub fn end_watches(&mut self) {
        self.watchers.clear();
    }

    /// Forgets what was, as etcd does after some minutes: a watch from before it is refused, and a list's rest is gone.
    pub fn compact(&mut self) {
        self.compacted = self.revision;
        self.changes.clear();
        self.parts.clear();
    }

    /// Keeps the rest of a list, under a word.
    pub fn keep_rest(&mut self, revision: u64, rest: Vec<Value>) -> String {
        let word = format!("{revision}-{}", self.parts.len());
        self.parts.insert(word.clone(), (revision, rest));
        word
    }

    /// The rest of a list.
    pub fn rest(&mut self, word: &str) -> Result<(u64, Vec<Value>), Refusal> {
        let expired = "The provided continue parameter is too old to display a consistent list result. You can start a \
            new list without the continue parameter.";
        self.parts.remove(word).ok_or_else(|| Refusal::expired(expired))
    }

    /// Another storage, with nothing in it, whose revisions begin anew.
    pub fn empty(&mut self) {
        *self = Self::default();
    }
}

/// What a watch is to tell.
pub struct Wish {
    /// In one namespace, or in all.
    pub namespace: Option<String>,
    /// Of which objects.
    pub selector: Selector,
    /// After which revision; else everything that is there comes first.
    pub since: Option<u64>,
    /// Whether it tells now and then how far it is.
    pub bookmarks: bool,
    /// Whether it says when everything was told that was there.
    pub says_initial_end: bool,
}

impl Watcher {
    /// What a change is to this watch: an object may begin or cease to be one that it asks for.
    fn event(&self, change: &Change) -> Option<Value> {
        if change.kind != self.kind || self.namespace.as_ref().is_some_and(|it| *it != change.namespace) {
            return None;
        }
        let matches = |object: &Option<Arc<Value>>| object.clone().filter(|it| self.selector.matches(it));
        match (matches(&change.before), matches(&change.after)) {
            (None, None) => None,
            (None, Some(after)) => Some(json!({"type": "ADDED", "object": *after})),
            (Some(_), Some(after)) => Some(json!({"type": "MODIFIED", "object": *after})),
            (Some(before), None) => {
                let mut object = Value::clone(&before);
                object["metadata"]["resourceVersion"] = change.revision.to_string().into();
                Some(json!({"type": "DELETED", "object": object}))
            }
        }
    }
}

fn key_of(kind: &Kind, object: &Value) -> Key {
    let text = |key: &str| object["metadata"][key].as_str().unwrap_or_default().to_owned();
    (kind.qualified(), text("namespace"), text("name"))
}

fn bookmark(kind: &Kind, revision: u64) -> Value {
    let metadata = json!({"resourceVersion": revision.to_string(), "creationTimestamp": null});
    json!({"type": "BOOKMARK", "object": {"kind": kind.kind, "apiVersion": kind.api_version(), "metadata": metadata}})
}
