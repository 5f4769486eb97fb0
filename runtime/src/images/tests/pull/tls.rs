//! TLS: whom a pull believes.

use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::{Bench, wait};
use crate::images::Kind;

/// Gives the bench's server a certificate for 127.0.0.1 that nobody has signed but itself.
fn certify(bench: &Bench) -> String {
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()],
            PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap(),
        )
        .unwrap();
    bench.server.use_tls(config);
    certificate
}

fn hosts(bench: &Bench, text: &str) {
    let dir = bench.root.path().join("certs.d").join(bench.server.address());
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::write(dir.join("hosts.toml"), text).unwrap();
}

fn pull(bench: &Bench) -> Result<(), Arc<crate::images::Error>> {
    wait(bench.puller().pull(bench.request("team/app:1")).unwrap().image()).map(drop)
}

#[test]
fn a_certificate_that_nobody_vouches_for_is_refused_and_plain_http_is_not_tried_instead() {
    let bench = Bench::new();
    certify(&bench);
    let error = pull(&bench).unwrap_err();
    assert_eq!(error.kind(), Kind::Invalid, "{error}");
    assert!(error.to_string().contains("certificate"), "{error}");
    assert!(bench.server.log().is_empty());
}

#[test]
fn the_configuration_of_a_host_says_whom_to_believe() {
    let bench = Bench::new();
    let certificate = certify(&bench);
    let dir = bench.root.path().join("certs.d").join(bench.server.address());
    hosts(&bench, "ca = \"own.crt\"\n");
    let error = pull(&bench).unwrap_err();
    assert!(error.to_string().contains("own.crt"), "{error}");
    std::fs::write(dir.join("own.crt"), certificate).unwrap();
    pull(&bench).unwrap();

    let bench = Bench::new();
    certify(&bench);
    hosts(&bench, "skip_verify = true\n");
    pull(&bench).unwrap();
}
