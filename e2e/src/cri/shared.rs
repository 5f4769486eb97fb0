//! A shared mount: a tmpfs whose propagation a test decides, whatever the machine's own mounts do.

use std::path::{Path, PathBuf};

use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags};

/// Mounted until it is dropped, with what was mounted below.
pub(super) struct SharedDir(PathBuf);

impl SharedDir {
    pub(super) fn new(dir: &Path) -> Self {
        let path = dir.join("shared");
        std::fs::create_dir_all(&path).unwrap_or_else(|error| panic!("cannot create {}: {error}", path.display()));
        rustix::mount::mount("e2e", &path, "tmpfs", MountFlags::empty(), c"mode=0755,size=16m")
            .and_then(|()| rustix::mount::mount_change(&path, MountPropagationFlags::SHARED))
            .unwrap_or_else(|error| panic!("cannot mount a tmpfs on {}: {error}", path.display()));
        Self(path)
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for SharedDir {
    fn drop(&mut self) {
        // What a failed test left mounted below goes with it.
        if let Err(error) = rustix::mount::unmount(&self.0, UnmountFlags::DETACH) {
            eprintln!("cannot unmount {}: {error}", self.0.display());
        }
    }
}
