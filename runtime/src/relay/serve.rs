//! The loop of a relay: one thread, no buffers but one.

use std::net::SocketAddr;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::Target;
use super::tcp::{self, Connection, Side};
use super::udp::{self, Clients};
use crate::network::ports::Protocol;

/// Connections at once; more are refused.
const MAX_CONNECTIONS: u64 = 1024;
/// Descriptors besides those of connections and clients.
const RESERVED: u64 = 64;
/// How long nothing is accepted after descriptors or memory ran short.
const REST: Duration = Duration::from_millis(100);
/// The longest datagram, and the most that is read of a connection at once.
const LONGEST: usize = 64 * 1024;
/// More than is used: from this size on the allocator maps pages, of which only those exist that were written to.
const BUFFER: usize = 128 * 1024;

/// A relay.
pub struct Relay {
    listeners: Vec<(OwnedFd, SocketAddr)>,
    clients: Clients,
    connections: Vec<Connection>,
    most: usize,
    rest_until: Option<Instant>,
    buffer: Vec<u8>,
}

/// What a poll entry stands for.
enum Source {
    Listener(usize),
    Connection(usize, Side),
    Port(usize),
    Client(udp::Key),
}

impl Relay {
    pub fn new(sockets: impl Iterator<Item = (Target, OwnedFd)>) -> Self {
        let (tcp, udp): (Vec<_>, Vec<_>) = sockets.partition(|(target, _)| target.protocol == Protocol::Tcp);
        let sockets =
            |list: Vec<(Target, OwnedFd)>| list.into_iter().map(|(target, fd)| (fd, target.address)).collect();
        Self {
            listeners: sockets(tcp),
            clients: Clients::new(sockets(udp)),
            connections: Vec::new(),
            most: most_connections(),
            rest_until: None,
            buffer: vec![0; BUFFER],
        }
    }

    /// Serves for ever; only a signal ends it, or a kernel that cannot poll.
    pub fn serve(&mut self) {
        while let Ok(ready) = self.wait() {
            let buffer = &mut self.buffer[..LONGEST];
            let (mut over, mut listening) = (Vec::new(), Vec::new());
            for (source, events) in ready {
                match source {
                    Source::Connection(index, side) => {
                        if !self.connections[index].handle(side, events, buffer) {
                            over.push(index);
                        }
                    }
                    Source::Listener(index) => listening.push(index),
                    Source::Port(index) => self.clients.receive(index, buffer),
                    Source::Client(key) => self.clients.answer(&key, buffer),
                }
            }
            // From the last one on, so that those before keep their numbers.
            over.sort_unstable();
            over.dedup();
            for index in over.into_iter().rev() {
                self.connections.swap_remove(index);
            }
            for index in listening {
                self.accept(index);
            }
            self.clients.expire(Instant::now());
        }
    }

    fn wait(&mut self) -> rustix::io::Result<Vec<(Source, PollFlags)>> {
        let now = Instant::now();
        self.rest_until = self.rest_until.filter(|it| *it > now);
        let mut sources: Vec<(Source, BorrowedFd<'_>, PollFlags)> = Vec::new();
        if self.rest_until.is_none() {
            let listeners = self.listeners.iter().enumerate();
            sources.extend(listeners.map(|(index, (fd, _))| (Source::Listener(index), fd.as_fd(), PollFlags::IN)));
        }
        for (index, connection) in self.connections.iter().enumerate() {
            let wanted = connection.interest().into_iter().flatten();
            sources.extend(wanted.map(|(side, fd, events)| (Source::Connection(index, side), fd, events)));
        }
        let ports = self.clients.ports().enumerate();
        sources.extend(ports.map(|(index, fd)| (Source::Port(index), fd, PollFlags::IN)));
        sources.extend(self.clients.sockets().map(|(key, fd)| (Source::Client(key), fd, PollFlags::IN)));
        let mut fds: Vec<_> = sources.iter().map(|(_, fd, events)| PollFd::from_borrowed_fd(*fd, *events)).collect();
        let until = [self.rest_until, self.clients.next_expiry()].into_iter().flatten().min();
        let timeout = until.map(|it| {
            // Rounded up, or the last millisecond would be one of many short waits.
            let left = it.saturating_duration_since(now) + Duration::from_millis(1);
            Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) }
        });
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
        let ready: Vec<PollFlags> = fds.iter().map(PollFd::revents).collect();
        drop(fds);
        let both = sources.into_iter().zip(ready);
        Ok(both.filter(|(_, events)| !events.is_empty()).map(|((source, ..), events)| (source, events)).collect())
    }

    fn accept(&mut self, index: usize) {
        let Some((listener, target)) = self.listeners.get(index) else { return };
        let client = match tcp::accept(listener) {
            Ok(client) => client,
            // It went away while it waited, or another error of the network's that is its own alone.
            Err(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) => {
                self.rest_until = Some(Instant::now() + REST);
                return;
            }
            Err(_) => return,
        };
        if self.connections.len() >= self.most {
            return tcp::reset(&client);
        }
        match Connection::begin(client, *target) {
            Ok(connection) => self.connections.push(connection),
            Err(client) => tcp::reset(&client),
        }
    }
}

/// As many as there are descriptors for, having asked for all that there may be.
fn most_connections() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    // What it is otherwise is what there is.
    let _ = setrlimit(Resource::Nofile, raised);
    let descriptors = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let left = descriptors.saturating_sub(RESERVED + udp::MAX_CLIENTS as u64);
    (left / 2).clamp(1, MAX_CONNECTIONS) as usize
}
