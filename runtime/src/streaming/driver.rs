//! One task a connection: it moves bytes between the connection and the streams, bounds what waits, and wakes whoever
//! waits for either.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::ReadBuf;
use tokio::time::{Instant, Sleep};

use super::channels::{Config, Error, Transport};
use super::codec::Codec;
use super::handles::Connection;
use super::state::{Phase, State};

/// How much is read at one time.
const CHUNK: usize = 32 << 10;

/// While the connection is not read, a peer that goes away is only noticed by writing to it.
const PROBE: Duration = Duration::from_secs(15);

/// What the task and the handles of the streams share.
#[derive(Clone)]
pub(super) struct Shared(Arc<Mutex<State>>);

impl Shared {
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Starts the task of a connection.
pub(super) fn start(io: impl Transport, codec: Box<dyn Codec>, config: Config, tolerant: bool) -> Connection {
    let (linger, idle) = (config.linger, config.idle);
    let shared = Shared(Arc::new(Mutex::new(State::new(codec, config, tolerant))));
    let now = Instant::now();
    let task = Task {
        io,
        shared: shared.clone(),
        chunk: vec![0; CHUNK].into(),
        writing: Vec::new(),
        written: 0,
        flushed: true,
        linger,
        idle,
        active: now,
        probed: now,
        parting: None,
        timer: Box::pin(tokio::time::sleep(Duration::from_secs(3600))),
    };
    tokio::spawn(task);
    Connection::new(shared)
}

struct Task<T> {
    io: T,
    shared: Shared,
    chunk: Box<[u8]>,
    /// What was taken from the state and is being written, from `written` on.
    writing: Vec<u8>,
    written: usize,
    flushed: bool,
    linger: Duration,
    idle: Option<Duration>,
    /// When a byte last came or went.
    active: Instant,
    probed: Instant,
    /// When everything is said: when to stop waiting for the peer to close.
    parting: Option<Instant>,
    timer: Pin<Box<Sleep>>,
}

impl<T: Transport> Future for Task<T> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let why = ready!(self.turn(cx));
        self.shared.lock().ended(why);
        Poll::Ready(())
    }
}

impl<T> Drop for Task<T> {
    /// Nobody waits for a task that is gone, whatever became of it.
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        if state.phase != Phase::Ended {
            state.ended(Error::Closed);
        }
    }
}

impl<T: Transport> Task<T> {
    /// Everything that can be done now. Ready with why the connection has ended.
    fn turn(&mut self, cx: &mut Context<'_>) -> Poll<Error> {
        self.shared.lock().driver = Some(cx.waker().clone());
        // Whoever has much to move is not to keep the thread: after so many rounds the others have theirs.
        for _ in 0..16 {
            let mut moved = match self.write(cx) {
                Ok(moved) => moved,
                Err(error) => return Poll::Ready(error.into()),
            };
            match self.read(cx) {
                Ok(None) => {}
                Ok(Some(0)) => return Poll::Ready(Error::Closed),
                Ok(Some(_)) => moved = true,
                Err(error) => {
                    // What the codec has to say about it is said if it can be said at once.
                    let _ = self.write(cx);
                    return Poll::Ready(error);
                }
            }
            if !moved {
                if let Poll::Ready(why) = self.clock(cx) {
                    return Poll::Ready(why);
                }
                return Poll::Pending;
            }
            self.active = Instant::now();
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Writes what can be written; true when some was.
    fn write(&mut self, cx: &mut Context<'_>) -> io::Result<bool> {
        let mut moved = false;
        loop {
            if self.written == self.writing.len() {
                self.writing.clear();
                self.written = 0;
                self.shared.lock().fill(&mut self.writing);
            }
            if self.writing.is_empty() {
                break;
            }
            match Pin::new(&mut self.io).poll_write(cx, &self.writing[self.written..])? {
                Poll::Ready(0) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(count) => self.written += count,
                Poll::Pending => return Ok(moved),
            }
            (moved, self.flushed) = (true, false);
        }
        if !self.flushed && Pin::new(&mut self.io).poll_flush(cx)?.is_ready() {
            self.flushed = true;
        }
        self.part(cx)?;
        Ok(moved)
    }

    /// Everything is written: if nothing more is to come, says so to the peer.
    fn part(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let leaving = matches!(self.shared.lock().phase, Phase::Leaving);
        if leaving && self.flushed && Pin::new(&mut self.io).poll_shutdown(cx)?.is_ready() {
            self.shared.lock().left();
            self.parting = Some(Instant::now() + self.linger);
        }
        Ok(())
    }

    /// Reads once. `Ok(Some(0))` at the end.
    fn read(&mut self, cx: &mut Context<'_>) -> Result<Option<usize>, Error> {
        if self.shared.lock().is_full() {
            return Ok(None);
        }
        let mut buffer = ReadBuf::new(&mut self.chunk);
        let Poll::Ready(result) = Pin::new(&mut self.io).poll_read(cx, &mut buffer) else { return Ok(None) };
        result?;
        let bytes = buffer.filled_mut();
        let count = bytes.len();
        self.shared.lock().take(bytes)?;
        Ok(Some(count))
    }

    /// What is due by time, and an alarm for what will be.
    fn clock(&mut self, cx: &mut Context<'_>) -> Poll<Error> {
        loop {
            let now = Instant::now();
            let (full, aborted) = {
                let mut state = self.shared.lock();
                (state.is_full(), state.aborted)
            };
            if aborted && self.parting.is_none() {
                self.parting = Some(now + self.linger);
            }
            let idle = self.idle.map(|idle| self.active + idle);
            let probe = full.then(|| self.probed.max(self.active) + PROBE);
            if self.parting.is_some_and(|at| at <= now) {
                return Poll::Ready(Error::Closed);
            }
            if idle.is_some_and(|at| at <= now) {
                return Poll::Ready(Error::Timeout("because nothing was said on the streaming connection"));
            }
            if probe.is_some_and(|at| at <= now) {
                self.probed = now;
                self.shared.lock().probe();
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            let Some(next) = [self.parting, idle, probe].into_iter().flatten().min() else { return Poll::Pending };
            if self.timer.deadline() != next {
                self.timer.as_mut().reset(next);
            }
            ready!(self.timer.as_mut().poll(cx));
        }
    }
}
