//! Connections to ports in a sandbox's network.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::oneshot;

/// Connects to a port of localhost, by IPv4 and then by IPv6, in the network namespace that is pinned at `namespace`;
/// in this process's own without one.
pub async fn connect(namespace: Option<PathBuf>, port: u16) -> io::Result<TcpStream> {
    let mut failures = Vec::new();
    for (family, address) in [
        (AddressFamily::INET, SocketAddr::from((Ipv4Addr::LOCALHOST, port))),
        (AddressFamily::INET6, SocketAddr::from((Ipv6Addr::LOCALHOST, port))),
    ] {
        let connected = async { socket_in(namespace.clone(), family).await?.connect(address).await };
        match connected.await {
            Ok(stream) => return Ok(stream),
            Err(error) => failures.push(format!("{address}: {error}")),
        }
    }
    Err(io::Error::other(failures.join("; ")))
}

/// A socket belongs to the network that it was made in, wherever it is used.
async fn socket_in(namespace: Option<PathBuf>, family: AddressFamily) -> io::Result<TcpSocket> {
    let socket = match namespace {
        None => open(family)?,
        Some(path) => {
            let (answer, answered) = oneshot::channel();
            // A thread that is thrown away: what has entered a pod's namespace serves nobody else.
            std::thread::Builder::new().name("port-forward".into()).stack_size(128 * 1024).spawn(move || {
                // Nobody waits any more if it cannot be told.
                let _ = answer.send(enter(&path).and_then(|()| open(family)));
            })?;
            answered.await.map_err(io::Error::other)??
        }
    };
    from_fd(socket)
}

fn enter(path: &Path) -> io::Result<()> {
    let namespace = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    Ok(move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?)
}

fn open(family: AddressFamily) -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(socket_with(family, SocketType::STREAM, flags, None)?)
}

fn from_fd(socket: OwnedFd) -> io::Result<TcpSocket> {
    // The standard library has no type for a socket that is not connected yet; tokio takes it through this one.
    Ok(TcpSocket::from_std_stream(std::net::TcpStream::from(socket)))
}
