//! The state machine of a connection.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::frame::{self, CANCEL, FIN, Head, ID, Kind, PROTOCOL_ERROR, REFUSED_STREAM, UNIDIRECTIONAL, VERSION};
use super::headers::{Packer, Unpacker};
use crate::streaming::channels::{Config, Error, Role};
use crate::streaming::codec::{Codec, Event, Headers};

/// One end of a connection, sans-IO.
pub struct Connection {
    role: Role,
    limits: Limits,
    state: State,
    packer: Packer,
    unpacker: Unpacker,
    output: Vec<u8>,
    streams: BTreeMap<u32, Stream>,
    /// The id of the next stream of ours.
    next: u32,
    /// The last one of the peer's.
    last: u32,
    pings: u32,
    /// The peer's farewell: no more streams of ours.
    leaving: bool,
}

struct Limits {
    streams: usize,
    /// The inside of a control frame.
    control: usize,
}

/// Which directions are open.
#[derive(Clone, Copy)]
struct Stream {
    ours: bool,
    theirs: bool,
    accepted: bool,
}

/// Where in the peer's bytes it is.
enum State {
    Head {
        bytes: [u8; 8],
        have: usize,
    },
    Control {
        kind: Kind,
        flags: u8,
        length: usize,
        inside: Vec<u8>,
    },
    Data {
        id: u32,
        left: usize,
        fin: bool,
    },
    Skip {
        left: usize,
    },
    /// A frame was the last of its stream.
    Fin {
        id: u32,
    },
    Broken,
}

const HEAD: State = State::Head { bytes: [0; 8], have: 0 };

fn broken(why: impl Into<String>) -> Error {
    Error::Protocol { protocol: "SPDY", why: why.into() }
}

impl Connection {
    /// A connection on which nothing was said yet.
    pub fn new(role: Role, config: &Config) -> Result<Self, Error> {
        Ok(Self {
            role,
            limits: Limits { streams: config.streams, control: config.headers + 1024 },
            state: HEAD,
            packer: Packer::new().map_err(broken)?,
            unpacker: Unpacker::new(config.headers),
            output: Vec::new(),
            streams: BTreeMap::new(),
            next: if role == Role::Client { 1 } else { 2 },
            last: 0,
            pings: if role == Role::Client { 1 } else { 2 },
            leaving: false,
        })
    }

    /// Whether the peer is the one that makes ids like this.
    fn is_theirs(&self, id: u32) -> bool {
        (id % 2 == 1) == (self.role == Role::Server)
    }

    fn head(&mut self, head: Head) -> Result<State, Error> {
        Ok(match head {
            Head::Data { id: 0, .. } => return Err(broken("data of stream 0")),
            Head::Data { id, fin, length: 0 } if fin => State::Fin { id },
            Head::Data { length: 0, .. } => HEAD,
            Head::Data { id, fin, length } => State::Data { id, left: length, fin },
            Head::Control { version, .. } if version != VERSION => {
                return Err(broken(format!("a frame of version {version}")));
            }
            Head::Control { kind: Kind::Other, length, .. } => State::Skip { left: length },
            Head::Control { length, .. } if length > self.limits.control => {
                return Err(broken(format!("a control frame of {length} bytes")));
            }
            Head::Control { kind, flags, length, .. } => State::Control { kind, flags, length, inside: Vec::new() },
        })
    }

    /// A whole control frame.
    fn control(&mut self, kind: Kind, flags: u8, inside: &[u8]) -> Result<Option<Event<'static>>, Error> {
        let number = |at: usize| -> Result<u32, Error> {
            let bytes = inside.get(at..at + 4).and_then(|it| it.first_chunk::<4>());
            bytes.map(|it| u32::from_be_bytes(*it)).ok_or_else(|| broken(format!("a {kind:?} frame that is too short")))
        };
        let id = || match number(0)? & ID {
            0 => Err(broken(format!("a {kind:?} frame of stream 0"))),
            id => Ok(id),
        };
        let headers = |from: usize| inside.get(from..).unwrap_or_default();
        match kind {
            Kind::SynStream => {
                number(6)?;
                let (id, headers) = (id()?, self.unpacker.unpack(headers(10)).map_err(broken)?);
                self.opened(id, flags, headers)
            }
            Kind::SynReply => {
                let id = id()?;
                self.unpacker.unpack(headers(4)).map_err(broken)?;
                Ok(self.replied(id, flags))
            }
            Kind::Headers => {
                let id = id()?;
                self.unpacker.unpack(headers(4)).map_err(broken)?;
                self.fin(id, flags);
                Ok(None)
            }
            Kind::RstStream => {
                let (id, status) = (id()?, number(4)?);
                let cancelled = status == CANCEL || status == REFUSED_STREAM;
                Ok(self.streams.remove(&id).map(|_| Event::Reset { id, cancelled }))
            }
            Kind::Ping => {
                let ping = number(0)?;
                if self.is_theirs(ping) {
                    frame::control(&mut self.output, Kind::Ping, 0, &[&ping.to_be_bytes()]);
                }
                Ok(None)
            }
            Kind::GoAway => {
                number(0)?;
                self.leaving = true;
                Ok(Some(Event::Farewell { over: false }))
            }
            Kind::WindowUpdate => number(4).map(|_| None),
            Kind::Settings => {
                let count = number(0)? as usize;
                if inside.len() != 4 + 8 * count.min(inside.len()) {
                    return Err(broken("a Settings frame of another length than it says"));
                }
                Ok(None)
            }
            Kind::Other => Ok(None),
        }
    }

    fn opened(&mut self, id: u32, flags: u8, headers: Headers) -> Result<Option<Event<'static>>, Error> {
        if !self.is_theirs(id) || id <= self.last {
            return Err(broken(format!("a new stream with the id {id} after {}", self.last)));
        }
        self.last = id;
        if self.streams.keys().filter(|id| self.is_theirs(**id)).count() >= self.limits.streams {
            self.rst(id, REFUSED_STREAM);
            return Ok(None);
        }
        let stream = Stream { ours: flags & UNIDIRECTIONAL == 0, theirs: true, accepted: false };
        self.streams.insert(id, stream);
        self.fin(id, flags);
        Ok(Some(Event::Opened { id, headers }))
    }

    fn replied(&mut self, id: u32, flags: u8) -> Option<Event<'static>> {
        let fresh = !self.is_theirs(id);
        let stream = self.streams.get_mut(&id).filter(|it| fresh && !it.accepted)?;
        stream.accepted = true;
        self.fin(id, flags);
        Some(Event::Accepted { id })
    }

    /// The end of the peer's direction is said after what the frame itself says.
    fn fin(&mut self, id: u32, flags: u8) {
        if flags & FIN != 0 {
            self.state = State::Fin { id };
        }
    }

    fn ended(&mut self, id: u32) -> Option<Event<'static>> {
        let stream = self.streams.get_mut(&id).filter(|it| it.theirs)?;
        stream.theirs = false;
        if !stream.ours {
            self.streams.remove(&id);
        }
        Some(Event::Ended { id })
    }

    fn rst(&mut self, id: u32, status: u32) {
        frame::control(&mut self.output, Kind::RstStream, 0, &[&id.to_be_bytes(), &status.to_be_bytes()]);
    }

    fn go_away(&mut self, status: u32) {
        frame::control(&mut self.output, Kind::GoAway, 0, &[&self.last.to_be_bytes(), &status.to_be_bytes()]);
    }

    /// One step.
    fn step<'a>(&mut self, input: &mut &'a mut [u8]) -> Result<Step<'a>, Error> {
        match std::mem::replace(&mut self.state, State::Broken) {
            State::Head { mut bytes, mut have } => {
                let taken = take(input, bytes.len() - have);
                bytes[have..have + taken.len()].copy_from_slice(taken);
                have += taken.len();
                let whole = have == bytes.len();
                self.state = if whole { self.head(Head::read(bytes))? } else { State::Head { bytes, have } };
                Ok(if whole { Step::On } else { Step::More })
            }
            State::Control { kind, flags, length, mut inside } => {
                inside.extend_from_slice(take(input, length - inside.len()));
                if inside.len() < length {
                    self.state = State::Control { kind, flags, length, inside };
                    return Ok(Step::More);
                }
                // What the frame says may put another state here.
                self.state = HEAD;
                let said = self.control(kind, flags, &inside);
                if said.is_err() {
                    self.state = State::Broken;
                }
                Ok(said?.map_or(Step::On, Step::Said))
            }
            State::Data { id, left, fin } => {
                let bytes = take(input, left);
                let left = left - bytes.len();
                self.state = match left {
                    0 if fin => State::Fin { id },
                    0 => HEAD,
                    left => State::Data { id, left, fin },
                };
                if bytes.is_empty() {
                    return Ok(Step::More);
                }
                let known = self.streams.get(&id).is_some_and(|it| it.theirs);
                Ok(if known { Step::Said(Event::Data { id, bytes: Cow::Borrowed(bytes) }) } else { Step::On })
            }
            State::Skip { left } => {
                let left = left - take(input, left).len();
                self.state = if left == 0 { HEAD } else { State::Skip { left } };
                Ok(if left == 0 { Step::On } else { Step::More })
            }
            State::Fin { id } => {
                self.state = HEAD;
                Ok(self.ended(id).map_or(Step::On, Step::Said))
            }
            State::Broken => Err(broken("it went on after an error")),
        }
    }
}

enum Step<'a> {
    Said(Event<'a>),
    On,
    More,
}

/// Takes up to so many bytes of the input's beginning away.
fn take<'a>(input: &mut &'a mut [u8], most: usize) -> &'a [u8] {
    let all = std::mem::take(input);
    let (head, tail) = all.split_at_mut(most.min(all.len()));
    *input = tail;
    head
}

impl Codec for Connection {
    fn receive<'a>(&mut self, input: &mut &'a mut [u8]) -> Result<Option<Event<'a>>, Error> {
        loop {
            match self.step(input) {
                Ok(Step::Said(event)) => return Ok(Some(event)),
                Ok(Step::On) => {}
                Ok(Step::More) => return Ok(None),
                Err(error) => {
                    self.go_away(PROTOCOL_ERROR);
                    return Err(error);
                }
            }
        }
    }

    fn output(&mut self) -> &mut Vec<u8> {
        &mut self.output
    }

    fn open(&mut self, headers: &Headers) -> Result<u32, Error> {
        let id = self.next;
        if self.leaving || id > ID {
            return Err(Error::Closed);
        }
        self.next += 2;
        let packed = self.packer.pack(headers).map_err(broken)?;
        let parts: [&[u8]; 4] = [&id.to_be_bytes(), &[0; 4], &[0; 2], &packed];
        frame::control(&mut self.output, Kind::SynStream, 0, &parts);
        self.streams.insert(id, Stream { ours: true, theirs: true, accepted: false });
        Ok(id)
    }

    fn accept(&mut self, id: u32) {
        let Some(stream) = self.streams.get_mut(&id).filter(|it| !it.accepted) else { return };
        stream.accepted = true;
        if let Ok(packed) = self.packer.pack(&Headers::default()) {
            frame::control(&mut self.output, Kind::SynReply, 0, &[&id.to_be_bytes(), &packed]);
        }
    }

    fn refuse(&mut self, id: u32) {
        if self.streams.remove(&id).is_some() {
            self.rst(id, REFUSED_STREAM);
        }
    }

    fn reset(&mut self, id: u32) {
        if self.streams.remove(&id).is_some() {
            self.rst(id, CANCEL);
        }
    }

    fn send(&mut self, id: u32, bytes: &[u8]) {
        if self.streams.get(&id).is_some_and(|it| it.ours) {
            frame::data(&mut self.output, id, false, bytes);
        }
    }

    fn end(&mut self, id: u32) {
        let Some(stream) = self.streams.get_mut(&id).filter(|it| it.ours) else { return };
        stream.ours = false;
        if !stream.theirs {
            self.streams.remove(&id);
        }
        frame::data(&mut self.output, id, true, &[]);
    }

    fn probe(&mut self) {
        frame::control(&mut self.output, Kind::Ping, 0, &[&self.pings.to_be_bytes()]);
        self.pings = if self.pings > ID - 2 { self.pings - (ID - 2) } else { self.pings + 2 };
    }

    fn farewell(&mut self) {
        self.go_away(0);
    }
}
