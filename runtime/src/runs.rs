//! Runs: the processes that pods of an owner `run:ID` belong to.
//!
//! A run's record says by process id, start time and boot whether its process is still there. The lock beside the
//! records is held by whoever begins a run and by whoever collects: what is made by a run that nobody has declared yet
//! would look like something left behind.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};

use crate::core::Core;
use crate::error::{During as _, Error, Result};
use crate::ids::Process;
use crate::network;
use crate::store::{Durability, read_json, write_json};

/// `runs/<id>.json`.
#[derive(Debug, Serialize, Deserialize)]
struct Run {
    version: u32,
    boot_id: String,
    process: Process,
}

/// No run begins and nobody else collects while this is held.
#[derive(Debug)]
pub struct RunsHeld(#[allow(dead_code, reason = "the lock ends with the descriptor")] OwnedFd);

/// Waits until nobody begins a run or collects.
pub fn hold(core: &Core) -> Result<RunsHeld> {
    let path = core.options.state_dir.join("runs.lock");
    let operation = || format!("lock {}", path.display());
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let file = rustix::fs::open(&path, flags, Mode::from_raw_mode(0o600)).during(operation)?;
    rustix::io::retry_on_intr(|| rustix::fs::flock(&file, FlockOperation::LockExclusive)).during(operation)?;
    Ok(RunsHeld(file))
}

/// The directory of the runs' records.
pub fn dir(core: &Core) -> PathBuf {
    core.options.state_dir.join("runs")
}

fn path(core: &Core, id: &str) -> PathBuf {
    dir(core).join(format!("{id}.json"))
}

/// Declares this process the one that a run belongs to.
pub fn begin(core: &Core, id: &str) -> Result<()> {
    let process = Process::of(std::process::id() as i32).unwrap_or_default();
    let run = Run { version: 1, boot_id: core.boot_id.clone(), process };
    let dir = dir(core);
    let _held = hold(core)?;
    write_json(&dir, &format!("{id}.json"), &run, Durability::Volatile)
        .during(|| format!("write the record of run {id} in {}", dir.display()))
}

/// The run is over.
pub fn end(core: &Core, id: &str) -> Result<()> {
    remove_file(&path(core, id))?;
    // The last one out takes away what is nobody's in particular.
    if let Err(error) = core.remove_cgroup_layout() {
        tracing::debug!(%error, "empty cgroups were left");
    }
    // What a full disk keeps it from is left to `gc`.
    let forgotten = network::forget(core, &crate::ids::Owner::Run(id.to_owned()));
    if let Err(error) = forgotten.and_then(|()| network::settle(core)) {
        tracing::warn!(%error, "the pods' network is left to coracle gc");
    }
    Ok(())
}

/// Whether the process of a run still exists.
pub fn lives(core: &Core, id: &str) -> bool {
    let run = read_json::<Run>(&path(core, id)).ok().flatten();
    run.is_some_and(|run| run.boot_id == core.boot_id && run.process.is_running())
}

/// Kills the process of a run, unless it is this one, and waits for its end.
pub fn kill(core: &Core, id: &str) -> Result<()> {
    let path = path(core, id);
    let run = read_json::<Run>(&path).during(|| format!("read {}", path.display()))?;
    run.map_or(Ok(()), |run| kill_process(run.process, &format!("run {id}")))
}

/// Kills a process, unless it is this one, and waits for its end. `whose` is for messages.
pub fn kill_process(process: Process, whose: &str) -> Result<()> {
    if process.pid == std::process::id() as i32 {
        return Ok(());
    }
    let operation = || format!("kill process {} of {whose}", process.pid);
    let Some(pid) = Pid::from_raw(process.pid) else { return Ok(()) };
    // The descriptor first, then the look at who it is: what has taken the id since is spared.
    let pidfd = match pidfd_open(pid, PidfdFlags::empty()) {
        Err(rustix::io::Errno::SRCH) => return Ok(()),
        other => other.during(operation)?,
    };
    if !process.is_alive() {
        return Ok(());
    }
    match pidfd_send_signal(&pidfd, Signal::KILL) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => {}
        Err(error) => return Err(error).during(operation),
    }
    let mut fds = [rustix::event::PollFd::new(&pidfd, rustix::event::PollFlags::IN)];
    let patience = rustix::event::Timespec { tv_sec: 10, tv_nsec: 0 };
    match rustix::event::poll(&mut fds, Some(&patience)) {
        Ok(0) => {
            Err(Error::Timeout(format!("process {} of {whose} has not ended 10 seconds after SIGKILL", process.pid)))
        }
        _ => Ok(()),
    }
}

/// Removes a file; one that is not there is success.
pub fn remove_file(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).during(|| format!("remove {}", path.display()))
        }
        _ => Ok(()),
    }
}
