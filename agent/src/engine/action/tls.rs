//! TLS towards a pod, whose certificate nobody verifies: a probe asks whether a server answers, not who it is.

use std::io;
use std::sync::Arc;

use runtime::tls::Anybody;
use rustls::ClientConfig;
use rustls::client::Resumption;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Speaks TLS over `stream` with whoever answers there, to speak `protocol` over it: `h2`, or HTTP/1.1 when there is none.
pub async fn connect(host: &str, stream: TcpStream, protocol: Option<&str>) -> io::Result<TlsStream<TcpStream>> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .dangerous()
        .with_custom_certificate_verifier(Anybody::new(&provider))
        .with_no_client_auth();
    // Every probe shakes hands anew, as the first client of a server would.
    config.resumption = Resumption::disabled();
    config.alpn_protocols = protocol.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
    TlsConnector::from(Arc::new(config)).connect(name, stream).await
}
