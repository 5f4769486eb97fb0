//! Names to addresses without waiting: what to ask whom next, from what came back. No clock, no sockets.
//!
//! A name is looked up again when its time is over, for as long as somebody needs it. /etc/hosts goes first, then each
//! name that the search list makes of it is asked for both kinds of addresses, of one server after the other. What was
//! known stays while servers fail; it goes when a server says that there is no such name.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use super::super::dns::{self, Answer, Kind};
use super::super::resolve::Resolver;

/// One server's time to answer.
const PATIENCE: Duration = Duration::from_millis(1500);

/// How often all servers are asked before a look-up has failed.
const ROUNDS: usize = 2;

/// An answer counts for as long as it says, within these.
const LEAST: Duration = Duration::from_secs(1);
const MOST: Duration = Duration::from_secs(30);

/// A name that is in a file, or nowhere, is looked for again after this.
const AGAIN: Duration = Duration::from_secs(2);

/// What a look-up came to.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// These are the addresses now; none if there is no such name.
    Addresses(Vec<IpAddr>),
    /// Nobody could say.
    Failed(String),
}

/// What to do next.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// Send this question to this server, from a new socket, and close the last one.
    Ask(SocketAddr, Vec<u8>),
    /// The look-up is over; look again after that time.
    Done(Outcome, Duration),
}

/// One look-up.
#[derive(Debug)]
pub struct Lookup {
    servers: Vec<IpAddr>,
    /// What is left to ask for, next last.
    candidates: Vec<String>,
    candidate: String,
    kind: Kind,
    /// How many servers have been asked for this name and kind.
    asked: usize,
    question: Vec<u8>,
    id: u16,
    /// When the server that was asked last is given up.
    until: Instant,
    found: Vec<IpAddr>,
    ttl: Duration,
    trouble: Option<String>,
}

impl Lookup {
    /// Begins: with the text of /etc/hosts and of /etc/resolv.conf, and a number that nobody can guess.
    pub fn begin(name: &str, hosts: &str, resolv_conf: &str, id: u16, now: Instant) -> Result<(Self, Step), Step> {
        let known = super::super::resolve::in_hosts(hosts, name);
        if !known.is_empty() {
            return Err(Step::Done(Outcome::Addresses(known), AGAIN));
        }
        if name == "localhost" {
            let both = vec![IpAddr::from([127, 0, 0, 1]), IpAddr::from([0_u16, 0, 0, 0, 0, 0, 0, 1])];
            return Err(Step::Done(Outcome::Addresses(both), MOST));
        }
        let resolver = Resolver::parse(resolv_conf);
        let mut candidates = resolver.candidates(name);
        candidates.reverse();
        let mut lookup = Lookup {
            servers: resolver.servers,
            candidates,
            candidate: String::new(),
            kind: Kind::Aaaa,
            asked: 0,
            question: Vec::new(),
            id,
            until: now,
            found: Vec::new(),
            ttl: MOST,
            trouble: None,
        };
        match lookup.next(now) {
            done @ Step::Done(..) => Err(done),
            ask @ Step::Ask(..) => Ok((lookup, ask)),
        }
    }

    /// When [`Self::timed_out`] is due.
    pub fn deadline(&self) -> Instant {
        self.until
    }

    /// Something arrived on the socket. None: it is not the answer; wait on.
    pub fn received(&mut self, message: &[u8], now: Instant) -> Option<Step> {
        let answer = dns::answer(message, &self.question)?;
        Some(match answer {
            Answer::Addresses { addresses, ttl } => {
                if !addresses.is_empty() {
                    self.ttl = self.ttl.min(Duration::from_secs(ttl.into())).max(LEAST);
                    self.found.extend(addresses);
                }
                self.next(now)
            }
            Answer::NoSuchName => self.next(now),
            Answer::Failed(code) => self.failed(format!("answers with error {code}"), now),
        })
    }

    /// The server that was asked did not answer in time.
    pub fn timed_out(&mut self, now: Instant) -> Step {
        self.failed("no answer in time".to_owned(), now)
    }

    /// The server that was asked cannot be reached, or refuses.
    pub fn failed(&mut self, why: String, now: Instant) -> Step {
        let server = self.server();
        self.trouble = Some(format!("name server {server}: {why}"));
        self.asked += 1;
        if self.asked < self.servers.len() * ROUNDS { self.ask(now) } else { self.next(now) }
    }

    fn server(&self) -> IpAddr {
        self.servers[self.asked % self.servers.len()]
    }

    /// The next kind of address of this name, or the next name, or the end.
    fn next(&mut self, now: Instant) -> Step {
        self.asked = 0;
        loop {
            if self.kind == Kind::A {
                self.kind = Kind::Aaaa;
            } else if !self.found.is_empty() {
                return Step::Done(Outcome::Addresses(std::mem::take(&mut self.found)), self.ttl);
            } else if let Some(candidate) = self.candidates.pop() {
                (self.kind, self.candidate) = (Kind::A, candidate);
            } else {
                return match self.trouble.take() {
                    Some(why) => Step::Done(Outcome::Failed(why), AGAIN),
                    None => Step::Done(Outcome::Addresses(Vec::new()), AGAIN),
                };
            }
            self.id = self.id.wrapping_mul(25173).wrapping_add(13849);
            // A name that the search list makes too long is none.
            if let Some(question) = dns::question(self.id, &self.candidate, self.kind) {
                self.question = question;
                return self.ask(now);
            }
        }
    }

    fn ask(&mut self, now: Instant) -> Step {
        self.until = now + PATIENCE;
        Step::Ask(SocketAddr::new(self.server(), 53), self.question.clone())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const CONF: &str = "search ns.svc\nnameserver 10.0.0.1\nnameserver 10.0.0.2\noptions ndots:2\n";

    fn begin(name: &str, now: Instant) -> (Lookup, SocketAddr, Vec<u8>) {
        let (lookup, step) = Lookup::begin(name, "", CONF, 7, now).unwrap();
        let (server, question) = asked(step);
        (lookup, server, question)
    }

    fn asked(step: Step) -> (SocketAddr, Vec<u8>) {
        match step {
            Step::Ask(server, question) => (server, question),
            done => panic!("{done:?}"),
        }
    }

    fn reply(question: &[u8], code: u8, address: Option<[u8; 4]>, ttl: u8) -> Vec<u8> {
        let mut message = question.to_vec();
        message[2] |= 0x80;
        message[3] = code;
        if let Some(address) = address {
            message[7] = 1;
            message.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, ttl, 0, 4]);
            message.extend(address);
        }
        message
    }

    #[test]
    fn the_search_list_is_gone_through_and_both_kinds_are_asked_for() {
        let now = Instant::now();
        let (mut lookup, server, question) = begin("db", now);
        assert_eq!((server, &question[12..22]), ("10.0.0.1:53".parse().unwrap(), &b"\x02db\x02ns\x03svc"[..]));
        assert_eq!(lookup.received(b"noise", now), None);
        let (_, question) = asked(lookup.received(&reply(&question, 3, None, 0), now).unwrap());
        assert_eq!(&question[question.len() - 4..], [0, 28, 0, 1], "IPv6, too");
        let (_, question) = asked(lookup.received(&reply(&question, 3, None, 0), now).unwrap());
        assert_eq!(&question[12..16], b"\x02db\0");
        let (_, question) = asked(lookup.received(&reply(&question, 0, Some([1, 2, 3, 4]), 5), now).unwrap());
        let end = lookup.received(&reply(&question, 0, None, 0), now).unwrap();
        assert_eq!(end, Step::Done(Outcome::Addresses(vec![[1, 2, 3, 4].into()]), Duration::from_secs(5)));
    }

    #[test]
    fn servers_that_fail_are_passed_over_in_their_turn() {
        let now = Instant::now();
        let (mut lookup, first, question) = begin("a.b.c", now);
        let (second, _) = asked(lookup.timed_out(now));
        assert_eq!((first.ip(), second.ip()), ([10, 0, 0, 1].into(), [10, 0, 0, 2].into()));
        assert_eq!(lookup.deadline(), now + PATIENCE);
        let (third, again) = asked(lookup.received(&reply(&question, 2, None, 0), now).unwrap());
        assert_eq!((third.ip(), again), ([10, 0, 0, 1].into(), question));
    }

    #[test]
    fn a_name_that_is_nowhere_has_no_addresses_and_one_that_nobody_can_tell_failed() {
        let now = Instant::now();
        let (mut lookup, _, mut question) = begin("db", now);
        let end = loop {
            match lookup.received(&reply(&question, 3, None, 0), now).unwrap() {
                Step::Ask(_, next) => question = next,
                done => break done,
            }
        };
        assert_eq!(end, Step::Done(Outcome::Addresses(vec![]), AGAIN));
        let (mut lookup, _, _) = begin("db", now);
        let end = loop {
            match lookup.timed_out(now) {
                Step::Ask(..) => {}
                done => break done,
            }
        };
        assert!(matches!(&end, Step::Done(Outcome::Failed(why), _) if why.contains("no answer in time")), "{end:?}");
    }

    #[test]
    fn files_go_before_servers() {
        let now = Instant::now();
        let step = Lookup::begin("db", "10.0.0.9 db\n", CONF, 7, now).unwrap_err();
        assert_eq!(step, Step::Done(Outcome::Addresses(vec![[10, 0, 0, 9].into()]), AGAIN));
    }
}
