//! The store's directories and records.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use super::digest::Digest;
use super::durable;
use super::error::Error;
use super::record::{ConfigFile, ImageRecord, Table, VERSION};
use super::temporary::Temporary;

/// The table of references.
pub(super) const TABLE: &str = "references.json";

/// The images of one root directory. Any number of these, in any number of processes, may share the directory.
#[derive(Debug, Clone)]
pub struct ImageStore {
    root: PathBuf,
}

/// What the store takes of its disk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bytes, in whole blocks.
    pub bytes: u64,
    /// Files and directories.
    pub inodes: u64,
}

impl ImageStore {
    /// Opens the store in `<root>/images`, makes it on first use, and removes what crashes left.
    pub fn open(root: &Path) -> Result<ImageStore, Error> {
        let store = ImageStore { root: root.join("images") };
        for directory in ["", "blobs", "blobs/sha256", "blobs/partial", "images", "layers", "l", "tmp", "quarantine"] {
            let path = store.root.join(directory);
            // Images may hold secrets, and set-user-id files that the host's users must not run.
            DirBuilder::new().recursive(true).mode(0o700).create(&path).map_err(|e| Error::io("create", &path, e))?;
        }
        store.sweep()?;
        Ok(store)
    }

    /// The store's own directory.
    pub fn path(&self) -> &Path {
        &self.root
    }

    /// The directory that every layer's directory is in. Their names are short: relative to here, 127 of them fit one
    /// page of mount options.
    pub fn layer_root(&self) -> PathBuf {
        self.root.join("l")
    }

    /// Grows with every change of the store, by whichever process.
    pub fn generation(&self) -> Result<u64, Error> {
        Ok(self.table()?.generation)
    }

    pub(super) fn lock(&self) -> Result<OwnedFd, Error> {
        durable::lock(&self.lock_path())
    }

    fn lock_path(&self) -> PathBuf {
        self.root.join("lock")
    }

    pub(super) fn layer_directory(&self, name: &str) -> PathBuf {
        self.root.join("l").join(name)
    }

    pub(super) fn layer_records(&self) -> PathBuf {
        self.root.join("layers")
    }

    pub(super) fn image_records(&self) -> PathBuf {
        self.root.join("images")
    }

    pub(super) fn blobs(&self) -> PathBuf {
        self.root.join("blobs/sha256")
    }

    /// Layers' blobs that are not whole yet.
    pub(super) fn partials(&self) -> PathBuf {
        self.root.join("blobs/partial")
    }

    pub(super) fn temporaries(&self) -> PathBuf {
        self.root.join("tmp")
    }

    pub(super) fn quarantine(&self) -> PathBuf {
        self.root.join("quarantine")
    }

    pub(super) fn temporary(&self) -> Result<Temporary, Error> {
        Temporary::new(&self.temporaries(), &self.lock_path())
    }

    /// Moves a tree out of sight, to be removed by the next sweep. Quick, so it is done under the lock.
    pub(super) fn discard(&self, path: &Path) -> Result<(), Error> {
        let place = self.temporaries().join(durable::random_name()?);
        match fs::rename(path, &place) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(Error::io("remove", path, e)),
            _ => Ok(()),
        }
    }

    pub(super) fn table(&self) -> Result<Table, Error> {
        let path = self.root.join(TABLE);
        match durable::read_json::<Table>(&path)? {
            Some(table) if table.version != VERSION => {
                Err(Error::Record { path, reason: format!("version {} is not known", table.version) })
            }
            table => Ok(table.unwrap_or(Table { version: VERSION, ..Table::default() })),
        }
    }

    /// Writes the table as a new generation. The caller holds the lock and read the table under it.
    pub(super) fn write_table(&self, mut table: Table) -> Result<(), Error> {
        table.generation += 1;
        durable::write_json(&self.root, TABLE, &table)
    }

    pub(super) fn record_path(&self, id: &Digest) -> PathBuf {
        self.image_records().join(format!("{}.json", id.hex()))
    }

    pub(super) fn record(&self, id: &Digest) -> Result<Option<ImageRecord>, Error> {
        let path = self.record_path(id);
        match durable::read_json::<ImageRecord>(&path)? {
            Some(record) if record.version != VERSION => {
                Err(Error::Record { path, reason: format!("version {} is not known", record.version) })
            }
            Some(record) if record.id != *id => {
                Err(Error::Record { path, reason: format!("it is the record of {}", record.id) })
            }
            record => Ok(record),
        }
    }

    /// The ids of all images that have a record.
    pub(super) fn ids(&self) -> Result<Vec<Digest>, Error> {
        let mut ids: Vec<Digest> = names(&self.image_records())?
            .iter()
            .filter_map(|name| Digest::parse(&format!("sha256:{}", name.strip_suffix(".json")?)).ok())
            .collect();
        ids.sort();
        Ok(ids)
    }

    pub(super) fn write_blob(&self, digest: &Digest, bytes: &[u8]) -> Result<(), Error> {
        // One that is there but damaged is replaced.
        if fs::read(self.blobs().join(digest.hex())).is_ok_and(|existing| existing == bytes) {
            return Ok(());
        }
        durable::write(&self.blobs(), digest.hex(), bytes)
    }

    pub(super) fn config(&self, id: &Digest) -> Result<ConfigFile, Error> {
        let path = self.blobs().join(id.hex());
        let bytes = fs::read(&path).map_err(|e| Error::Record { path: path.clone(), reason: e.to_string() })?;
        serde_json::from_slice(&bytes).map_err(|e| Error::Record { path, reason: e.to_string() })
    }
}

/// The file names in a directory, without temporaries.
pub(super) fn names(directory: &Path) -> Result<Vec<String>, Error> {
    let mut names = Vec::new();
    for entry in fs::read_dir(directory).map_err(|e| Error::io("list", directory, e))? {
        let name = entry.map_err(|e| Error::io("list", directory, e))?.file_name();
        if let Ok(name) = name.into_string()
            && !name.starts_with('.')
        {
            names.push(name);
        }
    }
    Ok(names)
}
