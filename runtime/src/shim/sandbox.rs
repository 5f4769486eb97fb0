//! A pod's namespaces, made by its shim, and the pod's init.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};

use nix::sched::{CloneFlags, unshare};
use rustix::fs::{Mode, OFlags};
use rustix::mount::{MoveMountFlags, move_mount};
use rustix::process::{Pid, PidfdFlags, WaitOptions};
use rustix::thread::LinkNameSpaceType;

use super::protocol::Config;
use crate::cgroup::Cgroup;
use crate::launch::{Kind, PodNamespaces, enter, mounts};
use crate::sys::process::{self, Forked, clone_with, exit_now};
use crate::zygote::SHM;

/// The pod's namespaces and the process that holds its pid namespace.
pub struct Sandbox {
    /// What containers share.
    pub namespaces: PodNamespaces,
    /// The init's process id.
    pub init: Option<Pid>,
}

/// Makes everything that `config` asks for. The shim itself stays outside of all but a mount namespace.
pub fn make(config: &Config, init_cgroup: Option<&Cgroup>) -> io::Result<Sandbox> {
    unshare(CloneFlags::CLONE_NEWNS)?;
    let mut wanted = CloneFlags::empty();
    wanted.set(CloneFlags::CLONE_NEWNET, config.net);
    wanted.set(CloneFlags::CLONE_NEWIPC, config.ipc.is_some());
    wanted.set(CloneFlags::CLONE_NEWUTS, config.hostname.is_some());
    let home = [open_own("net")?, open_own("ipc")?, open_own("uts")?];
    unshare(wanted).map_err(|error| during("make the pod's namespaces", error.into()))?;
    let mut namespaces = PodNamespaces::default();
    if config.net {
        crate::sys::net::loopback_up().map_err(|error| during("bring up lo", error))?;
        namespaces.links.push((Kind::Net, open_own("net")?));
    }
    if let Some(size) = config.ipc {
        namespaces.links.push((Kind::Ipc, open_own("ipc")?));
        mount_shm(size)?;
    }
    if let Some(hostname) = &config.hostname {
        rustix::system::sethostname(hostname.as_bytes()).map_err(|error| during("set the host name", error.into()))?;
        namespaces.links.push((Kind::Uts, open_own("uts")?));
    }
    for (name, value) in &config.sysctls {
        write_sysctl(name, value)?;
    }
    let init = if config.pid { Some(start_init(init_cgroup)?) } else { None };
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
fn write_sysctl(name: &str, value: &str) -> io::Result<()> {
    let path = format!("/proc/sys/{}", name.replace('.', "/"));
    std::fs::write(&path, value).map_err(|error| during(&format!("set the sysctl {name} to {value:?}"), error))
}

fn mount_shm(size: u64) -> io::Result<()> {
    let size = size.to_string();
    let shm = mounts::filesystem("tmpfs", &[("mode", "1777"), ("size", &size)], mounts::hardened())
        .map_err(|error| io::Error::other(error.to_string()))?;
    move_mount(shm.as_fd(), "", rustix::fs::CWD, SHM, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
        .map_err(|error| during("mount the pod's /dev/shm", error.into()))
}

/// PID 1 of the pod's pid namespace: it reaps and does nothing else. Containers see it, so it has no descriptor, no
/// memory of anybody else's and no name but this.
fn start_init(cgroup: Option<&Cgroup>) -> io::Result<Pid> {
    let unified = cgroup.and_then(Cgroup::unified_fd);
    match clone_with(libc::CLONE_NEWPID as u64, unified).map_err(|error| during("make the pid namespace", error))? {
        Forked::Parent(pid) => Ok(pid),
        Forked::Child => {
            if cgroup.is_some_and(|it| enter(it).is_err()) {
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

fn during(operation: &str, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{operation}: {error}"))
}
