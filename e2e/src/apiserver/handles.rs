//! What a test does with the server: as administrators do, and as accidents do.

use std::path::{Path, PathBuf};
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::asked::{Asked, User};
use super::authorize::Grant;
use super::client::Client;
use super::fault::{Fault, Which};
use super::kinds::{self, KINDS, Kind};
use super::pki::{self, Authority, Identity};
use super::refusal::Refusal;
use super::requests::Seen;
use super::tokens::Token;
use super::wire::Weather;
use super::{Answer, ApiServer, Shared};
use crate::deadline;

/// How often a test looks again.
const TICK: Duration = Duration::from_millis(10);

/// The path of an object, or of a part of it: `NAME` or `NAMESPACE/NAME`, and perhaps `/PART`.
pub(super) fn path_of(kind: &Kind, which: &str) -> String {
    let base = if kind.group.is_empty() { "/api/v1".to_owned() } else { format!("/apis/{}/v1", kind.group) };
    match which.split_once('/').filter(|_| kind.namespaced) {
        Some((namespace, name)) => format!("{base}/namespaces/{namespace}/{}/{name}", kind.plural),
        None => format!("{base}/{}/{which}", kind.plural),
    }
}

/// A kind by its plural.
pub(super) fn kind(plural: &str) -> &'static Kind {
    KINDS.iter().find(|kind| kind.plural == plural).unwrap_or_else(|| panic!("{plural} are not served"))
}

impl Shared {
    /// Asks as somebody, past the network.
    pub(super) fn ask(&self, user: User, method: &str, url: &str, media: &str, body: Value) -> Result<Value, Refusal> {
        let (path, query) = url.split_once('?').unwrap_or((url, ""));
        let query = form_urlencoded::parse(query.as_bytes()).into_owned().collect();
        let (method, path, media) = (method.to_owned(), path.to_owned(), media.to_owned());
        match self.answer(&Asked { user, method, path, query, media, body })? {
            Answer::Body(_, body) => Ok(body),
            Answer::Text(_, text) => Ok(text.into()),
            Answer::Watch(..) | Answer::Forward(_) => panic!("a stream is for clients: {url}"),
        }
    }
}

/// Objects, as an administrator sees and writes them.
impl ApiServer {
    /// Asks as somebody, past the network; media type and body are for methods that have one.
    pub fn ask(&self, user: User, method: &str, url: &str, media: &str, body: Value) -> Result<Value, Refusal> {
        self.shared.ask(user, method, url, media, body)
    }

    #[track_caller]
    fn admin(&self, method: &str, url: &str, media: &str, body: Value) -> Value {
        self.ask(User::admin(), method, url, media, body)
            .unwrap_or_else(|refusal| panic!("{method} {url}: {:#}", refusal.status()))
    }

    /// Creates an object, in the namespace `default` if it says none.
    #[track_caller]
    pub fn create(&self, object: &Value) -> Value {
        let kind = kinds::of(object).unwrap_or_else(|| panic!("not a kind that is served: {object:#}"));
        let namespace = object["metadata"]["namespace"].as_str().unwrap_or("default");
        let which = if kind.namespaced { format!("{namespace}/") } else { String::new() };
        self.admin("POST", path_of(kind, &which).trim_end_matches('/'), "application/json", object.clone())
    }

    /// An object, if it is there; `which` is `NAME` or `NAMESPACE/NAME`.
    pub fn get(&self, plural: &str, which: &str) -> Option<Value> {
        let (namespace, name) = which.split_once('/').unwrap_or(("", which));
        self.state().store.get(kind(plural), namespace, name).map(|object| Value::clone(&object))
    }

    /// All objects of a kind.
    pub fn list(&self, plural: &str) -> Vec<Value> {
        let found = self.state().store.list(kind(plural), None, &super::select::Selector::default());
        found.iter().map(|object| Value::clone(object)).collect()
    }

    /// Changes an object by a merge patch; `which` may end in `/status` or another part.
    #[track_caller]
    pub fn merge(&self, plural: &str, which: &str, patch: Value) -> Value {
        self.admin("PATCH", &path_of(kind(plural), which), "application/merge-patch+json", patch)
    }

    /// Replaces an object, or a part of it: `which` may end in `/status`.
    #[track_caller]
    pub fn update(&self, plural: &str, which: &str, object: Value) -> Value {
        self.admin("PUT", &path_of(kind(plural), which), "application/json", object)
    }

    /// Deletes an object, as `kubectl delete` does.
    #[track_caller]
    pub fn delete(&self, plural: &str, which: &str) {
        self.admin("DELETE", &path_of(kind(plural), which), "", Value::Null);
    }

    /// Deletes an object with so many seconds of grace.
    #[track_caller]
    pub fn delete_within(&self, plural: &str, which: &str, seconds: i64) {
        let options = json!({"apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": seconds});
        self.admin("DELETE", &path_of(kind(plural), which), "application/json", options);
    }

    /// Creates the claim `default/NAME`, bound to a volume of that name: a directory of the nodes that `terms` mean.
    #[track_caller]
    pub fn bind_claim(&self, name: &str, directory: &Path, terms: Value) {
        let (modes, amount) = (json!(["ReadWriteOnce"]), json!({"storage": "1Mi"}));
        let metadata = json!({"name": name, "namespace": "default"});
        let spec = json!({"accessModes": modes, "resources": {"requests": amount}, "volumeName": name,
            "storageClassName": "local"});
        let kind = "PersistentVolumeClaim";
        let claim = self.create(&json!({"apiVersion": "v1", "kind": kind, "metadata": metadata, "spec": spec}));
        let back = json!({"namespace": "default", "name": name, "uid": claim["metadata"]["uid"]});
        let spec = json!({"accessModes": modes, "capacity": amount, "local": {"path": directory}, "claimRef": back,
            "storageClassName": "local", "nodeAffinity": {"required": {"nodeSelectorTerms": terms}}});
        let metadata = json!({"name": name});
        self.create(&json!({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": metadata, "spec": spec}));
        let status = json!({"status": {"phase": "Bound"}});
        self.merge("persistentvolumeclaims", &format!("default/{name}/status"), status);
    }

    /// Waits until an object satisfies `done`, and returns it.
    #[track_caller]
    pub fn wait_for(&self, plural: &str, which: &str, what: &str, done: impl Fn(&Value) -> bool) -> Value {
        let end = Instant::now() + deadline();
        loop {
            match self.get(plural, which) {
                Some(object) if done(&object) => return object,
                there if Instant::now() > end => {
                    panic!("{plural} {which} is never {what}: {there:#?}\n{}", self.told())
                }
                _ => std::thread::sleep(TICK),
            }
        }
    }

    /// Waits until there is no such object.
    #[track_caller]
    pub fn wait_until_gone(&self, plural: &str, which: &str) {
        let end = Instant::now() + deadline();
        while let Some(there) = self.get(plural, which) {
            assert!(Instant::now() < end, "{plural} {which} stays: {there:#}\n{}", self.told());
            std::thread::sleep(TICK);
        }
    }
}

/// Requests, as they came.
impl ApiServer {
    /// The requests since the last [`ApiServer::forget`]; those of handles are not among them.
    pub fn requests(&self) -> Vec<Seen> {
        self.state().requests.clone()
    }

    /// Forgets the requests, but for those that tell of something that is not implemented.
    pub fn forget(&self) {
        self.state().requests.retain(|it| it.status == 501);
    }

    /// Waits until a request has been answered that satisfies `is`, and returns it.
    #[track_caller]
    pub fn wait_for_request(&self, what: &str, is: impl Fn(&Seen) -> bool) -> Seen {
        let end = Instant::now() + deadline();
        loop {
            if let Some(seen) = self.requests().into_iter().find(|it| it.status != 0 && is(it)) {
                return seen;
            }
            assert!(Instant::now() < end, "never {what}:\n{}", self.told());
            std::thread::sleep(TICK);
        }
    }

    /// All requests, for messages.
    pub fn told(&self) -> String {
        let lines: Vec<String> = self.requests().iter().map(|it| format!("  {it}\n")).collect();
        let skipped = lines.len().saturating_sub(200);
        format!("requests ({skipped} before these):\n{}", lines[skipped..].concat())
    }

    /// How many watches of a kind are open.
    pub fn watches(&self, plural: &str) -> usize {
        self.state().store.watches(kind(plural))
    }
}

/// Accidents.
impl ApiServer {
    /// The next so many requests of these go wrong.
    pub fn fail(&self, which: Which, fault: Fault, times: usize) {
        self.state().faults.add(which, fault, Some(times));
    }

    /// Every one of these requests goes wrong, until [`ApiServer::heal`].
    pub fn fail_always(&self, which: Which, fault: Fault) {
        self.state().faults.add(which, fault, None);
    }

    /// No request goes wrong any more. What was never answered stays so.
    pub fn heal(&self) {
        self.state().faults.clear();
    }

    /// How the network is from now on.
    pub fn weather(&self, weather: Weather) {
        self.shared.sky.send_modify(|sky| sky.weather = weather);
    }

    /// Resets every connection.
    pub fn reset_connections(&self) {
        self.shared.sky.send_modify(|sky| sky.torn += 1);
    }

    /// Ends every watch, as the real server does after some minutes.
    pub fn end_watches(&self) {
        self.state().store.end_watches();
    }

    /// Forgets what was: a watch that begins at an older resourceVersion gets 410.
    pub fn compact(&self) {
        self.state().store.compact();
    }

    /// The server is gone: connections are reset, and new ones refused.
    pub fn stop(&self) {
        let task = self.accepting.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(task) = task {
            task.abort();
            // Its end closes the socket: after it nobody can connect.
            let _ = self.runtime().block_on(task);
        }
        self.state().store.end_watches();
        self.reset_connections();
    }

    /// The server is back, at the same address, with what it knew.
    pub fn come_back(&self) {
        self.listen();
    }

    /// Another storage takes the place of this one, with nothing in it: new uids, and resourceVersions from the beginning.
    pub fn empty(&self) {
        self.state().store.empty();
        self.furnish();
    }

    /// Shows another certificate of the same authority from now on.
    pub fn renew_certificate(&self) {
        let authority = self.authority();
        let tls = pki::server_config(&authority.server(&[self.address.ip()]), authority.certificate());
        self.state().tls = tls;
    }

    /// Another authority signs from now on what the server shows, and what it believes of clients.
    pub fn replace_authority(&self) {
        self.state().authority = Authority::new().into();
        self.renew_certificate();
    }
}

/// Clients.
impl ApiServer {
    /// `https://ADDRESS:PORT`
    pub fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    /// Who signs the certificates.
    pub fn authority(&self) -> std::sync::Arc<Authority> {
        self.state().authority.clone()
    }

    /// A certificate of a user.
    pub fn identity(&self, user: &User) -> Identity {
        self.authority().client(user)
    }

    /// A client that asks as a user, or as nobody.
    pub fn client(&self, user: Option<&User>) -> Client {
        let identity = user.map(|user| self.identity(user));
        Client::new(&self.shared.host, self.address, self.authority().certificate(), identity.as_ref())
    }

    /// Writes a kubeconfig of a node, for `coracle agent --kubeconfig`.
    pub fn kubeconfig_of_node(&self, node: &str) -> PathBuf {
        self.kubeconfig(&format!("node-{node}"), self.identity(&User::node(node)).as_user())
    }

    /// Writes a kubeconfig of an administrator, for kubectl.
    pub fn kubeconfig_of_admin(&self) -> PathBuf {
        self.kubeconfig("admin", self.identity(&User::admin()).as_user())
    }

    /// Writes a kubeconfig of whoever has a token: see [`ApiServer::token`].
    pub fn kubeconfig_of_token(&self, token: &str) -> PathBuf {
        self.kubeconfig("token", json!({"token": token}))
    }

    fn kubeconfig(&self, name: &str, user: Value) -> PathBuf {
        let path = self.dir.join(format!("{name}.kubeconfig"));
        pki::write_kubeconfig(&path, &self.url(), self.authority().certificate(), user);
        path
    }

    /// Writes the authority's certificate to a file, for `--client-ca-file`.
    pub fn authority_file(&self) -> PathBuf {
        let path = self.dir.join("ca.crt");
        std::fs::write(&path, self.authority().certificate()).expect("the directory is the test's");
        path
    }

    /// Whoever says this token is that user from now on.
    pub fn token(&self, token: &str, user: User) {
        let token = Token { text: token.to_owned(), user, audiences: Vec::new(), expires: None, pod: None };
        self.state().tokens.push(token);
    }

    /// Writes a kubeconfig for `coracle agent --bootstrap-kubeconfig`: of a token that may ask for certificates.
    pub fn bootstrap_kubeconfig(&self) -> PathBuf {
        let token = "07401b.f395accd246ae52d";
        let groups = ["system:bootstrappers", "system:bootstrappers:nodes", "system:authenticated"];
        self.token(token, User::new("system:bootstrap:07401b", &groups));
        let verbs = ["create", "get", "list", "watch"];
        self.grant(Grant::new("system:bootstrappers:nodes", &verbs, &["certificatesigningrequests"]));
        self.kubeconfig("bootstrap", json!({"token": token}))
    }

    /// Whether requests of nodes for client certificates are approved by themselves, as they are at first.
    pub fn approve_clients(&self, approving: bool) {
        self.state().approving = approving;
    }

    /// Approves a request for a certificate, as `kubectl certificate approve` does; then it is signed.
    #[track_caller]
    pub fn approve(&self, name: &str) {
        let mut request = self.get("certificatesigningrequests", name).unwrap_or_else(|| panic!("no request {name}"));
        request["status"]["conditions"] = json!([{
            "type": "Approved", "status": "True", "reason": "E2e", "message": "a test approves it",
            "lastUpdateTime": super::write::now(),
        }]);
        self.update("certificatesigningrequests", &format!("{name}/approval"), request);
    }

    /// How long certificates live at most that are signed from now on.
    pub fn certificates_live(&self, life: Duration) {
        self.state().certificates_live = life;
    }

    /// How many seconds tokens of service accounts live at most that are given out from now on.
    pub fn tokens_live(&self, seconds: i64) {
        self.state().tokens_live = Some(seconds);
    }

    /// Binds a pod to a node, as a scheduler does.
    #[track_caller]
    pub fn bind(&self, pod: &str, node: &str) {
        let target = json!({"apiVersion": "v1", "kind": "Node", "name": node});
        let binding = json!({"apiVersion": "v1", "kind": "Binding", "target": target});
        self.admin("POST", &path_of(kind("pods"), &format!("{pod}/binding")), "application/json", binding);
    }

    /// Allows something.
    pub fn grant(&self, grant: Grant) {
        self.state().grants.push(grant);
    }
}
