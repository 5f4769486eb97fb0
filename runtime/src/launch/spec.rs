//! What a process of a container needs: data that the runtime compiles and the forked child carries out.
//!
//! A descriptor is named by its position among those that travel with the message ([`FdIndex`]).

use serde::{Deserialize, Serialize};

use super::text::Text;
use crate::userns::IdMap;

/// Position of a descriptor among those that were passed along.
pub type FdIndex = usize;

/// One process to start, in namespaces that are new, shared or joined.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LaunchSpec {
    /// Where it runs.
    pub place: Place,
    /// The program and its identity.
    pub process: ProcessSpec,
}

/// Where a process runs.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Place {
    /// A new container, with a root and mounts of its own.
    Container(Box<ContainerSpec>),
    /// Every namespace of a process that runs.
    Join,
}

/// Namespaces and filesystem of a new container.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ContainerSpec {
    /// Its pid namespace.
    pub pid: PidNamespace,
    /// The detached mount that becomes `/`.
    pub root: FdIndex,
    /// `/` is remounted read-only when all else is in place.
    pub readonly_root: bool,
    /// Mounts, in order.
    pub mounts: Vec<MountSpec>,
    /// Device nodes to make in `/dev`, beside the links that every container has.
    pub devices: Vec<DeviceNode>,
    /// Paths to hide: a directory under an empty read-only tmpfs, a file under /dev/null. Absent ones are skipped.
    pub masked_paths: Vec<String>,
    /// Paths to make read-only. Absent ones are skipped.
    pub readonly_paths: Vec<String>,
}

/// The pid namespace of a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PidNamespace {
    /// A new one: the process is PID 1.
    Container,
    /// The pod's, whose PID 1 is an init of the shim.
    Pod,
    /// The host's.
    Host,
    /// The one that a running process is in, by its pidfd.
    Target(FdIndex),
}

/// One mount, and where.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct MountSpec {
    /// Absolute path in the container. Missing parts are made: directories, or a file for a source that is one.
    pub target: String,
    /// What to mount.
    pub source: MountSource,
}

/// What to mount.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum MountSource {
    /// A mount tree that the runtime opened and detached.
    Tree {
        /// The detached tree.
        tree: FdIndex,
        /// Its root is a directory.
        directory: bool,
        /// Read-only.
        readonly: ReadOnly,
        /// Further flags of the mount itself.
        #[serde(default)]
        options: Vec<MountOption>,
    },
    /// procfs of the container's pid namespace.
    Proc,
    /// sysfs of the container's network namespace.
    Sysfs {
        /// Writable, for a privileged container.
        writable: bool,
    },
    /// An empty filesystem of its own.
    Tmpfs {
        /// Bytes, as tmpfs' `size` option has it.
        size: Option<String>,
        /// Octal mode of its root.
        mode: String,
        /// No set-user-ID, no execution (device nodes are allowed in /dev only).
        noexec: bool,
        /// Device nodes cannot be opened.
        nodev: bool,
    },
    /// The container's own pseudo-terminals.
    Devpts,
    /// POSIX message queues of the container's IPC namespace.
    Mqueue,
    /// The pod's /dev/shm.
    PodShm,
    /// The container's cgroups.
    Cgroup {
        /// cgroup v1 hierarchies: a directory name and the mount's options.
        v1: Vec<(String, String)>,
        /// The cgroup v2 hierarchy: a directory name, empty when it is all there is.
        v2: Option<String>,
        /// Writable, for a privileged container.
        writable: bool,
    },
}

/// How much of a tree is read-only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReadOnly {
    /// Nothing.
    No,
    /// The mount itself.
    Mount,
    /// The mount and all below it.
    Recursive,
}

/// A flag of a mount that a client may ask for by its name in mount(8).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MountOption {
    /// Programs on it cannot be executed.
    Noexec,
    /// Device nodes on it cannot be opened.
    Nodev,
    /// Set-user-ID and file capabilities on it mean nothing.
    Nosuid,
}

impl MountOption {
    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Noexec => "noexec",
            Self::Nodev => "nodev",
            Self::Nosuid => "nosuid",
        }
    }
}

/// A device node below `/dev`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceNode {
    /// Absolute path in the container.
    pub path: String,
    /// `c` or `b`.
    pub kind: char,
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// A program and the identity that it gets.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ProcessSpec {
    /// The program (looked up in `PATH` when it has no slash) and its arguments.
    pub args: Vec<String>,
    /// `NAME=value`.
    pub env: Vec<Text>,
    /// Working directory, absolute. A missing one is made in a new container.
    pub cwd: String,
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
    /// File mode creation mask.
    pub umask: u32,
    /// Capability sets, as bits.
    pub capabilities: Capabilities,
    /// PR_SET_NO_NEW_PRIVS.
    pub no_new_privileges: bool,
    /// The seccomp filter, or none.
    pub seccomp: Option<crate::seccomp::Program>,
    /// An AppArmor profile to enter at exec.
    pub apparmor: Option<String>,
    /// Resource limits: number (RLIMIT_*), soft, hard.
    pub rlimits: Vec<(u32, u64, u64)>,
    /// oom_score_adj, already within what the runtime may set.
    pub oom_score_adj: Option<i32>,
    /// A terminal of its own.
    pub tty: bool,
    /// The mappings of the user namespace that it is in: the ids above are those of inside.
    #[serde(default)]
    pub user_namespace: Option<IdMap>,
}

/// Capability sets as bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capabilities {
    /// Bounding set.
    pub bounding: u64,
    /// Permitted and effective sets, before exec.
    pub permitted: u64,
    /// Inheritable set.
    pub inheritable: u64,
    /// Ambient set.
    pub ambient: u64,
}

/// Why a process could not be started: the step, what it was about, and the kernel's word.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaunchFailure {
    /// What was tried, as «mount /proc».
    pub operation: String,
    /// The error number; 0 when the message says all.
    pub errno: i32,
    /// 127, 126 or 128: what a shell would report.
    pub code: i32,
}

impl std::fmt::Display for LaunchFailure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.errno {
            0 => f.write_str(&self.operation),
            errno => write!(f, "{}: {}", self.operation, rustix::io::Errno::from_raw_os_error(errno)),
        }
    }
}
