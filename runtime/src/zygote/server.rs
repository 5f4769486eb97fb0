//! The zygote's own side.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{Mode, OFlags};
use rustix::mount::{MountAttrFlags, MountPropagationFlags, OpenTreeFlags, mount_change, open_tree};
use rustix::process::{PidfdFlags, WaitOptions};

use super::{RELAY, SHM, STAGING, SYS, USER_NAMESPACE, userns};
use crate::launch::mounts;
use crate::sys::fdpass;
use crate::sys::process::{self, Forked, clone_with, exit_now};

/// Serves until the other end of `socket` is closed.
pub fn serve(socket: OwnedFd) -> io::Result<()> {
    let socket = strip(socket)?;
    let children = process::child_signal_fd()?;
    let mut buffer = [0; 64];
    loop {
        let mut fds = [PollFd::new(&socket, PollFlags::IN), PollFd::new(&children, PollFlags::IN)];
        match poll(&mut fds, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        if fds[1].revents().contains(PollFlags::IN) {
            reap(&children);
        }
        if fds[0].revents().is_empty() {
            continue;
        }
        let (length, fds) = fdpass::receive(&socket, &mut buffer)?;
        if length == 0 {
            return Ok(());
        }
        if &buffer[..length] == USER_NAMESPACE {
            userns::answer(&socket, &fds)?;
            continue;
        }
        if let Some(fds) = fork(&socket, fds)? {
            drop((socket, children));
            let relay = &buffer[..length] == RELAY;
            exit_now(if relay { crate::relay::main(fds) } else { crate::shim::main(fds) })
        }
    }
}

/// Forks a shim or relay; in it, answers with its descriptors.
///
/// The first descriptor is the directory of cgroup v2 that it is born in, or, where there is none, anything else.
fn fork(socket: &OwnedFd, mut fds: Vec<OwnedFd>) -> io::Result<Option<Vec<OwnedFd>>> {
    if fds.is_empty() {
        return fdpass::send(socket, b"no descriptors came along", &[]).map(|()| None);
    }
    let first = fds.remove(0);
    let unified = is_unified(&first).then(|| first.as_fd());
    let pid = match clone_with(0, unified) {
        Ok(Forked::Child) => return Ok(Some(fds)),
        Ok(Forked::Parent(pid)) => pid,
        Err(error) => return fdpass::send(socket, error.to_string().as_bytes(), &[]).map(|()| None),
    };
    // It cannot have been reaped: that happens in this process's loop alone.
    match rustix::process::pidfd_open(pid, PidfdFlags::empty()) {
        Ok(pidfd) => fdpass::send(socket, pid.as_raw_nonzero().to_string().as_bytes(), &[pidfd.as_fd()])?,
        Err(error) => fdpass::send(socket, error.to_string().as_bytes(), &[])?,
    }
    Ok(None)
}

/// statfs(2): CGROUP2_SUPER_MAGIC.
fn is_unified(fd: &OwnedFd) -> bool {
    const CGROUP2_MAGIC: u64 = 0x6367_7270;
    rustix::fs::fstatfs(fd).is_ok_and(|it| it.f_type as u64 == CGROUP2_MAGIC)
}

fn reap(children: &OwnedFd) {
    let mut ignored = [0; 128];
    let _ = rustix::io::read(children, &mut ignored);
    while let Ok(Some(_)) = rustix::process::wait(WaitOptions::NOHANG) {}
}

/// Drops everything of the process that this was forked from: terminal, descriptors, arguments, environment, signals,
/// and the host's mounts.
fn strip(socket: OwnedFd) -> io::Result<OwnedFd> {
    process::reset_signals();
    process::block_signals();
    rustix::process::setsid()?;
    let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    for number in 0..3 {
        process::become_stdio(null.as_fd(), number)?;
    }
    drop(null);
    process::become_stdio(socket.as_fd(), 3)?;
    std::mem::forget(socket);
    process::close_from(4)?;
    let socket = process::adopt_fd(3).ok_or_else(|| io::Error::other("the zygote lost its socket"))?;
    rustix::io::fcntl_setfd(&socket, rustix::io::FdFlags::CLOEXEC)?;
    rustix::process::umask(Mode::from_raw_mode(0o022));
    rustix::thread::set_name(c"coracle-zygote")?;
    process::set_title("coracle-zygote");
    leave_host_mounts()?;
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)?;
    Ok(socket)
}

/// A root with procfs and four directories: everything else of the host is out of a shim's reach, and each container's
/// mount namespace is a copy of two mounts, not of two hundred.
fn leave_host_mounts() -> io::Result<()> {
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS)?;
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    let options = [("mode", "0755"), ("size", "64k")];
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
    let root =
        mounts::filesystem("tmpfs", &options, attributes).map_err(|error| io::Error::other(error.to_string()))?;
    let mode = Mode::from_raw_mode(0o755);
    for directory in [STAGING, SHM, SYS, "/proc"] {
        rustix::fs::mkdirat(&root, directory.trim_start_matches('/'), mode)?;
    }
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let proc: OwnedFd = open_tree(rustix::fs::CWD, "/proc", flags)?;
    // Any directory does to attach the new root at: this namespace's copy of it is about to go.
    mounts::switch_root(root.as_fd(), "/proc")?;
    let place = rustix::fs::open("/proc", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    attach(proc.as_fd(), place.as_fd())
}

fn attach(tree: BorrowedFd<'_>, place: BorrowedFd<'_>) -> io::Result<()> {
    use rustix::mount::{MoveMountFlags, move_mount};
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    Ok(move_mount(tree, "", place, "", flags)?)
}
