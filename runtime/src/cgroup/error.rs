//! What can go wrong with cgroups.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use super::Controller;

/// Why a cgroup operation failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No cgroup file system is mounted.
    #[error("no cgroup hierarchy is mounted: mount cgroup2 on /sys/fs/cgroup")]
    NoHierarchy,
    /// A path that is not plain components.
    #[error("cgroup path {0:?} is not relative components without \".\", \"..\" or control characters")]
    Path(String),
    /// An attempt to remove what is not ours.
    #[error("cgroup {path:?} is not below {prefix:?}: it is not removed")]
    Foreign {
        /// What was to be removed.
        path: String,
        /// What we own.
        prefix: String,
    },
    /// A file could not be read, written or opened.
    #[error("{op} {path}")]
    Io {
        /// What was done, and with which value.
        op: String,
        /// The directory or file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// A file had unexpected contents.
    #[error("{path} holds {text:?}, which is not {expected}")]
    Contents {
        /// The file.
        path: PathBuf,
        /// What it held.
        text: String,
        /// What it should hold.
        expected: &'static str,
    },
    /// A limit was asked for and nothing enforces it.
    #[error("{setting} cannot be enforced: the {controller} controller is {why}")]
    NoController {
        /// What was asked for.
        setting: String,
        /// What would enforce it.
        controller: Controller,
        /// Why it does not.
        why: String,
    },
    /// A value that no kernel accepts.
    #[error("{setting} {value:?} is not {expected}")]
    Value {
        /// What was asked for.
        setting: String,
        /// As it was asked.
        value: String,
        /// What would be accepted.
        expected: &'static str,
    },
    /// A deadline passed.
    #[error("{op} {path}: not done after {waited:?}; processes left: {pids:?}")]
    Timeout {
        /// What was waited for.
        op: &'static str,
        /// The cgroup.
        path: String,
        /// How long.
        waited: Duration,
        /// Who is still there.
        pids: Vec<i32>,
    },
    /// Something on this host cannot do it at all.
    #[error("{op} {path}: {why}")]
    Unsupported {
        /// What was to be done.
        op: &'static str,
        /// The cgroup.
        path: String,
        /// Why not, and what to do.
        why: &'static str,
    },
    /// The device program did not load or attach.
    #[error("{op} the device program of cgroup {path}")]
    DeviceProgram {
        /// Load, attach or query.
        op: &'static str,
        /// The cgroup.
        path: String,
        /// The cause.
        source: io::Error,
    },
}

impl Error {
    /// Whether it is what was asked for that cannot be, and not the asking that failed.
    pub fn is_refusal(&self) -> bool {
        match self {
            Error::Path(_) | Error::NoController { .. } | Error::Value { .. } => true,
            // What the kernel does not take as a value.
            Error::Io { op, .. } if op.starts_with("write ") => {
                matches!(self.errno(), Some(libc::EINVAL | libc::ERANGE | libc::ENODEV | libc::EOPNOTSUPP))
            }
            _ => false,
        }
    }

    /// The error number behind it, if a system call failed.
    pub fn errno(&self) -> Option<i32> {
        match self {
            Error::Io { source, .. } | Error::DeviceProgram { source, .. } => source.raw_os_error(),
            _ => None,
        }
    }
}
