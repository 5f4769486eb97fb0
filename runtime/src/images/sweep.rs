//! What a crash or a broken disk left: temporaries nobody holds are removed, what was half done is finished or undone,
//! records nobody can read are set aside, what nothing names is collected.
//!
//! It assumes that
//! - whoever works holds the lock on its temporary directory, and looks under the store's lock, before it announces
//!   an image, whether the layers it relied on are still there;
//! - an announcement writes the image's record, with the next generation, before the table of that generation;
//! - a removal takes the record before the names.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

use super::ImageStore;
use super::digest::{Digest, HashingReader};
use super::durable;
use super::error::Error;
use super::record::{ImageRecord, Table, VERSION};
use super::store::{TABLE, names};
use super::temporary::{claim_dead, remove_tree};

/// What [`ImageStore::sweep`] and [`ImageStore::verify`] found and did.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Findings {
    /// Records set aside, each with the reason.
    pub quarantined: Vec<(PathBuf, String)>,
    /// The table of references was rebuilt.
    pub rebuilt_references: bool,
}

/// What can be used: image records, and the name of each layer.
struct Sound {
    images: Vec<ImageRecord>,
    layers: HashMap<Digest, String>,
}

impl ImageStore {
    /// Removes what dead processes left and sets aside what cannot be read. Live imports are spared.
    pub fn sweep(&self) -> Result<Findings, Error> {
        let mut findings = Findings::default();
        let dead = {
            let _lock = self.lock()?;
            let sound = self.check_records(&mut findings)?;
            self.check_table(&sound.images, &mut findings)?;
            self.discard_unnamed(&sound)?;
            self.discard_partials(false)?;
            claim_dead(&self.temporaries())?
        };
        // Outside the lock: removing a tree takes its time.
        for (path, _held) in dead {
            remove_tree(&path)?;
        }
        for (path, reason) in &findings.quarantined {
            tracing::warn!(path = %path.display(), %reason, "a record of the image store is set aside");
        }
        Ok(findings)
    }

    /// [`sweep`](Self::sweep), and reads every blob to compare its digest. An image whose configuration or manifest is
    /// damaged is set aside; a layer's blob that is, alone: the image runs from what is unpacked.
    pub fn verify(&self) -> Result<Findings, Error> {
        let mut findings = self.sweep()?;
        for id in self.ids()? {
            let lock = self.lock()?;
            let Some(record) = self.record(&id)? else { continue };
            if let Some(reason) = self.broken_blob(&record) {
                findings.quarantined.push((self.set_aside(&self.record_path(&id))?, reason));
            }
            drop(lock);
            self.check_layer_blobs(&record, &mut findings)?;
        }
        if !findings.quarantined.is_empty() {
            self.sweep()?;
        }
        Ok(findings)
    }

    /// Takes layers' blobs that are damaged out of the store. They are read without the lock, for that takes its time.
    fn check_layer_blobs(&self, record: &ImageRecord, findings: &mut Findings) -> Result<(), Error> {
        for digest in &record.layer_blobs {
            let path = self.blobs().join(digest.hex());
            // One that is gone was removed with its image, or is missed by nobody but an export, which says so.
            let Ok(file) = fs::File::open(&path) else { continue };
            let (actual, _) = HashingReader::new(file).finish().map_err(|e| Error::io("read", &path, e))?;
            if actual != *digest {
                self.discard(&path)?;
                findings.quarantined.push((path, format!("the layer's blob is damaged: its digest is {actual}")));
            }
        }
        Ok(())
    }

    /// Why an image's configuration or manifest is not what the record says, if so.
    fn broken_blob(&self, record: &ImageRecord) -> Option<String> {
        record.documents().find_map(|digest| match fs::read(self.blobs().join(digest.hex())) {
            Ok(bytes) if Digest::of(&bytes) == *digest => None,
            Ok(bytes) => Some(format!("the blob {digest} is damaged: its digest is {}", Digest::of(&bytes))),
            Err(e) => Some(format!("the blob {digest} cannot be read: {e}")),
        })
    }

    /// Reads every record and sets aside those that cannot be used, so that they hurt no other image.
    fn check_records(&self, findings: &mut Findings) -> Result<Sound, Error> {
        let mut sound = Sound { images: Vec::new(), layers: self.check_layers(findings)? };
        for id in self.ids()? {
            let reason = match self.record(&id) {
                Ok(Some(record)) => match record.layers.iter().find(|layer| !sound.layers.contains_key(*layer)) {
                    None => {
                        sound.images.push(record);
                        continue;
                    }
                    Some(chain_id) => format!("its layer {chain_id} is missing"),
                },
                Ok(None) => continue,
                Err(error @ Error::Record { .. }) => error.to_string(),
                Err(error) => return Err(error),
            };
            findings.quarantined.push((self.set_aside(&self.record_path(&id))?, reason));
        }
        Ok(sound)
    }

    /// The layers that can be used. The record of one that cannot is set aside: the layer then comes anew with the
    /// next image that has it.
    fn check_layers(&self, findings: &mut Findings) -> Result<HashMap<Digest, String>, Error> {
        let mut usable = HashMap::new();
        for file in names(&self.layer_records())? {
            let name = file.strip_suffix(".json").unwrap_or(&file);
            let reason = match self.read_layer(name) {
                Ok(Some(record)) if self.layer_directory(name).is_dir() => {
                    usable.insert(record.chain_id, name.to_owned());
                    continue;
                }
                Ok(_) => format!("the directory of the layer {name} is missing"),
                Err(error @ Error::Record { .. }) => error.to_string(),
                Err(error) => return Err(error),
            };
            findings.quarantined.push((self.set_aside(&self.layer_records().join(&file))?, reason));
        }
        Ok(usable)
    }

    /// Moves a record to the quarantine and gives its new path.
    fn set_aside(&self, path: &Path) -> Result<PathBuf, Error> {
        let place = self.quarantine().join(path.file_name().unwrap_or_default());
        fs::rename(path, &place).map_err(|e| Error::io("set aside", path, e))?;
        Ok(place)
    }

    /// Makes names and images agree: names of images that are gone go too, an announcement that was cut off is
    /// finished, and a table that cannot be read is made anew.
    fn check_table(&self, images: &[ImageRecord], findings: &mut Findings) -> Result<(), Error> {
        let mut table = match self.table() {
            Ok(table) => table,
            Err(Error::Record { path, reason }) => {
                self.set_aside(&path)?;
                findings.quarantined.push((path, reason));
                findings.rebuilt_references = true;
                Table { version: VERSION, ..Table::default() }
            }
            Err(error) => return Err(error),
        };
        let ids: HashSet<&Digest> = images.iter().map(|image| &image.id).collect();
        let before = table.references.len();
        table.references.retain(|_, target| ids.contains(&target.id));
        let mut unannounced: Vec<_> = images.iter().filter(|image| image.generation > table.generation).collect();
        if table.references.len() == before && unannounced.is_empty() && !findings.rebuilt_references {
            return Ok(());
        }
        unannounced.sort_by_key(|image| image.generation);
        for image in unannounced {
            table.announce(image);
            table.generation = image.generation;
        }
        self.write_table(table)
    }

    /// Moves out of sight what no image names: layers, blobs, directories without a record, temporaries of files.
    fn discard_unnamed(&self, sound: &Sound) -> Result<(), Error> {
        let chain_ids = sound.images.iter().flat_map(|image| &image.layers);
        let layers: HashSet<&str> =
            chain_ids.filter_map(|chain_id| sound.layers.get(chain_id)).map(String::as_str).collect();
        self.discard_file_temporaries()?;
        if self.is_quarantined()? {
            return Ok(());
        }
        let unused: Vec<&String> = sound.layers.values().filter(|name| !layers.contains(name.as_str())).collect();
        for name in &unused {
            self.discard(&self.layer_records().join(format!("{name}.json")))?;
        }
        if !unused.is_empty() {
            // Records first: a directory without one is an orphan, a record without its directory would be a lie.
            durable::sync_dir(&self.layer_records())?;
        }
        for name in names(&self.layer_root())?.iter().filter(|name| !layers.contains(name.as_str())) {
            self.discard(&self.layer_directory(name))?;
        }
        let blobs: HashSet<&str> = sound.images.iter().flat_map(ImageRecord::blobs).map(Digest::hex).collect();
        for blob in names(&self.blobs())?.iter().filter(|blob| !blobs.contains(blob.as_str())) {
            self.discard(&self.blobs().join(blob))?;
        }
        Ok(())
    }

    /// Whether a record of an image or layer is set aside. It may be that of a running container's image, so nothing is
    /// collected until the image comes again or somebody clears the quarantine.
    fn is_quarantined(&self) -> Result<bool, Error> {
        Ok(names(&self.quarantine())?.iter().any(|name| name != TABLE))
    }

    /// Clears the quarantine of a record that has come again.
    pub(super) fn release(&self, name: &str) -> Result<(), Error> {
        remove_tree(&self.quarantine().join(name))
    }

    fn discard_file_temporaries(&self) -> Result<(), Error> {
        // Files are written under a temporary name by holders of the lock alone, so what is seen here is dead.
        for directory in [self.path().to_owned(), self.image_records(), self.layer_records(), self.blobs()] {
            for entry in fs::read_dir(&directory).map_err(|e| Error::io("list", &directory, e))? {
                let entry = entry.map_err(|e| Error::io("list", &directory, e))?;
                if entry.file_name().as_encoded_bytes().starts_with(b".") {
                    self.discard(&entry.path())?;
                }
            }
        }
        Ok(())
    }
}
