//! How a pod's traces on the host go away: when it ends, and after an agent that was killed. Every step may be repeated.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;

use super::{HostError, PodDir, io_error, mount};

/// Unmounts and deletes a pod's directory. What is not there is fine.
pub fn remove_pod_dirs(root: &Path, uid: &str) -> Result<(), HostError> {
    remove_mounted(PodDir::new(root, uid)?.path())
}

/// Unmounts and deletes the volumes of a pod that is over; the last words of its containers stay.
pub fn remove_pod_volumes(root: &Path, uid: &str) -> Result<(), HostError> {
    let dir = PodDir::new(root, uid)?;
    remove_mounted(&dir.path().join("subpaths"))?;
    remove_mounted(&dir.path().join("volumes"))
}

fn remove_mounted(directory: &Path) -> Result<(), HostError> {
    // The mount table has real paths; a root directory behind a link would hide the mounts below it.
    let real = match directory.canonicalize() {
        Ok(real) => real,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(io_error("look at", directory)(error)),
    };
    let list = || mount::below(&real).map_err(io_error("read the mounts below", &real));
    for point in list()?.iter().rev() {
        mount::unmount(point).map_err(io_error("unmount", point))?;
    }
    // A subPath is a bind of the user's own files: deleting through one that is left would delete them.
    if let Some(point) = list()?.into_iter().next() {
        return Err(HostError::Mounted { mount: point, directory: real });
    }
    remove_tree(&real)
}

/// Deletes a pod's log directory.
pub fn remove_pod_logs(directory: &Path) -> Result<(), HostError> {
    remove_tree(directory)
}

fn remove_tree(path: &Path) -> Result<(), HostError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_error("remove", path)(error)),
        _ => Ok(()),
    }
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
        crate::host::subpath::prepare(precious.path(), ".", &dir.subpath("c", 0)).unwrap();
        assert_eq!(fs::read_to_string(dir.subpath("c", 0).join("file")).unwrap(), "keep");
        assert_eq!(orphans(root.path(), &BTreeSet::new()).unwrap(), ["u-1"]);
        assert!(orphans(root.path(), &BTreeSet::from(["u-1".to_owned()])).unwrap().is_empty());
        remove_pod_dirs(root.path(), "u-1").unwrap();
        remove_pod_dirs(root.path(), "u-1").unwrap();
        assert!(!dir.path().exists());
        assert_eq!(fs::read_to_string(precious.path().join("file")).unwrap(), "keep");
    }

    #[test]
    fn a_uid_cannot_lead_elsewhere() {
        for uid in ["", ".", "..", "a/b", "../x"] {
            assert!(matches!(remove_pod_dirs(Path::new("/nonexistent"), uid), Err(HostError::Uid(_))), "{uid}");
        }
    }
}
