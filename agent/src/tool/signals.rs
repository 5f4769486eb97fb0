//! Signals for applets that wait: as process 1 of a container the kernel's default actions do not reach them.

use std::thread;

use nix::sys::signal::{SigSet, Signal};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};

use super::Failure;

const STACK_BYTES: usize = 64 * 1024;

/// From here on SIGTERM and SIGINT end the process at once, with 143 and 130; as process 1 it reaps what is orphaned to
/// it. To be called before the applet starts a thread, for threads inherit what is blocked.
pub fn end_on_termination() -> Result<(), Failure> {
    let reaper = rustix::process::getpid().is_init();
    let mut set = SigSet::empty();
    set.add(Signal::SIGTERM);
    set.add(Signal::SIGINT);
    if reaper {
        set.add(Signal::SIGCHLD);
    }
    // A blocked signal is kept even from process 1, which would otherwise never see one that it has no handler for.
    set.thread_block().map_err(|e| Failure::failed(format!("block signals: {e}")))?;
    let wait = move || {
        loop {
            match set.wait() {
                Ok(Signal::SIGCHLD) => reap(),
                Ok(signal) => std::process::exit(128 + signal as i32),
                Err(_) => {}
            }
        }
    };
    thread::Builder::new()
        .stack_size(STACK_BYTES)
        .spawn(wait)
        .map(drop)
        .map_err(|e| Failure::failed(format!("start the signal thread: {e}")))
}

/// Reaps what was orphaned to process 1.
pub fn reap() {
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::StillAlive) | Err(_) => return,
            Ok(_) => {}
        }
    }
}
