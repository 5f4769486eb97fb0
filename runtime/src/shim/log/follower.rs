//! An attached client, as the log thread knows it: the pipes that it gets the container's output by.

use std::os::fd::OwnedFd;

use rustix::io::Errno;

use crate::shim::protocol::Event;
use crate::sys::fdpass;

/// An attached client. Nothing that it does or fails to do holds up anybody.
pub struct Follower {
    /// Its connection's number.
    pub conn: u64,
    /// The ends to write to, which do not block, by the stream's name.
    pub outputs: Vec<(&'static str, OwnedFd)>,
    socket: OwnedFd,
}

impl Follower {
    /// One without outputs. What becomes of it is told over `socket`.
    pub fn new(conn: u64, socket: OwnedFd) -> Self {
        Self { conn, outputs: Vec::new(), socket }
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
                    self.tell(true);
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
        self.tell(false);
    }

    fn tell(&self, too_slow: bool) {
        if let Ok(bytes) = serde_json::to_vec(&Event::AttachEnded { too_slow }) {
            // One that is gone need not know.
            let _ = fdpass::send(&self.socket, &bytes, &[]);
        }
    }
}
