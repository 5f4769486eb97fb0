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
        Ok(read_json(&self.root.join(RESOURCES))?.unwrap_or_default())
    }

    /// Records them.
    pub fn write_resources(&self, resources: BTreeSet<&str>) -> io::Result<()> {
        write_json(&self.root, RESOURCES, &resources, Durability::Durable)
    }

    /// What pods have, by their uids. A record that cannot be used is said, and its pod has nothing.
    pub fn pods(&self) -> io::Result<BTreeMap<String, OfPod>> {
        let dir = self.dir();
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir)?;
        sweep_temporaries(&dir)?;
        let mut pods = BTreeMap::new();
        for entry in fs::read_dir(&dir)? {
            let path = entry?.path();
            let Some(uid) = path.file_name().and_then(|it| it.to_str()?.strip_suffix(".json")) else { continue };
            match read_json::<Record>(&path) {
                Ok(Some(record)) if record.boot_id == self.boot_id => {
                    drop(pods.insert(uid.to_owned(), record.containers))
                }
                Ok(_) => self.remove(uid)?,
                Err(error) => {
                    tracing::error!(uid, %error, "which devices a pod has cannot be read; others may be given them, too");
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

/// Forgets what a pod has that is gone.
pub fn forget(state: &Path, uid: &str) -> io::Result<()> {
    match fs::remove_file(state.join(PODS).join(format!("{uid}.json"))) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
