//! The claims of a cluster: each is bound to a volume that the cluster knows, of which those run here that are a directory
//! of this node, or a CSI driver's (`crate::csi`).

use std::fs;
use std::path::PathBuf;

use k8s_openapi::api::core::v1::{
    CSIPersistentVolumeSource, HostPathVolumeSource, LocalVolumeSource, NodeSelector, NodeSelectorTerm,
    PersistentVolume, PersistentVolumeClaim, Pod, Volume,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::super::{HostError, io_error};
use super::{Ready, Sources, claim, host_path};
use crate::engine::config::names::PodKey;
use crate::engine::config::objects::Origin;
use crate::engine::config::{ConfigError, Objects, node_selector};
use crate::engine::plan::spec_of;

/// What keeps a claim that somebody uses.
const PROTECTION: &str = "kubernetes.io/pvc-protection";

/// The claim that a volume of a pod means: a name, and whether it is only read.
pub(super) fn claim_of(pod: &Pod, volume: &Volume) -> Option<(String, bool)> {
    if let Some(source) = &volume.persistent_volume_claim {
        return Some((source.claim_name.clone(), source.read_only == Some(true)));
    }
    // As the controller names the claim that it makes for the pod.
    volume.ephemeral.as_ref().map(|_| (format!("{}-{}", PodKey::of(pod).name, volume.name), false))
}

/// The volume that a claim is bound to.
pub(super) fn find<'a>(
    pod: &Pod,
    objects: &'a Objects,
    volume: &Volume,
    name: &str,
) -> Result<&'a PersistentVolume, ConfigError> {
    let key = PodKey::of(pod);
    let problem =
        |problem: String| ConfigError::Claim { namespace: key.namespace.clone(), name: name.to_owned(), problem };
    let Some(claim) = objects.claims.get(&(key.namespace.clone(), name.to_owned())) else {
        let error = objects.without("PersistentVolumeClaim", &key.namespace, name, false).err();
        return Err(problem(format!("failed to fetch PVC from API server: {}", said(error))));
    };
    if volume.ephemeral.is_some() && !is_owned(&claim.metadata, &key.uid) {
        let why = format!("PVC {}/{name} was not created for pod {}/{}", key.namespace, key.namespace, key.name);
        return Err(ConfigError::Refused(format!("{why} (pod is not owner)")));
    }
    let bound = bound_to(claim).map_err(|why| problem(why.to_owned()))?;
    let Some(found) = objects.volumes.get(bound) else {
        let error = objects.without("PersistentVolume", "", bound, false).err();
        return Err(problem(format!("failed to fetch PV {bound} from API server: {}", said(error))));
    };
    let spec = found.spec.as_ref();
    let Some(back) = spec.and_then(|spec| spec.claim_ref.as_ref()) else {
        return Err(problem(format!("found PV object {bound} that is not yet bound to the claim")));
    };
    if back.uid != claim.metadata.uid {
        return Err(problem(format!("found PV object {bound} that is bound to another claim of that name")));
    }
    if spec.is_some_and(|spec| spec.volume_mode.as_deref() == Some("Block")) {
        let name = &volume.name;
        return Err(ConfigError::Refused(format!(
            "volume {name} has volumeMode Block, but is specified in volumeMounts"
        )));
    }
    Ok(found)
}

fn said(error: Option<ConfigError>) -> String {
    error.map(|error| error.to_string()).unwrap_or_default()
}

fn is_owned(meta: &ObjectMeta, uid: &str) -> bool {
    meta.owner_references.iter().flatten().any(|owner| owner.uid == uid && owner.controller == Some(true))
}

/// The name of the volume that a claim is bound to, or why there is none.
pub fn bound_to(claim: &PersistentVolumeClaim) -> Result<&str, &'static str> {
    let is_protected = || claim.metadata.finalizers.iter().flatten().any(|finalizer| finalizer == PROTECTION);
    if claim.metadata.deletion_timestamp.is_some() && !is_protected() {
        return Err("PVC is being deleted");
    }
    if claim.status.as_ref().and_then(|status| status.phase.as_deref()) != Some("Bound") {
        return Err("PVC is not bound");
    }
    let name = claim.spec.as_ref().and_then(|spec| spec.volume_name.as_deref()).filter(|name| !name.is_empty());
    name.ok_or("PVC has empty pvc.Spec.VolumeName")
}

/// What a volume is on this node.
#[derive(Debug, PartialEq)]
pub(super) enum Place<'a> {
    HostPath(&'a HostPathVolumeSource),
    Local(&'a LocalVolumeSource),
    Csi(&'a CSIPersistentVolumeSource),
}

/// Where a volume is, if it is of a kind that is on this node.
pub(super) fn place(volume: &PersistentVolume) -> Result<Place<'_>, ConfigError> {
    let spec = volume.spec.as_ref();
    if let Some(source) = spec.and_then(|spec| spec.host_path.as_ref()) {
        return Ok(Place::HostPath(source));
    }
    if let Some(source) = spec.and_then(|spec| spec.local.as_ref()) {
        return Ok(Place::Local(source));
    }
    if let Some(source) = spec.and_then(|spec| spec.csi.as_ref()) {
        return Ok(Place::Csi(source));
    }
    let name = volume.metadata.name.as_deref().unwrap_or_default();
    let why = "no volume plugin matched; this node has those of hostPath, local and CSI";
    Err(ConfigError::Refused(format!("PersistentVolume {name}: {why}")))
}

/// The volume of a claim, if a driver is to mount it: and whether it is only read.
pub fn driven<'a>(
    pod: &Pod,
    volume: &Volume,
    objects: &'a Objects,
) -> Result<Option<(&'a PersistentVolume, &'a CSIPersistentVolumeSource, bool)>, ConfigError> {
    let claim = claim_of(pod, volume).filter(|_| objects.origin == Origin::Cluster);
    let Some((name, read_only)) = claim else { return Ok(None) };
    let found = find(pod, objects, volume, &name)?;
    let Place::Csi(source) = place(found)? else { return Ok(None) };
    check_node(found, objects)?;
    Ok(Some((found, source, read_only)))
}

/// Refuses a volume that is not for this node, in kubelet's words. The scheduler has asked the same; but a pod may be
/// bound by hand.
fn check_node(volume: &PersistentVolume, objects: &Objects) -> Result<(), ConfigError> {
    let affinity = volume.spec.as_ref().and_then(|spec| spec.node_affinity.as_ref());
    let required = affinity.and_then(|affinity| affinity.required.as_ref());
    let (Some(required), Some(labels)) = (required, objects.node_labels.as_deref()) else { return Ok(()) };
    // As in kubelet (component-helpers' nodeaffinity, asked with labels alone) fields are not looked at.
    let fits = |term: &NodeSelectorTerm| match term.match_expressions.as_deref() {
        None | Some([]) => term.match_fields.as_ref().is_some_and(|fields| !fields.is_empty()),
        Some(_) => {
            let by_labels = NodeSelectorTerm { match_fields: None, ..term.clone() };
            node_selector::matches(&NodeSelector { node_selector_terms: vec![by_labels] }, labels, "")
        }
    };
    if required.node_selector_terms.iter().any(fits) {
        return Ok(());
    }
    let name = volume.metadata.name.as_deref().unwrap_or_default();
    Err(ConfigError::Refused(format!(
        "MountVolume.NodeAffinity check failed for volume \"{name}\" : no matching NodeSelectorTerms"
    )))
}

/// Where the claims of a pod are on this node, as far as they are known and the node counts what is in them: the volume's
/// name in the pod, the claim's, and the directory.
pub(super) fn directories(pod: &Pod, objects: &Objects) -> Vec<(String, String, PathBuf)> {
    let of = |volume: &Volume| {
        let (name, _) = claim_of(pod, volume)?;
        let found = find(pod, objects, volume, &name).ok()?;
        // Nobody counts what is in a hostPath, as in kubelet.
        match place(found).ok()? {
            Place::Local(source) => Some((volume.name.clone(), name, PathBuf::from(&source.path))),
            Place::HostPath(_) | Place::Csi(_) => None,
        }
    };
    spec_of(pod).volumes.iter().flatten().filter_map(of).collect()
}

/// Finds the volume of a claim, and hands it over to the pod's group where kubelet does.
pub(super) fn prepare(
    sources: &Sources<'_>,
    volume: &Volume,
    (name, read_only): (&str, bool),
    group: Option<u32>,
) -> Result<Ready, HostError> {
    let found = find(sources.pod, sources.objects, volume, name)?;
    check_node(found, sources.objects)?;
    match place(found)? {
        // Asked for by [`super::prepare`]'s callers, before.
        Place::Csi(_) => Err(ConfigError::Refused(format!("volume {} is not mounted", volume.name)).into()),
        Place::HostPath(source) => Ok(match host_path::prepare(source)? {
            Ready::Host { path, read_only: before } => Ready::Host { path, read_only: before || read_only },
            other @ Ready::Image { .. } => other,
        }),
        Place::Local(source) => {
            let path = PathBuf::from(&source.path);
            if !path.is_absolute() || source.path.split('/').any(|part| part == "..") {
                return Err(ConfigError::Refused(format!("invalid path: {} of a local volume", source.path)).into());
            }
            let metadata = fs::metadata(&path).map_err(io_error("look at the local volume", &path))?;
            if !metadata.is_dir() {
                let what = format!("local volume {}: a block device or a file as a file system", source.path);
                return Err(ConfigError::Unsupported(what).into());
            }
            if let Some(group) = group.filter(|_| !read_only) {
                claim::hand_over(sources, volume, &path, group)?;
            }
            Ok(Ready::Host { path, read_only })
        }
    }
}
