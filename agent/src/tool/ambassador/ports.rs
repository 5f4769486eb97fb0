//! The ports that are listened on.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use super::balance;
use super::config::{Config, Port, Protocol};
use super::poller::{Key, Kind, Poller, Slab, Token};
use super::sockets;
use super::upstream::{Choice, Upstream, say};

/// A port that cannot be listened on is tried again after this.
pub const AGAIN: Duration = Duration::from_secs(1);

/// One port.
pub struct Serving {
    /// As it is configured.
    pub port: Port,
    /// The socket.
    pub socket: OwnedFd,
    /// Where it leads.
    targets: Vec<Key>,
    /// Counts connections, for those that take turns.
    turn: usize,
    /// Nothing is accepted at the moment.
    paused: bool,
    /// What came of it.
    pub counts: Counts,
}

/// What came of a port since it is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Connections taken, or UDP clients.
    pub accepted: u64,
    /// Those that no target was found for.
    pub refused: u64,
    /// Those there are now.
    pub open: u64,
    /// Bytes from clients.
    pub received: u64,
    /// Bytes to clients.
    pub sent: u64,
    /// UDP packets that were lost here.
    pub dropped: u64,
}

/// All ports.
#[derive(Default)]
pub struct Ports(Slab<Serving>);

impl Ports {
    /// Makes the ports those of a configuration. Those that stay are listened on without a break. What cannot be listened
    /// on is answered.
    pub fn set(&mut self, config: &Config, upstream: &Upstream, poller: &Poller) -> Vec<String> {
        let mut problems = Vec::new();
        for key in self.0.keys() {
            let same = |port: &&Port| self.0.get(key).is_some_and(|serving| identity(&serving.port) == identity(port));
            if !config.ports.iter().any(|port| same(&port)) {
                self.0.remove(key);
            }
        }
        for port in &config.ports {
            let targets = upstream.of(port);
            let known = self
                .0
                .keys()
                .into_iter()
                .find(|key| self.0.get(*key).is_some_and(|serving| identity(&serving.port) == identity(port)));
            if let Some(serving) = known.and_then(|key| self.0.get_mut(key)) {
                (serving.port, serving.targets) = (port.clone(), targets);
                continue;
            }
            if let Err(error) = self.listen(port, targets, poller) {
                problems.push(format!("cannot listen on {} {}: {error}", port.protocol.word(), port.number));
            }
        }
        problems
    }

    fn listen(&mut self, port: &Port, targets: Vec<Key>, poller: &Poller) -> std::io::Result<()> {
        let socket = sockets::listen(port.protocol, port.number)?;
        let counts = Counts::default();
        let serving = Serving { port: port.clone(), socket, targets, turn: 0, paused: false, counts };
        let key = self.0.add(serving);
        let Some(serving) = self.0.get(key) else { return Ok(()) };
        poller.add_readable(&serving.socket, serving.token(key)).inspect_err(|_| drop(self.0.remove(key)))?;
        let places: Vec<String> = port.places.iter().map(ToString::to_string).collect();
        say(&format!("{} {} leads to {}", port.protocol.word(), port.number, places.join(", ")));
        Ok(())
    }

    /// Listens on nothing any more.
    pub fn close(&mut self) {
        self.0 = Slab::default();
    }

    /// One port.
    pub fn get(&self, key: Key) -> Option<&Serving> {
        self.0.get(key)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (Key, &Serving)> {
        self.0.iter()
    }

    /// Counts something of a port, if it is still there.
    pub fn count(&mut self, key: Key, count: impl FnOnce(&mut Counts)) {
        if let Some(serving) = self.0.get_mut(key) {
            count(&mut serving.counts);
        }
    }

    /// Accepts connections, or leaves them in the kernel's queue.
    pub fn pause(&mut self, paused: bool, poller: &Poller) {
        for key in self.0.keys() {
            if let Some(serving) = self.0.get_mut(key).filter(|it| it.port.protocol == Protocol::Tcp)
                && serving.paused != paused
            {
                let token = serving.token(key);
                let changed = poller.listen(&serving.socket, token, !paused);
                serving.paused = if changed.is_ok() { paused } else { serving.paused };
            }
        }
    }

    /// The addresses to try for the next client of a port, the best first. None: it is not known yet.
    pub fn choose(&mut self, key: Key, config: &Config, upstream: &Upstream, now: Instant) -> Option<Vec<Choice>> {
        let Some(serving) = self.0.get_mut(key) else { return Some(Vec::new()) };
        let (choices, known) = upstream.choices(&serving.targets, now);
        if choices.is_empty() && upstream.unsettled(&serving.targets) {
            return None;
        }
        let order = balance::order(config.balance, serving.turn, &known);
        serving.turn = serving.turn.wrapping_add(1);
        Some(order.into_iter().map(|at| choices[at]).collect())
    }

    /// Whether an address is still one that a port leads to, and is not down.
    pub fn leads_to(&self, key: Key, choice: Choice, upstream: &Upstream, now: Instant) -> bool {
        let Some(serving) = self.0.get(key) else { return false };
        let (choices, known) = upstream.choices(&serving.targets, now);
        choices.iter().zip(known).any(|(it, known)| *it == choice && known != balance::Known::Down)
    }

    /// Whether every port leads somewhere that is there.
    pub fn are_ready(&self, upstream: &Upstream, now: Instant) -> bool {
        let up = |key: &Key| upstream.target(*key).is_some_and(|target| target.is_up(now));
        self.0.iter().all(|(_, serving)| serving.targets.iter().any(up))
    }
}

impl Serving {
    fn token(&self, key: Key) -> Token {
        let kind = if self.port.protocol == Protocol::Tcp { Kind::TcpListener } else { Kind::UdpListener };
        Token { kind, key }
    }
}

fn identity(port: &Port) -> (Protocol, u16) {
    (port.protocol, port.number)
}
