//! Events that wait to be told: each once, as it is by then, in the order in which they came. Pure.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use k8s_openapi::api::core::v1::Event;

use crate::store::Object;

/// Namespace and name.
type Key = (String, String);

/// An event that is being told.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Waiting {
    /// As it is now.
    pub(super) event: Arc<Event>,
    /// The API server has it already, with a lesser count.
    pub(super) told: bool,
    /// How often it was tried.
    pub(super) tries: u32,
}

/// The events that wait.
#[derive(Debug)]
pub(super) struct Queue {
    most: usize,
    order: VecDeque<Key>,
    waiting: BTreeMap<Key, (Arc<Event>, u32)>,
    /// What the API server has, in which version of the store's.
    told: BTreeMap<Key, String>,
    /// What it will not have.
    refused: BTreeSet<Key>,
    lost: u64,
}

fn key(event: &Event) -> Key {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    (text(&event.metadata.namespace), text(&event.metadata.name))
}

fn version(event: &Event) -> String {
    event.metadata.resource_version.clone().unwrap_or_default()
}

impl Queue {
    /// One in which at most `most` wait.
    pub(super) fn new(most: usize) -> Self {
        Self {
            most,
            order: VecDeque::new(),
            waiting: BTreeMap::new(),
            told: BTreeMap::new(),
            refused: BTreeSet::new(),
            lost: 0,
        }
    }

    /// Whether there is nothing new in it.
    pub(super) fn knows(&self, event: &Event) -> bool {
        let key = key(event);
        self.told.get(&key) == Some(&version(event))
            || self.waiting.get(&key).is_some_and(|(there, _)| version(there) == version(event))
            || self.refused.contains(&key)
    }

    /// It waits from now on; the same event with a lesser count does not any more.
    pub(super) fn put(&mut self, event: Arc<Event>) {
        let key = key(&event);
        if self.waiting.insert(key.clone(), (event, 0)).is_none() {
            self.order.push_back(key);
        }
        while self.waiting.len() > self.most {
            let Some(oldest) = self.order.pop_front() else { break };
            self.waiting.remove(&oldest);
            self.lost += 1;
        }
    }

    /// The next one to be told.
    pub(super) fn next(&mut self) -> Option<Waiting> {
        let key = self.order.pop_front()?;
        let (event, tries) = self.waiting.remove(&key)?;
        Some(Waiting { event, told: self.told.contains_key(&key), tries })
    }

    /// It was told. The answer is how many were lost since this was asked last.
    pub(super) fn told(&mut self, waiting: &Waiting) -> u64 {
        self.told.insert(key(&waiting.event), version(&waiting.event));
        std::mem::take(&mut self.lost)
    }

    /// It has to be told again, before all others, unless it has changed since.
    pub(super) fn again(&mut self, waiting: Waiting) {
        let key = key(&waiting.event);
        if !self.waiting.contains_key(&key) {
            self.order.push_front(key.clone());
            self.waiting.insert(key, (waiting.event, waiting.tries + 1));
        }
    }

    /// It will never be told.
    pub(super) fn refused(&mut self, waiting: &Waiting) {
        self.refused.insert(key(&waiting.event));
        self.lost += 1;
    }

    /// The store has forgotten it; if it waits, it is told nevertheless.
    pub(super) fn forget(&mut self, object: &Object) {
        if let Object::Event(event) = object {
            self.told.remove(&key(event));
            self.refused.remove(&key(event));
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

    use super::*;

    fn event(name: &str, version: u32) -> Arc<Event> {
        Arc::new(Event {
            metadata: ObjectMeta {
                name: Some(name.into()),
                namespace: Some("default".into()),
                resource_version: Some(version.to_string()),
                ..ObjectMeta::default()
            },
            ..Event::default()
        })
    }

    fn names(queue: &mut Queue) -> Vec<(String, String)> {
        std::iter::from_fn(|| queue.next()).map(|it| (key(&it.event).1, version(&it.event))).collect()
    }

    #[test]
    fn what_happens_again_while_it_waits_is_told_once_and_in_its_turn() {
        let mut queue = Queue::new(10);
        for (name, version) in [("a", 1), ("b", 2), ("a", 3)] {
            queue.put(event(name, version));
        }
        assert_eq!(names(&mut queue), [("a".into(), "3".into()), ("b".into(), "2".into())]);
    }

    #[test]
    fn the_oldest_are_lost_where_too_many_wait() {
        let mut queue = Queue::new(2);
        for (name, version) in [("a", 1), ("b", 2), ("c", 3)] {
            queue.put(event(name, version));
        }
        let first = queue.next().unwrap();
        assert_eq!(key(&first.event).1, "b");
        assert_eq!(queue.told(&first), 1);
        assert_eq!(queue.told(&first), 0, "it is said once");
    }

    #[test]
    fn what_was_told_is_told_again_only_when_it_happened_again() {
        let mut queue = Queue::new(2);
        queue.put(event("a", 1));
        let first = queue.next().unwrap();
        assert!(!first.told);
        queue.told(&first);
        assert!(queue.knows(&event("a", 1)) && !queue.knows(&event("a", 2)));
        queue.put(event("a", 2));
        assert!(queue.next().unwrap().told);
        queue.forget(&Object::Event(event("a", 2)));
        assert!(!queue.knows(&event("a", 1)));
    }

    #[test]
    fn what_failed_is_first_again_but_for_a_newer_one() {
        let mut queue = Queue::new(3);
        queue.put(event("a", 1));
        queue.put(event("b", 2));
        let first = queue.next().unwrap();
        queue.again(first.clone());
        assert_eq!(queue.next().unwrap(), Waiting { tries: 1, ..first.clone() });
        queue.put(event("a", 3));
        queue.again(first);
        assert_eq!(names(&mut queue), [("b".into(), "2".into()), ("a".into(), "3".into())]);
    }
}
