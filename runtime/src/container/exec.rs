//! Running a command in a container.

use std::os::fd::{AsFd as _, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::record::Record;
use super::status::view;
use crate::core::Core;
use crate::error::{During as _, Error, Result};
use crate::launch::{LaunchSpec, Place, sealed};
use crate::shim::client::Client;
use crate::shim::protocol::{self, Event, Request, Response, State};

/// The most that ExecSync gives back of one stream, in bytes; what comes after is read and dropped (CVE-2022-31030).
pub const MAX_OUTPUT: usize = 16 << 20;

/// A command to run.
#[derive(Clone, Debug, Default)]
pub struct Exec {
    /// The command and its arguments.
    pub command: Vec<String>,
    /// With a terminal.
    pub tty: bool,
    /// With standard input.
    pub stdin: bool,
}

/// A command that runs. Dropping it kills the command.
#[derive(Debug)]
pub struct Session {
    /// Standard input, when it was asked for.
    pub stdin: Option<OwnedFd>,
    /// Standard output, without a terminal.
    pub stdout: Option<OwnedFd>,
    /// Standard error, without a terminal.
    pub stderr: Option<OwnedFd>,
    /// The terminal's master.
    pub terminal: Option<OwnedFd>,
    client: Option<Client>,
}

/// What a command has printed, and how it ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Output {
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error.
    pub stderr: Vec<u8>,
    /// Exit code; 128 and the signal's number when it was killed.
    pub code: i32,
}

/// Starts a command; it runs when this returns.
pub fn exec(core: &Core, record: &Record, exec: &Exec) -> Result<Session> {
    let refuse = |why: &str| Error::Conflict(format!("cannot run a command in container {}: {why}", record.id));
    match view(core, record)?.map(|it| it.state) {
        Some(State::Running) => {}
        Some(State::Exited) => return Err(refuse("it has ended")),
        Some(State::Created) | None => return Err(refuse("it was not started")),
    }
    if exec.command.is_empty() {
        return Err(Error::Invalid("there is no command to run".into()));
    }
    let mut process = record.process(core)?;
    process.args.clone_from(&exec.command);
    process.tty = exec.tty;
    process.rlimits.clear();
    if exec.tty && !process.env.iter().any(|it| it.strip_prefix("TERM=").is_some()) {
        process.env.push("TERM=xterm".into());
    }
    let spec = serde_json::to_vec(&LaunchSpec { place: Place::Join, process }).map_err(std::io::Error::from);
    let spec = spec.and_then(|bytes| sealed("coracle-exec", &bytes)).during(|| "write the command".into())?;
    let client = core.shim(&record.sandbox).during(|| format!("connect to the shim of sandbox {}", record.sandbox))?;
    let request = protocol::Exec { id: record.id.clone(), spec: 0, stdin: exec.stdin, tty: exec.tty };
    let (response, fds) = client.call(&Request::Exec(request), &[spec.as_fd()])?;
    let mut fds = fds.into_iter();
    let mut session = Session { stdin: None, stdout: None, stderr: None, terminal: None, client: None };
    match response {
        Response::Exec if exec.tty => session.terminal = fds.next(),
        Response::Exec => {
            session.stdin = if exec.stdin { fds.next() } else { None };
            (session.stdout, session.stderr) = (fds.next(), fds.next());
        }
        other => {
            let why = format!("an unexpected answer: {other:?}");
            return Err(Error::Shim { operation: "ask the shim to run a command".into(), why });
        }
    }
    session.client = Some(client);
    Ok(session)
}

impl Session {
    /// Waits for the end and answers with the exit code, however long it takes. Blocking.
    pub fn wait_blocking(&mut self) -> Result<i32> {
        let Some(client) = &self.client else {
            return Err(Error::Conflict("the command was waited for before".into()));
        };
        wait(client, None)
    }

    /// [`Session::wait_blocking`] for a task.
    pub async fn wait(&mut self) -> Result<i32> {
        let Some(client) = self.client.take() else {
            return Err(Error::Conflict("the command was waited for before".into()));
        };
        let waited = tokio::task::spawn_blocking(move || wait(&client, None)).await;
        waited.map_err(|error| Error::Shim { operation: "wait for a command".into(), why: error.to_string() })?
    }
}

/// Waits for the word of a command's end.
fn wait(client: &Client, deadline: Option<Instant>) -> Result<i32> {
    let failed = |why: String| Error::Shim { operation: "wait for a command".into(), why };
    loop {
        let mut fds = [PollFd::new(client, PollFlags::IN)];
        match poll(&mut fds, timeout(deadline).as_ref()) {
            Ok(0) => return Err(Error::Timeout("the command has not ended in time".into())),
            Err(rustix::io::Errno::INTR) => continue,
            Err(error) => return Err(failed(error.to_string())),
            Ok(_) => {}
        }
        match client.event().map_err(|error| failed(error.to_string()))? {
            Some(Event::ExecExited { code }) => return Ok(code),
            Some(_) => {}
            None => return Err(failed("the shim has died".into())),
        }
    }
}

fn timeout(deadline: Option<Instant>) -> Option<Timespec> {
    let left = deadline?.saturating_duration_since(Instant::now());
    Some(Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) })
}

/// Runs a command to its end. A timeout kills it and all that it started, and nothing else.
pub fn exec_sync(core: &Core, record: &Record, command: Vec<String>, limit: Option<Duration>) -> Result<Output> {
    let deadline = limit.map(|limit| Instant::now() + limit);
    let mut session = exec(core, record, &Exec { command, tty: false, stdin: false })?;
    let mut output = Output::default();
    let late =
        || Error::Timeout(format!("the command did not end within {} seconds", limit.unwrap_or_default().as_secs()));
    let mut streams = [session.stdout.take(), session.stderr.take()];
    if !drain(&mut streams, [&mut output.stdout, &mut output.stderr], deadline)? {
        return Err(late());
    }
    let Some(client) = &session.client else { return Err(late()) };
    output.code = match wait(client, deadline) {
        Err(Error::Timeout(_)) => return Err(late()),
        other => other?,
    };
    Ok(output)
}

/// Reads both streams to their ends. False when the time was up first.
fn drain(streams: &mut [Option<OwnedFd>; 2], into: [&mut Vec<u8>; 2], deadline: Option<Instant>) -> Result<bool> {
    let mut buffer = vec![0; 64 * 1024];
    while streams.iter().any(Option::is_some) {
        let open: Vec<usize> = (0..2).filter(|&number| streams[number].is_some()).collect();
        let mut fds: Vec<PollFd<'_>> = streams.iter().flatten().map(|fd| PollFd::new(fd, PollFlags::IN)).collect();
        match poll(&mut fds, timeout(deadline).as_ref()) {
            Ok(0) => return Ok(false),
            Err(rustix::io::Errno::INTR) => continue,
            other => other.during(|| "wait for a command's output".into())?,
        };
        let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        drop(fds);
        for (&number, _) in open.iter().zip(ready).filter(|(_, ready)| *ready) {
            let Some(stream) = &streams[number] else { continue };
            match rustix::io::read(stream, buffer.as_mut_slice()) {
                Ok(0) => streams[number] = None,
                Ok(length) => {
                    let room = MAX_OUTPUT - into[number].len();
                    into[number].extend_from_slice(&buffer[..length.min(room)]);
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error).during(|| "read a command's output".into()),
            }
        }
    }
    Ok(true)
}
