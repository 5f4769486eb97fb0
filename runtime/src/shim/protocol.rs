//! What the runtime and a shim say to each other: one JSON message a packet, descriptors beside it.
//!
//! A connection carries requests in turn, each answered by one [`Response`]; after [`Request::Watch`] it carries
//! [`Event`]s, and after [`Request::Exec`] the exec's [`Event::ExecExited`]. Closing an exec's connection kills it.

use serde::{Deserialize, Serialize};

use crate::launch::LaunchFailure;

/// The version of this protocol. A shim outlives the binary that started it: what a newer one says to it has to be
/// understood, so fields are added and never changed.
pub const VERSION: u32 = 1;

/// What a new shim is told. Descriptors: the directory of cgroup v2 that it is born in, this (a sealed file), the
/// listening socket, the cgroups, the user namespace.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Config {
    /// The version that the runtime speaks.
    pub version: u32,
    /// NAMESPACE/NAME, for `ps`.
    pub pod: String,
    /// A network namespace of its own.
    pub net: bool,
    /// An IPC namespace of its own, with a /dev/shm of this many bytes.
    pub ipc: Option<u64>,
    /// A host name of its own: a UTS namespace.
    pub hostname: Option<String>,
    /// A pid namespace that the pod's containers share.
    pub pid: bool,
    /// Sysctls, by name.
    pub sysctls: Vec<(String, String)>,
    /// The shim's cgroup, and the one of the pod's init. Positions are those after the socket.
    pub cgroups: Vec<CgroupFds>,
    /// The user namespace that owns the others.
    #[serde(default)]
    pub user: Option<UserFd>,
}

/// A user namespace, made and mapped.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct UserFd {
    /// Position of its descriptor, after the socket.
    pub fd: usize,
    /// The user of the host that is root in it.
    pub uid: u32,
    /// The group likewise.
    pub gid: u32,
}

/// A request.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Request {
    /// Is the sandbox up? Answered by [`Response::Sandbox`], with the namespaces' descriptors in the order net, ipc, uts.
    Hello,
    /// Makes a container, up to the gate before exec. Answered by [`Response::Created`].
    Create(Create),
    /// Lets a created container run. Answered by [`Response::Started`] when exec has succeeded.
    Start {
        /// The container.
        id: String,
    },
    /// Sends a signal to a container's first process. Answered by [`Response::Done`]; one that has ended is success.
    Signal {
        /// The container.
        id: String,
        /// The signal's number.
        signal: i32,
    },
    /// Kills everything in a container. Answered by [`Response::Done`] at once.
    Kill {
        /// The container.
        id: String,
    },
    /// Forgets a container, killing it first. Answered by [`Response::Done`] when nothing of it is left.
    Remove {
        /// The container.
        id: String,
    },
    /// Runs a process in a running container. Answered by [`Response::Exec`] with the parent's ends of its streams.
    Exec(Exec),
    /// Joins a container's streams. Answered by [`Response::Attached`]; what the container writes from then on comes out
    /// of the descriptors, and [`Event::AttachEnded`] out of the connection. Closing the connection ends it.
    Attach(Attach),
    /// From an attached connection: its standard input is over. Not answered.
    CloseStdin,
    /// Closes a container's log and goes on in the file that comes along. Answered by [`Response::Done`].
    Reopen {
        /// The container.
        id: String,
    },
    /// From now on this connection carries events. Answered by [`Response::Done`].
    Watch,
    /// Kills everything and ends the shim. Answered by [`Response::Done`] when no process is left.
    Shutdown,
}

/// A container to make. Positions are those of the message's descriptors.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Create {
    /// The container.
    pub id: String,
    /// The sealed specification.
    pub spec: usize,
    /// The directory of its records.
    pub state_dir: usize,
    /// The log file, open for appending.
    pub log: Option<usize>,
    /// When the log goes on in a new file.
    #[serde(default)]
    pub rotation: Option<LogRotation>,
    /// Its cgroups.
    pub cgroup: CgroupFds,
    /// Keep a pipe to its standard input.
    pub stdin: bool,
    /// It has a terminal instead of pipes.
    pub tty: bool,
}

/// When a log goes on in a new file.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LogRotation {
    /// The directory of the log.
    pub dir: usize,
    /// The log's name in it.
    pub name: String,
    /// Bytes that a file may have.
    pub max_size: u64,
    /// How many files are kept, the one being written included.
    pub max_files: u32,
}

/// A container's cgroup: what [`Cgroup::from_parts`](crate::cgroup::Cgroup::from_parts) needs.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CgroupFds {
    /// Its path below every hierarchy's root.
    pub path: String,
    /// What the descriptors are.
    pub parts: Vec<crate::cgroup::Part>,
    /// Position of the first one.
    pub first: usize,
}

impl CgroupFds {
    /// Takes its descriptors out of those of a message.
    pub fn take(self, fds: &mut [Option<std::os::fd::OwnedFd>]) -> std::io::Result<crate::cgroup::Cgroup> {
        let missing = || std::io::Error::new(std::io::ErrorKind::InvalidInput, "a descriptor was not passed along");
        let mut take = |index: usize| fds.get_mut(index).and_then(Option::take).ok_or_else(missing);
        let dirs = (self.first..self.first + self.parts.len()).map(&mut take).collect::<std::io::Result<_>>()?;
        crate::cgroup::Cgroup::from_parts(self.path, self.parts, dirs).map_err(std::io::Error::other)
    }
}

/// A process to run in a container.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Exec {
    /// The container.
    pub id: String,
    /// The sealed specification.
    pub spec: usize,
    /// A pipe to its standard input.
    pub stdin: bool,
    /// It has a terminal instead of pipes.
    pub tty: bool,
}

/// A container to attach to, and to what of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Attach {
    /// The container.
    pub id: String,
    /// Its standard input, if it has one.
    pub stdin: bool,
    /// Its standard output, or its terminal's.
    pub stdout: bool,
    /// Its standard error, if it has no terminal.
    pub stderr: bool,
    /// Its standard input ends with that of the first who is attached to it.
    pub stdin_once: bool,
}

/// What a descriptor of [`Response::Attached`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AttachedTo {
    /// A pipe to its standard input.
    Stdin,
    /// A pipe from its standard output, or its terminal's.
    Stdout,
    /// A pipe from its standard error.
    Stderr,
    /// Its terminal's master, to write to and to resize.
    Terminal,
}

/// An answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Response {
    /// To [`Request::Hello`].
    Sandbox {
        /// The shim's version of the protocol.
        version: u32,
        /// Process id of the pod's init, where there is one.
        init: Option<i32>,
    },
    /// To [`Request::Create`].
    Created {
        /// The first process.
        pid: i32,
    },
    /// To [`Request::Start`].
    Started,
    /// To [`Request::Exec`]; the descriptors are stdin (when asked for), stdout, stderr; or the terminal's master.
    Exec,
    /// To [`Request::Attach`]: what the descriptors are.
    Attached(Vec<AttachedTo>),
    /// It is done.
    Done,
    /// The container is not known, or not in a state for this.
    Refused(String),
    /// A process could not be started.
    Failed(LaunchFailure),
}

/// What happens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// A container's first process has ended, its cgroup is empty and its record written.
    Exited {
        /// The container.
        id: String,
    },
    /// This connection's exec has ended.
    ExecExited {
        /// Its exit code; 128 and the signal's number when it was killed.
        code: i32,
    },
    /// This attached connection gets no more.
    AttachEnded {
        /// Because it did not take what the container wrote; else because that ended.
        too_slow: bool,
    },
    /// The standard input that this connection is attached to has ended.
    StdinClosed,
}

/// `status.json` in a container's directory: written by its shim at each change, or by the runtime for a shim that died.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Version of this record.
    pub version: u32,
    /// Where it stands.
    pub state: State,
    /// The first process.
    pub pid: i32,
    /// Its start time in clock ticks since boot (proc(5), field 22): with the id, which process it is.
    pub start_ticks: u64,
    /// When it was started, in nanoseconds since 1970; 0 before.
    pub started_at: i64,
    /// When it ended, likewise.
    pub finished_at: i64,
    /// Its exit code; 128 and the signal's number when it was killed.
    pub exit_code: i32,
    /// Processes of it that the kernel killed for want of memory.
    pub oom_kills: u64,
    /// Why it could not be started.
    pub failure: Option<LaunchFailure>,
    /// Log lines that could not be written.
    pub lost_log_lines: u64,
    /// Written by the runtime, for a shim that died: nobody knows how it ended.
    #[serde(default)]
    pub unknown: bool,
}

/// States of a container, as its shim knows them.
///
/// ```text
///  Created ──start──> Running ──exit──> Exited
///     └──────────kill, exec failed─────────^
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum State {
    /// At the gate.
    Created,
    /// It runs.
    Running,
    /// It has ended.
    Exited,
}
