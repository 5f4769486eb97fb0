//! What users of a connection hold.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::watch;

use super::channels::Error;
use super::codec::Headers;
use super::driver::Shared;
use super::state::{End, Phase, Progress, Slot, State};

/// The bytes of one stream that come from the peer. Dropping it has them read and forgotten.
pub struct Receiver {
    shared: Shared,
    id: u32,
}

/// The bytes of one stream that go to the peer. Dropping it, or `shutdown`, ends them after what was written.
pub struct Sender {
    shared: Shared,
    id: u32,
}

/// The connection that carries streams. Dropping it closes it at once, whatever waits to be written.
pub struct Connection {
    shared: Shared,
    progress: watch::Receiver<Progress>,
}

/// A stream that the peer wants. Dropping it refuses.
pub struct Incoming {
    shared: Shared,
    id: u32,
    headers: Headers,
    answered: bool,
}

impl Connection {
    pub(super) fn new(shared: Shared) -> Self {
        let progress = shared.lock().progress.subscribe();
        Self { shared, progress }
    }

    /// Returns when the connection has ended, with the reason. Cancel safe.
    pub async fn closed(&self) -> Error {
        let mut progress = self.progress.clone();
        match progress.wait_for(|it| it.ended.is_some()).await {
            Ok(it) => it.ended.clone().unwrap_or(Error::Closed),
            Err(_) => Error::Closed,
        }
    }

    /// Ends all streams after what was written to them, and closes the connection in order. Returns when all is
    /// written; the peer's own closing is awaited in the background.
    pub async fn finish(self) -> Result<(), Error> {
        self.leave().await
    }

    /// [`Connection::finish`] for somebody who holds it.
    pub(super) async fn leave(&self) -> Result<(), Error> {
        self.shared.lock().finish();
        let mut progress = self.progress.clone();
        match progress.wait_for(|it| it.left || it.ended.is_some()).await {
            Ok(it) if it.left => Ok(()),
            Ok(it) => Err(it.ended.clone().unwrap_or(Error::Closed)),
            Err(_) => Err(Error::Closed),
        }
    }

    /// The next stream that the peer wants; `None` when the connection has ended. Cancel safe.
    pub async fn accept(&mut self) -> Option<Incoming> {
        std::future::poll_fn(|cx| {
            let mut state = self.shared.lock();
            if let Some(wanted) = state.wanted.pop_front() {
                let (shared, id, headers) = (self.shared.clone(), wanted.id, wanted.headers);
                return Poll::Ready(Some(Incoming { shared, id, headers, answered: false }));
            }
            if state.phase != Phase::Open {
                return Poll::Ready(None);
            }
            state.acceptor = Some(cx.waker().clone());
            Poll::Pending
        })
        .await
    }

    /// Returns when nobody writes to any stream, or the connection has ended. Cancel safe.
    pub(super) async fn idle(&mut self) {
        std::future::poll_fn(|cx| {
            let mut state = self.shared.lock();
            if state.is_idle() || state.phase != Phase::Open {
                return Poll::Ready(());
            }
            state.acceptor = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// Every stream the peer wants from now on is refused.
    pub fn refuse_more(&mut self) {
        let mut state = self.shared.lock();
        state.accepting = false;
        let wanted: Vec<u32> = state.wanted.drain(..).map(|it| it.id).collect();
        wanted.into_iter().for_each(|id| state.refuse(id));
    }

    /// Opens a stream and waits until the peer accepts it.
    pub async fn open(&self, headers: &Headers) -> Result<(Receiver, Sender), Error> {
        let (creation, id) = {
            let mut state = self.shared.lock();
            if state.phase != Phase::Open {
                return Err(Error::Closed);
            }
            let id = state.codec.open(headers)?;
            state.slots.insert(id, Slot::new());
            state.wake_driver();
            (state.config.creation, id)
        };
        // They forget the stream if this is given up.
        let (receiver, sender) = self.halves(id);
        let answer = std::future::poll_fn(|cx| {
            let mut state = self.shared.lock();
            let phase = state.phase;
            let Some(slot) = state.slots.get_mut(&id) else { return Poll::Ready(Err(Error::Closed)) };
            match slot.accepted {
                Some(true) => Poll::Ready(Ok(())),
                Some(false) => Poll::Ready(Err(Error::Refused)),
                None if phase != Phase::Open => Poll::Ready(Err(Error::Closed)),
                None => {
                    slot.opener = Some(cx.waker().clone());
                    Poll::Pending
                }
            }
        });
        match tokio::time::timeout(creation, answer).await {
            Ok(answer) => answer.map(|()| (receiver, sender)),
            Err(_) => {
                sender.reset();
                Err(Error::Timeout("waiting for the peer to accept a stream"))
            }
        }
    }

    /// Both halves of a channel that is there from the beginning.
    pub(super) fn channel(&self, id: u32) -> (Receiver, Sender) {
        self.shared.lock().slots.insert(id, Slot::new());
        self.halves(id)
    }

    fn halves(&self, id: u32) -> (Receiver, Sender) {
        (Receiver { shared: self.shared.clone(), id }, Sender { shared: self.shared.clone(), id })
    }

    /// Nothing more will come of any stream.
    pub(super) fn end_inputs(&self) {
        self.shared.lock().end_inputs();
    }

    /// Sends an empty message on a channel.
    pub(super) fn send_empty(&self, id: u32) {
        let mut state = self.shared.lock();
        state.codec.send(id, &[]);
        state.wake_driver();
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.shared.lock().abort();
    }
}

impl Incoming {
    /// What it is for.
    pub fn headers(&self) -> &Headers {
        &self.headers
    }

    /// The number of the stream.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// Accepts it.
    pub fn accept(mut self) -> (Receiver, Sender) {
        self.answered = true;
        let mut state = self.shared.lock();
        state.codec.accept(self.id);
        state.wake_driver();
        drop(state);
        let shared = self.shared.clone();
        (Receiver { shared: shared.clone(), id: self.id }, Sender { shared, id: self.id })
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        if !self.answered {
            self.shared.lock().refuse(self.id);
        }
    }
}

impl Sender {
    /// Cuts the stream off, both ways: what was not written yet is forgotten, and the peer is told.
    pub fn reset(self) {
        self.shared.lock().reset(self.id);
    }

    /// Puts bytes before everything else that is written, in a message of their own.
    pub(super) fn begin_with(&self, bytes: &[u8]) {
        let mut state = self.shared.lock();
        state.codec.send(self.id, bytes);
        state.wake_driver();
    }

    /// Has this stream's bytes go when nothing of any other stream waits.
    pub(super) fn make_last(&self) {
        if let Some(slot) = self.shared.lock().slots.get_mut(&self.id) {
            slot.last = true;
        }
    }
}

impl AsyncRead for Receiver {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut state = self.shared.lock();
        let Some(slot) = state.slots.get_mut(&self.id) else { return Poll::Ready(Err(reset())) };
        if !slot.input.is_empty() {
            state.read(self.id, into);
            return Poll::Ready(Ok(()));
        }
        match slot.input_end {
            End::Ended => Poll::Ready(Ok(())),
            End::Reset => Poll::Ready(Err(reset())),
            End::Open => {
                slot.reader = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl AsyncWrite for Sender {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut state = self.shared.lock();
        let State { slots, config, .. } = &mut *state;
        let Some(slot) = slots.get_mut(&self.id).filter(|it| it.output_end == End::Open) else {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::BrokenPipe, "the stream has ended")));
        };
        let room = config.output.saturating_sub(slot.output.len());
        if room == 0 {
            slot.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let count = bytes.len().min(room);
        slot.output.extend(&bytes[..count]);
        state.wake_driver();
        Poll::Ready(Ok(count))
    }

    /// What was written goes without being asked to.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.shared.lock().end(self.id);
        Poll::Ready(Ok(()))
    }
}

fn reset() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionReset, "the stream was cut off")
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.shared.lock().forget_receiver(self.id);
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        self.shared.lock().forget_sender(self.id);
    }
}

macro_rules! debug {
    ($($handle:ident)*) => {$(
        impl std::fmt::Debug for $handle {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_struct(stringify!($handle)).field("stream", &self.id).finish_non_exhaustive()
            }
        }
    )*};
}

debug!(Receiver Sender Incoming);

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").field("phase", &self.shared.lock().phase).finish_non_exhaustive()
    }
}
