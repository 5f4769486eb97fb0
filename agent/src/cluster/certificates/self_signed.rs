//! A certificate that nobody but the node itself vouches for: clients cannot check it, but what they say is not read by
//! others on the way. It is made once and kept while it counts.

use std::fs;
use std::io::Write as _;
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use jiff::{Timestamp, ToSpan as _};
use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose, SanType, date_time_ymd};

use super::{Error, Pair, at};

/// The file of the certificate, as kubelet calls it.
const CERTIFICATE: &str = "kubelet.crt";

/// The file of its key.
const KEY: &str = "kubelet.key";

/// The one in `dir`, which is made where there is none, or none that counts any longer.
pub(super) fn open(dir: &Path, host: &str, addresses: &[IpAddr]) -> Result<Pair, Error> {
    let (certificate, key) = (dir.join(CERTIFICATE), dir.join(KEY));
    match Pair::read(&certificate, &key) {
        Ok(pair) if pair.not_after > Timestamp::now() => return Ok(pair),
        Ok(_) => {
            tracing::info!(path = %certificate.display(), "the node's own certificate has run out; another is made")
        }
        Err(Error::File { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => tracing::warn!(%error, "the node's own certificate cannot be used; another is made"),
    }
    let (made_certificate, made_key) = make(host, addresses, Timestamp::now())?;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(at("make", dir))?;
    // The key first: a certificate is never there without it.
    write(&key, &made_key)?;
    write(&certificate, &made_certificate)?;
    Pair::read(&certificate, &key)
}

pub(super) fn make(host: &str, addresses: &[IpAddr], now: Timestamp) -> Result<(String, String), Error> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::OrganizationName, "coracle");
    params.distinguished_name.push(DnType::CommonName, format!("{host}@{}", now.as_second()));
    let name = match host.parse() {
        Ok(ip) => SanType::IpAddress(ip),
        Err(_) => SanType::DnsName(host.try_into()?),
    };
    params.subject_alt_names = vec![name];
    params.subject_alt_names.extend(addresses.iter().copied().map(SanType::IpAddress));
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    // Clocks differ: it counts from yesterday on, for a year.
    let today = now.to_zoned(jiff::tz::TimeZone::UTC).date();
    let day = |date: jiff::civil::Date| {
        date_time_ymd(date.year().into(), date.month().unsigned_abs(), date.day().unsigned_abs())
    };
    params.not_before = day(today.saturating_sub(1.day()));
    params.not_after = day(today.saturating_add(1.year()));
    let key = KeyPair::generate()?;
    Ok((params.self_signed(&key)?.pem(), key.serialize_pem()))
}

/// Writes a file for its owner alone, whole or not at all.
pub(super) fn write(path: &Path, text: &str) -> Result<(), Error> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".new");
    let temporary = PathBuf::from(temporary);
    let written = (|| {
        match fs::remove_file(&temporary) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    })();
    written.map_err(at("write", path))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn it_is_kept_while_it_counts_and_for_its_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("pki");
        let addresses = ["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()];
        let first = open(&place, "here", &addresses).unwrap();
        let again = open(&place, "here", &addresses).unwrap();
        assert_eq!(first.certified.cert, again.certified.cert);
        assert!(first.not_before < Timestamp::now() && first.not_after > Timestamp::now());
        for name in [CERTIFICATE, KEY] {
            assert_eq!(fs::metadata(place.join(name)).unwrap().permissions().mode() & 0o777, 0o600, "{name}");
        }
        let (old, key) = make("here", &addresses, "2020-02-29T00:00:00Z".parse().unwrap()).unwrap();
        write(&place.join(KEY), &key).unwrap();
        write(&place.join(CERTIFICATE), &old).unwrap();
        assert!(open(&place, "here", &addresses).unwrap().not_after > Timestamp::now(), "one that has run out");
        fs::write(place.join(KEY), "nonsense").unwrap();
        assert!(open(&place, "here", &addresses).is_ok(), "one without its key");
    }

    #[test]
    fn a_key_that_is_another_s_is_refused() {
        let make = || make("::1", &[], Timestamp::now()).unwrap();
        let ((one, _), (_, other)) = (make(), make());
        assert!(matches!(Pair::of_pem(one.as_bytes(), other.as_bytes()), Err(super::super::Unusable::Mismatch(_))));
    }
}
