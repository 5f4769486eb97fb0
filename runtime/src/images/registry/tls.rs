//! Whom to believe, and who to be, when talking TLS to a registry.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

use super::trouble::Trouble;
use crate::tls::Anybody;

/// Where distributions keep the certificates that the host believes.
const BUNDLES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// What `hosts.toml` says about a host's TLS.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct TlsOptions {
    /// Believed besides the host's own.
    pub ca: Vec<PathBuf>,
    /// Certificate, and key where it is in a file of its own.
    pub client: Vec<(PathBuf, Option<PathBuf>)>,
    /// Believe anybody.
    pub skip_verify: bool,
}

/// The configuration of a client that believes whom the host believes.
pub fn of_host() -> Result<ClientConfig, String> {
    config(&TlsOptions::default()).map_err(|trouble| trouble.to_string())
}

/// The configuration for one host.
pub(super) fn config(options: &TlsOptions) -> Result<ClientConfig, Trouble> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| Trouble::Protocol(format!("TLS cannot be set up: {error}")))?;
    let builder = if options.skip_verify {
        // What is pulled by digest is verified all the same.
        builder.dangerous().with_custom_certificate_verifier(Anybody::new(&provider))
    } else {
        builder.with_root_certificates(roots(&options.ca)?)
    };
    let Some((certificate, key)) = options.client.first() else { return Ok(builder.with_no_client_auth()) };
    let key_path = key.as_deref().unwrap_or(certificate);
    let key = PrivateKeyDer::from_pem_file(key_path).map_err(|error| setup(key_path, &error))?;
    let chain = certificates(certificate)?;
    builder.with_client_auth_cert(chain, key).map_err(|error| setup(certificate, &error))
}

/// The host's certificates and those of one registry. A host without any is no error yet: the handshake will say what
/// it lacks.
fn roots(more: &[PathBuf]) -> Result<RootCertStore, Trouble> {
    let mut roots = RootCertStore::empty();
    let named = std::env::var_os("SSL_CERT_FILE").filter(|path| !path.is_empty()).map(PathBuf::from);
    let bundle = named.or_else(|| BUNDLES.iter().map(PathBuf::from).find(|path| path.exists()));
    if let Some(path) = bundle {
        // Bundles hold certificates that are odd in one way or another; those are left out.
        roots.add_parsable_certificates(certificates(&path)?);
    }
    for path in more {
        for certificate in certificates(path)? {
            roots.add(certificate).map_err(|error| setup(path, &error))?;
        }
    }
    Ok(roots)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Trouble> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    match read {
        Ok(found) if found.is_empty() => Err(setup(path, &"holds no certificate in PEM form")),
        Ok(found) => Ok(found),
        Err(error) => Err(setup(path, &error)),
    }
}

fn setup(path: &Path, reason: &dyn std::fmt::Display) -> Trouble {
    Trouble::Setup { path: path.to_owned(), reason: reason.to_string() }
}
