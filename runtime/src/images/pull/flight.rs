//! One pull for everybody who wants the same image: it begins with the first, and is given up when the last has left.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::Duration;

use tokio::sync::{Semaphore, oneshot, watch};

use super::bring::Bringer;
use super::plan::Planner;
use super::progress::{Event, LayerState, Phase, Reporter, Snapshot, news};
use crate::images::commit::{Candidate, Committed};
use crate::images::platform::Wanted;
use crate::images::registry::Registry;
use crate::images::{Error, ImageStore, Imported, Limits, Reference, RegistryAuth, RegistryOptions};

/// Images that are pulled at once; more wait. It bounds memory, and a disk does no more anyway.
const PULLS: usize = 3;
/// Layers that are unpacked at once, each by two threads.
const UNPACKERS: usize = 2;
/// A subscriber hears of progress this often at most.
const INTERVAL: Duration = Duration::from_millis(50);

/// The domain of what is built in.
const BUILTIN_DOMAIN: &str = "coracle.local";

/// What to pull.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PullRequest {
    /// The name, as a user writes it.
    pub reference: String,
    /// Credentials; none looks into the host's files.
    pub auth: Option<RegistryAuth>,
    /// `os/architecture[/variant]`; empty is this host.
    pub platform: String,
    /// What each layer may hold.
    pub limits: Limits,
}

/// Pulls images into a store. Cheap to clone.
#[derive(Clone)]
pub struct Puller(Arc<Inner>);

struct Inner {
    store: ImageStore,
    options: RegistryOptions,
    flights: Mutex<HashMap<PullRequest, Weak<Flight>>>,
    pulls: Semaphore,
    unpackers: Arc<Semaphore>,
}

/// A pull that is going on. When the last subscriber drops it, so does the pull.
struct Flight {
    state: watch::Receiver<Snapshot>,
    _wanted: oneshot::Sender<()>,
}

/// Somebody's wish for an image. Dropping it takes the wish back.
pub struct Subscription {
    _flight: Arc<Flight>,
    state: watch::Receiver<Snapshot>,
    seen: Snapshot,
    waiting: std::vec::IntoIter<Event>,
}

impl Puller {
    /// A puller into a store.
    pub fn new(store: ImageStore, options: RegistryOptions) -> Puller {
        let (pulls, unpackers) = (Semaphore::new(PULLS), Arc::new(Semaphore::new(UNPACKERS)));
        Puller(Arc::new(Inner { store, options, flights: Mutex::default(), pulls, unpackers }))
    }

    /// Begins to pull an image, or joins who does.
    pub fn pull(&self, mut request: PullRequest) -> Result<Subscription, Error> {
        let reference = Reference::parse(&request.reference)?.pinned();
        let platform = Wanted::parse(&request.platform)
            .map_err(|reason| Error::Unsuitable { image: reference.to_string(), reason })?;
        request.reference = reference.to_string();
        let mut flights = self.0.flights();
        if let Some(flight) = flights.get(&request).and_then(Weak::upgrade) {
            return Ok(Subscription::new(flight));
        }
        let (sender, state) = watch::channel(Snapshot::default());
        let (wanted, unwanted) = oneshot::channel();
        let flight = Arc::new(Flight { state, _wanted: wanted });
        let (inner, reporter, own) = (Arc::clone(&self.0), Reporter(Arc::new(sender)), Arc::downgrade(&flight));
        let key = request.clone();
        let work = move || {
            let result = fly(&inner, &reference, platform, &request, &reporter, unwanted);
            // Who comes from now on wants to know what the registry says from now on.
            inner.end(&request, &own);
            reporter.finish(result.map_err(Arc::new));
        };
        let spawned = std::thread::Builder::new().name("pull".to_owned()).spawn(work);
        spawned.map_err(|e| Error::io("start", std::path::Path::new("a thread for the pull"), e))?;
        flights.insert(key, Arc::downgrade(&flight));
        Ok(Subscription::new(flight))
    }
}

impl Inner {
    fn flights(&self) -> MutexGuard<'_, HashMap<PullRequest, Weak<Flight>>> {
        self.flights.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn end(&self, key: &PullRequest, own: &Weak<Flight>) {
        let mut flights = self.flights();
        if flights.get(key).is_some_and(|flight| flight.ptr_eq(own)) {
            flights.remove(key);
        }
    }
}

impl Subscription {
    fn new(flight: Arc<Flight>) -> Subscription {
        let state = flight.state.clone();
        Subscription { _flight: flight, state, seen: Snapshot::default(), waiting: Vec::new().into_iter() }
    }

    /// The next that happened; the last one is [`Event::Done`].
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.waiting.next() {
                return Some(event);
            }
            if self.seen.result.is_some() {
                return None;
            }
            let now = self.state.borrow_and_update().clone();
            let events = news(&self.seen, &now);
            self.seen = now;
            if !events.is_empty() {
                self.waiting = events.into_iter();
                continue;
            }
            if self.state.changed().await.is_err() {
                // The thread is gone without a result: it panicked.
                let lost = Err(Arc::new(Error::Cancelled));
                self.seen.result = Some(lost.clone());
                return Some(Event::Done(lost));
            }
            if self.state.borrow().result.is_none() {
                tokio::time::sleep(INTERVAL).await;
            }
        }
    }

    /// Waits for the image.
    pub async fn image(mut self) -> Result<Imported, Arc<Error>> {
        loop {
            match self.next().await {
                Some(Event::Done(result)) => return result,
                Some(_) => {}
                None => return Err(Arc::new(Error::Cancelled)),
            }
        }
    }
}

/// The whole pull, on a thread and a small runtime of its own: writing to the disk may block it, and nothing else.
fn fly(
    inner: &Inner,
    reference: &Reference,
    platform: Wanted,
    request: &PullRequest,
    reporter: &Reporter,
    unwanted: oneshot::Receiver<()>,
) -> Result<Imported, Error> {
    if reference.domain() == BUILTIN_DOMAIN {
        // Never looked up anywhere.
        let image = inner.store.resolve(&request.reference)?;
        return Ok(Imported { id: image.id, references: image.references, size: image.size });
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|e| Error::io("start", std::path::Path::new("a runtime for the pull"), e))?;
    runtime.block_on(async {
        tokio::select! {
            biased;
            _ = unwanted => Err(Error::Cancelled),
            result = pull(inner, reference, platform, request, reporter) => result,
        }
    })
}

async fn pull(
    inner: &Inner,
    reference: &Reference,
    platform: Wanted,
    request: &PullRequest,
    reporter: &Reporter,
) -> Result<Imported, Error> {
    let _turn = inner.pulls.acquire().await.map_err(|_| Error::Cancelled)?;
    let registry = Registry::open(&inner.options, reference, request.auth.as_ref())?;
    for note in &registry.notes {
        reporter.notice(note.clone());
    }
    let store = &inner.store;
    let max_layers = request.limits.max_layers;
    let plan = Planner { store, registry: &registry, reporter, reference, platform, max_layers }.plan().await?;
    let layers = plan.layers.iter().map(|layer| LayerState {
        digest: layer.digest.clone(),
        size: layer.size,
        phase: Phase::Waiting,
        bytes: 0,
        resumed: 0,
    });
    reporter.layers(&plan.digest, layers.collect());
    let bringer =
        Bringer { store, registry: &registry, reporter, limits: &request.limits, unpackers: &inner.unpackers };
    loop {
        let mut brought = bringer.bring(&plan).await?;
        let candidate = Candidate {
            config: plan.config.clone(),
            manifest: plan.manifest.clone(),
            layers: std::mem::take(&mut brought.layers),
            blobs: std::mem::take(&mut brought.blobs),
            references: vec![reference.clone()],
            index: Some(plan.named.clone()),
            builtin: false,
        };
        let store = store.clone();
        // It goes along with its locks: once begun, a commit goes to its end.
        let committed = tokio::task::spawn_blocking(move || store.commit(&brought.work, candidate)).await;
        // Otherwise somebody removed what this stood on: it is brought after all.
        if let Committed::Image(record) = committed.map_err(|_| Error::Cancelled)?? {
            return Ok(Imported { id: record.id, references: vec![reference.clone()], size: record.size });
        }
    }
}
