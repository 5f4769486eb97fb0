//! What was done for a pod, on the disk: `ROOT/network/cni/<sandbox>/attachment.json`.
//!
//! A directory each, so that it can be locked: nobody asks plug-ins about a pod while others do.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::config::List;
use crate::core::{Core, make_private};
use crate::error::{During as _, Result};
use crate::ids::is_id;
use crate::network::leases::flock;
use crate::store::{Durability, open_dir, read_json, write_json};

const FILE: &str = "attachment.json";

/// How far it has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// Plug-ins are, or were, at it.
    #[default]
    Adding,
    /// It is connected.
    Added,
    /// Plug-ins take it back, or did.
    Deleting,
}

/// `attachment.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Attachment {
    /// Version of this record.
    pub version: u32,
    /// The sandbox.
    pub sandbox: String,
    /// Its pod: namespace and name.
    pub pod: String,
    /// How far it has come.
    pub phase: Phase,
    /// Where its network namespace is pinned, as long as there is one.
    pub netns: PathBuf,
    /// CNI_ARGS.
    pub args: String,
    /// What plug-ins may ask to be told.
    pub offered: BTreeMap<String, Value>,
    /// Where plug-ins were looked for.
    pub bin_dirs: Vec<PathBuf>,
    /// The configuration, as it was then.
    pub list: List,
    /// What came of it.
    pub result: Option<Value>,
}

/// An attachment that nobody else may touch.
pub struct Held {
    dir: PathBuf,
    _lock: File,
    /// What is known of it.
    pub attachment: Attachment,
}

fn dir(core: &Core) -> PathBuf {
    core.options.root_dir.join("network/cni")
}

/// Writes one down that is to be made.
pub fn begin(core: &Core, attachment: &Attachment) -> Result<()> {
    let dir = dir(core).join(&attachment.sandbox);
    make_private(&dir)?;
    let written = write_json(&dir, FILE, attachment, Durability::Durable).and_then(|()| {
        // The directory's own name has to last, too.
        dir.parent().map_or(Ok(()), |above| Ok(rustix::fs::fsync(open_dir(above)?)?))
    });
    written.during(|| format!("write down in {} how the pod is connected", dir.display()))
}

/// The attachment of a sandbox, once nobody is at it any more; none where there is none.
pub fn hold(core: &Core, sandbox: &str) -> Result<Option<Held>> {
    let dir = dir(core).join(sandbox);
    let what = || format!("read how the pod was connected, in {}", dir.display());
    let lock = match open_dir(&dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => File::from(other.during(what)?),
    };
    flock(&lock, FlockOperation::LockExclusive).during(what)?;
    let known = match read_json(&dir.join(FILE)) {
        // Written whole: only somebody else can have spoilt it, and nobody can say what there is to take back.
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            tracing::error!(%error, dir = %dir.display(), "how a pod was connected cannot be read: its addresses may stay taken");
            None
        }
        other => other.during(what)?,
    };
    let Some(attachment) = known else {
        // Its maker died before it wrote anything, or the one before us was the last.
        let _ = crate::store::remove_dir(&dir);
        return Ok(None);
    };
    Ok(Some(Held { dir, _lock: lock, attachment }))
}

/// The sandboxes that have, or had, one.
pub fn all(core: &Core) -> Result<Vec<String>> {
    names(&dir(core)).during(|| format!("list {}", dir(core).display()))
}

fn names(dir: &Path) -> io::Result<Vec<String>> {
    let entries = match std::fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let names = entries.flatten().filter_map(|it| it.file_name().into_string().ok());
    Ok(names.filter(|it| is_id(it)).collect())
}

impl Held {
    /// Writes it down.
    pub fn save(&self, durability: Durability) -> Result<()> {
        let written = write_json(&self.dir, FILE, &self.attachment, durability);
        written.during(|| format!("write down in {} how the pod is connected", self.dir.display()))
    }

    /// There is nothing of it any more.
    pub fn forget(self) -> Result<()> {
        crate::store::remove_dir(&self.dir).during(|| format!("remove {}", self.dir.display()))?;
        // As long as there is none besides.
        let _ = self.dir.parent().map(std::fs::remove_dir);
        Ok(())
    }
}
