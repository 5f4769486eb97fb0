//! TLS for a streaming server that is not on loopback, or is to have it all the same.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

use crate::error::{Error, Result};

/// What a server shows and signs with.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Its certificate and those between it and the authority, PEM.
    pub certificates: PathBuf,
    /// Its key, PEM.
    pub key: PathBuf,
}

impl Identity {
    /// Reads the files.
    pub fn acceptor(&self) -> Result<TlsAcceptor> {
        let certificates = CertificateDer::pem_file_iter(&self.certificates)
            .and_then(Iterator::collect::<std::result::Result<Vec<_>, _>>)
            .map_err(|error| unreadable("certificate", &self.certificates, &error))?;
        let key = PrivateKeyDer::from_pem_file(&self.key).map_err(|error| unreadable("key", &self.key, &error))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .and_then(|it| it.with_no_client_auth().with_single_cert(certificates, key))
            .map_err(|error| unreadable("certificate and key", &self.certificates, &error))?;
        Ok(TlsAcceptor::from(Arc::new(config)))
    }
}

fn unreadable(what: &str, path: &Path, error: &dyn std::fmt::Display) -> Error {
    Error::Invalid(format!("the streaming server's {what} in {} cannot be used: {error}", path.display()))
}
