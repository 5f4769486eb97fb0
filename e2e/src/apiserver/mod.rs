//! An API server for tests: small, in the test's own process, and as the real one in what it says.
//!
//! It serves what an agent asks and what kubectl needs for the tests. `e2e/recordings` holds what the real one said to the
//! same requests; a test compares. What it does not implement it answers with 501, and the test that meets that fails.
//!
//! ```no_run
//! use e2e::apiserver::ApiServer;
//! use e2e::{Node, need};
//! use serde_json::json;
//!
//! let node = Node::with_busybox().expect("root");
//! let server = ApiServer::start(&node);
//! let kubeconfig = server.kubeconfig_of_node("node-1");
//! // … start an agent with `--kubeconfig`, then:
//! server.create(&json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web", "namespace": "default"},
//!     "spec": {"nodeName": "node-1", "containers": [{"name": "c", "image": "busybox"}]}}));
//! server.wait_for("pods", "default/web", "running", |pod| pod["status"]["phase"] == "Running");
//! ```

mod admission;
mod asked;
mod authorize;
mod delete;
mod elsewhere;
mod fault;
mod handles;
mod kinds;
mod patch;
mod pki;
mod read;
mod refusal;
mod requests;
mod select;
mod serve;
mod shape;
mod store;
mod wire;
mod write;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustls::ServerConfig;
use serde_json::{Value, json};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::watch;
use tokio::task::JoinHandle;

pub use self::asked::{Asked, User};
pub use self::authorize::Grant;
pub use self::fault::{Fault, Which};
pub use self::pki::{Authority, Identity};
pub use self::refusal::Refusal;
pub use self::requests::Seen;
pub use self::wire::Weather;

use self::asked::{Route, Target};
use self::fault::Faults;
use self::store::Store;
use self::wire::Sky;
use crate::Node;
use crate::netns::Host;

/// How often a watch is told how far it is. The real server does so about once a minute.
const BOOKMARKS: Duration = Duration::from_millis(500);

/// What is answered.
pub(self) enum Answer {
    /// A body of JSON.
    Body(u16, Value),
    /// A body of text.
    Text(u16, String),
    /// Events, until a time is over.
    Watch(UnboundedReceiver<Value>, Option<Duration>),
}

struct State {
    store: Store,
    grants: Vec<Grant>,
    tokens: Vec<(String, User)>,
    requests: Vec<Seen>,
    faults: Faults,
    tls: Arc<ServerConfig>,
}

impl State {
    /// Who has a token.
    fn user_of_token(&self, token: &str) -> Option<User> {
        self.tokens.iter().find(|(it, _)| it == token).map(|(_, user)| user.clone())
    }

    fn answer(&mut self, asked: &Asked) -> Result<Answer, Refusal> {
        let route = asked::route(&asked.path)?;
        authorize::request(&self.store, &self.grants, asked, &route)?;
        match &route {
            Route::Elsewhere => elsewhere::answer(asked),
            Route::Review(_, kind) => Err(Refusal::not_implemented(kind)),
            Route::Objects(target) => self.objects(asked, target),
        }
    }

    fn objects(&mut self, asked: &Asked, target: &Target) -> Result<Answer, Refusal> {
        let store = &mut self.store;
        if let Some(part) = target.part.as_deref().filter(|it| !matches!(*it, "status" | "finalize" | "resize" | "ephemeralcontainers" | "approval")) {
            return Err(Refusal::not_implemented(format!("{}/{part}", target.kind.plural)));
        }
        let body = match asked.verb(target) {
            "get" => read::get(store, target)?,
            "list" => read::list(store, asked, target)?,
            "watch" => return read::watch(store, asked, target),
            "create" if target.name.is_none() => return write::create(store, asked, target).map(|it| Answer::Body(201, it)),
            "update" if target.name.is_some() => write::update(store, asked, target)?,
            "patch" if target.name.is_some() => write::patched(store, asked, target)?,
            "delete" => {
                admission::delete(store, asked, target)?;
                delete::delete(store, asked, target)?
            }
            "deletecollection" => delete::collection(store, asked, target)?,
            _ => return Err(Refusal::method_not_allowed()),
        };
        Ok(Answer::Body(200, body))
    }
}

struct Shared {
    state: Mutex<State>,
    sky: watch::Sender<Sky>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answer(&self, asked: &Asked) -> Result<Answer, Refusal> {
        self.lock().answer(asked)
    }
}

/// The server; it ends when dropped, and fails the test if it was asked for something that it does not implement.
pub struct ApiServer {
    shared: Arc<Shared>,
    authority: Mutex<Arc<Authority>>,
    host: Host,
    address: SocketAddr,
    dir: PathBuf,
    runtime: Option<tokio::runtime::Runtime>,
    accepting: Mutex<Option<JoinHandle<()>>>,
}

impl ApiServer {
    /// Serves on the node's loopback.
    pub fn start(node: &Node) -> Self {
        Self::start_at(node, node.host(), Ipv4Addr::LOCALHOST.into())
    }

    /// Serves on an address of a host; files for clients come into the node's directory.
    pub fn start_at(node: &Node, host: &Host, address: IpAddr) -> Self {
        let dir = node.make_dir("apiserver");
        let authority = Authority::new();
        let identity = authority.server(&[address]);
        let tls = pki::server_config(&identity, authority.certificate());
        let state = State {
            store: Store::default(),
            grants: Vec::new(),
            tokens: Vec::new(),
            requests: Vec::new(),
            faults: Faults::default(),
            tls,
        };
        let shared = Arc::new(Shared { state: Mutex::new(state), sky: watch::Sender::new(Sky::default()) });
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = runtime.worker_threads(1).thread_name("apiserver").enable_all().build().expect("a runtime");
        let authority = Mutex::new(Arc::new(authority));
        let accepting = Mutex::new(None);
        let address = SocketAddr::new(address, 0);
        let host = host.clone();
        let mut server = Self { shared, authority, host, address, dir, runtime: Some(runtime), accepting };
        server.address = server.listen();
        server.begin();
        server
    }

    /// What is there before anybody comes, and the bookmarks of watches.
    fn begin(&self) {
        self.furnish();
        let shared = Arc::downgrade(&self.shared);
        self.runtime().spawn(async move {
            loop {
                tokio::time::sleep(BOOKMARKS).await;
                let Some(shared) = shared.upgrade() else { return };
                shared.lock().store.bookmark();
            }
        });
    }

    /// Creates the namespaces that every cluster has.
    fn furnish(&self) {
        for name in ["default", "kube-system", "kube-public", "kube-node-lease"] {
            self.create(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}));
        }
    }

    /// Begins to accept connections; the address.
    fn listen(&self) -> SocketAddr {
        let address = self.address;
        let listener = self.host.within(|| std::net::TcpListener::bind(address));
        let listener = listener.unwrap_or_else(|error| panic!("cannot listen on {address}: {error}"));
        listener.set_nonblocking(true).expect("a socket");
        let address = listener.local_addr().expect("it is bound");
        let _guard = self.runtime().enter();
        let listener = tokio::net::TcpListener::from_std(listener).expect("a runtime");
        let task = tokio::spawn(serve::accept(Arc::clone(&self.shared), listener));
        *self.accepting.lock().unwrap_or_else(PoisonError::into_inner) = Some(task);
        address
    }

    fn runtime(&self) -> &tokio::runtime::Runtime {
        self.runtime.as_ref().unwrap_or_else(|| unreachable!("it goes when the server goes"))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.lock()
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        let missing: Vec<String> =
            self.state().requests.iter().filter(|it| it.status == 501).map(Seen::to_string).collect();
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
        if !missing.is_empty() && !std::thread::panicking() {
            panic!("the test server does not implement what it was asked:\n{}", missing.join("\n"));
        }
    }
}
