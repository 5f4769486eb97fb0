//! Control groups, version 1, version 2, or both at once.
//!
//! [`Hierarchies`] are the cgroup mounts of the host. A [`Cgroup`] is one path in all of them, held open as directory
//! descriptors: every file is opened relative to them, and they can be sent to the shim ([`Cgroup::parts`],
//! [`Cgroup::from_parts`]), which needs no path and no mount.
//!
//! On a hybrid host every cgroup also exists in the version 2 hierarchy, whatever controllers that one has: there
//! `cgroup.kill` and `cgroup.freeze` cost one write. It comes first in every list, so that a process which is anywhere
//! in a cgroup of ours is there too.

mod device_program;
mod dir;
mod error;
mod hierarchies;
mod mounts;
mod remove;
mod resources;
mod signal;
mod snapshot;
mod stats;
#[cfg(test)]
mod tests;
mod v1;
mod v2;

pub use error::Error;
pub use hierarchies::{Hierarchies, Mode};
pub(crate) use mounts::unescape;
pub use mounts::{Controller, Mount, Version, parse_mountinfo};
pub use resources::{Access, DeviceKind, DeviceRule, HugepageLimit, Resources, Shortfall, shares_to_weight};
pub use snapshot::Snapshot;
pub use stats::{Cpu, Device as IoDevice, Hugepages, Memory, Pids, Pressure, Stall, Stats};

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};

use dir::Dir;

/// One cgroup, open in every hierarchy.
#[derive(Debug)]
pub struct Cgroup {
    path: String,
    dirs: Vec<Dir>,
}

/// What [`Cgroup::from_parts`] needs to know about one descriptor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    mount: Mount,
    /// The path in this hierarchy.
    path: String,
    /// Controllers that could not be enabled, with the reason.
    refused: Vec<(Controller, String)>,
}

impl Cgroup {
    /// The path below every hierarchy's root.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The opened `cgroup.procs` of every hierarchy. A process that writes "0" to each joins; close-on-exec.
    pub fn procs_fds(&self) -> Result<Vec<OwnedFd>, Error> {
        self.dirs.iter().map(|dir| dir.open("cgroup.procs", OFlags::WRONLY)).collect()
    }

    /// What a process joins it by without a wait: the `tasks` file of every version 1 hierarchy, close-on-exec, to which
    /// a process with one thread writes "0". Beside them [`Cgroup::unified_fd`] is for clone3(2).
    ///
    /// Every other way takes the kernel's lock on all thread groups, whose first taker after a quiet moment waits for
    /// an RCU grace period: 4 to 35 ms.
    pub fn tasks_fds(&self) -> Result<Vec<OwnedFd>, Error> {
        self.dirs.iter().filter(|dir| !dir.is_v2()).map(|dir| dir.open("tasks", OFlags::WRONLY)).collect()
    }

    /// The opened directory of every hierarchy.
    pub fn dir_fds(&self) -> Vec<BorrowedFd<'_>> {
        self.dirs.iter().map(|dir| dir.fd.as_fd()).collect()
    }

    /// The directory in the version 2 hierarchy, for CLONE_INTO_CGROUP and for watching `cgroup.events`.
    pub fn unified_fd(&self) -> Option<BorrowedFd<'_>> {
        self.unified().map(|dir| dir.fd.as_fd())
    }

    /// Whether cloning into [`Cgroup::unified_fd`] is all the attaching there is.
    pub fn is_unified_only(&self) -> bool {
        self.dirs.iter().all(|dir| dir.mount.version == Version::V2)
    }

    /// Moves a process, with all its threads, into it.
    pub fn attach(&self, pid: i32) -> Result<(), Error> {
        let pid = pid.to_string();
        self.dirs.iter().try_for_each(|dir| dir.write("cgroup.procs", &pid))
    }

    /// What describes the descriptors of [`Cgroup::dir_fds`], in their order.
    pub fn parts(&self) -> Vec<Part> {
        let part = |dir: &Dir| Part { mount: dir.mount.clone(), path: dir.path.clone(), refused: dir.refused.clone() };
        self.dirs.iter().map(part).collect()
    }

    /// A cgroup from its path, parts and descriptors, as another process sent them.
    pub fn from_parts(path: String, parts: Vec<Part>, fds: Vec<OwnedFd>) -> Result<Cgroup, Error> {
        if parts.len() != fds.len() || parts.is_empty() {
            let value = format!("{} parts, {} descriptors", parts.len(), fds.len());
            let setting = format!("cgroup {path}");
            return Err(Error::Value { setting, value, expected: "one descriptor for each part, and at least one" });
        }
        let dir = |(part, fd): (Part, OwnedFd)| Dir { fd, mount: part.mount, path: part.path, refused: part.refused };
        Ok(Cgroup { path, dirs: parts.into_iter().zip(fds).map(dir).collect() })
    }

    /// Another handle to the same cgroup.
    pub fn try_clone(&self) -> Result<Cgroup, Error> {
        let dirs = self.dirs.iter().map(Dir::try_clone).collect::<Result<_, _>>()?;
        Ok(Cgroup { path: self.path.clone(), dirs })
    }

    /// Controllers that should be here and could not be enabled, with the reason.
    pub fn refused(&self) -> Vec<(Controller, String)> {
        self.dirs.iter().flat_map(|dir| dir.refused.clone()).collect()
    }

    /// A leaf below it for an exec session, without controllers of its own: it exists in one hierarchy only (version 2,
    /// else the freezer), and in the others the session joins the container's cgroup. So the container's limits hold
    /// for it, and [`Cgroup::kill`] on the leaf ends the session alone.
    pub fn leaf(&self, name: &str) -> Result<Cgroup, Error> {
        let name = mounts::components(name)?;
        let mut leaf = self.try_clone()?;
        let index = self.leaf_index(name)?;
        let dir = &mut leaf.dirs[index];
        *dir = dir.create_child(name)?;
        leaf.path = format!("{}/{name}", self.path);
        Ok(leaf)
    }

    /// Removes a leaf that [`Cgroup::leaf`] made; one that is gone is fine. Its processes have been killed before.
    pub fn remove_leaf(&self, name: &str, deadline: std::time::Duration) -> Result<(), Error> {
        let name = mounts::components(name)?;
        remove::below(&self.dirs[self.leaf_index(name)?], name, deadline)
    }

    /// Removes such a leaf if nothing is in it; true when it is gone.
    pub fn remove_empty_leaf(&self, name: &str) -> Result<bool, Error> {
        let name = mounts::components(name)?;
        let parent = &self.dirs[self.leaf_index(name)?];
        remove::alone(parent, name)?;
        Ok(dir::absent(parent.open_child(name))?.is_none())
    }

    fn leaf_index(&self, name: &str) -> Result<usize, Error> {
        let has = |dir: &Dir| dir.mount.version == Version::V2 || dir.mount.has(Controller::Freezer);
        self.dirs.iter().position(has).ok_or_else(|| Error::Unsupported {
            op: "make a cgroup for an exec session below",
            path: format!("{}/{name}", self.path),
            why: "neither cgroup v2 nor the freezer controller is mounted",
        })
    }

    fn unified(&self) -> Option<&Dir> {
        self.dirs.iter().find(|dir| dir.mount.version == Version::V2)
    }

    fn with(&self, controller: Controller) -> Option<&Dir> {
        self.dirs.iter().find(|dir| dir.mount.has(controller) && !dir.refused.iter().any(|(c, _)| *c == controller))
    }
}
