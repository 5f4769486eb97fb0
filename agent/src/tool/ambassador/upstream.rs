//! The targets: their addresses, as names are looked up, and whether they are there, as checks and connections say.

mod check;
mod look_up;

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use super::super::plain;
use super::balance::Known;
use super::config::{Check, Config, Place, Port};
use super::health::Health;
use super::names::Lookup;
use super::poller::{Key, Kind, Poller, Slab, Token};

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

    fn endpoint(&mut self, target: Key, address: SocketAddr) -> Option<&mut Endpoint> {
        self.targets.get_mut(target)?.endpoints.iter_mut().find(|it| it.address == address)
    }
}

fn identities(port: &Port) -> impl Iterator<Item = Identity> + '_ {
    port.places.iter().map(|place| (place.clone(), port.check.clone()))
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
