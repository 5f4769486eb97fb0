//! `/dev` of a container: nodes by mknod on its own tmpfs, and the links that programs expect.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Gid, Mode, Uid, chownat, makedev, mknodat, symlinkat};
use rustix::io::Errno;

use super::error::{During as _, Result, refused};
use super::spec::{ContainerSpec, DeviceNode, MountSource, MountSpec};
use super::{confined, mounts};
use crate::userns::IdMap;

const LINKS: [(&str, &str); 5] = [
    ("/proc/self/fd", "fd"),
    ("/proc/self/fd/0", "stdin"),
    ("/proc/self/fd/1", "stdout"),
    ("/proc/self/fd/2", "stderr"),
    ("pts/ptmx", "ptmx"),
];

/// Where devices are.
const DEV: &str = "/dev";

/// Whether a mount is the tmpfs that the nodes belong in. A client may mount its own `/dev`, which is left as it is.
pub fn belongs_in(mount: &MountSpec) -> bool {
    mount.target == DEV && matches!(mount.source, MountSource::Tmpfs { .. })
}

/// Makes the nodes and the links. Called when `/dev` is the container's own tmpfs.
pub fn make(root: BorrowedFd<'_>, nodes: &[DeviceNode]) -> Result<()> {
    for node in nodes {
        make_node(root, &node.path, node, None)?;
    }
    let dev = confined::make_directory(root, DEV).during(|| "open /dev".into())?;
    make_links(dev.as_fd(), None)
}

/// Makes a whole `/dev`, detached, for a container in a user namespace, in which no node can be made and none could be
/// opened on a filesystem of its own. It is the host's, so that its nodes work, and belongs to the container's root.
pub fn prepare(container: &ContainerSpec, map: &IdMap) -> Result<Option<OwnedFd>> {
    let Some(mount) = container.mounts.iter().find(|it| belongs_in(it)) else { return Ok(None) };
    let MountSource::Tmpfs { size, mode, noexec, nodev } = &mount.source else { return Ok(None) };
    let (uid, gid) = map.root().map_err(|error| refused(error.to_string()))?;
    let (user, group) = (uid.to_string(), gid.to_string());
    let mut options = vec![("mode", mode.as_str()), ("uid", &user), ("gid", &group)];
    options.extend(size.as_deref().map(|it| ("size", it)));
    let dev = mounts::filesystem("tmpfs", &options, mounts::tmpfs_attributes(*noexec, *nodev))?;
    let owner = (Uid::from_raw(uid), Gid::from_raw(gid));
    for node in &container.devices {
        let below = node.path.strip_prefix(DEV).filter(|it| it.starts_with('/'));
        let why = || refused(format!("in a user namespace a device has to be below /dev, not at {}", node.path));
        make_node(dev.as_fd(), below.ok_or_else(why)?, node, Some(owner))?;
    }
    make_links(dev.as_fd(), Some(owner))?;
    Ok(Some(dev))
}

fn make_links(dev: BorrowedFd<'_>, owner: Option<(Uid, Gid)>) -> Result<()> {
    for (target, name) in LINKS {
        match symlinkat(target, dev, name) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error).during(|| format!("link /dev/{name}")),
        }
        if let Some((uid, gid)) = owner {
            chownat(dev, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
                .during(|| format!("give /dev/{name} its owner"))?;
        }
    }
    Ok(())
}

/// Makes a node at `path` in `root`. `root_inside` is who is root in the container's user namespace: a node that is open
/// to everybody becomes theirs. Any other keeps its owner of the host, or the container's root would have what only the
/// host's may have.
fn make_node(root: BorrowedFd<'_>, path: &str, node: &DeviceNode, root_inside: Option<(Uid, Gid)>) -> Result<()> {
    let (parent, name) = confined::split(path).ok_or_else(|| refused(format!("{path:?} is no path of a device")))?;
    let parent = confined::make_directory(root, &parent).during(|| format!("make the directory of {path}"))?;
    let kind = if node.kind == 'b' { FileType::BlockDevice } else { FileType::CharacterDevice };
    let mode = Mode::from_raw_mode(node.mode);
    mknodat(parent.as_fd(), name, kind, mode, makedev(node.major, node.minor))
        .during(|| format!("make the device {path}"))?;
    let made = confined::open(parent.as_fd(), name, rustix::fs::OFlags::PATH | rustix::fs::OFlags::NOFOLLOW)
        .during(|| format!("open the device {path}"))?;
    let (uid, gid) = root_inside
        .filter(|_| open_to_all(node.mode))
        .unwrap_or_else(|| (Uid::from_raw(node.uid), Gid::from_raw(node.gid)));
    chownat(made.as_fd(), "", Some(uid), Some(gid), AtFlags::EMPTY_PATH)
        .during(|| format!("give the device {path} its owner"))?;
    // The creation mask took bits away; an O_PATH descriptor cannot be chmodded, its name in our own tmpfs can.
    rustix::fs::chmodat(parent.as_fd(), name, mode, AtFlags::empty())
        .during(|| format!("give the device {path} its mode"))
}

/// Everybody may read and write it.
pub fn open_to_all(mode: u32) -> bool {
    mode & 0o006 == 0o006
}
