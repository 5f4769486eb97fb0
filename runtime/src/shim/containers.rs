//! The containers of a shim: each a small state machine around one child process.
//!
//! ```text
//!            Ready          start           exec
//!  Creating ───────> Created ─────> Starting ────> Running ──exit──> Draining ──log complete──> Exited
//!     └── failed, killed ─┴───────────┴────────────────────────────────^   (or a second has passed)
//! ```

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::process::{Pid, PidfdFlags, Signal};

use super::log::{LogFile, LogThread, Sink, Stream};
use super::protocol::{Response, State, Status};
use super::{Conn, KILL_PATIENCE};
use crate::cgroup::Cgroup;
use crate::launch::{Launch, LaunchFailure, Report};
use crate::store::update_json_at;

/// How long an exit waits for the last of the log, when somebody outside the container holds its streams.
const DRAIN: Duration = Duration::from_secs(1);

/// How long after a failure a record is written again: the disk may have been full.
const RETRY: Duration = Duration::from_millis(250);

/// How much longer it waits for the log thread to write what was in the pipes then: a busy machine takes its time for
/// that, and a disk that hangs takes for ever.
const LAST_LINES: Duration = Duration::from_secs(5);

/// One container.
pub struct Container {
    /// Its id.
    pub id: String,
    /// Its first process, once it was cloned.
    pub pid: Option<Pid>,
    /// The same by a descriptor, for execs to join.
    pub pidfd: Option<OwnedFd>,
    /// Its cgroups.
    pub cgroup: Cgroup,
    phase: Phase,
    status: Status,
    /// When its record, which could not be written, is written again.
    retry: Option<Instant>,
    state_dir: OwnedFd,
    launch: Option<Launch>,
    drained: bool,
    /// It stands at its gate, and its stage has not said yet who it is.
    ready: bool,
    /// Its end came before the last of its launch's reports, which is waited for.
    early_end: Option<i32>,
    /// Its standard input: held so that it does not end before it is to.
    stdin: Option<OwnedFd>,
    /// Its terminal, likewise.
    master: Option<OwnedFd>,
    /// Where a terminal's output is to be logged, until its master has come.
    log: Option<LogFile>,
    removal: Option<Conn>,
}

enum Phase {
    Creating(Conn),
    Created,
    /// The gate is open.
    Starting(Conn),
    Running,
    Draining(Instant),
    /// The streams were closed; what was in them is being written.
    Closing(Instant),
    Exited,
}

/// What a container is made of.
pub(super) struct Parts {
    pub cgroup: Cgroup,
    pub state_dir: OwnedFd,
    pub launch: Launch,
    /// The pipe to its standard input.
    pub stdin: Option<OwnedFd>,
    /// Where a terminal's output is to be logged.
    pub log: Option<LogFile>,
}

impl Container {
    /// One whose launch has begun; `conn` is answered when it stands at its gate.
    pub(super) fn new(id: String, conn: Conn, parts: Parts) -> Self {
        let status = Status {
            version: 1,
            state: State::Created,
            pid: 0,
            start_ticks: 0,
            started_at: 0,
            finished_at: 0,
            exit_code: 0,
            oom_kills: 0,
            failure: None,
            lost_log_lines: 0,
            unknown: false,
        };
        let Parts { cgroup, state_dir, launch, stdin, log } = parts;
        Self {
            id,
            pid: None,
            pidfd: None,
            cgroup,
            phase: Phase::Creating(conn),
            status,
            retry: None,
            state_dir,
            launch: Some(launch),
            drained: false,
            ready: false,
            early_end: None,
            stdin,
            master: None,
            log,
            removal: None,
        }
    }

    /// Where its launch reports.
    pub fn reports(&self) -> Option<BorrowedFd<'_>> {
        self.launch.as_ref().map(|launch| launch.reports.as_fd())
    }

    /// The next report of its launch, if that goes on; nothing in it is the other side's hang-up.
    pub fn read_report(&self) -> Option<Option<(Report, Option<OwnedFd>)>> {
        self.launch.as_ref().map(|launch| launch.read().ok().flatten())
    }

    /// When something is due without any descriptor saying so.
    pub fn deadline(&self) -> Option<Instant> {
        match self.phase {
            Phase::Draining(until) | Phase::Closing(until) => Some(until),
            _ => self.retry,
        }
    }

    /// It is being launched and its process is not known yet.
    pub fn is_unknown(&self) -> bool {
        self.pid.is_none() && self.launch.is_some()
    }

    /// Nothing of it runs.
    pub fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Exited)
    }

    /// It can be joined by an exec.
    pub fn is_running(&self) -> bool {
        matches!(self.phase, Phase::Running)
    }

    /// It stands at its gate or runs: there is something to attach to.
    pub fn is_alive(&self) -> bool {
        matches!(self.phase, Phase::Created | Phase::Starting(_) | Phase::Running)
    }

    /// The pipe to its standard input, while that is open.
    pub fn stdin(&self) -> Option<&OwnedFd> {
        self.stdin.as_ref()
    }

    /// Its terminal's master.
    pub fn terminal(&self) -> Option<&OwnedFd> {
        self.master.as_ref()
    }

    /// Lets go of its standard input, which ends when nobody else holds it.
    pub fn close_stdin(&mut self) {
        self.stdin = None;
    }

    /// Kills everything in it.
    pub fn kill(&mut self) {
        let _ = self.cgroup.kill(KILL_PATIENCE);
        // A process at the gate may not be in its cgroups yet.
        self.signal(Signal::KILL.as_raw());
    }

    /// Sends a signal to its first process.
    pub(super) fn signal(&self, signal: i32) {
        if self.is_over() || matches!(self.phase, Phase::Draining(_) | Phase::Closing(_)) {
            return;
        }
        if let (Some(pidfd), Some(signal)) = (&self.pidfd, crate::sys::process::signal(signal)) {
            let _ = rustix::process::pidfd_send_signal(pidfd, signal);
        }
    }

    /// Its first process has ended: what is left of it goes too.
    pub fn ended(&mut self, code: i32) {
        if self.launch.is_some() {
            self.early_end = Some(code);
            return;
        }
        self.status.oom_kills = self.cgroup.oom_kills().unwrap_or(0);
        // One that could not be run was killed for it: the reason is what counts.
        self.status.exit_code = self.status.failure.as_ref().map_or(code, |failure| failure.code);
        let _ = self.cgroup.kill(KILL_PATIENCE);
        (self.stdin, self.master) = (None, None);
        self.phase = Phase::Draining(Instant::now() + DRAIN);
    }

    /// Its log is complete.
    pub fn drained(&mut self, lost: u64) {
        self.status.lost_log_lines = lost;
        self.drained = true;
    }

    /// Writes the record when it is due. True when its end has just been written.
    pub fn settle(&mut self, log: &LogThread) -> bool {
        let (Phase::Draining(until) | Phase::Closing(until)) = self.phase else {
            let due = self.retry.is_some_and(|at| at <= Instant::now());
            return due && self.record().is_ok() && self.is_over();
        };
        if !self.drained {
            if Instant::now() < until {
                return false;
            }
            if matches!(self.phase, Phase::Draining(_)) {
                log.close(&self.id);
                self.phase = Phase::Closing(until + LAST_LINES);
                return false;
            }
        }
        self.phase = Phase::Exited;
        self.launch = None;
        self.status.state = State::Exited;
        self.status.finished_at = now();
        self.record().is_ok()
    }

    /// The caller that waits for its removal, when it can be answered.
    pub fn removal_due(&mut self) -> Option<(String, Conn)> {
        if self.is_over() { self.removal.take().map(|conn| (self.id.clone(), conn)) } else { None }
    }

    /// Writes its record, or will again: what has happened has to be known some time, and a full disk must not stop
    /// the shim.
    fn record(&mut self) -> io::Result<()> {
        let written = update_json_at(&self.state_dir, "status.json", &self.status);
        self.retry = written.is_err().then(|| Instant::now() + RETRY);
        written
    }
}

impl Container {
    /// Takes one report of the launch; answers with what the waiting caller is to be told.
    pub(super) fn take_report(
        &mut self,
        report: Option<(Report, Option<OwnedFd>)>,
        log: &LogThread,
    ) -> Option<(Conn, Response)> {
        let answer = match report {
            Some((Report::Pid(pid), _)) => {
                self.pid = Pid::from_raw(pid);
                // Should it have been reaped by now, its end is known and nobody will join it.
                self.pidfd = self.pid.and_then(|pid| rustix::process::pidfd_open(pid, PidfdFlags::empty()).ok());
                self.created()
            }
            Some((Report::Ready, master)) => self.ready(master, log),
            Some((Report::Failed(failure), _)) => self.failed(failure),
            None => self.closed(),
        };
        if self.launch.is_none()
            && let Some(code) = self.early_end.take()
        {
            self.ended(code);
        }
        answer
    }

    fn ready(&mut self, master: Option<OwnedFd>, log: &LogThread) -> Option<(Conn, Response)> {
        if let Some(master) = master {
            if let Ok(output) = master.try_clone() {
                log.add(Sink::new(self.id.clone(), self.log.take(), vec![Stream::new("stdout", output)]));
            }
            self.master = Some(master);
        }
        self.ready = true;
        self.created()
    }

    /// It is created when it stands at its gate and is known: the stage and the child report independently.
    fn created(&mut self) -> Option<(Conn, Response)> {
        let (Phase::Creating(conn), true, true) = (&self.phase, self.ready, self.pid.is_some()) else { return None };
        let conn = *conn;
        self.status.pid = self.pid.map_or(0, |pid| pid.as_raw_nonzero().get());
        self.status.start_ticks = crate::sys::process::look(self.status.pid).map_or(0, |(_, start)| start);
        if let Err(error) = self.record() {
            let operation = "write the container's record".to_owned();
            return self.failed(LaunchFailure { operation, errno: error.raw_os_error().unwrap_or(0), code: 128 });
        }
        self.phase = Phase::Created;
        Some((conn, Response::Created { pid: self.status.pid }))
    }

    /// Lets the process go on; false if it does not stand at its gate.
    pub(super) fn open_gate(&mut self, conn: Conn) -> bool {
        let (Phase::Created, Some(launch)) = (&self.phase, &self.launch) else { return false };
        // A failure is seen as the other end's hang-up.
        let _ = launch.go();
        self.phase = Phase::Starting(conn);
        true
    }

    /// Ends it; `conn` is answered once it is over.
    pub(super) fn remove(&mut self, conn: Conn) {
        self.removal = Some(conn);
        if !self.is_over() {
            self.kill();
        }
    }

    /// The other side hung up: exec has succeeded, or the process has died before it.
    fn closed(&mut self) -> Option<(Conn, Response)> {
        self.launch = None;
        match self.phase {
            Phase::Starting(conn) => {
                self.phase = Phase::Running;
                self.status.state = State::Running;
                self.status.started_at = now();
                // It runs, whatever the disk says.
                let _ = self.record();
                Some((conn, Response::Started))
            }
            Phase::Creating(_) | Phase::Created => {
                let operation = "the container's process was killed before it could run".to_owned();
                self.failed(LaunchFailure { operation, errno: 0, code: 128 })
            }
            _ => None,
        }
    }

    /// It will never run.
    fn failed(&mut self, failure: LaunchFailure) -> Option<(Conn, Response)> {
        self.launch = None;
        let conn = match self.phase {
            Phase::Creating(conn) | Phase::Starting(conn) => Some(conn),
            _ => None,
        };
        self.status.exit_code = failure.code;
        self.status.failure = Some(failure.clone());
        match self.pid {
            // Its end is on its way to the reaper.
            Some(_) if !matches!(self.phase, Phase::Draining(_) | Phase::Closing(_) | Phase::Exited) => self.kill(),
            Some(_) => {}
            None => {
                if self.log.take().is_some() {
                    self.drained = true;
                }
                self.ended(failure.code);
            }
        }
        conn.map(|conn| (conn, Response::Failed(failure)))
    }
}

/// Nanoseconds since 1970.
pub fn now() -> i64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
    time.tv_sec * 1_000_000_000 + time.tv_nsec
}
