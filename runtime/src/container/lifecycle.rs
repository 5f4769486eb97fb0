//! Starting, stopping and removing containers. Stopping and removing are done again without harm.

use std::os::fd::AsFd as _;
use std::path::Path;
use std::time::{Duration, Instant};

use super::create::open_log;
use super::record::{Record, of_sandbox};
use super::status::{UNKNOWN_EXIT, status, view};
use crate::core::Core;
use crate::error::{During as _, Error, Kind, Result};
use crate::sandbox;
use crate::shim::now;
use crate::shim::protocol::{Request, State, Status};
use crate::store::{Durability, remove_dir, write_json};
use crate::watch::Event;

/// How long a killed container may take to be gone.
const KILL_PATIENCE: Duration = Duration::from_secs(10);

/// Longer than this is not counted: clocks have an end.
const LONGEST_GRACE: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// Lets a created container run.
pub fn start(core: &Core, record: &Record) -> Result<()> {
    match view(core, record)?.map(|it| it.state) {
        Some(State::Created) => {}
        Some(State::Running) => return Err(Error::Conflict(format!("container {} runs already", record.id))),
        Some(State::Exited) => {
            return Err(Error::Conflict(format!("container {} has ended; make a new one", record.id)));
        }
        None => return Err(Error::Conflict(format!("container {} is still being made", record.id))),
    }
    let shim = core.shim(&record.sandbox).during(|| format!("connect to the shim of sandbox {}", record.sandbox))?;
    if let Err(error) = shim.call(&Request::Start { id: record.id.clone() }, &[]) {
        // Whoever is told that it could not be run finds its end written down.
        if matches!(error, Error::Launch(_)) {
            wait_for_end(core, record, KILL_PATIENCE);
        }
        return Err(error);
    }
    core.watcher.announce(Event::Started(record.id.clone()));
    Ok(())
}

/// Stops a container: its signal, `grace`, then SIGKILL. One that has ended is success.
///
/// Several may stop it at once: it is signalled once, for many programs take the second signal for impatience, and the
/// shortest grace ends it.
pub fn stop(core: &Core, record: &Record, grace: Duration) -> Result<()> {
    if has_ended(core, record)? {
        return Ok(());
    }
    let running = status(core, &record.id)?.is_some_and(|it| it.state == State::Running);
    if running && !grace.is_zero() {
        if stopping(core).insert(record.id.clone()) {
            ask(core, record, &Request::Signal { id: record.id.clone(), signal: record.stop_signal });
        }
        if wait_for_end(core, record, grace.min(LONGEST_GRACE)) {
            return Ok(());
        }
    }
    kill(core, record)
}

fn stopping(core: &Core) -> std::sync::MutexGuard<'_, std::collections::BTreeSet<String>> {
    core.stopping.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Kills everything in a container and waits until its record says that it has ended.
fn kill(core: &Core, record: &Record) -> Result<()> {
    ask(core, record, &Request::Kill { id: record.id.clone() });
    if wait_for_end(core, record, Duration::from_secs(2)) {
        return Ok(());
    }
    // The shim is slow or hangs: it is not waited for any longer.
    if let Some(cgroup) = core.hierarchies.find(&record.cgroup)? {
        cgroup.kill(KILL_PATIENCE)?;
    }
    if wait_for_end(core, record, KILL_PATIENCE) {
        return Ok(());
    }
    let seconds = KILL_PATIENCE.as_secs() + 2;
    Err(Error::Timeout(format!("container {} has not ended {seconds} seconds after it was killed", record.id)))
}

/// Tells the shim; that it is gone is seen by whoever waits.
fn ask(core: &Core, record: &Record, request: &Request) {
    let asked = core.shim(&record.sandbox).map_err(|error| error.to_string());
    let asked = asked.and_then(|shim| shim.call(request, &[]).map_err(|error| error.to_string()));
    if let Err(error) = asked {
        tracing::debug!(error, container = record.id, "the shim could not be told");
    }
}

fn has_ended(core: &Core, record: &Record) -> Result<bool> {
    // One that is being made has no process that would outlive its maker.
    Ok(view(core, record)?.is_none_or(|it| it.state == State::Exited))
}

fn wait_for_end(core: &Core, record: &Record, patience: Duration) -> bool {
    core.watcher.wait_until(Instant::now() + patience, || has_ended(core, record).unwrap_or(false))
}

/// Removes a container, killing it first. One that is not there is success.
pub fn remove(core: &Core, record: &Record) -> Result<()> {
    let shim_lives = match sandbox::load(core, &record.sandbox) {
        Ok(sandbox) => sandbox.shim_lives(core),
        Err(error) if error.kind() == Kind::NotFound => false,
        Err(error) => return Err(error),
    };
    if shim_lives {
        ask(core, record, &Request::Remove { id: record.id.clone() });
    }
    if let Some(cgroup) = core.hierarchies.find(&record.cgroup)? {
        cgroup.kill(KILL_PATIENCE)?;
    }
    let parent = core.hierarchies.below(record.cgroup.rsplit_once('/').map_or("", |(parent, _)| parent))?;
    parent.remove(&record.cgroup, KILL_PATIENCE)?;
    // The writable layer first: while the record stands, what is left is found again.
    for dir in [core.container_root(&record.id), core.container_dir(&record.id)] {
        remove_dir(&dir).during(|| format!("remove {}", dir.display()))?;
    }
    stopping(core).remove(&record.id);
    core.watcher.announce(Event::Deleted(record.id.clone()));
    Ok(())
}

/// The shim of a sandbox has ended or died: whatever its containers' records say, nothing of them runs from here on.
/// Answers with those that were not known to have ended.
pub fn settle_all(core: &Core, sandbox: &sandbox::Record) -> Result<Vec<String>> {
    let mut settled = Vec::new();
    for record in of_sandbox(core, &sandbox.id)? {
        if let Some(cgroup) = core.hierarchies.find(&record.cgroup)? {
            cgroup.kill(KILL_PATIENCE)?;
        }
        match status(core, &record.id)? {
            Some(status) if status.state == State::Exited => {}
            known => {
                // Of what has no shim everybody says the same without it: a full disk must not keep a pod from ending.
                if let Err(error) = settle(core, &record, known.as_deref()) {
                    tracing::debug!(%error, "the end of a container could not be written down");
                }
                settled.push(record.id.clone());
            }
        }
    }
    Ok(settled)
}

fn settle(core: &Core, record: &Record, known: Option<&Status>) -> Result<()> {
    let status = Status {
        version: 1,
        state: State::Exited,
        pid: known.map_or(0, |it| it.pid),
        start_ticks: known.map_or(0, |it| it.start_ticks),
        started_at: known.map_or(0, |it| it.started_at),
        finished_at: now(),
        exit_code: UNKNOWN_EXIT,
        oom_kills: 0,
        failure: None,
        lost_log_lines: 0,
        unknown: true,
    };
    let dir = core.container_dir(&record.id);
    write_json(&dir, "status.json", &status, Durability::Volatile)
        .during(|| format!("write the end of container {} in {}", record.id, dir.display()))
}

/// Makes the shim go on in a new log file, after the client has renamed the old one. When it returns, nothing more is
/// written to the old one.
pub fn reopen_log(core: &Core, record: &Record) -> Result<()> {
    let Some(path) = &record.log_path else {
        return Err(Error::Conflict(format!("container {} keeps no log", record.id)));
    };
    if view(core, record)?.map(|it| it.state) != Some(State::Running) {
        return Err(Error::Conflict(format!("container {} is not running: nothing more comes to its log", record.id)));
    }
    let file = open_log(Path::new(path))?;
    let shim = core.shim(&record.sandbox).during(|| format!("connect to the shim of sandbox {}", record.sandbox))?;
    shim.call(&Request::Reopen { id: record.id.clone() }, &[file.as_fd()])?;
    Ok(())
}
