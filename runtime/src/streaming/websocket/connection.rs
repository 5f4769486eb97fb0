//! The state machine of a connection.

use super::frame::{Head, LONGEST, Masks, Opcode, mask};
use super::utf8::Utf8;
use crate::streaming::channels::{Error, Role};

/// The longest message that is taken, in bytes: who sends more would have sent it in several.
const LONGEST_MESSAGE: u64 = 32 << 20;

/// In order.
const NORMAL: u16 = 1000;
/// The peer broke the protocol.
const PROTOCOL_ERROR: u16 = 1002;
/// Text that is none.
const NOT_UTF8: u16 = 1007;
/// A message that is too long.
const TOO_BIG: u16 = 1009;

/// What the peer said.
#[derive(Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// A piece of a message, as it arrives. The last piece of a message may be empty, or there is but one.
    Message {
        /// The bytes.
        bytes: &'a [u8],
        /// The message ends with them.
        last: bool,
    },
    /// The peer closes the connection, with a code if it gave one. It has its answer in the output.
    Closed {
        /// The code.
        code: Option<u16>,
    },
}

/// One end of a connection, sans-IO. Pings are answered without being told of.
pub struct Connection {
    role: Role,
    masks: Masks,
    state: State,
    output: Vec<u8>,
    /// The message that has begun: whether it is text, and its length so far.
    message: Option<Message>,
    utf8: Utf8,
    close_sent: bool,
}

struct Message {
    text: bool,
    length: u64,
}

enum State {
    Head {
        bytes: [u8; LONGEST],
        have: usize,
    },
    Data {
        head: Head,
        place: u64,
    },
    Control {
        head: Head,
        inside: Vec<u8>,
    },
    /// The peer has said farewell: what comes after that is nothing.
    Closed,
    Broken,
}

const HEAD: State = State::Head { bytes: [0; LONGEST], have: 0 };

struct Broken(u16, String);

fn broken<T>(why: impl Into<String>) -> Result<T, Broken> {
    Err(Broken(PROTOCOL_ERROR, why.into()))
}

enum Step<'a> {
    Said(Event<'a>),
    On,
    More,
}

impl Connection {
    /// A connection on which nothing was said yet.
    pub fn new(role: Role) -> Result<Self, Error> {
        Ok(Self {
            role,
            masks: Masks::new()?,
            state: HEAD,
            output: Vec::new(),
            message: None,
            utf8: Utf8::default(),
            close_sent: false,
        })
    }

    /// Takes some of the input's beginning away and answers with what it meant. `None`: all was taken. After an error
    /// the connection is of no more use, but for writing what [`Connection::output`] has.
    pub fn receive<'a>(&mut self, input: &mut &'a mut [u8]) -> Result<Option<Event<'a>>, Error> {
        loop {
            match self.step(input) {
                Ok(Step::Said(event)) => return Ok(Some(event)),
                Ok(Step::On) => {}
                Ok(Step::More) => return Ok(None),
                Err(Broken(code, why)) => {
                    self.close_with(Some(code));
                    return Err(Error::Protocol { protocol: "WebSocket", why });
                }
            }
        }
    }

    /// What is to be written to the peer; whoever writes it takes it away.
    pub fn output(&mut self) -> &mut Vec<u8> {
        &mut self.output
    }

    /// Sends a message of bytes, given in parts.
    pub fn send_binary(&mut self, parts: &[&[u8]]) {
        self.frame(Opcode::Binary, parts);
    }

    /// Sends a message of text, given in parts.
    pub fn send_text(&mut self, parts: &[&str]) {
        let parts: Vec<&[u8]> = parts.iter().map(|it| it.as_bytes()).collect();
        self.frame(Opcode::Text, &parts);
    }

    /// Asks for a pong.
    pub fn ping(&mut self) {
        self.frame(Opcode::Ping, &[]);
    }

    /// Says farewell, once.
    pub fn close(&mut self) {
        self.close_with(Some(NORMAL));
    }

    /// Says farewell to a peer that broke what is spoken within the messages.
    pub fn refuse(&mut self) {
        self.close_with(Some(PROTOCOL_ERROR));
    }

    fn close_with(&mut self, code: Option<u16>) {
        let code = code.map(u16::to_be_bytes);
        self.frame(Opcode::Close, &[code.as_ref().map_or(&[], |it| it.as_slice())]);
        self.close_sent = true;
    }

    fn frame(&mut self, opcode: Opcode, parts: &[&[u8]]) {
        // Nothing may follow the farewell.
        if self.close_sent {
            return;
        }
        let key = (self.role == Role::Client).then(|| self.masks.next());
        let length = parts.iter().map(|it| it.len() as u64).sum();
        Head { fin: true, opcode, length, mask: key }.write(&mut self.output);
        let from = self.output.len();
        parts.iter().for_each(|it| self.output.extend_from_slice(it));
        if let Some(key) = key {
            mask(&mut self.output[from..], key, 0);
        }
    }

    fn step<'a>(&mut self, input: &mut &'a mut [u8]) -> Result<Step<'a>, Broken> {
        match std::mem::replace(&mut self.state, State::Broken) {
            State::Head { mut bytes, mut have } => {
                loop {
                    // The first two bytes tell how many there are.
                    let size = if have < 2 { 2 } else { Head::size([bytes[0], bytes[1]]) };
                    let taken = take(input, size - have);
                    bytes[have..have + taken.len()].copy_from_slice(taken);
                    have += taken.len();
                    if have < size {
                        self.state = State::Head { bytes, have };
                        return Ok(Step::More);
                    }
                    if have == Head::size([bytes[0], bytes[1]]) {
                        break;
                    }
                }
                let head = Head::read(&bytes[..have]).or_else(|error| broken(error.to_string()))?;
                self.state = self.begin(head)?;
                Ok(Step::On)
            }
            State::Data { head, place } => self.data(head, place, input),
            State::Control { head, mut inside } => {
                let left = usize::try_from(head.length).unwrap_or(usize::MAX) - inside.len();
                inside.extend_from_slice(take(input, left));
                if (inside.len() as u64) < head.length {
                    self.state = State::Control { head, inside };
                    return Ok(Step::More);
                }
                if let Some(key) = head.mask {
                    mask(&mut inside, key, 0);
                }
                self.state = HEAD;
                self.control(head.opcode, &inside)
            }
            State::Closed => {
                take(input, usize::MAX);
                self.state = State::Closed;
                Ok(Step::More)
            }
            State::Broken => broken("it went on after an error"),
        }
    }

    /// What the head of a frame leads to.
    fn begin(&mut self, head: Head) -> Result<State, Broken> {
        if head.mask.is_some() != (self.role == Role::Server) {
            return broken("a frame with a mask from a server, or without one from a client");
        }
        if head.opcode.is_control() {
            return Ok(State::Control { head, inside: Vec::new() });
        }
        match (&mut self.message, head.opcode) {
            (None, Opcode::Continuation) => return broken("a continuation of nothing"),
            (Some(_), Opcode::Text | Opcode::Binary) => return broken("a message within a message"),
            (None, opcode) => self.message = Some(Message { text: opcode == Opcode::Text, length: 0 }),
            (Some(_), _) => {}
        }
        if let Some(message) = &mut self.message {
            message.length = message.length.saturating_add(head.length);
            if message.length > LONGEST_MESSAGE {
                return Err(Broken(TOO_BIG, format!("a message of more than {LONGEST_MESSAGE} bytes")));
            }
        }
        Ok(State::Data { head, place: 0 })
    }

    fn data<'a>(&mut self, head: Head, place: u64, input: &mut &'a mut [u8]) -> Result<Step<'a>, Broken> {
        let left = head.length - place;
        let bytes = take(input, usize::try_from(left).unwrap_or(usize::MAX));
        if bytes.is_empty() && left > 0 {
            self.state = State::Data { head, place };
            return Ok(Step::More);
        }
        if let Some(key) = head.mask {
            mask(bytes, key, place);
        }
        let whole = left == bytes.len() as u64;
        let last = whole && head.fin;
        if self.message.as_ref().is_some_and(|it| it.text) && !(self.utf8.take(bytes) && (!last || self.utf8.finish()))
        {
            return Err(Broken(NOT_UTF8, "text that is not UTF-8".into()));
        }
        self.state = if whole { HEAD } else { State::Data { head, place: place + bytes.len() as u64 } };
        if last {
            self.message = None;
        }
        Ok(if bytes.is_empty() && !last { Step::On } else { Step::Said(Event::Message { bytes, last }) })
    }

    fn control<'a>(&mut self, opcode: Opcode, inside: &[u8]) -> Result<Step<'a>, Broken> {
        match opcode {
            Opcode::Ping => self.frame(Opcode::Pong, &[inside]),
            Opcode::Close => {
                let code = match inside {
                    [] => None,
                    [_] => return broken("a farewell of one byte"),
                    [a, b, why @ ..] if std::str::from_utf8(why).is_ok() => Some(u16::from_be_bytes([*a, *b])),
                    _ => return Err(Broken(NOT_UTF8, "a farewell that is not UTF-8".into())),
                };
                if code.is_some_and(|it| !matches!(it, 1000..=1003 | 1007..=1014 | 3000..=4999)) {
                    return broken("a farewell with a code that is none");
                }
                self.close_with(code);
                self.state = State::Closed;
                return Ok(Step::Said(Event::Closed { code }));
            }
            _ => {}
        }
        Ok(Step::On)
    }
}

/// Takes up to so many bytes of the input's beginning away.
fn take<'a>(input: &mut &'a mut [u8], most: usize) -> &'a mut [u8] {
    let all = std::mem::take(input);
    let (head, tail) = all.split_at_mut(most.min(all.len()));
    *input = tail;
    head
}
