//! Importing the images of an archive.
//!
//! All that can be checked without unpacking is checked first, for every image of the archive: so a bad archive costs
//! nothing, and one that passes fails only by a layer's own content.

mod archive;
mod docker;
mod oci;
mod tee;

use std::fs::File;
use std::path::{Path, PathBuf};

use self::archive::Archive;
use self::tee::Tee;
use super::commit::{Candidate, Committed};
use super::decompress::Compression;
use super::digest::{Digest, HashingReader};
use super::durable::{self, json};
use super::error::Error;
use super::layers::{Ready, chain_id};
use super::pipeline::Blob;
use super::platform;
use super::record::{ConfigFile, Manifest};
use super::reference::Reference;
use super::section::Section;
use super::temporary::Temporary;
use super::{ImageStore, Limits, space};

/// The domain of what is built in.
const BUILTIN_DOMAIN: &str = "coracle.local";

/// How far an import is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// Position of the layer in its image, from 0.
    pub layer: usize,
    /// Layers of the image.
    pub layers: usize,
    /// The layer's digest as the archive holds it; of its content where the archive does not say.
    pub digest: Digest,
    /// Bytes read so far of the layer as the archive holds it.
    pub bytes: u64,
    /// All its bytes.
    pub total_bytes: u64,
    /// The layer was in the store already.
    pub exists: bool,
}

/// An image that an import brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Imported {
    /// The configuration's digest.
    pub id: Digest,
    /// The names given to it now; none if neither the archive nor the caller had one.
    pub references: Vec<Reference>,
    /// Bytes, unpacked.
    pub size: u64,
}

/// An image of an archive, checked as far as it can be without unpacking.
struct Plan {
    config: Vec<u8>,
    /// `None` where the archive has none: then it is made when the layers' digests are known.
    manifest: Option<Vec<u8>>,
    /// As the archive has them: they matter only if the caller gives none.
    names: Vec<String>,
    layers: Vec<PlannedLayer>,
}

impl Plan {
    fn references(&self) -> Result<Vec<Reference>, Error> {
        let mut references = self.names.iter().map(|name| Reference::parse(name)).collect::<Result<Vec<_>, Error>>()?;
        references.sort();
        references.dedup();
        Ok(references)
    }
}

struct PlannedLayer {
    /// Its name in messages.
    label: String,
    offset: u64,
    size: u64,
    /// The blob's digest, where the archive says it.
    digest: Option<Digest>,
    diff_id: Digest,
}

/// A blob's digest, length and compression, for a manifest.
type Described = (Digest, u64, Compression);

/// An image's layers, made ready.
#[derive(Default)]
struct Layers {
    ready: Vec<Ready>,
    described: Vec<Described>,
    /// Those to keep, beside the work.
    blobs: Vec<(Digest, PathBuf)>,
}

impl ImageStore {
    /// Imports every image of an oci-archive or docker-archive. `reference` names the image instead of the archive's
    /// own names. Images before one that fails stay; of the one that fails nothing does.
    pub fn import(
        &self,
        path: &Path,
        reference: Option<&str>,
        limits: &Limits,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Vec<Imported>, Error> {
        let reference = reference.map(import_reference).transpose()?;
        let work = self.temporary()?;
        let archive = Archive::open(path, &work)?;
        let plans = if archive.has("oci-layout") || !archive.has("manifest.json") {
            oci::plan(&archive)?
        } else {
            docker::plan(&archive)?
        };
        let references: Vec<Vec<Reference>> = match (reference, plans.as_slice()) {
            (_, []) => return Err(archive.error("holds no image")),
            (Some(reference), [_]) => vec![vec![reference]],
            (Some(_), plans) => return Err(Error::ManyImages { path: path.to_owned(), count: plans.len() }),
            (None, plans) => plans.iter().map(Plan::references).collect::<Result<_, Error>>()?,
        };
        if let Some(reserved) = references.iter().flatten().find(|name| name.domain() == BUILTIN_DOMAIN) {
            return Err(Error::Pinned { image: reserved.to_string() });
        }
        for plan in &plans {
            if plan.layers.len() > limits.max_layers {
                return Err(Error::TooManyLayers { count: plan.layers.len(), limit: limits.max_layers });
            }
        }
        let named = plans.iter().zip(references);
        named.map(|(plan, names)| self.import_image(&archive, plan, names, limits, progress)).collect()
    }

    fn import_image(
        &self,
        archive: &Archive,
        plan: &Plan,
        references: Vec<Reference>,
        limits: &Limits,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Imported, Error> {
        loop {
            let work = self.temporary()?;
            let mut relied_on = Vec::new();
            let layers = match self.import_layers(archive, plan, (&work, &mut relied_on), limits, progress) {
                Ok(ready) => ready,
                // Somebody removed what this import stood on: it is unpacked after all.
                Err(_) if self.is_lost(&relied_on)? => continue,
                Err(error) => return Err(error),
            };
            let manifest = match &plan.manifest {
                Some(manifest) => manifest.clone(),
                None => json(&Manifest::new(&plan.config, &layers.described))?,
            };
            let candidate = Candidate {
                config: plan.config.clone(),
                manifest,
                layers: layers.ready,
                blobs: layers.blobs,
                references: references.clone(),
                index: None,
                builtin: false,
            };
            if let Committed::Image(record) = self.commit(&work, candidate)? {
                return Ok(Imported { id: record.id, references, size: record.size });
            }
        }
    }

    fn is_lost(&self, layers: &[Digest]) -> Result<bool, Error> {
        for chain_id in layers {
            if self.layer(chain_id)?.is_none() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Makes every layer ready, lowest first. Those that were in the store are noted in `relied_on`.
    fn import_layers(
        &self,
        archive: &Archive,
        plan: &Plan,
        (work, relied_on): (&Temporary, &mut Vec<Digest>),
        limits: &Limits,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Layers, Error> {
        let mut below: Option<Digest> = None;
        let mut lower: Vec<PathBuf> = Vec::new();
        let mut layers = Layers::default();
        for (position, layer) in plan.layers.iter().enumerate() {
            let mut report = |bytes: u64, exists: bool| {
                progress(Progress {
                    layer: position,
                    layers: plan.layers.len(),
                    digest: layer.digest.clone().unwrap_or_else(|| layer.diff_id.clone()),
                    bytes,
                    total_bytes: layer.size,
                    exists,
                });
            };
            let chain = chain_id(below.as_ref(), &layer.diff_id);
            if let Some((name, record)) = self.layer(&chain)? {
                report(layer.size, true);
                relied_on.push(chain.clone());
                lower.push(self.layer_directory(&name));
                let described = archive.describe(layer)?;
                if !self.has_blob(&described.0) {
                    layers.blobs.push((described.0.clone(), archive.copy(layer, &described.0, work)?));
                }
                layers.described.push(described);
                layers.ready.push(Ready::Present(record));
            } else {
                // The blob as it is, and what comes out of it.
                space::check(work.path(), layer.size.saturating_mul(2), 0)?;
                report(0, false);
                let kept = work.path().join(durable::random_name()?);
                let copy = File::create_new(&kept).map_err(|e| Error::io("create", &kept, e))?;
                let blob = Blob {
                    reader: Box::new(Tee { inner: archive.section(layer)?, copy }),
                    size: Some(layer.size),
                    digest: layer.digest.clone(),
                    diff_id: Some(layer.diff_id.clone()),
                };
                let (unpacked, done) = self
                    .unpack_layer(work, (&layer.label, blob), (below.as_ref(), &lower), limits, &mut |bytes| {
                        report(bytes, false);
                    })
                    .map_err(|error| full_disk(error, &kept))?;
                report(layer.size, false);
                if let Ready::Unpacked { directory, .. } = &unpacked {
                    lower.push(directory.clone());
                }
                layers.blobs.push((done.digest.clone(), kept));
                layers.described.push((done.digest, done.size, done.compression));
                layers.ready.push(unpacked);
            }
            below = Some(chain);
        }
        Ok(layers)
    }
}

/// Writing the blob aside fails as a read of it: a full disk is to be called so.
fn full_disk(error: Error, path: &Path) -> Error {
    match error {
        Error::Layer { source, .. } if space::is_full(&source) => space::full(path, None),
        error => error,
    }
}

impl Archive {
    fn section(&self, layer: &PlannedLayer) -> Result<Section, Error> {
        self.part(layer.offset, layer.size)
    }

    /// A copy of a layer's blob to keep.
    fn copy(&self, layer: &PlannedLayer, digest: &Digest, work: &Temporary) -> Result<PathBuf, Error> {
        let path = work.path().join(durable::random_name()?);
        let copy = File::create_new(&path).map_err(|e| Error::io("create", &path, e))?;
        let tee = Tee { inner: self.section(layer)?, copy };
        let (actual, _) = HashingReader::new(tee).finish().map_err(|e| Error::io("copy a layer to", &path, e))?;
        if actual == *digest {
            return Ok(path);
        }
        Err(Error::DigestMismatch { what: format!("layer {}", layer.label), expected: digest.clone(), actual })
    }

    /// What a manifest says of a layer that is not unpacked because it is there.
    fn describe(&self, layer: &PlannedLayer) -> Result<Described, Error> {
        let mut start = [0u8; 4];
        let read = std::io::Read::read(&mut self.section(layer)?, &mut start).map_err(|e| self.unreadable(e))?;
        let compression = Compression::of(&start[..read]);
        let digest = match (&layer.digest, compression) {
            (Some(digest), _) => digest.clone(),
            (None, Compression::None) => layer.diff_id.clone(),
            (None, _) => HashingReader::new(self.section(layer)?).finish().map_err(|e| self.unreadable(e))?.0,
        };
        Ok((digest, layer.size, compression))
    }
}

/// A name to import under: a tag, for the digest is the image's own affair.
fn import_reference(text: &str) -> Result<Reference, Error> {
    let reference = Reference::parse(text)?;
    if reference.digest().is_some() {
        let reason = "an image is imported under a name with a tag, not a digest";
        return Err(Error::Reference { text: text.to_owned(), reason });
    }
    Ok(reference)
}

/// Reads a configuration and holds it to what can be checked now.
fn read_config(archive: &Archive, bytes: &[u8], layers: usize) -> Result<ConfigFile, Error> {
    let config: ConfigFile = serde_json::from_slice(bytes)
        .map_err(|e| archive.error(format!("the image's configuration cannot be read: {e}")))?;
    if !platform::matches(&config.os, &config.architecture) {
        let found = format!("{}/{}", config.os, config.architecture);
        return Err(Error::Platform { found, wanted: platform::host() });
    }
    if config.rootfs.diff_ids.len() != layers {
        let count = config.rootfs.diff_ids.len();
        return Err(archive.error(format!("the image has {layers} layers, but its configuration lists {count}")));
    }
    if layers == 0 {
        return Err(archive.error("the image has no layers"));
    }
    Ok(config)
}
