//! `ambassador`: relays ports to targets elsewhere. One thread, one loop; nothing in it waits but the loop itself.
//!
//! ```text
//!  config (file, variables, words) ──> ports ──accept──> tcp, udp ──choose──> upstream (names, health) ──> targets
//!                 └─ watch: read again when the file changes; what stays the same goes on
//! ```

mod balance;
mod classic;
mod config;
mod flow;
mod health;
mod metrics;
mod names;
mod poller;
mod ports;
mod proxy;
mod sockets;
mod status;
mod tcp;
mod udp;
mod upstream;
mod watch;

use std::ffi::OsString;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::time::Instant;

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use self::config::Config;
use self::metrics::Reloads;
use self::poller::{Kind, Poller, Ready, Token};
use self::ports::Ports;
use self::status::{Status, Tell};
use self::tcp::{Connections, Context};
use self::udp::Sessions;
use self::upstream::{Upstream, say};
use self::watch::Watch;
use super::{Failure, flag_value, signals};

/// Descriptors that are not for clients; and those that a client needs: two sockets, two pipes.
const OWN_DESCRIPTORS: u64 = 64;
const DESCRIPTORS_OF_A_CLIENT: u64 = 6;

/// `ambassador [--config FILE | HOST PORT]`
pub fn main(args: &[OsString]) -> Result<u8, Failure> {
    let mut poller = Poller::new().map_err(Failure::failed)?;
    let signals = block_signals()?;
    poller.add_readable(signals.as_fd(), Token::only(Kind::Signals)).map_err(Failure::failed)?;
    let (config, watch) = configuration(args, &mut poller)?;
    let mut relay = Relay::new(poller, signals, watch, config);
    let problems = relay.apply();
    if !problems.is_empty() {
        return Err(Failure::Failed(problems.join("; ")));
    }
    relay.run()
}

/// What the words, the file that they name, or the variables ask for.
fn configuration(args: &[OsString], poller: &mut Poller) -> Result<(Config, Option<Watch>), Failure> {
    let text = |word: &OsString| word.to_string_lossy().into_owned();
    let mut words = args.iter().cloned();
    let first = words.next();
    if let Some(value) = first.as_ref().and_then(|word| flag_value("--config", word, &mut words)) {
        let value = value?;
        if let Some(word) = words.next() {
            return Err(Failure::Usage(format!("unexpected {}", word.display())));
        }
        let path = Path::new(&value);
        let failed = |why: &dyn std::fmt::Display| Failure::Failed(format!("{}: {why}", path.display()));
        let (watch, held) = Watch::new(path, poller, Instant::now()).map_err(|error| failed(&error))?;
        let config = Config::read(&held).map_err(|why| failed(&why))?;
        return Ok((config, Some(watch)));
    }
    let ports = match args {
        [] => classic::ports(std::env::vars_os().map(|(name, value)| (text(&name), text(&value)))),
        [host, port] if !text(host).starts_with('-') => {
            classic::of_words(&text(host), &text(port)).map_err(Failure::Usage)?
        }
        [word, ..] => return Err(Failure::Usage(format!("unexpected {}", word.display()))),
    };
    if ports.is_empty() {
        let why = "no variable says what to relay, such as REDIS_PORT_6379_TCP=tcp://10.0.0.2:6379";
        return Err(Failure::Failed(why.to_owned()));
    }
    Ok((Config::classic(ports).map_err(Failure::Failed)?, None))
}

/// Signals come through a descriptor, even to process 1, which sees none that it has no handler for.
fn block_signals() -> Result<SignalFd, Failure> {
    let mut set = SigSet::empty();
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGCHLD] {
        set.add(signal);
    }
    set.thread_block().map_err(|error| Failure::Failed(format!("block signals: {error}")))?;
    SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
        .map_err(|error| Failure::Failed(format!("watch signals: {error}")))
}

/// As many descriptors as there may be.
fn descriptors() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let most = limit.maximum;
    if setrlimit(Resource::Nofile, Rlimit { current: most, maximum: most }).is_ok() {
        return most.unwrap_or(u64::MAX);
    }
    limit.current.unwrap_or(u64::MAX)
}

/// Everything.
struct Relay {
    poller: Poller,
    signals: SignalFd,
    watch: Option<Watch>,
    config: Config,
    upstream: Upstream,
    ports: Ports,
    connections: Connections,
    sessions: Sessions,
    status: Status,
    reloads: Reloads,
    descriptors: u64,
    /// Some port could not be listened on.
    incomplete: Option<Instant>,
    /// Until when connections may go on, once this process was told to end.
    draining: Option<Instant>,
}

/// What is told about this process.
struct Told<'a> {
    ports: &'a Ports,
    upstream: &'a Upstream,
    reloads: Reloads,
    ending: bool,
    now: Instant,
}

impl Tell for Told<'_> {
    fn is_ready(&self) -> bool {
        !self.ending && self.ports.are_ready(self.upstream, self.now)
    }

    fn metrics(&self) -> String {
        metrics::text(self.ports, self.upstream, self.reloads, self.now)
    }
}

impl Relay {
    fn new(poller: Poller, signals: SignalFd, watch: Option<Watch>, config: Config) -> Self {
        Relay {
            poller,
            signals,
            watch,
            config,
            upstream: Upstream::default(),
            ports: Ports::default(),
            connections: Connections::default(),
            sessions: Sessions::default(),
            status: Status::default(),
            reloads: Reloads::default(),
            descriptors: descriptors(),
            incomplete: None,
            draining: None,
        }
    }

    /// Brings everything to what is configured; what could not be.
    fn apply(&mut self) -> Vec<String> {
        let now = Instant::now();
        let room = self.descriptors.saturating_sub(OWN_DESCRIPTORS) / DESCRIPTORS_OF_A_CLIENT;
        let room = usize::try_from(room).unwrap_or(usize::MAX).max(1);
        if room < self.config.max_connections {
            say(&format!("the limit of open files allows {room} connections at a time"));
            self.config.max_connections = room;
        }
        self.upstream.set(&self.config, &mut self.poller, now);
        let mut problems = self.ports.set(&self.config, &self.upstream, &self.poller);
        if let Err(error) = self.status.listen(self.config.status_port, &self.poller) {
            let port = self.config.status_port.unwrap_or_default();
            problems.push(format!("cannot listen on TCP {port}: {error}"));
        }
        if !problems.is_empty() {
            self.incomplete = Some(now + ports::AGAIN);
            self.poller.at(now + ports::AGAIN, Token::only(Kind::StatusListener));
        }
        problems
    }

    fn run(&mut self) -> Result<u8, Failure> {
        let mut happened: Vec<Ready> = Vec::new();
        // What it took to begin is not needed again.
        runtime::memory::give_back();
        loop {
            self.poller
                .wait(self.connections.is_busy(), Instant::now(), &mut happened)
                .map_err(|error| Failure::Failed(format!("wait for events: {error}")))?;
            let now = Instant::now();
            for ready in &happened {
                if let Some(code) = self.ready(*ready, now) {
                    return Ok(code);
                }
            }
            while let Some(token) = self.poller.due(now) {
                self.time(token, now);
            }
            self.with(now, |connections, context| connections.go_on(context));
            if let Some(until) = self.draining
                && (self.connections.len() == 0 || until <= now)
            {
                return Ok(0);
            }
        }
    }

    /// The connections, with what they need.
    fn with<T>(&mut self, now: Instant, work: impl FnOnce(&mut Connections, &mut Context<'_>) -> T) -> T {
        let Relay { poller, config, upstream, ports, connections, .. } = self;
        work(connections, &mut Context { config, poller, ports, upstream, now })
    }

    /// The UDP clients, with what they need.
    fn with_sessions(&mut self, now: Instant, work: impl FnOnce(&mut Sessions, &mut Context<'_>)) {
        let Relay { poller, config, upstream, ports, sessions, .. } = self;
        work(sessions, &mut Context { config, poller, ports, upstream, now });
    }

    /// Something happened to a descriptor. The exit code, if that ends this process.
    fn ready(&mut self, ready: Ready, now: Instant) -> Option<u8> {
        let key = ready.token.key;
        match ready.token.kind {
            Kind::Signals => return self.signalled(now),
            Kind::Watch => self.reload(now),
            Kind::TcpListener => self.with(now, |connections, context| connections.accept(key, context)),
            Kind::Client | Kind::Server => self.with(now, |connections, context| connections.ready(ready, context)),
            Kind::UdpListener => self.with_sessions(now, |sessions, context| sessions.receive(key, context)),
            Kind::Session => self.with_sessions(now, |sessions, context| sessions.answer(key, context)),
            Kind::StatusListener => self.status.accept(&mut self.poller, now),
            Kind::Status => {
                let Relay { poller, ports, upstream, reloads, draining, status, .. } = self;
                let told = Told { ports, upstream, reloads: *reloads, ending: draining.is_some(), now };
                status.ready(ready, &told, poller);
            }
            Kind::Lookup => {
                self.upstream.look_up_ready(key, &mut self.poller, now);
                self.with(now, |connections, context| connections.look_again(context));
            }
            Kind::Check => self.upstream.check_ready(ready, now),
            Kind::Target => {}
        }
        None
    }

    /// A time has come.
    fn time(&mut self, token: Token, now: Instant) {
        let key = token.key;
        match token.kind {
            Kind::Watch => self.reload(now),
            Kind::TcpListener => self.with(now, |connections, context| connections.breathe(context)),
            Kind::Client => self.with(now, |connections, context| connections.time(key, context)),
            Kind::Session => self.with_sessions(now, |sessions, context| sessions.time(key, context)),
            Kind::Status => {
                self.status.time(key, &self.poller);
                self.status.accept(&mut self.poller, now);
            }
            Kind::Lookup => {
                self.upstream.time_of_look_up(key, &mut self.poller, now);
                self.with(now, |connections, context| connections.look_again(context));
            }
            Kind::Target => {
                self.upstream.time_of_target(key, &mut self.poller, now);
                self.with(now, |connections, context| connections.look_again(context));
            }
            Kind::Check => self.upstream.time_of_check(key, now),
            Kind::StatusListener if self.draining.is_none() => {
                if self.incomplete.take_if(|at| *at <= now).is_some() {
                    self.apply();
                }
            }
            Kind::StatusListener | Kind::Signals | Kind::Server | Kind::UdpListener => {}
        }
    }

    /// The configuration file changed: what is other is changed, what is not goes on.
    fn reload(&mut self, now: Instant) {
        let Some(held) = self.watch.as_mut().and_then(|watch| watch.changed(&mut self.poller, now)) else { return };
        if self.draining.is_some() {
            return;
        }
        match Config::read(&held) {
            Ok(config) => {
                self.config = config;
                self.reloads.good += 1;
                say("the configuration was read again");
                for problem in self.apply() {
                    say(&format!("{problem}; it is tried again"));
                }
                self.with(now, |connections, context| connections.breathe(context));
            }
            Err(why) => {
                self.reloads.bad += 1;
                say(&format!("the configuration is not good, and the last one stays: {why}"));
            }
        }
    }

    /// A signal came. The exit code, if it ends this process at once.
    fn signalled(&mut self, now: Instant) -> Option<u8> {
        while let Ok(Some(info)) = self.signals.read_signal() {
            let number = info.ssi_signo as i32;
            if number == Signal::SIGCHLD as i32 {
                signals::reap();
                continue;
            }
            if self.draining.is_some() || self.config.drain.is_zero() || self.connections.len() == 0 {
                return Some(128 + number as u8);
            }
            say(&format!("ending: {} connections may go on for {:?}", self.connections.len(), self.config.drain));
            self.ports.close();
            self.draining = Some(now + self.config.drain);
            self.poller.at(now + self.config.drain, Token::only(Kind::Signals));
        }
        None
    }
}
