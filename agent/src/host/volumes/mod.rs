//! Volumes: made when the pod begins, brought up to date while it runs, mounted by each container.

pub mod bound;
mod claim;
mod empty_dir;
mod files;
mod host_path;
mod mounts;
mod quote;

pub use bound::bound_to;
pub use claim::{claims_of, list as claims, remove as remove_claim};
pub use mounts::{images, mounts};

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::{Pod, PodSpec, Volume};

use super::atomic;
use super::{HostError, PodDir, io_error, make_dir, mount, ownership};
use crate::csi::Published;
use crate::engine::config::objects::Origin;
use crate::engine::config::{ConfigError, Objects, Settings};
use crate::engine::plan::spec_of;

/// Where a pod's claims are on this node, as far as the node counts what is in them: the volume's name in the pod, the
/// claim's, and the directory. Those of manifests share a file system with all else, and are not counted.
pub fn claim_directories(pod: &Pod, objects: &Objects) -> Vec<(String, String, PathBuf)> {
    match objects.origin {
        Origin::Manifests => Vec::new(),
        Origin::Cluster => bound::directories(pod, objects),
    }
}

/// A volume that is ready to be mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ready {
    /// A file or directory of this host.
    Host {
        /// Where it is.
        path: PathBuf,
        /// Containers never write to it.
        read_only: bool,
    },
    /// The files of an image, which the runtime mounts.
    Image {
        /// Its name.
        reference: String,
    },
}

/// What volumes are made from.
#[derive(Clone, Copy, Debug)]
pub struct Sources<'a> {
    /// The pod.
    pub pod: &'a Pod,
    /// ConfigMaps, Secrets and claims.
    pub objects: &'a Objects,
    /// Directories, and facts of the node.
    pub settings: &'a Settings,
    /// The pod's directory.
    pub dir: &'a PodDir,
    /// What drivers have mounted for it, by the volumes' names.
    pub published: &'a BTreeMap<String, Published>,
}

impl<'a> Sources<'a> {
    fn origin(&self) -> files::Origin<'a> {
        files::Origin { pod: self.pod, objects: self.objects, settings: self.settings }
    }
}

/// Makes the volumes of a pod, by name. What is already made is kept: a pod's new sandbox finds its files.
pub fn prepare(sources: &Sources<'_>) -> Result<BTreeMap<String, Ready>, HostError> {
    let spec = spec_of(sources.pod);
    let group = group_of(spec)?;
    let mut ready = BTreeMap::new();
    for volume in spec.volumes.iter().flatten() {
        ready.insert(volume.name.clone(), prepare_one(sources, volume, group)?);
    }
    Ok(ready)
}

/// Brings the files of ConfigMaps, Secrets and of the pod's own fields up to date in the volumes that are made, each
/// volume at once; true when something changed. What cannot be made any more stays as it is, and is an error.
pub fn refresh(sources: &Sources<'_>) -> Result<bool, HostError> {
    let spec = spec_of(sources.pod);
    let group = group_of(spec)?;
    let (mut changed, mut failure) = (false, None);
    for volume in spec.volumes.iter().flatten() {
        match refresh_one(sources, volume, group) {
            Ok(one) => changed |= one,
            Err(error) => drop(failure.get_or_insert(error)),
        }
    }
    failure.map_or(Ok(changed), Err)
}

fn refresh_one(sources: &Sources<'_>, volume: &Volume, group: Option<u32>) -> Result<bool, HostError> {
    let Some(kind) = files::kind(volume) else { return Ok(false) };
    let path = sources.dir.volume(kind.plugin(), &volume.name);
    if !path.exists() {
        return Ok(false);
    }
    atomic::write(&path, &files::payload(&sources.origin(), volume)?, group)
}

/// Whether a volume can be made with these objects: nothing is made.
pub fn check(pod: &Pod, volume: &Volume, objects: &Objects, settings: &Settings) -> Result<(), ConfigError> {
    files::payload(&files::Origin { pod, objects, settings }, volume)?;
    if objects.origin == Origin::Cluster {
        let claim = bound::claim_of(pod, volume);
        return claim.map_or(Ok(()), |(name, _)| bound::place(bound::find(pod, objects, volume, &name)?).map(drop));
    }
    match &volume.persistent_volume_claim {
        Some(source) => claim::find(pod, objects, source).map(drop),
        None => Ok(()),
    }
}

/// The group that a pod's volumes are handed over to.
pub fn group_of(spec: &PodSpec) -> Result<Option<u32>, ConfigError> {
    let group = spec.security_context.as_ref().and_then(|context| context.fs_group);
    let expected = "it is a group's number, from 0 to 2147483647";
    let number = |group: i64| {
        u32::try_from(group).map_err(|_| ConfigError::Value { field: "fsGroup", value: group.to_string(), expected })
    };
    group.map(number).transpose()
}

fn prepare_one(sources: &Sources<'_>, volume: &Volume, group: Option<u32>) -> Result<Ready, HostError> {
    if let Some(Published { path, read_only, hand_over }) = sources.published.get(&volume.name).cloned() {
        if let Some(group) = hand_over {
            claim::hand_over(sources, volume, &path, group)?;
        }
        return Ok(Ready::Host { path, read_only });
    }
    if let Some(source) = &volume.host_path {
        return host_path::prepare(source);
    }
    if let Some(source) = &volume.empty_dir {
        let path = sources.dir.volume("empty-dir", &volume.name);
        return empty_dir::prepare(spec_of(sources.pod), source, &sources.settings.node, &path, group);
    }
    if sources.objects.origin == Origin::Cluster
        && let Some((name, read_only)) = bound::claim_of(sources.pod, volume)
    {
        return bound::prepare(sources, volume, (&name, read_only), group);
    }
    if let Some(source) = &volume.persistent_volume_claim {
        return claim::prepare(sources, volume, source, group);
    }
    if let Some(source) = &volume.image {
        return Ok(Ready::Image { reference: source.reference.clone().unwrap_or_default() });
    }
    let Some(kind) = files::kind(volume) else {
        return Err(ConfigError::Unsupported(format!("the type of volume \"{}\"", volume.name)).into());
    };
    let payload = files::payload(&sources.origin(), volume)?;
    let path = sources.dir.volume(kind.plugin(), &volume.name);
    make_dir(&path, 0o755)?;
    if kind.is_secret() && !is_mount(&path)? {
        // Secrets never reach a disk.
        mount::tmpfs(&path, None, true).map_err(io_error("mount a tmpfs on", &path))?;
    }
    atomic::write(&path, &payload, group)?;
    if let Some(group) = group {
        ownership::hand_over(&path, group, true)?;
    }
    Ok(Ready::Host { path, read_only: true })
}

/// Whether something is mounted on a directory that the agent made.
fn is_mount(path: &Path) -> Result<bool, HostError> {
    use std::os::unix::fs::MetadataExt;
    let device = |path: &Path| std::fs::symlink_metadata(path).map(|metadata| metadata.dev());
    let parent = path.parent().unwrap_or(path);
    let look = |path: &Path| device(path).map_err(io_error("look at", path));
    Ok(look(path)? != look(parent)?)
}

#[cfg(test)]
mod tests;
