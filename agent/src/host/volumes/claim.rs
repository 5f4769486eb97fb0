//! persistentVolumeClaim: a directory of this node that outlives the pods which mount it.
//!
//! ```text
//! <root>/claims/NAMESPACE/NAME
//! ```

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, PersistentVolumeClaimVolumeSource, Pod, Volume};

use super::super::{HostError, io_error, make_dir, mount, ownership, remove};
use super::{Ready, Sources};
use crate::engine::config::names::PodKey;
use crate::engine::config::{ConfigError, Objects, quantity};
use crate::engine::plan::spec_of;

const CLAIMS: &str = "claims";

/// The directory of a claim.
fn path_of(root: &Path, namespace: &str, name: &str) -> PathBuf {
    root.join(CLAIMS).join(namespace).join(name)
}

/// The claim that a volume names.
pub(super) fn find<'a>(
    pod: &Pod,
    objects: &'a Objects,
    source: &PersistentVolumeClaimVolumeSource,
) -> Result<&'a PersistentVolumeClaim, ConfigError> {
    let (namespace, name) = (PodKey::of(pod).namespace, source.claim_name.clone());
    let found = objects.claims.get(&(namespace.clone(), name.clone()));
    let missing = ConfigError::MissingObject { kind: "PersistentVolumeClaim", namespace, name };
    found.map(Arc::as_ref).ok_or(missing)
}

/// Finds the directory of a claim, or makes it where the file system has the room that is asked for.
pub(super) fn prepare(
    sources: &Sources<'_>,
    volume: &Volume,
    source: &PersistentVolumeClaimVolumeSource,
    group: Option<u32>,
) -> Result<Ready, HostError> {
    let claim = find(sources.pod, sources.objects, source)?;
    let namespace = PodKey::of(sources.pod).namespace;
    let path = path_of(&sources.settings.root_dir, &namespace, &source.claim_name);
    if !path.exists() {
        make(claim, &namespace, &path)?;
    }
    if let Some(group) = group {
        hand_over(sources, volume, &path, group)?;
    }
    Ok(Ready::Host { path, read_only: source.read_only == Some(true) })
}

/// Hands what is in a claim over to the pod's group.
pub(super) fn hand_over(sources: &Sources<'_>, volume: &Volume, path: &Path, group: u32) -> Result<(), HostError> {
    let security = spec_of(sources.pod).security_context.as_ref();
    let policy = security.and_then(|security| security.fs_group_change_policy.as_deref());
    // A claim may be large: it is gone through once a pod, not for each of its containers.
    let done = sources.dir.volume("claim", &volume.name);
    if policy == Some("OnRootMismatch") {
        ownership::hand_over_once(path, group)?;
    } else if !done.exists() {
        ownership::hand_over(path, group, false)?;
        make_dir(&done, 0o750)?;
    }
    Ok(())
}

fn make(claim: &PersistentVolumeClaim, namespace: &str, path: &Path) -> Result<(), HostError> {
    let spec = claim.spec.as_ref();
    let requests = spec.and_then(|spec| spec.resources.as_ref()).and_then(|resources| resources.requests.as_ref());
    let asked = requests.and_then(|requests| requests.get("storage")).and_then(quantity::value).unwrap_or(0);
    let parent = path.parent().unwrap_or(path);
    make_dir(parent, 0o750)?;
    let space = rustix::fs::statvfs(parent).map_err(io_error("look at the file system of", parent))?;
    let free = i64::try_from(space.f_bavail.saturating_mul(space.f_frsize)).unwrap_or(i64::MAX);
    if asked > free {
        let name = claim.metadata.name.clone().unwrap_or_default();
        let claim = format!("{namespace}/{name}");
        return Err(HostError::ClaimSize { claim, asked, free, path: path.to_owned() });
    }
    make_dir(path, 0o777)
}

/// The claims that a pod mounts, by namespace and name.
pub fn claims_of(pod: &Pod) -> Vec<(String, String)> {
    let namespace = PodKey::of(pod).namespace;
    let claims = spec_of(pod).volumes.iter().flatten().filter_map(|volume| volume.persistent_volume_claim.as_ref());
    claims.map(|claim| (namespace.clone(), claim.claim_name.clone())).collect()
}

/// The claims that have a directory, by namespace and name.
pub fn list(root: &Path) -> Result<Vec<(String, String)>, HostError> {
    let mut found = Vec::new();
    for namespace in names(&root.join(CLAIMS))? {
        let claims = names(&root.join(CLAIMS).join(&namespace))?;
        found.extend(claims.into_iter().map(|name| (namespace.clone(), name)));
    }
    Ok(found)
}

fn names(dir: &Path) -> Result<Vec<String>, HostError> {
    let read = || -> io::Result<Vec<String>> {
        fs::read_dir(dir)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
    };
    let mut names = match read() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => vec![],
        result => result.map_err(io_error("list", dir))?,
    };
    names.sort();
    Ok(names)
}

/// Removes the directory of a claim, with all that is in it. What is not there is fine.
pub fn remove(root: &Path, namespace: &str, name: &str) -> Result<(), HostError> {
    let path = path_of(root, namespace, name);
    let real = match path.canonicalize() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        result => result.map_err(io_error("look at", &path))?,
    };
    // Somebody's mount below it is not the claim's: deleting through it would delete what is elsewhere.
    if let Some(point) = mount::below(&real).map_err(io_error("read the mounts below", &real))?.into_iter().next() {
        return Err(HostError::Mounted { mount: point, directory: real });
    }
    remove::tree(&path)?;
    for empty in [root.join(CLAIMS).join(namespace), root.join(CLAIMS)] {
        match fs::remove_dir(&empty) {
            Err(error) if error.kind() != io::ErrorKind::DirectoryNotEmpty => {
                return Err(io_error("remove", &empty)(error));
            }
            _ => {}
        }
    }
    Ok(())
}
