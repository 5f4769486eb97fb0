//! What waits of one stream of a connection.

use std::collections::VecDeque;
use std::task::Waker;

/// How a direction has ended, if it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It is open.
    Open,
    /// In order.
    Ended,
    /// It was cut off.
    Reset,
}

/// One stream.
pub struct Slot {
    /// What came and was not read.
    pub input: VecDeque<u8>,
    pub input_end: End,
    pub reader: Option<Waker>,
    /// Nobody will read: what comes is forgotten.
    pub receiver_gone: bool,
    /// What was written and has not gone.
    pub output: VecDeque<u8>,
    pub output_end: End,
    /// The peer was told of the end.
    pub end_said: bool,
    pub writer: Option<Waker>,
    pub sender_gone: bool,
    /// The peer has accepted or refused it.
    pub accepted: Option<bool>,
    pub opener: Option<Waker>,
    /// Goes when nothing of any other stream waits.
    pub last: bool,
}

impl Slot {
    /// One of which nothing has come or gone.
    pub fn new() -> Self {
        Self {
            input: VecDeque::new(),
            input_end: End::Open,
            reader: None,
            receiver_gone: false,
            output: VecDeque::new(),
            output_end: End::Open,
            end_said: false,
            writer: None,
            sender_gone: false,
            accepted: None,
            opener: None,
            last: false,
        }
    }

    /// Whether something of it is to be told to the peer.
    pub fn has_news(&self) -> bool {
        !self.output.is_empty() || (self.output_end == End::Ended && !self.end_said)
    }

    /// Wakes whoever waits for it.
    pub fn wake_all(&mut self) {
        [self.reader.take(), self.writer.take(), self.opener.take()].into_iter().flatten().for_each(Waker::wake);
    }
}
