//! TCP connections: one from a client, one to a target, and the bytes between them.
//!
//! ```text
//!  accepted ─┬─> waits for a name ─> tries the targets in order ─┬─> open ─> both directions are done, or one broke
//!            └───────────────────────^                           └─> refused: no target accepts
//! ```

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use super::config::Config;
use super::flow::{Flow, Pipes, Progress, Side};
use super::poller::{Key, Kind, Poller, Ready, Slab, Token};
use super::ports::Ports;
use super::upstream::{Choice, Upstream, say};
use super::{proxy, sockets};

/// Connections accepted before others have their turn.
const ACCEPTED_AT_ONCE: usize = 64;

/// After the kernel could not give a descriptor.
const BREATH: Duration = Duration::from_millis(100);

/// What a connection needs of everything else.
pub struct Context<'a> {
    /// What is configured.
    pub config: &'a Config,
    /// Where descriptors and times are told.
    pub poller: &'a mut Poller,
    /// The ports.
    pub ports: &'a mut Ports,
    /// The targets.
    pub upstream: &'a mut Upstream,
    /// The time now.
    pub now: Instant,
}

/// All connections.
#[derive(Default)]
pub struct Connections {
    slab: Slab<Connection>,
    pipes: Pipes,
    /// Those that have more to do than one turn allowed.
    busy: VecDeque<Key>,
    /// Those that wait for a name to be looked up.
    waiting: Vec<Key>,
    /// Until when nothing is accepted.
    breath: Option<Instant>,
    /// Nothing is accepted.
    paused: bool,
}

struct Connection {
    port: Key,
    from: SocketAddr,
    client: Side,
    state: State,
    /// The target is told this first.
    head: Vec<u8>,
    /// Until when the state may last, unless it is open.
    until: Instant,
    up: Flow,
    down: Flow,
    /// It is among the busy ones.
    queued: bool,
}

enum State {
    /// For a name to be looked up.
    Waiting,
    /// For this target, then the others, next last.
    Connecting(Side, Choice, Vec<Choice>),
    /// It stands.
    Open(Side),
}

impl Connections {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.slab.len()
    }

    /// Whether some have work to do at once.
    pub fn is_busy(&self) -> bool {
        !self.busy.is_empty()
    }

    /// Accepts what waits at a port.
    pub fn accept(&mut self, port: Key, context: &mut Context<'_>) {
        for _ in 0..ACCEPTED_AT_ONCE {
            if self.len() >= context.config.max_connections {
                self.pause(context);
                return;
            }
            let Some(serving) = context.ports.get(port) else { return };
            match sockets::accept(&serving.socket) {
                Ok(Some((socket, from))) => self.begin(port, socket, from, context),
                Ok(None) => return,
                Err(error) => {
                    say(&format!("cannot accept a connection: {error}"));
                    self.pause(context);
                    self.breath = Some(context.now + BREATH);
                    context.poller.at(context.now + BREATH, Token { kind: Kind::TcpListener, key: port });
                    return;
                }
            }
        }
    }

    /// It may be time to accept again.
    pub fn breathe(&mut self, context: &mut Context<'_>) {
        self.breath = self.breath.filter(|until| *until > context.now);
        self.resume(context);
    }

    fn pause(&mut self, context: &mut Context<'_>) {
        self.paused = true;
        context.ports.pause(true, context.poller);
    }

    fn resume(&mut self, context: &mut Context<'_>) {
        if self.paused && self.breath.is_none() && self.len() < context.config.max_connections {
            self.paused = false;
            context.ports.pause(false, context.poller);
        }
    }

    fn begin(&mut self, port: Key, socket: OwnedFd, from: SocketAddr, context: &mut Context<'_>) {
        context.ports.count(port, |counts| {
            counts.accepted += 1;
            counts.open += 1;
        });
        let key = self.slab.add(Connection {
            port,
            from,
            client: Side::new(socket),
            state: State::Waiting,
            head: Vec::new(),
            until: context.now + context.config.connect_timeout,
            up: Flow::default(),
            down: Flow::default(),
            queued: false,
        });
        let token = Token { kind: Kind::Client, key };
        let added = self.slab.get(key).map_or(Ok(()), |it| context.poller.add_edges(&it.client.fd, token));
        match added {
            Ok(()) => self.choose(key, context),
            Err(_) => self.refuse(key, context),
        }
    }

    /// Finds the targets to try, or waits until they are known.
    fn choose(&mut self, key: Key, context: &mut Context<'_>) {
        let Some(connection) = self.slab.get_mut(key) else { return };
        match context.ports.choose(connection.port, context.config, context.upstream, context.now) {
            Some(mut choices) => {
                choices.reverse();
                self.next(key, choices, context);
            }
            None => {
                self.waiting.push(key);
                context.poller.at(connection.until, Token { kind: Kind::Client, key });
            }
        }
    }

    /// Names were looked up: what waited for one may go on.
    pub fn look_again(&mut self, context: &mut Context<'_>) {
        for key in std::mem::take(&mut self.waiting) {
            self.choose(key, context);
        }
    }

    /// Tries the next target.
    fn next(&mut self, key: Key, mut choices: Vec<Choice>, context: &mut Context<'_>) {
        while let Some(choice) = choices.pop() {
            let Some(connection) = self.slab.get_mut(key) else { return };
            let token = Token { kind: Kind::Server, key };
            let begun = sockets::connect(super::config::Protocol::Tcp, choice.address)
                .and_then(|socket| context.poller.add_edges(&socket, token).map(|()| socket));
            match begun {
                Ok(socket) => {
                    connection.state = State::Connecting(Side::new(socket), choice, choices);
                    connection.until = context.now + context.config.connect_timeout;
                    context.poller.at(connection.until, Token { kind: Kind::Client, key });
                    return;
                }
                Err(error) => context.upstream.tried(choice, Err(&error), context.poller, context.now),
            }
        }
        self.refuse(key, context);
    }

    /// Something happened to one of a connection's sockets.
    pub fn ready(&mut self, ready: Ready, context: &mut Context<'_>) {
        let key = ready.token.key;
        let Some(connection) = self.slab.get_mut(key) else { return };
        let side = match (&mut connection.state, ready.token.kind) {
            (_, Kind::Client) => &mut connection.client,
            (State::Connecting(side, ..) | State::Open(side), _) => side,
            (State::Waiting, _) => return,
        };
        side.readable |= ready.readable;
        side.writable |= ready.writable;
        match &connection.state {
            State::Open(_) => self.advance(key, context),
            State::Connecting(side, ..) if ready.token.kind == Kind::Server && side.writable => {
                self.connected(key, context);
            }
            _ => {}
        }
    }

    /// The target has accepted, or has not.
    fn connected(&mut self, key: Key, context: &mut Context<'_>) {
        let Some(connection) = self.slab.get_mut(key) else { return };
        let State::Connecting(side, choice, left) = std::mem::replace(&mut connection.state, State::Waiting) else {
            return;
        };
        let outcome = sockets::connected(&side.fd);
        context.upstream.tried(choice, outcome.as_ref().copied(), context.poller, context.now);
        if outcome.is_err() {
            drop(side);
            self.next(key, left, context);
            return;
        }
        if let Some(version) = context.config.proxy {
            let local = sockets::local_address(&connection.client.fd).unwrap_or(connection.from);
            connection.head = proxy::head(version, connection.from, local);
        }
        connection.state = State::Open(side);
        self.advance(key, context);
    }

    /// A connection may have waited for long enough.
    pub fn time(&mut self, key: Key, context: &mut Context<'_>) {
        let Some(connection) = self.slab.get_mut(key).filter(|it| it.until <= context.now) else { return };
        match std::mem::replace(&mut connection.state, State::Waiting) {
            open @ State::Open(_) => connection.state = open,
            State::Waiting => self.refuse(key, context),
            State::Connecting(side, choice, left) => {
                drop(side);
                let error = io::Error::new(io::ErrorKind::TimedOut, "no answer in time");
                context.upstream.tried(choice, Err(&error), context.poller, context.now);
                self.next(key, left, context);
            }
        }
    }

    /// Gives those a turn that had more to do than one.
    pub fn go_on(&mut self, context: &mut Context<'_>) {
        for _ in 0..self.busy.len() {
            let Some(key) = self.busy.pop_front() else { return };
            if let Some(connection) = self.slab.get_mut(key) {
                connection.queued = false;
            }
            self.advance(key, context);
        }
    }

    /// Moves what can be moved.
    fn advance(&mut self, key: Key, context: &mut Context<'_>) {
        let Some(connection) = self.slab.get_mut(key) else { return };
        let (port, mut bytes) = (connection.port, (0, 0));
        let outcome = connection.advance(&mut self.pipes, &mut bytes);
        let over = connection.up.is_done() && connection.down.is_done();
        if outcome == Ok(Progress::HasMore) && !std::mem::replace(&mut connection.queued, true) {
            self.busy.push_back(key);
        }
        context.ports.count(port, |counts| {
            counts.received += bytes.0;
            counts.sent += bytes.1;
        });
        match outcome {
            Ok(Progress::Waits) if over => self.end(key, context),
            Ok(_) => {}
            // Whoever is left is told by the same sign that came here.
            Err(_) => self.abort(key, context),
        }
    }

    fn refuse(&mut self, key: Key, context: &mut Context<'_>) {
        if let Some(connection) = self.slab.get(key) {
            context.ports.count(connection.port, |counts| counts.refused += 1);
        }
        self.abort(key, context);
    }

    fn abort(&mut self, key: Key, context: &mut Context<'_>) {
        if let Some(connection) = self.slab.get(key) {
            sockets::abort_on_close(&connection.client.fd);
            if let State::Open(server) = &connection.state {
                sockets::abort_on_close(&server.fd);
            }
        }
        self.end(key, context);
    }

    fn end(&mut self, key: Key, context: &mut Context<'_>) {
        if let Some(connection) = self.slab.remove(key) {
            context.ports.count(connection.port, |counts| counts.open = counts.open.saturating_sub(1));
            self.resume(context);
        }
    }
}

impl Connection {
    fn advance(&mut self, pipes: &mut Pipes, bytes: &mut (u64, u64)) -> Result<Progress, rustix::io::Errno> {
        use rustix::io::Errno;
        let State::Open(server) = &mut self.state else { return Ok(Progress::Waits) };
        while !self.head.is_empty() && server.writable {
            match rustix::net::send(&server.fd, &self.head, rustix::net::SendFlags::NOSIGNAL) {
                Ok(count) => drop(self.head.drain(..count)),
                Err(Errno::AGAIN) => server.writable = false,
                Err(Errno::INTR) => {}
                Err(error) => return Err(error),
            }
        }
        let up = match self.head.is_empty() {
            true => self.up.advance(&mut self.client, server, pipes, &mut bytes.0),
            false => Ok(Progress::Waits),
        };
        // When one direction broke, the other may hold an answer yet: whoever takes no more has often said why.
        let down = self.down.advance(server, &mut self.client, pipes, &mut bytes.1);
        Ok(if [up?, down?].contains(&Progress::HasMore) { Progress::HasMore } else { Progress::Waits })
    }
}
