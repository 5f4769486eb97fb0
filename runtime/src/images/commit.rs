//! Making an image part of the store.

use std::time::{SystemTime, UNIX_EPOCH};

use super::ImageStore;
use super::digest::Digest;
use super::durable;
use super::error::Error;
use super::layers::Ready;
use super::record::{ImageRecord, VERSION};
use super::reference::Reference;
use super::temporary::Temporary;

/// An image whose layers are ready.
pub(super) struct Candidate {
    /// The configuration as it came; its digest is the image's id.
    pub config: Vec<u8>,
    pub manifest: Vec<u8>,
    pub layers: Vec<Ready>,
    pub references: Vec<Reference>,
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
        if candidate.layers.iter().any(|layer| matches!(layer, Ready::Unpacked { .. })) {
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
        self.write_blob(&id, &candidate.config)?;
        self.write_blob(&manifest, &candidate.manifest)?;
        let record = ImageRecord {
            version: VERSION,
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
        table.announce(&record);
        record.generation = table.generation + 1;
        // The image may have had other names before; the record is what the table is rebuilt from.
        record.references =
            table.names_of(&record.id).map(|(name, manifest)| (name.clone(), manifest.clone())).collect();
        durable::write_json(&self.image_records(), &format!("{}.json", record.id.hex()), &record)?;
        self.write_table(table)?;
        self.release(&format!("{}.json", record.id.hex()))?;
        Ok(record)
    }
}
