//! Removing what is left of runs whose process is gone, and what servers were making when they died.
//!
//! What it assumes: a directory under `sandboxes/` and `containers/` stands from before anything of it is made until
//! after everything of it is removed, so that the records are the list of what may exist. A run without a record died
//! before it made anything, or its record was lost: it is gone. Runs and servers that live go on meanwhile, but
//! none begins ([`RunsHeld`]).

use std::collections::BTreeSet;
use std::path::Path;

use crate::container;
use crate::core::Core;
use crate::error::{During as _, Result};
use crate::ids::{Owner, is_id, short};
use crate::network;
use crate::runs::{self, RunsHeld, remove_file};
use crate::sandbox;
use crate::servers;
use crate::shim::client::Client;
use crate::shim::protocol::Request;
use crate::store::remove_dir;
use crate::userns;

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

/// Removes what killed runs have left; with `all`, everything.
pub fn collect(core: &Core, all: bool, _held: &RunsHeld) -> Result<CollectReport> {
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
    for owner in servers::OWNERS.iter().filter(|owner| !servers::lives(core, owner)) {
        for (what, outcome) in servers::discard_half_made(core, owner)? {
            note(&mut report, what, outcome);
        }
    }
    orphaned_containers(core, &mut report)?;
    half_made(core, &mut report)?;
    dead_runs(core, &mut report)?;
    for id in core.images.collect(&|id| container::uses_image(core, id))? {
        report.removed.push(format!("the built-in image of an older binary ({id})"));
    }
    if all {
        discard_partials(core, &mut report)?;
        remove_leftover_pins(core, &mut report)?;
    }
    let outcomes = [
        ("what was tried with user namespaces", userns::sweep(core)),
        ("cgroups that nobody is in", prune_cgroups(core)),
    ];
    for (what, outcome) in outcomes {
        // What nobody misses is not told when it is gone.
        if let Err(error) = outcome {
            report.failed.push((what.to_owned(), error.to_string()));
        }
    }
    if let Err(error) = network::collect(core, all, &mut report) {
        report.failed.push(("what was left of the pods' network".into(), error.to_string()));
    }
    Ok(report)
}

/// Downloads that were broken off, and that a pull would go on from.
fn discard_partials(core: &Core, report: &mut CollectReport) -> Result<()> {
    let count = core.images.discard_partials(true)?;
    if count > 0 {
        report.removed.push(format!("{count} partly downloaded layers"));
    }
    Ok(())
}

/// Ends the processes of runs and servers, which would make anew what is about to be removed. Their pods have shims of their own and
/// are not touched by it.
fn end_runs(core: &Core, report: &mut CollectReport) -> Result<()> {
    for name in names(&runs::dir(core))? {
        let Some(id) = name.strip_suffix(".json").filter(|id| runs::lives(core, id)) else { continue };
        note(report, format!("the process of run {id}"), runs::kill(core, id));
    }
    for owner in servers::OWNERS.iter().filter(|owner| servers::lives(core, owner)) {
        note(report, format!("the server of {owner}"), servers::kill(core, owner));
    }
    Ok(())
}

/// Why a sandbox is left alone.
fn spare(core: &Core, record: &sandbox::Record, all: bool) -> Option<String> {
    if all {
        return None;
    }
    match &record.owner {
        Owner::Run(id) if runs::lives(core, id) => Some(format!("run {id} is still there")),
        Owner::Run(_) => None,
        owner if servers::lives(core, owner) => Some(format!("the server of {owner} is still there")),
        // What it was making, and what ended with another boot, is of no use to anybody.
        owner if !record.making && record.boot_id == core.boot_id => {
            Some(format!("it belongs to {owner}; --all removes it too"))
        }
        _ => None,
    }
}

fn note(report: &mut CollectReport, what: String, outcome: Result<()>) {
    match outcome {
        Ok(()) => report.removed.push(what),
        Err(error) => report.failed.push((what, error.to_string())),
    }
}

/// Containers whose sandbox is gone. They are listed first: a run that lives makes a sandbox before what is in it and
/// removes it after.
fn orphaned_containers(core: &Core, report: &mut CollectReport) -> Result<()> {
    let containers = container::all(core)?;
    let sandboxes: BTreeSet<String> = sandbox::all(core)?.iter().map(|it| it.id.clone()).collect();
    for record in containers.into_iter().filter(|it| !sandboxes.contains(&it.sandbox)) {
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
            // A relay of published ports would be in it too.
            if let Some(cgroup) = core.hierarchies.find(&core.shim_cgroup(&name))? {
                cgroup.kill(sandbox::CGROUP_PATIENCE)?;
            }
            core.hierarchies.remove(&core.shim_cgroup(&name), sandbox::CGROUP_PATIENCE)?;
            remove_file(&core.shims_dir().join(&name))
        };
        note(report, format!("the shim of a lost sandbox ({name})"), end());
    }
    Ok(())
}

/// Directories without a record: their maker died before it wrote one, or while it removed them. A process that is at it
/// now would have to be a run, whose record says that it lives, or a server.
fn half_made(core: &Core, report: &mut CollectReport) -> Result<()> {
    if any_maker_lives(core)? {
        return Ok(());
    }
    orphaned_shims(core, report)?;
    let known: BTreeSet<String> = container::all(core)?.iter().map(|it| it.id.clone()).collect();
    let state = &core.options.state_dir;
    for dir in [core.options.root_dir.join("containers"), state.join("containers")] {
        for id in names(&dir)?.into_iter().filter(|id| is_id(id) && !known.contains(id)) {
            note(report, format!("what was left of container {}", short(&id)), remove_path(&dir.join(&id)));
        }
    }
    let known: BTreeSet<String> = sandbox::all(core)?.iter().map(|it| it.id.clone()).collect();
    let dir = state.join("sandboxes");
    for id in names(&dir)?.into_iter().filter(|id| is_id(id) && !known.contains(id)) {
        note(report, format!("what was left of sandbox {}", short(&id)), remove_path(&dir.join(&id)));
    }
    Ok(())
}

fn any_maker_lives(core: &Core) -> Result<bool> {
    if servers::OWNERS.iter().any(|owner| servers::lives(core, owner)) {
        return Ok(true);
    }
    let names = names(&runs::dir(core))?;
    Ok(names.iter().filter_map(|name| name.strip_suffix(".json")).any(|id| runs::lives(core, id)))
}

fn dead_runs(core: &Core, report: &mut CollectReport) -> Result<()> {
    let dir = runs::dir(core);
    for name in names(&dir)? {
        let Some(id) = name.strip_suffix(".json") else {
            // A temporary of a writer that died.
            remove_file(&dir.join(&name))?;
            continue;
        };
        if !runs::lives(core, id) {
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

/// Removes our cgroups where nothing is in them. One that a living run or server has just made is empty too, until its first
/// process is in it: then only what is nobody's goes.
fn prune_cgroups(core: &Core) -> Result<()> {
    let pruned = if any_maker_lives(core)? {
        core.remove_cgroup_layout()
    } else {
        core.hierarchies.prune().map(|_| ()).map_err(Into::into)
    };
    if let Err(error) = pruned {
        tracing::debug!(%error, "cgroups were left");
    }
    Ok(())
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
