//! What waits on a connection: bytes that came and were not read, bytes that were written and have not gone.

use std::collections::{BTreeMap, VecDeque};
use std::task::Waker;

use tokio::sync::watch;

use super::channels::{Config, Error};
use super::codec::{Codec, Event, Headers, PIECE};
pub use super::slot::{End, Slot};

/// How far the end of the connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// In use.
    Open,
    /// No stream takes more; what they took is being written.
    Finishing,
    /// All was taken by the task, the farewell too.
    Leaving,
    /// All was written, the peer's end is awaited.
    Left,
    /// The connection is gone.
    Ended,
}

/// What others wait for.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    /// Everything was written.
    pub left: bool,
    /// The connection is gone.
    pub ended: Option<Error>,
}

/// A stream the peer wants.
pub struct Wanted {
    pub id: u32,
    pub headers: Headers,
}

/// Everything of a connection but the connection.
pub struct State {
    pub codec: Box<dyn Codec>,
    pub config: Config,
    pub slots: BTreeMap<u32, Slot>,
    pub wanted: VecDeque<Wanted>,
    /// False: what the peer wants is refused at once.
    pub accepting: bool,
    pub acceptor: Option<Waker>,
    pub driver: Option<Waker>,
    pub phase: Phase,
    pub aborted: bool,
    pub progress: watch::Sender<Progress>,
    /// The stream that was the last to have its turn of writing.
    turn: u32,
    /// The peer has said that it is through.
    farewell: bool,
    /// A stream that the peer cancels has ended: servers written in Go end theirs so.
    tolerant: bool,
    /// How many streams have more waiting than they may.
    full: usize,
}

impl State {
    pub fn new(codec: Box<dyn Codec>, config: Config, tolerant: bool) -> Self {
        Self {
            codec,
            config,
            slots: BTreeMap::new(),
            wanted: VecDeque::new(),
            accepting: true,
            acceptor: None,
            driver: None,
            phase: Phase::Open,
            aborted: false,
            progress: watch::Sender::new(Progress::default()),
            turn: 0,
            farewell: false,
            tolerant,
            full: 0,
        }
    }

    /// Has the task look at what changed.
    pub fn wake_driver(&mut self) {
        if let Some(waker) = self.driver.take() {
            waker.wake();
        }
    }

    /// Whether the connection is to be read no more for now: somebody does not read what came, or the peer does not
    /// read what its own bytes have us answer.
    pub fn is_full(&mut self) -> bool {
        (self.full > 0 && matches!(self.phase, Phase::Open | Phase::Finishing))
            || self.codec.output().len() > 2 * self.config.output + PIECE
    }

    /// Takes bytes of the peer.
    pub fn take(&mut self, mut bytes: &mut [u8]) -> Result<(), Error> {
        while let Some(event) = self.codec.receive(&mut bytes)? {
            match event {
                Event::Opened { id, headers } if self.has_place() => {
                    self.slots.insert(id, Slot::new());
                    self.wanted.push_back(Wanted { id, headers });
                    self.acceptor.take().into_iter().for_each(Waker::wake);
                }
                Event::Opened { id, .. } => self.codec.refuse(id),
                Event::Accepted { id } => self.with(id, |slot| slot.accepted = Some(true)),
                Event::Data { id, bytes } => {
                    let limit = self.config.buffer;
                    let Some(slot) = self.slots.get_mut(&id).filter(|it| !it.receiver_gone) else { continue };
                    let before = slot.input.len();
                    // After the farewell the connection is read to its end, whoever still reads of what came before.
                    if before >= limit && !matches!(self.phase, Phase::Open | Phase::Finishing) {
                        continue;
                    }
                    slot.input.extend(bytes.iter());
                    self.full += usize::from(before < limit && slot.input.len() >= limit);
                    slot.reader.take().into_iter().for_each(Waker::wake);
                }
                Event::Ended { id } => self.with(id, |slot| {
                    if slot.input_end == End::Open {
                        slot.input_end = End::Ended;
                    }
                }),
                Event::Reset { id, cancelled } => {
                    let end = if cancelled && self.tolerant { End::Ended } else { End::Reset };
                    self.with(id, |slot| {
                        slot.accepted = Some(slot.accepted.unwrap_or(false));
                        if slot.input_end == End::Open {
                            slot.input_end = end;
                        }
                        slot.output_end = End::Reset;
                        slot.output.clear();
                    });
                }
                Event::Farewell { over } => {
                    self.farewell = true;
                    if over {
                        return Err(Error::Closed);
                    }
                }
            }
        }
        Ok(())
    }

    /// Nobody writes to any stream.
    pub fn is_idle(&self) -> bool {
        self.slots.values().all(|it| it.sender_gone)
    }

    fn has_place(&self) -> bool {
        self.accepting && self.phase == Phase::Open && self.slots.len() < self.config.streams
    }

    fn with(&mut self, id: u32, change: impl FnOnce(&mut Slot)) {
        if let Some(slot) = self.slots.get_mut(&id) {
            change(slot);
            slot.wake_all();
        }
    }

    /// Takes what a reader reads; the task goes on reading if that made room.
    pub fn read(&mut self, id: u32, into: &mut tokio::io::ReadBuf<'_>) {
        let limit = self.config.buffer;
        let Some(slot) = self.slots.get_mut(&id) else { return };
        let before = slot.input.len();
        while !slot.input.is_empty() && into.remaining() > 0 {
            let (front, _) = slot.input.as_slices();
            let count = front.len().min(into.remaining());
            into.put_slice(&front[..count]);
            slot.input.drain(..count);
        }
        if before >= limit && slot.input.len() < limit {
            self.made_room();
        }
    }

    fn made_room(&mut self) {
        self.full -= 1;
        if self.full == 0 {
            self.wake_driver();
        }
    }

    /// Nobody reads this stream any more.
    pub fn forget_receiver(&mut self, id: u32) {
        let limit = self.config.buffer;
        let Some(slot) = self.slots.get_mut(&id) else { return };
        slot.receiver_gone = true;
        let was_full = std::mem::take(&mut slot.input).len() >= limit;
        if was_full {
            self.made_room();
        }
        self.forget(id);
    }

    /// Nobody writes to this stream any more: it ends after what was written.
    pub fn forget_sender(&mut self, id: u32) {
        self.end(id);
        let Some(slot) = self.slots.get_mut(&id) else { return };
        slot.sender_gone = true;
        self.forget(id);
        if self.is_idle() {
            self.acceptor.take().into_iter().for_each(Waker::wake);
        }
    }

    /// Ends the stream after what was written.
    pub fn end(&mut self, id: u32) {
        let Some(slot) = self.slots.get_mut(&id).filter(|it| it.output_end == End::Open) else { return };
        slot.output_end = End::Ended;
        self.wake_driver();
    }

    /// Cuts the stream off, both ways.
    pub fn reset(&mut self, id: u32) {
        self.codec.reset(id);
        self.with(id, |slot| {
            slot.output.clear();
            (slot.input_end, slot.output_end) = (End::Reset, End::Reset);
        });
        self.wake_driver();
    }

    /// Refuses a stream that nobody has accepted.
    pub fn refuse(&mut self, id: u32) {
        self.forget_receiver(id);
        self.slots.remove(&id);
        self.codec.refuse(id);
        self.wake_driver();
    }

    /// Nothing more will come of any stream, though the peer did not say so of each.
    pub fn end_inputs(&mut self) {
        for slot in self.slots.values_mut().filter(|it| it.input_end == End::Open) {
            slot.input_end = End::Ended;
            slot.reader.take().into_iter().for_each(Waker::wake);
        }
    }

    fn forget(&mut self, id: u32) {
        let done = |slot: &Slot| slot.receiver_gone && slot.sender_gone && !slot.has_news();
        if self.slots.get(&id).is_some_and(done) {
            self.slots.remove(&id);
        }
    }

    /// Moves what is to be written to the task. Each stream has its turn.
    pub fn fill(&mut self, into: &mut Vec<u8>) {
        std::mem::swap(self.codec.output(), into);
        while into.len() < self.config.output
            && let Some(id) = self.next_turn()
        {
            self.turn = id;
            self.say(id);
            into.append(self.codec.output());
        }
        if self.phase == Phase::Finishing && self.next_turn().is_none() {
            self.codec.farewell();
            into.append(self.codec.output());
            self.phase = Phase::Leaving;
        }
    }

    /// The stream after the last one with something to say.
    fn next_turn(&self) -> Option<u32> {
        let with_news = |last: bool| {
            let mut round = self.slots.range(self.turn.saturating_add(1)..).chain(self.slots.range(..=self.turn));
            round.find(move |(_, it)| it.last == last && it.has_news()).map(|(id, _)| *id)
        };
        with_news(false).or_else(|| with_news(true))
    }

    fn say(&mut self, id: u32) {
        let Some(slot) = self.slots.get_mut(&id) else { return };
        let (front, _) = slot.output.as_slices();
        let count = front.len().min(PIECE);
        if count > 0 {
            self.codec.send(id, &front[..count]);
            slot.output.drain(..count);
            slot.writer.take().into_iter().for_each(Waker::wake);
        }
        if slot.output.is_empty() && slot.output_end == End::Ended && !slot.end_said {
            slot.end_said = true;
            self.codec.end(id);
        }
        self.forget(id);
    }

    /// Ends all streams after what was written, then the connection.
    pub fn finish(&mut self) {
        if self.phase != Phase::Open {
            return;
        }
        self.phase = Phase::Finishing;
        for slot in self.slots.values_mut() {
            if slot.output_end == End::Open {
                slot.output_end = End::Ended;
            }
            slot.writer.take().into_iter().for_each(Waker::wake);
        }
        self.wake_driver();
    }

    /// Ends the connection, whatever waits.
    pub fn abort(&mut self) {
        if matches!(self.phase, Phase::Open | Phase::Finishing) {
            self.aborted = true;
            let ids: Vec<u32> = self.slots.keys().copied().collect();
            for id in ids {
                self.codec.reset(id);
                self.with(id, |slot| {
                    slot.output.clear();
                    slot.output_end = End::Reset;
                    slot.input_end = if slot.input_end == End::Open { End::Reset } else { slot.input_end };
                });
            }
            self.phase = Phase::Finishing;
            self.wake_driver();
        }
    }

    /// All was written.
    pub fn left(&mut self) {
        self.phase = Phase::Left;
        self.progress.send_modify(|it| it.left = true);
    }

    /// Sends something that only a dead peer answers to at once.
    pub fn probe(&mut self) {
        if self.codec.output().is_empty() {
            self.codec.probe();
        }
    }

    /// The connection is gone: wakes everybody.
    pub fn ended(&mut self, why: Error) {
        self.phase = Phase::Ended;
        let end = if self.farewell && matches!(why, Error::Closed) { End::Ended } else { End::Reset };
        for slot in self.slots.values_mut() {
            slot.input_end = if slot.input_end == End::Open { end } else { slot.input_end };
            slot.output_end = End::Reset;
            slot.output.clear();
            slot.wake_all();
        }
        self.acceptor.take().into_iter().for_each(Waker::wake);
        self.progress.send_modify(|it| it.ended = Some(why));
    }
}
