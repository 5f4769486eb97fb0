//! Making an image part of the store.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use super::ImageStore;
use super::digest::Digest;
use super::durable;
use super::error::Error;
use super::layers::Ready;
use super::record::{ImageRecord, Manifest, VERSION};
use super::reference::Reference;
use super::temporary::Temporary;

/// An image whose layers are ready.
pub(super) struct Candidate {
    /// The configuration as it came; its digest is the image's id.
    pub config: Vec<u8>,
    pub manifest: Vec<u8>,
    pub layers: Vec<Ready>,
    /// Layers' blobs to keep, each in a file that becomes the store's.
    pub blobs: Vec<(Digest, PathBuf)>,
    pub references: Vec<Reference>,
    /// What the references mean at their registry, where that is an index.
    pub index: Option<Digest>,
    pub builtin: bool,
}

/// What became of a [`Candidate`].
pub(super) enum Committed {
    /// It is an image of the store.
    Image(ImageRecord),
    /// A layer that was there is gone: somebody removed its image meanwhile. It must be unpacked after all.
    LayerLost,
}

impl ImageStore {
    /// Makes a candidate an image: everything on the disk first, then the records from the bottom up.
    pub(super) fn commit(&self, work: &Temporary, candidate: Candidate) -> Result<Committed, Error> {
        let id = Digest::of(&candidate.config);
        let manifest = Digest::of(&candidate.manifest);
        let unpacked = candidate.layers.iter().any(|layer| matches!(layer, Ready::Unpacked { .. }));
        if unpacked || !candidate.blobs.is_empty() {
            let directory = std::fs::File::open(work.path()).map_err(|e| Error::io("open", work.path(), e))?;
            // One wait for all layers of the image, outside the lock.
            rustix::fs::syncfs(&directory).map_err(|e| Error::io("sync the disk of", work.path(), e))?;
        }
        let _lock = self.lock()?;
        for layer in &candidate.layers {
            if let Ready::Present(record) = layer
                && self.layer(&record.chain_id)?.is_none()
            {
                return Ok(Committed::LayerLost);
            }
        }
        for layer in &candidate.layers {
            if let Ready::Unpacked { record, directory } = layer {
                self.adopt_layer(record, directory)?;
            }
        }
        self.adopt_blobs(&candidate.blobs)?;
        self.write_blob(&id, &candidate.config)?;
        self.write_blob(&manifest, &candidate.manifest)?;
        let indexes = candidate.index.filter(|index| *index != manifest).into_iter();
        let indexes = indexes.flat_map(|index| candidate.references.iter().map(move |it| (it.clone(), index.clone())));
        let record = ImageRecord {
            version: VERSION,
            indexes: indexes.collect(),
            layer_blobs: Vec::new(),
            id,
            generation: 0,
            manifest: manifest.clone(),
            layers: candidate.layers.iter().map(|layer| layer.record().chain_id.clone()).collect(),
            size: candidate.layers.iter().map(|layer| layer.record().bytes).sum(),
            references: candidate.references.into_iter().map(|name| (name, manifest.clone())).collect(),
            imported_at: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs()),
            builtin: candidate.builtin,
        };
        self.announce(record).map(Committed::Image)
    }

    /// Writes an image's record and points its references at it.
    fn announce(&self, mut record: ImageRecord) -> Result<ImageRecord, Error> {
        let mut table = self.table()?;
        let moved = table.moved(&record);
        table.announce(&record);
        record.generation = table.generation + 1;
        // The image may have had other names before; the record is what the table is rebuilt from.
        (record.references, record.indexes) = table.record_of(&record.id);
        record.layer_blobs = self.kept_blobs(&record);
        durable::write_json(&self.image_records(), &format!("{}.json", record.id.hex()), &record)?;
        let names = moved.iter().map(|id| (id.clone(), table.record_of(id))).collect::<Vec<_>>();
        self.write_table(table)?;
        for (id, (references, indexes)) in names {
            // A table that has to be made anew finds the same names.
            if let Some(old) = self.record(&id)? {
                let old = ImageRecord { references, indexes, ..old };
                durable::write_json(&self.image_records(), &format!("{}.json", id.hex()), &old)?;
            }
        }
        self.release(&format!("{}.json", record.id.hex()))?;
        Ok(record)
    }

    /// Moves layers' blobs into the store. Another process may have brought the same ones.
    fn adopt_blobs(&self, blobs: &[(Digest, PathBuf)]) -> Result<(), Error> {
        for (digest, path) in blobs {
            let place = self.blobs().join(digest.hex());
            if place.exists() {
                super::temporary::remove_tree(path)?;
            } else {
                fs::rename(path, &place).map_err(|e| Error::io("move a layer's blob to", &place, e))?;
            }
        }
        if blobs.is_empty() { Ok(()) } else { durable::sync_dir(&self.blobs()) }
    }

    /// The blobs of an image's layers that are in the store, by its manifests.
    fn kept_blobs(&self, record: &ImageRecord) -> Vec<Digest> {
        let manifests = [&record.manifest].into_iter().chain(record.references.values());
        let mut kept: Vec<Digest> = manifests.flat_map(|digest| self.layers_of(digest)).collect();
        kept.sort();
        kept.dedup();
        kept.retain(|digest| self.has_blob(digest));
        kept
    }

    fn layers_of(&self, manifest: &Digest) -> Vec<Digest> {
        // One that cannot be read is `verify`'s affair.
        let bytes = fs::read(self.blobs().join(manifest.hex())).unwrap_or_default();
        let manifest: Option<Manifest> = serde_json::from_slice(&bytes).ok();
        manifest.into_iter().flat_map(|it| it.layers).map(|layer| layer.digest).collect()
    }

    /// Whether a blob is in the store.
    pub(super) fn has_blob(&self, digest: &Digest) -> bool {
        Path::exists(&self.blobs().join(digest.hex()))
    }
}
