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

use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, PidfdFlags, Signal};

use super::log::{LogThread, Sink, Stream};
use super::protocol::{Create, Response, State, Status};
use super::{Conn, KILL_PATIENCE, Shim};
use crate::cgroup::Cgroup;
use crate::launch::{Inputs, Launch, LaunchFailure, Report, Stdio};
use crate::store::update_json_at;

/// How long an exit waits for the last of the log, when somebody outside the container holds its streams.
const DRAIN: Duration = Duration::from_secs(1);

/// How long after a failure a record is written again: the disk may have been full.
const RETRY: Duration = Duration::from_millis(250);

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
    /// Its standard input, or its terminal: held so that neither ends before it does.
    held: Vec<OwnedFd>,
    /// Where a terminal's output is to be logged, until its master has come.
    log: Option<OwnedFd>,
    removal: Option<Conn>,
}

enum Phase {
    Creating(Conn),
    Created,
    /// The gate is open.
    Starting(Conn),
    Running,
    Draining(Instant),
    Exited,
}

impl Container {
    /// Where its launch reports.
    pub fn reports(&self) -> Option<BorrowedFd<'_>> {
        self.launch.as_ref().map(|launch| launch.reports.as_fd())
    }

    /// When something is due without any descriptor saying so.
    pub fn deadline(&self) -> Option<Instant> {
        if let Phase::Draining(until) = self.phase { Some(until) } else { self.retry }
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

    /// Kills everything in it.
    pub fn kill(&mut self) {
        let _ = self.cgroup.kill(KILL_PATIENCE);
        // A process at the gate may not be in its cgroups yet.
        self.signal(Signal::KILL.as_raw());
    }

    fn signal(&self, signal: i32) {
        if self.is_over() || matches!(self.phase, Phase::Draining(_)) {
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
        self.held.clear();
        self.phase = Phase::Draining(Instant::now() + DRAIN);
    }

    /// Its log is complete.
    pub fn drained(&mut self, lost: u64) {
        self.status.lost_log_lines = lost;
        self.drained = true;
    }

    /// Writes the record when it is due. True when its end has just been written.
    pub fn settle(&mut self, log: &LogThread) -> bool {
        let Phase::Draining(until) = self.phase else {
            let due = self.retry.is_some_and(|at| at <= Instant::now());
            return due && self.record().is_ok() && self.is_over();
        };
        if !self.drained {
            if Instant::now() < until {
                return false;
            }
            log.close(&self.id);
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

impl Shim {
    pub(super) fn create(&mut self, conn: Conn, create: Create, fds: Vec<OwnedFd>) {
        let id = create.id.clone();
        if self.shutdown.is_some() || self.containers.contains_key(&id) {
            return self.answer(
                conn,
                &Response::Refused(format!("container {id} cannot be made twice or in a sandbox that ends")),
                &[],
            );
        }
        match self.try_create(conn, create, fds) {
            Ok(container) => {
                self.containers.insert(id, container);
            }
            Err(error) => self.answer(conn, &Response::Refused(format!("begin container {id}: {error}")), &[]),
        }
    }

    fn try_create(&self, conn: Conn, create: Create, fds: Vec<OwnedFd>) -> io::Result<Container> {
        let Ok(sandbox) = &self.sandbox else { return Err(io::Error::other("the sandbox was not made")) };
        let mut fds: Vec<Option<OwnedFd>> = fds.into_iter().map(Some).collect();
        let missing = || io::Error::new(io::ErrorKind::InvalidInput, "a descriptor was not passed along");
        let mut take = |index: usize| fds.get_mut(index).and_then(Option::take).ok_or_else(missing);
        let (spec, state_dir) = (take(create.spec)?, take(create.state_dir)?);
        let file = create.log.map(&mut take).transpose()?;
        let cgroup = create.cgroup.take(&mut fds)?;
        // What is left belongs to the specification, whose positions must not move: the gaps are filled.
        let rest: Vec<OwnedFd> =
            fds.into_iter().map(|fd| fd.map_or_else(|| spec.try_clone(), Ok)).collect::<io::Result<_>>()?;
        let (stdio, mut streams, held) = pipes(create.stdin, create.tty)?;
        let inputs =
            Inputs { spec: &spec, fds: &rest, cgroup: &cgroup, pod: &sandbox.namespaces, join: None, stdio: &stdio };
        let launch = Launch::begin(&inputs)?;
        let mut log = file;
        if !create.tty {
            self.log.add(Sink::new(create.id.clone(), log.take(), std::mem::take(&mut streams)));
        }
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
        Ok(Container {
            id: create.id,
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
            held,
            log,
            removal: None,
        })
    }

    pub(super) fn container_report(&mut self, id: &str) {
        let Some(container) = self.containers.get_mut(id) else { return };
        let Some(launch) = &container.launch else { return };
        let report = launch.read().ok().flatten();
        let ended = self.claim(report.as_ref().map(|it| &it.0));
        let Some(container) = self.containers.get_mut(id) else { return };
        let answer = container.take_report(report, &self.log);
        if let Some(code) = ended {
            container.ended(code);
        }
        if let Some((conn, response)) = answer {
            self.answer(conn, &response, &[]);
        }
    }

    pub(super) fn start_container(&mut self, conn: Conn, id: &str) {
        let refusal = match self.containers.get_mut(id) {
            None => Some(Response::Refused(format!("container {id} is not known to its shim"))),
            Some(container) if matches!(container.phase, Phase::Created) => {
                container.open_gate(conn);
                None
            }
            Some(_) => Some(Response::Refused(format!("container {id} was started before"))),
        };
        if let Some(refusal) = refusal {
            self.answer(conn, &refusal, &[]);
        }
    }

    pub(super) fn signal(&mut self, conn: Conn, id: &str, signal: i32) {
        if let Some(container) = self.containers.get_mut(id) {
            container.signal(signal);
        }
        self.answer(conn, &Response::Done, &[]);
    }

    pub(super) fn kill(&mut self, conn: Conn, id: &str) {
        if let Some(container) = self.containers.get_mut(id) {
            container.kill();
        }
        self.answer(conn, &Response::Done, &[]);
    }

    pub(super) fn remove(&mut self, conn: Conn, id: &str) {
        match self.containers.get_mut(id) {
            Some(container) => {
                container.removal = Some(conn);
                if !container.is_over() {
                    container.kill();
                }
            }
            None => self.answer(conn, &Response::Done, &[]),
        }
    }

    pub(super) fn reopen(&mut self, conn: Conn, id: &str, fds: Vec<OwnedFd>) {
        let response = match (self.containers.contains_key(id), fds.into_iter().next()) {
            (true, Some(file)) => {
                self.log.reopen(id, file);
                Response::Done
            }
            _ => Response::Refused(format!("container {id} has no log to go on with")),
        };
        self.answer(conn, &response, &[]);
    }
}

impl Container {
    /// Takes one report of the launch; answers with what the waiting caller is to be told.
    fn take_report(&mut self, report: Option<(Report, Option<OwnedFd>)>, log: &LogThread) -> Option<(Conn, Response)> {
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
            self.held.push(master);
        }
        self.ready = true;
        self.created()
    }

    /// It is created when it stands at its gate and is known: the stage and the child report independently.
    fn created(&mut self) -> Option<(Conn, Response)> {
        let (Phase::Creating(conn), true, true) = (&self.phase, self.ready, self.pid.is_some()) else { return None };
        let conn = *conn;
        self.status.pid = self.pid.map_or(0, |pid| pid.as_raw_nonzero().get());
        self.status.start_ticks = crate::sys::process::start_ticks(self.status.pid).unwrap_or(0);
        if let Err(error) = self.record() {
            let operation = "write the container's record".to_owned();
            return self.failed(LaunchFailure { operation, errno: error.raw_os_error().unwrap_or(0), code: 128 });
        }
        self.phase = Phase::Created;
        Some((conn, Response::Created { pid: self.status.pid }))
    }

    /// Lets the process go on.
    fn open_gate(&mut self, conn: Conn) {
        if let (Phase::Created, Some(launch)) = (&self.phase, &self.launch) {
            // A failure is seen as the other end's hang-up.
            let _ = launch.go();
            self.phase = Phase::Starting(conn);
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
            Some(_) if !matches!(self.phase, Phase::Draining(_) | Phase::Exited) => self.kill(),
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

/// The child's ends, the streams to log, and what to hold.
type Pipes = (Stdio, Vec<Stream>, Vec<OwnedFd>);

fn pipes(stdin: bool, tty: bool) -> io::Result<Pipes> {
    if tty {
        return Ok((Stdio::default(), Vec::new(), Vec::new()));
    }
    let (stdout, theirs_out) = pipe_with(PipeFlags::CLOEXEC)?;
    let (stderr, theirs_err) = pipe_with(PipeFlags::CLOEXEC)?;
    let mut stdio = Stdio { stdin: None, stdout: Some(theirs_out), stderr: Some(theirs_err) };
    let mut held = Vec::new();
    if stdin {
        let (theirs, ours) = pipe_with(PipeFlags::CLOEXEC)?;
        stdio.stdin = Some(theirs);
        held.push(ours);
    }
    Ok((stdio, vec![Stream::new("stdout", stdout), Stream::new("stderr", stderr)], held))
}

/// Nanoseconds since 1970.
pub fn now() -> i64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
    time.tv_sec * 1_000_000_000 + time.tv_nsec
}
