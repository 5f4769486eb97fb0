//! Containers: a root, a cgroup and a first process in a sandbox.

mod attach;
pub mod cdi;
mod compile;
mod create;
mod devices;
mod exec;
mod exec_sync;
mod lifecycle;
mod limits;
mod mounts;
mod record;
mod request;
mod status;
mod usage;

pub use attach::{Attach, News, attach, require_alive};
pub use compile::has_apparmor;
pub use create::{create, find_image};
pub use exec::{Exec, Session, exec, require_running};
pub use exec_sync::exec_sync;
pub use lifecycle::{remove, reopen_log, settle_all, start, stop};
pub use limits::update;
pub use record::{Record, User, of_sandbox};
pub use request::{Device, ImageSource, LogLimits, Mount, Propagation, Request, Seccomp, Security};
pub use status::{Reason, View, view};
pub use usage::{Disk, DiskUsage, Survey};

use std::sync::Arc;

use crate::core::Core;
use crate::error::Result;
use crate::ids::Owner;
use crate::records;

/// The container `id`, of whatever owner.
pub fn load(core: &Core, id: &str) -> Result<Record> {
    records::load(core, id)
}

/// The container that `id` is the beginning of, if it is `owner`'s.
pub fn owned(core: &Core, owner: &Owner, id: &str) -> Result<Record> {
    records::owned(core, owner, id)
}

/// Every container of every owner.
pub fn all(core: &Core) -> Result<Vec<Arc<Record>>> {
    records::all(core)
}

/// Whether a container uses an image. When that cannot be told, it does.
pub fn uses_image(core: &Core, id: &str) -> bool {
    all(core).map_or(true, |all| all.iter().any(|record| record.uses_image(id)))
}
