//! Brings the node's events to the API server.
//!
//! Nothing waits for that. What happens again while an event waits is told with it; one object's events are told as often
//! as [`spam`] allows; more than [`MOST`] do not wait: the oldest are lost, counted.

mod outgoing;
mod queue;
mod spam;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::Event;
use kube::api::{Api, Patch, PatchParams, PostParams};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::Instant;

use self::outgoing::{Naming, outgoing, told_again};
use self::queue::{Queue, Waiting};
use self::spam::Spam;
use super::Link;
use super::client::chain;
use super::pace::Pauses;
use crate::store::{Kind, Object, Store, What};

/// How many events wait at most, as in kubelet.
const MOST: usize = 1000;

/// How often the server may ask to send one again later before it is lost.
const TRIES: u32 = 12;

/// Brings events to the API server.
#[derive(Clone)]
pub struct Sink {
    link: Link,
    store: Store,
    naming: Naming,
    state: Arc<Mutex<State>>,
    bell: Arc<Notify>,
}

struct State {
    queue: Queue,
    spam: Spam,
}

impl Sink {
    /// Of the node called `node`, whose events are in `store`.
    pub fn new(link: Link, store: Store, node: &str) -> Self {
        let state = State { queue: Queue::new(MOST), spam: Spam::default() };
        let naming = Naming { node: node.to_owned() };
        Self { link, store, naming, state: Arc::new(Mutex::new(state)), bell: Arc::default() }
    }

    /// Begins, in `tasks`.
    pub fn begin(self, tasks: &mut JoinSet<()>) {
        tasks.spawn(self.clone().take_in());
        tasks.spawn(self.send());
    }

    /// Notes what happens; never waits for who sends it.
    async fn take_in(self) {
        loop {
            let listed = self.store.objects(Kind::Event, None);
            let Ok(mut watch) = self.store.watch(Kind::Event, listed.version) else { continue };
            for object in &listed.items {
                self.note(object);
            }
            // Fallen behind, everything is looked at again: what was told already is not told twice.
            while let Ok(change) = watch.next().await {
                match change.what {
                    What::Added | What::Modified => self.note(&change.object),
                    What::Deleted => self.lock().queue.forget(&change.object),
                }
            }
        }
    }

    fn note(&self, object: &Object) {
        let Object::Event(event) = object else { return };
        let mut state = self.lock();
        if state.queue.knows(event) || !state.spam.admits(event, Instant::now()) {
            return;
        }
        state.queue.put(event.clone());
        self.bell.notify_one();
    }

    async fn send(self) {
        let mut pauses = Pauses::new(Duration::from_secs(1), Duration::from_secs(10));
        loop {
            let Some(waiting) = self.next() else {
                self.bell.notified().await;
                continue;
            };
            match self.tell(&waiting).await {
                Ok(()) => {
                    pauses.reset();
                    let lost = self.lock().queue.told(&waiting);
                    if lost > 0 {
                        tracing::warn!(
                            lost,
                            "events were lost: the API server took them too slowly, or was out of reach"
                        );
                    }
                }
                Err(error) => match self.verdict(&waiting, &error) {
                    Verdict::Drop => {
                        tracing::debug!(error = chain(&error), "an event is refused, and lost");
                        self.lock().queue.refused(&waiting);
                    }
                    Verdict::Wait => {
                        tracing::debug!(error = chain(&error), "an event is not told; it is tried again");
                        self.lock().queue.again(waiting);
                        pauses.wait().await;
                    }
                },
            }
        }
    }

    fn next(&self) -> Option<Waiting> {
        self.lock().queue.next()
    }

    async fn tell(&self, waiting: &Waiting) -> Result<(), kube::Error> {
        let Some(event) = outgoing(&waiting.event, &self.naming, &self.store) else { return Ok(()) };
        let (Some(namespace), Some(name)) = (&event.metadata.namespace, &event.metadata.name) else { return Ok(()) };
        let events: Api<Event> = Api::namespaced(self.link.clients().await.events, namespace);
        if waiting.told {
            let patch = Patch::Strategic(told_again(&event));
            match events.patch(name, &PatchParams::default(), &patch).await {
                // It was forgotten there, which is before it is here.
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                other => return other.map(drop),
            }
        }
        match events.create(&PostParams::default(), &event).await {
            // An answer was lost on its way.
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
            other => other.map(drop),
        }
    }

    fn verdict(&self, waiting: &Waiting, error: &kube::Error) -> Verdict {
        match error {
            kube::Error::Api(status) if status.code == 429 || status.code >= 500 => {
                if waiting.tries + 1 < TRIES {
                    Verdict::Wait
                } else {
                    Verdict::Drop
                }
            }
            // 401 is what a certificate that has run out says: another one comes.
            kube::Error::Api(status) if status.code != 401 => Verdict::Drop,
            _ => Verdict::Wait,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What becomes of an event that was not told.
enum Verdict {
    /// The server will never take it.
    Drop,
    /// It may later.
    Wait,
}
