//! What workers tell about their pods' lives, for whoever watches.

use std::path::PathBuf;
use std::time::Duration;

use super::config::names::PodKey;
use super::lifecycle::Hook;
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

/// How the pull of an image goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pull {
    /// It is asked for.
    Begun {
        /// The name in the manifest.
        image: String,
    },
    /// It takes long.
    Going {
        /// The name in the manifest.
        image: String,
        /// Bytes that are here.
        bytes: u64,
        /// Bytes in all, of the layers that are fetched.
        total: u64,
    },
    /// A retry, a mirror that failed.
    Note(String),
    /// It is here.
    Done {
        /// The name in the manifest.
        image: String,
        /// Bytes that came.
        bytes: u64,
        /// Bytes that an earlier attempt had brought.
        resumed: u64,
        /// From the request to the end.
        took: Duration,
    },
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
    /// A container's image is pulled.
    Pull {
        /// The container.
        container: String,
        /// How it goes.
        pull: Pull,
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
    /// The pod waits for others before it begins.
    Held {
        /// `WaitingForLinks` …
        reason: String,
        /// For what.
        message: String,
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
    /// A probe began to fail, failed often enough to count, or cannot be judged: told once for each.
    Unhealthy {
        /// The container.
        container: String,
        /// Which probe, and how.
        message: String,
    },
    /// A probe passed, but not as it should have.
    ProbeWarning {
        /// The container.
        container: String,
        /// Which probe, and what is wrong.
        message: String,
    },
    /// A hook did not do what it shall.
    HookFailed {
        /// The container.
        container: String,
        /// Which hook.
        hook: Hook,
        /// Everything known.
        message: String,
    },
    /// A container is being stopped.
    Killing {
        /// The container.
        container: String,
        /// Why, in kubelet's words.
        message: String,
    },
    /// The pod is being given other resources, has them now, or cannot be given them.
    Resize {
        /// `ResizeStarted`, `ResizeCompleted`, `ResizeError`, `ResizeDeferred`, `ResizeInfeasible`.
        reason: String,
        /// What it shall have, and what speaks against it.
        message: String,
        /// Something speaks against it.
        bad: bool,
    },
    /// The pod's containers begin again, all together, for a rule of this container or its new definition.
    BeginsAgain {
        /// The container.
        because: String,
    },
    /// The node has ended the pod.
    Evicted {
        /// `Evicted`, `DeadlineExceeded` …
        reason: String,
        /// The whole story.
        message: String,
    },
    /// Something was left out that the operator should know about.
    Warning(String),
    /// The sandbox died and is replaced.
    SandboxLost,
    /// Nothing of the pod runs any more, and nothing will.
    Ended(Phase),
}
