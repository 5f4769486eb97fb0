//! Sockets as a relay wants them: none of them blocks.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};

use super::config::Protocol;

/// Connections that wait to be accepted; the kernel may have fewer.
const BACKLOG: i32 = 1024;

/// A peer that is silent for so long is asked whether it is still there, then again after each interval; so many times
/// without an answer, and it is not. Connections may be silent for as long as they like.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(60);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);
const KEEPALIVE_COUNT: u32 = 4;

const FLAGS: SocketFlags = SocketFlags::CLOEXEC.union(SocketFlags::NONBLOCK);

/// Listens at a port of every address of both families; of IPv4 alone where the kernel has no IPv6.
pub fn listen(protocol: Protocol, port: u16) -> io::Result<OwnedFd> {
    let both = bind(protocol, SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port));
    let outcome = match both {
        Err(Errno::AFNOSUPPORT | Errno::ADDRNOTAVAIL) => {
            bind(protocol, SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port))
        }
        outcome => outcome,
    };
    Ok(outcome?)
}

fn bind(protocol: Protocol, address: SocketAddr) -> Result<OwnedFd, Errno> {
    let kind = if protocol == Protocol::Tcp { SocketType::STREAM } else { SocketType::DGRAM };
    let socket = rustix::net::socket_with(family(address.ip()), kind, FLAGS, None)?;
    if address.is_ipv6() {
        // The default for this is a sysctl; both families are wanted whatever it says.
        sockopt::set_ipv6_v6only(&socket, false)?;
    }
    if protocol == Protocol::Tcp {
        sockopt::set_socket_reuseaddr(&socket, true)?;
    }
    rustix::net::bind(&socket, &address)?;
    if protocol == Protocol::Tcp {
        rustix::net::listen(&socket, BACKLOG)?;
    }
    Ok(socket)
}

fn family(ip: IpAddr) -> AddressFamily {
    if ip.is_ipv6() { AddressFamily::INET6 } else { AddressFamily::INET }
}

/// The next connection, and who it is from. None if there is none.
pub fn accept(listener: impl AsFd) -> io::Result<Option<(OwnedFd, SocketAddr)>> {
    loop {
        match rustix::net::acceptfrom_with(&listener, FLAGS) {
            Ok((socket, from)) => {
                tune(&socket);
                let from = from.and_then(|from| SocketAddr::try_from(from).ok());
                return Ok(Some((socket, from.unwrap_or(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0)))));
            }
            Err(Errno::AGAIN) => return Ok(None),
            // It was gone before it was taken.
            Err(Errno::INTR | Errno::CONNABORTED | Errno::PROTO) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Begins to connect; whether it came about is known when the socket can be written to.
pub fn connect(protocol: Protocol, address: SocketAddr) -> io::Result<OwnedFd> {
    let kind = if protocol == Protocol::Tcp { SocketType::STREAM } else { SocketType::DGRAM };
    let socket = rustix::net::socket_with(family(address.ip()), kind, FLAGS, None)?;
    if protocol == Protocol::Tcp {
        tune(&socket);
    }
    match rustix::net::connect(&socket, &address) {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(socket),
        Err(error) => Err(error.into()),
    }
}

/// What became of [`connect`].
pub fn connected(socket: impl AsFd) -> io::Result<()> {
    match sockopt::socket_error(socket) {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) | Err(error) => Err(error.into()),
    }
}

/// The address of ours that a connection is to.
pub fn local_address(socket: impl AsFd) -> Option<SocketAddr> {
    SocketAddr::try_from(rustix::net::getsockname(socket).ok()?).ok()
}

/// Makes closing a socket an abort, as far as its peer can tell.
pub fn abort_on_close(socket: impl AsFd) {
    let _ = sockopt::set_socket_linger(socket, Some(Duration::ZERO));
}

/// What cannot be set costs some time or a late discovery, no bytes.
fn tune(socket: impl AsFd) {
    let _ = sockopt::set_tcp_nodelay(&socket, true);
    let _ = sockopt::set_socket_keepalive(&socket, true);
    let _ = sockopt::set_tcp_keepidle(&socket, KEEPALIVE_IDLE);
    let _ = sockopt::set_tcp_keepintvl(&socket, KEEPALIVE_INTERVAL);
    let _ = sockopt::set_tcp_keepcnt(&socket, KEEPALIVE_COUNT);
}
