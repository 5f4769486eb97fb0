//! docker-archive: what `docker save` writes, a `manifest.json` that names configurations, layers and tags.

use serde::Deserialize;

use super::archive::Archive;
use super::{Plan, PlannedLayer, read_config};
use crate::images::digest::{Digest, is_hex};
use crate::images::error::Error;

/// One image of `manifest.json`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Saved {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Option<Vec<String>>,
}

/// The images of an archive.
pub(super) fn plan(archive: &Archive) -> Result<Vec<Plan>, Error> {
    let saved: Vec<Saved> = archive.parse(&archive.document("manifest.json")?, "manifest.json")?;
    saved.into_iter().map(|saved| plan_image(archive, saved)).collect()
}

/// The names of an archive's images, each with the id it belongs to.
pub(super) fn tags(archive: &Archive) -> Result<Vec<(Digest, String)>, Error> {
    let saved: Vec<Saved> = archive.parse(&archive.document("manifest.json")?, "manifest.json")?;
    let mut tags = Vec::new();
    for image in saved {
        let id = Digest::of(&archive.document(&image.config)?);
        tags.extend(image.repo_tags.unwrap_or_default().into_iter().map(|tag| (id.clone(), tag)));
    }
    Ok(tags)
}

fn plan_image(archive: &Archive, saved: Saved) -> Result<Plan, Error> {
    let config = archive.document(&saved.config)?;
    if let Some(expected) = named_digest(&saved.config) {
        archive.verify(&config, &expected, None, &format!("configuration {}", saved.config))?;
    }
    let paths = saved.layers.unwrap_or_default();
    let parsed = read_config(archive, &config, paths.len())?;
    let mut layers = Vec::new();
    for (path, diff_id) in paths.iter().zip(parsed.rootfs.diff_ids) {
        let (offset, size) = archive.locate(path)?;
        // `<hex>.tar` is named by its diff id, `blobs/sha256/<hex>` by its own digest; uncompressed both are the same.
        let digest = named_digest(path).filter(|_| path.starts_with("blobs/"));
        layers.push(PlannedLayer { label: path.clone(), offset, size, digest, diff_id });
    }
    Ok(Plan { config, manifest: None, names: saved.repo_tags.unwrap_or_default(), layers })
}

/// The digest that a file is named by, if it is.
fn named_digest(path: &str) -> Option<Digest> {
    let name = path.rsplit('/').next()?;
    let hex = name.strip_suffix(".json").unwrap_or(name);
    (hex.len() == 64 && is_hex(hex)).then(|| Digest::parse(&format!("sha256:{hex}")).ok()).flatten()
}
