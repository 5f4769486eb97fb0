//! UDP: each client has a socket of its own to its target, for as long as anything is said.
//!
//! Unlike a connection, a client's way moves: when its target is not one any more, or is down, the next packet goes to
//! another one.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::Instant;

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};

use super::poller::{Key, Kind, Slab, Token};
use super::sockets;
use super::tcp::Context;
use super::upstream::Choice;
use crate::tool::ambassador::config::Protocol;

/// Packets taken before others have their turn.
const PACKETS_AT_ONCE: usize = 64;

/// The longest packet there is.
const PACKET_BYTES: usize = 65536;

/// All UDP clients.
#[derive(Default)]
pub struct Sessions {
    slab: Slab<Session>,
    by_client: HashMap<(Key, SocketAddr), Key>,
    /// Made when the first packet comes.
    buffer: Vec<u8>,
}

struct Session {
    port: Key,
    client: SocketAddr,
    choice: Choice,
    socket: OwnedFd,
    active: Instant,
}

impl Sessions {
    /// Packets came from clients.
    pub fn receive(&mut self, port: Key, context: &mut Context<'_>) {
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.resize(PACKET_BYTES, 0);
        for _ in 0..PACKETS_AT_ONCE {
            let Some(serving) = context.ports.get(port) else { break };
            match rustix::net::recvfrom(&serving.socket, &mut buffer[..], RecvFlags::empty()) {
                Ok((_, length, from)) => {
                    let from = from.and_then(|from| SocketAddr::try_from(from).ok());
                    let packet = &buffer[..length.min(PACKET_BYTES)];
                    let sent = from.is_some_and(|from| self.forward(port, from, packet, context));
                    context.ports.count(port, |counts| match sent {
                        true => counts.received += packet.len() as u64,
                        false => counts.dropped += 1,
                    });
                }
                Err(Errno::INTR) => {}
                // Such as what an answer to somebody who is gone came to.
                Err(_) => break,
            }
        }
        self.buffer = buffer;
    }

    /// Sends a client's packet to its target. Whether that was possible.
    fn forward(&mut self, port: Key, from: SocketAddr, packet: &[u8], context: &mut Context<'_>) -> bool {
        // What became of the last packet may only show now; then it is another target's turn.
        for _ in 0..2 {
            let Some(key) = self.session(port, from, context) else { return false };
            let Some(session) = self.slab.get_mut(key) else { return false };
            match rustix::net::send(&session.socket, packet, SendFlags::NOSIGNAL) {
                Ok(_) => {
                    session.active = context.now;
                    return true;
                }
                Err(Errno::AGAIN | Errno::NOBUFS | Errno::INTR | Errno::MSGSIZE) => return false,
                Err(error) => self.broke(key, error, context),
            }
        }
        false
    }

    /// The client's session; a new one if it has none that leads anywhere.
    fn session(&mut self, port: Key, client: SocketAddr, context: &mut Context<'_>) -> Option<Key> {
        if let Some(key) = self.by_client.get(&(port, client)).copied() {
            let choice = self.slab.get(key)?.choice;
            if context.ports.leads_to(port, choice, context.upstream, context.now) {
                return Some(key);
            }
            self.end(key, context);
        }
        if self.slab.len() >= context.config.max_connections {
            return None;
        }
        let choices = context.ports.choose(port, context.config, context.upstream, context.now)?;
        for choice in choices {
            match sockets::connect(Protocol::Udp, choice.address) {
                Ok(socket) => {
                    context.upstream.tried(choice, Ok(()), context.poller, context.now);
                    return self.begin(Session { port, client, choice, socket, active: context.now }, context);
                }
                Err(error) => context.upstream.tried(choice, Err(&error), context.poller, context.now),
            }
        }
        context.ports.count(port, |counts| counts.refused += 1);
        None
    }

    fn begin(&mut self, session: Session, context: &mut Context<'_>) -> Option<Key> {
        let (port, client) = (session.port, session.client);
        let key = self.slab.add(session);
        let token = Token { kind: Kind::Session, key };
        if context.poller.add_readable(&self.slab.get(key)?.socket, token).is_err() {
            self.slab.remove(key);
            return None;
        }
        context.poller.at(context.now + context.config.udp_idle, token);
        self.by_client.insert((port, client), key);
        context.ports.count(port, |counts| {
            counts.accepted += 1;
            counts.open += 1;
        });
        Some(key)
    }

    /// Packets came from a target.
    pub fn answer(&mut self, key: Key, context: &mut Context<'_>) {
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.resize(PACKET_BYTES, 0);
        for _ in 0..PACKETS_AT_ONCE {
            let Some(session) = self.slab.get_mut(key) else { break };
            match rustix::net::recv(&session.socket, &mut buffer[..], RecvFlags::empty()) {
                Ok((_, length)) => {
                    session.active = context.now;
                    let Some(serving) = context.ports.get(session.port) else { break };
                    let packet = &buffer[..length.min(PACKET_BYTES)];
                    let sent = rustix::net::sendto(&serving.socket, packet, SendFlags::NOSIGNAL, &session.client);
                    context.ports.count(session.port, |counts| match sent {
                        Ok(_) => counts.sent += packet.len() as u64,
                        Err(_) => counts.dropped += 1,
                    });
                }
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR) => {}
                Err(error) => self.broke(key, error, context),
            }
        }
        self.buffer = buffer;
    }

    /// A session may have been silent for long enough.
    pub fn time(&mut self, key: Key, context: &mut Context<'_>) {
        let Some(session) = self.slab.get(key) else { return };
        let until = session.active + context.config.udp_idle;
        if until <= context.now {
            self.end(key, context);
        } else {
            context.poller.at(until, Token { kind: Kind::Session, key });
        }
    }

    /// Nobody listens where the packets go.
    fn broke(&mut self, key: Key, error: Errno, context: &mut Context<'_>) {
        if let Some(session) = self.slab.get(key) {
            context.upstream.tried(session.choice, Err(&error.into()), context.poller, context.now);
        }
        self.end(key, context);
    }

    fn end(&mut self, key: Key, context: &mut Context<'_>) {
        if let Some(session) = self.slab.remove(key) {
            self.by_client.remove(&(session.port, session.client));
            context.ports.count(session.port, |counts| counts.open = counts.open.saturating_sub(1));
        }
    }
}
