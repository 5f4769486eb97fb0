//! This process's terminal while a session has it: raw, its size passed on, and restored whatever happens.

use std::convert::Infallible;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use anyhow::Context as _;
use rustix::termios::{self, OptionalActions, Termios};
use tokio::signal::unix::{SignalKind, signal};

/// A terminal in raw mode. Dropping it, by a panic's unwinding too, restores what was.
pub struct Raw<'fd> {
    terminal: BorrowedFd<'fd>,
    before: Termios,
}

impl<'fd> Raw<'fd> {
    /// Makes `input` raw; `None` if it is no terminal.
    pub fn enter(input: BorrowedFd<'fd>) -> anyhow::Result<Option<Self>> {
        if !termios::isatty(input) {
            return Ok(None);
        }
        let before = termios::tcgetattr(input).context("read the terminal's settings")?;
        let mut raw = before.clone();
        raw.make_raw();
        termios::tcsetattr(input, OptionalActions::Drain, &raw).context("make the terminal raw")?;
        Ok(Some(Self { terminal: input, before }))
    }
}

impl Drop for Raw<'_> {
    fn drop(&mut self) {
        // It fails when the terminal is gone, and then there is nothing to restore.
        let _ = termios::tcsetattr(self.terminal, OptionalActions::Drain, &self.before);
    }
}

/// Gives the session's terminal the size of ours, now and whenever it changes. Ends only with an error.
pub async fn follow_size(master: Option<&OwnedFd>) -> anyhow::Result<Infallible> {
    let Some(master) = master else {
        return std::future::pending().await;
    };
    let mut changes = signal(SignalKind::window_change()).context("watch the terminal's size")?;
    loop {
        pass_size(master);
        if changes.recv().await.is_none() {
            return std::future::pending().await;
        }
    }
}

fn pass_size(master: &OwnedFd) {
    let (input, output) = (std::io::stdin(), std::io::stdout());
    let size = [input.as_fd(), output.as_fd()].into_iter().find_map(|fd| termios::tcgetwinsize(fd).ok());
    if let Some(size) = size {
        // It fails when the session has just ended, which its exit code tells.
        let _ = termios::tcsetwinsize(master, size);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    use rustix::termios::LocalModes;

    use super::*;

    fn terminal() -> (OwnedFd, OwnedFd) {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap();
        let flags = rustix::fs::OFlags::RDWR | rustix::fs::OFlags::NOCTTY;
        let slave = rustix::fs::open(name.as_c_str(), flags, rustix::fs::Mode::empty()).unwrap();
        (master, slave)
    }

    fn echoes(terminal: &OwnedFd) -> bool {
        termios::tcgetattr(terminal).unwrap().local_modes.contains(LocalModes::ECHO | LocalModes::ICANON)
    }

    #[test]
    fn the_terminal_is_restored_even_by_a_panic() {
        let (_master, slave) = terminal();
        assert!(echoes(&slave));
        let raw = Raw::enter(slave.as_fd()).unwrap().unwrap();
        assert!(!echoes(&slave));
        drop(raw);
        assert!(echoes(&slave));
        let panicked = std::panic::catch_unwind(|| {
            let _raw = Raw::enter(slave.as_fd()).unwrap();
            assert!(echoes(&slave), "raw");
        });
        assert!(panicked.is_err() && echoes(&slave));
    }

    #[test]
    fn what_is_no_terminal_is_left_alone() {
        let (reader, _writer) = rustix::pipe::pipe().unwrap();
        assert!(Raw::enter(reader.as_fd()).unwrap().is_none());
    }
}
