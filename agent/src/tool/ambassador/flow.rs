//! Bytes from one socket to another without passing through this process: by a pipe in the kernel.
//!
//! ```text
//!  from ──splice──> pipe ──splice──> to          the end of `from` is told to `to` when the pipe is empty
//! ```
//!
//! A pipe that is full is not filled, so a slow reader slows its writer, and nobody else. A flow has a pipe only while
//! bytes are in it: idle connections hold none.

use std::os::fd::{AsFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::Shutdown;
use rustix::pipe::{PipeFlags, SpliceFlags};

/// Asked of the kernel for each pipe; it may give less.
const PIPE_BYTES: usize = 256 * 1024;

/// Pipes kept for the next flow that needs one.
const SPARE_PIPES: usize = 16;

/// Turns of one flow before others have theirs.
const TURNS: usize = 16;

/// A pipe in the kernel.
#[derive(Debug)]
struct Pipe {
    read: OwnedFd,
    write: OwnedFd,
}

/// Empty pipes.
#[derive(Debug, Default)]
pub struct Pipes(Vec<Pipe>);

impl Pipes {
    fn take(&mut self) -> Result<Pipe, Errno> {
        if let Some(pipe) = self.0.pop() {
            return Ok(pipe);
        }
        let (read, write) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        // A user has only so many pages in pipes; a small pipe does, too.
        let _ = rustix::pipe::fcntl_setpipe_size(&write, PIPE_BYTES);
        Ok(Pipe { read, write })
    }

    fn give(&mut self, pipe: Pipe) {
        if self.0.len() < SPARE_PIPES {
            self.0.push(pipe);
        }
    }
}

/// A socket, and what is known of it.
#[derive(Debug)]
pub struct Side {
    /// The socket.
    pub fd: OwnedFd,
    /// There may be something to read.
    pub readable: bool,
    /// There may be room to write.
    pub writable: bool,
}

impl Side {
    /// A socket of which nothing is known.
    pub fn new(fd: OwnedFd) -> Self {
        Self { fd, readable: false, writable: false }
    }
}

/// One direction of a connection.
#[derive(Debug, Default)]
pub struct Flow {
    pipe: Option<Pipe>,
    /// Bytes in the pipe.
    held: usize,
    /// Nothing more comes.
    ended: bool,
    /// Everything has gone, and its end was told.
    done: bool,
}

/// What there is left to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Nothing, until a socket says so.
    Waits,
    /// More, when others have had their turn.
    HasMore,
}

impl Flow {
    /// Whether everything has gone through, and the end was told.
    pub fn is_done(&self) -> bool {
        self.done
    }

    /// Moves what can be moved; adds what was taken from `from` to `bytes`.
    pub fn advance(
        &mut self,
        from: &mut Side,
        to: &mut Side,
        pipes: &mut Pipes,
        bytes: &mut u64,
    ) -> Result<Progress, Errno> {
        if self.done {
            return Ok(Progress::Waits);
        }
        for _ in 0..TURNS {
            // What was taken before it broke goes on all the same.
            let filled = self.fill(from, pipes, bytes);
            let drained = self.drain(to)?;
            let filled = filled?;
            if self.held == 0 {
                if let Some(pipe) = self.pipe.take() {
                    pipes.give(pipe);
                }
                if self.ended {
                    self.done = true;
                    // Whoever is gone already need not be told.
                    let _ = rustix::net::shutdown(&to.fd, Shutdown::Write);
                    return Ok(Progress::Waits);
                }
            }
            if !filled && !drained {
                return Ok(Progress::Waits);
            }
        }
        Ok(Progress::HasMore)
    }

    /// Takes from the socket into the pipe. Whether anything changed.
    fn fill(&mut self, from: &mut Side, pipes: &mut Pipes, bytes: &mut u64) -> Result<bool, Errno> {
        if self.ended || !from.readable {
            return Ok(false);
        }
        if self.pipe.is_none() {
            self.pipe = Some(pipes.take()?);
        }
        let Some(pipe) = &self.pipe else { return Ok(false) };
        match splice(&from.fd, &pipe.write, PIPE_BYTES) {
            Ok(0) => {
                (self.ended, from.readable) = (true, false);
                Ok(true)
            }
            Ok(count) => {
                self.held += count;
                *bytes += count as u64;
                Ok(true)
            }
            Err(Errno::AGAIN) => {
                // With bytes in the pipe it may be the pipe that is full: known when it is empty.
                if self.held == 0 {
                    from.readable = false;
                }
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// Takes from the pipe into the socket. Whether anything changed.
    fn drain(&mut self, to: &mut Side) -> Result<bool, Errno> {
        let Some(pipe) = self.pipe.as_ref().filter(|_| self.held > 0 && to.writable) else { return Ok(false) };
        match splice(&pipe.read, &to.fd, self.held) {
            Ok(count) => {
                self.held -= count.min(self.held);
                Ok(count > 0)
            }
            Err(Errno::AGAIN) => {
                to.writable = false;
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }
}

fn splice(from: impl AsFd, to: impl AsFd, count: usize) -> Result<usize, Errno> {
    rustix::io::retry_on_intr(|| {
        rustix::pipe::splice(&from, None, &to, None, count, SpliceFlags::MOVE | SpliceFlags::NONBLOCK)
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::io::{Read as _, Write as _};
    use std::net::{TcpListener, TcpStream};

    /// Two connected sockets, the first of which does not block.
    fn pair() -> (Side, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let far = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (near, _) = listener.accept().unwrap();
        near.set_nonblocking(true).unwrap();
        (Side { fd: near.into(), readable: true, writable: true }, far)
    }

    #[test]
    fn bytes_go_through_and_their_end_after_them() {
        let ((mut from, mut writer), (mut to, mut reader)) = (pair(), pair());
        let (mut flow, mut pipes, mut bytes) = (Flow::default(), Pipes::default(), 0);
        let mut step = |from: &mut Side, to: &mut Side| {
            from.readable = true;
            flow.advance(from, to, &mut pipes, &mut bytes).unwrap();
            (flow.is_done(), bytes)
        };
        assert_eq!(step(&mut from, &mut to), (false, 0), "nothing yet");
        writer.write_all(b"hello").unwrap();
        while step(&mut from, &mut to).1 < 5 {}
        let mut held = [0; 5];
        reader.read_exact(&mut held).unwrap();
        assert_eq!(&held, b"hello");
        writer.shutdown(std::net::Shutdown::Write).unwrap();
        while !step(&mut from, &mut to).0 {}
        assert_eq!(reader.read(&mut held).unwrap(), 0, "the end is told");
        assert_eq!(pipes.0.len(), 1, "the pipe is there for the next");
    }

    #[test]
    fn a_reader_that_does_not_read_stops_its_writer() {
        let ((mut from, writer), (mut to, mut reader)) = (pair(), pair());
        writer.set_nonblocking(true).unwrap();
        let (mut flow, mut pipes, mut bytes) = (Flow::default(), Pipes::default(), 0);
        let (chunk, mut written, mut idle) = (vec![7_u8; 64 * 1024], 0_u64, 0);
        // As long as anything moves.
        while idle < 50 {
            let wrote = (&writer).write(&chunk).unwrap_or(0) as u64;
            (from.readable, to.writable) = (true, true);
            let before = bytes;
            flow.advance(&mut from, &mut to, &mut pipes, &mut bytes).unwrap();
            written += wrote;
            idle = if wrote == 0 && bytes == before { idle + 1 } else { 0 };
        }
        assert!(bytes <= written && written < 256 << 20, "{written} bytes were taken and nobody read one");
        let mut read = 0;
        let mut held = vec![0; 1 << 20];
        while read < written {
            read += reader.read(&mut held).unwrap() as u64;
            (from.readable, to.writable) = (true, true);
            flow.advance(&mut from, &mut to, &mut pipes, &mut bytes).unwrap();
        }
        assert_eq!((read, bytes), (written, written));
    }
}
