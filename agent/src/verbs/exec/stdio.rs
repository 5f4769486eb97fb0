//! Copies bytes between this process's standard streams and a session's.
//!
//! Each direction has a blocking thread. The command's own end does not end its output: what it wrote is still in the
//! pipe, and a child that it left behind may hold the pipe open for ever. So after the end output is copied until
//! nothing has come for a moment.

use std::fs::File;
use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::thread::{self, JoinHandle};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::{Errno, retry_on_intr};

/// After the command's end: how long silence means that all has been said.
const SILENCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
/// What a terminal takes as the end of input.
const END_OF_INPUT: [u8; 1] = [4];

/// The session's ends.
pub struct Streams {
    /// The command's standard input.
    pub stdin: Option<OwnedFd>,
    /// Its standard output.
    pub stdout: Option<OwnedFd>,
    /// Its standard error.
    pub stderr: Option<OwnedFd>,
    /// All three in one.
    pub terminal: Option<OwnedFd>,
}

/// Copying under way.
pub struct Copying {
    /// Closed to say that the command has ended.
    running: PipeWriter,
    outputs: Vec<JoinHandle<()>>,
}

impl Copying {
    /// Starts the threads. Without `stdin` nothing is read from ours.
    pub fn start(streams: Streams, stdin: bool) -> io::Result<Self> {
        let (ended, running) = io::pipe()?;
        let mut outputs = Vec::new();
        let mut out = |from: Option<OwnedFd>, to: BorrowedFd<'_>| -> io::Result<()> {
            let Some(from) = from else { return Ok(()) };
            make_blocking(&from)?;
            let (to, ended) = (File::from(to.try_clone_to_owned()?), ended.try_clone()?);
            outputs.push(thread::Builder::new().spawn(move || copy_out(from, to, ended))?);
            Ok(())
        };
        let input = match &streams.terminal {
            Some(master) => Some((master.try_clone()?, true)),
            None => streams.stdin.map(|pipe| (pipe, false)),
        };
        out(streams.stdout, io::stdout().as_fd())?;
        out(streams.stderr, io::stderr().as_fd())?;
        out(streams.terminal, io::stdout().as_fd())?;
        if let Some((to, is_terminal)) = input.filter(|_| stdin) {
            make_blocking(&to)?;
            let from = File::from(io::stdin().as_fd().try_clone_to_owned()?);
            // Not joined: it sits in a read that only our own end interrupts.
            thread::Builder::new().spawn(move || copy_in(from, File::from(to), is_terminal))?;
        }
        Ok(Self { running, outputs })
    }

    /// Copies the rest of the output of a command that has ended.
    pub fn drain(self) {
        drop(self.running);
        for output in self.outputs {
            // A thread that panicked has said so itself.
            let _ = output.join();
        }
    }
}

/// Descriptors arrive in whatever mode the other side liked; these threads want to wait.
fn make_blocking(fd: &OwnedFd) -> io::Result<()> {
    let flags = fcntl_getfl(fd)?;
    Ok(fcntl_setfl(fd, flags - OFlags::NONBLOCK)?)
}

/// Copies until the end of input, then closes the session's end, so that the command sees it too.
fn copy_in(mut from: File, mut to: File, is_terminal: bool) {
    // An error means that the command no longer reads; its exit code is on the way.
    if io::copy(&mut from, &mut to).is_ok() && is_terminal {
        let _ = to.write_all(&END_OF_INPUT);
    }
}

fn copy_out(from: OwnedFd, mut to: File, ended: PipeReader) {
    let mut from = File::from(from);
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(true) = more(from.as_fd(), &ended) {
        match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) if to.write_all(&buffer[..count]).is_ok() => {}
            // Nobody reads us any more. Closing our end tells the command.
            Ok(_) => break,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // A terminal whose last user is gone gives EIO.
            Err(_) => break,
        }
    }
}

/// Waits until something can be read, or until the command has ended and has been silent.
fn more(from: BorrowedFd<'_>, ended: &PipeReader) -> Result<bool, Errno> {
    let mut both = [PollFd::from_borrowed_fd(from, PollFlags::IN), PollFd::new(ended, PollFlags::IN)];
    retry_on_intr(|| poll(&mut both, None))?;
    if !both[0].revents().is_empty() {
        return Ok(true);
    }
    let mut one = [PollFd::from_borrowed_fd(from, PollFlags::IN)];
    Ok(retry_on_intr(|| poll(&mut one, Some(&SILENCE)))? > 0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn output_written_before_the_end_is_not_lost_though_a_child_keeps_the_pipe() {
        let (from, mut command) = io::pipe().unwrap();
        let (mut seen, to) = io::pipe().unwrap();
        let (ended, running) = io::pipe().unwrap();
        let text = vec![b'x'; 60_000];
        command.write_all(&text).unwrap();
        drop(running);
        let start = Instant::now();
        let copy = thread::spawn(move || copy_out(from.into(), File::from(OwnedFd::from(to)), ended));
        let mut got = Vec::new();
        seen.read_to_end(&mut got).unwrap();
        copy.join().unwrap();
        assert_eq!(got, text);
        assert!(start.elapsed() < Duration::from_secs(5));
        drop(command);
    }

    #[test]
    fn while_the_command_runs_silence_ends_nothing() {
        let (from, mut command) = io::pipe().unwrap();
        let (mut seen, to) = io::pipe().unwrap();
        let (ended, running) = io::pipe().unwrap();
        let copy = thread::spawn(move || copy_out(from.into(), File::from(OwnedFd::from(to)), ended));
        thread::sleep(Duration::from_millis(250));
        command.write_all(b"late").unwrap();
        drop((command, running));
        let mut got = String::new();
        seen.read_to_string(&mut got).unwrap();
        copy.join().unwrap();
        assert_eq!(got, "late");
    }

    #[test]
    fn a_reader_that_goes_away_closes_the_commands_output() {
        let (from, mut command) = io::pipe().unwrap();
        let (seen, to) = io::pipe().unwrap();
        let (ended, _running) = io::pipe().unwrap();
        drop(seen);
        let copy = thread::spawn(move || copy_out(from.into(), File::from(OwnedFd::from(to)), ended));
        command.write_all(b"x").unwrap();
        copy.join().unwrap();
        assert_eq!(command.write_all(b"x").unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }

    #[test]
    fn the_end_of_input_reaches_the_command() {
        let (from, mut typed) = io::pipe().unwrap();
        let (mut command, to) = io::pipe().unwrap();
        typed.write_all(b"line\n").unwrap();
        drop(typed);
        copy_in(File::from(OwnedFd::from(from)), File::from(OwnedFd::from(to)), false);
        let mut got = String::new();
        command.read_to_string(&mut got).unwrap();
        assert_eq!(got, "line\n");
    }
}
