//! Pods that are connected by others: the plug-ins of the Container Network Interface, when a directory of their
//! configuration is named.
//!
//! ```text
//!  claim    the first valid configuration, whole, and who the pod is  -> ROOT/network/cni/<sandbox>/attachment.json
//!  connect  ADD each plug-in in order; the last result                -> the same file, and the sandbox's record
//!  detach   DEL in reverse order, with what is in that file; then it goes
//! ```
//!
//! The file is there from before the first plug-in is started until after the last one has let go, and on the disk: so
//! what a killed process or a reboot has left is told to the plug-ins all the same ([`sweep`]), and nothing but the file is
//! needed for it, neither the flags nor the directory. A plug-in runs in a cgroup of its own: what outlives the process that
//! started it is ended before anybody is asked to undo what it does.

mod attach;
mod cache;
mod capabilities;
mod chain;
mod config;
mod error;
mod exec;
mod plugin;
mod ready;
mod request;
mod result;
mod sweep;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

pub use attach::{claim, connect, detach};
pub use error::{Error, NOT_READY};
pub use ready::{Survey, ready, survey};
pub use sweep::{check_all, collect, sweep, sweep_beside};

use crate::sandbox::Dns;

/// The interface in the pod.
const INTERFACE: &str = "eth0";

/// Where plug-ins are by custom, and where Debian puts them.
pub const BIN_DIRS: [&str; 2] = ["/opt/cni/bin", "/usr/lib/cni"];

/// Where configurations are by custom.
pub const CONF_DIR: &str = "/etc/cni/net.d";

/// How long a plug-in may take.
const TIME_LIMIT: Duration = Duration::from_secs(60);

/// What an operator may say about CNI.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// The directory of configurations. None: pods have Coracle's own network.
    pub conf_dir: Option<PathBuf>,
    /// The directories of plug-ins.
    pub bin_dirs: Vec<PathBuf>,
    /// How long one of them may take.
    pub time_limit: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self { conf_dir: None, bin_dirs: BIN_DIRS.map(PathBuf::from).to_vec(), time_limit: TIME_LIMIT }
    }
}

/// How a pod was connected, in its sandbox's record.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connection {
    /// The network's name.
    pub network: String,
    /// The pod's addresses, IPv4 first; none before it is connected.
    pub addresses: Vec<IpAddr>,
    /// What the plug-ins say of name servers.
    pub dns: Option<Dns>,
}

/// What this process remembers of it.
#[derive(Default)]
pub struct Memory {
    /// What was said of unusable configurations: once is enough.
    told: Mutex<Vec<String>>,
    /// The versions that programs speak, by what they looked like.
    versions: Mutex<BTreeMap<plugin::Stamp, Option<Vec<String>>>>,
    /// When what others left was looked for last.
    swept: Mutex<Option<Instant>>,
}
