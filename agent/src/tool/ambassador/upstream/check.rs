//! How targets are: health checks, begun, conversed and judged without waiting.

use std::io;
use std::net::SocketAddr;
use std::time::Instant;

use super::super::balance::Known;
use super::super::config::Protocol;
use super::super::health::Thresholds;
use super::super::poller::{Key, Kind, Poller, Ready, Token};
use super::super::sockets;
use super::{ANSWER_BYTES, Checking, SOONEST, Upstream, say};

impl Upstream {
    /// Checks every address of a target that is not being checked, and sees to the next time.
    pub(super) fn check(&mut self, key: Key, poller: &mut Poller, now: Instant) {
        let Some(target) = self.targets.get_mut(key) else { return };
        let Some(check) = target.check.clone() else { return };
        // What nobody knows yet is found out soon.
        let unknown = target.endpoints.iter().any(|it| it.is_new() || target.known(it, now) == Known::Unknown);
        let next = now + if unknown { check.period.min(SOONEST) } else { check.period };
        if target.check_at.is_none_or(|at| at > next || at <= now) {
            target.check_at = Some(next);
            poller.at(next, Token { kind: Kind::Target, key });
        }
        let idle = target.endpoints.iter().filter(|it| it.checking.is_none()).map(|it| it.address);
        for address in idle.collect::<Vec<_>>() {
            let asked = SocketAddr::new(address.ip(), check.port.unwrap_or(address.port()));
            match sockets::connect(Protocol::Tcp, asked) {
                Ok(socket) => {
                    let until = now + check.timeout;
                    let checking = Checking { target: key, address, socket, until, question: None, answer: Vec::new() };
                    let checking = self.checks.add(checking);
                    let token = Token { kind: Kind::Check, key: checking };
                    poller.at(until, token);
                    let socket = self.checks.get(checking).map(|it| &it.socket);
                    let added = socket.map_or(Ok(()), |socket| poller.add_edges(socket, token));
                    if let Some(endpoint) = self.endpoint(key, address) {
                        endpoint.checking = Some(checking);
                    }
                    if let Err(error) = added {
                        self.checked(checking, Err(error.to_string()), now);
                    }
                }
                Err(error) => self.outcome(key, address, Err(error.to_string()), now),
            }
        }
    }

    /// Something happened to a check's connection.
    pub fn check_ready(&mut self, ready: Ready, now: Instant) {
        let key = ready.token.key;
        let Some(checking) = self.checks.get_mut(key) else { return };
        if checking.question.is_none() {
            if !ready.writable {
                return;
            }
            if let Err(error) = sockets::connected(&checking.socket) {
                self.checked(key, Err(error.to_string()), now);
                return;
            }
            let check = self.targets.get(checking.target).and_then(|target| target.check.as_ref());
            let Some(path) = check.and_then(|check| check.path.as_deref()) else {
                self.checked(key, Ok(()), now);
                return;
            };
            let host = self.targets.get(checking.target).map(|target| target.place.to_string()).unwrap_or_default();
            checking.question = Some(
                format!(
                    "GET {path} HTTP/1.1\r\nhost: {host}\r\nuser-agent: coracle-ambassador\r\nconnection: close\r\n\r\n"
                )
                .into_bytes(),
            );
        }
        if let Some(outcome) = checking.converse() {
            self.checked(key, outcome, now);
        }
    }

    /// A check may have taken for long enough.
    pub fn time_of_check(&mut self, key: Key, now: Instant) {
        if self.checks.get(key).is_some_and(|checking| checking.until <= now) {
            self.checked(key, Err("no answer in time".to_owned()), now);
        }
    }

    pub(super) fn checked(&mut self, key: Key, outcome: Result<(), String>, now: Instant) {
        let Some(checking) = self.checks.remove(key) else { return };
        self.outcome(checking.target, checking.address, outcome, now);
    }

    pub(super) fn outcome(&mut self, key: Key, address: SocketAddr, outcome: Result<(), String>, now: Instant) {
        let Some(target) = self.targets.get_mut(key) else { return };
        let Some(check) = &target.check else { return };
        let thresholds = Thresholds { successes: check.successes, failures: check.failures };
        let Some(endpoint) = target.endpoints.iter_mut().find(|it| it.address == address) else { return };
        endpoint.checking = None;
        endpoint.failed += u64::from(outcome.is_err());
        if endpoint.health.checked(outcome.is_ok(), thresholds) {
            debug_assert!(endpoint.health.is_up(now, true) == outcome.is_ok());
            match outcome {
                Ok(()) => say(&format!("{} ({address}) is healthy", target.place)),
                Err(why) => say(&format!("{} ({address}) is not healthy: {why}", target.place)),
            }
        }
    }
}

impl Checking {
    /// Sends what is to be sent and reads what is there; the outcome, when it is known.
    fn converse(&mut self) -> Option<Result<(), String>> {
        use rustix::io::Errno;
        use rustix::net::{RecvFlags, SendFlags};
        let question = self.question.get_or_insert_default();
        while !question.is_empty() {
            match rustix::net::send(&self.socket, question, SendFlags::NOSIGNAL) {
                Ok(count) => drop(question.drain(..count)),
                Err(Errno::AGAIN) => return None,
                Err(Errno::INTR) => {}
                Err(error) => return Some(Err(io::Error::from(error).to_string())),
            }
        }
        let mut buffer = [0_u8; ANSWER_BYTES];
        loop {
            match rustix::net::recv(&self.socket, &mut buffer[..], RecvFlags::empty()) {
                Ok((_, 0)) => return Some(Err("it closed the connection without an answer".to_owned())),
                Ok((_, count)) => self.answer.extend_from_slice(&buffer[..count]),
                Err(Errno::AGAIN) => return None,
                Err(Errno::INTR) => continue,
                Err(error) => return Some(Err(io::Error::from(error).to_string())),
            }
            if let Some(outcome) = verdict(&self.answer) {
                return Some(outcome);
            }
        }
    }
}

/// What the first line of an answer says. None if it is not there yet.
fn verdict(answer: &[u8]) -> Option<Result<(), String>> {
    let Some(end) = answer.iter().position(|byte| *byte == b'\n') else {
        return (answer.len() >= ANSWER_BYTES).then(|| Err("this is not HTTP/1".to_owned()));
    };
    let line = String::from_utf8_lossy(&answer[..end]);
    let mut words = line.split_whitespace();
    let protocol = words.next().unwrap_or_default();
    let code = words.next().and_then(|code| code.parse::<u16>().ok()).filter(|_| protocol.starts_with("HTTP/1."));
    Some(match code {
        Some(200..=399) => Ok(()),
        Some(code) => Err(format!("it answers {code}")),
        None => Err("this is not HTTP/1".to_owned()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_of_an_answer_is_the_verdict() {
        assert_eq!(verdict(b"HTTP/1.1 20"), None);
        assert_eq!(verdict(b"HTTP/1.1 204 No Content\r\n"), Some(Ok(())));
        assert_eq!(verdict(b"HTTP/1.0 302 Found\r\n"), Some(Ok(())));
        assert_eq!(verdict(b"HTTP/1.1 503 x\r\n"), Some(Err("it answers 503".into())));
        assert_eq!(verdict(b"SSH-2.0-x\r\n"), Some(Err("this is not HTTP/1".into())));
        assert!(verdict(&[b'x'; ANSWER_BYTES]).is_some());
    }
}
