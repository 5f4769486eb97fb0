//! What a container is asked to be, validated: the rim makes it from a CRI message.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::cgroup::Resources;
use crate::launch::{MountOption, Text};
use crate::sandbox::NamespaceMode;
use crate::userns::IdMap;

/// What a container is asked to be.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Request {
    /// Name; unique in its sandbox together with the attempt.
    pub name: String,
    /// How many containers of this name there were before.
    pub attempt: u32,
    /// Image, as the client gave it: a reference or an id.
    pub image: String,
    /// The image as the user wrote it, for showing.
    pub user_image: String,
    /// Replaces the image's entrypoint; and its arguments with it.
    pub command: Vec<String>,
    /// Replaces the image's arguments.
    pub args: Vec<String>,
    /// Working directory; empty is the image's.
    pub working_dir: String,
    /// Environment, over the image's: any bytes but NUL.
    pub env: Vec<(String, Text)>,
    /// Mounts.
    pub mounts: Vec<Mount>,
    /// Devices of the host.
    pub devices: Vec<Device>,
    /// Devices by the names that the host's CDI specifications give them.
    #[serde(default)]
    pub cdi_devices: Vec<String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    pub annotations: BTreeMap<String, String>,
    /// Log file, relative to the sandbox's log directory; empty keeps none.
    pub log_path: String,
    /// When the log goes on in a new file; never, where the client sees to that.
    #[serde(default)]
    pub log_limits: Option<LogLimits>,
    /// Standard input stays open.
    pub stdin: bool,
    /// It ends with that of the first who is attached to it.
    #[serde(default)]
    pub stdin_once: bool,
    /// It has a terminal.
    pub tty: bool,
    /// Limits.
    pub resources: Resources,
    /// How ready the kernel is to kill it, -1000 to 1000.
    pub oom_score_adj: i32,
    /// Identity and confinement.
    pub security: Security,
    /// Stop signal, over the image's.
    pub stop_signal: Option<i32>,
}

/// When a log goes on in a new file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLimits {
    /// Bytes that a file may have.
    pub max_size: u64,
    /// How many files are kept, the one being written included.
    pub max_files: u32,
}

/// Identity and confinement.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Security {
    /// Everything that the host has.
    pub privileged: bool,
    /// Capabilities to add.
    pub add: Vec<String>,
    /// Capabilities to drop.
    pub drop: Vec<String>,
    /// Capabilities to keep over exec for a user that is not root.
    pub ambient: Vec<String>,
    /// User by number.
    pub user: Option<u32>,
    /// User by name.
    pub username: String,
    /// Group by number.
    pub group: Option<u32>,
    /// Supplementary groups.
    pub groups: Vec<u32>,
    /// The groups that the image gives the user are left out.
    pub strict_groups: bool,
    /// The root is read-only.
    pub readonly_root: bool,
    /// PR_SET_NO_NEW_PRIVS.
    pub no_new_privileges: bool,
    /// Paths to hide.
    pub masked_paths: Vec<String>,
    /// Paths to make read-only.
    pub readonly_paths: Vec<String>,
    /// System call filter.
    pub seccomp: Seccomp,
    /// AppArmor profile; none is the kernel's choice.
    pub apparmor: Option<String>,
    /// The runtime's own AppArmor profile was asked for.
    #[serde(default)]
    pub apparmor_default: bool,
    /// Its pid namespace.
    pub pid: NamespaceMode,
    /// The user namespace that it expects to be in: the pod's. One without mappings is one that the runtime chose.
    #[serde(default)]
    pub user_namespace: Option<IdMap>,
    /// The container whose pid namespace it joins instead.
    pub pid_target: Option<String>,
}

/// System call filter.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Seccomp {
    /// None.
    #[default]
    Unconfined,
    /// The runtime's own.
    RuntimeDefault,
    /// A profile in a file of the host.
    Localhost(String),
}

/// A mount.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// Path in the container.
    pub target: String,
    /// Path on the host; empty for an image.
    pub source: String,
    /// What is mounted is the root of this image.
    #[serde(default)]
    pub image: Option<ImageSource>,
    /// Read-only.
    pub readonly: bool,
    /// Read-only with everything below.
    pub recursive_readonly: bool,
    /// Whether later mounts are seen across.
    pub propagation: Propagation,
    /// How its ids are mapped; none leaves them.
    #[serde(default)]
    pub map: Option<IdMap>,
    /// The client wants it to be labelled for SELinux.
    #[serde(default)]
    pub selinux_relabel: bool,
    /// Flags of the mount beside these.
    #[serde(default)]
    pub options: Vec<MountOption>,
}

/// An image as the source of a mount.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageSource {
    /// Image, as the client gave it: a reference or an id.
    pub image: String,
    /// The part of it to mount; empty is all.
    pub sub_path: String,
}

/// Whether mounts made later on one side are seen on the other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Propagation {
    /// No.
    #[default]
    Private,
    /// The container sees the host's.
    HostToContainer,
    /// Both see each other's.
    Bidirectional,
}

/// A device of the host, or a directory of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// Path in the container.
    pub target: String,
    /// Path on the host.
    pub source: String,
    /// Letters of `rwm`.
    pub permissions: String,
}
