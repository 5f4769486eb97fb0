//! What is known of a container: one record of this boot, beside the one that its shim writes.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::request::Request;
use crate::core::Core;
use crate::error::{During as _, Error, Result};
use crate::ids::Owner;
use crate::launch::ProcessSpec;
use crate::records::{Cache, Stored, select};
use crate::store::{Durability, read_json, write_json};

/// `container.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Version of this record.
    pub version: u32,
    /// The container.
    pub id: String,
    /// Its sandbox.
    pub sandbox: String,
    /// Whose it is.
    pub owner: Owner,
    /// The boot that its process belongs to.
    pub boot_id: String,
    /// What was asked for.
    pub request: Request,
    /// Digest of the image's configuration.
    pub image_id: String,
    /// The image as its registry names it by digest, or its id.
    pub image_ref: String,
    /// The image by its tag, where it has one, or its id.
    #[serde(default)]
    pub image_name: String,
    /// When it was made, in nanoseconds since 1970.
    pub created_at: i64,
    /// Its log file, absolute.
    pub log_path: Option<String>,
    /// Signal number that asks it to stop.
    pub stop_signal: i32,
    /// Its cgroup, relative to every hierarchy's root.
    pub cgroup: String,
    /// What could not be given as it was asked for.
    pub notes: Vec<String>,
    /// Digests of the configurations of the images that are mounted in it.
    #[serde(default)]
    pub mounted_images: Vec<String>,
}

/// Who a process runs as: the part of `process.json` that is shown, and small enough to be kept.
#[derive(Debug, Deserialize)]
pub struct User {
    /// Its user.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// Its other groups.
    pub groups: Vec<u32>,
}

/// `process.json`: the identity that execs get too.
const PROCESS: &str = "process.json";

impl Record {
    /// Whether it could not be without this image.
    pub fn uses_image(&self, id: &str) -> bool {
        self.image_id == id || self.mounted_images.iter().any(|it| it == id)
    }

    /// Writes it.
    pub fn save(&self, core: &Core) -> Result<()> {
        let dir = core.container_dir(&self.id);
        core.caches
            .containers
            .write(&dir, "container.json", self)
            .during(|| format!("write the record of container {} in {}", self.id, dir.display()))
    }

    /// Writes down the identity of its process.
    pub fn save_process(&self, core: &Core, process: &ProcessSpec) -> Result<()> {
        let dir = core.container_dir(&self.id);
        write_json(&dir, PROCESS, process, Durability::Volatile)
            .during(|| format!("write the record of container {} in {}", self.id, dir.display()))
    }

    /// Who its process runs as, which never changes.
    pub fn user(&self, core: &Core) -> Result<Arc<User>> {
        let path = core.container_dir(&self.id).join(PROCESS);
        let missing = || Error::NotFound { what: "container", id: self.id.clone() };
        core.caches.users.read(&path).during(|| format!("read {}", path.display()))?.ok_or_else(missing)
    }

    /// The identity of its process.
    pub fn process(&self, core: &Core) -> Result<ProcessSpec> {
        let path = core.container_dir(&self.id).join(PROCESS);
        let missing = || Error::NotFound { what: "container", id: self.id.clone() };
        read_json(&path).during(|| format!("read {}", path.display()))?.ok_or_else(missing)
    }
}

impl Stored for Record {
    const WHAT: &'static str = "container";
    const FIELD: &'static str = "container_id";
    const DIR: &'static str = "containers";
    const FILE: &'static str = "container.json";

    fn cache(core: &Core) -> &Cache<Self> {
        &core.caches.containers
    }

    fn id(&self) -> &str {
        &self.id
    }

    fn owner(&self) -> &Owner {
        &self.owner
    }
}

/// Every container of a sandbox.
pub fn of_sandbox(core: &Core, sandbox: &str) -> Result<Vec<Arc<Record>>> {
    select(core, |it: &Record| it.sandbox == sandbox)
}
