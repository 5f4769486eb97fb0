//! What workers tell about their pods' lives, for whoever watches.

use std::path::PathBuf;
use std::time::Duration;

use super::config::names::PodKey;
use super::phase::Phase;
use super::view::Exit;

/// One thing that happened to a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// The pod.
    pub pod: PodKey,
    /// What.
    pub event: Event,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The pod, which says that it listens, has a network of its own.
    Reachable {
        /// Its addresses.
        ips: Vec<String>,
        /// The host's ports that lead to it: `8080`, `127.0.0.1:53/udp`.
        host_ports: Vec<String>,
    },
    /// A container's process runs; its log is at `log`.
    Started {
        /// Its name.
        container: String,
        /// Its restart count.
        attempt: u32,
        /// Its log file.
        log: PathBuf,
    },
    /// A container has ended.
    Exited {
        /// Its name.
        container: String,
        /// Its restart count.
        attempt: u32,
        /// How.
        exit: Exit,
        /// Its limit of memory in bytes, for the one that ran into it.
        memory_limit: Option<i64>,
    },
    /// A container will be tried again after `delay`.
    Waiting {
        /// Its name.
        container: String,
        /// kubelet's word.
        reason: String,
        /// When.
        delay: Duration,
    },
    /// Something could not be done; it is tried again unless `fatal`.
    Failed {
        /// The container, or the pod as a whole.
        container: Option<String>,
        /// kubelet's word.
        reason: String,
        /// Everything known.
        message: String,
        /// The pod ends because of it.
        fatal: bool,
    },
    /// Something was left out that the operator should know about.
    Warning(String),
    /// The sandbox died and is replaced.
    SandboxLost,
    /// Nothing of the pod runs any more, and nothing will.
    Ended(Phase),
}
