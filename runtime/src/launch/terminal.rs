//! Standard streams: pipes, the null device, or a terminal of the container's own devpts.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, Gid, Mode, OFlags, Uid};
use rustix::pty::OpenptFlags;

use super::error::{During as _, Result, refused};
use super::spec::ProcessSpec;
use super::{Stdio, child, confined, mounts};
use crate::sys::process::become_stdio;

/// statfs(2): DEVPTS_SUPER_MAGIC.
const DEVPTS_MAGIC: u64 = 0x1cd1;

/// Both ends of a pseudo-terminal.
pub struct Terminal {
    /// The end that the shim keeps or hands on.
    pub master: OwnedFd,
    slave: OwnedFd,
}

/// Opens a terminal of the devpts that is mounted in the container, owned by the process's user. A new container also
/// has it at /dev/console.
pub fn open(root: BorrowedFd<'_>, process: &ProcessSpec, console: bool) -> Result<Terminal> {
    let master = confined::open(root, "/dev/pts/ptmx", OFlags::RDWR | OFlags::NOCTTY)
        .during(|| "open /dev/pts/ptmx for a terminal".into())?;
    let kind = rustix::fs::fstatfs(&master).during(|| "look at /dev/pts/ptmx".into())?.f_type;
    if kind as u64 != DEVPTS_MAGIC {
        return Err(refused("the container's /dev/pts/ptmx is not on a devpts filesystem".into()));
    }
    rustix::pty::unlockpt(&master).during(|| "unlock the terminal".into())?;
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let slave = rustix::pty::ioctl_tiocgptpeer(&master, flags).during(|| "open the terminal".into())?;
    rustix::fs::fchmod(&slave, Mode::from_raw_mode(0o620)).during(|| "give the terminal its mode".into())?;
    rustix::fs::fchown(&slave, Some(Uid::from_raw(process.uid)), None)
        .during(|| "give the terminal its owner".into())?;
    if console {
        let tree = mounts::clone_tree(slave.as_fd()).during(|| "clone the terminal for /dev/console".into())?;
        mounts::attach(root, tree.as_fd(), "/dev/console", false)?;
    }
    Ok(Terminal { master, slave })
}

/// Puts the streams at 0, 1 and 2.
pub fn set_stdio(stdio: &Stdio, terminal: Option<Terminal>, root: BorrowedFd<'_>) -> Result<()> {
    if let Some(terminal) = terminal {
        rustix::process::ioctl_tiocsctty(&terminal.slave).during(|| "make the terminal the controlling one".into())?;
        for number in 0..3 {
            become_stdio(terminal.slave.as_fd(), number).during(|| "set the standard streams".into())?;
        }
        return Ok(());
    }
    let null = child::open_null(root, OFlags::RDWR)?;
    for (number, stream) in [(0, &stdio.stdin), (1, &stdio.stdout), (2, &stdio.stderr)] {
        let fd = stream.as_ref().unwrap_or(&null);
        become_stdio(fd.as_fd(), number).during(|| "set the standard streams".into())?;
    }
    Ok(())
}

/// Gives the ends of pipes to the user that is to open them again through /proc/self/fd (as `/dev/stdout`).
pub fn chown_pipes(stdio: &Stdio, uid: u32, gid: u32) {
    for stream in [&stdio.stdin, &stdio.stdout, &stdio.stderr].into_iter().flatten() {
        // Best effort, as every runtime does it: a stream that is no pipe of ours keeps its owner.
        let _ = rustix::fs::chownat(
            stream.as_fd(),
            "",
            Some(Uid::from_raw(uid)),
            Some(Gid::from_raw(gid)),
            AtFlags::EMPTY_PATH,
        );
    }
}
