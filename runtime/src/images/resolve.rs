//! From a name to an image that can be run.

use std::path::PathBuf;

use super::builtin::is_builtin;
use super::digest::{Digest, is_hex};
use super::error::Error;
use super::record::{ImageConfig, ImageRecord, Table};
use super::reference::Reference;
use super::{ImageStore, Kind};

/// Names that an error offers.
const OFFERED: usize = 8;
/// Fewer digits of an id are taken for a name alone.
const MIN_PREFIX: usize = 4;

/// An image of the store, ready to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// The configuration's digest.
    pub id: Digest,
    /// Its names, in full.
    pub references: Vec<Reference>,
    /// `REPOSITORY@DIGEST` of its manifest, for each repository it has a name in.
    pub digests: Vec<String>,
    /// Bytes, unpacked.
    pub size: u64,
    /// What it says about the process to run.
    pub config: ImageConfig,
    /// The layers' directories, lowest first.
    pub layers: Vec<PathBuf>,
    /// Names the layers, all together; an image without any has none.
    pub chain_id: Option<Digest>,
    /// It is built in: it cannot be removed.
    pub pinned: bool,
    /// When it was built, as its configuration says.
    pub created: Option<String>,
    /// When it came to this host, in seconds since the epoch.
    pub imported_at: u64,
}

impl ImageStore {
    /// The image of a reference (short or full), an id, or the beginning of an id.
    pub fn resolve(&self, name: &str) -> Result<Image, Error> {
        let id = self.find(name)?;
        self.image(&id)
    }

    /// The configuration of an image, as it came.
    pub fn document(&self, id: &Digest) -> Result<serde_json::Value, Error> {
        let path = self.blobs().join(id.hex());
        let bytes = std::fs::read(&path).map_err(|e| Error::io("read", &path, e))?;
        serde_json::from_slice(&bytes).map_err(|e| Error::Record { path, reason: e.to_string() })
    }

    /// Every image, sorted by id. One that cannot be read is left out and reported once, by the log.
    pub fn list(&self) -> Result<Vec<Image>, Error> {
        let mut images = Vec::new();
        for id in self.ids()? {
            match self.image(&id) {
                Ok(image) => images.push(image),
                Err(error) if error.kind() == Kind::NotFound => {}
                Err(error) => tracing::warn!(%id, %error, "an image is broken and left out"),
            }
        }
        Ok(images)
    }

    /// The id of what `name` means.
    pub(super) fn find(&self, name: &str) -> Result<Digest, Error> {
        let full = if name.starts_with("sha256:") { name.to_owned() } else { format!("sha256:{name}") };
        if let Ok(id) = Digest::parse(&full) {
            return if self.record_path(&id).exists() { Ok(id) } else { Err(self.not_found(id.to_string())?) };
        }
        let prefix = name.strip_prefix("sha256:").unwrap_or(name);
        let reference = Reference::parse(name);
        if let Ok(reference) = &reference {
            if is_builtin(reference) {
                return Ok(self.ensure_builtin()?.id);
            }
            if let Some(id) = self.find_reference(reference)? {
                return Ok(id);
            }
        }
        if prefix.len() >= MIN_PREFIX && is_hex(prefix) {
            let ids: Vec<Digest> = self.ids()?.into_iter().filter(|id| id.hex().starts_with(prefix)).collect();
            match ids.as_slice() {
                [] => {}
                [id] => return Ok(id.clone()),
                ids => {
                    let ids = ids.iter().map(Digest::to_string).collect();
                    return Err(Error::Ambiguous { prefix: prefix.to_owned(), ids });
                }
            }
        }
        Err(self.not_found(reference?.to_string())?)
    }

    fn find_reference(&self, reference: &Reference) -> Result<Option<Digest>, Error> {
        let table = self.table()?;
        if let Some(target) = table.references.get(reference) {
            return Ok(Some(target.id.clone()));
        }
        let Some(digest) = reference.digest() else { return Ok(None) };
        // The digest says which; the repository must be one the image came from.
        let named = table.references.iter().find(|(name, target)| {
            name.repository() == reference.repository()
                && [&target.manifest, &target.id, target.at_registry()].contains(&digest)
        });
        Ok(named.map(|(_, target)| target.id.clone()))
    }

    /// The error for a name that means nothing, with the names that do.
    fn not_found(&self, looked_for: String) -> Result<Error, Error> {
        let mut names: Vec<String> = self.table()?.references.keys().map(Reference::to_string).collect();
        names.sort_by_cached_key(|name| distance(name, &looked_for));
        let more = names.len().saturating_sub(OFFERED);
        names.truncate(OFFERED);
        Ok(Error::NotFound { looked_for, exist: names, more })
    }

    /// The image of an id that exists.
    pub(super) fn image(&self, id: &Digest) -> Result<Image, Error> {
        let table = self.table()?;
        match self.record(id)? {
            Some(record) => self.load(record, &table),
            None => Err(self.not_found(id.to_string())?),
        }
    }

    fn load(&self, record: ImageRecord, table: &Table) -> Result<Image, Error> {
        let config = self.config(&record.id)?;
        let mut layers = Vec::with_capacity(record.layers.len());
        for chain_id in &record.layers {
            let Some((name, layer)) = self.layer(chain_id)? else {
                let path = self.record_path(&record.id);
                return Err(Error::Record { path, reason: format!("its layer {chain_id} is missing") });
            };
            if layer.opaque_root {
                layers.clear();
            }
            layers.push(self.layer_directory(&name));
        }
        let (mut references, mut digests) = (Vec::new(), Vec::new());
        for (name, target) in table.names_of(&record.id) {
            references.push(name.clone());
            digests.push(format!("{}@{}", name.repository(), target.at_registry()));
        }
        digests.sort();
        digests.dedup();
        Ok(Image {
            id: record.id,
            references,
            digests,
            size: record.size,
            config: config.config,
            layers,
            chain_id: record.layers.last().cloned(),
            pinned: record.builtin,
            created: config.created,
            imported_at: record.imported_at,
        })
    }
}

/// How many edits turn one text into the other.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}
