//! The zygote: a process forked first thing in `main`, from which every shim and relay is forked.
//!
//! A shim that is forked from it, rather than executed, shares the binary's relocated pages with all others (68 KiB
//! private against 704), starts in a third of a millisecond, and holds nothing of the agent: no memory, no environment,
//! no descriptor. The zygote has one thread, one socket, and a root of its own in which there is nothing but procfs: what
//! a shim needs of the host comes as descriptors. It ends when its socket closes; its shims live on.

mod server;
mod userns;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Mutex;

use rustix::mount::{MountAttrFlags, OpenTreeFlags, open_tree};
use rustix::process::Pid;

use crate::sys::fdpass;
use crate::sys::mount::{self, Attributes};
use crate::sys::process::{Forked, exec_fd, exit_now, fork};
use crate::userns::IdMap;

/// Where a container's root is attached before it becomes `/`, in the zygote's root.
pub const STAGING: &str = "/root";
/// Where a shim attaches its pod's /dev/shm.
pub const SHM: &str = "/shm";
/// Where the shim of a pod with a user namespace has a sysfs: without one in sight the kernel lets such a pod mount none.
pub const SYS: &str = "/sys";

/// What the zygote is asked for.
const SHIM: &[u8] = b"shim";
const RELAY: &[u8] = b"relay";
const USER_NAMESPACE: &[u8] = b"userns";

/// The socket to the zygote.
#[derive(Debug)]
pub struct Zygote {
    socket: Mutex<OwnedFd>,
}

/// A shim or relay that was just forked.
#[derive(Debug)]
pub struct Spawned {
    /// Its process id.
    pub pid: Pid,
    /// Its pidfd.
    pub pidfd: OwnedFd,
}

/// Makes this process safe to fork containers from, and forks the zygote. Call it before any thread is started.
///
/// The first call replaces the process by itself, executed from a read-only mount of its own file: so no process of a
/// container that gets at a `/proc/PID/exe` of ours can open it for writing (CVE-2019-5736).
pub fn prepare() -> io::Result<Zygote> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
    if !runs_from_readonly_mount()? {
        reexec_from_readonly_mount()?;
    }
    let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    match fork()? {
        Forked::Parent(_) => Ok(Zygote { socket: Mutex::new(ours) }),
        Forked::Child => {
            drop(ours);
            // The other end sees it go; there is nobody else to tell.
            let code = if server::serve(theirs).is_ok() { 0 } else { 1 };
            exit_now(code)
        }
    }
}

impl Zygote {
    /// Forks a shim. `fds` are its descriptors, as [`crate::shim`] wants them.
    pub fn spawn(&self, fds: &[BorrowedFd<'_>]) -> io::Result<Spawned> {
        self.fork(SHIM, fds)
    }

    /// Forks a relay. `fds` are its descriptors, as [`crate::relay`] wants them.
    pub fn spawn_relay(&self, fds: &[BorrowedFd<'_>]) -> io::Result<Spawned> {
        self.fork(RELAY, fds)
    }

    /// Makes a user namespace with these mappings. Nobody is in it: it lives as long as its descriptor, or a pin.
    pub fn user_namespace(&self, map: &IdMap) -> io::Result<OwnedFd> {
        let map = crate::launch::sealed("coracle-userns", &serde_json::to_vec(map)?)?;
        let (text, fd) = self.ask(USER_NAMESPACE, &[map.as_fd()])?;
        fd.ok_or_else(|| io::Error::other(text))
    }

    fn fork(&self, what: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<Spawned> {
        let (text, fd) = self.ask(what, fds)?;
        match (text.parse().ok().and_then(Pid::from_raw), fd) {
            (Some(pid), Some(pidfd)) => Ok(Spawned { pid, pidfd }),
            _ => Err(io::Error::other(format!("the zygote could not fork: {text}"))),
        }
    }

    /// One request and its answer: words, and a descriptor if it went well.
    fn ask(&self, what: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<(String, Option<OwnedFd>)> {
        let socket = self.socket.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        fdpass::send(&*socket, what, fds)?;
        let mut buffer = [0; 256];
        let (length, mut fds) = fdpass::receive(&*socket, &mut buffer)?;
        if length == 0 {
            return Err(io::Error::other("the zygote is gone; start coracle again"));
        }
        Ok((String::from_utf8_lossy(&buffer[..length]).into_owned(), fds.pop()))
    }
}

fn runs_from_readonly_mount() -> io::Result<bool> {
    let file = rustix::fs::open(
        "/proc/self/exe",
        rustix::fs::OFlags::PATH | rustix::fs::OFlags::CLOEXEC,
        rustix::fs::Mode::empty(),
    )?;
    Ok(rustix::fs::fstatvfs(&file)?.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY))
}

fn reexec_from_readonly_mount() -> io::Result<()> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let binary = open_tree(rustix::fs::CWD, "/proc/self/exe", flags)?;
    let readonly = u64::from(MountAttrFlags::MOUNT_ATTR_RDONLY.bits());
    mount::set_attributes(binary.as_fd(), false, Attributes { set: readonly, ..Attributes::default() })?;
    let args: Vec<_> = std::env::args_os().map(c_string).collect::<io::Result<_>>()?;
    let env = std::env::vars_os().map(|(name, value)| {
        let mut pair = name;
        pair.push("=");
        pair.push(value);
        c_string(pair)
    });
    let env: Vec<_> = env.collect::<io::Result<_>>()?;
    Err(exec_fd(binary.as_fd(), &args, &env))
}

fn c_string(text: std::ffi::OsString) -> io::Result<std::ffi::CString> {
    use std::os::unix::ffi::OsStringExt as _;
    Ok(std::ffi::CString::new(text.into_vec())?)
}
