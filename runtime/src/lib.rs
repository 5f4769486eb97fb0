//! Coracle's container runtime as a library: sandboxes, containers and images, the shim that holds a pod's processes,
//! and the gRPC services at the rim.
//!
//! It knows no pod YAML and nothing of Kubernetes but the Container Runtime Interface.

pub mod capabilities;
pub mod cgroup;
mod collect;
mod container;
mod core;
mod cri;
pub mod devices;
mod error;
mod ids;
pub mod images;
mod launch;
pub mod logs;
pub mod mountinfo;
mod names;
pub mod network;
mod node;
pub mod probe;
mod records;
pub mod relay;
pub mod resolver;
mod rootfs;
mod runs;
mod runtime;
mod sandbox;
pub mod seccomp;
mod servers;
mod sessions;
mod shim;
pub mod store;
pub mod streaming;
mod sys;
pub mod tls;
mod undo;
mod userns;
mod users;
mod watch;
pub mod zygote;

pub use collect::CollectReport;
pub use container::{DiskUsage, Session, Survey as DiskSurvey, has_apparmor};
pub use core::Options;
pub use error::{Error, Kind};
pub use ids::{Owner, boot_id, new_id};
pub use runs::RunsHeld;
pub use runtime::Runtime;
pub use servers::Serving;
pub use sys::memory;
pub use sys::polled::{Polled, polled};
