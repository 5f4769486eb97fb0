//! `[::1]` of published ports.
//!
//! Packets from `::1` leave no host, so the table of nftables cannot lead them to a pod. A process per pod that publishes
//! ports listens there instead: `coracle-relay POD`, forked by the zygote in the host's network namespace, in the cgroup
//! of the pod's shim. It lives until it is told to end, whatever becomes of the process that asked for it.

mod serve;
mod tcp;
mod udp;

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, listen, socket_with, sockopt};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, PidfdFlags, Signal};
use serde::{Deserialize, Serialize};

use crate::cgroup::Cgroup;
use crate::ids::Process;
use crate::network::ports::{Holder, PortMapping, Protocol, Taken};
use crate::shim::protocol::CgroupFds;
use crate::sys::process;
use crate::zygote::Zygote;

/// Connections that wait to be accepted.
const BACKLOG: i32 = 128;
/// How long a relay may take to end once it was asked to.
const PATIENCE: Duration = Duration::from_secs(2);

/// A relay that could not be started.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Somebody listens there.
    #[error(transparent)]
    Taken(#[from] Taken),
    /// A system call failed.
    #[error("{operation} of pod {pod}: {source}")]
    Io {
        /// What was tried.
        operation: &'static str,
        /// Whose relay it is.
        pod: String,
        /// The kernel's word.
        source: io::Error,
    },
}

/// What a relay is told.
#[derive(Debug, Serialize, Deserialize)]
struct Config {
    /// The pod, for `ps`.
    pod: String,
    /// The cgroup to enter.
    cgroup: CgroupFds,
    /// Where each socket leads; they follow the cgroup's descriptors.
    targets: Vec<Target>,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Target {
    protocol: Protocol,
    address: SocketAddr,
}

/// Starts the relay of a pod in `cgroup`. None is needed for ports that are not published on `[::1]`, nor on a host
/// without that address.
pub fn start(
    zygote: &Zygote,
    pod: &str,
    cgroup: &Cgroup,
    ports: &[PortMapping],
    addresses: &[IpAddr],
) -> Result<Option<Process>, Error> {
    let failed = |operation| move |source: io::Error| Error::Io { operation, pod: pod.to_owned(), source };
    let Some(address) = addresses.iter().find(|it| it.is_ipv6()).or(addresses.first()) else { return Ok(None) };
    let mut sockets = Vec::new();
    let mut targets = Vec::new();
    for port in ports.iter().filter(|it| is_relayed(it)) {
        match open(port) {
            Ok(socket) => sockets.push(socket),
            Err(error) if is_without_v6(&error) => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                return Err(Taken { port: *port, holder: Holder::of(port) }.into());
            }
            Err(error) => return Err(failed("listen on [::1] for a published port")(error)),
        }
        targets.push(Target { protocol: port.protocol, address: SocketAddr::new(*address, port.container_port) });
    }
    if sockets.is_empty() {
        return Ok(None);
    }
    let dirs = CgroupFds { path: cgroup.path().to_owned(), parts: cgroup.parts(), first: 0 };
    let config = Config { pod: pod.to_owned(), cgroup: dirs, targets };
    spawn(zygote, &config, cgroup, &sockets).map(Some).map_err(failed("start the relay"))
}

/// Published where `[::1]` is meant, by a protocol that can be relayed.
fn is_relayed(port: &PortMapping) -> bool {
    let here = port.host_ip.is_none_or(|ip| ip == Ipv6Addr::LOCALHOST || ip == Ipv6Addr::UNSPECIFIED);
    here && port.protocol != Protocol::Sctp
}

fn is_without_v6(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL))
}

fn open(port: &PortMapping) -> io::Result<OwnedFd> {
    let kind = if port.protocol == Protocol::Tcp { SocketType::STREAM } else { SocketType::DGRAM };
    let socket = socket_with(AddressFamily::INET6, kind, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None)?;
    sockopt::set_ipv6_v6only(&socket, true)?;
    if port.protocol == Protocol::Tcp {
        sockopt::set_socket_reuseaddr(&socket, true)?;
    }
    bind(&socket, &SocketAddr::new(Ipv6Addr::LOCALHOST.into(), port.host_port))?;
    if port.protocol == Protocol::Tcp {
        listen(&socket, BACKLOG)?;
    }
    Ok(socket)
}

/// Forks it and waits for its word that it serves.
fn spawn(zygote: &Zygote, config: &Config, cgroup: &Cgroup, sockets: &[OwnedFd]) -> io::Result<Process> {
    let bytes = serde_json::to_vec(config).map_err(io::Error::from)?;
    let config = crate::launch::sealed("coracle-relay", &bytes)?;
    let (answer, ready) = pipe_with(PipeFlags::CLOEXEC)?;
    let mut fds: Vec<BorrowedFd<'_>> =
        vec![cgroup.unified_fd().unwrap_or(config.as_fd()), config.as_fd(), ready.as_fd()];
    fds.extend(cgroup.dir_fds());
    fds.extend(sockets.iter().map(|it| it.as_fd()));
    let spawned = zygote.spawn_relay(&fds)?;
    drop(fds);
    drop(ready);
    let mut text = [0; 512];
    let length = rustix::io::read(&answer, &mut text)?;
    match text[..length].split_first() {
        Some((&READY, _)) => {}
        Some(_) => return Err(io::Error::other(String::from_utf8_lossy(&text[..length]).into_owned())),
        None => return Err(io::Error::other("it ended before it served")),
    }
    Process::of(spawned.pid.as_raw_nonzero().get()).ok_or_else(|| io::Error::other("it ended at once"))
}

/// What a relay says when it serves; anything else is an error's text.
const READY: u8 = 0;

/// Ends a relay. One that is gone is success.
pub fn stop(relay: Process) -> io::Result<()> {
    let Some(pid) = Pid::from_raw(relay.pid) else { return Ok(()) };
    let pidfd = match rustix::process::pidfd_open(pid, PidfdFlags::empty()) {
        Ok(pidfd) => pidfd,
        Err(rustix::io::Errno::SRCH) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    // Once it is open the id cannot change hands: now see that it had not before.
    if !relay.is_running() {
        return Ok(());
    }
    for signal in [Signal::TERM, Signal::KILL] {
        match rustix::process::pidfd_send_signal(&pidfd, signal) {
            Ok(()) => {}
            Err(rustix::io::Errno::SRCH) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        if has_ended(&pidfd)? {
            return Ok(());
        }
    }
    Err(io::Error::other(format!("the relay, process {}, does not end", relay.pid)))
}

fn has_ended(pidfd: &OwnedFd) -> io::Result<bool> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) };
        match poll(&mut [PollFd::new(pidfd, PollFlags::IN)], Some(&timeout)) {
            Ok(ready) => return Ok(ready > 0),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Runs a relay in a process that the zygote has just forked. `fds` are a sealed [`Config`], the pipe to say that it
/// serves, the directories of the cgroup, and the sockets.
pub fn main(fds: Vec<OwnedFd>) -> i32 {
    let mut fds = fds.into_iter();
    let (Some(config), Some(ready)) = (fds.next(), fds.next()) else { return 1 };
    match prepare(config, fds.map(Some).collect()) {
        Ok(mut relay) => {
            if rustix::io::write(&ready, &[READY]).is_err() {
                return 1;
            }
            drop(ready);
            relay.serve();
            1
        }
        Err(error) => {
            // Nobody else is there to be told.
            let _ = rustix::io::write(&ready, error.to_string().as_bytes());
            1
        }
    }
}

fn prepare(config: OwnedFd, mut fds: Vec<Option<OwnedFd>>) -> io::Result<serve::Relay> {
    // The zygote blocks all signals; this one ends by them.
    process::reset_signals();
    rustix::process::setsid()?;
    rustix::thread::set_name(c"coracle-relay")?;
    let config: Config = serde_json::from_slice(&crate::shim::read_all(&config)?)?;
    process::set_title(&format!("coracle-relay {}", config.pod));
    let sockets = fds.split_off(config.cgroup.parts.len().min(fds.len()));
    let cgroup = config.cgroup.take(&mut fds)?;
    crate::launch::enter(&cgroup).map_err(|error| io::Error::other(format!("enter the shim's cgroup: {error}")))?;
    let sockets: Vec<_> = sockets.into_iter().flatten().collect();
    if sockets.len() != config.targets.len() {
        return Err(io::Error::other(format!("{} sockets for {} ports", sockets.len(), config.targets.len())));
    }
    Ok(serve::Relay::new(config.targets.into_iter().zip(sockets)))
}
