//! Clients that see what a container writes and feed its standard input, while it goes on as if they were not there.

use std::io;
use std::os::fd::OwnedFd;

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::pipe::{PipeFlags, fcntl_setpipe_size, pipe_with};

use super::log::Follower;
use super::protocol::{Attach, AttachedTo, Event, Response};
use super::{Conn, Shim};

/// What may wait in the pipe to one client, in bytes. One that is further behind is cut off: neither the container nor
/// its log is held up by it.
const BEHIND: usize = 1 << 20;

/// Clients that may be attached to one pod at a time.
const MOST: usize = 256;

/// One that is attached.
pub struct Attached {
    container: String,
    /// It feeds standard input.
    stdin: bool,
    /// The container's standard input ends with its own.
    stdin_once: bool,
}

impl Shim {
    pub(super) fn attach(&mut self, conn: Conn, attach: &Attach) {
        match self.try_attach(conn, attach) {
            Ok((attached, follower)) => {
                self.attached.insert(conn, attached);
                // It answers, too: the end of a container that is just ending is told after that.
                self.log.follow(&attach.id, follower);
            }
            Err(error) => self.answer(conn, &Response::Refused(error.to_string()), &[]),
        }
    }

    /// Who is attached, and what follows the output for it.
    fn try_attach(&self, conn: Conn, attach: &Attach) -> io::Result<(Attached, Follower)> {
        let refuse = |why: String| Err(io::Error::other(why));
        let Some(container) = self.containers.get(&attach.id).filter(|it| it.is_alive()) else {
            return refuse(format!("container {} is not running", attach.id));
        };
        if self.attached.len() >= MOST || self.attached.contains_key(&conn) {
            return refuse(format!("{MOST} clients are attached to the pod already"));
        }
        let Some(socket) = self.conns.get(&conn) else { return refuse("the client is gone".into()) };
        let (mut streams, mut fds, mut outputs) = (Vec::new(), Vec::new(), Vec::new());
        if let Some(master) = container.terminal() {
            streams.push(AttachedTo::Terminal);
            fds.push(master.try_clone()?);
        } else if let (Some(stdin), true) = (container.stdin(), attach.stdin) {
            streams.push(AttachedTo::Stdin);
            fds.push(stdin.try_clone()?);
        }
        if attach.stdout {
            streams.push(AttachedTo::Stdout);
            fds.push(output(&mut outputs, "stdout")?);
        }
        if attach.stderr && container.terminal().is_none() {
            streams.push(AttachedTo::Stderr);
            fds.push(output(&mut outputs, "stderr")?);
        }
        let once = attach.stdin_once && streams.contains(&AttachedTo::Stdin);
        let attached = Attached { container: attach.id.clone(), stdin: attach.stdin, stdin_once: once };
        let answer = (Response::Attached(streams), fds);
        Ok((attached, Follower::new(conn, socket.try_clone()?, outputs, answer)))
    }

    /// Its client is gone.
    pub(super) fn detach(&mut self, conn: Conn) {
        if self.attached.contains_key(&conn) {
            self.attached_stdin_over(conn);
            self.attached.remove(&conn);
            self.log.unfollow(conn);
        }
    }

    /// A client feeds no more. Whether that is the end of the container's standard input, the container has said.
    pub(super) fn attached_stdin_over(&mut self, conn: Conn) {
        let Some(over) = self.attached.get_mut(&conn).filter(|it| it.stdin) else { return };
        over.stdin = false;
        if !over.stdin_once {
            return;
        }
        let id = over.container.clone();
        if let Some(container) = self.containers.get_mut(&id) {
            container.close_stdin();
        }
        for (&other, _) in self.attached.iter().filter(|(_, it)| it.stdin && it.container == id) {
            self.log.tell(&id, other, Event::StdinClosed);
        }
    }
}

/// A pipe for one stream; the client's end.
fn output(outputs: &mut Vec<(&'static str, OwnedFd)>, name: &'static str) -> io::Result<OwnedFd> {
    let (theirs, ours) = pipe_with(PipeFlags::CLOEXEC)?;
    // The kernel's default is smaller and does as well.
    let _ = fcntl_setpipe_size(&ours, BEHIND);
    fcntl_setfl(&ours, fcntl_getfl(&ours)? | OFlags::NONBLOCK)?;
    outputs.push((name, ours));
    Ok(theirs)
}
