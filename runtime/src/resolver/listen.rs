//! The server's sockets.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;

use rustix::net::sockopt;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, listen, socket_with};
use tokio::net::{TcpListener, UdpSocket};

use super::PORT;

/// Connections that wait to be accepted.
const BACKLOG: i32 = 64;

/// A socket at an address that the host need not have yet: it comes with the first pod's link, and a pod's first question
/// must find somebody.
fn socket(address: IpAddr, kind: SocketType) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = socket_with(family, kind, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None)?;
    // Beside a server of the host's that listens at all addresses, and takes such neighbours.
    sockopt::set_socket_reuseaddr(&socket, true)?;
    if address.is_ipv4() {
        sockopt::set_ip_freebind(&socket, true)?;
    } else {
        sockopt::set_ipv6_v6only(&socket, true)?;
        sockopt::set_ipv6_freebind(&socket, true)?;
    }
    bind(&socket, &SocketAddr::new(address, PORT))?;
    Ok(socket)
}

/// Where datagrams are taken.
pub fn udp(address: IpAddr) -> io::Result<UdpSocket> {
    UdpSocket::from_std(socket(address, SocketType::DGRAM)?.into())
}

/// Where connections are taken.
pub fn tcp(address: IpAddr) -> io::Result<TcpListener> {
    let socket = socket(address, SocketType::STREAM)?;
    listen(&socket, BACKLOG)?;
    TcpListener::from_std(socket.into())
}
