//! Joining the streams of a container that runs, or is about to.

use std::os::fd::OwnedFd;

use super::record::Record;
use super::status::view;
use crate::core::Core;
use crate::error::{During as _, Error, Result};
use crate::shim::client::Client;
use crate::shim::protocol::{self, AttachedTo, Event, Request, Response, State};

/// What to join.
#[derive(Clone, Copy, Debug, Default)]
pub struct Attach {
    /// Standard input.
    pub stdin: bool,
    /// Standard output, or the terminal's.
    pub stdout: bool,
    /// Standard error, without a terminal.
    pub stderr: bool,
}

/// The streams of a container. Dropping it lets go of them; the container goes on.
#[derive(Debug)]
pub struct Attached {
    /// Standard input, when it was asked for and the container has one.
    pub stdin: Option<OwnedFd>,
    /// What is written from now on.
    pub stdout: Option<OwnedFd>,
    /// The same of standard error, without a terminal.
    pub stderr: Option<OwnedFd>,
    /// The terminal's master, to write to and to resize; its output is `stdout`.
    pub terminal: Option<OwnedFd>,
    client: Client,
}

/// What happens to who is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    /// The container has ended.
    Ended,
    /// The output was not taken fast enough: there is no more of it.
    TooSlow,
    /// Standard input has ended, by another client.
    StdinClosed,
}

/// Joins a container's streams.
pub fn attach(core: &Core, record: &Record, attach: &Attach) -> Result<Attached> {
    require_alive(core, record)?;
    let client = core.shim(&record.sandbox).during(|| format!("connect to the shim of sandbox {}", record.sandbox))?;
    let request = protocol::Attach {
        id: record.id.clone(),
        stdin: attach.stdin,
        stdout: attach.stdout,
        stderr: attach.stderr,
        stdin_once: record.request.stdin_once,
    };
    let (response, fds) = client.call(&Request::Attach(request), &[])?;
    let Response::Attached(streams) = response else {
        let why = format!("an unexpected answer: {response:?}");
        return Err(Error::Shim { operation: "ask the shim to attach to a container".into(), why });
    };
    let mut attached = Attached { stdin: None, stdout: None, stderr: None, terminal: None, client };
    for (stream, fd) in streams.into_iter().zip(fds) {
        *match stream {
            AttachedTo::Stdin => &mut attached.stdin,
            AttachedTo::Stdout => &mut attached.stdout,
            AttachedTo::Stderr => &mut attached.stderr,
            AttachedTo::Terminal => &mut attached.terminal,
        } = Some(fd);
    }
    Ok(attached)
}

/// Says no unless a container runs or was created.
pub fn require_alive(core: &Core, record: &Record) -> Result<()> {
    match view(core, record)?.map(|it| it.state) {
        Some(State::Running | State::Created) => Ok(()),
        Some(State::Exited) | None => {
            Err(Error::Conflict(format!("container {} has ended: container is in CONTAINER_EXITED state", record.id)))
        }
    }
}

impl Attached {
    /// Waits for what happens next.
    pub async fn next(&self) -> Result<News> {
        let failed = |why: String| Error::Shim { operation: "follow a container's output".into(), why };
        loop {
            match self.client.next_event().await.map_err(|error| failed(error.to_string()))? {
                Some(Event::AttachEnded { too_slow: true }) => return Ok(News::TooSlow),
                Some(Event::AttachEnded { too_slow: false }) => return Ok(News::Ended),
                Some(Event::StdinClosed) => return Ok(News::StdinClosed),
                Some(_) => {}
                None => return Err(failed("the shim has died".into())),
            }
        }
    }

    /// Says that no more input will come. The descriptor has been closed before.
    pub fn stdin_over(&self) {
        // A shim that is gone has closed it too.
        let _ = self.client.tell(&Request::CloseStdin);
    }
}
