//! What the driver asks of a transport.

use std::borrow::Cow;

use super::channels::Error;

/// The headers of a stream, names in lower case.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers(pub Vec<(String, String)>);

impl Headers {
    /// The value of a name, whatever the case it is asked in.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(it, _)| it.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

impl<'a> FromIterator<(&'a str, &'a str)> for Headers {
    fn from_iter<I: IntoIterator<Item = (&'a str, &'a str)>>(pairs: I) -> Self {
        Self(pairs.into_iter().map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned())).collect())
    }
}

/// What the peer said.
#[derive(Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// It wants a stream: to be accepted or reset.
    Opened {
        /// The stream.
        id: u32,
        /// What it is for.
        headers: Headers,
    },
    /// It accepts a stream of ours.
    Accepted {
        /// The stream.
        id: u32,
    },
    /// Bytes of a stream. A frame's come as they arrive, in any number of pieces.
    Data {
        /// The stream.
        id: u32,
        /// The bytes.
        bytes: Cow<'a, [u8]>,
    },
    /// No more bytes of this stream will come.
    Ended {
        /// The stream.
        id: u32,
    },
    /// The stream is over, both ways.
    Reset {
        /// The stream.
        id: u32,
        /// The peer did it because it needs the stream no longer, or does not want it: not for an error.
        cancelled: bool,
    },
    /// The peer says farewell: what it has said is complete.
    Farewell {
        /// It wants to hear nothing more, either.
        over: bool,
    },
}

/// A transport: a state machine that takes the peer's bytes, and makes the bytes for the peer.
pub trait Codec: Send {
    /// Takes some of the input's beginning away and answers with what it meant. `None`: all was taken, and there is
    /// nothing more to say before more arrives. After an error the connection is of no more use, but for writing what
    /// [`Codec::output`] has.
    fn receive<'a>(&mut self, input: &mut &'a mut [u8]) -> Result<Option<Event<'a>>, Error>;
    /// What is to be written to the peer; whoever writes it takes it away.
    fn output(&mut self) -> &mut Vec<u8>;
    /// Asks for a stream.
    fn open(&mut self, headers: &Headers) -> Result<u32, Error>;
    /// Accepts a stream the peer wants.
    fn accept(&mut self, id: u32);
    /// Refuses a stream the peer wants.
    fn refuse(&mut self, id: u32);
    /// Ends a stream both ways.
    fn reset(&mut self, id: u32);
    /// Sends bytes, at most [`PIECE`] of them.
    fn send(&mut self, id: u32, bytes: &[u8]);
    /// Says that no more bytes of this stream will come.
    fn end(&mut self, id: u32);
    /// Sends something that a living peer takes, and a dead one's kernel answers to with a reset.
    fn probe(&mut self);
    /// Says farewell.
    fn farewell(&mut self);
}

/// The most bytes in one frame of ours: 32 KiB is what Go's `io.Copy` writes, so what every peer has seen.
pub const PIECE: usize = 32 << 10;
