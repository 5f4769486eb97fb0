//! Events: what happened to pods and to the node, as v1 Events in the store, for `kubectl describe` and `kubectl events`.
//!
//! What happens again is counted, not repeated. An event goes an hour after it happened last; of one object no more than
//! [`OF_ONE`] are kept, and no more than [`OF_ALL`] in all: the oldest go first.

mod words;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};

use crate::engine::config::names::PodKey;
use crate::engine::notice::Notice;
use crate::store::{DEFAULT_NAMESPACE, Store};

/// Who tells all this.
const COMPONENT: &str = "coracle";

/// How long an event is kept after it happened last.
const KEPT: Duration = Duration::from_secs(3600);

/// The most events of one object.
const OF_ONE: usize = 64;

/// The most events of all objects.
const OF_ALL: usize = 2048;

/// The longest message, in bytes: that of the API.
const MESSAGE: usize = 1024;

/// How it is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// As it should be.
    Normal,
    /// Somebody may have to do something.
    Warning,
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Happening {
    /// How it is meant.
    pub severity: Severity,
    /// kubelet's word for it.
    pub reason: String,
    /// For people.
    pub message: String,
    /// The container of the pod that it happened to.
    pub container: Option<String>,
}

impl Happening {
    /// Something that happened to an object as a whole.
    pub fn new(severity: Severity, reason: &str, message: impl Into<String>) -> Self {
        Self { severity, reason: reason.to_owned(), message: message.into(), container: None }
    }

    /// The same of one container.
    fn of(self, container: &str) -> Self {
        Self { container: Some(container.to_owned()), ..self }
    }
}

/// Keeps the events. Cheap to clone.
#[derive(Clone)]
pub struct Events {
    inner: Arc<Inner>,
}

struct Inner {
    store: Store,
    node: String,
    seen: Mutex<BTreeMap<Same, Seen>>,
}

/// What makes two happenings one event.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Same {
    kind: String,
    namespace: String,
    name: String,
    uid: String,
    field: String,
    severity: Severity,
    reason: String,
    message: String,
}

impl Same {
    /// Whether both are of one object.
    fn object(&self, other: &Self) -> bool {
        (&self.kind, &self.namespace, &self.name) == (&other.kind, &other.namespace, &other.name)
    }
}

/// An event that is kept.
#[derive(Clone, Debug)]
struct Seen {
    /// Its name; its namespace is the object's.
    event: String,
    last: Instant,
}

impl Events {
    /// Keeps events in `store`, in the name of a node.
    pub fn new(store: Store, node: &str) -> Self {
        Self { inner: Arc::new(Inner { store, node: node.to_owned(), seen: Mutex::default() }) }
    }

    /// Records what a pod's worker tells, as far as it is an event.
    pub fn tell(&self, notice: &Notice) {
        let pod = self.inner.store.get::<Pod>(&notice.pod.namespace, &notice.pod.name);
        for happening in words::of(notice, pod.as_deref()) {
            self.of_pod(&notice.pod, pod.as_deref(), happening);
        }
    }

    /// Records what happened to the node.
    pub fn node(&self, happening: Happening) {
        let node = &self.inner.node;
        let about = ObjectReference {
            api_version: Some("v1".into()),
            kind: Some("Node".into()),
            name: Some(node.clone()),
            uid: Some(node.clone()),
            ..ObjectReference::default()
        };
        self.record(about, happening, Instant::now());
    }

    fn of_pod(&self, key: &PodKey, pod: Option<&Pod>, happening: Happening) {
        let field_path = happening.container.as_deref().map(|container| words::field(pod, container));
        let about = ObjectReference {
            api_version: Some("v1".into()),
            kind: Some("Pod".into()),
            namespace: Some(key.namespace.clone()),
            name: Some(key.name.clone()),
            uid: Some(key.uid.clone()),
            field_path,
            ..ObjectReference::default()
        };
        self.record(about, happening, Instant::now());
    }

    /// Forgets what is too old. Whoever has a timer calls it now and then.
    pub fn forget_old(&self, now: Instant) {
        let mut seen = self.inner.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.retain(|same, it| {
            let kept = now.saturating_duration_since(it.last) < KEPT;
            if !kept {
                self.remove(same, it);
            }
            kept
        });
    }

    fn record(&self, about: ObjectReference, happening: Happening, now: Instant) {
        let Happening { severity, reason, message, .. } = happening;
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let same = Same {
            kind: text(&about.kind),
            // The events of what has no namespace are in the default one.
            namespace: about.namespace.clone().unwrap_or_else(|| DEFAULT_NAMESPACE.into()),
            name: text(&about.name),
            uid: text(&about.uid),
            field: text(&about.field_path),
            severity,
            reason,
            message: shortened(message),
        };
        let mut seen = self.inner.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let known = seen.get(&same).and_then(|it| self.inner.store.get::<Event>(&same.namespace, &it.event));
        let event = match known {
            Some(known) => again(&known),
            None => {
                self.make_room(&mut seen, &same);
                self.first(about, &same)
            }
        };
        seen.insert(same, Seen { event: event.metadata.name.clone().unwrap_or_default(), last: now });
        self.inner.store.put(event);
    }

    /// Removes the oldest events where one more would be too many.
    fn make_room(&self, seen: &mut BTreeMap<Same, Seen>, same: &Same) {
        let of_one = seen.keys().filter(|it| it.object(same)).count() >= OF_ONE;
        if !of_one && seen.len() < OF_ALL {
            return;
        }
        let candidates = seen.iter().filter(|(it, _)| !of_one || it.object(same));
        let oldest = candidates.min_by_key(|(_, it)| it.last).map(|(same, it)| (same.clone(), it.clone()));
        if let Some((same, it)) = oldest {
            self.remove(&same, &it);
            seen.remove(&same);
        }
    }

    fn remove(&self, same: &Same, seen: &Seen) {
        self.inner.store.remove::<Event>(&same.namespace, &seen.event);
    }

    fn first(&self, about: ObjectReference, same: &Same) -> Event {
        let now = now();
        // Unique among the events of one object, in the form of client-go: the object's name and a number.
        let name = format!("{}.{:016x}", same.name, self.inner.store.version());
        Event {
            metadata: ObjectMeta {
                name: Some(name),
                namespace: Some(same.namespace.clone()),
                creation_timestamp: now.clone(),
                uid: crate::identity::new_uid().ok(),
                ..ObjectMeta::default()
            },
            involved_object: about,
            type_: Some(if same.severity == Severity::Normal { "Normal" } else { "Warning" }.into()),
            reason: Some(same.reason.clone()),
            message: Some(same.message.clone()),
            source: Some(EventSource { component: Some(COMPONENT.into()), host: Some(self.inner.node.clone()) }),
            reporting_component: Some(COMPONENT.into()),
            reporting_instance: Some(self.inner.node.clone()),
            first_timestamp: now.clone(),
            last_timestamp: now,
            count: Some(1),
            ..Event::default()
        }
    }
}

/// The same once more.
fn again(known: &Event) -> Event {
    let mut event = known.clone();
    event.count = Some(event.count.unwrap_or(1).saturating_add(1));
    event.last_timestamp = now();
    event
}

fn now() -> Option<Time> {
    // Kubernetes' times are whole seconds.
    Timestamp::from_second(Timestamp::now().as_second()).ok().map(Time)
}

fn shortened(mut message: String) -> String {
    if message.len() > MESSAGE {
        let end = (0..=MESSAGE - 3).rev().find(|at| message.is_char_boundary(*at)).unwrap_or(0);
        message.truncate(end);
        message.push_str("...");
    }
    message
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::engine::notice;

    fn key(name: &str) -> PodKey {
        PodKey { namespace: "web".into(), name: name.into(), uid: format!("uid-of-{name}") }
    }

    fn all(store: &Store) -> Vec<Arc<Event>> {
        store.list::<Event>(None)
    }

    fn warning(message: &str) -> Happening {
        Happening::new(Severity::Warning, "R", message)
    }

    #[test]
    fn what_happens_again_is_counted() {
        let store = Store::new(0);
        let events = Events::new(store.clone(), "here");
        for _ in 0..3 {
            events.of_pod(&key("p"), None, warning("m"));
        }
        events.of_pod(&key("p"), None, warning("other"));
        events.of_pod(&key("q"), None, warning("m"));
        events.node(warning("m"));
        let counts: Vec<_> = all(&store).iter().map(|it| (it.involved_object.name.clone(), it.count)).collect();
        let expected = [("here", 1), ("p", 3), ("p", 1), ("q", 1)];
        assert_eq!(counts, expected.map(|(name, count)| (Some(name.to_owned()), Some(count))));
        let event = &all(&store)[1];
        assert_eq!(event.involved_object.uid.as_deref(), Some("uid-of-p"));
        assert_eq!(event.metadata.namespace.as_deref(), Some("web"));
        assert_eq!(event.source.as_ref().unwrap().host.as_deref(), Some("here"));
        assert_eq!(all(&store)[0].metadata.namespace.as_deref(), Some("default"));
    }

    #[test]
    fn events_go_an_hour_after_they_happened_last() {
        let store = Store::new(0);
        let events = Events::new(store.clone(), "here");
        events.of_pod(&key("p"), None, warning("m"));
        let now = Instant::now();
        events.forget_old(now + KEPT - Duration::from_secs(60));
        assert_eq!(all(&store).len(), 1);
        events.forget_old(now + KEPT + Duration::from_secs(60));
        assert_eq!(all(&store).len(), 0);
        events.of_pod(&key("p"), None, warning("m"));
        assert_eq!(all(&store)[0].count, Some(1));
    }

    #[test]
    fn there_are_never_more_than_the_limits() {
        let store = Store::new(0);
        let events = Events::new(store.clone(), "here");
        events.of_pod(&key("quiet"), None, warning("kept"));
        for number in 0..OF_ONE * 2 {
            events.of_pod(&key("loud"), None, warning(&number.to_string()));
        }
        let messages: Vec<_> = all(&store).iter().map(|it| it.message.clone().unwrap()).collect();
        assert_eq!(messages.len(), OF_ONE + 1);
        assert!(messages.contains(&"kept".into()) && !messages.contains(&"0".into()));
        for number in 0..OF_ALL {
            events.of_pod(&key(&format!("p{number}")), None, warning("m"));
        }
        assert_eq!(all(&store).len(), OF_ALL);
    }

    #[test]
    fn a_message_is_cut_between_characters() {
        let cut = shortened("ä".repeat(MESSAGE));
        assert!(cut.len() <= MESSAGE && cut.ends_with("ä..."));
    }

    #[test]
    fn a_notice_of_a_container_names_the_field_that_it_is_in() {
        let store = Store::new(0);
        let pod = serde_json::json!({
            "metadata": {"name": "p", "namespace": "web"},
            "spec": {"containers": [{"name": "a"}], "initContainers": [{"name": "i"}]}
        });
        store.put(serde_json::from_value::<Pod>(pod).unwrap());
        let events = Events::new(store.clone(), "here");
        for container in ["a", "i"] {
            let event = notice::Event::Unhealthy { container: container.into(), message: "m".into() };
            events.tell(&Notice { pod: key("p"), event });
        }
        let fields: Vec<_> = all(&store).iter().map(|it| it.involved_object.field_path.clone().unwrap()).collect();
        assert_eq!(fields, ["spec.containers{a}", "spec.initContainers{i}"]);
    }
}
