//! An image as a volume: its layers, read-only, as a mount that is attached nowhere.

use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, OFlags};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags,
    fsconfig_create, fsconfig_set_string, fsmount, fsopen, mount, mount_change, move_mount, open_tree,
};

use crate::error::{During as _, Error, Result};
use crate::launch::confined;

/// Mounts the directory `sub_path` of `layers`, lowest first. `place` is an empty directory to do it at: a part of a
/// mount can be detached on every kernel only where the mount is attached, so that is done by a thread with a mount
/// namespace of its own, which is thrown away.
pub fn volume(layers: &[PathBuf], sub_path: &str, place: &Path) -> Result<OwnedFd> {
    let operation = || format!("mount an image of {} layers at {}", layers.len(), place.display());
    let work = || -> std::result::Result<OwnedFd, Failure> {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_FS | nix::sched::CloneFlags::CLONE_NEWNS)
            .map_err(std::io::Error::from)?;
        mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
        attach(layers, place)?;
        let root =
            rustix::fs::open(place, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, rustix::fs::Mode::empty())?;
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        let part = confined::open(root.as_fd(), sub_path, flags).map_err(Failure::SubPath)?;
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
        Ok(open_tree(part.as_fd(), "", flags)?)
    };
    let joined = std::thread::scope(|scope| scope.spawn(work).join());
    match joined.unwrap_or_else(|_| Err(Failure::Io(std::io::Error::other("the thread panicked")))) {
        Ok(tree) => Ok(tree),
        Err(Failure::Io(error)) => Err(error).during(operation),
        Err(Failure::SubPath(errno)) => {
            let why = match errno {
                Errno::NOENT => "is not in the image",
                Errno::NOTDIR => "is not a directory of the image",
                _ => "cannot be opened in the image",
            };
            Err(Error::Invalid(format!("image_sub_path {sub_path:?} {why}: {errno}")))
        }
    }
}

enum Failure {
    SubPath(Errno),
    Io(std::io::Error),
}

impl<E: Into<std::io::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Io(error.into())
    }
}

fn attach(layers: &[PathBuf], place: &Path) -> std::io::Result<()> {
    let empty = MountFlags::empty();
    match layers {
        [] => Ok(mount("tmpfs", place, "tmpfs", empty, Some(c"mode=0755"))?),
        // An overlay wants two at least.
        [layer] => Ok(rustix::mount::mount_bind(layer, place)?),
        _ => match overlay(layers) {
            Ok(tree) => {
                let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
                Ok(move_mount(tree.as_fd(), "", CWD, place, flags)?)
            }
            // Linux before 6.5 does not know `lowerdir+`.
            Err(Errno::INVAL) => by_options(layers, place),
            Err(error) => Err(error.into()),
        },
    }
}

fn overlay(layers: &[PathBuf]) -> std::result::Result<OwnedFd, Errno> {
    let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    for layer in layers.iter().rev() {
        fsconfig_set_string(context.as_fd(), "lowerdir+", layer)?;
    }
    fsconfig_create(context.as_fd())?;
    fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())
}

/// mount(2) takes one page of options: the layers are named relative to their directory.
fn by_options(layers: &[PathBuf], place: &Path) -> std::io::Result<()> {
    let base = layers.first().and_then(|layer| layer.parent()).ok_or(Errno::INVAL)?;
    rustix::process::chdir(base)?;
    let names = layers.iter().rev().filter_map(|layer| layer.file_name()).map(|it| it.to_string_lossy());
    let options = format!("lowerdir={}", names.collect::<Vec<_>>().join(":"));
    let options = std::ffi::CString::new(options)?;
    Ok(mount("overlay", place, "overlay", MountFlags::empty(), options.as_c_str())?)
}
