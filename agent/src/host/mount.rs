//! Mounts of the agent's own: tmpfs volumes and binds of opened descriptors.

use std::ffi::CString;
use std::io;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};

use rustix::fs::CWD;
use rustix::mount::{MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags};

/// Mounts a tmpfs of at most `size` bytes (the kernel's own limit when `None`). With `noswap` its pages are kept off
/// the disk where the kernel can (6.4).
pub fn tmpfs(target: &Path, size: Option<u64>, noswap: bool) -> io::Result<()> {
    let size = size.map(|size| format!("size={size}")).unwrap_or_default();
    let options = |extra: &str| {
        let parts: Vec<&str> = ["mode=0755", &size, extra].into_iter().filter(|part| !part.is_empty()).collect();
        CString::new(parts.join(",")).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))
    };
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    if noswap {
        match rustix::mount::mount("tmpfs", target, "tmpfs", flags, options("noswap")?.as_c_str()) {
            Err(rustix::io::Errno::INVAL) => {}
            result => return result.map_err(io::Error::from),
        }
    }
    Ok(rustix::mount::mount("tmpfs", target, "tmpfs", flags, options("")?.as_c_str())?)
}

/// Mounts a hugetlbfs of pages of `page` bytes.
pub fn hugetlbfs(target: &Path, page: u64) -> io::Result<()> {
    let options = CString::new(format!("pagesize={page}")).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    Ok(rustix::mount::mount("hugetlbfs", target, "hugetlbfs", flags, options.as_c_str())?)
}

/// Mounts what `source` refers to on `target`: by descriptor, so nobody can put something else in its place. What is mounted
/// in the source is there too with `recursive`.
pub fn bind(source: BorrowedFd<'_>, target: &Path, recursive: bool) -> io::Result<()> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    flags.set(OpenTreeFlags::AT_RECURSIVE, recursive);
    let tree = rustix::mount::open_tree(source, "", flags)?;
    Ok(rustix::mount::move_mount(tree, "", CWD, target, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?)
}

/// Undoes the topmost mount on `target`, even a busy one; what is no mount is fine.
pub fn unmount(target: &Path) -> io::Result<()> {
    match rustix::mount::unmount(target, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
        Ok(()) | Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Undoes the mount on `target` without those that are mounted in it elsewhere, too: first it has no peers any more.
pub fn part(target: &Path) -> io::Result<()> {
    separate(target)?;
    unmount(target)
}

/// What is mounted and unmounted in the mount on `target` from now on is of no concern to its peers, nor the other way
/// round; what is no mount is fine.
pub fn separate(target: &Path) -> io::Result<()> {
    match rustix::mount::mount_change(target, MountPropagationFlags::PRIVATE | MountPropagationFlags::REC) {
        Ok(()) | Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// The mount points at and below `directory`, in the order in which they were mounted.
pub fn below(directory: &Path) -> io::Result<Vec<PathBuf>> {
    Ok(parse_below(&std::fs::read_to_string("/proc/self/mountinfo")?, directory))
}

fn parse_below(mountinfo: &str, directory: &Path) -> Vec<PathBuf> {
    let points = mountinfo.lines().filter_map(|line| line.split(' ').nth(4)).map(runtime::mountinfo::unescape);
    points.filter(|point| point.starts_with(directory)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_below_a_directory_are_found_by_whole_names() {
        let table = "1 0 8:1 / / rw - ext4 d rw\n2 1 0:1 / /r/pods/a/x rw - tmpfs t rw\n\
                     3 1 0:2 / /r/pods/ab rw - tmpfs t rw\n4 2 0:3 / /r/pods/a/with\\040space rw - tmpfs t rw\n";
        let found = parse_below(table, Path::new("/r/pods/a"));
        assert_eq!(found, [Path::new("/r/pods/a/x"), Path::new("/r/pods/a/with space")]);
    }
}
