//! Mounting an overlay, detached.

use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, OpenTreeFlags, UnmountFlags, fsconfig_create,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, open_tree, unmount,
};

use crate::error::{During as _, Result};

/// Mounts `layers`, lowest first, below `dir/upper`, with `dir/work` for the kernel's use.
///
/// `volatile`: the writable layer is not synced when the mount goes, or every exit would wait for the whole disk. A
/// container's layer is mounted once in its life, so that mark is never in the way of a second time.
pub fn mount(layers: &[&Path], dir: &Path) -> Result<OwnedFd> {
    let operation = || format!("mount an overlay of {} layers with {}", layers.len(), dir.display());
    // Linux before 6.5 does not know `lowerdir+`, and puts a line into its log each time that it is asked.
    static OLD: AtomicBool = AtomicBool::new(false);
    if !OLD.load(Ordering::Relaxed) {
        match by_context(layers, dir) {
            Err(Errno::INVAL) => {}
            other => return other.during(operation),
        }
    }
    let tree = by_mount(layers, dir).during(operation)?;
    OLD.store(true, Ordering::Relaxed);
    Ok(tree)
}

fn by_context(layers: &[&Path], dir: &Path) -> std::result::Result<OwnedFd, Errno> {
    let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    let set = |name: &str, value: &Path| fsconfig_set_string(context.as_fd(), name, value);
    // The kernel wants the highest first.
    for layer in layers.iter().rev() {
        set("lowerdir+", layer)?;
    }
    set("upperdir", &dir.join("upper"))?;
    set("workdir", &dir.join("work"))?;
    fsconfig_set_flag(context.as_fd(), "volatile")?;
    fsconfig_create(context.as_fd())?;
    fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())
}

/// [`mount`], with the ids of `layers` mapped by the user namespace `namespace`.
///
/// Linux before 6.15 takes layers of its own mount namespace only, so a thread attaches the mapped ones in one that is
/// thrown away with it. Nothing of an image can be opened as a device: the container's root would own it.
pub fn mapped(layers: &[&Path], dir: &Path, namespace: &OwnedFd) -> Result<OwnedFd> {
    let mount = || -> std::io::Result<OwnedFd> {
        let place = dir.join("mnt");
        std::fs::create_dir_all(&place)?;
        in_own_namespace(&|| {
            rustix::mount::mount("coracle", &place, "tmpfs", MountFlags::empty(), c"mode=0700,size=64k")?;
            rustix::process::chdir(&place)?;
            let names: Vec<String> = (0..layers.len()).map(|number| number.to_string()).collect();
            for (name, layer) in names.iter().zip(layers.iter().rev()) {
                attach_mapped(layer, namespace, name)?;
            }
            let (lower, upper, work) = (names.join(":"), dir.join("upper"), dir.join("work"));
            let options = format!("lowerdir={lower},upperdir={},workdir={},volatile", upper.display(), work.display());
            std::fs::create_dir("root")?;
            attach_overlay(Path::new("root"), options, MountFlags::NODEV)
        })
    };
    mount().during(|| format!("mount an overlay of {} layers with mapped ids with {}", layers.len(), dir.display()))
}

fn attach_mapped(layer: &Path, namespace: &OwnedFd, name: &str) -> std::io::Result<()> {
    use rustix::mount::{MoveMountFlags, move_mount};
    std::fs::create_dir(name)?;
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let tree = open_tree(rustix::fs::CWD, layer, flags)?;
    crate::userns::map_ids(tree.as_fd(), namespace.as_fd()).map_err(|error| {
        let hint = "the filesystem of the images cannot be mounted with mapped ids on this kernel";
        std::io::Error::new(error.kind(), format!("{hint}: {error}"))
    })?;
    Ok(move_mount(&tree, "", rustix::fs::CWD, name, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?)
}

/// mount(2) takes one page of options: the layers are named relative to their directory, by a thread with a working
/// directory and a mount namespace of its own, which is thrown away.
fn by_mount(layers: &[&Path], dir: &Path) -> std::io::Result<OwnedFd> {
    let Some(base) = layers.first().and_then(|layer| layer.parent()) else { return Err(Errno::INVAL.into()) };
    let names: Vec<String> = layers
        .iter()
        .rev()
        .filter_map(|layer| layer.file_name())
        .map(|name| name.to_string_lossy().into_owned())
        .collect();
    let lower = names.join(":");
    let (upper, work) = (dir.join("upper"), dir.join("work"));
    let options = format!("lowerdir={lower},upperdir={},workdir={},volatile", upper.display(), work.display());
    let place = dir.join("mnt");
    std::fs::create_dir_all(&place)?;
    in_own_namespace(&|| {
        rustix::process::chdir(base)?;
        attach_overlay(&place, options.clone(), MountFlags::empty())
    })
}

/// Does `mount` on a thread with a working directory and a mount namespace of its own.
fn in_own_namespace(mount: &(dyn Fn() -> std::io::Result<OwnedFd> + Sync)) -> std::io::Result<OwnedFd> {
    use rustix::mount::{MountPropagationFlags, mount_change};
    let on_thread = || {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_FS | nix::sched::CloneFlags::CLONE_NEWNS)?;
        mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
        mount()
    };
    std::thread::scope(|scope| scope.spawn(on_thread).join())
        .map_err(|_| std::io::Error::other("the thread panicked"))?
}

/// Mounts an overlay at `place` and detaches it again.
fn attach_overlay(place: &Path, options: String, flags: MountFlags) -> std::io::Result<OwnedFd> {
    let options = std::ffi::CString::new(options)?;
    rustix::mount::mount("overlay", place, "overlay", flags, options.as_c_str())?;
    let tree = open_tree(rustix::fs::CWD, place, OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC)?;
    unmount(place, UnmountFlags::DETACH)?;
    Ok(tree)
}
