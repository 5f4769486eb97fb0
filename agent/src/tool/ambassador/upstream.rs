//! The targets: their addresses, as names are looked up, and whether they are there, as checks and connections say.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use super::super::plain;
use super::balance::Known;
use super::config::{Check, Config, Place, Port, Protocol};
use super::health::{Health, Thresholds};
use super::names::{Lookup, Outcome, Step};
use super::poller::{Key, Kind, Poller, Ready, Slab, Token};
use super::sockets;

/// A name is not looked up again sooner, however many connections fail; nor is an address checked sooner.
const SOONEST: Duration = Duration::from_secs(1);

/// More addresses of one name than anybody has targets for.
const MOST_ADDRESSES: usize = 32;

/// What a check's answer is looked for in.
const ANSWER_BYTES: usize = 512;

/// What makes two targets one: where they are, and how they are checked.
type Identity = (Place, Option<Check>);

/// Every target of every port.
#[derive(Default)]
pub struct Upstream {
    targets: Slab<Target>,
    known: BTreeMap<Identity, Key>,
    lookups: Slab<Asking>,
    checks: Slab<Checking>,
    seed: u16,
}

/// One target.
pub struct Target {
    /// Where it is.
    pub place: Place,
    check: Option<Check>,
    /// What its name means now, or its address.
    pub endpoints: Vec<Endpoint>,
    /// Whether its name was looked up, with whatever outcome.
    settled: bool,
    lookup: Option<Key>,
    looked: Option<Instant>,
    look_at: Option<Instant>,
    check_at: Option<Instant>,
    /// Why its name could not be looked up last.
    trouble: Option<String>,
}

/// One address of a target.
pub struct Endpoint {
    /// The address.
    pub address: SocketAddr,
    health: Health,
    checking: Option<Key>,
    /// Connections made, connections not made, checks failed.
    pub connected: u64,
    /// Connections that it did not accept.
    pub refused: u64,
    /// Checks that failed.
    pub failed: u64,
}

/// A look-up under way, for one target.
struct Asking {
    target: Key,
    lookup: Lookup,
    socket: Option<OwnedFd>,
}

/// A check under way, of one address.
struct Checking {
    target: Key,
    address: SocketAddr,
    socket: OwnedFd,
    until: Instant,
    /// Bytes of the question that are still to be sent; none before the connection stands.
    question: Option<Vec<u8>>,
    answer: Vec<u8>,
}

/// An address to try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice {
    /// Whose it is.
    pub target: Key,
    /// The address.
    pub address: SocketAddr,
}

impl Upstream {
    /// Makes the targets those of a configuration; those that were there already keep what is known of them.
    pub fn set(&mut self, config: &Config, poller: &mut Poller, now: Instant) {
        let wanted: Vec<Identity> = config.ports.iter().flat_map(identities).collect();
        let gone: Vec<Identity> = self.known.keys().filter(|known| !wanted.contains(known)).cloned().collect();
        for identity in gone {
            if let Some(target) = self.known.remove(&identity).and_then(|key| self.targets.remove(key)) {
                target.lookup.map(|key| self.lookups.remove(key));
                target.endpoints.iter().filter_map(|it| it.checking).for_each(|key| drop(self.checks.remove(key)));
            }
        }
        for identity in wanted {
            if !self.known.contains_key(&identity) {
                let key = self.targets.add(Target::new(identity.clone()));
                self.known.insert(identity, key);
                self.begin(key, poller, now);
            }
        }
    }

    /// The targets of a port, in order.
    pub fn of(&self, port: &Port) -> Vec<Key> {
        identities(port).filter_map(|identity| self.known.get(&identity).copied()).collect()
    }

    /// One target.
    pub fn target(&self, key: Key) -> Option<&Target> {
        self.targets.get(key)
    }

    /// All targets.
    pub fn targets(&self) -> impl Iterator<Item = &Target> {
        self.targets.iter().map(|(_, target)| target)
    }

    /// Every address of these targets, and what is known of it.
    pub fn choices(&self, targets: &[Key], now: Instant) -> (Vec<Choice>, Vec<Known>) {
        let targets = targets.iter().filter_map(|key| Some((*key, self.targets.get(*key)?)));
        let all = targets.flat_map(|(key, target)| {
            let choice = move |endpoint: &Endpoint| Choice { target: key, address: endpoint.address };
            target.endpoints.iter().map(move |endpoint| (choice(endpoint), target.known(endpoint, now)))
        });
        all.unzip()
    }

    /// Whether some of these targets may get addresses yet.
    pub fn unsettled(&self, targets: &[Key]) -> bool {
        targets.iter().filter_map(|key| self.targets.get(*key)).any(|target| !target.settled)
    }

    /// A client's connection came about, or did not.
    pub fn tried(&mut self, choice: Choice, outcome: Result<(), &io::Error>, poller: &mut Poller, now: Instant) {
        let Some(target) = self.targets.get_mut(choice.target) else { return };
        let checked = target.check.is_some();
        let Some(endpoint) = target.endpoints.iter_mut().find(|it| it.address == choice.address) else { return };
        match outcome {
            Ok(()) => {
                endpoint.connected += 1;
                endpoint.health.connected();
            }
            Err(error) => {
                endpoint.refused += 1;
                let was_down = endpoint.health.is_down(now, checked);
                endpoint.health.refused(now, checked);
                if !was_down {
                    say(&format!("{} ({}) does not accept: {error}", target.place, choice.address));
                }
                // The name may mean another address by now.
                let soonest = target.looked.map_or(now, |looked| looked + SOONEST).max(now);
                if target.look_at.is_some_and(|at| at > soonest) {
                    target.look_at = Some(soonest);
                    poller.at(soonest, Token { kind: Kind::Target, key: choice.target });
                }
            }
        }
    }

    /// Begins what a new target needs: its addresses.
    fn begin(&mut self, key: Key, poller: &mut Poller, now: Instant) {
        let Some(target) = self.targets.get_mut(key) else { return };
        match target.place.host.parse::<IpAddr>() {
            Ok(ip) => {
                target.settled = true;
                self.addresses(key, vec![ip], poller, now);
            }
            Err(_) => self.look_up(key, poller, now),
        }
    }

    /// It is time for a target to be looked up or checked.
    pub fn time_of_target(&mut self, key: Key, poller: &mut Poller, now: Instant) {
        let Some(target) = self.targets.get_mut(key) else { return };
        if target.look_at.take_if(|at| *at <= now).is_some() {
            self.look_up(key, poller, now);
        }
        let Some(target) = self.targets.get_mut(key) else { return };
        if target.check_at.take_if(|at| *at <= now).is_some() {
            self.check(key, poller, now);
        }
    }

    fn look_up(&mut self, key: Key, poller: &mut Poller, now: Instant) {
        let Some(target) = self.targets.get_mut(key).filter(|target| target.lookup.is_none()) else { return };
        target.looked = Some(now);
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let (hosts, resolv_conf) = (read("/etc/hosts"), read("/etc/resolv.conf"));
        // Nobody can guess it: it is a hash with a random key.
        self.seed = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), self.seed) as u16;
        match Lookup::begin(&target.place.host, &hosts, &resolv_conf, self.seed, now) {
            Ok((lookup, step)) => {
                let asking = self.lookups.add(Asking { target: key, lookup, socket: None });
                target.lookup = Some(asking);
                self.step(asking, step, poller, now);
            }
            Err(step) => self.settle(key, step, poller, now),
        }
    }

    /// Something arrived for a look-up.
    pub fn look_up_ready(&mut self, key: Key, poller: &mut Poller, now: Instant) {
        let mut message = [0_u8; 4096];
        loop {
            let Some(asking) = self.lookups.get_mut(key) else { return };
            let Some(socket) = &asking.socket else { return };
            let step = match rustix::net::recv(socket, &mut message[..], rustix::net::RecvFlags::empty()) {
                Ok((_, length)) => asking.lookup.received(&message[..length.min(message.len())], now),
                Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => return,
                Err(error) => Some(asking.lookup.failed(io::Error::from(error).to_string(), now)),
            };
            if let Some(step) = step {
                self.step(key, step, poller, now);
                return;
            }
        }
    }

    /// A look-up may have waited for long enough.
    pub fn time_of_look_up(&mut self, key: Key, poller: &mut Poller, now: Instant) {
        let Some(asking) = self.lookups.get_mut(key).filter(|asking| asking.lookup.deadline() <= now) else { return };
        let step = asking.lookup.timed_out(now);
        self.step(key, step, poller, now);
    }

    fn step(&mut self, key: Key, mut step: Step, poller: &mut Poller, now: Instant) {
        let token = Token { kind: Kind::Lookup, key };
        loop {
            let Some(asking) = self.lookups.get_mut(key) else { return };
            asking.socket = None;
            match step {
                Step::Ask(server, question) => match ask(server, &question, token, poller) {
                    Ok(socket) => {
                        asking.socket = Some(socket);
                        poller.at(asking.lookup.deadline(), token);
                        return;
                    }
                    Err(error) => step = asking.lookup.failed(error.to_string(), now),
                },
                done @ Step::Done(..) => {
                    let target = asking.target;
                    self.lookups.remove(key);
                    self.settle(target, done, poller, now);
                    return;
                }
            }
        }
    }

    /// A look-up is over.
    fn settle(&mut self, key: Key, step: Step, poller: &mut Poller, now: Instant) {
        let Step::Done(outcome, again) = step else { return };
        let Some(target) = self.targets.get_mut(key) else { return };
        (target.lookup, target.settled, target.look_at) = (None, true, Some(now + again));
        poller.at(now + again, Token { kind: Kind::Target, key });
        match outcome {
            Outcome::Addresses(addresses) => {
                let nowhere = addresses.is_empty().then(|| "there is no such name".to_owned());
                target.tell(nowhere);
                self.addresses(key, addresses, poller, now);
            }
            // What was known stays: it is likelier to be right than nothing.
            Outcome::Failed(why) => target.tell(Some(why)),
        }
    }

    /// A target's addresses are these now. Connections to others go on.
    fn addresses(&mut self, key: Key, mut ips: Vec<IpAddr>, poller: &mut Poller, now: Instant) {
        let Some(target) = self.targets.get_mut(key) else { return };
        ips.truncate(MOST_ADDRESSES);
        let mut kept = Vec::with_capacity(ips.len());
        for address in ips.into_iter().map(|ip| SocketAddr::new(ip, target.place.port)) {
            if kept.iter().any(|it: &Endpoint| it.address == address) {
                continue;
            }
            match target.endpoints.iter().position(|it| it.address == address) {
                Some(at) => kept.push(target.endpoints.swap_remove(at)),
                None => {
                    if address.ip().to_string() != target.place.host {
                        say(&format!("{} is at {}", target.place, address.ip()));
                    }
                    kept.push(Endpoint::new(address));
                }
            }
        }
        let gone = std::mem::replace(&mut target.endpoints, kept);
        gone.iter().filter_map(|it| it.checking).for_each(|key| drop(self.checks.remove(key)));
        if target.endpoints.iter().any(|it| it.is_new()) {
            self.check(key, poller, now);
        }
    }

    /// Checks every address of a target that is not being checked, and sees to the next time.
    fn check(&mut self, key: Key, poller: &mut Poller, now: Instant) {
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

    fn endpoint(&mut self, target: Key, address: SocketAddr) -> Option<&mut Endpoint> {
        self.targets.get_mut(target)?.endpoints.iter_mut().find(|it| it.address == address)
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

    fn checked(&mut self, key: Key, outcome: Result<(), String>, now: Instant) {
        let Some(checking) = self.checks.remove(key) else { return };
        self.outcome(checking.target, checking.address, outcome, now);
    }

    fn outcome(&mut self, key: Key, address: SocketAddr, outcome: Result<(), String>, now: Instant) {
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

fn identities(port: &Port) -> impl Iterator<Item = Identity> + '_ {
    port.places.iter().map(|place| (place.clone(), port.check.clone()))
}

fn ask(server: SocketAddr, question: &[u8], token: Token, poller: &Poller) -> io::Result<OwnedFd> {
    // A socket of its own for each question: the kernel chooses a port that nobody can guess, and takes answers from
    // that server alone.
    let socket = sockets::connect(Protocol::Udp, server)?;
    rustix::net::send(&socket, question, rustix::net::SendFlags::NOSIGNAL)?;
    poller.add_readable(&socket, token)?;
    Ok(socket)
}

/// One line for people. That nobody reads it is no reason to end.
pub fn say(line: &str) {
    let _ = plain::print(format!("{line}\n").as_bytes());
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl Target {
    fn new((place, check): Identity) -> Self {
        Target {
            place,
            check,
            endpoints: Vec::new(),
            settled: false,
            lookup: None,
            looked: None,
            look_at: None,
            check_at: None,
            trouble: None,
        }
    }

    /// Says why its name has no addresses, once.
    fn tell(&mut self, trouble: Option<String>) {
        if let Some(why) = trouble.as_ref().filter(|_| self.trouble != trouble) {
            say(&format!("cannot resolve {}: {why}", self.place.host));
        }
        self.trouble = trouble;
    }

    fn known(&self, endpoint: &Endpoint, now: Instant) -> Known {
        let checked = self.check.is_some();
        if endpoint.health.is_up(now, checked) {
            Known::Up
        } else if endpoint.health.is_down(now, checked) {
            Known::Down
        } else {
            Known::Unknown
        }
    }

    /// Whether one of its addresses is there.
    pub fn is_up(&self, now: Instant) -> bool {
        self.endpoints.iter().any(|endpoint| self.known(endpoint, now) == Known::Up)
    }

    /// Whether this address of it is there.
    pub fn endpoint_is_up(&self, endpoint: &Endpoint, now: Instant) -> bool {
        self.known(endpoint, now) == Known::Up
    }
}

impl Endpoint {
    /// Whether nothing was found out about it.
    fn is_new(&self) -> bool {
        self.checking.is_none() && self.health == Health::default()
    }

    fn new(address: SocketAddr) -> Self {
        Endpoint { address, health: Health::default(), checking: None, connected: 0, refused: 0, failed: 0 }
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
