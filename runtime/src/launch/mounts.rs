//! A container's mounts, through descriptors alone.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags,
    fsconfig_create, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, mount_change, move_mount, open_tree,
    unmount,
};

use super::error::{During, Result, refused};
use super::spec::{ContainerSpec, MountOption, MountSource, MountSpec, ReadOnly};
use super::{Stage, child, confined, devices};
use crate::sys::mount::{self, Attributes};
use crate::userns::IdMap;

/// The group `tty`, which terminals belong to.
const TTY: u32 = 5;

/// Makes the detached mount `tree` the root of this mount namespace and drops everything else.
pub fn enter_root(tree: BorrowedFd<'_>) -> Result<()> {
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .during(|| "make the mount namespace private".into())?;
    switch_root(tree, crate::zygote::STAGING).during(|| "change to the container's root".into())
}

/// Attaches the detached mount `tree` at the directory `staging`, makes it this process's root, and drops the old one.
pub fn switch_root(tree: BorrowedFd<'_>, staging: &str) -> std::result::Result<(), Errno> {
    move_mount(tree, "", rustix::fs::CWD, staging, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
    rustix::process::fchdir(tree)?;
    match rustix::process::pivot_root(".", ".") {
        Ok(()) => unmount(".", UnmountFlags::DETACH)?,
        // An initramfs cannot be pivoted away from (pivot_root(2)): the new root is moved over it instead.
        Err(Errno::INVAL) => {
            rustix::mount::mount_move(".", "/")?;
            rustix::process::chroot(".")?;
        }
        Err(error) => return Err(error),
    }
    rustix::process::chdir("/")
}

/// The container's root, after [`enter_root`].
pub fn root() -> Result<OwnedFd> {
    rustix::fs::open("/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .during(|| "open the container's root".into())
}

/// What has to be opened or made before the root is entered. The pod's /dev/shm is out of reach afterwards; and in a user
/// namespace the kernel makes a procfs or sysfs only while another one is in sight, unless it could show what that hides.
#[derive(Default)]
pub(super) struct Prepared<'a> {
    shm: Option<OwnedFd>,
    proc: Option<OwnedFd>,
    sysfs: Option<OwnedFd>,
    /// `/dev`, with its nodes, which nobody can make in a user namespace.
    pub dev: Option<&'a OwnedFd>,
    /// There is a group for terminals: a user namespace may be so small that it has none.
    tty_group: bool,
}

impl<'a> Prepared<'a> {
    pub fn new(container: &ContainerSpec, map: Option<&IdMap>, dev: Option<&'a OwnedFd>) -> Result<Self> {
        let tty_group = map.is_none_or(|it| it.gid(TTY).is_some());
        let mut prepared = Self { dev, tty_group, ..Self::default() };
        for mount in &container.mounts {
            match mount.source {
                MountSource::PodShm => {
                    let shm = clone_path(crate::zygote::SHM).during(|| "open the pod's /dev/shm".into())?;
                    prepared.shm = Some(shm);
                }
                MountSource::Proc => prepared.proc = Some(filesystem("proc", &[], hardened())?),
                MountSource::Sysfs { writable } => {
                    let readonly = if writable { MountAttrFlags::empty() } else { MountAttrFlags::MOUNT_ATTR_RDONLY };
                    prepared.sysfs = Some(filesystem("sysfs", &[], hardened() | readonly)?);
                }
                _ => {}
            }
        }
        Ok(prepared)
    }
}

/// Carries out one mount.
pub(super) fn mount(stage: &Stage<'_>, root: BorrowedFd<'_>, prepared: &Prepared<'_>, spec: &MountSpec) -> Result<()> {
    let there = |tree: Option<&OwnedFd>| {
        let tree = tree.ok_or_else(|| refused(format!("there is nothing to mount at {}", spec.target)))?;
        attach(root, tree.as_fd(), &spec.target, true)
    };
    let target = spec.target.as_str();
    match &spec.source {
        MountSource::Tree { tree, directory, readonly, options } => {
            let tree = stage.fd(*tree)?;
            set_readonly(tree, *readonly).during(|| format!("make the mount at {target} read-only"))?;
            set_options(tree, options).during(|| format!("give the mount at {target} the options {options:?}"))?;
            attach(root, tree, target, *directory)
        }
        MountSource::Proc => there(prepared.proc.as_ref()),
        MountSource::Sysfs { .. } => there(prepared.sysfs.as_ref()),
        MountSource::Tmpfs { .. } if devices::belongs_in(spec) && prepared.dev.is_some() => there(prepared.dev),
        MountSource::Tmpfs { size, mode, noexec, nodev } => {
            let mut options = vec![("mode", mode.as_str())];
            options.extend(size.as_deref().map(|it| ("size", it)));
            attach(root, filesystem("tmpfs", &options, tmpfs_attributes(*noexec, *nodev))?.as_fd(), target, true)
        }
        MountSource::Devpts => {
            let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC;
            let mut options = vec![("ptmxmode", "0666"), ("mode", "0620")];
            let group = TTY.to_string();
            options.extend(prepared.tty_group.then_some(("gid", group.as_str())));
            attach(root, filesystem("devpts", &options, attributes)?.as_fd(), target, true)
        }
        MountSource::Mqueue => attach(root, filesystem("mqueue", &[], hardened())?.as_fd(), target, true),
        MountSource::PodShm => there(prepared.shm.as_ref()),
        // These wait for the gate: the namespace that they show is entered when the process is in its cgroups.
        MountSource::Cgroup { .. } => Ok(()),
    }
}

/// No set-user-ID, no devices, no execution.
pub fn hardened() -> MountAttrFlags {
    MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV | MountAttrFlags::MOUNT_ATTR_NOEXEC
}

/// Those of a tmpfs.
pub fn tmpfs_attributes(noexec: bool, nodev: bool) -> MountAttrFlags {
    let mut attributes = MountAttrFlags::MOUNT_ATTR_NOSUID;
    attributes.set(MountAttrFlags::MOUNT_ATTR_NOEXEC, noexec);
    attributes.set(MountAttrFlags::MOUNT_ATTR_NODEV, nodev);
    attributes
}

/// Makes a filesystem and a detached mount of it.
pub fn filesystem(kind: &str, options: &[(&str, &str)], attributes: MountAttrFlags) -> Result<OwnedFd> {
    make_filesystem(kind, options, attributes).during(|| format!("make a {kind} filesystem"))
}

/// A cgroup v1 hierarchy, by the options that it was first mounted with.
pub fn cgroup_v1(options: &[(&str, &str)], attributes: MountAttrFlags) -> Result<OwnedFd> {
    let make = || {
        let context = fsopen("cgroup", FsOpenFlags::FSOPEN_CLOEXEC)?;
        for (name, value) in options {
            match *value {
                "" => fsconfig_set_flag(context.as_fd(), *name)?,
                value => fsconfig_set_string(context.as_fd(), *name, value)?,
            }
        }
        fsconfig_create(context.as_fd())?;
        fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)
    };
    make().during(|| format!("mount the cgroup hierarchy {options:?}"))
}

fn make_filesystem(
    kind: &str,
    options: &[(&str, &str)],
    attributes: MountAttrFlags,
) -> std::result::Result<OwnedFd, Errno> {
    let context = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    for (name, value) in options {
        fsconfig_set_string(context.as_fd(), *name, *value)?;
    }
    fsconfig_create(context.as_fd())?;
    fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)
}

/// Attaches a detached mount at `target`, making what is missing of the path.
pub fn attach(root: BorrowedFd<'_>, tree: BorrowedFd<'_>, target: &str, directory: bool) -> Result<()> {
    let make = if directory { confined::make_directory } else { confined::make_file };
    let place = make(root, target).during(|| format!("make the mount point {target}"))?;
    attach_to(tree, place.as_fd()).during(|| format!("mount {target}"))
}

fn attach_to(tree: BorrowedFd<'_>, place: BorrowedFd<'_>) -> std::result::Result<(), Errno> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(tree, "", place, "", flags)
}

fn set_readonly(tree: BorrowedFd<'_>, readonly: ReadOnly) -> std::io::Result<()> {
    let attributes = Attributes { set: mount::RDONLY, ..Attributes::default() };
    match readonly {
        ReadOnly::No => Ok(()),
        ReadOnly::Mount => mount::set_attributes(tree, false, attributes),
        ReadOnly::Recursive => mount::set_attributes(tree, true, attributes),
    }
}

/// Adds flags to a mount and not to those below it, as mount(8) does it for a bind mount.
fn set_options(tree: BorrowedFd<'_>, options: &[MountOption]) -> std::io::Result<()> {
    let flag = |option: &MountOption| match option {
        MountOption::Noexec => mount::NOEXEC,
        MountOption::Nodev => mount::NODEV,
        MountOption::Nosuid => mount::NOSUID,
    };
    match options.iter().map(flag).fold(0, |all, flag| all | flag) {
        0 => Ok(()),
        set => mount::set_attributes(tree, false, Attributes { set, ..Attributes::default() }),
    }
}

/// Makes paths read-only by a mount of each over itself. Absent ones are skipped.
pub fn make_readonly(root: BorrowedFd<'_>, paths: &[String]) -> Result<()> {
    for path in paths {
        let Some(place) = existing(root, path)? else { continue };
        let tree = clone_tree(place.as_fd()).during(|| format!("make {path} read-only"))?;
        // What is mounted keeps its own flags beside the new one: the attribute is added, nothing is cleared.
        set_readonly(tree.as_fd(), ReadOnly::Recursive).during(|| format!("make {path} read-only"))?;
        attach_to(tree.as_fd(), place.as_fd()).during(|| format!("make {path} read-only"))?;
    }
    Ok(())
}

/// Hides paths: a directory under an empty read-only tmpfs, anything else under the null device. A path that exists and
/// cannot be hidden is an error.
pub fn mask(root: BorrowedFd<'_>, paths: &[String]) -> Result<()> {
    // One empty tmpfs serves every directory: the first is attached, the others are clones of that mount.
    let mut empty: Option<OwnedFd> = None;
    for path in paths {
        let Some(place) = existing(root, path)? else { continue };
        let stat = rustix::fs::fstat(&place).during(|| format!("look at {path}"))?;
        let tree = if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            match &empty {
                Some(first) => clone_tree(first.as_fd()).during(|| format!("hide {path}"))?,
                None => {
                    let tree = filesystem(
                        "tmpfs",
                        &[("size", "0"), ("mode", "0555")],
                        hardened() | MountAttrFlags::MOUNT_ATTR_RDONLY,
                    )?;
                    let kept = tree.try_clone().during(|| format!("hide {path}"))?;
                    empty = Some(kept);
                    tree
                }
            }
        } else {
            let null = child::open_null(root, OFlags::PATH)?;
            clone_tree(null.as_fd()).during(|| format!("hide {path}"))?
        };
        attach_to(tree.as_fd(), place.as_fd()).during(|| format!("hide {path}"))?;
    }
    Ok(())
}

/// Makes the root itself read-only; mounts in it stay as they are.
pub fn close_writes(root: BorrowedFd<'_>) -> Result<()> {
    set_readonly(root, ReadOnly::Mount).during(|| "make the root read-only".into())
}

fn existing(root: BorrowedFd<'_>, path: &str) -> Result<Option<OwnedFd>> {
    match confined::open(root, path, OFlags::PATH) {
        Ok(fd) => Ok(Some(fd)),
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
        Err(error) => Err(error).during(|| format!("open {path} to hide or protect it")),
    }
}

/// A detached copy of the mount tree at `place`, which is in this mount namespace.
pub fn clone_tree(place: BorrowedFd<'_>) -> std::result::Result<OwnedFd, Errno> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH
        | OpenTreeFlags::AT_RECURSIVE;
    open_tree(place, "", flags)
}

/// The place and the mount of something that is already attached below a path of this namespace.
pub fn clone_path(path: &str) -> std::result::Result<OwnedFd, Errno> {
    open_tree(rustix::fs::CWD, path, OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC)
}
