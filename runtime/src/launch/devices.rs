//! `/dev` of a container: nodes by mknod on its own tmpfs, and the links that programs expect.

use std::os::fd::{AsFd as _, BorrowedFd};

use rustix::fs::{FileType, Gid, Mode, Uid, makedev, mknodat, symlinkat};
use rustix::io::Errno;

use super::confined;
use super::error::{During as _, Result, refused};
use super::spec::DeviceNode;

const LINKS: [(&str, &str); 5] = [
    ("/proc/self/fd", "fd"),
    ("/proc/self/fd/0", "stdin"),
    ("/proc/self/fd/1", "stdout"),
    ("/proc/self/fd/2", "stderr"),
    ("pts/ptmx", "ptmx"),
];

/// Makes the nodes and the links. Called when `/dev` is the container's own tmpfs.
pub fn make(root: BorrowedFd<'_>, nodes: &[DeviceNode]) -> Result<()> {
    for node in nodes {
        make_node(root, node)?;
    }
    let dev = confined::make_directory(root, "/dev").during(|| "open /dev".into())?;
    for (target, name) in LINKS {
        match symlinkat(target, dev.as_fd(), name) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error).during(|| format!("link /dev/{name}")),
        }
    }
    Ok(())
}

fn make_node(root: BorrowedFd<'_>, node: &DeviceNode) -> Result<()> {
    let path = &node.path;
    let (parent, name) = confined::split(path).ok_or_else(|| refused(format!("{path:?} is no path of a device")))?;
    let parent = confined::make_directory(root, &parent).during(|| format!("make the directory of {path}"))?;
    let kind = if node.kind == 'b' { FileType::BlockDevice } else { FileType::CharacterDevice };
    let mode = Mode::from_raw_mode(node.mode);
    mknodat(parent.as_fd(), name, kind, mode, makedev(node.major, node.minor))
        .during(|| format!("make the device {path}"))?;
    let made = confined::open(parent.as_fd(), name, rustix::fs::OFlags::PATH | rustix::fs::OFlags::NOFOLLOW)
        .during(|| format!("open the device {path}"))?;
    let (uid, gid) = (Uid::from_raw(node.uid), Gid::from_raw(node.gid));
    rustix::fs::chownat(made.as_fd(), "", Some(uid), Some(gid), rustix::fs::AtFlags::EMPTY_PATH)
        .during(|| format!("give the device {path} its owner"))?;
    // The creation mask took bits away; an O_PATH descriptor cannot be chmodded, its name in our own tmpfs can.
    rustix::fs::chmodat(parent.as_fd(), name, mode, rustix::fs::AtFlags::empty())
        .during(|| format!("give the device {path} its mode"))
}
