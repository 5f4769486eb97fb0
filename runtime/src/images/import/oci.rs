//! oci-archive: an OCI image layout in a tar.

use super::archive::{Archive, blob_name};
use super::docker;
use super::{Plan, PlannedLayer, read_config};
use crate::images::error::Error;
use crate::images::platform;
use crate::images::record::{Descriptor, Index, Manifest};

/// Indexes within indexes.
const MAX_DEPTH: usize = 4;

const CONTAINERD_NAME: &str = "io.containerd.image.name";
const OCI_NAME: &str = "org.opencontainers.image.ref.name";
const CONFIG_TYPES: [&str; 2] =
    ["application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json"];

/// The images of an archive that run on this host.
pub(super) fn plan(archive: &Archive) -> Result<Vec<Plan>, Error> {
    if !archive.has("index.json") {
        return Err(archive.error("is no oci-archive (no index.json) and no docker-archive (no manifest.json)"));
    }
    let index: Index = archive.parse(&archive.document("index.json")?, "index.json")?;
    // Newer `docker save` writes both forms, and all the names only into its own.
    let tags = if archive.has("manifest.json") { docker::tags(archive)? } else { Vec::new() };
    let mut plans: Vec<(Descriptor, Plan)> = Vec::new();
    for (name, descriptor) in select(archive, index.manifests)? {
        let (descriptor, bytes) = manifest(archive, &descriptor, MAX_DEPTH)?;
        if let Some((_, plan)) = plans.iter_mut().find(|(other, _)| other.digest == descriptor.digest) {
            plan.names.extend(name);
            continue;
        }
        let mut plan = plan_image(archive, bytes)?;
        plan.names.extend(name);
        plans.push((descriptor, plan));
    }
    Ok(plans
        .into_iter()
        .map(|(_, mut plan)| {
            let id = crate::images::Digest::of(&plan.config);
            plan.names.extend(tags.iter().filter(|(config, _)| *config == id).map(|(_, tag)| tag.clone()));
            plan
        })
        .collect())
}

/// Of the entries of an index that are one image for several machines, the one for this host.
fn select(archive: &Archive, manifests: Vec<Descriptor>) -> Result<Vec<(Option<String>, Descriptor)>, Error> {
    let mut groups: Vec<(Option<String>, Vec<Descriptor>)> = Vec::new();
    for descriptor in manifests.into_iter().filter(is_image) {
        let name = name(&descriptor).map(str::to_owned);
        match groups.iter_mut().find(|(other, _)| *other == name) {
            Some((_, group)) => group.push(descriptor),
            None => groups.push((name, vec![descriptor])),
        }
    }
    let mut selected = Vec::new();
    for (name, group) in groups {
        // Without names and platforms they are images of their own.
        if name.is_none() && group.iter().all(|d| d.platform.is_none()) {
            selected.extend(group.into_iter().map(|d| (None, d)));
        } else {
            selected.push((name, for_this_host(archive, group)?));
        }
    }
    Ok(selected)
}

fn for_this_host(archive: &Archive, descriptors: Vec<Descriptor>) -> Result<Descriptor, Error> {
    let mut found: Vec<String> = Vec::new();
    for descriptor in descriptors {
        match &descriptor.platform {
            Some(platform) if !platform.runs_here() => {
                found.push(format!("{}/{}", platform.os, platform.architecture));
            }
            _ => return Ok(descriptor),
        }
    }
    if found.is_empty() {
        return Err(archive.error("has an index that lists no image"));
    }
    Err(Error::Platform { found: found.join(", "), wanted: platform::host() })
}

/// False for attestations, which builders list beside images.
fn is_image(descriptor: &Descriptor) -> bool {
    !descriptor.annotations.contains_key("vnd.docker.reference.type")
        && descriptor.platform.as_ref().is_none_or(|p| p.os != "unknown")
}

/// The name an index gives an image. The OCI annotation may be a tag alone, which names nothing: a bare word is taken
/// for a repository unless it is `latest` or a version.
fn name(descriptor: &Descriptor) -> Option<&str> {
    let annotation = |key: &str| descriptor.annotations.get(key).filter(|name| !name.is_empty()).map(String::as_str);
    if let Some(name) = annotation(CONTAINERD_NAME) {
        return Some(name);
    }
    let is_tag =
        |name: &str| name == "latest" || name.trim_start_matches('v').starts_with(|c: char| c.is_ascii_digit());
    annotation(OCI_NAME).filter(|name| name.contains(['/', ':']) || !is_tag(name))
}

/// The manifest behind a descriptor, through indexes.
fn manifest(archive: &Archive, descriptor: &Descriptor, depth: usize) -> Result<(Descriptor, Vec<u8>), Error> {
    let bytes = archive.blob(&descriptor.digest, descriptor.size, &format!("manifest {}", descriptor.digest))?;
    let value: serde_json::Value = archive.parse(&bytes, "manifest")?;
    if value.get("manifests").is_none() {
        return Ok((descriptor.clone(), bytes));
    }
    let depth = depth.checked_sub(1).ok_or_else(|| archive.error("has indexes nested too deeply"))?;
    let index: Index = archive.parse(&bytes, "index")?;
    let chosen = for_this_host(archive, index.manifests.into_iter().filter(is_image).collect())?;
    manifest(archive, &chosen, depth)
}

fn plan_image(archive: &Archive, bytes: Vec<u8>) -> Result<Plan, Error> {
    let manifest: Manifest = archive.parse(&bytes, "manifest")?;
    if manifest.schema_version != 2 {
        let version = manifest.schema_version;
        return Err(archive.error(format!("has a manifest of schema version {version}; only 2 is known")));
    }
    let kind = &manifest.config.media_type;
    if !kind.is_empty() && !CONFIG_TYPES.contains(&kind.as_str()) {
        return Err(archive.error(format!("holds no container image but an artifact of type {kind:?}")));
    }
    let config_digest = &manifest.config.digest;
    let config = archive.blob(config_digest, manifest.config.size, &format!("configuration {config_digest}"))?;
    let parsed = read_config(archive, &config, manifest.layers.len())?;
    let mut layers = Vec::new();
    for (layer, diff_id) in manifest.layers.iter().zip(parsed.rootfs.diff_ids) {
        let (offset, size) = archive.locate(&blob_name(&layer.digest))?;
        if size != layer.size {
            let what = format!("layer {}", layer.digest);
            return Err(Error::Size { what, expected: layer.size, actual: size });
        }
        let (label, digest) = (layer.digest.to_string(), Some(layer.digest.clone()));
        layers.push(PlannedLayer { label, offset, size, digest, diff_id });
    }
    Ok(Plan { config, manifest: Some(bytes), names: Vec::new(), layers })
}
