//! A certificate and its key.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use rustls::crypto::ring::sign::any_supported_type;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

use super::{Error, Unusable, at};

/// A certificate, with those that it follows from, and its key.
#[derive(Clone, Debug)]
pub struct Pair {
    /// For connections.
    pub certified: Arc<CertifiedKey>,
    /// From when on it counts.
    pub not_before: Timestamp,
    /// Until when.
    pub not_after: Timestamp,
}

impl Pair {
    /// Out of PEM.
    pub fn of_pem(certificate: &[u8], key: &[u8]) -> Result<Self, Unusable> {
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(certificate).collect();
        let chain = chain.map_err(|error| Unusable::Certificate(error.to_string()))?;
        let (not_before, not_after) = validity_of(chain.first().ok_or(Unusable::NoCertificate)?)?;
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| Unusable::Key(error.to_string()))?;
        let key = any_supported_type(&key).map_err(|error| Unusable::Key(error.to_string()))?;
        let certified = CertifiedKey::new(chain, key);
        match certified.keys_match() {
            // Not every kind of key says what its public half is.
            Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => {}
            Err(error) => return Err(Unusable::Mismatch(error)),
        }
        Ok(Self { certified: Arc::new(certified), not_before, not_after })
    }

    /// Out of two files, which may be one.
    pub fn read(certificate: &Path, key: &Path) -> Result<Self, Error> {
        let read = |path: &Path| std::fs::read(path).map_err(at("read", path));
        let unusable = |why| Error::Unusable { path: PathBuf::from(certificate), why };
        Self::of_pem(&read(certificate)?, &read(key)?).map_err(unusable)
    }
}

/// From when on and until when a certificate counts.
fn validity_of(certificate: &CertificateDer<'_>) -> Result<(Timestamp, Timestamp), Unusable> {
    let wrong = |error: &dyn std::fmt::Display| Unusable::Certificate(error.to_string());
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).map_err(|error| wrong(&error))?;
    let validity = parsed.validity();
    let time = |time: x509_parser::time::ASN1Time| Timestamp::from_second(time.timestamp());
    Ok((
        time(validity.not_before).map_err(|error| wrong(&error))?,
        time(validity.not_after).map_err(|error| wrong(&error))?,
    ))
}

/// Until when all certificates of a PEM text count.
pub fn valid_until(text: &[u8]) -> Result<Timestamp, Unusable> {
    let mut earliest = None;
    for certificate in CertificateDer::pem_slice_iter(text) {
        let certificate = certificate.map_err(|error| Unusable::Certificate(error.to_string()))?;
        let (_, until) = validity_of(&certificate)?;
        earliest = Some(earliest.map_or(until, |earliest: Timestamp| earliest.min(until)));
    }
    earliest.ok_or(Unusable::NoCertificate)
}
