//! Who the server is, and who its clients are: an authority of this node's own, and a token.
//!
//! Both are made once and kept in a directory that only root reads. The server's certificate is made anew by each start,
//! for the address that it listens on. Certificates do not run out: a clock that jumps by years must not lock anybody
//! out of the node, and what would be gained by a change of keys is gained by removing the directory.

use std::fs;
use std::io::{self, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use serde_json::json;
use tokio_rustls::TlsAcceptor;

const CERTIFICATE: &str = "ca.crt";
const KEY: &str = "ca.key";
const TOKEN: &str = "token";

/// The authority and the token of a node.
pub struct Identity {
    certificate: String,
    key: String,
    token: String,
}

impl Identity {
    /// Where it is kept, below a root directory.
    pub fn directory(root: &Path) -> PathBuf {
        root.join("api")
    }

    /// Reads what is in a directory, and makes what is not.
    pub fn open(dir: &Path) -> anyhow::Result<Self> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)
            .with_context(|| format!("make {}", dir.display()))?;
        let (certificate, key) = (dir.join(CERTIFICATE), dir.join(KEY));
        if !(certificate.exists() && key.exists()) {
            let (made_certificate, made_key) = authority().context("make an authority for the API")?;
            // The key first: a certificate is never there without it.
            write(&key, &made_key)?;
            write(&certificate, &made_certificate)?;
        }
        let token = dir.join(TOKEN);
        if !token.exists() {
            write(&token, &random_token()?)?;
        }
        let read = |path: &Path| {
            fs::read_to_string(path).with_context(|| format!("read {}; remove it to have it made anew", path.display()))
        };
        let token_text = read(&token)?.trim().to_owned();
        anyhow::ensure!(token_text.len() >= 32, "{} holds no token; remove it to have it made anew", token.display());
        Ok(Self { certificate: read(&certificate)?, key: read(&key)?, token: token_text })
    }

    /// What connections on `address` are encrypted with.
    pub fn acceptor(&self, address: SocketAddr) -> anyhow::Result<TlsAcceptor> {
        let context = "make the API's certificate; remove its directory to have everything made anew";
        let issuer = KeyPair::from_pem(&self.key).context(context)?;
        let issuer = Issuer::new(authority_params().context(context)?, issuer);
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).context(context)?;
        let mut addresses: Vec<IpAddr> = vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
        if !addresses.contains(&address.ip()) && !address.ip().is_unspecified() {
            addresses.push(address.ip());
        }
        params.subject_alt_names.extend(addresses.into_iter().map(rcgen::SanType::IpAddress));
        params.distinguished_name.push(DnType::CommonName, "coracle");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let key = KeyPair::generate().context(context)?;
        let certificate = params.signed_by(&key, &issuer).context(context)?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let key = PrivateKeyDer::try_from(key.serialize_der()).map_err(anyhow::Error::msg).context(context)?;
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .and_then(|it| it.with_no_client_auth().with_single_cert(vec![certificate.der().clone()], key))
            .context(context)?;
        // Sessions take over their connection, which HTTP/2 has no word for that clients speak.
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(TlsAcceptor::from(Arc::new(config)))
    }

    /// Whether a client has said the token. What it takes does not tell how much of it was right.
    pub fn knows(&self, authorization: Option<&str>) -> bool {
        let Some((scheme, given)) = authorization.and_then(|it| it.split_once(' ')) else { return false };
        let (given, token) = (given.trim().as_bytes(), self.token.as_bytes());
        let different = given.iter().zip(token).fold(0, |all, (a, b)| all | (a ^ b));
        scheme.eq_ignore_ascii_case("bearer") && given.len() == token.len() && different == 0
    }

    /// Writes what kubectl needs to know.
    pub fn write_kubeconfig(&self, path: &Path, address: SocketAddr, name: &str) -> anyhow::Result<()> {
        // Listening everywhere is listening here.
        let host = match address.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
            ip => ip,
        };
        let server = format!("https://{}", SocketAddr::new(host, address.port()));
        let authority = STANDARD.encode(&self.certificate);
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": name,
            "clusters": [{"name": name, "cluster": {"server": server, "certificate-authority-data": authority}}],
            "users": [{"name": name, "user": {"token": self.token}}],
            "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
        });
        write(path, &serde_yaml::to_string(&config).context("write a kubeconfig")?)
    }
}

/// What the authority's certificate says. It is the same whenever it is asked for, so that a certificate which was made
/// by an earlier start fits what a later one signs.
fn authority_params() -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    params.distinguished_name.push(DnType::CommonName, "coracle node authority");
    Ok(params)
}

fn authority() -> Result<(String, String), rcgen::Error> {
    let key = KeyPair::generate()?;
    Ok((authority_params()?.self_signed(&key)?.pem(), key.serialize_pem()))
}

fn random_token() -> anyhow::Result<String> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(io::Error::from).context("make a token for the API")?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Writes a secret, whole or not at all, for its owner alone.
fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(format!(".{}.new", std::process::id()));
    let temporary = PathBuf::from(temporary);
    let written = (|| {
        match fs::remove_file(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    })();
    written.with_context(|| format!("write {}", path.display()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn it_is_made_once_and_is_for_its_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("api");
        let first = Identity::open(&place).unwrap();
        let again = Identity::open(&place).unwrap();
        assert_eq!((&first.certificate, &first.token), (&again.certificate, &again.token));
        for name in [KEY, TOKEN, CERTIFICATE] {
            assert_eq!(fs::metadata(place.join(name)).unwrap().permissions().mode() & 0o777, 0o600, "{name}");
        }
        first.acceptor("127.0.0.1:1".parse().unwrap()).unwrap();
        let token = format!("Bearer {}", first.token);
        assert!(again.knows(Some(&token)) && again.knows(Some(&token.to_lowercase())));
        for wrong in
            [None, Some("Bearer "), Some(&token[..token.len() - 1]), Some(&format!("{token}0")), Some("Basic x")]
        {
            assert!(!again.knows(wrong), "{wrong:?}");
        }
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        let dir = tempfile::tempdir().unwrap();
        Identity::open(dir.path()).unwrap();
        fs::write(dir.path().join(TOKEN), "short").unwrap();
        assert!(Identity::open(dir.path()).err().unwrap().to_string().contains("holds no token; remove it"));
        fs::remove_file(dir.path().join(TOKEN)).unwrap();
        fs::write(dir.path().join(KEY), "nonsense").unwrap();
        let broken = Identity::open(dir.path()).unwrap().acceptor("127.0.0.1:1".parse().unwrap());
        assert!(broken.err().unwrap().to_string().contains("made anew"));
    }

    #[test]
    fn a_kubeconfig_names_an_address_that_can_be_reached() {
        let dir = tempfile::tempdir().unwrap();
        let (identity, path) = (Identity::open(dir.path()).unwrap(), dir.path().join("config"));
        for (address, server) in [("0.0.0.0:7", "https://127.0.0.1:7"), ("[::1]:8", "https://[::1]:8")] {
            identity.write_kubeconfig(&path, address.parse().unwrap(), "n").unwrap();
            let config: serde_json::Value = serde_yaml::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
            assert_eq!(config["clusters"][0]["cluster"]["server"], server);
            assert_eq!(config["users"][0]["user"]["token"], identity.token);
        }
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
