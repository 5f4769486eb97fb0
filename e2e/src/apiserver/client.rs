//! A client of an API server, this or a real one: what tests ask through the network.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, header};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use serde_json::Value;

use super::pki::{self, Identity};
use crate::deadline;
use crate::netns::Host;

/// Asks as one user, each time by a connection of its own.
pub struct Client {
    host: Host,
    address: SocketAddr,
    tls: Arc<ClientConfig>,
}

/// What was answered.
#[derive(Clone, Debug, PartialEq)]
pub struct Reply {
    /// The status of HTTP.
    pub status: u16,
    /// The body; of a watch, the list of its events.
    pub body: Value,
}

impl Client {
    /// Asks a server on a host that shows a certificate of an authority; as nobody without an identity.
    pub fn new(host: &Host, address: SocketAddr, authority: &str, identity: Option<&Identity>) -> Self {
        Self { host: host.clone(), address, tls: pki::client_config(identity, authority) }
    }

    /// Asks, and waits for the whole answer.
    pub fn ask(&self, method: &str, url: &str, media: &str, body: &Value) -> Result<Reply, String> {
        let text = if body.is_null() { String::new() } else { body.to_string() };
        let request = Request::builder()
            .method(method)
            .uri(url)
            .header(header::HOST, self.address.to_string())
            .header(header::CONTENT_TYPE, media)
            .header(header::ACCEPT, "application/json")
            .body(Full::new(Bytes::from(text)))
            .map_err(|error| error.to_string())?;
        let stream = self.host.within(|| std::net::TcpStream::connect_timeout(&self.address, Duration::from_secs(5)));
        let stream = stream.and_then(|it| it.set_nonblocking(true).map(|()| it)).map_err(|error| error.to_string())?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let answered = runtime
            .map_err(|error| error.to_string())?
            .block_on(async { tokio::time::timeout(deadline(), self.talk(stream, request)).await });
        answered.map_err(|_| format!("no answer to {method} {url}"))?
    }

    async fn talk(&self, stream: std::net::TcpStream, request: Request<Full<Bytes>>) -> Result<Reply, String> {
        let stream = tokio::net::TcpStream::from_std(stream).map_err(|error| error.to_string())?;
        let connector = tokio_rustls::TlsConnector::from(Arc::clone(&self.tls));
        let stream = connector.connect(ServerName::from(self.address.ip()), stream).await;
        let stream = TokioIo::new(stream.map_err(|error| error.to_string())?);
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(stream).await.map_err(|error| error.to_string())?;
        tokio::spawn(connection);
        let response = sender.send_request(request).await.map_err(|error| error.to_string())?;
        let status = response.status().as_u16();
        let bytes = response.into_body().collect().await.map_err(|error| error.to_string())?.to_bytes();
        let text = String::from_utf8_lossy(&bytes);
        let lines = || text.lines().filter(|line| !line.is_empty()).map(|line| serde_json::from_str(line).ok());
        let events =
            || lines().collect::<Option<Vec<Value>>>().filter(|all| all.iter().all(|it| !it["object"].is_null()));
        let body = serde_json::from_slice(&bytes).ok().filter(|body: &Value| body["object"].is_null());
        let body = body.or_else(|| events().map(Value::from)).unwrap_or_else(|| text.trim().into());
        Ok(Reply { status, body })
    }
}
