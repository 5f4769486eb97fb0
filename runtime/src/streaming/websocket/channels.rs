//! Numbered channels in the messages of a WebSocket: the first byte says which. Kubernetes' `channel.k8s.io` protocols.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::connection::{Connection, Event as Message};
use crate::streaming::channels::{Error, Role};
use crate::streaming::codec::{Codec, Event, Headers};

/// Since version 5: the channel after this one is closed by its sender.
const CLOSE: u8 = 255;

/// What the protocol makes of the messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dialect {
    /// Messages are text: the channel a digit, the bytes in base64.
    pub base64: bool,
    /// A client can say that a channel has ended.
    pub closes: bool,
    /// How many channels there are.
    pub count: u32,
}

/// The channels of a connection, sans-IO. All are there from the beginning; none is opened.
pub struct Channels {
    connection: Connection,
    role: Role,
    dialect: Dialect,
    /// Of the message that is being read.
    reading: Reading,
    /// Base64 that is not a whole group yet.
    group: Vec<u8>,
    broken: bool,
}

#[derive(Clone, Copy)]
enum Reading {
    Start,
    Channel(u32),
    /// The close signal, and the channel it names.
    Close(Option<u8>),
}

fn broken<T>(why: impl Into<String>) -> Result<T, Error> {
    Err(Error::Protocol { protocol: "WebSocket channel", why: why.into() })
}

impl Channels {
    /// The channels of a connection on which nothing was said yet.
    pub fn new(role: Role, dialect: Dialect) -> Result<Self, Error> {
        let connection = Connection::new(role)?;
        Ok(Self { connection, role, dialect, reading: Reading::Start, group: Vec::new(), broken: false })
    }

    fn next<'a>(&mut self, input: &mut &'a mut [u8]) -> Result<Option<Event<'a>>, Error> {
        while let Some(event) = self.connection.receive(input)? {
            let said = match event {
                Message::Message { bytes, last } => self.piece(bytes, last)?,
                // Without a code, or because the peer goes away, is in order, too.
                Message::Closed { code: None | Some(1000 | 1001) } => Some(Event::Farewell { over: true }),
                Message::Closed { code } => return broken(format!("a farewell with the code {code:?}")),
            };
            if said.is_some() {
                return Ok(said);
            }
        }
        Ok(None)
    }

    /// A piece of a message.
    fn piece<'a>(&mut self, bytes: &'a [u8], last: bool) -> Result<Option<Event<'a>>, Error> {
        let mut rest = bytes;
        if let Reading::Start = self.reading {
            // A message of nothing is for nobody.
            let Some((first, tail)) = rest.split_first() else { return Ok(None) };
            rest = tail;
            self.reading = match *first {
                CLOSE if self.dialect.closes => Reading::Close(None),
                digit if self.dialect.base64 => Reading::Channel(u32::from(digit.wrapping_sub(b'0'))),
                number => Reading::Channel(u32::from(number)),
            };
        }
        let said = match self.reading {
            Reading::Channel(id) => {
                let bytes =
                    if self.dialect.base64 { Cow::Owned(self.decode(rest, last)?) } else { Cow::Borrowed(rest) };
                (!bytes.is_empty()).then_some(Event::Data { id, bytes })
            }
            Reading::Close(named) => {
                let named = match (named, rest) {
                    (named, []) => named,
                    (None, [channel]) => Some(*channel),
                    _ => return broken("a close signal of more than one channel"),
                };
                self.reading = Reading::Close(named);
                match (last, named) {
                    (false, _) => None,
                    (true, Some(channel)) if u32::from(channel) < self.dialect.count => {
                        Some(Event::Ended { id: channel.into() })
                    }
                    (true, _) => return broken("a close signal of no channel"),
                }
            }
            Reading::Start => None,
        };
        if last {
            self.reading = Reading::Start;
        }
        Ok(said)
    }

    /// The bytes of whole groups; what is left waits for more.
    fn decode(&mut self, text: &[u8], last: bool) -> Result<Vec<u8>, Error> {
        self.group.extend(text.iter().filter(|it| !matches!(it, b'\r' | b'\n')));
        let whole = if last { self.group.len() } else { self.group.len() / 4 * 4 };
        let decoded = STANDARD.decode(&self.group[..whole]);
        self.group.drain(..whole);
        decoded.or_else(|error| broken(error.to_string()))
    }
}

impl Codec for Channels {
    fn receive<'a>(&mut self, input: &mut &'a mut [u8]) -> Result<Option<Event<'a>>, Error> {
        if self.broken {
            return broken("it went on after an error");
        }
        let said = self.next(input);
        if said.is_err() {
            self.broken = true;
            self.connection.refuse();
        }
        said
    }

    fn output(&mut self) -> &mut Vec<u8> {
        self.connection.output()
    }

    fn open(&mut self, _: &Headers) -> Result<u32, Error> {
        broken("a stream where there are but channels")
    }

    fn accept(&mut self, _: u32) {}

    fn refuse(&mut self, _: u32) {}

    fn reset(&mut self, id: u32) {
        self.end(id);
    }

    fn send(&mut self, id: u32, bytes: &[u8]) {
        let Ok(number) = u8::try_from(id) else { return };
        if self.dialect.base64 {
            let digit = char::from(b'0'.wrapping_add(number)).to_string();
            self.connection.send_text(&[&digit, &STANDARD.encode(bytes)]);
        } else {
            self.connection.send_binary(&[&[number], bytes]);
        }
    }

    /// Only clients have the word: theirs do not know it from a server.
    fn end(&mut self, id: u32) {
        if let (true, Role::Client, Ok(number)) = (self.dialect.closes, self.role, u8::try_from(id)) {
            self.connection.send_binary(&[&[CLOSE, number]]);
        }
    }

    fn probe(&mut self) {
        self.connection.ping();
    }

    fn farewell(&mut self) {
        self.connection.close();
    }
}
