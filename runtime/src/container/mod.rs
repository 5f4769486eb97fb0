//! Containers: a root, a cgroup and a first process in a sandbox.

mod compile;
mod create;
mod devices;
mod exec;
mod lifecycle;
mod mounts;
mod record;
mod request;
mod status;
mod usage;

pub use create::{create, find_image};
pub use exec::{Exec, Session, exec, exec_sync};
pub use lifecycle::{remove, reopen_log, settle_all, start, stop};
pub use record::{Record, all, load, of_sandbox, owned};
pub use request::{Device, Mount, Propagation, Request, Seccomp, Security};
pub use status::{Reason, View, view};
pub use usage::disk_usage;
