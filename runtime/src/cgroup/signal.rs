//! Freezing, killing and listing the processes of a cgroup.

use std::time::{Duration, Instant};

use rustix::process::{Pid, PidfdFlags, Signal};

use super::dir::{Dir, absent};
use super::{Cgroup, Controller, Error, Version};

impl Cgroup {
    /// Every process in it and below, as this process's pid namespace numbers them; those outside it are left out.
    pub fn pids(&self) -> Result<Vec<i32>, Error> {
        pids_of(self.primary())
    }

    /// Whether any process is in it or below. A zombie is not; a cgroup that is gone has none.
    pub fn is_populated(&self) -> Result<bool, Error> {
        populated(self.primary())
    }

    /// Waits until no process is left.
    pub fn wait_empty(&self, deadline: Duration) -> Result<(), Error> {
        self.wait("wait for the end of", deadline, || Ok(!self.is_populated()?))
    }

    /// Stops every process until [`Cgroup::thaw`]; returns when all have stopped.
    pub fn freeze(&self, deadline: Duration) -> Result<(), Error> {
        let dir = self.freezer()?;
        let file = if dir.is_v2() { "cgroup.freeze" } else { "freezer.state" };
        let result = self.wait("freeze", deadline, || {
            // Version 1 may stick in FREEZING while processes fork: writing again goes on.
            dir.write(file, if dir.is_v2() { "1" } else { "FROZEN" })?;
            is_frozen(dir)
        });
        if result.is_err() {
            // Half frozen is worse than either state; the first error tells more than a second would.
            let _ = self.thaw();
        }
        result
    }

    /// Lets the processes go on.
    pub fn thaw(&self) -> Result<(), Error> {
        let dir = self.freezer()?;
        if dir.is_v2() { dir.write("cgroup.freeze", "0") } else { dir.write("freezer.state", "THAWED") }
    }

    /// Whether it is frozen.
    pub fn is_frozen(&self) -> Result<bool, Error> {
        is_frozen(self.freezer()?)
    }

    /// Kills every process in it and below, however fast they fork, and waits until they are gone (zombies may be left
    /// for their parents). One that is gone or empty is fine.
    pub fn kill(&self, deadline: Duration) -> Result<(), Error> {
        let dir = self.primary();
        if dir.is_v2() && absent(dir.write("cgroup.kill", "1"))?.is_some() {
            return self.wait("kill", deadline, || Ok(!populated(dir)?));
        }
        self.kill_one_by_one(deadline)
    }

    /// Without `cgroup.kill` (version 1, or before 5.14): a frozen process cannot fork, so a pass meets all of them.
    pub(super) fn kill_one_by_one(&self, deadline: Duration) -> Result<(), Error> {
        let begin = Instant::now();
        self.wait("kill", deadline, || {
            if !self.is_populated()? {
                return Ok(true);
            }
            // A freezer that fails or takes too long only means more passes.
            let slice = deadline.saturating_sub(begin.elapsed()).min(Duration::from_millis(100));
            let frozen = self.freeze(slice).is_ok();
            let pids = self.pids()?;
            pids.iter().for_each(|pid| kill(*pid));
            if frozen {
                self.thaw()?;
            }
            Ok(false)
        })
    }

    fn wait(
        &self,
        op: &'static str,
        deadline: Duration,
        mut done: impl FnMut() -> Result<bool, Error>,
    ) -> Result<(), Error> {
        let begin = Instant::now();
        let mut pause = Duration::from_micros(50);
        loop {
            if done()? {
                return Ok(());
            }
            let waited = begin.elapsed();
            if waited >= deadline {
                return Err(Error::Timeout { op, path: self.path.clone(), waited, pids: self.pids()? });
            }
            // Sleeping, because notifications of cgroup.events come at most every 10 ms.
            std::thread::sleep(pause.min(deadline - waited));
            pause = (pause * 2).min(Duration::from_millis(5));
        }
    }

    /// The hierarchy that says who is in this cgroup: the one in which an exec session's leaf exists.
    fn primary(&self) -> &Dir {
        let find = |wanted: &dyn Fn(&Dir) -> bool| self.dirs.iter().find(|dir| wanted(dir));
        find(&|dir| dir.mount.version == Version::V2)
            .or_else(|| find(&|dir| dir.mount.has(Controller::Freezer)))
            .unwrap_or(&self.dirs[0])
    }

    fn freezer(&self) -> Result<&Dir, Error> {
        let dir = self.primary();
        if dir.is_v2() || dir.mount.has(Controller::Freezer) {
            return Ok(dir);
        }
        let why = "neither cgroup v2 nor the freezer controller is mounted";
        Err(Error::Unsupported { op: "freeze", path: self.path.clone(), why })
    }
}

/// The processes of a directory and below, without those of a foreign pid namespace, which read as 0.
pub(super) fn pids_of(dir: &Dir) -> Result<Vec<i32>, Error> {
    let mut pids = Vec::new();
    collect(dir, &mut pids)?;
    Ok(pids)
}

fn collect(dir: &Dir, pids: &mut Vec<i32>) -> Result<(), Error> {
    let Some(text) = dir.read_if_present("cgroup.procs")? else { return Ok(()) };
    pids.extend(text.lines().filter_map(|line| line.parse::<i32>().ok()).filter(|pid| *pid > 0));
    for child in dir.children()? {
        if let Some(child) = absent(dir.open_child(&child))? {
            collect(&child, pids)?;
        }
    }
    Ok(())
}

fn populated(dir: &Dir) -> Result<bool, Error> {
    if dir.is_v2() {
        let events = dir.read_if_present("cgroup.events")?;
        return Ok(events.is_some_and(|text| text.lines().any(|line| line == "populated 1")));
    }
    let Some(text) = dir.read_if_present("cgroup.procs")? else { return Ok(false) };
    if !text.is_empty() {
        return Ok(true);
    }
    for child in dir.children()? {
        if let Some(child) = absent(dir.open_child(&child))?
            && populated(&child)?
        {
            return Ok(true);
        }
    }
    Ok(false)
}

fn is_frozen(dir: &Dir) -> Result<bool, Error> {
    if dir.is_v2() {
        return Ok(dir.read("cgroup.events")?.lines().any(|line| line == "frozen 1"));
    }
    Ok(dir.read("freezer.state")?.trim() == "FROZEN")
}

/// By pidfd, so that the number cannot pass to a stranger between the two steps; one that is gone is what is wanted,
/// and one that may not be killed shows up when the deadline passes.
fn kill(pid: i32) {
    let pidfd = Pid::from_raw(pid).and_then(|pid| rustix::process::pidfd_open(pid, PidfdFlags::empty()).ok());
    if let Some(pidfd) = pidfd {
        let _ = rustix::process::pidfd_send_signal(&pidfd, Signal::KILL);
    }
}
