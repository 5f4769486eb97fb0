//! How a container is: its record, its shim's word, and whether that shim still lives.

use std::sync::Arc;

use super::record::Record;
use crate::core::Core;
use crate::error::{During as _, Result};
use crate::shim::protocol::{State, Status};
use crate::{records, sandbox};

/// How a container is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// Where it stands.
    pub state: State,
    /// Its first process, in the host's pid namespace.
    pub pid: i32,
    /// When it was started, in nanoseconds since 1970; 0 before.
    pub started_at: i64,
    /// When it ended; 0 before.
    pub finished_at: i64,
    /// Its exit code, 128 and the signal's number when it was killed; 255 when nobody knows.
    pub exit_code: i32,
    /// Why it is in this state.
    pub reason: Reason,
    /// The same for a person.
    pub message: String,
}

/// Why a container is as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// There is nothing to say.
    None,
    /// It ended with 0.
    Completed,
    /// It ended with another code.
    Error,
    /// The kernel killed it, or a process of it, for want of memory.
    OomKilled,
    /// It could not be run.
    StartError,
    /// Its shim died, or its boot is over.
    Unknown,
}

impl Reason {
    /// As kubelet knows it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Completed => "Completed",
            Self::Error => "Error",
            Self::OomKilled => "OOMKilled",
            Self::StartError => "StartError",
            Self::Unknown => "ContainerStatusUnknown",
        }
    }
}

/// The exit code of what nobody saw end.
pub const UNKNOWN_EXIT: i32 = 255;

const SHIM_DIED: &str = "its shim died, so nobody knows how it ended";

/// How a container is. `None` while it is being made.
pub fn view(core: &Core, record: &Record) -> Result<Option<View>> {
    let Some(status) = status(core, &record.id)? else { return Ok(None) };
    if status.state != State::Exited && !shim_lives(core, record)? {
        return Ok(Some(unknown(record, &status)));
    }
    Ok(Some(from_status(record, &status)))
}

/// Times in the order in which things happen, should the clock have been set back between them: `0` is not yet.
fn ordered(created: i64, started: i64, finished: i64) -> (i64, i64) {
    let started = if started == 0 { 0 } else { started.max(created) };
    let finished = if finished == 0 { 0 } else { finished.max(started).max(created) };
    (started, finished)
}

fn shim_lives(core: &Core, record: &Record) -> Result<bool> {
    match records::read::<sandbox::Record>(core, &record.sandbox) {
        Ok(sandbox) => Ok(sandbox.shim_lives(core)),
        Err(error) if error.kind() == crate::error::Kind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// The record that its shim wrote.
pub fn status(core: &Core, id: &str) -> Result<Option<Arc<Status>>> {
    let path = core.container_dir(id).join("status.json");
    let read = || core.caches.statuses.read(&path);
    let mut answer = read();
    for _ in 0..3 {
        // On a full disk it is written over, not replaced: half of it may have been read.
        if !matches!(&answer, Err(error) if error.kind() == std::io::ErrorKind::InvalidData) {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
        answer = read();
    }
    answer.during(|| format!("read {}", path.display()))
}

fn from_status(record: &Record, status: &Status) -> View {
    let (reason, message) = match (&status.failure, status.state) {
        (_, State::Created | State::Running) => (Reason::None, String::new()),
        (Some(failure), _) => (Reason::StartError, failure.to_string()),
        (None, _) if status.oom_kills > 0 && status.exit_code != 0 => (Reason::OomKilled, oom_message(record)),
        (None, _) if status.unknown => (Reason::Unknown, SHIM_DIED.to_owned()),
        (None, _) if status.exit_code == 0 => (Reason::Completed, String::new()),
        (None, _) => (Reason::Error, String::new()),
    };
    let (started_at, finished_at) = ordered(record.created_at, status.started_at, status.finished_at);
    View { state: status.state, pid: status.pid, started_at, finished_at, exit_code: status.exit_code, reason, message }
}

fn oom_message(record: &Record) -> String {
    match record.request.resources.memory_limit.filter(|&limit| limit > 0) {
        Some(limit) => format!("it used more memory than its limit of {limit} bytes"),
        None => "a limit above it, or the host's memory, was used up".to_owned(),
    }
}

fn unknown(record: &Record, status: &Status) -> View {
    // It has ended some time after the last that is known of it.
    let last = [status.finished_at, status.started_at, record.created_at].into_iter().find(|&it| it != 0);
    let (started_at, finished_at) = ordered(record.created_at, status.started_at, last.unwrap_or(0));
    View {
        state: State::Exited,
        pid: status.pid,
        started_at,
        finished_at,
        exit_code: UNKNOWN_EXIT,
        reason: Reason::Unknown,
        message: SHIM_DIED.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_never_go_back() {
        for (given, expected) in [
            ((10, 0, 0), (0, 0)),
            ((10, 20, 0), (20, 0)),
            ((10, 20, 30), (20, 30)),
            // The clock was set back between any two.
            ((10, 5, 30), (10, 30)),
            ((10, 20, 15), (20, 20)),
            ((10, 5, 3), (10, 10)),
            // It was never started.
            ((10, 0, 3), (0, 10)),
        ] {
            assert_eq!(ordered(given.0, given.1, given.2), expected, "{given:?}");
        }
    }
}
