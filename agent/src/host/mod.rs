//! The engine's work on the host: a pod's directory, its volumes, and how all of it goes away again.
//!
//! ```text
//! <root>/pods/<uid>/
//!   volumes/kubernetes.io~empty-dir/NAME    also ~configmap, ~secret (tmpfs), ~downward-api, ~projected, as kubelet names them
//!   subpaths/CONTAINER/INDEX                a bind mount of what a subPath led to
//!   containers/CONTAINER/ATTEMPT            the termination message
//!   etc-hosts                               what the containers see as /etc/hosts
//! ```

pub mod atomic;
pub mod compat;
pub mod hosts;
pub mod mount;
pub mod node;
pub mod ownership;
pub mod qos;
pub mod remove;
pub mod subpath;
pub mod teardown;
pub mod termination;
pub mod volumes;

use std::io;
use std::path::{Path, PathBuf};

/// Why the host could not be made ready for a pod, or tidied after one.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// A file operation.
    #[error("cannot {operation} {}: {source}", path.display())]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// A hostPath that is not what its type says.
    #[error("hostPath type check failed: {} is not {expected}", path.display())]
    HostPathType {
        /// The path.
        path: PathBuf,
        /// What it should be.
        expected: &'static str,
    },
    /// A claim that asks for more than there is.
    #[error(
        "PersistentVolumeClaim {claim} asks for {asked} bytes, and the file system of {} has {free} left; free some, or \
         ask for less", path.display()
    )]
    ClaimSize {
        /// Its namespace and name.
        claim: String,
        /// Bytes.
        asked: i64,
        /// Bytes.
        free: i64,
        /// Where it would be.
        path: PathBuf,
    },
    /// A configuration that cannot be.
    #[error(transparent)]
    Config(#[from] crate::engine::config::ConfigError),
    /// A uid that is not a directory's name.
    #[error("pod uid {0:?} cannot be a directory's name")]
    Uid(String),
    /// A directory that cannot look like a kubelet's.
    #[error("--kubelet-compat-dir {}: {why}", dir.display())]
    Compat {
        /// Which.
        dir: PathBuf,
        /// What is the matter, and what to do.
        why: String,
    },
    /// A mount that cannot be undone; deleting below it could delete what is not the pod's.
    #[error("{} is still mounted, so {} stays", mount.display(), directory.display())]
    Mounted {
        /// The mount.
        mount: PathBuf,
        /// The directory that was to go.
        directory: PathBuf,
    },
}

/// Attaches an operation and a path to an error of the kernel's.
pub(crate) fn io_error<E: Into<io::Error>>(operation: &'static str, path: &Path) -> impl FnOnce(E) -> HostError {
    let path = path.to_owned();
    move |source| HostError::Io { operation, path, source: source.into() }
}

/// The directory of one pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodDir(PathBuf);

impl PodDir {
    /// The directory of the pod `uid` below the root directory. The uid has to be one plain name.
    pub fn new(root: &Path, uid: &str) -> Result<Self, HostError> {
        if uid.is_empty() || uid.starts_with('.') || uid.contains(['/', '\0']) {
            return Err(HostError::Uid(uid.to_owned()));
        }
        Ok(PodDir(root.join("pods").join(uid)))
    }

    /// The directory itself.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Where a volume of a kubelet plugin (`empty-dir`, `configmap`, `secret`) is.
    pub fn volume(&self, plugin: &str, name: &str) -> PathBuf {
        self.0.join("volumes").join(format!("kubernetes.io~{plugin}")).join(name)
    }

    /// Where a container's subPath is mounted.
    pub fn subpath(&self, container: &str, index: usize) -> PathBuf {
        self.0.join("subpaths").join(container).join(index.to_string())
    }

    /// The containers' /etc/hosts.
    pub fn hosts(&self) -> PathBuf {
        self.0.join("etc-hosts")
    }

    /// A container's termination message.
    pub fn termination(&self, container: &str, attempt: u32) -> PathBuf {
        self.0.join("containers").join(container).join(attempt.to_string())
    }

    /// Makes the directory, closed to everyone but root.
    pub fn create(&self) -> Result<(), HostError> {
        make_dir(&self.0, 0o750)
    }
}

/// Makes a directory and its parents; the mode counts whatever the umask is.
pub(crate) fn make_dir(path: &Path, mode: u32) -> Result<(), HostError> {
    use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
    std::fs::DirBuilder::new().recursive(true).mode(0o750).create(path).map_err(io_error("make directory", path))?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).map_err(io_error("set the mode of", path))
}
