//! A connection: what comes in on one side goes out on the other.

use std::net::SocketAddr;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, Shutdown, SocketFlags, SocketType, accept_with, connect, recv, send, shutdown,
    socket_with, sockopt,
};

/// Reads in a row from one side before others have their turn.
const ROUNDS: usize = 8;

/// One of the two ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Client,
    Server,
}

/// One direction.
#[derive(Clone, Copy, Default)]
struct Flow {
    /// The receiver takes nothing at present. What it has not taken stays in the sender's socket.
    blocked: bool,
    /// The sender has ended, and the receiver knows.
    ended: bool,
}

/// A client and the pod.
pub struct Connection {
    client: OwnedFd,
    server: OwnedFd,
    connecting: bool,
    up: Flow,
    down: Flow,
}

const FLAGS: SocketFlags = SocketFlags::CLOEXEC.union(SocketFlags::NONBLOCK);

/// Takes a client.
pub fn accept(listener: &OwnedFd) -> rustix::io::Result<OwnedFd> {
    let client = accept_with(listener, FLAGS)?;
    // Only its speed is at stake.
    let _ = sockopt::set_tcp_nodelay(&client, true);
    Ok(client)
}

/// Makes the closing of a connection one that its peer takes for a failure.
pub fn reset(socket: &OwnedFd) {
    // If that is refused, the peer sees an end instead.
    let _ = sockopt::set_socket_linger(socket, Some(Duration::ZERO));
}

impl Connection {
    /// Begins to connect a client to its pod; gives it back if that cannot be.
    pub fn begin(client: OwnedFd, target: SocketAddr) -> Result<Self, OwnedFd> {
        let family = if target.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let Ok(server) = socket_with(family, SocketType::STREAM, FLAGS, None) else { return Err(client) };
        let _ = sockopt::set_tcp_nodelay(&server, true);
        let connecting = match connect(&server, &target) {
            Ok(()) => false,
            Err(Errno::INPROGRESS) => true,
            Err(_) => return Err(client),
        };
        Ok(Self { client, server, connecting, up: Flow::default(), down: Flow::default() })
    }

    /// What to wait for. A side of which nothing is wanted is left out: its hang-up would be told again and again.
    pub fn interest(&self) -> [Option<(Side, BorrowedFd<'_>, PollFlags)>; 2] {
        if self.connecting {
            let client = (Side::Client, self.client.as_fd(), PollFlags::empty());
            return [Some(client), Some((Side::Server, self.server.as_fd(), PollFlags::OUT))];
        }
        let side = |side, fd, from: Flow, to: Flow| {
            let mut events = PollFlags::empty();
            events.set(PollFlags::IN, !from.ended && !from.blocked);
            events.set(PollFlags::OUT, to.blocked);
            (!events.is_empty()).then_some((side, fd, events))
        };
        [
            side(Side::Client, self.client.as_fd(), self.up, self.down),
            side(Side::Server, self.server.as_fd(), self.down, self.up),
        ]
    }

    /// Does what can be done. `false` means that it is over.
    pub fn handle(&mut self, side: Side, events: PollFlags, buffer: &mut [u8]) -> bool {
        match self.advance(side, events, buffer) {
            Ok(()) => !(self.up.ended && self.down.ended),
            Err(_) => {
                // Neither side may take this for the other's regular end.
                reset(&self.client);
                reset(&self.server);
                false
            }
        }
    }

    fn advance(&mut self, side: Side, events: PollFlags, buffer: &mut [u8]) -> rustix::io::Result<()> {
        if self.connecting {
            if side == Side::Client {
                // It has hung up: nothing else was asked of it.
                return Err(Errno::CONNRESET);
            }
            sockopt::socket_error(&self.server)??;
            self.connecting = false;
            return Ok(());
        }
        let writable = events.intersects(PollFlags::OUT | PollFlags::ERR | PollFlags::HUP);
        let (from, to) = match side {
            Side::Client => (&mut self.up, &mut self.down),
            Side::Server => (&mut self.down, &mut self.up),
        };
        to.blocked &= !writable;
        let (here, there) = match side {
            Side::Client => (&self.client, &self.server),
            Side::Server => (&self.server, &self.client),
        };
        pump(to, there, here, buffer)?;
        pump(from, here, there, buffer)
    }
}

/// Moves what there is from one socket to the other.
fn pump(flow: &mut Flow, from: &OwnedFd, to: &OwnedFd, buffer: &mut [u8]) -> rustix::io::Result<()> {
    for _ in 0..ROUNDS {
        if flow.blocked || flow.ended {
            return Ok(());
        }
        let length = match recv(from, &mut *buffer, RecvFlags::PEEK | RecvFlags::DONTWAIT) {
            Ok((0, _)) => {
                flow.ended = true;
                // The other direction goes on. One that is gone altogether is noticed there.
                let _ = shutdown(to, Shutdown::Write);
                return Ok(());
            }
            Ok((length, _)) => length,
            Err(Errno::AGAIN | Errno::INTR) => return Ok(()),
            Err(error) => return Err(error),
        };
        let taken = match send(to, &buffer[..length], SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
            Ok(taken) => taken,
            Err(Errno::AGAIN) => 0,
            Err(Errno::INTR) => continue,
            Err(error) => return Err(error),
        };
        flow.blocked = taken < length;
        if taken > 0 {
            // TCP throws away what it was asked for, without copying it once more (tcp(7)).
            recv(from, &mut buffer[..taken], RecvFlags::TRUNC | RecvFlags::DONTWAIT)?;
        }
    }
    Ok(())
}
