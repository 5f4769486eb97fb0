//! A registry that serves one image from memory and goes wrong where a test tells it to.

mod answer;
mod wire;

use std::collections::{BTreeMap, VecDeque};
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use super::{Content, listen};
use crate::{Node, deadline};

/// The repository that every hostile registry serves.
pub const REPOSITORY: &str = "e2e/image";

/// What a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    /// `/v2/`
    Base,
    /// What the tag stands for, by tag or by digest.
    Tagged,
    /// The manifest that an index names.
    Manifest,
    /// The image's configuration.
    Config,
    /// A layer.
    Layer(usize),
    /// The token endpoint.
    Token,
    /// Anything else.
    Other,
}

/// How an answer goes wrong.
#[derive(Clone, Debug)]
pub enum Fault {
    /// Silence after so many bytes, for as long as the client has patience.
    Stall(usize),
    /// The connection is closed after so many bytes.
    Truncate(usize),
    /// The connection is reset after so many bytes.
    Reset(usize),
    /// Bytes come slowly: so many, then a pause.
    Slow(usize, Duration),
    /// One bit of the body is another.
    Corrupt,
    /// An answer with this status and these headers.
    Status(u16, Vec<(&'static str, String)>),
    /// A redirection to the same path at this host.
    Redirect(String),
    /// All of it, whatever part was asked for.
    IgnoreRange,
    /// Another part than was asked for, by so many bytes.
    WrongRange(u64),
    /// `Content-Length` says so many bytes more than come.
    Longer(u64),
    /// `Content-Length` says so many bytes fewer than come.
    Shorter(u64),
    /// A body without end.
    Endless,
}

/// Who may pull.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Access {
    /// Everybody.
    #[default]
    Open,
    /// [`super::USER`], by basic authentication.
    Basic,
    /// Whoever has a token, which [`super::USER`] gets.
    Bearer,
    /// Whoever has a token, which everybody gets.
    AnonymousBearer,
    /// Whoever has a token, each of which is good for so many requests.
    ShortBearer(u32),
    /// Nobody.
    Nobody,
}

/// A request that came, and what became of it.
#[derive(Clone, Debug)]
pub struct Request {
    /// What it was for.
    pub target: Target,
    /// `GET`, `HEAD`.
    pub method: String,
    /// Path and query.
    pub path: String,
    /// The first byte that was asked for.
    pub from: Option<u64>,
    /// The `Authorization` header.
    pub authorization: Option<String>,
    /// Status of the answer.
    pub status: u16,
    /// Bytes of body that were sent.
    pub bytes: u64,
    /// When it came.
    pub at: Instant,
}

#[derive(Default)]
struct State {
    once: BTreeMap<Target, VecDeque<Fault>>,
    always: BTreeMap<Target, Fault>,
    access: Access,
    /// Tokens given out, and how often each was used.
    tokens: Vec<u32>,
    requests: Vec<Request>,
}

struct Shared {
    content: Content,
    address: SocketAddr,
    stopping: AtomicBool,
    state: Mutex<State>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }
}

/// The registry; it ends when dropped.
pub struct Hostile {
    shared: Arc<Shared>,
    listener: TcpListener,
    acceptor: Option<std::thread::JoinHandle<()>>,
}

impl Hostile {
    /// Serves `content` on 127.0.0.1.
    pub fn start(node: &Node, content: Content) -> Self {
        Self::start_on(node, "127.0.0.1", content)
    }

    /// Serves `content` on a loopback address.
    pub fn start_on(node: &Node, address: &str, content: Content) -> Self {
        let listener = listen(node, address);
        let address = listener.local_addr().expect("it is bound");
        let state = Mutex::new(State::default());
        let shared = Arc::new(Shared { content, address, stopping: AtomicBool::new(false), state });
        let served = Arc::clone(&shared);
        let closer = listener.try_clone().expect("a descriptor");
        let acceptor = std::thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                let served = Arc::clone(&served);
                std::thread::spawn(move || wire::converse(&served, stream));
            }
        });
        Self { shared, listener: closer, acceptor: Some(acceptor) }
    }

    /// `ADDRESS:PORT`
    pub fn host(&self) -> String {
        self.shared.address.to_string()
    }

    /// The image's reference here.
    pub fn reference(&self) -> String {
        format!("{}/{REPOSITORY}:1", self.host())
    }

    /// What is served.
    pub fn content(&self) -> &Content {
        &self.shared.content
    }

    /// Every answer for `target` goes wrong like this.
    pub fn always(&self, target: Target, fault: Fault) {
        self.shared.lock().always.insert(target, fault);
    }

    /// One more of the next answers for `target` goes wrong like this; only bodies count, no HEAD.
    pub fn once(&self, target: Target, fault: Fault) {
        self.shared.lock().once.entry(target).or_default().push_back(fault);
    }

    /// Nothing goes wrong any more. What stalls goes on stalling.
    pub fn heal(&self) {
        let mut state = self.shared.lock();
        state.once.clear();
        state.always.clear();
    }

    /// Who may pull from here on.
    pub fn require(&self, access: Access) {
        self.shared.lock().access = access;
    }

    /// The requests for `target` since the last [`Hostile::forget`].
    pub fn requests(&self, target: Target) -> Vec<Request> {
        self.shared.lock().requests.iter().filter(|request| request.target == target).cloned().collect()
    }

    /// All requests since then.
    pub fn all_requests(&self) -> Vec<Request> {
        self.shared.lock().requests.clone()
    }

    /// Bytes of body that were sent for `target` since then.
    pub fn served(&self, target: Target) -> u64 {
        self.requests(target).iter().map(|request| request.bytes).sum()
    }

    /// Waits until at least `bytes` were sent for `target`.
    #[track_caller]
    pub fn wait_for_served(&self, target: Target, bytes: u64) {
        let deadline = Instant::now() + deadline();
        while self.served(target) < bytes {
            assert!(Instant::now() < deadline, "never {bytes} bytes of {target:?}: {:#?}", self.all_requests());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits until there were so many requests for `target`.
    #[track_caller]
    pub fn wait_for_requests(&self, target: Target, count: usize) {
        let deadline = Instant::now() + deadline();
        while self.requests(target).len() < count {
            assert!(Instant::now() < deadline, "never {count} requests for {target:?}: {:#?}", self.all_requests());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Forgets the requests.
    pub fn forget(&self) {
        self.shared.lock().requests.clear();
    }
}

impl Drop for Hostile {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::Relaxed);
        // Wakes the acceptor with an error.
        let _ = rustix::net::shutdown(&self.listener, rustix::net::Shutdown::Both);
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
    }
}
