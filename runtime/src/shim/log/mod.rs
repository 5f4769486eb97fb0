//! The thread that writes the containers' logs.
//!
//! It alone touches log files, so a slow or full disk never holds up an exec, a stop or an exit record: the pipe fills
//! and the container waits. What cannot be written (no space) is dropped and counted, and the next line that can be
//! written is preceded by a marker that says how many were lost. A log that has its size goes on in a new file, at a
//! line's end.

mod file;
mod follower;
pub mod format;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::io::Errno;

pub use file::{LogFile, Rotation};
pub use follower::Follower;
use format::Splitter;

use crate::shim::protocol::Event;

/// Bytes taken from a stream at a time.
const CHUNK: usize = 16 * 1024;

/// The bell and the letterbox between the shim's main thread and the log thread.
#[derive(Clone)]
pub struct LogThread {
    shared: Arc<Shared>,
}

struct Shared {
    commands: Mutex<Vec<Command>>,
    drained: Mutex<Vec<Drained>>,
    /// Requests to go on in another file that are done, and whether there was a log to go on with.
    reopened: Mutex<Vec<(u64, bool)>>,
    wake: OwnedFd,
    /// Readable when something was drained or reopened.
    done: OwnedFd,
}

enum Command {
    Add(Sink),
    /// The number is whose request it is, to be told when it is done.
    Reopen(String, OwnedFd, u64),
    Close(String),
    Follow(String, Follower),
    Tell(String, u64, Event),
    Unfollow(u64),
}

/// One container's streams and its log file.
pub struct Sink {
    /// The container.
    pub id: String,
    /// The log file; none means that the output is read and dropped.
    pub file: Option<LogFile>,
    /// Where the output comes from.
    pub streams: Vec<Stream>,
    /// Who is attached.
    followers: Vec<Follower>,
    lost: u64,
    lost_total: u64,
}

/// One stream.
pub struct Stream {
    name: &'static str,
    fd: OwnedFd,
    splitter: Splitter,
}

/// A container whose streams have all ended.
pub struct Drained {
    /// The container.
    pub id: String,
    /// Lines that could not be written.
    pub lost: u64,
}

impl Stream {
    /// `name` is `stdout` or `stderr`.
    pub fn new(name: &'static str, fd: OwnedFd) -> Self {
        Self { name, fd, splitter: Splitter::default() }
    }
}

impl Sink {
    /// A sink that has lost nothing yet.
    pub fn new(id: String, file: Option<LogFile>, streams: Vec<Stream>) -> Self {
        Self { id, file, streams, followers: Vec::new(), lost: 0, lost_total: 0 }
    }
}

impl LogThread {
    /// Starts the thread.
    pub fn start() -> io::Result<Self> {
        let bell = || eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK);
        let shared = Shared {
            commands: Mutex::default(),
            drained: Mutex::default(),
            reopened: Mutex::default(),
            wake: bell()?,
            done: bell()?,
        };
        let thread = Self { shared: Arc::new(shared) };
        let shared = Arc::clone(&thread.shared);
        // The default of 2 MiB is address space only, but a small stack also keeps its guard and tables small.
        std::thread::Builder::new().name("coracle-log".into()).stack_size(128 * 1024).spawn(move || run(&shared))?;
        Ok(thread)
    }

    /// Takes over a container's streams.
    pub fn add(&self, sink: Sink) {
        self.send(Command::Add(sink));
    }

    /// Goes on in another file; `request` is among [`LogThread::reopened`] when the old one has its last line.
    pub fn reopen(&self, id: &str, file: OwnedFd, request: u64) {
        self.send(Command::Reopen(id.to_owned(), file, request));
    }

    /// The requests to go on in another file that were carried out, each once; false for one that came too late.
    pub fn reopened(&self) -> Vec<(u64, bool)> {
        std::mem::take(&mut *lock(&self.shared.reopened))
    }

    /// Ends a container's log even if somebody still holds its streams.
    pub fn close(&self, id: &str) {
        self.send(Command::Close(id.to_owned()));
    }

    /// Lets a client see what a container writes from now on, and answers it.
    pub fn follow(&self, id: &str, follower: Follower) {
        self.send(Command::Follow(id.to_owned(), follower));
    }

    /// Tells a client something, after it was answered.
    pub fn tell(&self, id: &str, conn: u64, event: Event) {
        self.send(Command::Tell(id.to_owned(), conn, event));
    }

    /// Forgets a client.
    pub fn unfollow(&self, conn: u64) {
        self.send(Command::Unfollow(conn));
    }

    /// Readable when [`LogThread::drained`] or [`LogThread::reopened`] has something.
    pub fn bell(&self) -> BorrowedFd<'_> {
        self.shared.done.as_fd()
    }

    /// The containers whose logs are complete, each once.
    pub fn drained(&self) -> Vec<Drained> {
        clear(&self.shared.done);
        std::mem::take(&mut *lock(&self.shared.drained))
    }

    fn send(&self, command: Command) {
        lock(&self.shared.commands).push(command);
        ring(&self.shared.wake);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn ring(bell: &OwnedFd) {
    let _ = rustix::io::write(bell, &1u64.to_ne_bytes());
}

fn clear(bell: &OwnedFd) {
    let _ = rustix::io::read(bell, &mut [0; 8]);
}

fn run(shared: &Shared) {
    let mut sinks: Vec<Sink> = Vec::new();
    let mut buffer = vec![0; CHUNK];
    let mut out = Vec::with_capacity(CHUNK * 2);
    loop {
        let ready = wait(shared, &sinks);
        for command in std::mem::take(&mut *lock(&shared.commands)) {
            carry_out(shared, command, &mut sinks);
        }
        for (id, number) in ready {
            if let Some(sink) = sinks.iter_mut().find(|sink| sink.id == id) {
                sink.read(number, &mut buffer, &mut out);
            }
        }
        finish(shared, &mut sinks);
    }
}

fn carry_out(shared: &Shared, command: Command, sinks: &mut Vec<Sink>) {
    match command {
        Command::Add(sink) => sinks.push(sink),
        Command::Reopen(id, file, request) => {
            let sink = sinks.iter_mut().find(|sink| sink.id == id);
            let found = sink.is_some();
            if let Some(sink) = sink {
                match &mut sink.file {
                    Some(log) => log.replace(file),
                    None => sink.file = Some(LogFile::new(file, None)),
                }
            }
            lock(&shared.reopened).push((request, found));
            ring(&shared.done);
        }
        Command::Close(id) => {
            if let Some(sink) = sinks.iter_mut().find(|sink| sink.id == id) {
                sink.end();
            }
        }
        Command::Follow(id, mut follower) => {
            // Here, where all output passes: what comes of its own input comes after this.
            follower.welcome();
            match sinks.iter_mut().find(|sink| sink.id == id) {
                Some(sink) => sink.followers.push(follower),
                None => follower.end(),
            }
        }
        Command::Tell(id, conn, event) => {
            let sink = sinks.iter().find(|sink| sink.id == id);
            if let Some(follower) = sink.and_then(|sink| sink.followers.iter().find(|it| it.conn == conn)) {
                follower.tell(&event);
            }
        }
        Command::Unfollow(conn) => {
            for sink in sinks {
                sink.followers.retain(|it| it.conn != conn);
            }
        }
    }
}

/// Takes out the sinks without streams and tells of them.
fn finish(shared: &Shared, sinks: &mut Vec<Sink>) {
    let mut told = false;
    sinks.retain_mut(|sink| {
        let over = sink.streams.is_empty();
        if over {
            sink.followers.drain(..).for_each(Follower::end);
            lock(&shared.drained).push(Drained { id: sink.id.clone(), lost: sink.lost_total });
            told = true;
        }
        !over
    });
    if told {
        ring(&shared.done);
    }
}

/// Waits for a command or for output; answers with the streams that have some.
fn wait(shared: &Shared, sinks: &[Sink]) -> Vec<(String, usize)> {
    let streams = || sinks.iter().flat_map(|sink| sink.streams.iter().enumerate().map(move |it| (sink, it)));
    let mut fds = vec![PollFd::new(&shared.wake, PollFlags::IN)];
    fds.extend(streams().map(|(_, (_, stream))| PollFd::new(&stream.fd, PollFlags::IN)));
    if poll(&mut fds, None).is_err() {
        return Vec::new();
    }
    if !fds[0].revents().is_empty() {
        clear(&shared.wake);
    }
    let ready = streams().zip(&fds[1..]).filter(|(_, fd)| !fd.revents().is_empty());
    // From the last stream of a sink to the first, for one that ends is taken out.
    let mut ready: Vec<_> = ready.map(|((sink, (number, _)), _)| (sink.id.clone(), number)).collect();
    ready.reverse();
    ready
}

impl Sink {
    fn read(&mut self, number: usize, buffer: &mut [u8], out: &mut Vec<u8>) {
        let Some(stream) = self.streams.get_mut(number) else { return };
        match rustix::io::read(&stream.fd, &mut *buffer) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            // The end: EIO is what a terminal's master says when the last process has closed the other side.
            Ok(0) | Err(_) => {
                let mut stream = self.streams.remove(number);
                self.followers.iter_mut().for_each(|it| it.close(stream.name));
                out.clear();
                let lines = stream.splitter.finish(stream.name, now(), out);
                self.write(out, lines);
            }
            Ok(length) => {
                self.followers.retain_mut(|it| it.take(stream.name, &buffer[..length]));
                out.clear();
                let lines = stream.splitter.feed(&buffer[..length], stream.name, now(), out);
                self.write(out, lines);
            }
        }
    }

    /// Takes what is there without waiting and lets go of every stream.
    fn end(&mut self) {
        let (mut buffer, mut out) = (vec![0; CHUNK], Vec::new());
        // Whoever still holds a stream may go on writing: what a pipe can hold is taken, and no more.
        let mut reads = self.streams.len() * 64;
        while let Some(last) = self.streams.len().checked_sub(1) {
            let stream = &self.streams[last];
            let mut fds = [PollFd::new(&stream.fd, PollFlags::IN)];
            let none = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
            if reads > 0 && matches!(poll(&mut fds, Some(&none)), Ok(1)) {
                reads -= 1;
                self.read(last, &mut buffer, &mut out);
            } else {
                let mut stream = self.streams.remove(last);
                self.followers.iter_mut().for_each(|it| it.close(stream.name));
                out.clear();
                let lines = stream.splitter.finish(stream.name, now(), &mut out);
                self.write(&out, lines);
            }
        }
    }

    fn write(&mut self, out: &[u8], lines: u64) {
        if lines == 0 {
            return;
        }
        let Some(file) = &mut self.file else { return };
        let now = now();
        if self.lost > 0 {
            let (lost, mut marker) = (self.lost, Vec::new());
            format::prefix(now, "stderr", "F", &mut marker);
            marker
                .extend_from_slice(format!("coracle: {lost} log lines could not be written and are lost\n").as_bytes());
            if file.write(&marker, now.0).is_err() {
                self.lose(lines);
                return;
            }
            self.lost = 0;
        }
        if let Err(written) = file.write(out, now.0) {
            let whole = out[..written].iter().filter(|&&byte| byte == b'\n').count() as u64;
            self.lose(lines - whole);
        }
    }

    fn lose(&mut self, lines: u64) {
        self.lost += lines;
        self.lost_total += lines;
    }
}

fn now() -> (i64, u32) {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
    (time.tv_sec, time.tv_nsec as u32)
}
