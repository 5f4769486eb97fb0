//! Bringing the layers of an image: downloads side by side, each unpacked behind itself.

use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use futures_util::future::try_join_all;
use tokio::sync::Semaphore;

use super::download::{Download, Stopped};
use super::partial::Partial;
use super::plan::{Plan, PlannedLayer};
use super::progress::{Phase, Reporter};
use super::source::growing;
use crate::images::digest::HashingReader;
use crate::images::layers::Ready;
use crate::images::pipeline::Blob;
use crate::images::registry::Registry;
use crate::images::section::Section;
use crate::images::temporary::Temporary;
use crate::images::{Digest, Error, ImageStore, Limits, space};

/// Downloads of one image that run at once.
const DOWNLOADS: usize = 3;
/// How often to look whether another process is done with a layer.
const POLL: Duration = Duration::from_millis(50);
const MAX_POLL: Duration = Duration::from_secs(1);

/// What bringing layers needs.
pub(super) struct Bringer<'a> {
    pub store: &'a ImageStore,
    pub registry: &'a Registry,
    pub reporter: &'a Reporter,
    pub limits: &'a Limits,
    /// Layers that are unpacked at once, of all pulls.
    pub unpackers: &'a Arc<Semaphore>,
}

/// Layers that are ready, lowest first, and the blobs to keep. The locks on those end with this.
pub(super) struct Brought {
    pub layers: Vec<Ready>,
    pub blobs: Vec<(Digest, PathBuf)>,
    pub work: Arc<Temporary>,
    _partials: Vec<(Digest, Partial)>,
}

/// Where a layer will be, known before it is there: the layers above look into it in the end.
struct Place {
    directory: PathBuf,
    present: Option<Ready>,
}

impl Bringer<'_> {
    pub async fn bring(&self, plan: &Plan) -> Result<Brought, Error> {
        let (partials, work) = self.hold_missing(plan).await?;
        let mut places = Vec::new();
        for layer in &plan.layers {
            places.push(match self.store.layer(&layer.chain_id)? {
                Some((name, record)) => {
                    Place { directory: self.store.layer_directory(&name), present: Some(Ready::Present(record)) }
                }
                None => Place { directory: work.path().join(crate::images::durable::random_name()?), present: None },
            });
        }
        self.check_space(plan, &partials, &work)?;
        let order = Arc::new(Order::new(&places));
        // Whatever ends this, nobody waits for layers that do not come.
        let _end = EndOfOrder(Arc::clone(&order));
        let downloads = Semaphore::new(DOWNLOADS);
        let tasks = plan.layers.iter().enumerate().map(|(position, layer)| {
            let (order, places, partials, downloads, work) = (&order, &places, &partials, &downloads, &work);
            async move {
                if places[position].present.is_some() {
                    return Ok::<_, Error>(None);
                }
                let partial = partials.iter().find(|(digest, _)| *digest == layer.digest).map(|(_, partial)| partial);
                let partial = partial.ok_or(Error::Cancelled)?;
                let job = Job { plan, layer, position, partial, places, order, downloads, work };
                let ready = self.layer(&job).await?;
                order.set(position, Progress::Whole);
                Ok(Some(ready))
            }
        });
        // The first that fails ends the others.
        let results = try_join_all(tasks).await?;
        let layers = places.into_iter().zip(results).filter_map(|(place, ready)| place.present.or(ready)).collect();
        let blobs = partials.iter().map(|(digest, partial)| (digest.clone(), partial.path().to_owned())).collect();
        Ok(Brought { layers, blobs, work, _partials: partials })
    }

    /// Holds the blobs of all layers that are missing, in one order for everybody, so that nobody waits in a circle. One
    /// that somebody else brings at the moment is waited for; afterwards it may not be missing any more.
    async fn hold_missing(&self, plan: &Plan) -> Result<(Vec<(Digest, Partial)>, Arc<Temporary>), Error> {
        let work = Arc::new(self.store.temporary()?);
        let mut missing: Vec<&PlannedLayer> = Vec::new();
        for layer in &plan.layers {
            if self.store.layer(&layer.chain_id)?.is_none() {
                missing.push(layer);
            }
        }
        missing.sort_by(|a, b| a.digest.cmp(&b.digest));
        missing.dedup_by(|a, b| a.digest == b.digest);
        let mut partials = Vec::new();
        for layer in missing {
            let partial = self.hold(layer).await?;
            let users = plan.layers.iter().filter(|it| it.digest == layer.digest);
            let mut needed = false;
            for user in users {
                needed |= self.store.layer(&user.chain_id)?.is_none();
            }
            if needed {
                self.take_blob(layer, &partial)?;
                partials.push((layer.digest.clone(), partial));
            }
        }
        for (position, layer) in plan.layers.iter().enumerate() {
            if self.store.layer(&layer.chain_id)?.is_some() {
                self.reporter.layer(position, |it| (it.phase, it.bytes) = (Phase::Exists, it.size));
            }
        }
        Ok((partials, work))
    }

    async fn hold(&self, layer: &PlannedLayer) -> Result<Partial, Error> {
        let mut wait = POLL;
        loop {
            if let Some(partial) = Partial::hold(&self.store.partials(), &layer.digest)? {
                return Ok(partial);
            }
            self.reporter.notice(format!("layer {}: waiting for another pull that brings it", layer.digest));
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(MAX_POLL);
        }
    }

    /// A blob whose layer is not unpacked any more, or not with this one below, need not be brought again.
    fn take_blob(&self, layer: &PlannedLayer, partial: &Partial) -> Result<(), Error> {
        let path = self.store.blobs().join(layer.digest.hex());
        let Ok(blob) = std::fs::File::open(&path) else { return Ok(()) };
        if partial.length()? == layer.size || blob.metadata().is_ok_and(|meta| meta.len() != layer.size) {
            return Ok(());
        }
        partial.clear()?;
        let (mut from, mut to) = (blob, partial.file()?);
        std::io::copy(&mut from, &mut to).map_err(|e| Error::io("copy", &path, e))?;
        Ok(())
    }

    /// Whether the blobs fit: what they unpack to is not known before.
    fn check_space(&self, plan: &Plan, partials: &[(Digest, Partial)], work: &Temporary) -> Result<(), Error> {
        let mut needed = 0u64;
        for (digest, partial) in partials {
            let size = plan.layers.iter().find(|layer| layer.digest == *digest).map_or(0, |layer| layer.size);
            needed = needed.saturating_add(size.saturating_sub(partial.length()?));
        }
        space::check(work.path(), needed, 0)
    }

    async fn layer(&self, job: &Job<'_>) -> Result<Ready, Error> {
        // Kept to the end: a layer above that is being unpacked waits for this one.
        let permit = Arc::clone(self.unpackers).acquire_owned();
        let mut first = Some(Box::pin(permit));
        let mut permit = None;
        let mut again = false;
        loop {
            let length = job.partial.length()?;
            if length > job.layer.size {
                job.partial.clear()?;
            }
            let length = job.partial.length()?;
            self.reporter.layer(job.position, |it| {
                (it.phase, it.bytes, it.resumed) = (Phase::Downloading, length, length);
            });
            let (writer, reader) = growing(job.partial.file()?, length);
            let download = async {
                let _turn = job.downloads.acquire().await.map_err(|_| Error::Cancelled)?;
                let download = Download {
                    registry: self.registry,
                    reporter: self.reporter,
                    digest: &job.layer.digest,
                    size: job.layer.size,
                    position: job.position,
                    path: job.partial.path(),
                };
                download.run(writer).await
            };
            let unpack = async {
                if let Some(first) = first.take() {
                    permit = first.await.ok();
                }
                self.unpack(job, Box::new(reader)).await
            };
            tokio::pin!(download, unpack);
            let (downloaded, unpacked) = tokio::select! {
                downloaded = &mut download => (downloaded, unpack.await),
                unpacked = &mut unpack => match unpacked {
                    Err(error) if !may_be_wrong(&error) => return Err(error),
                    unpacked => (download.await, unpacked),
                },
            };
            let (endpoint, error) = match (downloaded, unpacked) {
                (Ok(_), Ok(ready)) => {
                    self.reporter.layer(job.position, |it| it.phase = Phase::Done);
                    return Ok(ready);
                }
                (Err(Stopped::Error(error)), _) => return Err(error),
                (Err(Stopped::Wrong { endpoint, error }), _) => (endpoint, error),
                (Ok(endpoint), Err(error)) => (endpoint, self.verdict(job, error).await?),
            };
            job.partial.clear()?;
            // Where an older part may be to blame the host is not.
            let endpoint = endpoint.filter(|_| length == 0);
            let elsewhere = endpoint.is_some_and(|endpoint| self.registry.distrust(endpoint));
            if std::mem::replace(&mut again, true) && !elsewhere {
                return Err(error);
            }
            self.reporter.notice(format!("{error}; it is thrown away and brought once more"));
        }
    }

    async fn unpack(&self, job: &Job<'_>, reader: Box<dyn std::io::Read + Send>) -> Result<Ready, Error> {
        let (store, limits, order) = (self.store.clone(), self.limits.clone(), Arc::clone(job.order));
        let position = job.position;
        let below = position.checked_sub(1).and_then(|at| job.plan.layers.get(at)).map(|it| it.chain_id.clone());
        let lower: Vec<PathBuf> = job.places[..position].iter().map(|place| place.directory.clone()).collect();
        let directory = job.places[position].directory.clone();
        let label = job.layer.digest.to_string();
        let blob = Blob {
            reader,
            size: Some(job.layer.size),
            digest: Some(job.layer.digest.clone()),
            diff_id: Some(job.layer.diff_id.clone()),
        };
        let kept = Arc::clone(job.work);
        let work = move || {
            // The directory that this works in is there as long as this is, even when nobody waits any more.
            let _kept = kept;
            // What an attempt before left in the way.
            crate::images::temporary::remove_tree(&directory)?;
            let wait = || order.wait_below(position);
            let done =
                store.unpack_into(directory, (&label, blob), (below.as_ref(), &lower, &wait), &limits, &mut |_| {});
            done.map(|(ready, _)| ready)
        };
        tokio::task::spawn_blocking(work).await.map_err(|_| Error::Cancelled)?
    }

    /// Why a layer that came could not be unpacked: `Ok` when its bytes are wrong, whatever the error says.
    async fn verdict(&self, job: &Job<'_>, error: Error) -> Result<Error, Error> {
        if matches!(error, Error::DigestMismatch { .. } | Error::Size { .. }) {
            return Ok(error);
        }
        let reader = HashingReader::new(Section::new(job.partial.file()?, 0, job.layer.size));
        let path = job.partial.path().to_owned();
        let hashed = tokio::task::spawn_blocking(move || reader.finish().map_err(|e| Error::io("read", &path, e)));
        let (actual, _) = hashed.await.map_err(|_| Error::Cancelled)??;
        let expected = job.layer.digest.clone();
        if actual == expected {
            return Err(error);
        }
        Ok(Error::DigestMismatch { what: format!("layer {expected}"), expected, actual })
    }
}

/// Whether wrong bytes can be the cause of an error.
fn may_be_wrong(error: &Error) -> bool {
    matches!(
        error,
        Error::DigestMismatch { .. }
            | Error::Size { .. }
            | Error::Layer { .. }
            | Error::Entry { .. }
            | Error::DiffIdMismatch { .. }
            | Error::Limit { .. }
    )
}

/// One layer that is brought.
struct Job<'a> {
    plan: &'a Plan,
    layer: &'a PlannedLayer,
    position: usize,
    partial: &'a Partial,
    places: &'a [Place],
    order: &'a Arc<Order>,
    downloads: &'a Semaphore,
    work: &'a Arc<Temporary>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Progress {
    Pending,
    Whole,
    Lost,
}

/// Ends the waiting for layers that do not come.
struct EndOfOrder(Arc<Order>);

impl Drop for EndOfOrder {
    fn drop(&mut self) {
        self.0.give_up();
    }
}

/// Which layers are whole, for those above that wait for them.
struct Order {
    layers: Mutex<Vec<Progress>>,
    changed: Condvar,
}

impl Order {
    fn new(places: &[Place]) -> Order {
        let state = |place: &Place| if place.present.is_some() { Progress::Whole } else { Progress::Pending };
        Order { layers: Mutex::new(places.iter().map(state).collect()), changed: Condvar::new() }
    }

    fn set(&self, position: usize, progress: Progress) {
        let mut layers = self.layers.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(layer) = layers.get_mut(position) {
            *layer = progress;
        }
        self.changed.notify_all();
    }

    /// What is not whole will not be.
    fn give_up(&self) {
        let mut layers = self.layers.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        for layer in layers.iter_mut().filter(|layer| **layer == Progress::Pending) {
            *layer = Progress::Lost;
        }
        self.changed.notify_all();
    }

    /// Waits until all layers below one are whole.
    fn wait_below(&self, position: usize) -> Result<(), Error> {
        let mut layers = self.layers.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        loop {
            let below = &layers[..position.min(layers.len())];
            if below.contains(&Progress::Lost) {
                return Err(Error::Cancelled);
            }
            if below.iter().all(|layer| *layer == Progress::Whole) {
                return Ok(());
            }
            layers = self.changed.wait(layers).unwrap_or_else(|poisoned| poisoned.into_inner());
        }
    }
}
