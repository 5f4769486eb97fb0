//! Pod sandboxes: a shim, the namespaces that its containers share, and a cgroup.

mod create;
pub mod files;
mod record;
mod remove;

pub use create::{CGROUP_PATIENCE, create, follow, hostname};
pub use record::{Amounts, Dns, NamespaceMode, Namespaces, Record, Request, amounts, update_amounts};
pub use remove::{bury, remove, stop};

use std::sync::Arc;

use crate::core::Core;
use crate::error::Result;
use crate::ids::Owner;
use crate::records;

/// The sandbox `id`, of whatever owner.
pub fn load(core: &Core, id: &str) -> Result<Record> {
    records::load(core, id)
}

/// The sandbox that `id` is the beginning of, if it is `owner`'s.
pub fn owned(core: &Core, owner: &Owner, id: &str) -> Result<Record> {
    records::owned(core, owner, id)
}

/// Every sandbox of every owner.
pub fn all(core: &Core) -> Result<Vec<Arc<Record>>> {
    records::all(core)
}
