//! Stopping and removing sandboxes. Every step is done again without harm.

use std::time::{Duration, Instant};

use super::create::{CGROUP_PATIENCE, remove_dirs};
use super::record::Record;
use crate::container;
use crate::core::Core;
use crate::error::{During as _, Result};
use crate::ids::{Owner, short};
use crate::network;
use crate::records;
use crate::shim::protocol;
use crate::userns;
use crate::watch::Event;

/// How long a shim may take to end once everything in it was killed.
const SHIM_PATIENCE: Duration = Duration::from_secs(10);

/// Stops every container of the sandbox at once and ends its shim. One that is stopped is success.
pub fn stop(core: &Core, mut record: Record) -> Result<()> {
    if !record.stopped {
        record.stopped = true;
        // Without it the sandbox is not ready either, once its shim is gone: a full disk must not keep a pod running.
        if let Err(error) = record.save(core) {
            tracing::debug!(%error, "the stop of a sandbox could not be written down");
        }
    }
    end_shim(core, &record)?;
    container::settle_all(core, &record)?;
    network::detach(core, &record)?;
    unpin(core, &record.id)?;
    core.watcher.announce(Event::SandboxStopped(record.id));
    Ok(())
}

/// Removes the sandbox and its containers. One that is not there is success.
pub fn remove(core: &Core, owner: &Owner, id: &str) -> Result<()> {
    let record = match super::owned(core, owner, id) {
        Ok(record) => record,
        Err(error) if error.kind() == crate::error::Kind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    stop(core, record.clone())?;
    for container in container::of_sandbox(core, &record.id)? {
        container::remove(core, &container)?;
    }
    erase(core, &record)?;
    core.watcher.announce(Event::SandboxDeleted(Box::new(Record { stopped: true, ..record })));
    Ok(())
}

/// Takes away everything of a sandbox that has no container.
pub fn erase(core: &Core, record: &Record) -> Result<()> {
    end_shim(core, record)?;
    network::detach(core, record)?;
    unpin(core, &record.id)?;
    // A relay that was started and not written down is in it still.
    if let Some(cgroup) = core.hierarchies.find(&core.shim_cgroup(&record.id))? {
        cgroup.kill(CGROUP_PATIENCE)?;
    }
    core.hierarchies.remove(&core.shim_cgroup(&record.id), CGROUP_PATIENCE)?;
    remove_cgroups(core, record)?;
    let socket = core.shims_dir().join(short(&record.id));
    match std::fs::remove_file(&socket) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).during(|| format!("remove {}", socket.display()));
        }
        _ => {}
    }
    remove_dirs(core, &record.id)
}

/// The init's cgroup, and the pod's once nothing else is in it.
fn remove_cgroups(core: &Core, record: &Record) -> Result<()> {
    let parent = record.request.cgroup_parent.trim_matches('/');
    let below = core.hierarchies.below(parent)?;
    if let Some(cgroup) = core.hierarchies.find(&record.cgroup())? {
        cgroup.kill(CGROUP_PATIENCE)?;
    }
    below.remove(&record.cgroup(), CGROUP_PATIENCE)?;
    // The parent is the client's where it is not below ours.
    if parent.starts_with(&format!("{}/", core.hierarchies.prefix())) {
        below.prune()?;
    }
    Ok(())
}

/// Asks the shim to end and waits for it; one that does not is killed, and its containers' cgroups with it.
fn end_shim(core: &Core, record: &Record) -> Result<()> {
    core.watcher.forget(&record.id);
    if let Ok(client) = core.shim(&record.id) {
        // A shim that dies instead of answering has come to the same end.
        if let Err(error) = client.call(&protocol::Request::Shutdown, &[]) {
            tracing::debug!(%error, sandbox = record.id, "the shim did not confirm its end");
        }
    }
    let Some(shim) = record.shim.filter(|_| record.boot_id == core.boot_id) else { return Ok(()) };
    let deadline = Instant::now() + SHIM_PATIENCE;
    let mut pause = Duration::from_micros(200);
    while shim.is_running() {
        if Instant::now() > deadline {
            kill(shim.pid);
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(10));
        if Instant::now() > deadline + SHIM_PATIENCE {
            break;
        }
    }
    Ok(())
}

fn kill(pid: i32) {
    if let Some(pid) = rustix::process::Pid::from_raw(pid) {
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
    }
}

fn unpin(core: &Core, id: &str) -> Result<()> {
    let dir = core.pins_dir(id);
    for name in ["net", "ipc", "uts", userns::PIN] {
        let path = dir.join(name);
        // Several, should a bind have been made twice by a process that died in between.
        while rustix::mount::unmount(&path, rustix::mount::UnmountFlags::DETACH).is_ok() {}
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).during(|| format!("remove {}", path.display()));
            }
            _ => {}
        }
    }
    Ok(())
}

/// The shim of a sandbox has died: what it held ends as Unknown, and the sandbox is not ready.
pub fn bury(core: &Core, id: &str) -> Result<()> {
    let Some(record) = records::select(core, |it: &Record| it.id == id)?.pop() else { return Ok(()) };
    if let Some(cgroup) = core.hierarchies.find(&record.cgroup())? {
        cgroup.kill(CGROUP_PATIENCE)?;
    }
    for ended in container::settle_all(core, &record)? {
        core.watcher.announce(Event::Stopped(ended));
    }
    Ok(())
}
