//! Healing the rules when somebody else takes something out of them.
//!
//! Every process with pods would; one at a time does: whoever holds `<state>/network/healer.lock`. When it ends, however it
//! ends, the next one goes on, and looks once at what may have happened in between.

use std::io;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};

use super::collect::reconcile;
use super::firewall::Firewall;
use super::leases::flock;
use super::state;
use crate::core::Core;
use crate::error::{During as _, Result};
use crate::store::{Durability, read_json, write_json};

const LOCK: &str = "healer.lock";

/// What was put back, beside it.
pub const REPAIRS: &str = "repairs.json";

/// At least this long between two repairs: a process that fights for the table shall not have all of this machine's time.
const PAUSE: Duration = Duration::from_millis(50);

/// Starts the thread that watches, in the calling thread's network namespace. It lasts as long as the process.
pub fn start(core: &Arc<Core>) -> Result<()> {
    let core = Arc::downgrade(core);
    let heal = move || {
        if let Err(error) = serve(&core) {
            tracing::error!(%error, "the rules of the pods' network are not watched any more; start coracle again");
        }
    };
    std::thread::Builder::new().name("healer".into()).spawn(heal).map(drop).during(|| "start a thread".into())
}

fn serve(core: &Weak<Core>) -> Result<()> {
    let Some(dir) = core.upgrade().map(|it| it.network.dir.clone()) else { return Ok(()) };
    let path = dir.join(LOCK);
    let (_lock, waited) = take_turn(&path, || {}).during(|| format!("lock {}", path.display()))?;
    let Some(mut watch) = core.upgrade().map(|it| it.network.firewall.watch()).transpose()? else { return Ok(()) };
    let mut why = waited.then(|| "nobody watched them for a moment".to_owned());
    guard(core, |firewall, dir| firewall.guard(|| state::is_up(dir)));
    if !waited {
        look_after(core);
    }
    loop {
        if let Some(why) = why.take() {
            let Some(core) = core.upgrade() else { return Ok(()) };
            heal(&core, &why);
            std::thread::sleep(PAUSE);
        }
        why = super::firewall::next(&mut watch)?;
        if why.is_none() {
            // Made anew or taken away, by whichever process of ours.
            guard(core, |firewall, dir| firewall.keep_guard(|| state::is_up(dir)));
        }
    }
}

/// Without its guard the network is as good as it is without a healer for a moment.
fn guard(core: &Weak<Core>, change: impl FnOnce(&Firewall, &Path) -> Result<()>) {
    if let Some(core) = core.upgrade()
        && let Err(error) = change(&core.network.firewall, &core.network.dir)
    {
        tracing::warn!(%error, "private pods are not guarded while the rules are changed by others");
    }
}

/// Who watched before may have been killed, in the middle of a change too. Where the table is what it should be, nobody's
/// connections are disturbed.
fn look_after(core: &Weak<Core>) {
    let Some(core) = core.upgrade() else { return };
    if let Err(error) = reconcile(&core, Firewall::refresh) {
        tracing::warn!(%error, "the rules of the pods' network may not be what they should be");
    }
}

/// `repairs.json`: what was put back since the state directory is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Repairs {
    /// How often.
    pub count: u64,
    /// How long it took the last time, from the kernel's word to whole rules, in microseconds.
    pub last_us: u64,
}

/// How often the rules were put back.
pub fn repairs(core: &Core) -> Repairs {
    read_json(&core.network.dir.join(REPAIRS)).ok().flatten().unwrap_or_default()
}

/// One more. It is told, and nothing depends on it.
fn repaired(core: &Core, took: Duration) {
    let repairs =
        Repairs { count: repairs(core).count + 1, last_us: u64::try_from(took.as_micros()).unwrap_or(u64::MAX) };
    if let Err(error) = write_json(&core.network.dir, REPAIRS, &repairs, Durability::Volatile) {
        tracing::debug!(%error, "a repair could not be written down");
    }
}

fn heal(core: &Core, why: &str) {
    let begin = Instant::now();
    match reconcile(core, Firewall::load) {
        Ok(true) => {
            repaired(core, begin.elapsed());
            tracing::warn!(why, "the rules of the pods' network were loaded again");
        }
        // There are no pods.
        Ok(false) => {}
        Err(error) => tracing::error!(%error, why, "the rules of the pods' network cannot be loaded again"),
    }
}

/// Waits to be the one who holds this file; whether somebody was before. It is told when it begins to wait.
pub fn take_turn(path: &Path, wait: impl FnOnce()) -> io::Result<(std::fs::File, bool)> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let file = std::fs::OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path)?;
    match rustix::fs::flock(file.as_fd(), FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok((file, false)),
        Err(rustix::io::Errno::WOULDBLOCK) => {
            wait();
            flock(&file, FlockOperation::LockExclusive)?;
            Ok((file, true))
        }
        Err(error) => Err(error.into()),
    }
}
