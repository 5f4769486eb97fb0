//! Running a command in a container.

use std::os::fd::{AsFd as _, OwnedFd};

use super::record::Record;
use super::status::view;
use crate::core::Core;
use crate::error::{During as _, Error, Result};
use crate::launch::{LaunchSpec, Place, sealed};
use crate::shim::client::Client;
use crate::shim::protocol::{self, Event, Request, Response, State};

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

/// A command that runs. Dropping it, even while its end is waited for, kills the command and all that it started.
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

/// Says no unless a container runs.
pub fn require_running(core: &Core, record: &Record) -> Result<()> {
    let state = match view(core, record)?.map(|it| it.state) {
        Some(State::Running) => return Ok(()),
        Some(State::Exited) => "CONTAINER_EXITED",
        Some(State::Created) | None => "CONTAINER_CREATED",
    };
    Err(Error::Conflict(format!("container {} does not run: container is in {state} state", record.id)))
}

/// Starts a command; it runs when this returns.
pub fn exec(core: &Core, record: &Record, exec: &Exec) -> Result<Session> {
    require_running(core, record)?;
    if exec.command.is_empty() {
        return Err(Error::Invalid("cmd: there is no command to run".into()));
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
    /// Waits for the end and answers with the exit code, however long it takes.
    pub async fn wait(&mut self) -> Result<i32> {
        let failed = |why: String| Error::Shim { operation: "wait for a command".into(), why };
        let Some(client) = &self.client else {
            return Err(Error::Conflict("the command was waited for before".into()));
        };
        loop {
            match client.next_event().await.map_err(|error| failed(error.to_string()))? {
                Some(Event::ExecExited { code }) => {
                    self.client = None;
                    return Ok(code);
                }
                Some(_) => {}
                None => return Err(failed("the shim has died".into())),
            }
        }
    }
}
