//! How a pod's traces on the host go away: when it ends, and after an agent that was killed. Every step may be repeated.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::{HostError, PodDir, io_error, mount, remove};

/// Unmounts and deletes a pod's directory. What is not there is fine.
pub fn remove_pod_dirs(root: &Path, uid: &str) -> Result<(), HostError> {
    remove_pod_volumes(root, uid)?;
    remove_mounted(PodDir::new(root, uid)?.path())
}

/// Unmounts and deletes the volumes of a pod that is over; the last words of its containers stay.
pub fn remove_pod_volumes(root: &Path, uid: &str) -> Result<(), HostError> {
    remove_pod_parts(root, uid)?;
    remove_mounted(&PodDir::new(root, uid)?.path().join("volumes"))
}

/// Unmounts the parts of volumes that a pod's containers had mounted: while one is, its volume is busy.
pub fn remove_pod_parts(root: &Path, uid: &str) -> Result<(), HostError> {
    let parts = PodDir::new(root, uid)?.path().join("subpaths");
    // A subPath is a bind of somebody's own files, and what is mounted in those is theirs: ended here, it would end there.
    if let Some(real) = real(&parts)? {
        for point in mount::below(&real).map_err(io_error("read the mounts below", &real))? {
            mount::separate(&point).map_err(io_error("keep to itself the mount on", &point))?;
        }
    }
    remove_mounted(&parts)
}

fn remove_mounted(directory: &Path) -> Result<(), HostError> {
    let Some(real) = real(directory)? else { return Ok(()) };
    let list = || mount::below(&real).map_err(io_error("read the mounts below", &real));
    for point in list()?.iter().rev() {
        mount::unmount(point).map_err(io_error("unmount", point))?;
    }
    // A subPath is a bind of the user's own files: deleting through one that is left would delete them.
    if let Some(point) = list()?.into_iter().next() {
        return Err(HostError::Mounted { mount: point, directory: real });
    }
    // Of what is mounted from now on nothing goes, either.
    remove::tree(&real)
}

/// A directory as the mount table names it: a root directory behind a link would hide the mounts below it.
fn real(directory: &Path) -> Result<Option<PathBuf>, HostError> {
    match directory.canonicalize() {
        Ok(real) => Ok(Some(real)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(io_error("look at", directory)(error)),
    }
}

/// Deletes a pod's log directory.
pub fn remove_pod_logs(directory: &Path) -> Result<(), HostError> {
    remove::tree(directory)
}

/// The uids of pod directories that belong to no pod in `live`.
pub fn orphans(root: &Path, live: &BTreeSet<String>) -> Result<Vec<String>, HostError> {
    let pods = root.join("pods");
    let entries = match fs::read_dir(&pods) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(vec![]),
        Err(error) => return Err(io_error("list", &pods)(error)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let name = entry.map_err(io_error("list", &pods))?.file_name();
        if let Some(uid) = name.to_str().filter(|uid| !live.contains(*uid)) {
            found.push(uid.to_owned());
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::fs::File;
    use std::os::fd::AsFd as _;

    use super::*;

    #[test]
    fn everything_goes_but_what_is_mounted_from_elsewhere_stays() {
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped: mounts take root");
            return;
        }
        let root = tempfile::tempdir().unwrap();
        let precious = tempfile::tempdir().unwrap();
        fs::write(precious.path().join("file"), "keep").unwrap();
        let dir = PodDir::new(root.path(), "u-1").unwrap();
        let memory = dir.volume("empty-dir", "m");
        fs::create_dir_all(&memory).unwrap();
        mount::tmpfs(&memory, Some(1 << 20), false).unwrap();
        fs::write(memory.join("x"), "y").unwrap();
        // What is mounted in it later, and where it is shared here as well, is not the pod's.
        let disk = precious.path().join("disk");
        fs::create_dir(&disk).unwrap();
        mount::bind(File::open(precious.path()).unwrap().as_fd(), precious.path(), true).unwrap();
        rustix::mount::mount_change(precious.path(), rustix::mount::MountPropagationFlags::SHARED).unwrap();
        crate::host::subpath::prepare(precious.path(), ".", &dir.subpath("c", 0), true).unwrap();
        mount::tmpfs(&disk, Some(1 << 20), false).unwrap();
        fs::write(disk.join("theirs"), "keep").unwrap();
        assert!(dir.subpath("c", 0).join("disk/theirs").exists(), "it propagates");
        assert_eq!(fs::read_to_string(dir.subpath("c", 0).join("file")).unwrap(), "keep");
        assert_eq!(orphans(root.path(), &BTreeSet::new()).unwrap(), ["u-1"]);
        assert!(orphans(root.path(), &BTreeSet::from(["u-1".to_owned()])).unwrap().is_empty());
        remove_pod_dirs(root.path(), "u-1").unwrap();
        remove_pod_dirs(root.path(), "u-1").unwrap();
        assert!(!dir.path().exists());
        assert_eq!(fs::read_to_string(precious.path().join("file")).unwrap(), "keep");
        assert_eq!(fs::read_to_string(disk.join("theirs")).unwrap(), "keep");
        mount::unmount(&disk).unwrap();
        mount::unmount(precious.path()).unwrap();
    }

    #[test]
    fn a_uid_cannot_lead_elsewhere() {
        for uid in ["", ".", "..", "a/b", "../x"] {
            assert!(matches!(remove_pod_dirs(Path::new("/nonexistent"), uid), Err(HostError::Uid(_))), "{uid}");
        }
    }
}
