//! What is known from before: `STATE/devices/UID.json`, what a pod was given in this boot, and `ROOT/devices.json`, the
//! resources that plug-ins have ever served.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use runtime::store::{Durability, read_json, sweep_temporaries, write_json};
use serde::{Deserialize, Serialize};

use super::pool::OfPod;

/// The directory of what pods have.
const PODS: &str = "devices";

/// The file of the resources.
const RESOURCES: &str = "devices.json";

/// Where it is recorded who has which devices.
#[derive(Clone, Debug)]
pub struct Records {
    /// What lasts.
    pub root: PathBuf,
    /// What is of this boot.
    pub state: PathBuf,
    /// Which boot it is: after another one nobody has anything, for what plug-ins had done for it is gone.
    pub boot_id: String,
}

#[derive(Debug, Serialize, Deserialize)]
struct Record {
    boot_id: String,
    containers: OfPod,
}

impl Records {
    fn dir(&self) -> PathBuf {
        self.state.join(PODS)
    }

    /// The resources that plug-ins have served.
    pub fn resources(&self) -> io::Result<BTreeSet<String>> {
        let path = self.root.join(RESOURCES);
        let help = "if it is broken remove it: plug-ins name their resources again when they register";
        Ok(read_json(&path).map_err(trouble("read", &path, help))?.unwrap_or_default())
    }

    /// Records them.
    pub fn write_resources(&self, resources: &BTreeSet<String>) -> io::Result<()> {
        let written = write_json(&self.root, RESOURCES, resources, Durability::Durable);
        let help = "see to its file system; the plug-in may register again then";
        written.map_err(trouble("write", &self.root.join(RESOURCES), help))
    }

    /// What pods have, by their uids. A record that cannot be used is said, and its pod has nothing.
    pub fn pods(&self) -> io::Result<BTreeMap<String, OfPod>> {
        let dir = self.dir();
        let help = "see to its file system, and start again";
        let trouble = |operation| trouble(operation, &dir, help);
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir).map_err(trouble("make the directory"))?;
        sweep_temporaries(&dir).map_err(trouble("tidy"))?;
        let mut pods = BTreeMap::new();
        for entry in fs::read_dir(&dir).map_err(trouble("list"))? {
            let path = entry.map_err(trouble("list"))?.path();
            let Some(uid) = path.file_name().and_then(|it| it.to_str()?.strip_suffix(".json")) else { continue };
            match read_json::<Record>(&path) {
                Ok(Some(record)) if record.boot_id == self.boot_id => {
                    drop(pods.insert(uid.to_owned(), record.containers))
                }
                Ok(_) => self.remove(uid).map_err(trouble("remove an old record from"))?,
                Err(error) => {
                    let record = path.display();
                    tracing::error!(
                        uid, %record, %error,
                        "which devices a pod has cannot be read; others may be given them, too: delete the pod"
                    );
                }
            }
        }
        Ok(pods)
    }

    /// Records what a pod has. It holds for the next agent; a power cut ends the pod, too.
    pub fn write(&self, uid: &str, containers: OfPod) -> io::Result<()> {
        let record = Record { boot_id: self.boot_id.clone(), containers };
        write_json(&self.dir(), &format!("{uid}.json"), &record, Durability::Volatile)
    }

    /// A pod has nothing any more.
    pub fn remove(&self, uid: &str) -> io::Result<()> {
        forget(&self.state, uid)
    }
}

/// What could not be done with a file, and what to do about it.
fn trouble<'a>(operation: &'a str, path: &'a Path, help: &'a str) -> impl Fn(io::Error) -> io::Error + use<'a> {
    move |error| io::Error::new(error.kind(), format!("cannot {operation} {}: {error}; {help}", path.display()))
}

/// Forgets what a pod has that is gone.
pub fn forget(state: &Path, uid: &str) -> io::Result<()> {
    match fs::remove_file(state.join(PODS).join(format!("{uid}.json"))) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
