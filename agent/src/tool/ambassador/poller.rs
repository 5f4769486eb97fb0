//! What the loop waits on: descriptors and times, each with a token that says whose they are.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Instant;

use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::io::Errno;
use rustix::time::Timespec;

/// Events taken at a time.
const EVENTS: usize = 64;

/// Whose descriptor or time it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Kind {
    /// Signals to this process.
    Signals,
    /// The directory of the configuration.
    Watch,
    /// A listener, for TCP connections.
    TcpListener,
    /// A socket that receives UDP clients' packets.
    UdpListener,
    /// The client's side of a connection; its time is the connection's.
    Client,
    /// The target's side of a connection.
    Server,
    /// A UDP client's way to its target.
    Session,
    /// The listener for questions about this process.
    StatusListener,
    /// A question about this process.
    Status,
    /// A look-up of a name.
    Lookup,
    /// A target, for which it is time to do something.
    Target,
    /// A health check under way.
    Check,
}

const KINDS: [Kind; 12] = [
    Kind::Signals,
    Kind::Watch,
    Kind::TcpListener,
    Kind::UdpListener,
    Kind::Client,
    Kind::Server,
    Kind::Session,
    Kind::StatusListener,
    Kind::Status,
    Kind::Lookup,
    Kind::Target,
    Kind::Check,
];

/// Where something is in a [`Slab`]. It never names what took its place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    index: u32,
    generation: u32,
}

/// Whose it is, and which of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Token {
    /// Whose.
    pub kind: Kind,
    /// Which.
    pub key: Key,
}

/// Generations have what the kind and the index leave of a token's 64 bits.
const GENERATIONS: u32 = 1 << 24;

impl Token {
    /// A token of the only one of its kind.
    pub fn only(kind: Kind) -> Self {
        Self { kind, key: Key::default() }
    }

    fn encode(self) -> u64 {
        (self.kind as u64) << 56 | u64::from(self.key.generation) << 32 | u64::from(self.key.index)
    }

    fn decode(bits: u64) -> Option<Self> {
        let kind = KINDS.get((bits >> 56) as usize)?;
        let generation = (bits >> 32) as u32 & (GENERATIONS - 1);
        Some(Self { kind: *kind, key: Key { index: bits as u32, generation } })
    }
}

/// What happened to a descriptor.
#[derive(Clone, Copy, Debug)]
pub struct Ready {
    /// Whose it is.
    pub token: Token,
    /// There is something to read, or its end, or an error.
    pub readable: bool,
    /// There is room to write, or an error.
    pub writable: bool,
}

/// Descriptors and times.
pub struct Poller {
    epoll: OwnedFd,
    timers: BinaryHeap<Reverse<(Instant, Token)>>,
    events: Vec<Event>,
}

impl Poller {
    /// Waits on nothing yet.
    pub fn new() -> io::Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        Ok(Self { epoll, timers: BinaryHeap::new(), events: Vec::with_capacity(EVENTS) })
    }

    /// Tells whenever there is something to read.
    pub fn add_readable(&self, fd: impl AsFd, token: Token) -> io::Result<()> {
        Ok(epoll::add(&self.epoll, fd, EventData::new_u64(token.encode()), EventFlags::IN)?)
    }

    /// Tells once whenever reading or writing becomes possible again.
    pub fn add_edges(&self, fd: impl AsFd, token: Token) -> io::Result<()> {
        let flags = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        Ok(epoll::add(&self.epoll, fd, EventData::new_u64(token.encode()), flags)?)
    }

    /// Tells nothing more of a listener, or everything again.
    pub fn listen(&self, fd: impl AsFd, token: Token, wanted: bool) -> io::Result<()> {
        let flags = if wanted { EventFlags::IN } else { EventFlags::empty() };
        Ok(epoll::modify(&self.epoll, fd, EventData::new_u64(token.encode()), flags)?)
    }

    /// Tells when a time has come. Nothing is taken back: whoever is told looks whether it still matters.
    pub fn at(&mut self, when: Instant, token: Token) {
        self.timers.push(Reverse((when, token)));
    }

    /// The next time that has come.
    pub fn due(&mut self, now: Instant) -> Option<Token> {
        let Reverse((when, _)) = self.timers.peek()?;
        if *when > now {
            return None;
        }
        self.timers.pop().map(|Reverse((_, token))| token)
    }

    /// Waits until something happens or a time comes; not at all if there is work already.
    pub fn wait(&mut self, busy: bool, now: Instant, happened: &mut Vec<Ready>) -> io::Result<()> {
        let left = self.timers.peek().map(|Reverse((when, _))| when.saturating_duration_since(now));
        let left = if busy { Some(std::time::Duration::ZERO) } else { left };
        let timeout = left.and_then(|left| Timespec::try_from(left).ok());
        self.events.clear();
        match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut self.events), timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        happened.clear();
        happened.extend(self.events.iter().filter_map(|event| {
            let (flags, data) = (event.flags, event.data);
            let broken = flags.intersects(EventFlags::ERR | EventFlags::HUP);
            Some(Ready {
                token: Token::decode(data.u64())?,
                readable: broken || flags.intersects(EventFlags::IN | EventFlags::RDHUP),
                writable: broken || flags.contains(EventFlags::OUT),
            })
        }));
        Ok(())
    }
}

/// Things with keys; a key is good until its thing is removed, and then never again.
#[derive(Debug)]
pub struct Slab<T> {
    entries: Vec<(u32, Option<T>)>,
    free: Vec<u32>,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self { entries: Vec::new(), free: Vec::new() }
    }
}

impl<T> Slab<T> {
    /// Adds what is made with the key that it gets.
    pub fn add(&mut self, value: T) -> Key {
        let index = self.free.pop().unwrap_or_else(|| {
            self.entries.push((0, None));
            (self.entries.len() - 1) as u32
        });
        let entry = &mut self.entries[index as usize];
        entry.1 = Some(value);
        Key { index, generation: entry.0 }
    }

    /// The thing of that key.
    pub fn get(&self, key: Key) -> Option<&T> {
        self.entries.get(key.index as usize).filter(|entry| entry.0 == key.generation)?.1.as_ref()
    }

    /// The same, to change.
    pub fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        self.entries.get_mut(key.index as usize).filter(|entry| entry.0 == key.generation)?.1.as_mut()
    }

    /// Takes a thing out.
    pub fn remove(&mut self, key: Key) -> Option<T> {
        let entry = self.entries.get_mut(key.index as usize).filter(|entry| entry.0 == key.generation)?;
        let value = entry.1.take()?;
        entry.0 = (entry.0 + 1) % GENERATIONS;
        self.free.push(key.index);
        Some(value)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.entries.len() - self.free.len()
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (Key, &T)> {
        let entries = self.entries.iter().enumerate();
        entries.filter_map(|(index, (generation, value))| {
            Some((Key { index: index as u32, generation: *generation }, value.as_ref()?))
        })
    }

    /// Their keys.
    pub fn keys(&self) -> Vec<Key> {
        self.iter().map(|(key, _)| key).collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::time::Duration;

    #[test]
    fn tokens_survive_the_kernel() {
        for (position, kind) in KINDS.iter().enumerate() {
            assert_eq!(*kind as usize, position);
            let token = Token { kind: *kind, key: Key { index: u32::MAX, generation: GENERATIONS - 1 } };
            assert_eq!(Token::decode(token.encode()), Some(token));
        }
        assert_eq!(Token::decode(u64::MAX), None);
    }

    #[test]
    fn a_key_never_names_what_took_its_place() {
        let mut slab = Slab::default();
        let first = slab.add('a');
        assert_eq!((slab.remove(first), slab.remove(first)), (Some('a'), None));
        let second = slab.add('b');
        assert_eq!((slab.get(first), slab.get(second), slab.len()), (None, Some(&'b'), 1));
        assert_eq!(slab.keys(), [second]);
    }

    #[test]
    fn times_come_in_their_order_and_descriptors_are_told_of() {
        let mut poller = Poller::new().unwrap();
        let now = Instant::now();
        let (late, soon) = (Token::only(Kind::Watch), Token::only(Kind::Signals));
        poller.at(now + Duration::from_secs(60), late);
        poller.at(now, soon);
        assert_eq!((poller.due(now), poller.due(now)), (Some(soon), None));
        let (read, write) = rustix::pipe::pipe().unwrap();
        poller.add_readable(&read, late).unwrap();
        rustix::io::write(&write, b"x").unwrap();
        let mut happened = Vec::new();
        poller.wait(false, now, &mut happened).unwrap();
        assert_eq!((happened[0].token, happened[0].readable, happened.len()), (late, true, 1));
    }
}
