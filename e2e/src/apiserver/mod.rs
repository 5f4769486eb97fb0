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
mod client;
mod controllers;
mod csr;
mod defaults;
mod delete;
mod elsewhere;
mod fault;
mod forward;
mod handles;
mod kinds;
mod patch;
mod pki;
mod read;
mod refusal;
mod requests;
mod reviews;
mod select;
mod serve;
mod shape;
mod store;
mod tokens;
mod verbs;
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
pub use self::client::{Client, Reply};
pub use self::controllers::Controllers;
pub use self::fault::{Fault, Which};
pub use self::pki::{Authority, Identity, write_kubeconfig};
pub use self::refusal::Refusal;
pub use self::requests::Seen;
pub use self::wire::Weather;

use self::asked::{Route, Target};
use self::fault::Faults;
use self::forward::Forward;
use self::store::Store;
use self::tokens::Token;
use self::wire::Sky;
use crate::Node;
use crate::netns::Host;

/// How often a watch is told how far it is. The real server does so about once a minute.
const BOOKMARKS: Duration = Duration::from_millis(500);

/// What is answered.
enum Answer {
    /// A body of JSON.
    Body(u16, Value),
    /// A body of text.
    Text(u16, String),
    /// Events, until a time is over.
    Watch(UnboundedReceiver<Value>, Option<Duration>),
    /// What a node says.
    Forward(Forward),
}

struct State {
    store: Store,
    grants: Vec<Grant>,
    tokens: Vec<Token>,
    requests: Vec<Seen>,
    faults: Faults,
    authority: Arc<Authority>,
    tls: Arc<ServerConfig>,
    /// Whether requests of nodes for client certificates are approved by themselves.
    approving: bool,
    /// How long certificates live at most that are signed on request.
    certificates_live: Duration,
    /// How many seconds tokens of service accounts live at most.
    tokens_live: Option<i64>,
}

impl State {
    /// A token that is believed.
    fn token(&self, text: &str) -> Option<&Token> {
        self.tokens.iter().find(|token| token.text == text && token.is_good(&self.store))
    }

    /// Who has a token.
    fn user_of_token(&self, text: &str) -> Option<User> {
        self.token(text).map(|token| token.user.clone())
    }

    fn answer(&mut self, asked: &Asked) -> Result<Answer, Refusal> {
        let route = asked::route(&asked.path)?;
        authorize::request(&self.store, &self.grants, asked, &route)?;
        match &route {
            Route::Unknown(..) => Err(Refusal::no_such_path()),
            Route::Elsewhere => elsewhere::answer(asked),
            Route::Review(_, kind) => reviews::answer(self, asked, kind).map(|body| Answer::Body(201, body)),
            Route::Objects(target) => self.objects(asked, target),
        }
    }

    fn objects(&mut self, asked: &Asked, target: &Target) -> Result<Answer, Refusal> {
        let store = &mut self.store;
        let verb = asked.verb(target);
        match (target.part.as_deref().unwrap_or_default(), verb) {
            ("binding", "create") => return verbs::bind(store, asked, target).map(|body| Answer::Body(201, body)),
            ("eviction", "create") => return verbs::evict(store, asked, target).map(|body| Answer::Body(201, body)),
            ("token", "create") => return self.issue(asked, target).map(|body| Answer::Body(201, body)),
            ("log" | "exec" | "attach" | "portforward" | "proxy", _) => {
                return forward::of(store, asked, target).map(Answer::Forward);
            }
            _ => {}
        }
        let body = match verb {
            "get" => read::get(store, target)?,
            "list" => read::list(store, asked, target)?,
            "watch" => return read::watch(store, asked, target),
            "create" if target.name.is_none() => write::create(store, asked, target)?,
            "update" if target.name.is_some() => write::update(store, asked, target)?,
            "patch" if target.name.is_some() => write::patched(store, asked, target)?,
            "delete" => {
                admission::delete(store, asked, target)?;
                delete::delete(store, asked, target)?
            }
            "deletecollection" => delete::collection(store, asked, target)?,
            _ => return Err(Refusal::method_not_allowed()),
        };
        if target.kind.kind == "CertificateSigningRequest" {
            csr::settle(self, target.kind, body["metadata"]["name"].as_str().unwrap_or_default());
        }
        Ok(Answer::Body(if verb == "create" { 201 } else { 200 }, body))
    }

    fn issue(&mut self, asked: &Asked, target: &Target) -> Result<Value, Refusal> {
        let (answer, token) = tokens::request(&self.store, asked, target, self.tokens_live)?;
        self.tokens.push(token);
        Ok(answer)
    }
}

struct Shared {
    state: Mutex<State>,
    sky: watch::Sender<Sky>,
    host: Host,
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
            authority: Arc::new(authority),
            tls,
            approving: true,
            certificates_live: Duration::from_secs(365 * 24 * 3600),
            tokens_live: None,
        };
        let sky = watch::Sender::new(Sky::default());
        let shared = Arc::new(Shared { state: Mutex::new(state), sky, host: host.clone() });
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = runtime.worker_threads(1).thread_name("apiserver").enable_all().build().expect("a runtime");
        let accepting = Mutex::new(None);
        let address = SocketAddr::new(address, 0);
        let mut server = Self { shared, address, dir, runtime: Some(runtime), accepting };
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
        let listener = self.shared.host.within(|| std::net::TcpListener::bind(address));
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
