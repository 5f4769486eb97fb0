//! Images that nothing uses: removed when their disk is nearly full, longest unused first, or when nothing has used them
//! for long. An image is used by every container, running or not, and by every pod that names it, so that what cannot be
//! pulled again is there when the pod starts the next time. Pinned ones are never removed; of a runtime that others
//! use too, only those that this agent has pulled.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use cri_proto::cri;
use k8s_openapi::api::core::v1::Pod;
use tonic::Status;

use super::pressure::Observation;
use super::signals::{Space, filesystem};
use crate::channel::Cri;
use crate::engine::plan::{init_of, spec_of};
use crate::engine::time::Monotonic;

mod pulled;
#[cfg(test)]
mod tests;

pub use pulled::Pulled;

/// When each image was first seen and last used, as far as this agent knows.
#[derive(Clone, Debug, Default)]
pub struct Book {
    tracks: BTreeMap<String, Track>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Track {
    used: Option<Monotonic>,
    first: Monotonic,
    in_use: bool,
}

impl Book {
    /// Takes a look into account.
    pub fn look(&mut self, images: &[cri::Image], in_use: &BTreeSet<String>, now: Monotonic) {
        self.tracks.retain(|id, _| images.iter().any(|image| image.id == *id));
        for image in images {
            let track = self.tracks.entry(image.id.clone()).or_insert(Track { first: now, ..Track::default() });
            track.in_use = in_use.contains(&image.id);
            if track.in_use {
                track.used = Some(now);
            }
        }
    }

    /// What may be removed, in this order: what was never used, then what is unused for longest. What has been here for
    /// less than `age`, or in this agent's sight, may not, for whoever pulled it is about to use it.
    pub fn removable<'a>(&self, images: &'a [cri::Image], age: Duration, now: Monotonic) -> Vec<&'a cri::Image> {
        let old = |track: &Track| now - track.first >= age;
        let of = |image: &'a cri::Image| Some((*self.tracks.get(&image.id)?, image));
        let free = images.iter().filter(|image| !image.pinned).filter_map(of);
        let mut free: Vec<_> = free.filter(|(track, _)| !track.in_use && old(track)).collect();
        free.sort_by(|one, other| (one.0, &one.1.id).cmp(&(other.0, &other.1.id)));
        free.into_iter().map(|(_, image)| image).collect()
    }

    /// How long nothing has used an image, as far as is known: not longer than this agent runs.
    fn unused_for(&self, id: &str, now: Monotonic) -> Duration {
        self.tracks.get(id).map_or(Duration::ZERO, |track| now - track.used.unwrap_or(track.first))
    }
}

/// Whether a disk is used to this percentage, of its bytes or of its files.
pub fn is_used(space: &Space, percent: u8) -> bool {
    let used = |it: &Observation| {
        let available = u128::from(it.available.min(it.capacity)) * 100;
        it.capacity > 0 && 100 - available / u128::from(it.capacity) >= u128::from(percent)
    };
    used(&space.bytes) || space.inodes.as_ref().is_some_and(used)
}

/// Whether more of a disk is used than this percentage: rounded the other way, so that what has been freed is enough.
fn is_above(space: &Space, percent: u8) -> bool {
    let above = |it: &Observation| {
        let kept = u128::from(it.capacity) * u128::from(100 - percent.min(100)) / 100;
        it.capacity > 0 && u128::from(it.available) < kept
    };
    above(&space.bytes) || space.inodes.as_ref().is_some_and(above)
}

/// How far to go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Goal {
    /// Until this disk is used to no more than a percentage.
    Until {
        /// A directory on the disk.
        disk: PathBuf,
        /// The percentage.
        percent: u8,
    },
    /// Everything that may go, for a pod would go else.
    All,
    /// What has been unused for this long.
    UnusedFor(Duration),
}

/// What was removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    /// Ids.
    pub images: Vec<String>,
    /// Their sizes, as the runtime tells them.
    pub bytes: u64,
    /// What could not be removed, with the reason.
    pub problems: Vec<String>,
}

/// Removes images.
#[derive(Debug)]
pub struct Collector {
    cri: Cri,
    book: Book,
    /// Of a runtime that others use too: what this agent has pulled.
    pulled: Option<Pulled>,
}

impl Collector {
    /// One that has seen nothing yet.
    pub fn new(cri: Cri, pulled: Option<Pulled>) -> Self {
        Collector { cri, book: Book::default(), pulled }
    }

    /// Takes note that this agent has pulled an image.
    pub async fn note_pulled(&mut self, reference: &str) {
        let Some(pulled) = &mut self.pulled else { return };
        if let Ok(Some(image)) = status_of(&self.cri, reference).await {
            pulled.add(&image.id);
        }
    }

    /// Looks at the images and what uses them: now and then, so that it is known since when they are unused.
    pub async fn look(&mut self, pods: &[Pod], now: Monotonic) -> Result<Vec<cri::Image>, Status> {
        // What uses images is listed after the images: one that is pulled in between is not in the list.
        let images = self.cri.images.clone().list_images(cri::ListImagesRequest::default()).await?.into_inner().images;
        let in_use = self.in_use(&images, pods).await?;
        self.book.look(&images, &in_use, now);
        if let Some(pulled) = &mut self.pulled {
            pulled.keep(|id| images.iter().any(|image| image.id == id));
        }
        Ok(images)
    }

    /// Removes images until `goal` is met, or until none is left that may go.
    pub async fn collect(
        &mut self,
        pods: &[Pod],
        goal: &Goal,
        age: Duration,
        now: Monotonic,
    ) -> Result<Removed, Status> {
        let images = self.look(pods, now).await?;
        let mut removed = Removed::default();
        for image in self.book.removable(&images, age, now) {
            match goal {
                Goal::Until { disk, percent } if !needs(disk, *percent) => break,
                Goal::UnusedFor(long) if self.book.unused_for(&image.id, now) <= *long => continue,
                _ => {}
            }
            if self.pulled.as_ref().is_some_and(|pulled| !pulled.has(&image.id)) {
                continue;
            }
            let spec = Some(cri::ImageSpec { image: image.id.clone(), ..cri::ImageSpec::default() });
            match self.cri.images.clone().remove_image(cri::RemoveImageRequest { image: spec }).await {
                Ok(_) => {
                    let name = image.repo_tags.first().unwrap_or(&image.id);
                    tracing::info!(image = name, id = image.id, bytes = image.size, "an unused image was removed");
                    removed.images.push(image.id.clone());
                    removed.bytes = removed.bytes.saturating_add(image.size);
                }
                Err(status) => removed.problems.push(format!("image {}: {}", image.id, status.message())),
            }
        }
        Ok(removed)
    }

    /// The ids of images that containers have, or that pods name.
    async fn in_use(&self, images: &[cri::Image], pods: &[Pod]) -> Result<BTreeSet<String>, Status> {
        let request = cri::ListContainersRequest::default();
        let containers = self.cri.runtime.clone().list_containers(request).await?.into_inner().containers;
        let mut names: BTreeSet<String> = containers
            .into_iter()
            .flat_map(|it| [it.image_id, it.image_ref, it.image.map(|image| image.image).unwrap_or_default()])
            .filter(|name| !name.is_empty())
            .collect();
        for name in pods.iter().flat_map(named).collect::<BTreeSet<_>>() {
            if let Some(image) = status_of(&self.cri, name).await? {
                names.insert(image.id);
            }
        }
        let has = |image: &&cri::Image| {
            let own = image.repo_digests.iter().chain(&image.repo_tags);
            names.contains(&image.id) || own.into_iter().any(|name| names.contains(name))
        };
        Ok(images.iter().filter(has).map(|image| image.id.clone()).collect())
    }
}

/// The images that a pod names.
fn named(pod: &Pod) -> impl Iterator<Item = &str> {
    let spec = spec_of(pod);
    let containers = init_of(spec).iter().chain(&spec.containers).filter_map(|container| container.image.as_deref());
    let volumes = spec.volumes.iter().flatten().filter_map(|volume| volume.image.as_ref()?.reference.as_deref());
    containers.chain(volumes)
}

async fn status_of(cri: &Cri, name: &str) -> Result<Option<cri::Image>, Status> {
    let spec = Some(cri::ImageSpec { image: name.to_owned(), ..cri::ImageSpec::default() });
    let request = cri::ImageStatusRequest { image: spec, verbose: false };
    match cri.images.clone().image_status(request).await {
        Ok(answer) => Ok(answer.into_inner().image),
        // A name that is none is nobody's image.
        Err(status) if matches!(status.code(), tonic::Code::NotFound | tonic::Code::InvalidArgument) => Ok(None),
        Err(status) => Err(status),
    }
}

/// Whether a disk is above the percentage. One that cannot be looked at has nothing taken from it.
fn needs(disk: &Path, percent: u8) -> bool {
    filesystem(disk).is_ok_and(|space| is_above(&space, percent))
}
