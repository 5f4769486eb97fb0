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

/// After the kernel could not give a descriptor.
const BREATH: Duration = Duration::from_millis(100);

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
    /// Nothing is said of the listener, or whoever waits for a place would be told of without end.
    paused: bool,
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
        (self.listener, self.paused) = (None, false);
        let Some(port) = port else { return Ok(()) };
        let socket = sockets::listen(Protocol::Tcp, port)?;
        poller.add_readable(&socket, Token::only(Kind::StatusListener))?;
        self.listener = Some((port, socket));
        Ok(())
    }

    /// Somebody wants to ask.
    pub fn accept(&mut self, poller: &mut Poller, now: Instant) {
        while let Some((_, listener)) = &self.listener {
            if self.asking.len() >= MOST {
                return self.pause(true, poller);
            }
            let socket = match sockets::accept(listener) {
                Ok(Some((socket, _))) => socket,
                Ok(None) => return,
                // There is no descriptor for it.
                Err(_) => {
                    self.pause(true, poller);
                    return poller.at(now + BREATH, Token::only(Kind::Status));
                }
            };
            let key = self.asking.add(Asking { socket, head: Vec::new(), answer: None });
            let token = Token { kind: Kind::Status, key };
            let added = self.asking.get(key).map_or(Ok(()), |it| poller.add_edges(&it.socket, token));
            poller.at(now + PATIENCE, token);
            if added.is_err() {
                self.asking.remove(key);
            }
        }
    }

    fn pause(&mut self, paused: bool, poller: &Poller) {
        if let Some((_, listener)) = self.listener.as_ref().filter(|_| self.paused != paused)
            && poller.listen(listener, Token::only(Kind::StatusListener), !paused).is_ok()
        {
            self.paused = paused;
        }
    }

    /// Whoever takes too long is not waited for.
    pub fn time(&mut self, key: Key, poller: &Poller) {
        self.end(key, poller);
    }

    /// Something happened to a question's connection.
    pub fn ready(&mut self, ready: Ready, tell: &impl Tell, poller: &Poller) {
        let key = ready.token.key;
        if let Some(asking) = self.asking.get_mut(key)
            && asking.converse(tell)
        {
            self.end(key, poller);
        }
    }

    /// One question fewer: there is room for another.
    fn end(&mut self, key: Key, poller: &Poller) {
        self.asking.remove(key);
        self.pause(false, poller);
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
    fn who_waits_for_a_place_is_not_told_of_until_there_is_one() {
        let (mut poller, mut status, now) = (Poller::new().unwrap(), Status::default(), Instant::now());
        let free = std::net::TcpListener::bind("[::]:0").unwrap().local_addr().unwrap();
        status.listen(Some(free.port()), &poller).unwrap();
        let ask = || std::net::TcpStream::connect(("127.0.0.1", free.port())).unwrap();
        let mut asking: Vec<_> = (0..=MOST).map(|_| ask()).collect();
        // Nothing ever waits for ever here: a time is near.
        let far = |poller: &mut Poller| {
            poller.at(Instant::now() + Duration::from_millis(100), Token::only(Kind::Watch));
            let mut happened = Vec::new();
            poller.wait(false, Instant::now(), &mut happened).unwrap();
            while poller.due(Instant::now() + Duration::from_secs(1)).is_some() {}
            happened.iter().map(|ready| ready.token.kind).collect::<Vec<_>>()
        };
        status.accept(&mut poller, now);
        assert_eq!(status.asking.len(), MOST);
        // What is known of the connections is told once.
        while far(&mut poller).contains(&Kind::Status) {}
        assert_eq!(far(&mut poller), [], "one waits, and there is no place");
        drop(asking.remove(0));
        let gone = status.asking.keys()[0];
        status.ready(
            Ready { token: Token { kind: Kind::Status, key: gone }, readable: true, writable: true },
            &Told(true),
            &poller,
        );
        assert_eq!(status.asking.len(), MOST - 1);
        while !far(&mut poller).contains(&Kind::StatusListener) {}
        status.accept(&mut poller, now);
        assert_eq!(status.asking.len(), MOST);
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
