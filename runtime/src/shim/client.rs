//! The runtime's end of the shim's protocol.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SocketAddrUnix, SocketFlags, SocketType, bind, connect, listen, socket_with, sockopt,
};
use tokio::io::Interest;

use super::protocol::{Event, Request, Response};
use crate::error::{Error, Result};
use crate::store::open_dir;
use crate::sys::fdpass;
use crate::sys::polled::polled;

/// How long a shim may take to answer. What it does on request is bounded; a mount that hangs is not.
const PATIENCE: Duration = Duration::from_secs(60);

/// Connections that wait to be accepted.
const BACKLOG: i32 = 128;

/// A connection to a shim.
#[derive(Debug)]
pub struct Client {
    socket: OwnedFd,
}

/// Makes the socket that a shim listens on.
///
/// The path may be of any length: the socket is named relative to its directory's descriptor.
pub fn listener(dir: &Path, name: &str) -> io::Result<OwnedFd> {
    let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    let dir = open_dir(dir)?;
    bind(&socket, &address(&dir, name)?)?;
    listen(&socket, BACKLOG)?;
    Ok(socket)
}

fn address(dir: &OwnedFd, name: &str) -> io::Result<SocketAddrUnix> {
    Ok(SocketAddrUnix::new(format!("/proc/self/fd/{}/{name}", dir.as_raw_fd()))?)
}

impl Client {
    /// Connects to the shim that listens at `name` in `dir`.
    pub fn connect(dir: &Path, name: &str) -> io::Result<Self> {
        let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        let dir = open_dir(dir)?;
        connect(&socket, &address(&dir, name)?)?;
        sockopt::set_socket_timeout(&socket, sockopt::Timeout::Recv, Some(PATIENCE))?;
        Ok(Self { socket })
    }

    /// Sends a request and waits for its answer.
    pub fn call(&self, request: &Request, fds: &[BorrowedFd<'_>]) -> Result<(Response, Vec<OwnedFd>)> {
        let operation = || format!("ask the shim to {}", verb(request));
        let failed = |why: String| Error::Shim { operation: operation(), why };
        let bytes = serde_json::to_vec(request).map_err(|error| failed(error.to_string()))?;
        fdpass::send(&self.socket, &bytes, fds).map_err(|error| failed(gone(&error)))?;
        let mut buffer = vec![0; fdpass::MAX_MESSAGE];
        let (length, fds) = fdpass::receive(&self.socket, &mut buffer).map_err(|error| failed(gone(&error)))?;
        if length == 0 {
            return Err(failed("it has died".into()));
        }
        match serde_json::from_slice(&buffer[..length]).map_err(|error| failed(error.to_string()))? {
            Response::Refused(why) => Err(failed(why)),
            Response::Failed(failure) => Err(Error::Launch(failure)),
            response => Ok((response, fds)),
        }
    }

    /// Says what is not answered.
    pub fn tell(&self, request: &Request) -> io::Result<()> {
        fdpass::send(&self.socket, &serde_json::to_vec(request)?, &[])
    }

    /// Reads the next event. `None` means that the shim is gone.
    pub fn event(&self) -> io::Result<Option<Event>> {
        let mut buffer = [0; 1024];
        match fdpass::receive(&self.socket, &mut buffer) {
            Ok((0, _)) => Ok(None),
            Ok((length, _)) => Ok(Some(serde_json::from_slice(&buffer[..length])?)),
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl Client {
    /// Waits for the next event. `None` means that the shim is gone. Dropping this loses no event.
    pub async fn next_event(&self) -> io::Result<Option<Event>> {
        let ready = polled(self.socket.try_clone()?, Interest::READABLE)?;
        loop {
            let mut guard = ready.readable().await?;
            // The socket is a blocking one: it is asked whether there is anything.
            match rustix::net::recv(&self.socket, &mut [0u8; 1], RecvFlags::PEEK | RecvFlags::DONTWAIT) {
                Err(Errno::AGAIN) => guard.clear_ready(),
                Err(Errno::INTR) => {}
                _ => return self.event(),
            }
        }
    }
}

impl AsFd for Client {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn gone(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::WouldBlock => format!("it has not answered for {} seconds", PATIENCE.as_secs()),
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => "it has died".into(),
        _ => error.to_string(),
    }
}

fn verb(request: &Request) -> &'static str {
    match request {
        Request::Hello => "say that the sandbox is up",
        Request::Create(_) => "create a container",
        Request::Start { .. } => "start a container",
        Request::Signal { .. } => "signal a container",
        Request::Kill { .. } => "kill a container",
        Request::Remove { .. } => "remove a container",
        Request::Exec(_) => "run a command in a container",
        Request::Attach(_) => "attach to a container",
        Request::CloseStdin => "close a container's standard input",
        Request::Reopen { .. } => "reopen a log",
        Request::Watch => "tell of what happens",
        Request::Shutdown => "end the sandbox",
    }
}
