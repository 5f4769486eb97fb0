//! Which pod goes first: kubelet's order.
//!
//! Who uses more than it asked for goes before who does not; then the lower priority; then who is further above its
//! request. Of process ids nothing can be asked for: there the priority counts, then the number of processes. A pod of
//! which nothing is known goes before the others.

use std::cmp::{Ordering, Reverse};

use super::threshold::{Resource, Signal};
use crate::engine::config::resources::CRITICAL;

#[cfg(test)]
mod tests;

/// What a pod takes of one filesystem.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Disk {
    /// In bytes.
    pub bytes: u64,
    /// In files and directories.
    pub inodes: u64,
}

impl std::ops::Add for Disk {
    type Output = Disk;

    fn add(self, other: Disk) -> Disk {
        Disk { bytes: self.bytes.saturating_add(other.bytes), inodes: self.inodes.saturating_add(other.inodes) }
    }
}

/// What a pod uses now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Its working set.
    pub memory: u64,
    /// Its processes.
    pub processes: u64,
    /// The writable layers of its containers.
    pub layers: Disk,
    /// Its logs and volumes.
    pub files: Disk,
}

/// What a pod asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// Memory.
    pub memory: u64,
    /// Bytes of the disk. Files cannot be asked for.
    pub ephemeral_storage: u64,
}

/// A pod that could be evicted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Which.
    pub uid: String,
    /// `spec.priority`, or what its class has.
    pub priority: i32,
    /// What it asked for.
    pub request: Request,
    /// What it uses; `None` where nothing is known.
    pub usage: Option<Usage>,
}

/// Puts the pods into the order in which they are evicted because of `signal`. Critical ones are left out.
/// `images_apart` says that images and writable layers have a filesystem of their own.
pub fn rank(candidates: Vec<Candidate>, signal: Signal, images_apart: bool) -> Vec<Candidate> {
    let mut ranked: Vec<_> = candidates.into_iter().filter(|pod| pod.priority < CRITICAL).collect();
    ranked.sort_by(|one, other| compare(one, other, signal, images_apart));
    ranked
}

/// Whether evicting the pod gives something back that is noticed where `lacking` is missing: a thousandth of it. Where
/// somebody else has filled the disk, no pod has to go for nothing. What uses nothing never helps.
pub fn helps(usage: Option<&Usage>, signal: Signal, images_apart: bool, lacking: u64) -> bool {
    let Some(usage) = usage else { return true };
    let used = match signal.resource() {
        Resource::Memory => usage.memory,
        Resource::EphemeralStorage => on_disk(*usage, signal, images_apart).bytes,
        Resource::Inodes => on_disk(*usage, signal, images_apart).inodes,
        Resource::Pids => usage.processes,
    };
    used > 0 && used >= lacking / 1000
}

fn compare(one: &Candidate, other: &Candidate, signal: Signal, images_apart: bool) -> Ordering {
    let (Some(first), Some(second)) = (one.usage, other.usage) else {
        return one.usage.is_some().cmp(&other.usage.is_some());
    };
    let measure = |pod: &Candidate, usage: Usage| match signal.resource() {
        Resource::Memory => Excess::of(usage.memory, pod.request.memory),
        Resource::EphemeralStorage => {
            Excess::of(on_disk(usage, signal, images_apart).bytes, pod.request.ephemeral_storage)
        }
        Resource::Inodes => Excess::of(on_disk(usage, signal, images_apart).inodes, 0),
        Resource::Pids => Excess { exceeds: false, by: usage.processes.into() },
    };
    let (first, second) = (measure(one, first), measure(other, second));
    // What is above its request first, false being less than true.
    let key = |pod: &Candidate, excess: &Excess| (!excess.exceeds, pod.priority, Reverse(excess.by));
    key(one, &first).cmp(&key(other, &second))
}

/// What evicting the pod would give back to the filesystem that is short.
fn on_disk(usage: Usage, signal: Signal, images_apart: bool) -> Disk {
    match (images_apart, signal.is_of_images()) {
        (true, true) => usage.layers,
        (true, false) => usage.files,
        (false, _) => usage.layers + usage.files,
    }
}

struct Excess {
    exceeds: bool,
    by: i128,
}

impl Excess {
    fn of(usage: u64, request: u64) -> Self {
        Excess { exceeds: usage > request, by: i128::from(usage) - i128::from(request) }
    }
}
