//! Connections.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use hyper::Request;
use hyper::body::Incoming;
use hyper::header::AUTHORIZATION;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::TlsAcceptor;

use super::{Api, Error, Identity, body};
use crate::access::keep_alive;
use crate::cri_socket::Socket;

/// How long a client may take to be encrypted with, and to say what it wants; and how long it may want nothing.
const PATIENCE: Duration = Duration::from_secs(30);

/// Connections at a time, by each way; more wait to be accepted. Sessions have limits of their own.
const CONNECTIONS: usize = 1024;

/// The most bytes of a request's first line and headers.
const HEAD: usize = 64 * 1024;

/// How long nothing is accepted after it could not be: descriptors may be short for a while.
const PAUSE: Duration = Duration::from_millis(50);

/// Serves the clients of a unix socket, who are this user: until it is dropped.
pub async fn serve_socket(api: Api, socket: Socket) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let stream = socket.accept().await;
        tokio::spawn(connection(api.clone(), stream, None, place));
    }
}

/// A listener for clients that say the token.
pub struct Tcp {
    listener: TcpListener,
    address: SocketAddr,
    identity: Arc<Identity>,
    tls: TlsAcceptor,
}

impl Tcp {
    /// Listens. Clients wait until it is served.
    pub async fn listen(address: SocketAddr, identity: Identity) -> anyhow::Result<Self> {
        let what = || format!("listen for API clients on {address}");
        let listener = TcpListener::bind(address).await.with_context(what)?;
        let address = listener.local_addr().with_context(what)?;
        let tls = identity.acceptor(address)?;
        Ok(Self { listener, address, identity: Arc::new(identity), tls })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Writes what kubectl needs to know.
    pub fn write_kubeconfig(&self, path: &Path, node: &str) -> anyhow::Result<()> {
        self.identity.write_kubeconfig(path, self.address, node)
    }

    /// Serves until it is dropped; sessions that have begun go on.
    pub async fn serve(self, api: Api) {
        let places = Arc::new(Semaphore::new(CONNECTIONS));
        loop {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
            let stream = match self.listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "a connection of an API client could not be accepted");
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
            };
            let (api, identity, tls) = (api.clone(), Arc::clone(&self.identity), self.tls.clone());
            tokio::spawn(async move {
                keep_alive(&stream);
                match tokio::time::timeout(PATIENCE, tls.accept(stream)).await {
                    Ok(Ok(stream)) => connection(api, stream, Some(identity), place).await,
                    Ok(Err(error)) => tracing::debug!(%error, "an API client could not be encrypted with"),
                    Err(_) => tracing::debug!("an API client was too slow"),
                }
            });
        }
    }
}

/// Requests of one connection, of clients that have to say who they are if there is an identity.
pub(super) async fn connection(
    api: Api,
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    identity: Option<Arc<Identity>>,
    place: OwnedSemaphorePermit,
) {
    let service = service_fn(move |request: Request<Incoming>| {
        let (api, identity) = (api.clone(), identity.clone());
        async move {
            let said = request.headers().get(AUTHORIZATION).and_then(|it| it.to_str().ok());
            if identity.is_none_or(|identity| identity.knows(said)) {
                Ok::<_, Infallible>(api.answer(request).await)
            } else {
                Ok(body::refused(&Error::Unauthorized))
            }
        }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(PATIENCE).max_buf_size(HEAD);
    if let Err(error) = http.serve_connection(TokioIo::new(stream), service).with_upgrades().await {
        tracing::debug!(%error, "a connection of an API client has failed");
    }
    drop(place);
}
