//! Clients that have a certificate.
//!
//! In the handshake a client only proves that a certificate is its own. Who vouches for it is looked at with each request,
//! as kubelet does: so a client that nobody vouches for may still say a token, one whose certificate runs out is not known
//! by a connection that it opened before, and a changed file of authorities counts at once.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::SystemTime;

use anyhow::Context as _;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, RootCertStore, SignatureScheme};
use sha2::{Digest as _, Sha256};
use x509_parser::oid_registry::asn1_rs::{Oid, oid};

use super::User;

/// The attribute of a subject that holds a user's uid.
const UID: Oid<'static> = oid!(1.3.6.1.4.1.57683.2);

/// What is said of a user that a certificate made known.
const CREDENTIAL: &str = "authentication.kubernetes.io/credential-id";

/// Who vouches for clients, as a file says. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Certificates {
    path: PathBuf,
    provider: Arc<CryptoProvider>,
    current: Arc<RwLock<Current>>,
}

#[derive(Clone, Debug)]
struct Current {
    verifier: Arc<dyn ClientCertVerifier>,
    changed: Option<SystemTime>,
}

impl Certificates {
    /// Those in a file.
    pub fn open(path: &Path, provider: Arc<CryptoProvider>) -> anyhow::Result<Self> {
        let current = Arc::new(RwLock::new(read(path, &provider)?));
        Ok(Self { path: path.to_owned(), provider, current })
    }

    /// Reads the file again if it has changed. What cannot be used leaves all as it was.
    pub fn look_again(&self) {
        let before = self.current.read().unwrap_or_else(PoisonError::into_inner).changed;
        if changed(&self.path) == before {
            return;
        }
        match read(&self.path, &self.provider) {
            Ok(now) => {
                tracing::info!(path = %self.path.display(), "who vouches for clients of kubelet's API has changed");
                *self.current.write().unwrap_or_else(PoisonError::into_inner) = now;
            }
            Err(error) => tracing::warn!("{error:#}; those that vouched for clients before still do"),
        }
    }

    /// Whom a certificate makes known, at this moment; an error says why nobody.
    pub fn user(&self, chain: &[CertificateDer<'_>], now: UnixTime) -> Result<Option<User>, rustls::Error> {
        let Some((own, others)) = chain.split_first() else { return Ok(None) };
        let verifier = self.current.read().unwrap_or_else(PoisonError::into_inner).verifier.clone();
        verifier.verify_client_cert(own, others, now)?;
        Ok(subject(own))
    }
}

fn changed(path: &Path) -> Option<SystemTime> {
    std::fs::metadata(path).and_then(|it| it.modified()).ok()
}

fn read(path: &Path, provider: &Arc<CryptoProvider>) -> anyhow::Result<Current> {
    // Before it is read: a change meanwhile is seen as one later.
    let changed = changed(path);
    let what = || format!("read who vouches for clients of kubelet's API, {}", path.display());
    let text = std::fs::read(path).with_context(what)?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&text) {
        roots.add(certificate.with_context(what)?).with_context(what)?;
    }
    anyhow::ensure!(!roots.is_empty(), "{}: there is no certificate in it", what());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone());
    Ok(Current { verifier: verifier.build().with_context(what)?, changed })
}

/// The common name is the user, organizations are its groups.
fn subject(certificate: &CertificateDer<'_>) -> Option<User> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let texts = |values: Vec<&x509_parser::x509::AttributeTypeAndValue<'_>>| -> Vec<String> {
        values.into_iter().filter_map(|it| it.as_str().ok().map(str::to_owned)).collect()
    };
    let subject = parsed.subject();
    let name = texts(subject.iter_common_name().collect()).pop().filter(|it| !it.is_empty())?;
    let groups = texts(subject.iter_organization().collect());
    let uid = texts(subject.iter_by_oid(&UID).collect()).pop().unwrap_or_default();
    let digest: String = Sha256::digest(certificate).iter().map(|byte| format!("{byte:02x}")).collect();
    let extra = [(CREDENTIAL.to_owned(), vec![format!("X509SHA256={digest}")])].into();
    Some(User { name, uid, groups, extra })
}

/// Takes every certificate whose key the client has: who vouches for it is asked later.
#[derive(Debug)]
pub struct Unverified(pub Arc<CryptoProvider>);

impl ClientCertVerifier for Unverified {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
