//! `/sys/fs/cgroup` of a container, after it has entered its cgroup namespace: its own cgroup is each hierarchy's root.

use std::os::fd::{AsFd as _, BorrowedFd};

use rustix::mount::MountAttrFlags;

use super::error::Result;
use super::mounts;

/// Mounts the hierarchies. On a host with cgroup v2 alone `v2` is empty and is mounted at `target` itself; else each
/// hierarchy has a directory of its own on a tmpfs.
pub fn mount(
    root: BorrowedFd<'_>,
    target: &str,
    v1: &[(String, String)],
    v2: Option<&str>,
    writable: bool,
) -> Result<()> {
    let mut attributes = mounts::hardened();
    attributes.set(MountAttrFlags::MOUNT_ATTR_RDONLY, !writable);
    if let (Some(""), []) = (v2, v1) {
        let tree = mounts::filesystem("cgroup2", &[], attributes)?;
        return mounts::attach(root, tree.as_fd(), target, true);
    }
    let base = mounts::filesystem("tmpfs", &[("mode", "0755"), ("size", "64k")], mounts::hardened())?;
    mounts::attach(root, base.as_fd(), target, true)?;
    for (name, options) in v1 {
        let options: Vec<(&str, &str)> =
            options.split(',').map(|option| option.split_once('=').unwrap_or((option, ""))).collect();
        let tree = mounts::cgroup_v1(&options, attributes)?;
        mounts::attach(root, tree.as_fd(), &format!("{target}/{name}"), true)?;
    }
    if let Some(name) = v2 {
        let tree = mounts::filesystem("cgroup2", &[], attributes)?;
        mounts::attach(root, tree.as_fd(), &format!("{target}/{name}"), true)?;
    }
    mounts::make_readonly(root, &[target.to_owned()])
}
