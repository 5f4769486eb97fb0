//! Pod sandboxes: a shim, the namespaces that its containers share, and a cgroup.

mod create;
pub mod files;
mod record;
mod remove;

pub use create::{CGROUP_PATIENCE, create, follow};
pub use record::{Dns, NamespaceMode, Namespaces, Record, Request, all, load, owned};
pub use remove::{bury, remove, stop};
