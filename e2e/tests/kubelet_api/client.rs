//! An agent in a cluster, and clients of its kubelet API that say exactly what a test wants.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use e2e::agent::Agent;
use e2e::apiserver::{ApiServer, Authority, Identity, User};
use e2e::{Node, deadline};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::Value;

/// kubelet's port.
pub const PORT: u16 = 10_250;

/// The name of the node.
pub const NODE: &str = "node-1";

/// What was answered.
#[derive(Clone, Debug)]
pub struct Answer {
    /// HTTP's status.
    pub code: u16,
    /// The head, in small letters.
    pub head: String,
    /// The body.
    pub body: String,
}

impl Answer {
    /// The body as an object.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// Somebody who asks.
pub struct Client {
    node: e2e::netns::Host,
    tls: Arc<ClientConfig>,
    headers: String,
}

impl Client {
    /// One that shows a certificate, or none, and knows the server by an authority.
    pub fn new(node: &Node, authority: &str, identity: Option<&Identity>) -> Self {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(authority.as_bytes()) {
            roots.add(certificate.unwrap()).unwrap();
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let builder = builder.with_root_certificates(roots);
        let tls = match identity {
            Some(Identity { certificate, key }) => {
                let chain = CertificateDer::pem_slice_iter(certificate.as_bytes()).collect::<Result<_, _>>().unwrap();
                let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
                builder.with_client_auth_cert(chain, key).unwrap()
            }
            None => builder.with_no_client_auth(),
        };
        Self { node: node.host().clone(), tls: Arc::new(tls), headers: String::new() }
    }

    /// Says something more with each request, such as `Authorization: Bearer token`.
    pub fn says(mut self, header: &str) -> Self {
        self.headers.push_str(&format!("{header}\r\n"));
        self
    }

    /// Asks for something.
    #[track_caller]
    pub fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, "")
    }

    /// Asks, and waits for the whole answer. A body is a form.
    #[track_caller]
    pub fn ask(&self, method: &str, path: &str, body: &str) -> Answer {
        let form = "Content-Type: application/x-www-form-urlencoded\r\n";
        let length = if body.is_empty() { String::new() } else { format!("{form}Content-Length: {}\r\n", body.len()) };
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: node\r\nConnection: close\r\n{}{length}\r\n{body}",
            self.headers
        );
        self.send(request.as_bytes()).unwrap_or_else(|error| panic!("{method} {path}: {error}"))
    }

    /// Sends bytes and reads until the server has said everything.
    pub fn send(&self, request: &[u8]) -> std::io::Result<Answer> {
        let address = SocketAddr::from(([127, 0, 0, 1], PORT));
        let stream = self.node.within(|| TcpStream::connect_timeout(&address, deadline()))?;
        stream.set_read_timeout(Some(deadline()))?;
        let name = ServerName::from(address.ip());
        let connection = ClientConnection::new(self.tls.clone(), name).map_err(std::io::Error::other)?;
        let mut stream = StreamOwned::new(connection, stream);
        // A server that refuses early may close before it has read everything: what it has said counts.
        let _ = stream.write_all(request);
        let _ = stream.flush();
        let mut text = Vec::new();
        if let Err(error) = stream.read_to_end(&mut text)
            && text.is_empty()
        {
            return Err(error);
        }
        let text = String::from_utf8_lossy(&text).into_owned();
        let (head, body) =
            text.split_once("\r\n\r\n").ok_or_else(|| std::io::Error::other(format!("no HTTP: {text:?}")))?;
        let code = head.split(' ').nth(1).and_then(|it| it.parse().ok()).unwrap_or(0);
        let head = head.to_lowercase();
        let body = if head.contains("transfer-encoding: chunked") { unchunked(body) } else { body.to_owned() };
        Ok(Answer { code, head, body })
    }
}

fn unchunked(mut body: &str) -> String {
    let mut whole = String::new();
    while let Some((size, rest)) = body.split_once("\r\n") {
        let size = usize::from_str_radix(size.trim(), 16).unwrap_or(0);
        let Some(chunk) = rest.get(..size).filter(|it| !it.is_empty()) else { break };
        whole.push_str(chunk);
        body = rest.get(size + 2..).unwrap_or_default();
    }
    whole
}

/// An agent that is a node of a cluster, and its API server.
pub struct Cluster<'n> {
    /// The API server.
    pub server: ApiServer,
    /// The agent.
    pub agent: Agent<'n>,
    node: &'n Node,
}

impl<'n> Cluster<'n> {
    /// Starts both. The agent shows a certificate of the API server's authority, which vouches for clients, too.
    pub fn start(node: &'n Node) -> Self {
        Self::start_with(node, &[])
    }

    /// Starts both, the agent with more arguments.
    pub fn start_with(node: &'n Node, args: &[&str]) -> Self {
        let server = ApiServer::start(node);
        let mut agent = Agent::prepare(node, serving(node, &server.authority()));
        agent.arg("--kubeconfig");
        agent.arg(server.kubeconfig_of_node(NODE));
        agent.arg(format!("--hostname-override={NODE}"));
        agent.arg("--node-ip=127.0.0.1");
        args.iter().for_each(|arg| agent.arg(*arg));
        agent.restart();
        agent.wait_for_words("kubelet's API is served");
        Self { server, agent, node }
    }

    /// A client that shows a user's certificate.
    pub fn client(&self, user: &User) -> Client {
        Client::new(self.node, self.server.authority().certificate(), Some(&self.server.identity(user)))
    }

    /// Who may do everything.
    pub fn admin(&self) -> Client {
        self.client(&User::admin())
    }

    /// A client that shows a certificate which another authority has signed.
    pub fn stranger(&self) -> Client {
        let identity = Authority::new().client(&User::admin());
        Client::new(self.node, self.server.authority().certificate(), Some(&identity))
    }

    /// A client that shows nothing.
    pub fn nobody(&self) -> Client {
        Client::new(self.node, self.server.authority().certificate(), None)
    }
}

/// What makes an agent serve kubelet's API to clients of an authority.
pub fn serving(node: &Node, authority: &Authority) -> Vec<String> {
    let dir = node.make_dir("kubelet-pki");
    let identity = authority.server(&[[127, 0, 0, 1].into()]);
    let file = |name: &str, text: &str| {
        let path = dir.join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let ca = file("ca.crt", authority.certificate());
    let (certificate, key) = (file("server.crt", &identity.certificate), file("server.key", &identity.key));
    let flags = [("--client-ca-file", ca), ("--tls-cert-file", certificate), ("--tls-private-key-file", key)];
    flags.into_iter().map(|(flag, value)| format!("{flag}={value}")).collect()
}
