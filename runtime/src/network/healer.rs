//! Healing the rules when somebody else takes something out of them.
//!
//! Every process with pods would; one at a time does: whoever holds `<state>/network/healer.lock`. When it ends, however it
//! ends, the next one goes on, and looks once at what may have happened in between.

use std::io;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::sync::{Arc, Weak};
use std::time::Duration;

use rustix::fs::FlockOperation;

use super::collect::reconcile;
use super::leases::flock;
use crate::core::Core;
use crate::error::{During as _, Result};

const LOCK: &str = "healer.lock";

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
    let (_lock, waited) = take_turn(&dir).during(|| format!("lock {}", dir.join(LOCK).display()))?;
    let Some(mut watch) = core.upgrade().map(|it| it.network.firewall.watch()).transpose()? else { return Ok(()) };
    let mut why = waited.then(|| "nobody watched them for a moment".to_owned());
    loop {
        if let Some(why) = why.take() {
            let Some(core) = core.upgrade() else { return Ok(()) };
            heal(&core, &why);
            std::thread::sleep(PAUSE);
        }
        why = Some(super::firewall::damage(&mut watch)?);
    }
}

fn heal(core: &Core, why: &str) {
    match reconcile(core) {
        Ok(true) => tracing::warn!(why, "the rules of the pods' network were loaded again"),
        // There are no pods.
        Ok(false) => {}
        Err(error) => tracing::error!(%error, why, "the rules of the pods' network cannot be loaded again"),
    }
}

/// Waits to be the one; whether somebody was before.
fn take_turn(dir: &Path) -> io::Result<(std::fs::File, bool)> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let path = dir.join(LOCK);
    let file = std::fs::OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path)?;
    match rustix::fs::flock(file.as_fd(), FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok((file, false)),
        Err(rustix::io::Errno::WOULDBLOCK) => {
            flock(&file, FlockOperation::LockExclusive)?;
            Ok((file, true))
        }
        Err(error) => Err(error.into()),
    }
}
