//! Servers: the processes that make pods for clients, in the name of an owner that has no end of its own.
//!
//! One serves an owner of a state directory at a time: its lock says that it lives, and ends with it however it ends. What
//! it was making when it died is taken away by the next one, or by `gc`; what was made stays.

use std::fs::File;
use std::io::{Read as _, Seek as _, Write as _};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use crate::core::Core;
use crate::error::{During as _, Error, Result};
use crate::ids::{Owner, Process};
use crate::{container, runs, sandbox};

/// The owners that are served.
pub const OWNERS: [Owner; 2] = [Owner::Agent, Owner::Cri];

/// How long a killed process may take to close what it has open.
const ENDING: Duration = Duration::from_secs(1);

/// Nobody else serves the owner while this is held.
#[derive(Debug)]
pub struct Serving(#[allow(dead_code, reason = "the lock ends with the descriptor")] File);

fn path(core: &Core, owner: &Owner) -> PathBuf {
    core.options.state_dir.join(format!("{owner}.lock"))
}

fn open(core: &Core, owner: &Owner) -> Result<File> {
    let path = path(core, owner);
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let file: OwnedFd =
        rustix::fs::open(&path, flags, Mode::from_raw_mode(0o600)).during(|| format!("open {}", path.display()))?;
    Ok(file.into())
}

/// Takes the lock without waiting; false when somebody has it.
fn take(core: &Core, owner: &Owner, file: &File) -> Result<bool> {
    match rustix::io::retry_on_intr(|| rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive)) {
        Ok(()) => Ok(true),
        Err(Errno::WOULDBLOCK) => Ok(false),
        Err(error) => Err(error).during(|| format!("lock {}", path(core, owner).display())),
    }
}

/// Declares this process the one that serves an owner. It waits a moment for one that has been killed and is still ending.
pub fn begin(core: &Core, owner: &Owner) -> Result<Serving> {
    let end = Instant::now() + ENDING;
    loop {
        match try_begin(core, owner) {
            Err(Error::Conflict(_)) if Instant::now() < end => std::thread::sleep(Duration::from_millis(10)),
            other => return other,
        }
    }
}

fn try_begin(core: &Core, owner: &Owner) -> Result<Serving> {
    // Whoever collects looks at the lock by trying it: not while it is taken.
    let _held = runs::hold(core)?;
    let mut file = open(core, owner)?;
    if !take(core, owner, &file)? {
        let who = holder(&mut file).map_or_else(|| "another process".to_owned(), |it| format!("process {}", it.pid));
        let state_dir = core.options.state_dir.display();
        return Err(Error::Conflict(format!(
            "{who} serves the pods of {owner} in {state_dir} already; stop it, or give this one a --state-dir of its own"
        )));
    }
    let process = Process::of(std::process::id() as i32).unwrap_or_default();
    let written = serde_json::to_vec(&process).map_err(std::io::Error::from).and_then(|bytes| {
        file.set_len(0)?;
        file.rewind()?;
        file.write_all(&bytes)
    });
    written.during(|| format!("write {}", path(core, owner).display()))?;
    Ok(Serving(file))
}

/// Who wrote the lock last. It is for messages and for the end of everything; the lock itself says whether it lives.
fn holder(file: &mut File) -> Option<Process> {
    let mut text = String::new();
    file.rewind().ok()?;
    file.read_to_string(&mut text).ok()?;
    serde_json::from_str(&text).ok()
}

/// Whether an owner is served. To be asked while no server begins ([`runs::RunsHeld`]). When it cannot be told, it is.
pub fn lives(core: &Core, owner: &Owner) -> bool {
    if !path(core, owner).exists() {
        return false;
    }
    open(core, owner).and_then(|file| take(core, owner, &file)).map_or(true, |taken| !taken)
}

/// Kills the server of an owner, unless it is this process, and waits for its end.
pub fn kill(core: &Core, owner: &Owner) -> Result<()> {
    match holder(&mut open(core, owner)?) {
        Some(process) => runs::kill_process(process, &format!("the server of {owner}")),
        None => Ok(()),
    }
}

/// Takes away what a server that died was making. The caller serves the owner, or knows that nobody does.
pub fn discard_half_made(core: &Core, owner: &Owner) -> Result<Vec<(String, Result<()>)>> {
    let mut done = Vec::new();
    for record in sandbox::all(core)?.into_iter().filter(|it| it.owner == *owner && it.making) {
        done.push((format!("the half-made sandbox {}", record.id), sandbox::remove(core, owner, &record.id)));
    }
    for record in container::all(core)?.into_iter().filter(|it| it.owner == *owner) {
        if container::view(core, &record)?.is_none() {
            done.push((format!("the half-made container {}", record.id), container::remove(core, &record)));
        }
    }
    Ok(done)
}
