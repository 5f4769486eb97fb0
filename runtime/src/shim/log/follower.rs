//! An attached client, as the log thread knows it: the pipes that it gets the container's output by.

use std::os::fd::{AsFd, OwnedFd};

use rustix::io::Errno;

use crate::shim::protocol::{Event, Response};
use crate::sys::fdpass;

/// An attached client. Nothing that it does or fails to do holds up anybody.
pub struct Follower {
    /// Its connection's number.
    pub conn: u64,
    /// The ends to write to, which do not block, by the stream's name.
    pub outputs: Vec<(&'static str, OwnedFd)>,
    socket: OwnedFd,
    /// What it is answered when nothing that is written from now on can pass it by.
    answer: (Response, Vec<OwnedFd>),
}

impl Follower {
    /// One that is answered, and told what becomes of it, over `socket`.
    pub fn new(
        conn: u64,
        socket: OwnedFd,
        outputs: Vec<(&'static str, OwnedFd)>,
        answer: (Response, Vec<OwnedFd>),
    ) -> Self {
        Self { conn, outputs, socket, answer }
    }

    /// Answers. Its ends of the pipes are its own from then on.
    pub fn welcome(&mut self) {
        let (response, fds) = std::mem::replace(&mut self.answer, (Response::Done, Vec::new()));
        if let Ok(bytes) = serde_json::to_vec(&response) {
            let fds: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
            // One that is gone need not know.
            let _ = fdpass::send(&self.socket, &bytes, &fds);
        }
    }

    /// Hands on what a stream brought. False when it has not taken all of it and gets no more.
    pub fn take(&mut self, stream: &str, bytes: &[u8]) -> bool {
        let Some(index) = self.outputs.iter().position(|(name, _)| *name == stream) else { return true };
        let mut rest = bytes;
        while !rest.is_empty() {
            match rustix::io::write(&self.outputs[index].1, rest) {
                Ok(written) => rest = &rest[written..],
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    self.tell(&Event::AttachEnded { too_slow: true });
                    return false;
                }
                // It does not want this stream any more.
                Err(_) => {
                    self.outputs.remove(index);
                    return true;
                }
            }
        }
        true
    }

    /// A stream has ended.
    pub fn close(&mut self, stream: &str) {
        self.outputs.retain(|(name, _)| *name != stream);
    }

    /// All of them have.
    pub fn end(self) {
        self.tell(&Event::AttachEnded { too_slow: false });
    }

    /// Tells it something.
    pub fn tell(&self, event: &Event) {
        if let Ok(bytes) = serde_json::to_vec(event) {
            // One that is gone need not know.
            let _ = fdpass::send(&self.socket, &bytes, &[]);
        }
    }
}
