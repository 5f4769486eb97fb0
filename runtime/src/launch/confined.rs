//! Paths of a container, resolved in its root and nowhere else.
//!
//! Every look-up is one openat2(2) with RESOLVE_IN_ROOT and RESOLVE_NO_MAGICLINKS: `..` and absolute symlinks of the
//! image end at its root, and /proc's links to descriptors are not followed. Missing directories are made one by one,
//! each below a descriptor that such a look-up gave.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path};

use rustix::fs::{Mode, OFlags, ResolveFlags, mkdirat, openat, openat2};
use rustix::io::Errno;

/// How often a look-up that the kernel asks to repeat (a rename went on meanwhile) is repeated.
const RETRIES: usize = 128;

/// Opens `path` in `root`. `NOFOLLOW` in `flags` is about the last part alone.
pub fn open(root: BorrowedFd<'_>, path: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let mut tries = 0;
    loop {
        match openat2(root, relative(path), flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
            Err(Errno::AGAIN | Errno::INTR) if tries < RETRIES => tries += 1,
            other => return other,
        }
    }
}

/// An openat2 path must not be empty, and an absolute one is as good as a relative one in a root.
fn relative(path: &str) -> &str {
    if path.is_empty() { "." } else { path }
}

/// Opens the directory `path`, making what is missing of it (0755).
pub fn make_directory(root: BorrowedFd<'_>, path: &str) -> Result<OwnedFd, Errno> {
    match open(root, path, OFlags::PATH | OFlags::DIRECTORY) {
        Err(Errno::NOENT) => {}
        other => return other,
    }
    let mut so_far = String::new();
    let mut directory = open(root, "/", OFlags::PATH | OFlags::DIRECTORY)?;
    for part in names(path) {
        so_far.push('/');
        so_far.push_str(part);
        directory = match open(root, &so_far, OFlags::PATH | OFlags::DIRECTORY) {
            Err(Errno::NOENT) => {
                match mkdirat(&directory, part, Mode::from_raw_mode(0o755)) {
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(error) => return Err(error),
                }
                open(root, &so_far, OFlags::PATH | OFlags::DIRECTORY)?
            }
            other => other?,
        };
    }
    Ok(directory)
}

/// Opens the file `path`, making it (empty, 0644) and its directories when missing.
pub fn make_file(root: BorrowedFd<'_>, path: &str) -> Result<OwnedFd, Errno> {
    match open(root, path, OFlags::PATH) {
        Err(Errno::NOENT) => {}
        other => return other,
    }
    let (parent, name) = split(path).ok_or(Errno::INVAL)?;
    let directory = make_directory(root, &parent)?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match openat(directory.as_fd(), name, flags, Mode::from_raw_mode(0o644)) {
        Ok(_) | Err(Errno::EXIST) => open(root, path, OFlags::PATH),
        Err(error) => Err(error),
    }
}

/// The directory and the name of the last part; `None` for `/`.
pub fn split(path: &str) -> Option<(String, &str)> {
    let parts: Vec<&str> = names(path).collect();
    let (name, parent) = parts.split_last()?;
    Some((format!("/{}", parent.join("/")), name))
}

/// The parts of a path that name something. A `..` is kept for the kernel, which ends it at the root.
fn names(path: &str) -> impl Iterator<Item = &str> {
    Path::new(path).components().filter_map(|part| match part {
        Component::Normal(name) => name.to_str(),
        Component::ParentDir => Some(".."),
        _ => None,
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn root() -> (tempfile::TempDir, OwnedFd) {
        let dir = tempfile::tempdir().unwrap();
        let fd = crate::store::open_dir(dir.path()).unwrap();
        (dir, fd)
    }

    #[test]
    fn missing_directories_are_made_below_symlinks_without_leaving_the_root() {
        let (dir, fd) = root();
        std::os::unix::fs::symlink("/data", dir.path().join("link")).unwrap();
        std::fs::create_dir(dir.path().join("data")).unwrap();
        make_directory(fd.as_fd(), "/link/../../data/a/b").unwrap();
        assert!(dir.path().join("data/a/b").is_dir());
        make_file(fd.as_fd(), "/link/c/file").unwrap();
        assert!(dir.path().join("data/c/file").is_file());
    }

    #[test]
    fn a_dangling_symlink_is_an_error_and_makes_nothing_outside() {
        let (dir, fd) = root();
        let outside = tempfile::tempdir().unwrap();
        let target = outside.path().join("made");
        std::os::unix::fs::symlink(&target, dir.path().join("out")).unwrap();
        assert!(make_directory(fd.as_fd(), "/out").is_err());
        assert!(make_file(fd.as_fd(), "/out").is_err());
        assert!(!target.exists());
    }

    #[test]
    fn links_to_descriptors_are_not_followed() {
        let root = crate::store::open_dir(Path::new("/")).unwrap();
        let found = open(root.as_fd(), "/proc/self/fd/0", OFlags::PATH);
        assert_eq!(found.unwrap_err(), Errno::LOOP);
    }
}
