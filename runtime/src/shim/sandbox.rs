//! A pod's namespaces, made by its shim, and the pod's init.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};

use nix::sched::{CloneFlags, unshare};
use rustix::fs::{Mode, OFlags};
use rustix::mount::{MoveMountFlags, move_mount};
use rustix::process::{Pid, PidfdFlags, WaitOptions};
use rustix::thread::LinkNameSpaceType;

use super::protocol::{Config, UserFd};
use crate::cgroup::Cgroup;
use crate::launch::{Kind, PodNamespaces, enter, mounts};
use crate::sys::fdpass;
use crate::sys::process::{self, Forked, clone_with, exit_now, fork};
use crate::zygote::{SHM, SYS};

/// The pod's namespaces and the process that holds its pid namespace.
pub struct Sandbox {
    /// What containers share.
    pub namespaces: PodNamespaces,
    /// The init's process id.
    pub init: Option<Pid>,
}

/// Makes everything that `config` asks for. The shim itself stays outside of all but a mount namespace.
pub fn make(config: &Config, init_cgroup: Option<&Cgroup>, user: Option<OwnedFd>) -> io::Result<Sandbox> {
    unshare(CloneFlags::CLONE_NEWNS)?;
    let mut wanted = CloneFlags::empty();
    wanted.set(CloneFlags::CLONE_NEWNET, config.net);
    wanted.set(CloneFlags::CLONE_NEWIPC, config.ipc.is_some());
    wanted.set(CloneFlags::CLONE_NEWUTS, config.hostname.is_some());
    let home = [open_own("net")?, open_own("ipc")?, open_own("uts")?];
    let mut namespaces = PodNamespaces::default();
    let mut init = None;
    match user {
        None => unshare(wanted).map_err(|error| during("make the pod's namespaces", error.into()))?,
        Some(user) => {
            mount_sys()?;
            let made = within(&user, wanted, config.pid.then_some(init_cgroup))?;
            for (kind, fd) in &made.links {
                rustix::thread::move_into_link_name_space(fd.as_fd(), None::<LinkNameSpaceType>)
                    .map_err(|error| during(&format!("join the pod's {kind} namespace"), error.into()))?;
            }
            init = made.init;
            namespaces.user = Some(user);
        }
    }
    if config.net {
        crate::sys::net::loopback_up().map_err(|error| during("bring up lo", error))?;
        namespaces.links.push((Kind::Net, open_own("net")?));
    }
    if let Some(size) = config.ipc {
        namespaces.links.push((Kind::Ipc, open_own("ipc")?));
        mount_shm(size, config.user.as_ref())?;
    }
    if let Some(hostname) = &config.hostname {
        rustix::system::sethostname(hostname.as_bytes()).map_err(|error| during("set the host name", error.into()))?;
        namespaces.links.push((Kind::Uts, open_own("uts")?));
    }
    for (name, value) in &config.sysctls {
        set_sysctl(name, value, config.user.as_ref())?;
    }
    if config.pid && init.is_none() {
        init = Some(start_init(init_cgroup, 0)?);
    }
    for fd in &home {
        rustix::thread::move_into_link_name_space(fd.as_fd(), None::<LinkNameSpaceType>)?;
    }
    if let Some(pid) = init {
        namespaces.init = Some(rustix::process::pidfd_open(pid, PidfdFlags::empty())?);
    }
    Ok(Sandbox { namespaces, init })
}

fn open_own(kind: &str) -> io::Result<OwnedFd> {
    Ok(rustix::fs::open(format!("/proc/self/ns/{kind}"), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?)
}

/// Sysctls of the namespaces that this thread is in: the runtime has checked that they are such.
fn set_sysctl(name: &str, value: &str, user: Option<&UserFd>) -> io::Result<()> {
    let path = format!("/proc/sys/{}", name.replace('.', "/"));
    let written = match (std::fs::write(&path, value), user) {
        // Since Linux 6.9 those of an IPC namespace belong to the root of the user namespace that owns it, alone.
        (Err(error), Some(user)) if error.raw_os_error() == Some(libc::EACCES) => write_as(user.uid, &path, value),
        (written, _) => written,
    };
    written.map_err(|error| during(&format!("set the sysctl {name} to {value:?}"), error))
}

/// Writes as another user, in a process of its own.
fn write_as(uid: u32, path: &str, value: &str) -> io::Result<()> {
    let child = match fork()? {
        Forked::Parent(pid) => pid,
        Forked::Child => {
            let uid = rustix::process::Uid::from_raw(uid);
            let changed = rustix::thread::set_thread_res_uid(uid, uid, uid).map_err(io::Error::from);
            let written = changed.and_then(|()| std::fs::write(path, value));
            exit_now(written.err().map_or(0, |error| error.raw_os_error().unwrap_or(libc::EIO)))
        }
    };
    let waited = rustix::process::waitpid(Some(child), WaitOptions::empty())?;
    match waited.and_then(|(_, status)| status.exit_status()) {
        Some(0) => Ok(()),
        Some(errno) => Err(io::Error::from_raw_os_error(errno)),
        None => Err(io::Error::other("its writer was killed")),
    }
}

/// A filesystem of the host's: in a user namespace it belongs to whoever is root there.
fn mount_shm(size: u64, user: Option<&UserFd>) -> io::Result<()> {
    let size = size.to_string();
    let (uid, gid) = user.map_or((0, 0), |it| (it.uid, it.gid));
    let (uid, gid) = (uid.to_string(), gid.to_string());
    let options = [("mode", "1777"), ("size", &size), ("uid", &uid), ("gid", &gid)];
    let shm = mounts::filesystem("tmpfs", &options, mounts::hardened())
        .map_err(|error| io::Error::other(error.to_string()))?;
    move_mount(shm.as_fd(), "", rustix::fs::CWD, SHM, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
        .map_err(|error| during("mount the pod's /dev/shm", error.into()))
}

/// PID 1 of the pod's pid namespace: it reaps and does nothing else. Containers see it, so it has no descriptor, no
/// memory of anybody else's and no name but this.
///
/// `flags` are added to those of its clone.
fn start_init(cgroup: Option<&Cgroup>, flags: u64) -> io::Result<Pid> {
    let unified = cgroup.and_then(Cgroup::unified_fd);
    match clone_with(libc::CLONE_NEWPID as u64 | flags, unified)
        .map_err(|error| during("make the pid namespace", error))?
    {
        Forked::Parent(pid) => Ok(pid),
        Forked::Child => {
            if cgroup.is_some_and(|it| enter(it).is_err()) {
                exit_now(1);
            }
            // In a user namespace it is root of that and nobody outside.
            if flags != 0 && crate::launch::become_root_inside().is_err() {
                exit_now(1);
            }
            let _ = rustix::thread::set_name(c"coracle-init");
            process::set_title("coracle-init");
            // The host's mounts and the shim's descriptors are not for a process that containers can see.
            let _ = process::close_from(0);
            process::block_signals();
            loop {
                if rustix::process::wait(WaitOptions::empty()).is_err() {
                    process::wait_for_child_signal();
                }
            }
        }
    }
}

/// Namespaces that a user namespace owns.
#[derive(Default)]
struct Owned {
    links: Vec<(&'static str, OwnedFd)>,
    init: Option<Pid>,
}

/// Makes the namespaces `wanted` in the user namespace `user`, and the init of a pid namespace where `init` is given. A
/// process of its own does it and is gone: whoever enters a user namespace has no way back.
fn within(user: &OwnedFd, wanted: CloneFlags, init: Option<Option<&Cgroup>>) -> io::Result<Owned> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
    let kinds =
        [(CloneFlags::CLONE_NEWNET, "net"), (CloneFlags::CLONE_NEWIPC, "ipc"), (CloneFlags::CLONE_NEWUTS, "uts")];
    let kinds: Vec<&'static str> = kinds.into_iter().filter(|it| wanted.contains(it.0)).map(|it| it.1).collect();
    let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    let helper = match fork()? {
        Forked::Parent(pid) => pid,
        Forked::Child => {
            drop(ours);
            let made = make_within(user, wanted, &kinds, init);
            let _ = match made {
                Ok((pid, fds)) => {
                    let fds: Vec<_> = fds.iter().map(OwnedFd::as_fd).collect();
                    fdpass::send(&theirs, pid.to_string().as_bytes(), &fds)
                }
                Err(error) => fdpass::send(&theirs, format!("!{error}").as_bytes(), &[]),
            };
            exit_now(0)
        }
    };
    drop(theirs);
    let mut buffer = [0; 512];
    let answer = fdpass::receive(&ours, &mut buffer);
    let _ = rustix::process::waitpid(Some(helper), WaitOptions::empty());
    let (length, fds) = answer?;
    let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
    match text.parse() {
        Ok(pid) if fds.len() == kinds.len() => {
            Ok(Owned { links: kinds.into_iter().zip(fds).collect(), init: Pid::from_raw(pid) })
        }
        _ => Err(io::Error::other(format!("make the namespaces of the pod's user namespace: {text}"))),
    }
}

/// The helper's part: the init's process id, or 0, and the namespaces.
fn make_within(
    user: &OwnedFd,
    wanted: CloneFlags,
    kinds: &[&str],
    init: Option<Option<&Cgroup>>,
) -> io::Result<(i32, Vec<OwnedFd>)> {
    rustix::thread::move_into_link_name_space(user.as_fd(), Some(LinkNameSpaceType::User))
        .map_err(|error| during("join the user namespace", error.into()))?;
    // Before the change of user: as the host's root the init may be born in its cgroup.
    let pid = match init {
        Some(cgroup) => start_init(cgroup, libc::CLONE_PARENT as u64)?.as_raw_nonzero().get(),
        None => 0,
    };
    // What a namespace is made with, as the message queues' filesystem, belongs to its maker.
    crate::launch::become_root_inside().map_err(|error| during("become root of the user namespace", error))?;
    unshare(wanted).map_err(|error| during("make the pod's namespaces", error.into()))?;
    Ok((pid, kinds.iter().map(|kind| open_own(kind)).collect::<io::Result<_>>()?))
}

/// A sysfs in sight, of which containers can be given nothing but one of their own.
fn mount_sys() -> io::Result<()> {
    let sys =
        mounts::filesystem("sysfs", &[], mounts::hardened()).map_err(|error| io::Error::other(error.to_string()))?;
    move_mount(sys.as_fd(), "", rustix::fs::CWD, SYS, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
        .map_err(|error| during("mount a sysfs", error.into()))
}

fn during(operation: &str, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{operation}: {error}"))
}
