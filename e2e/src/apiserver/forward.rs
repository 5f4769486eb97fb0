//! What only the node of a pod can answer: logs, sessions, and whatever is asked of the node itself. It is asked by its
//! kubelet API, as the real server asks it, but that sessions are passed on in the protocol that the client speaks.

use std::net::SocketAddr;
use std::sync::Arc;

use http::{HeaderMap, Request, Response, StatusCode, header};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, SignatureScheme};
use serde_json::Value;

use super::asked::{Asked, Target, User};
use super::refusal::Refusal;
use super::serve::Lost;
use super::store::Store;
use super::{Shared, kinds, pki, read};

/// What is asked of which node.
#[derive(Debug)]
pub struct Forward {
    /// Where its kubelet API listens.
    pub address: SocketAddr,
    /// Path and query there.
    pub url: String,
}

/// What a request for a part of a pod, or of a node, is to its node.
pub fn of(store: &Store, asked: &Asked, target: &Target) -> Result<Forward, Refusal> {
    let part = target.part.as_deref().unwrap_or_default();
    if target.kind.kind == "Node" {
        let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(&asked.query).finish();
        let url = format!("/{}?{query}", target.rest.join("/"));
        return Ok(Forward { address: address_of(store, target.name.as_deref().unwrap_or_default())?, url });
    }
    let pod = read::get(store, target)?;
    let name = target.name.as_deref().unwrap_or_default();
    let node = pod["spec"]["nodeName"].as_str().unwrap_or_default();
    if node.is_empty() {
        return Err(Refusal::bad_request(format!("pod {name} does not have a host assigned")));
    }
    let place = format!("{}/{name}", target.namespace.as_deref().unwrap_or_default());
    let mut query = form_urlencoded::Serializer::new(String::new());
    for (key, value) in &asked.query {
        let (key, value) = match (part, key.as_str()) {
            (_, "container") => continue,
            ("exec" | "attach", "stdin") => ("input", "1"),
            ("exec" | "attach", "stdout") => ("output", "1"),
            ("exec" | "attach", "stderr") => ("error", "1"),
            ("exec" | "attach", "tty") => ("tty", "1"),
            (_, key) => (key, value.as_str()),
        };
        if matches!(key, "input" | "output" | "error" | "tty") && !asked.says(&key_of(key)) {
            continue;
        }
        query.append_pair(key, value);
    }
    let query = query.finish();
    let url = match part {
        "log" => format!("/containerLogs/{place}/{}?{query}", container(asked, &pod, name)?),
        "exec" | "attach" => format!("/{part}/{place}/{}?{query}", container(asked, &pod, name)?),
        "portforward" => format!("/portForward/{place}?{query}"),
        other => return Err(Refusal::not_implemented(format!("pods/{other}"))),
    };
    Ok(Forward { address: address_of(store, node)?, url })
}

/// The name that the server's clients have for one of the kubelet API's.
fn key_of(key: &str) -> String {
    match key {
        "input" => "stdin",
        "output" => "stdout",
        "error" => "stderr",
        other => other,
    }
    .to_owned()
}

/// The container that is meant: the only one, unless one is named.
fn container(asked: &Asked, pod: &Value, name: &str) -> Result<String, Refusal> {
    let names = |list: &str| -> Vec<String> {
        let all = pod["spec"][list].as_array().into_iter().flatten();
        all.filter_map(|it| it["name"].as_str()).map(str::to_owned).collect()
    };
    let (containers, inits, later) = (names("containers"), names("initContainers"), names("ephemeralContainers"));
    match asked.query("container").filter(|it| !it.is_empty()) {
        Some(wanted) if [&containers, &inits, &later].iter().any(|all| all.iter().any(|it| it == wanted)) => {
            Ok(wanted.to_owned())
        }
        Some(wanted) => Err(Refusal::bad_request(format!("container {wanted} is not valid for pod {name}"))),
        None if containers.len() == 1 => Ok(containers.concat()),
        None => {
            let all = containers.join(" ");
            let message = format!("a container name must be specified for pod {name}, choose one of: [{all}]");
            Err(Refusal::bad_request(message))
        }
    }
}

/// Where the kubelet API of a node listens.
fn address_of(store: &Store, name: &str) -> Result<SocketAddr, Refusal> {
    let node = kinds::find("", "v1", "nodes").and_then(|kind| store.get(kind, "", name));
    let node = node.ok_or_else(|| Refusal::bad_gateway(format!("node {name:?} not found")))?;
    let addresses = node["status"]["addresses"].as_array().into_iter().flatten();
    let internal =
        addresses.filter(|it| it["type"] == "InternalIP").find_map(|it| it["address"].as_str()?.parse().ok());
    let ip = internal
        .ok_or_else(|| Refusal::bad_gateway(format!("no preferred addresses found; known addresses: [] of {name}")))?;
    let port = node["status"]["daemonEndpoints"]["kubeletEndpoint"]["Port"].as_u64().unwrap_or(10250);
    Ok(SocketAddr::new(ip, u16::try_from(port).unwrap_or(10250)))
}

/// Asks a node, and passes on what it says.
pub(super) async fn pass(
    shared: &Arc<Shared>,
    forward: Forward,
    method: http::Method,
    headers: HeaderMap,
    body: Bytes,
    upgrade: Option<OnUpgrade>,
) -> Result<Response<BoxBody<Bytes, Lost>>, Refusal> {
    let address = forward.address;
    let failed = |error: String| Refusal::bad_gateway(format!("error dialing backend: {address}: {error}"));
    let host = shared.host.clone();
    let connect = move || host.within(|| std::net::TcpStream::connect(address));
    let stream = tokio::task::spawn_blocking(connect).await.map_err(|error| failed(error.to_string()))?;
    let stream = stream.and_then(|stream| stream.set_nonblocking(true).map(|()| stream));
    let stream = stream.and_then(tokio::net::TcpStream::from_std).map_err(|error| failed(error.to_string()))?;
    let as_server = User::new("kube-apiserver-kubelet-client", &["system:masters"]);
    let identity = shared.lock().authority.client(&as_server);
    let connector = tokio_rustls::TlsConnector::from(pki::believing_config(&identity, Believing::new()));
    let stream =
        connector.connect(ServerName::from(address.ip()), stream).await.map_err(|it| failed(it.to_string()))?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|it| failed(it.to_string()))?;
    tokio::spawn(connection.with_upgrades());
    let mut request = Request::builder().method(method).uri(&forward.url).header(header::HOST, address.to_string());
    for (name, value) in &headers {
        if !matches!(*name, header::HOST | header::AUTHORIZATION | header::CONTENT_LENGTH) {
            request = request.header(name, value);
        }
    }
    let request = request.body(Full::new(body)).map_err(|error| failed(error.to_string()))?;
    let mut response = sender.send_request(request).await.map_err(|error| failed(error.to_string()))?;
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        let of_node = hyper::upgrade::on(&mut response);
        if let Some(of_client) = upgrade {
            tokio::spawn(join(of_client, of_node));
        }
    }
    // What follows the head of a switch is not the response's any more.
    Ok(response.map(of_node))
}

fn of_node(body: Incoming) -> BoxBody<Bytes, Lost> {
    body.map_err(|_| Lost).boxed()
}

async fn join(client: OnUpgrade, node: OnUpgrade) {
    let (Ok(client), Ok(node)) = (client.await, node.await) else { return };
    let (mut client, mut node) = (TokioIo::new(client), TokioIo::new(node));
    // Either side may leave as it likes.
    let _ = tokio::io::copy_bidirectional(&mut client, &mut node).await;
}

/// Believes whatever certificate a node shows, as the real server does that is not told of an authority for them.
#[derive(Debug)]
pub struct Believing(Arc<CryptoProvider>);

impl Believing {
    fn new() -> Arc<Self> {
        Arc::new(Self(Arc::new(rustls::crypto::ring::default_provider())))
    }
}

impl ServerCertVerifier for Believing {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
