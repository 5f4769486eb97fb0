//! Unpacked layers: `l/<name>` with a record `layers/<name>.json`. The record makes the layer: a directory without one
//! is what a crash left.

use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;

use super::digest::Digest;
use super::durable;
use super::error::Error;
use super::pipeline::{self, Blob};
use super::record::{LayerRecord, VERSION};
use super::temporary::Temporary;
use super::unpack::Layer;
use super::{ImageStore, Limits};

/// Digits of a layer's name: 127 of them with a separator each fit one page of mount options.
const NAME_DIGITS: usize = 12;

/// The chain id of the layer below, the directories of all layers below, and what waits until those are whole.
pub(super) type Below<'a> = (Option<&'a Digest>, &'a [PathBuf], &'a (dyn Fn() -> Result<(), Error> + Sync));

/// A layer that is needed for an image: there already, or unpacked and not yet part of the store.
pub(super) enum Ready {
    Present(LayerRecord),
    Unpacked { record: LayerRecord, directory: PathBuf },
}

impl Ready {
    pub(super) fn record(&self) -> &LayerRecord {
        match self {
            Ready::Present(record) | Ready::Unpacked { record, .. } => record,
        }
    }
}

/// The chain id of a layer: of itself if it is the lowest, else of all below it and itself.
pub(super) fn chain_id(below: Option<&Digest>, diff_id: &Digest) -> Digest {
    match below {
        None => diff_id.clone(),
        Some(below) => Digest::of(format!("{below} {diff_id}").as_bytes()),
    }
}

impl ImageStore {
    /// The record and name of a layer of the store.
    pub(super) fn layer(&self, chain_id: &Digest) -> Result<Option<(String, LayerRecord)>, Error> {
        for name in layer_names(chain_id) {
            if let Some(record) = self.read_layer(name)?.filter(|record| record.chain_id == *chain_id) {
                return Ok(Some((name.to_owned(), record)));
            }
        }
        Ok(None)
    }

    pub(super) fn read_layer(&self, name: &str) -> Result<Option<LayerRecord>, Error> {
        let path = self.layer_records().join(format!("{name}.json"));
        let record: Option<LayerRecord> = durable::read_json(&path)?;
        match record {
            Some(record) if record.version != VERSION => {
                Err(Error::Record { path, reason: format!("version {} is not known", record.version) })
            }
            record => Ok(record),
        }
    }

    /// Unpacks a layer into `work`. `below` is its parent's chain id, `lower` the directories of all layers below.
    pub(super) fn unpack_layer(
        &self,
        work: &Temporary,
        (label, blob): (&str, Blob),
        (below, lower): (Option<&Digest>, &[PathBuf]),
        limits: &Limits,
        progress: &mut dyn FnMut(u64),
    ) -> Result<(Ready, pipeline::Done), Error> {
        let directory = work.path().join(durable::random_name()?);
        self.unpack_into(directory, (label, blob), (below, lower, &|| Ok(())), limits, progress)
    }

    /// The same into a directory that is chosen, while the layers below are perhaps still being unpacked.
    pub(super) fn unpack_into(
        &self,
        directory: PathBuf,
        (label, blob): (&str, Blob),
        (below, lower, lower_ready): Below<'_>,
        limits: &Limits,
        progress: &mut dyn FnMut(u64),
    ) -> Result<(Ready, pipeline::Done), Error> {
        DirBuilder::new().mode(0o755).create(&directory).map_err(|e| Error::io("create", &directory, e))?;
        let layer = Layer { name: label, target: &directory, lower, lower_ready, limits };
        let done = pipeline::run(blob, &layer, progress)?;
        let record = LayerRecord {
            version: VERSION,
            chain_id: chain_id(below, &done.diff_id),
            diff_id: done.diff_id.clone(),
            bytes: done.contents.bytes,
            disk_bytes: done.contents.disk_bytes,
            inodes: done.contents.inodes + 1,
            opaque_root: done.contents.opaque_root,
        };
        Ok((Ready::Unpacked { record, directory }, done))
    }

    /// Moves an unpacked layer into the store. The caller holds the lock, and the content is on the disk.
    pub(super) fn adopt_layer(&self, record: &LayerRecord, directory: &PathBuf) -> Result<(), Error> {
        if self.layer(&record.chain_id)?.is_some() {
            // Another process was faster; ours goes with its temporary directory.
            return Ok(());
        }
        for name in layer_names(&record.chain_id) {
            if self.read_layer(name)?.is_some() {
                continue;
            }
            let place = self.layer_directory(name);
            if place.exists() {
                // Without a record, which may be in the quarantine: a container may still run on it.
                continue;
            }
            fs::rename(directory, &place).map_err(|e| Error::io("move a layer to", &place, e))?;
            durable::sync_dir(&self.layer_root())?;
            durable::write_json(&self.layer_records(), &format!("{name}.json"), record)?;
            return self.release(&format!("{name}.json"));
        }
        Err(Error::Record { path: self.layer_records(), reason: format!("no name is free for {}", record.chain_id) })
    }
}

/// The names a layer may have, best first: when twelve digits of two layers are the same, the next ones serve.
fn layer_names(chain_id: &Digest) -> impl Iterator<Item = &str> {
    let hex = chain_id.hex();
    (0..=hex.len() - NAME_DIGITS).step_by(NAME_DIGITS).map(|at| &hex[at..at + NAME_DIGITS])
}
