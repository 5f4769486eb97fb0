//! Who has a port of the host already.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, socket_with, sockopt};

use super::{PortMapping, Protocol};

/// A port that somebody else has.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("host port {port} is taken by {holder}")]
pub struct Taken {
    /// The port that was asked for.
    pub port: PortMapping,
    /// Who has it.
    pub holder: Holder,
}

/// Who has a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Holder {
    /// The pod that asks, by another of its ports.
    Itself,
    /// Another pod.
    Pod(String),
    /// A process of the host's.
    Process {
        /// Its id.
        pid: i32,
        /// Its name.
        name: String,
    },
    /// Something whose process cannot be found: the kernel itself, or one of another namespace of process ids.
    Unknown,
}

impl Holder {
    /// The process of the host's that has a port, as far as it can be found.
    pub fn of(port: &PortMapping) -> Self {
        super::holder::of(port)
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Itself => f.write_str("another port of the same pod"),
            Self::Pod(name) => write!(f, "pod {name}"),
            Self::Process { pid, name } => write!(f, "process {pid} ({name})"),
            Self::Unknown => f.write_str("a process that cannot be seen from here"),
        }
    }
}

/// Finds out whether all these ports can be published. `taken` are the ports of other pods, by their names.
pub fn check(wanted: &[PortMapping], taken: impl Iterator<Item = (String, PortMapping)>) -> Result<(), Taken> {
    for (index, port) in wanted.iter().enumerate() {
        if wanted[..index].iter().any(|it| clash(it, port)) {
            return Err(Taken { port: *port, holder: Holder::Itself });
        }
    }
    for (pod, theirs) in taken {
        if let Some(port) = wanted.iter().find(|it| clash(it, &theirs)) {
            return Err(Taken { port: *port, holder: Holder::Pod(pod) });
        }
    }
    for port in wanted {
        if addresses(port).into_iter().any(|it| is_bound(port.protocol, it)) {
            return Err(Taken { port: *port, holder: Holder::of(port) });
        }
    }
    Ok(())
}

/// They cannot both be had: an address that is not given clashes with every one, a wildcard with those of its family.
pub fn clash(one: &PortMapping, other: &PortMapping) -> bool {
    one.protocol == other.protocol && one.host_port == other.host_port && overlap(one.host_ip, other.host_ip)
}

/// An address is among what the two stand for.
pub fn overlap(one: Option<IpAddr>, other: Option<IpAddr>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => {
            let wide = one.is_unspecified() || other.is_unspecified();
            one == other || (wide && one.is_ipv4() == other.is_ipv4())
        }
        _ => true,
    }
}

/// What would be listened on.
fn addresses(port: &PortMapping) -> Vec<SocketAddr> {
    let addresses = match port.host_ip {
        Some(ip) => vec![ip],
        None => vec![Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()],
    };
    addresses.into_iter().map(|ip| SocketAddr::new(ip, port.host_port)).collect()
}

/// Somebody has this port: asked by trying to bind it, which the kernel undoes with the socket.
fn is_bound(protocol: Protocol, address: SocketAddr) -> bool {
    matches!(try_bind(protocol, address), Err(error) if error.kind() == io::ErrorKind::AddrInUse)
}

/// An address that the host does not have, or a family, is nobody's.
fn try_bind(protocol: Protocol, address: SocketAddr) -> io::Result<()> {
    let kind = match protocol {
        Protocol::Tcp => SocketType::STREAM,
        Protocol::Udp => SocketType::DGRAM,
        // Its module may not be there, and would be loaded for the question alone.
        Protocol::Sctp => return Ok(()),
    };
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = socket_with(family, kind, SocketFlags::CLOEXEC, None)?;
    if protocol == Protocol::Tcp {
        // Else connections that are over, but not yet forgotten, would count.
        sockopt::set_socket_reuseaddr(&socket, true)?;
    }
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    Ok(bind(&socket, &address)?)
}
