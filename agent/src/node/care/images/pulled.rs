//! Which images this agent has pulled, on a runtime that others use too: a file, for it counts after a restart.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use runtime::store::{Durability, write_json};

/// The file, below the root directory.
const FILE: &str = "pulled-images.json";

/// Ids of images.
#[derive(Clone, Debug, Default)]
pub struct Pulled {
    directory: PathBuf,
    ids: BTreeSet<String>,
}

impl Pulled {
    /// Reads what an agent before this one has written. What cannot be read is nobody's: it stays where it is.
    pub fn open(root: &Path) -> Self {
        let read = std::fs::read(root.join(FILE)).ok().and_then(|text| serde_json::from_slice(&text).ok());
        Pulled { directory: root.to_owned(), ids: read.unwrap_or_default() }
    }

    /// Whether this agent has pulled it.
    pub fn has(&self, id: &str) -> bool {
        self.ids.contains(id)
    }

    /// Adds one.
    pub fn add(&mut self, id: &str) {
        if self.ids.insert(id.to_owned()) {
            self.write();
        }
    }

    /// Forgets those that are gone.
    pub fn keep(&mut self, mut is_there: impl FnMut(&str) -> bool) {
        let before = self.ids.len();
        self.ids.retain(|id| is_there(id));
        if self.ids.len() != before {
            self.write();
        }
    }

    fn write(&self) {
        if let Err(error) = write_json(&self.directory, FILE, &self.ids, Durability::Durable) {
            let path = self.directory.join(FILE);
            tracing::warn!(path = %path.display(), %error, "which images were pulled cannot be recorded: they will stay");
        }
    }
}
