//! Processes that join a running container: each belongs to the connection that asked for it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, Signal};

use super::protocol::{Event, Exec, Response};
use super::{Conn, KILL_PATIENCE, Shim};
use crate::cgroup::Cgroup;
use crate::launch::{Inputs, Launch, LaunchFailure, Report, Stdio};

/// One exec.
pub struct Session {
    /// Whose it is.
    pub conn: Conn,
    /// Its process, once it was cloned.
    pub pid: Option<Pid>,
    launch: Option<Launch>,
    container: String,
    /// A cgroup of its own below the container's, so that it can be killed alone.
    leaf: Cgroup,
    /// The caller's ends, until exec has succeeded.
    streams: Vec<OwnedFd>,
    /// It stands at its gate.
    ready: bool,
    gone: bool,
    failure: Option<LaunchFailure>,
    answered: bool,
    code: Option<i32>,
}

impl Session {
    /// Where its launch reports.
    pub fn reports(&self) -> Option<BorrowedFd<'_>> {
        self.launch.as_ref().map(|launch| launch.reports.as_fd())
    }

    /// It is being launched and its process is not known yet.
    pub fn is_unknown(&self) -> bool {
        self.pid.is_none() && self.launch.is_some()
    }

    /// Its process has ended.
    pub fn ended(&mut self, code: i32) {
        // What it leaves running stays, as after any shell: the container has got a daemon more.
        self.code = Some(code);
    }

    fn kill(&self) {
        let _ = self.leaf.kill(KILL_PATIENCE);
        // It may not be in its cgroups yet.
        if let (Some(pid), None) = (self.pid, self.code) {
            let _ = rustix::process::kill_process(pid, Signal::KILL);
        }
    }

    fn take_report(&mut self, report: Option<(Report, Option<OwnedFd>)>) {
        match report {
            Some((Report::Pid(pid), _)) => self.pid = Pid::from_raw(pid),
            Some((Report::Ready, master)) => {
                self.streams.extend(master);
                self.ready = true;
            }
            Some((Report::Failed(failure), _)) => {
                self.failure = Some(failure);
                self.launch = None;
            }
            None => self.launch = None,
        }
        // The stage and the child report independently: it may go on when it is known.
        if let (true, Some(_), Some(launch)) = (self.ready, self.pid, &self.launch) {
            self.ready = false;
            // A failure is seen as the other end's hang-up.
            let _ = launch.go();
        }
        // Killed before its stage had cloned it: nobody will be reaped by this session's pid.
        if self.launch.is_none() && self.pid.is_none() {
            self.code.get_or_insert(128);
        }
    }
}

impl Shim {
    pub(super) fn exec(&mut self, conn: Conn, exec: &Exec, fds: Vec<OwnedFd>) {
        match self.try_exec(conn, exec, fds) {
            Ok(session) => self.execs.push(session),
            Err(error) => self.answer(conn, &Response::Refused(error.to_string()), &[]),
        }
    }

    fn try_exec(&self, conn: Conn, exec: &Exec, fds: Vec<OwnedFd>) -> io::Result<Session> {
        let (Ok(sandbox), Some(container)) = (&self.sandbox, self.containers.get(&exec.id)) else {
            return Err(io::Error::other(format!("container {} is not known to its shim", exec.id)));
        };
        let (true, Some(pidfd)) = (container.is_running(), &container.pidfd) else {
            return Err(io::Error::other(format!("container {} is not running", exec.id)));
        };
        let missing = || io::Error::new(io::ErrorKind::InvalidInput, "the specification was not passed along");
        let spec = fds.get(exec.spec).ok_or_else(missing)?;
        let (stdio, streams) = if exec.tty { (Stdio::default(), Vec::new()) } else { pipes(exec.stdin)? };
        let leaf = container.cgroup.leaf(&leaf_name(conn)).map_err(io::Error::other)?;
        let inputs = Inputs {
            spec,
            fds: &fds,
            cgroup: &leaf,
            pod: &sandbox.namespaces,
            join: Some(pidfd.as_fd()),
            stdio: &stdio,
        };
        let launch = Launch::begin(&inputs)?;
        Ok(Session {
            conn,
            container: exec.id.clone(),
            pid: None,
            launch: Some(launch),
            leaf,
            streams,
            ready: false,
            gone: false,
            failure: None,
            answered: false,
            code: None,
        })
    }

    pub(super) fn exec_report(&mut self, conn: Conn) {
        let Some(session) = self.execs.iter_mut().find(|it| it.conn == conn) else { return };
        let Some(launch) = &session.launch else { return };
        let report = launch.read().ok().flatten();
        let ended = self.claim(report.as_ref().map(|it| &it.0));
        let Some(session) = self.execs.iter_mut().find(|it| it.conn == conn) else { return };
        session.take_report(report);
        if let Some(code) = ended {
            session.ended(code);
        }
        if session.launch.is_some() || session.answered {
            return;
        }
        session.answered = true;
        let streams = std::mem::take(&mut session.streams);
        let response = session.failure.clone().map_or(Response::Exec, Response::Failed);
        let fds: Vec<BorrowedFd<'_>> =
            if matches!(response, Response::Exec) { streams.iter().map(AsFd::as_fd).collect() } else { Vec::new() };
        self.answer(conn, &response, &fds);
    }

    pub(super) fn exec_hung_up(&mut self, conn: Conn) {
        if let Some(session) = self.execs.iter_mut().find(|it| it.conn == conn) {
            session.gone = true;
            session.kill();
        }
    }

    /// Tells the callers of execs that are over, and forgets those.
    pub(super) fn finish_execs(&mut self) {
        for session in &self.execs {
            if session.gone {
                session.kill();
            }
        }
        let (over, rest): (Vec<Session>, Vec<Session>) =
            std::mem::take(&mut self.execs).into_iter().partition(|it| it.code.is_some() && it.launch.is_none());
        self.execs = rest;
        if over.is_empty() {
            return;
        }
        for session in over {
            if let Some(container) = self.containers.get(&session.container) {
                let name = leaf_name(session.conn);
                if session.gone {
                    // What stays behind goes with the container.
                    let _ = container.cgroup.remove_leaf(&name, KILL_PATIENCE);
                } else {
                    self.left.push((session.container, name));
                }
            }
            if let (Some(code), None) = (session.code, &session.failure) {
                self.tell(session.conn, &Event::ExecExited { code });
            }
        }
        self.remove_left();
    }

    /// Removes the leaves that are empty by now: what an exec has left running may have ended since.
    fn remove_left(&mut self) {
        self.left.retain(|(container, name)| {
            let Some(container) = self.containers.get(container) else { return false };
            matches!(container.cgroup.remove_empty_leaf(name), Ok(false))
        });
    }
}

/// Connections are numbered once, so no two execs of a shim share a name.
fn leaf_name(conn: Conn) -> String {
    format!("exec-{conn}")
}

/// The child's ends, and the caller's: stdin (when asked for), stdout, stderr.
fn pipes(stdin: bool) -> io::Result<(Stdio, Vec<OwnedFd>)> {
    let mut stdio = Stdio::default();
    let mut ours = Vec::new();
    if stdin {
        let (theirs, mine) = pipe_with(PipeFlags::CLOEXEC)?;
        stdio.stdin = Some(theirs);
        ours.push(mine);
    }
    let (mine, theirs) = pipe_with(PipeFlags::CLOEXEC)?;
    stdio.stdout = Some(theirs);
    ours.push(mine);
    let (mine, theirs) = pipe_with(PipeFlags::CLOEXEC)?;
    stdio.stderr = Some(theirs);
    ours.push(mine);
    Ok((stdio, ours))
}
