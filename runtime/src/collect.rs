//! Removing what is left of runs whose process is gone.
//!
//! What it assumes: a directory under `sandboxes/` and `containers/` stands from before anything of it is made until
//! after everything of it is removed, so that the records are the list of what may exist. A run's own record
//! (`runs/<id>.json`) says by process id, start time and boot whether its process is still there; a run without one died
//! before it made anything, or its record was lost: then it is gone too.

use std::collections::BTreeSet;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::container;
use crate::core::Core;
use crate::error::{During as _, Error, Result};
use crate::ids::{Owner, Process, is_id, short};
use crate::sandbox;
use crate::shim::client::Client;
use crate::shim::protocol::Request;
use crate::store::{Durability, read_json, remove_dir, write_json};

/// What was removed, and what was spared.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct CollectReport {
    /// What is gone, each in a few words.
    pub removed: Vec<String>,
    /// What was left, and why.
    pub spared: Vec<(String, String)>,
    /// What could not be removed, and why: running `gc` again tries again.
    pub failed: Vec<(String, String)>,
    /// The ids of runs whose process is gone, whether or not they left anything.
    pub dead_runs: Vec<String>,
}

/// `runs/<id>.json`.
#[derive(Debug, Serialize, Deserialize)]
struct Run {
    version: u32,
    boot_id: String,
    process: Process,
}

/// Declares this process the one that a run belongs to.
pub fn begin_run(core: &Core, id: &str) -> Result<()> {
    let process = Process::of(std::process::id() as i32).unwrap_or_default();
    let run = Run { version: 1, boot_id: core.boot_id.clone(), process };
    let dir = core.options.state_dir.join("runs");
    write_json(&dir, &format!("{id}.json"), &run, Durability::Volatile)
        .during(|| format!("write the record of run {id} in {}", dir.display()))
}

/// The run is over.
pub fn end_run(core: &Core, id: &str) -> Result<()> {
    remove_file(&core.options.state_dir.join("runs").join(format!("{id}.json")))?;
    prune_cgroups(core);
    Ok(())
}

/// Whether the process of a run still exists.
fn run_lives(core: &Core, id: &str) -> bool {
    let path = core.options.state_dir.join("runs").join(format!("{id}.json"));
    let run = read_json::<Run>(&path).ok().flatten();
    run.is_some_and(|run| run.boot_id == core.boot_id && run.process.is_running())
}

/// Removes what killed runs have left; with `all`, everything.
pub fn collect(core: &Core, all: bool) -> Result<CollectReport> {
    let mut report = CollectReport::default();
    if all {
        end_runs(core, &mut report)?;
    }
    for record in sandbox::all(core)? {
        let request = &record.request;
        let what = format!("pod {}/{} (sandbox {})", request.namespace, request.name, short(&record.id));
        match spare(core, &record, all) {
            Some(why) => report.spared.push((what, why)),
            None => note(&mut report, what, sandbox::remove(core, &record.owner, &record.id)),
        }
    }
    orphaned_containers(core, &mut report)?;
    half_made(core, &mut report)?;
    runs(core, &mut report)?;
    let used: BTreeSet<String> = container::all(core)?.into_iter().map(|it| it.image_id).collect();
    for id in core.images.collect(&|id| used.contains(id))? {
        report.removed.push(format!("the built-in image of an older binary ({id})"));
    }
    if all {
        remove_leftover_pins(core, &mut report)?;
    }
    prune_cgroups(core);
    Ok(report)
}

/// Ends the processes of runs, which would make anew what is about to be removed. Their pods have shims of their own and
/// are not touched by it.
fn end_runs(core: &Core, report: &mut CollectReport) -> Result<()> {
    for name in names(&core.options.state_dir.join("runs"))? {
        let Some(id) = name.strip_suffix(".json").filter(|id| run_lives(core, id)) else { continue };
        note(report, format!("the process of run {id}"), end_run_process(core, id));
    }
    Ok(())
}

fn end_run_process(core: &Core, id: &str) -> Result<()> {
    let path = core.options.state_dir.join("runs").join(format!("{id}.json"));
    let run = read_json::<Run>(&path).during(|| format!("read {}", path.display()))?;
    let Some(process) = run.map(|run| run.process).filter(|it| it.pid != std::process::id() as i32) else {
        return Ok(());
    };
    let operation = || format!("kill process {} of run {id}", process.pid);
    let Some(pid) = rustix::process::Pid::from_raw(process.pid) else { return Ok(()) };
    // The descriptor first, then the look at who it is: what has taken the id since is spared.
    let pidfd = match rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()) {
        Err(rustix::io::Errno::SRCH) => return Ok(()),
        other => other.during(operation)?,
    };
    if !process.is_alive() {
        return Ok(());
    }
    match rustix::process::pidfd_send_signal(&pidfd, rustix::process::Signal::KILL) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => {}
        Err(error) => return Err(error).during(operation),
    }
    let mut fds = [rustix::event::PollFd::new(&pidfd, rustix::event::PollFlags::IN)];
    let patience = rustix::event::Timespec { tv_sec: 10, tv_nsec: 0 };
    match rustix::event::poll(&mut fds, Some(&patience)) {
        Ok(0) => {
            Err(Error::Timeout(format!("process {} of run {id} has not ended 10 seconds after SIGKILL", process.pid)))
        }
        _ => Ok(()),
    }
}

/// Why a sandbox is left alone.
fn spare(core: &Core, record: &sandbox::Record, all: bool) -> Option<String> {
    if all {
        return None;
    }
    match &record.owner {
        Owner::Run(id) if run_lives(core, id) => Some(format!("run {id} is still there")),
        Owner::Run(_) => None,
        owner if record.is_ready(&core.boot_id) => Some(format!("it belongs to {owner}; --all removes it too")),
        _ => None,
    }
}

fn note(report: &mut CollectReport, what: String, outcome: Result<()>) {
    match outcome {
        Ok(()) => report.removed.push(what),
        Err(error) => report.failed.push((what, error.to_string())),
    }
}

/// Containers whose sandbox is gone.
fn orphaned_containers(core: &Core, report: &mut CollectReport) -> Result<()> {
    let sandboxes: BTreeSet<String> = sandbox::all(core)?.into_iter().map(|it| it.id).collect();
    for record in container::all(core)?.into_iter().filter(|it| !sandboxes.contains(&it.sandbox)) {
        let what = format!("container {} ({})", record.request.name, short(&record.id));
        note(report, what, container::remove(core, &record));
    }
    Ok(())
}

/// Shims whose sandbox has no record: it was lost, or the sandbox's maker died between the two.
fn orphaned_shims(core: &Core, report: &mut CollectReport) -> Result<()> {
    let known: BTreeSet<String> = sandbox::all(core)?.iter().map(|it| short(&it.id).to_owned()).collect();
    for name in names(&core.shims_dir())?.into_iter().filter(|name| !known.contains(name)) {
        let end = || {
            if let Ok(client) = Client::connect(&core.shims_dir(), &name) {
                // One that dies instead of answering has come to the same end.
                let _ = client.call(&Request::Shutdown, &[]);
            }
            core.hierarchies.remove(&core.shim_cgroup(&name), sandbox::CGROUP_PATIENCE)?;
            remove_file(&core.shims_dir().join(&name))
        };
        note(report, format!("the shim of a lost sandbox ({name})"), end());
    }
    Ok(())
}

/// Directories without a record: their maker died before it wrote one, or while it removed them. Their making takes
/// milliseconds, and a process that is at it now would have to be a run, whose record says that it lives.
fn half_made(core: &Core, report: &mut CollectReport) -> Result<()> {
    if any_run_lives(core)? {
        return Ok(());
    }
    orphaned_shims(core, report)?;
    let known: BTreeSet<String> = container::all(core)?.into_iter().map(|it| it.id).collect();
    let state = &core.options.state_dir;
    for dir in [core.options.root_dir.join("containers"), state.join("containers")] {
        for id in names(&dir)?.into_iter().filter(|id| is_id(id) && !known.contains(id)) {
            note(report, format!("what was left of container {}", short(&id)), remove_path(&dir.join(&id)));
        }
    }
    let known: BTreeSet<String> = sandbox::all(core)?.into_iter().map(|it| it.id).collect();
    let dir = state.join("sandboxes");
    for id in names(&dir)?.into_iter().filter(|id| is_id(id) && !known.contains(id)) {
        note(report, format!("what was left of sandbox {}", short(&id)), remove_path(&dir.join(&id)));
    }
    Ok(())
}

fn any_run_lives(core: &Core) -> Result<bool> {
    let names = names(&core.options.state_dir.join("runs"))?;
    Ok(names.iter().filter_map(|name| name.strip_suffix(".json")).any(|id| run_lives(core, id)))
}

fn runs(core: &Core, report: &mut CollectReport) -> Result<()> {
    let dir = core.options.state_dir.join("runs");
    for name in names(&dir)? {
        let Some(id) = name.strip_suffix(".json") else {
            // A temporary of a writer that died.
            remove_file(&dir.join(&name))?;
            continue;
        };
        if !run_lives(core, id) {
            report.dead_runs.push(id.to_owned());
            note(report, format!("the record of run {id}"), remove_file(&dir.join(&name)));
        }
    }
    Ok(())
}

/// Pins whose sandbox has no record any more.
fn remove_leftover_pins(core: &Core, report: &mut CollectReport) -> Result<()> {
    let dir = core.options.state_dir.join("ns");
    for name in names(&dir)? {
        let pins = dir.join(&name);
        for pin in names(&pins)? {
            while rustix::mount::unmount(pins.join(&pin), rustix::mount::UnmountFlags::DETACH).is_ok() {}
        }
        note(report, format!("pins of namespaces of {name}"), remove_path(&pins));
    }
    Ok(())
}

/// Removes our cgroups where nothing is in them. Another process may be making one at this moment: it makes it again.
fn prune_cgroups(core: &Core) {
    if let Err(error) = core.hierarchies.prune() {
        tracing::debug!(%error, "cgroups were left");
    }
}

fn names(dir: &Path) -> Result<Vec<String>> {
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).during(|| format!("list {}", dir.display())),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.during(|| format!("list {}", dir.display()))?;
        names.push(entry.file_name().to_string_lossy().into_owned());
    }
    Ok(names)
}

fn remove_path(path: &Path) -> Result<()> {
    remove_dir(path).during(|| format!("remove {}", path.display()))
}

fn remove_file(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).during(|| format!("remove {}", path.display()))
        }
        _ => Ok(()),
    }
}
