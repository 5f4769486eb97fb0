//! Datagrams: a socket for each client, by which the pod's answers find their way back.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, connect, recv, recvfrom, send, sendto, socket_with,
};

/// Clients at once; one more takes the place of the one that was silent longest.
pub const MAX_CLIENTS: usize = 256;
/// How long a client is remembered that neither asks nor is answered.
const IDLE: Duration = Duration::from_secs(60);
/// Datagrams in a row from one socket before others have their turn.
const ROUNDS: usize = 16;

/// A client: the port's number and its address.
pub type Key = (usize, SocketAddr);

struct Client {
    socket: OwnedFd,
    last: Instant,
}

/// All ports and clients.
pub struct Clients {
    ports: Vec<(OwnedFd, SocketAddr)>,
    clients: BTreeMap<Key, Client>,
}

impl Clients {
    pub fn new(ports: Vec<(OwnedFd, SocketAddr)>) -> Self {
        Self { ports, clients: BTreeMap::new() }
    }

    pub fn ports(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.ports.iter().map(|(fd, _)| fd.as_fd())
    }

    pub fn sockets(&self) -> impl Iterator<Item = (Key, BorrowedFd<'_>)> {
        self.clients.iter().map(|(key, client)| (*key, client.socket.as_fd()))
    }

    /// Takes what clients have sent to a port. What cannot be passed on is lost, as datagrams may be.
    pub fn receive(&mut self, port: usize, buffer: &mut [u8]) {
        for _ in 0..ROUNDS {
            let Some((socket, _)) = self.ports.get(port) else { return };
            let Ok((length, _, from)) = recvfrom(socket, &mut *buffer, RecvFlags::DONTWAIT) else { return };
            let Some(from) = from.and_then(|it| SocketAddr::try_from(it).ok()) else { continue };
            if let Some(client) = self.client((port, from)) {
                let _ = send(client, &buffer[..length], SendFlags::DONTWAIT | SendFlags::NOSIGNAL);
            }
        }
    }

    fn client(&mut self, key: Key) -> Option<BorrowedFd<'_>> {
        let now = Instant::now();
        if !self.clients.contains_key(&key) {
            if self.clients.len() >= MAX_CLIENTS {
                let silent = self.clients.iter().min_by_key(|(_, it)| it.last).map(|(key, _)| *key)?;
                self.clients.remove(&silent);
            }
            let target = self.ports.get(key.0)?.1;
            let family = if target.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            let socket = socket_with(family, SocketType::DGRAM, flags, None).ok()?;
            connect(&socket, &target).ok()?;
            self.clients.insert(key, Client { socket, last: now });
        }
        let client = self.clients.get_mut(&key)?;
        client.last = now;
        Some(client.socket.as_fd())
    }

    /// Passes the pod's answers to a client.
    pub fn answer(&mut self, key: &Key, buffer: &mut [u8]) {
        let (Some(client), Some((port, _))) = (self.clients.get_mut(key), self.ports.get(key.0)) else { return };
        for _ in 0..ROUNDS {
            // An error is the pod's refusal, which has been taken with it, or there is nothing more.
            let Ok((length, _)) = recv(&client.socket, &mut *buffer, RecvFlags::DONTWAIT) else { return };
            client.last = Instant::now();
            let _ = sendto(port, &buffer[..length], SendFlags::DONTWAIT | SendFlags::NOSIGNAL, &key.1);
        }
    }

    /// When the next client will have been silent for too long.
    pub fn next_expiry(&self) -> Option<Instant> {
        self.clients.values().map(|it| it.last + IDLE).min()
    }

    /// Forgets those that have been.
    pub fn expire(&mut self, now: Instant) {
        self.clients.retain(|_, it| it.last + IDLE > now);
    }
}
