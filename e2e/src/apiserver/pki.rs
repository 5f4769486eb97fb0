//! Certificates: an authority, what the server shows, and what its clients show.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PublicKeyData, SanType, SignatureAlgorithm,
};
use rustls::client::danger::ServerCertVerifier;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use serde_json::json;
use x509_parser::prelude::FromDer;

use super::asked::User;

/// A certificate and its key, as PEM.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The certificate.
    pub certificate: String,
    /// Its key.
    pub key: String,
}

/// An authority that signs certificates.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: String,
}

/// The public key of a request for a certificate.
struct PublicKey {
    bytes: Vec<u8>,
    algorithm: &'static SignatureAlgorithm,
}

impl PublicKeyData for PublicKey {
    fn der_bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        self.algorithm
    }
}

impl Authority {
    /// A new one.
    pub fn new() -> Self {
        let key = KeyPair::generate().expect("a key is made");
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        params.distinguished_name.push(DnType::CommonName, "kubernetes");
        let certificate = params.self_signed(&key).expect("it signs itself").pem();
        Self { issuer: Issuer::new(params, key), certificate }
    }

    /// Its certificate.
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// The key that it signs with.
    pub fn key(&self) -> String {
        self.issuer.key().serialize_pem()
    }

    /// What a server at these addresses shows.
    pub fn server(&self, addresses: &[IpAddr]) -> Identity {
        let mut params = CertificateParams::new(vec!["localhost".to_owned(), "kubernetes".to_owned()]).expect("names");
        params.subject_alt_names.extend(addresses.iter().copied().map(SanType::IpAddress));
        params.distinguished_name.push(DnType::CommonName, "kube-apiserver");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.sign(&params)
    }

    /// What a user shows.
    pub fn client(&self, user: &User) -> Identity {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.distinguished_name.push(DnType::CommonName, user.name.as_str());
        for group in user.groups.iter().filter(|group| *group != "system:authenticated") {
            params.distinguished_name.push(DnType::OrganizationName, group.as_str());
        }
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.sign(&params)
    }

    fn sign(&self, params: &CertificateParams) -> Identity {
        let key = KeyPair::generate().expect("a key is made");
        let certificate = params.signed_by(&key, &self.issuer).expect("it is signed").pem();
        Identity { certificate, key: key.serialize_pem() }
    }

    /// Signs a request for a certificate that lives so long, for clients or for servers.
    pub fn sign_request(&self, pem: &str, serves: bool, life: Duration) -> Result<String, String> {
        let (_, block) = x509_parser::pem::parse_x509_pem(pem.as_bytes()).map_err(|error| error.to_string())?;
        let (_, request) = x509_parser::certification_request::X509CertificationRequest::from_der(&block.contents)
            .map_err(|error| error.to_string())?;
        let info = &request.certification_request_info;
        let mut params = CertificateParams::new(Vec::new()).map_err(|error| error.to_string())?;
        let text = |it: &x509_parser::x509::AttributeTypeAndValue<'_>| it.as_str().unwrap_or_default().to_owned();
        info.subject.iter_common_name().for_each(|it| params.distinguished_name.push(DnType::CommonName, text(it)));
        info.subject
            .iter_organization()
            .for_each(|it| params.distinguished_name.push(DnType::OrganizationName, text(it)));
        params.subject_alt_names = alternative_names(&request);
        let usage = if serves { ExtendedKeyUsagePurpose::ServerAuth } else { ExtendedKeyUsagePurpose::ClientAuth };
        params.extended_key_usages = vec![usage];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_err(|error| error.to_string())?;
        params.not_before = rcgen::date_time_ymd(1970, 1, 1) + (now - Duration::from_secs(60));
        params.not_after = rcgen::date_time_ymd(1970, 1, 1) + (now + life);
        let curve = info.subject_pki.algorithm.parameters.as_ref().and_then(|it| it.as_oid().ok());
        let algorithm = match info.subject_pki.algorithm.algorithm.to_id_string().as_str() {
            "1.2.840.10045.2.1" if curve.is_some_and(|it| it.to_id_string() == "1.3.132.0.34") => {
                &rcgen::PKCS_ECDSA_P384_SHA384
            }
            "1.2.840.10045.2.1" => &rcgen::PKCS_ECDSA_P256_SHA256,
            "1.3.101.112" => &rcgen::PKCS_ED25519,
            "1.2.840.113549.1.1.1" => &rcgen::PKCS_RSA_SHA256,
            other => return Err(format!("a key of the kind {other}")),
        };
        let key = PublicKey { bytes: info.subject_pki.subject_public_key.data.to_vec(), algorithm };
        params.signed_by(&key, &self.issuer).map(|it| it.pem()).map_err(|error| error.to_string())
    }
}

impl Default for Authority {
    fn default() -> Self {
        Self::new()
    }
}

/// The names beside the subject that a request asks for.
fn alternative_names(request: &x509_parser::certification_request::X509CertificationRequest<'_>) -> Vec<SanType> {
    use x509_parser::extensions::{GeneralName, ParsedExtension};
    let extensions = request.requested_extensions().into_iter().flatten();
    let names = extensions.filter_map(|it| match it {
        ParsedExtension::SubjectAlternativeName(names) => Some(&names.general_names),
        _ => None,
    });
    let one = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) => Some(SanType::DnsName((*name).try_into().ok()?)),
        GeneralName::IPAddress(bytes) => {
            let v4 = <[u8; 4]>::try_from(*bytes).map(IpAddr::from).ok();
            Some(SanType::IpAddress(v4.or_else(|| <[u8; 16]>::try_from(*bytes).map(IpAddr::from).ok())?))
        }
        _ => None,
    };
    names.flatten().filter_map(one).collect()
}

/// Who a client is by its certificate: common name and organizations.
pub fn user_of(certificate: &CertificateDer<'_>) -> Option<User> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let subject = parsed.subject();
    let name = subject.iter_common_name().next()?.as_str().ok()?.to_owned();
    let mut groups: Vec<String> =
        subject.iter_organization().filter_map(|it| it.as_str().ok().map(str::to_owned)).collect();
    groups.push("system:authenticated".to_owned());
    Some(User { name, groups, uid: String::new() })
}

/// What a server needs that shows an identity and asks for certificates of an authority, or for none.
pub fn server_config(identity: &Identity, clients: &str) -> Arc<ServerConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots(clients)), Arc::clone(&provider))
        .allow_unauthenticated()
        .build()
        .expect("an authority");
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider has them")
        .with_client_cert_verifier(verifier)
        .with_single_cert(certificates(&identity.certificate), key(identity))
        .expect("a key that fits");
    // Sessions take over their connection, which HTTP/2 has no word for that clients speak.
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Arc::new(config)
}

/// What a client needs that shows an identity to a server of an authority.
pub fn client_config(identity: Option<&Identity>, authority: &str) -> Arc<ClientConfig> {
    let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("the provider has them")
        .with_root_certificates(roots(authority));
    Arc::new(match identity {
        Some(it) => builder.with_client_auth_cert(certificates(&it.certificate), key(it)).expect("a key that fits"),
        None => builder.with_no_client_auth(),
    })
}

/// What a client needs that shows an identity and judges servers in its own way.
pub fn believing_config(identity: &Identity, judge: Arc<dyn ServerCertVerifier>) -> Arc<ClientConfig> {
    let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("the provider has them");
    let builder = builder.dangerous().with_custom_certificate_verifier(judge);
    let config = builder.with_client_auth_cert(certificates(&identity.certificate), key(identity));
    Arc::new(config.expect("a key that fits"))
}

fn roots(pem: &str) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(certificates(pem));
    roots
}

fn certificates(pem: &str) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<_, _>>().expect("certificates")
}

fn key(identity: &Identity) -> PrivateKeyDer<'static> {
    PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).expect("a key")
}

/// Writes a kubeconfig, for `user` with an identity or a token.
pub fn write_kubeconfig(path: &Path, server: &str, authority: &str, user: serde_json::Value) {
    let cluster = json!({"server": server, "certificate-authority-data": STANDARD.encode(authority)});
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "e2e", "preferences": {},
        "clusters": [{"name": "e2e", "cluster": cluster}],
        "users": [{"name": "e2e", "user": user}],
        "contexts": [{"name": "e2e", "context": {"cluster": "e2e", "user": "e2e"}}],
    });
    let text = serde_yaml::to_string(&config).expect("plain data");
    // Beside its place and then there: a reader may be waiting for it.
    let new = path.with_extension("new");
    std::fs::write(&new, text).and_then(|()| std::fs::rename(&new, path)).expect("the directory is the test's");
}

impl Identity {
    /// As the user of a kubeconfig.
    pub fn as_user(&self) -> serde_json::Value {
        let (certificate, key) = (STANDARD.encode(&self.certificate), STANDARD.encode(&self.key));
        json!({"client-certificate-data": certificate, "client-key-data": key})
    }
}
