//! Device files: what every container has in `/dev`, what it may open, and what of the host it is given.

use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::cgroup::{Access, DeviceKind, DeviceRule};
use crate::launch::DeviceNode;

/// A device file in a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// Absolute, in the container.
    pub path: PathBuf,
    /// Character or block.
    pub kind: DeviceKind,
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

/// Why a device of the host cannot be given to a container.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It could not be looked at.
    #[error("look at the device {path}")]
    Io {
        /// The path on the host.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// It is something else.
    #[error("{0} is neither a device file nor a directory with device files: mount it as a hostPath volume instead")]
    NotADevice(PathBuf),
    /// A path in the container that is no place for a device.
    #[error("the device path {0:?} in the container is not absolute, or has \"..\" in it")]
    Target(PathBuf),
}

/// Character devices that every container has: name in `/dev`, major, minor.
pub const DEFAULT_NODES: [(&str, u32, u32); 6] =
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];

/// The default nodes as devices, open to everybody as on any Linux system.
pub fn default_devices() -> impl Iterator<Item = Device> {
    DEFAULT_NODES.into_iter().map(|(name, major, minor)| Device {
        path: Path::new("/dev").join(name),
        kind: DeviceKind::Char,
        major,
        minor,
        mode: 0o666,
        uid: 0,
        gid: 0,
    })
}

/// What every container may do with devices: make any node (which without a rule of its own cannot be opened), use the
/// default nodes, its terminals and the console, and tunnels, which pods with NET_ADMIN expect to open when they mount
/// `/dev/net/tun`.
pub fn default_rules() -> Vec<DeviceRule> {
    let mknod = |kind| DeviceRule { kind, major: None, minor: None, access: Access::MKNOD };
    let mut rules = vec![mknod(DeviceKind::Char), mknod(DeviceKind::Block)];
    rules.extend(DEFAULT_NODES.iter().map(|(_, major, minor)| DeviceRule::char(*major, Some(*minor))));
    rules.push(DeviceRule::char(5, Some(1))); // console
    rules.push(DeviceRule::char(5, Some(2))); // ptmx
    rules.push(DeviceRule::char(136, None)); // pts
    rules.push(DeviceRule::char(10, Some(200))); // tun
    rules
}

impl Device {
    /// The rule that lets a container use it.
    pub fn rule(&self, access: Access) -> DeviceRule {
        DeviceRule { kind: self.kind, major: Some(self.major), minor: Some(self.minor), access }
    }

    /// The node as a container's child makes it.
    pub(crate) fn node(&self) -> DeviceNode {
        DeviceNode {
            path: self.path.to_string_lossy().into_owned(),
            kind: if self.kind == DeviceKind::Block { 'b' } else { 'c' },
            major: self.major,
            minor: self.minor,
            mode: self.mode,
            uid: self.uid,
            gid: self.gid,
        }
    }

    fn read(host: &Path, path: PathBuf) -> Result<Option<Device>, Error> {
        let metadata = std::fs::metadata(host).map_err(|source| Error::Io { path: host.to_owned(), source })?;
        let kind = match metadata.file_type() {
            kind if kind.is_char_device() => DeviceKind::Char,
            kind if kind.is_block_device() => DeviceKind::Block,
            _ => return Ok(None),
        };
        let number = metadata.rdev();
        Ok(Some(Device {
            path,
            kind,
            major: rustix::fs::major(number),
            minor: rustix::fs::minor(number),
            mode: metadata.mode() & 0o777,
            uid: metadata.uid(),
            gid: metadata.gid(),
        }))
    }
}

/// The device at a path of the host (links are followed), or all below it if it is a directory, as they are to appear
/// at `target` in the container.
pub fn from_host(host: &Path, target: &Path) -> Result<Vec<Device>, Error> {
    let plain = target.components().all(|part| !matches!(part, std::path::Component::ParentDir));
    if !target.is_absolute() || !plain {
        return Err(Error::Target(target.to_owned()));
    }
    if let Some(device) = Device::read(host, target.to_owned())? {
        return Ok(vec![device]);
    }
    let mut found = Vec::new();
    if host.is_dir() {
        walk(host, target, &mut found)?;
    }
    if found.is_empty() { Err(Error::NotADevice(host.to_owned())) } else { Ok(found) }
}

/// Every device of the host, for a privileged container; `dev` is `/dev`.
pub fn all_of_host(dev: &Path) -> Result<Vec<Device>, Error> {
    let mut found = Vec::new();
    walk(dev, Path::new("/dev"), &mut found)?;
    Ok(found)
}

/// Directories that have a mount of their own in a container, or belong to one.
const OWN_MOUNTS: [&str; 4] = ["pts", "shm", "mqueue", "fd"];

fn walk(host: &Path, target: &Path, found: &mut Vec<Device>) -> Result<(), Error> {
    let fail = |source| Error::Io { path: host.to_owned(), source };
    for entry in std::fs::read_dir(host).map_err(fail)? {
        let entry = entry.map_err(fail)?;
        let kind = entry.file_type().map_err(fail)?;
        let (from, to) = (entry.path(), target.join(entry.file_name()));
        if kind.is_dir() {
            if !OWN_MOUNTS.iter().any(|name| entry.file_name() == *name) {
                walk(&from, &to, found)?;
            }
        } else if kind.is_char_device() || kind.is_block_device() {
            // A console inside is the container's own; a device that was unplugged meanwhile is no loss.
            match Device::read(&from, to) {
                Ok(Some(device)) if entry.file_name() != "console" => found.push(device),
                Ok(_) => {}
                Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_default_nodes_are_what_the_host_has() {
        for device in default_devices() {
            let host = from_host(&device.path, &device.path).unwrap();
            assert_eq!((host[0].kind, host[0].major, host[0].minor), (device.kind, device.major, device.minor));
            assert!(default_rules().contains(&device.rule(Access::ALL)), "{device:?}");
        }
    }

    #[test]
    fn the_default_rules_open_no_disk() {
        let opens = |rule: &DeviceRule| rule.access.read || rule.access.write;
        assert!(default_rules().iter().all(|rule| !opens(rule) || rule.kind == DeviceKind::Char));
    }

    #[test]
    fn a_device_of_the_host_may_have_another_name_inside() {
        let devices = from_host("/dev/full".as_ref(), "/dev/other".as_ref()).unwrap();
        assert_eq!(devices.len(), 1);
        assert_eq!(devices[0].path, Path::new("/dev/other"));
        assert_eq!(devices[0].rule("rw".parse().unwrap()).to_string(), "c 1:7 rw");
    }

    #[test]
    fn what_is_no_device_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, "").unwrap();
        let target = Path::new("/dev/x");
        for path in [file.as_path(), dir.path()] {
            assert!(matches!(from_host(path, target), Err(Error::NotADevice(_))), "{path:?}");
        }
        assert!(matches!(from_host(&dir.path().join("none"), target), Err(Error::Io { .. })));
        for bad in ["dev/x", "/dev/../x"] {
            assert!(matches!(from_host("/dev/null".as_ref(), bad.as_ref()), Err(Error::Target(_))));
        }
    }

    #[test]
    fn a_directory_stands_for_the_devices_in_it() {
        let all = all_of_host("/dev".as_ref()).unwrap();
        let has = |path: &str| all.iter().any(|device| device.path == Path::new(path));
        assert!(has("/dev/null") && !has("/dev/console") && !has("/dev/pts/0"));
        let below = from_host("/dev".as_ref(), "/dev/host".as_ref()).unwrap();
        assert!(below.iter().any(|device| device.path == Path::new("/dev/host/null")));
    }
}
