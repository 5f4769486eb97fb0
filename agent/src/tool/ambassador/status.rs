//! Questions about this process, by HTTP: `/ready` and `/metrics`.

use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};

use super::config::Protocol;
use super::poller::{Key, Kind, Poller, Ready, Slab, Token};
use super::sockets;

/// Questions at a time; further ones wait in the kernel's queue.
const MOST: usize = 32;

/// The head of a question may not be longer, and may not take longer.
const HEAD_BYTES: usize = 4096;
const PATIENCE: Duration = Duration::from_secs(10);

/// What there is to tell.
pub trait Tell {
    /// Whether everything leads somewhere.
    fn is_ready(&self) -> bool;
    /// Every number.
    fn metrics(&self) -> String;
}

/// The listener and those who ask.
#[derive(Default)]
pub struct Status {
    listener: Option<(u16, OwnedFd)>,
    asking: Slab<Asking>,
}

struct Asking {
    socket: OwnedFd,
    head: Vec<u8>,
    answer: Option<Vec<u8>>,
}

impl Status {
    /// Listens at this port, and no other.
    pub fn listen(&mut self, port: Option<u16>, poller: &Poller) -> io::Result<()> {
        if self.listener.as_ref().map(|(port, _)| *port) == port {
            return Ok(());
        }
        self.listener = None;
        let Some(port) = port else { return Ok(()) };
        let socket = sockets::listen(Protocol::Tcp, port)?;
        poller.add_readable(&socket, Token::only(Kind::StatusListener))?;
        self.listener = Some((port, socket));
        Ok(())
    }

    /// Somebody wants to ask.
    pub fn accept(&mut self, poller: &mut Poller, now: Instant) {
        while let Some((_, listener)) = self.listener.as_ref().filter(|_| self.asking.len() < MOST) {
            let Ok(Some((socket, _))) = sockets::accept(listener) else { return };
            let key = self.asking.add(Asking { socket, head: Vec::new(), answer: None });
            let token = Token { kind: Kind::Status, key };
            let added = self.asking.get(key).map_or(Ok(()), |it| poller.add_edges(&it.socket, token));
            poller.at(now + PATIENCE, token);
            if added.is_err() {
                self.asking.remove(key);
            }
        }
    }

    /// Whoever takes too long is not waited for.
    pub fn time(&mut self, key: Key) {
        self.asking.remove(key);
    }

    /// Something happened to a question's connection.
    pub fn ready(&mut self, ready: Ready, tell: &impl Tell) {
        let key = ready.token.key;
        if let Some(asking) = self.asking.get_mut(key)
            && asking.converse(tell)
        {
            self.asking.remove(key);
        }
    }
}

impl Asking {
    /// Reads and answers as much as goes. Whether it is over.
    fn converse(&mut self, tell: &impl Tell) -> bool {
        let mut buffer = [0_u8; 1024];
        while self.answer.is_none() {
            match rustix::net::recv(&self.socket, &mut buffer[..], RecvFlags::empty()) {
                Ok((_, 0)) => return true,
                Ok((_, count)) => self.head.extend_from_slice(&buffer[..count]),
                Err(Errno::AGAIN) => return false,
                Err(Errno::INTR) => continue,
                Err(_) => return true,
            }
            let whole = self.head.windows(4).any(|window| window == b"\r\n\r\n");
            if whole || self.head.len() > HEAD_BYTES {
                self.answer = Some(answer(&self.head, tell));
            }
        }
        let answer = self.answer.get_or_insert_default();
        while !answer.is_empty() {
            match rustix::net::send(&self.socket, answer, SendFlags::NOSIGNAL) {
                Ok(count) => drop(answer.drain(..count)),
                Err(Errno::AGAIN) => return false,
                Err(Errno::INTR) => {}
                Err(_) => return true,
            }
        }
        true
    }
}

fn answer(head: &[u8], tell: &impl Tell) -> Vec<u8> {
    let line = head.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let line = String::from_utf8_lossy(line);
    let mut words = line.split(' ');
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let (status, body) = match (method, path.split('?').next().unwrap_or_default()) {
        ("GET" | "HEAD", "/ready") if tell.is_ready() => ("200 OK", "ready\n".to_owned()),
        ("GET" | "HEAD", "/ready") => ("503 Service Unavailable", "some port leads nowhere\n".to_owned()),
        ("GET" | "HEAD", "/metrics") => ("200 OK", tell.metrics()),
        ("GET" | "HEAD", _) => ("404 Not Found", "there are /ready and /metrics\n".to_owned()),
        _ => ("405 Method Not Allowed", "GET\n".to_owned()),
    };
    let kind =
        if path == "/metrics" { "text/plain; version=0.0.4; charset=utf-8" } else { "text/plain; charset=utf-8" };
    let length = body.len();
    let body = if method == "HEAD" { String::new() } else { body };
    format!("HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}")
        .into_bytes()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    struct Told(bool);

    impl Tell for Told {
        fn is_ready(&self) -> bool {
            self.0
        }
        fn metrics(&self) -> String {
            "up 1\n".into()
        }
    }

    #[test]
    fn questions_have_their_answers() {
        let ask = |head: &str, ready| String::from_utf8(answer(head.as_bytes(), &Told(ready))).unwrap();
        assert!(ask("GET /ready HTTP/1.1\r\n\r\n", true).starts_with("HTTP/1.1 200 "));
        assert!(ask("GET /ready?x HTTP/1.1\r\n\r\n", false).starts_with("HTTP/1.1 503 "));
        assert!(ask("GET /metrics HTTP/1.1\r\n\r\n", true).ends_with("\r\n\r\nup 1\n"));
        assert!(
            ask("HEAD /metrics HTTP/1.1\r\n\r\n", true).ends_with("content-length: 5\r\nconnection: close\r\n\r\n")
        );
        assert!(ask("GET / HTTP/1.1\r\n\r\n", true).starts_with("HTTP/1.1 404 "));
        assert!(ask("POST /ready HTTP/1.1\r\n\r\n", true).starts_with("HTTP/1.1 405 "));
        assert!(ask("nonsense", true).starts_with("HTTP/1.1 405 "));
    }
}
