//! Deleting a directory with all that is in it, and nothing of any other mount: whatever is mounted in it while that goes
//! on stays, and ends it.

use std::ffi::{CString, OsStr};
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, openat2, unlinkat};
use rustix::io::Errno;

use super::{HostError, io_error};

/// Deletes `path`. What is not there is fine.
pub fn tree(path: &Path) -> Result<(), HostError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let root = match rustix::fs::open(path, flags, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(()),
        // A link, or a file.
        Err(Errno::NOTDIR | Errno::LOOP) => return fs::remove_file(path).map_err(io_error("remove", path)),
        other => other.map_err(io_error("remove", path))?,
    };
    empty(root, path)?;
    match fs::remove_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_error("remove", path)(error)),
        _ => Ok(()),
    }
}

/// A directory that is being emptied, and its name in the one before it.
struct Level {
    entries: Dir,
    name: CString,
}

/// Deletes what is in a directory, the deepest first. What vanishes meanwhile is fine.
fn empty(root: OwnedFd, path: &Path) -> Result<(), HostError> {
    let mut levels = vec![level(root, c"".into()).map_err(io_error("list", path))?];
    while let Some(here) = levels.last_mut() {
        let Some(entry) = here.entries.next() else {
            let name = here.name.clone();
            levels.pop();
            if let Some(parent) = levels.last() {
                unlink(&parent.entries, &name, AtFlags::REMOVEDIR)
                    .map_err(|errno| refused(&whole(path, &levels, &name), path)(errno))?;
            }
            continue;
        };
        let entry = entry.map_err(|error| io_error("list", &whole(path, &levels, c""))(error))?;
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        let Some(here) = levels.last() else { break };
        let below = if matches!(entry.file_type(), FileType::Directory | FileType::Unknown) {
            enter(&here.entries, name).map_err(|errno| refused(&whole(path, &levels, name), path)(errno))?
        } else {
            None
        };
        match below {
            Some(below) => levels.push(below),
            None => unlink(&here.entries, name, AtFlags::empty())
                .map_err(|errno| refused(&whole(path, &levels, name), path)(errno))?,
        }
    }
    Ok(())
}

fn level(fd: OwnedFd, name: CString) -> Result<Level, Errno> {
    Ok(Level { entries: Dir::new(fd)?, name })
}

/// Opens a directory that is on the same mount; `None` for what is no directory, or not there any more.
fn enter(parent: &Dir, name: &std::ffi::CStr) -> Result<Option<Level>, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::NO_XDEV | ResolveFlags::NO_SYMLINKS;
    match openat2(parent.fd()?, name, flags, Mode::empty(), resolve) {
        Ok(fd) => level(fd, name.to_owned()).map(Some),
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
        Err(error) => Err(error),
    }
}

fn unlink(parent: &Dir, name: &std::ffi::CStr, flags: AtFlags) -> Result<(), Errno> {
    match unlinkat(parent.fd()?.as_fd(), name, flags) {
        Err(Errno::NOENT) => Ok(()),
        other => other,
    }
}

fn whole(path: &Path, levels: &[Level], name: &std::ffi::CStr) -> PathBuf {
    let names = levels.iter().skip(1).map(|it| it.name.as_c_str()).chain([name]);
    let mut whole = path.to_owned();
    names.filter(|it| !it.is_empty()).for_each(|it| whole.push(OsStr::from_bytes(it.to_bytes())));
    whole
}

/// The kernel's word for a mount point: EXDEV for who would enter it, EBUSY for who would delete it.
fn refused(path: &Path, root: &Path) -> impl FnOnce(Errno) -> HostError {
    let (path, root) = (path.to_owned(), root.to_owned());
    move |errno| match errno {
        Errno::XDEV | Errno::BUSY => HostError::Mounted { mount: path, directory: root },
        errno => io_error("remove", &path)(errno),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::host::mount;

    #[test]
    fn a_tree_goes_with_all_that_is_in_it_and_links_are_not_followed() {
        let (root, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::write(other.path().join("keep"), "").unwrap();
        let path = root.path().join("tree");
        fs::create_dir_all(path.join("a/b/c")).unwrap();
        fs::create_dir_all(path.join("a/d")).unwrap();
        fs::write(path.join("a/b/file"), "x").unwrap();
        (0..500).for_each(|number| fs::write(path.join(format!("a/d/{number}")), "").unwrap());
        std::os::unix::fs::symlink(other.path(), path.join("a/link")).unwrap();
        std::os::unix::fs::symlink(other.path(), root.path().join("link")).unwrap();
        for it in [&path, &path, &root.path().join("link")] {
            tree(it).unwrap();
        }
        assert!(fs::read_dir(root.path()).unwrap().next().is_none());
        assert!(other.path().join("keep").exists());
    }

    #[test]
    fn nothing_of_what_is_mounted_in_it_goes() {
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped: mounts take root");
            return;
        }
        let (root, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let path = root.path().join("tree");
        let point = path.join("a/mounted");
        fs::create_dir_all(&point).unwrap();
        fs::write(other.path().join("keep"), "").unwrap();
        let tmpfs = |target: &Path| mount::tmpfs(target, Some(1 << 20), false).unwrap();
        // A part of the same file system, too.
        let bind = |target: &Path| mount::bind(fs::File::open(other.path()).unwrap().as_fd(), target, false).unwrap();
        for mount_on in [&tmpfs as &dyn Fn(&Path), &bind] {
            mount_on(&point);
            fs::write(point.join("keep"), "").unwrap();
            let error = tree(&path).unwrap_err().to_string();
            assert_eq!(error, format!("{} is still mounted, so {} stays", point.display(), path.display()));
            assert!(point.join("keep").exists());
            mount::unmount(&point).unwrap();
        }
        assert!(other.path().join("keep").exists());
        tree(&path).unwrap();
        assert!(!path.exists());
    }
}
