//! The certificate by which the node is known to those who ask it.

use std::net::IpAddr;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};

use jiff::Timestamp;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::{Error, Pair, self_signed};

/// The certificate that a server of this node shows: always the newest one. All clones are one, so that a server that is
/// made with [`ServerCertificate::resolver`] needs to hear of nothing. While there is none, connections are refused.
#[derive(Clone, Debug, Default)]
pub struct ServerCertificate {
    current: Arc<RwLock<Option<Current>>>,
}

#[derive(Clone, Debug)]
struct Current {
    certified: Arc<CertifiedKey>,
    not_after: Timestamp,
}

impl ServerCertificate {
    /// One that the node makes itself, and keeps in `dir`.
    pub fn self_signed(dir: &Path, host: &str, addresses: &[IpAddr]) -> Result<Self, Error> {
        let this = Self::default();
        this.set(&self_signed::open(dir, host, addresses)?);
        Ok(this)
    }

    /// One that somebody else keeps in files.
    pub fn of_files(certificate: &Path, key: &Path) -> Result<Self, Error> {
        let this = Self::default();
        this.set(&Pair::read(certificate, key)?);
        Ok(this)
    }

    /// From now on it is this one. Connections that are open keep theirs.
    pub fn set(&self, pair: &Pair) {
        let current = Current { certified: pair.certified.clone(), not_after: pair.not_after };
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Some(current);
    }

    /// Until when the one that is shown holds; none while there is none.
    pub fn until(&self) -> Option<Timestamp> {
        self.current().map(|current| current.not_after)
    }

    fn current(&self) -> Option<Current> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// For `rustls::ServerConfig::builder().with_cert_resolver`.
    pub fn resolver(&self) -> Arc<dyn ResolvesServerCert> {
        Arc::new(self.clone())
    }
}

impl ResolvesServerCert for ServerCertificate {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.current().map(|current| current.certified)
    }
}
