//! Where targets are: names asked for without waiting, and asked again.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::time::Instant;

use super::super::config::Protocol;
use super::super::names::{Lookup, Outcome, Step};
use super::super::poller::{Key, Kind, Poller, Token};
use super::super::sockets;
use super::{Asking, Endpoint, MOST_ADDRESSES, Upstream, say};

impl Upstream {
    /// Begins what a new target needs: its addresses.
    pub(super) fn begin(&mut self, key: Key, poller: &mut Poller, now: Instant) {
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

    pub(super) fn look_up(&mut self, key: Key, poller: &mut Poller, now: Instant) {
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

    pub(super) fn step(&mut self, key: Key, mut step: Step, poller: &mut Poller, now: Instant) {
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
    pub(super) fn settle(&mut self, key: Key, step: Step, poller: &mut Poller, now: Instant) {
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
    pub(super) fn addresses(&mut self, key: Key, mut ips: Vec<IpAddr>, poller: &mut Poller, now: Instant) {
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
}

fn ask(server: SocketAddr, question: &[u8], token: Token, poller: &Poller) -> io::Result<OwnedFd> {
    // A socket of its own for each question: the kernel chooses a port that nobody can guess, and takes answers from
    // that server alone.
    let socket = sockets::connect(Protocol::Udp, server)?;
    rustix::net::send(&socket, question, rustix::net::SendFlags::NOSIGNAL)?;
    poller.add_readable(&socket, token)?;
    Ok(socket)
}
