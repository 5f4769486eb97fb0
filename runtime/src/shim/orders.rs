//! What callers ask of a shim's containers.

use std::io;
use std::os::fd::OwnedFd;

use rustix::pipe::{PipeFlags, pipe_with};

use super::containers::{Container, Parts};
use super::log::{LogFile, Rotation, Sink, Stream};
use super::protocol::{Create, LogRotation, Response};
use super::{Conn, Shim};
use crate::launch::{Inputs, Launch, Stdio};

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
        let rotation = create.rotation.map(|it| {
            let LogRotation { dir, name, max_size, max_files } = it;
            Ok::<_, io::Error>(Rotation { dir: take(dir)?, name, max_size, max_files })
        });
        let mut log = file.map(|fd| rotation.transpose().map(|rotation| LogFile::new(fd, rotation))).transpose()?;
        let cgroup = create.cgroup.take(&mut fds)?;
        // What is left belongs to the specification, whose positions must not move: the gaps are filled.
        let rest: Vec<OwnedFd> =
            fds.into_iter().map(|fd| fd.map_or_else(|| spec.try_clone(), Ok)).collect::<io::Result<_>>()?;
        let (stdio, mut streams, stdin) = pipes(create.stdin, create.tty)?;
        let inputs =
            Inputs { spec: &spec, fds: &rest, cgroup: &cgroup, pod: &sandbox.namespaces, join: None, stdio: &stdio };
        let launch = Launch::begin(&inputs)?;
        if !create.tty {
            self.log.add(Sink::new(create.id.clone(), log.take(), std::mem::take(&mut streams)));
        }
        Ok(Container::new(create.id, conn, Parts { cgroup, state_dir, launch, stdin, log }))
    }

    pub(super) fn container_report(&mut self, id: &str) {
        let Some(container) = self.containers.get_mut(id) else { return };
        let Some(report) = container.read_report() else { return };
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
        let why = match self.containers.get_mut(id).map(|container| container.open_gate(conn)) {
            Some(true) => return,
            Some(false) => "was started before",
            None => "is not known to its shim",
        };
        self.answer(conn, &Response::Refused(format!("container {id} {why}")), &[]);
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
            Some(container) => container.remove(conn),
            None => self.answer(conn, &Response::Done, &[]),
        }
    }

    pub(super) fn reopen(&mut self, conn: Conn, id: &str, fds: Vec<OwnedFd>) {
        match (self.containers.contains_key(id), fds.into_iter().next()) {
            // Answered when the log thread has done it.
            (true, Some(file)) => self.log.reopen(id, file, conn),
            _ => self.answer(conn, &no_log(), &[]),
        }
    }

    pub(super) fn reopened(&mut self) {
        for (conn, done) in self.log.reopened() {
            self.answer(conn, &if done { Response::Done } else { no_log() }, &[]);
        }
    }
}

fn no_log() -> Response {
    Response::Refused("the container has no log to go on with: it has ended".into())
}

/// The child's ends, the streams to log, and the way to standard input.
type Pipes = (Stdio, Vec<Stream>, Option<OwnedFd>);

fn pipes(stdin: bool, tty: bool) -> io::Result<Pipes> {
    if tty {
        return Ok((Stdio::default(), Vec::new(), None));
    }
    let (stdout, theirs_out) = pipe_with(PipeFlags::CLOEXEC)?;
    let (stderr, theirs_err) = pipe_with(PipeFlags::CLOEXEC)?;
    let mut stdio = Stdio { stdin: None, stdout: Some(theirs_out), stderr: Some(theirs_err) };
    let mut to_stdin = None;
    if stdin {
        let (theirs, ours) = pipe_with(PipeFlags::CLOEXEC)?;
        (stdio.stdin, to_stdin) = (Some(theirs), Some(ours));
    }
    Ok((stdio, vec![Stream::new("stdout", stdout), Stream::new("stderr", stderr)], to_stdin))
}
