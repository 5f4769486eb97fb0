//! Connections.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustix::net::sockopt;
use rustls::pki_types::CertificateDer;
use rustls::{ServerConfig, version};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{interval, timeout};
use tokio_rustls::TlsAcceptor;

use super::Kubelet;
use super::auth::Unverified;
use crate::access::keep_alive;
use crate::cluster::certificates::ServerCertificate;

/// How long a client may take to be encrypted with.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// How long a client may take to say what it wants, and how long it may want nothing: a little longer than Go's clients
/// keep a connection that they do not use, so that they close it first.
const IDLE: Duration = Duration::from_secs(100);

/// How long what was sent may wait to be taken: kubelet's limit for an answer.
const UNREAD: u32 = 4 * 3600 * 1000;

/// Connections at a time; more are closed at once.
const CONNECTIONS: usize = 1024;

/// Connections at a time of one address: nobody alone shall take all places.
const OF_ONE: usize = 512;

/// The most bytes of a request's first line and headers.
const HEAD: usize = 64 * 1024;

/// How long nothing is accepted after it could not be: descriptors may be short for a while.
const PAUSE: Duration = Duration::from_millis(50);

/// How often it is looked whether files have changed.
const LOOK: Duration = Duration::from_secs(10);

/// Where it is served.
pub struct Listener {
    listener: TcpListener,
    address: SocketAddr,
    tls: TlsAcceptor,
}

impl Listener {
    /// Listens. Clients wait until it is served.
    pub async fn bind(address: SocketAddr, certificate: &ServerCertificate, modern_tls: bool) -> anyhow::Result<Self> {
        let what = || format!("listen for clients of kubelet's API on {address}; choose another --port, or 0 for none");
        let listener = TcpListener::bind(address).await.with_context(what)?;
        let address = listener.local_addr().with_context(what)?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let versions: &[_] = if modern_tls { &[&version::TLS13] } else { rustls::DEFAULT_VERSIONS };
        let mut config = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(versions)
            .context("prepare TLS for kubelet's API")?
            .with_client_cert_verifier(Arc::new(Unverified(provider)))
            .with_cert_resolver(certificate.resolver());
        // Sessions take over their connection, which HTTP/2 has no word for that clients speak.
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self { listener, address, tls: TlsAcceptor::from(Arc::new(config)) })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until it is dropped; sessions that have begun go on.
    pub async fn serve(self, kubelet: Kubelet) {
        let places = Places::default();
        let mut look = interval(LOOK);
        loop {
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                _ = look.tick() => {
                    let kubelet = kubelet.clone();
                    tokio::task::spawn_blocking(move || {
                        kubelet.inner.certificates.iter().for_each(super::Certificates::look_again);
                    });
                    continue;
                }
            };
            let (stream, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "a connection of a client of kubelet's API could not be accepted");
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
            };
            let Some(place) = places.take(peer.ip()) else {
                tracing::debug!(%peer, "there are too many connections to kubelet's API");
                continue;
            };
            tokio::spawn(connection(kubelet.clone(), stream, self.tls.clone(), place));
        }
    }
}

/// One connection.
async fn connection(kubelet: Kubelet, stream: TcpStream, tls: TlsAcceptor, place: Place) {
    keep_alive(&stream);
    if let Err(error) = sockopt::set_tcp_user_timeout(&stream, UNREAD) {
        tracing::debug!(%error, "how long a client may not read cannot be set");
    }
    let stream = match timeout(HANDSHAKE, tls.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::debug!(%error, "a client of kubelet's API could not be encrypted with"),
        Err(_) => return tracing::debug!("a client of kubelet's API was too slow"),
    };
    let certificates: Arc<[CertificateDer<'static>]> =
        stream.get_ref().1.peer_certificates().unwrap_or_default().into();
    let service = service_fn(move |request: Request<Incoming>| {
        let (kubelet, certificates) = (kubelet.clone(), certificates.clone());
        async move { Ok::<_, Infallible>(kubelet.answer(request, &certificates).await) }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(IDLE).max_buf_size(HEAD);
    if let Err(error) = http.serve_connection(TokioIo::new(stream), service).with_upgrades().await {
        tracing::debug!(%error, "a connection of a client of kubelet's API has failed");
    }
    drop(place);
}

/// Who has how many connections.
#[derive(Clone, Debug, Default)]
struct Places {
    taken: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

/// One connection's place; it is free when this is dropped.
struct Place {
    places: Places,
    of: IpAddr,
}

impl Places {
    fn take(&self, of: IpAddr) -> Option<Place> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if taken.values().sum::<usize>() >= CONNECTIONS || taken.get(&of).is_some_and(|own| *own >= OF_ONE) {
            return None;
        }
        *taken.entry(of).or_default() += 1;
        Some(Place { places: self.clone(), of })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = taken.get_mut(&self.of) {
            *own -= 1;
            if *own == 0 {
                taken.remove(&self.of);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_takes_all_places_and_each_is_given_back() {
        let places = Places::default();
        let of = |n: u8| IpAddr::from([192, 0, 2, n]);
        let mut held: Vec<_> = (0..OF_ONE).filter_map(|_| places.take(of(1))).collect();
        assert_eq!(held.len(), OF_ONE);
        assert!(places.take(of(1)).is_none(), "one address has enough");
        held.extend((0..CONNECTIONS - OF_ONE).filter_map(|_| places.take(of(2))));
        assert_eq!(held.len(), CONNECTIONS);
        assert!(places.take(of(3)).is_none(), "there are no more");
        held.pop();
        assert!(places.take(of(3)).is_some());
        held.clear();
        assert!(places.taken.lock().is_ok_and(|taken| taken.is_empty()));
    }
}
