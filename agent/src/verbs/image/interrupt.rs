//! The signals by which a user takes back what was asked for.

use std::process::ExitCode;

use anyhow::Context as _;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Listens for interrupts (Ctrl-C), terminations and hang-ups.
pub struct Interrupts {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

/// One of them came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interrupted(u8);

impl Interrupted {
    /// 128 and the signal, as shells have it.
    pub fn exit_code(self) -> ExitCode {
        ExitCode::from(128 + self.0)
    }
}

impl Interrupts {
    /// From here on these signals end nothing by themselves.
    pub fn new() -> anyhow::Result<Self> {
        let listen = |kind| signal(kind).context("listen for signals");
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            hangup: listen(SignalKind::hangup())?,
        })
    }

    /// Waits for the next one.
    pub async fn next(&mut self) -> Interrupted {
        tokio::select! {
            _ = self.interrupt.recv() => Interrupted(2),
            _ = self.terminate.recv() => Interrupted(15),
            _ = self.hangup.recv() => Interrupted(1),
        }
    }
}
