//! The HTTP server that sessions are taken from: loopback, or TLS.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustix::net::sockopt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::channels::{Config, Transport};
use super::http::{State, answer};
use super::tls::Identity;
use crate::core::Core;
use crate::error::{During as _, Error, Result};
use crate::sessions::Sessions;

/// How long a client may take from its connection to its upgrade.
const PATIENCE: Duration = Duration::from_secs(30);

/// Connections and sessions at a time; more wait to be accepted.
const MOST: usize = 4096;

/// Where to serve.
#[derive(Clone, Debug)]
pub struct Options {
    /// The address; other than loopback only with TLS.
    pub address: IpAddr,
    /// The port; 0 is the kernel's choice.
    pub port: u16,
    /// Files of the certificate and of its key, PEM.
    pub tls: Option<(PathBuf, PathBuf)>,
}

impl Default for Options {
    fn default() -> Self {
        Self { address: Ipv4Addr::LOCALHOST.into(), port: 0, tls: None }
    }
}

/// A server that listens. What its clients ask for waits until [`Server::serve`].
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    tls: Option<TlsAcceptor>,
    state: Arc<State>,
}

impl Server {
    pub(crate) async fn bind(options: &Options, core: Arc<Core>, sessions: Sessions) -> Result<Self> {
        let Options { address, port, tls } = options;
        if !address.is_loopback() && tls.is_none() {
            let why = "what is streamed there could be read and changed by others; give it a certificate and a key, \
                       or an address of loopback";
            return Err(Error::Invalid(format!("streams cannot be served on {address} without TLS: {why}")));
        }
        let identity = tls.clone().map(|(certificates, key)| Identity { certificates, key });
        let tls = identity.as_ref().map(Identity::acceptor).transpose()?;
        let operation = || format!("listen for streams on {address} port {port}");
        let listener = TcpListener::bind((*address, *port)).await.during(operation)?;
        let address = listener.local_addr().during(operation)?;
        let scheme = if tls.is_some() { "https" } else { "http" };
        sessions.serve_at(format!("{scheme}://{address}"))?;
        Ok(Self { listener, address, tls, state: Arc::new(State { core, sessions, config: Config::default() }) })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until it is dropped; sessions that have begun go on.
    pub async fn serve(self) {
        let places = Arc::new(Semaphore::new(MOST));
        loop {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    let (tls, state) = (self.tls.clone(), Arc::clone(&self.state));
                    tokio::spawn(async move {
                        // Until its upgrade only: a session takes as long as it takes.
                        if timeout(PATIENCE, connection(stream, tls, state, place)).await.is_err() {
                            tracing::debug!("a client of the streaming server was too slow");
                        }
                    });
                }
                Err(error) => {
                    // Descriptors ran short, or the client went away: the next one may have more luck.
                    tracing::debug!(%error, "a connection to the streaming server could not be accepted");
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            }
        }
    }
}

async fn connection(stream: TcpStream, tls: Option<TlsAcceptor>, state: Arc<State>, place: OwnedSemaphorePermit) {
    keep_alive(&stream);
    match tls {
        None => exchange(stream, state, place).await,
        Some(tls) => match tls.accept(stream).await {
            Ok(stream) => exchange(stream, state, place).await,
            Err(error) => tracing::debug!(%error, "a client of the streaming server could not be encrypted with"),
        },
    }
}

/// A machine that vanishes says nothing: after half a minute its connections are known to be dead.
fn keep_alive(stream: &TcpStream) {
    let set = sockopt::set_socket_keepalive(stream, true)
        .and_then(|()| sockopt::set_tcp_keepidle(stream, Duration::from_secs(10)))
        .and_then(|()| sockopt::set_tcp_keepintvl(stream, Duration::from_secs(5)))
        .and_then(|()| sockopt::set_tcp_keepcnt(stream, 3))
        .and_then(|()| sockopt::set_tcp_nodelay(stream, true));
    if let Err(error) = set {
        tracing::debug!(%error, "a streaming connection cannot be kept alive");
    }
}

/// Requests of one connection, until one of them is upgraded.
async fn exchange(stream: impl Transport, state: Arc<State>, place: OwnedSemaphorePermit) {
    let place = Arc::new(place);
    let service = service_fn(move |request| answer(Arc::clone(&state), Arc::clone(&place), request));
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(PATIENCE).max_buf_size(64 * 1024);
    if let Err(error) = http.serve_connection(TokioIo::new(stream), service).with_upgrades().await {
        tracing::debug!(%error, "a connection to the streaming server has failed");
    }
}
