//! Where manifests come from: a directory, a file, an address. Each source is a task that tells everything it holds
//! whenever that changed; what it cannot read it says, so that nobody takes it for removed.

mod directory;
mod url;
pub mod watch;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use runtime::store::{self, Durability};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio::sync::watch::Receiver;

pub use self::url::{Address, address, header};

/// The largest manifest that is read, as kubelet has it.
const LARGEST: u64 = 10 << 20;

/// A place that manifests come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A directory, or a single file.
    Path(PathBuf),
    /// An address that answers with manifests.
    Url(Address),
}

impl Place {
    /// What it is called in messages and records.
    pub fn name(&self) -> String {
        match self {
            Place::Path(path) => path.display().to_string(),
            Place::Url(address) => address.url.clone(),
        }
    }

    /// Writes down where manifests come from, for the verbs. Headers are nobody else's business.
    pub fn record(places: &[Place], state_dir: &Path) -> io::Result<()> {
        let known = |place: &Place| match place {
            Place::Path(path) => Known::Path(path.clone()),
            Place::Url(address) => Known::Url(address.url.clone()),
        };
        let known: Vec<Known> = places.iter().map(known).collect();
        store::write_json(state_dir, RECORD, &known, Durability::Volatile)
    }

    /// What [`Place::record`] wrote; none when no agent did since the last boot.
    pub fn recorded(state_dir: &Path) -> io::Result<Option<Vec<Place>>> {
        let known: Option<Vec<Known>> = store::read_json(&state_dir.join(RECORD))?;
        let place = |known| match known {
            Known::Path(path) => Place::Path(path),
            Known::Url(url) => Place::Url(Address { url, headers: Vec::new() }),
        };
        Ok(known.map(|known| known.into_iter().map(place).collect()))
    }
}

/// The file of the places, in the state directory.
const RECORD: &str = "sources.json";

/// A place as it is written down.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Known {
    Path(PathBuf),
    Url(String),
}

/// One manifest as it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// Its text.
    Text(Arc<str>),
    /// It is there and cannot be read: why, and what to do.
    Unreadable(String),
    /// Somebody is writing it: it stays what it was.
    Unfinished,
}

/// Everything that a source holds, by the file's path or the address.
pub type Files = BTreeMap<String, Content>;

/// What a source has to tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// The source's name.
    pub source: String,
    /// What it holds; or why it cannot be looked at, and then whatever it held stands.
    pub files: Result<Files, String>,
}

/// How sources are looked at.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// How often a directory or file is looked at without cause: the net under inotify.
    pub files: Duration,
    /// How often an address is asked.
    pub urls: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Pace { files: Duration::from_secs(20), urls: Duration::from_secs(20) }
    }
}

/// Follows a source for ever; `look` makes it look at once.
pub fn follow(
    place: Place,
    pace: Pace,
    look: Receiver<()>,
    told: mpsc::Sender<Snapshot>,
) -> tokio::task::JoinHandle<()> {
    match place {
        Place::Path(path) => tokio::spawn(directory::follow(path, pace.files, look, told)),
        Place::Url(address) => tokio::spawn(url::follow(address, pace.urls, look, told)),
    }
}
