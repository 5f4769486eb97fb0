//! The server: who asks, and who knows the answer.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use hickory_proto::op::ResponseCode;
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::sync::Notify;
use tokio::task::AbortHandle;

use super::cache::{self, Cache, Key};
use super::conf::Servers;
use super::flights::{Flights, Part};
use super::message::{self, Question, Refused, Reply};
use super::ready::Ready;
use super::source::Source;
use super::upstream::Upstream;
use super::zone::{Asker, Found};
use super::{connection, listen};
use crate::core::Core;
use crate::error::{During as _, Result};
use crate::network::healer;
use crate::sys::polled::polled;

/// Who holds it serves; in the network's directory.
const LOCK: &str = "names.lock";

/// The longest question over UDP: with all that may come along.
const LONGEST_QUESTION: usize = 4096;

/// After this time it is tried again to listen where somebody else does.
const AGAIN: Duration = Duration::from_secs(2);

/// After this time without changes addresses are given up that no pod has for a gateway any more.
const SETTLED: Duration = Duration::from_secs(3);

/// What answers.
pub struct Server {
    source: Mutex<Source>,
    upstream: Upstream,
    cache: Cache,
    flights: Flights,
    /// Where it listens.
    own: Mutex<BTreeSet<IpAddr>>,
    /// With which of several addresses the next answer begins.
    turn: AtomicUsize,
    /// The addresses to listen at have changed.
    moved: Notify,
    /// Who waits for it to listen.
    ready: Arc<Ready>,
}

/// What becomes of a message.
pub enum Decision {
    /// Nobody waits for an answer.
    Silence,
    /// It is answered.
    Now(Vec<u8>),
    /// Others have to be asked.
    Later(Box<Question>),
}

/// Starts the server's thread in the calling thread's network namespace. It lasts as long as the process, and serves when
/// no other process of this state directory does.
pub fn start(core: &Arc<Core>) -> Result<()> {
    let core = Arc::downgrade(core);
    let serve = move || {
        loop {
            match take_part(&core) {
                Ok(()) => return,
                Err(error) => tracing::error!(%error, "names of pods are not answered by this process; it tries again"),
            }
            let Some(ready) = core.upgrade().map(|it| Arc::clone(&it.network.names)) else { return };
            // Nobody waits for it, and whoever else can serves meanwhile.
            ready.elsewhere();
            std::thread::sleep(AGAIN);
        }
    };
    std::thread::Builder::new().name("names".into()).spawn(serve).map(drop).during(|| "start a thread".into())
}

/// Waits for its turn, and serves until the runtime has ended.
fn take_part(core: &Weak<Core>) -> Result<()> {
    let Some((path, ready)) = core.upgrade().map(|it| (it.network.dir.join(LOCK), Arc::clone(&it.network.names)))
    else {
        return Ok(());
    };
    let turn = healer::take_turn(&path, || ready.elsewhere()).during(|| format!("lock {}", path.display()))?;
    let Some(core) = core.upgrade() else { return Ok(()) };
    let server = server(&core)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.during(|| "start the name server".into())?;
    // It is no reason for the runtime to last.
    drop(core);
    let served = runtime.block_on(serve(Arc::new(server))).during(|| "serve names".into());
    // Its sockets are closed before another process opens its own.
    drop(runtime);
    drop(turn);
    served
}

fn server(core: &Arc<Core>) -> Result<Server> {
    let source = Source::open(core).during(|| "watch the records of pods".into())?;
    let upstream = Upstream::new(Servers::new(super::resolv_conf(core)));
    Ok(Server {
        source: Mutex::new(source),
        upstream,
        cache: Cache::default(),
        flights: Flights::default(),
        own: Mutex::default(),
        turn: AtomicUsize::new(0),
        moved: Notify::new(),
        ready: Arc::clone(&core.network.names),
    })
}

/// Listens wherever there are pods, until the runtime has ended.
async fn serve(server: Arc<Server>) -> io::Result<()> {
    let changes = polled(server.source().inotify().try_clone_to_owned()?, Interest::READABLE)?;
    let mut places = Places { server: Arc::clone(&server), open: HashMap::new(), complained: BTreeSet::new() };
    let mut fresh = false;
    loop {
        let (running, wanted) = {
            let mut source = server.source();
            let running = if fresh { source.zone().is_some() } else { source.notice().is_some() };
            (running, source.servers().clone())
        };
        if !running {
            return Ok(());
        }
        let failed = places.open_at(&wanted);
        let pause = if failed { AGAIN } else { SETTLED };
        tokio::select! {
            ready = changes.readable() => {
                ready?.clear_ready();
                fresh = false;
            }
            () = server.moved.notified() => fresh = false,
            // Once, and then no more until something happens.
            () = tokio::time::sleep(pause), if failed || !fresh => fresh = true,
        }
    }
}

/// The addresses that it listens at.
struct Places {
    server: Arc<Server>,
    open: HashMap<(IpAddr, Kind), AbortHandle>,
    complained: BTreeSet<(IpAddr, Kind)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Kind {
    Udp,
    Tcp,
}

impl Places {
    /// Listens at these addresses and no others. Whether some are to be tried again.
    fn open_at(&mut self, wanted: &BTreeSet<IpAddr>) -> bool {
        self.open.retain(|(address, _), task| {
            let stays = wanted.contains(address);
            if !stays {
                task.abort();
            }
            stays
        });
        self.complained.retain(|(address, _)| wanted.contains(address));
        wanted.clone_into(&mut self.server.own.lock().unwrap_or_else(PoisonError::into_inner));
        let mut failed = false;
        for place in wanted.iter().flat_map(|it| [(*it, Kind::Udp), (*it, Kind::Tcp)]) {
            if self.open.contains_key(&place) {
                continue;
            }
            match self.open_one(place) {
                Ok(task) => {
                    self.complained.remove(&place);
                    self.open.insert(place, task);
                }
                Err(error) => {
                    failed = true;
                    if self.complained.insert(place) {
                        let (address, kind) = place;
                        tracing::error!(
                            %error, %address, ?kind,
                            "names of pods are not answered here: if another name server has port 53 of all addresses, let it listen at its own alone"
                        );
                    }
                }
            }
        }
        self.server.ready.here(wanted);
        failed
    }

    fn open_one(&self, (address, kind): (IpAddr, Kind)) -> io::Result<AbortHandle> {
        let server = Arc::clone(&self.server);
        let task = match kind {
            Kind::Udp => tokio::spawn(datagrams(server, Arc::new(listen::udp(address)?), address)),
            Kind::Tcp => tokio::spawn(connection::accept(server, listen::tcp(address)?, address)),
        };
        Ok(task.abort_handle())
    }
}

/// Answers datagrams.
async fn datagrams(server: Arc<Server>, socket: Arc<UdpSocket>, local: IpAddr) {
    let mut buffer = vec![0; LONGEST_QUESTION];
    loop {
        // What the kernel says here is about an answer that did not arrive: the client's own affair.
        let Ok((length, from)) = socket.recv_from(&mut buffer).await else { continue };
        match server.decide(&buffer[..length], from.ip(), local, true) {
            Decision::Silence => {}
            // A full socket loses it, as the network may.
            Decision::Now(answer) => drop(socket.try_send_to(&answer, from)),
            Decision::Later(question) => {
                drop(tokio::spawn(later(Arc::clone(&server), Arc::clone(&socket), from, question)));
            }
        }
    }
}

async fn later(server: Arc<Server>, socket: Arc<UdpSocket>, from: SocketAddr, question: Box<Question>) {
    let reply = server.forward(&question, from.ip()).await;
    let _ = socket.send_to(&message::write(&question, &reply, question.udp_limit()), from).await;
}

impl Server {
    fn source(&self) -> MutexGuard<'_, Source> {
        self.source.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether somebody at this address is answered at that one.
    pub fn serves(&self, client: IpAddr, local: IpAddr) -> bool {
        if local.is_loopback() {
            return client.is_loopback();
        }
        self.source().zone().is_some_and(|it| it.pod_at(client).is_some())
    }

    /// What becomes of a message from `client`, which came to `local`.
    pub fn decide(&self, bytes: &[u8], client: IpAddr, local: IpAddr, udp: bool) -> Decision {
        let Some(zone) = self.zone() else { return Decision::Silence };
        let asker = match zone.pod_at(client) {
            Some(pod) if !local.is_loopback() => Asker::Pod(pod),
            None if local.is_loopback() && client.is_loopback() => Asker::Node,
            // Pods alone are served here, and an open server would be used against others.
            _ => return message::refusal(bytes).map_or(Decision::Silence, Decision::Now),
        };
        let question = match message::read(bytes) {
            Ok(question) => question,
            Err(Refused::Silently) => return Decision::Silence,
            Err(Refused::With(answer)) => return Decision::Now(answer),
        };
        match zone.lookup(&question, asker, self.turn.fetch_add(1, Ordering::Relaxed)) {
            Found::Here(reply) => {
                let limit = if udp { question.udp_limit() } else { message::LONGEST };
                Decision::Now(message::write(&question, &reply, limit))
            }
            Found::Elsewhere => Decision::Later(Box::new(question)),
        }
    }

    fn zone(&self) -> Option<Arc<super::zone::Zone>> {
        let mut source = self.source();
        let zone = source.zone();
        if source.has_moved() {
            self.moved.notify_one();
        }
        zone
    }

    /// What the host's name servers answer.
    pub async fn forward(&self, question: &Question, client: IpAddr) -> Reply {
        let failure = || Reply::of(ResponseCode::ServFail);
        let own = |it: IpAddr| self.own.lock().unwrap_or_else(PoisonError::into_inner).contains(&it);
        // Looked at first: what servers say that are replaced meanwhile is not kept.
        let mut generation = self.cache.generation();
        let (servers, changed) = self.upstream.servers(&own);
        if changed {
            generation = self.cache.clear();
        }
        let key = Key::of(question);
        if let Some(reply) = self.cache.get(&key, Instant::now()) {
            return reply;
        }
        let Some(_seat) = self.flights.board(client) else {
            tracing::debug!(%client, "a pod has too many questions open");
            return failure();
        };
        match self.flights.join(&key) {
            Part::Lead(lead) => {
                let reply = match self.upstream.ask(question, &servers).await {
                    Some((message, bytes)) => {
                        self.cache.put(generation, key, &bytes, &message, Instant::now());
                        cache::reply(message)
                    }
                    None => failure(),
                };
                lead.land(&reply);
                reply
            }
            // If who asked has given up nobody knows the answer.
            Part::Follow(mut landing) => match landing.wait_for(Option::is_some).await {
                Ok(reply) => reply.clone().unwrap_or_else(failure),
                Err(_) => failure(),
            },
        }
    }
}
