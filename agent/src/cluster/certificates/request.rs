//! Asks the API server for a certificate, and waits until somebody has approved and signed it.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures_util::StreamExt as _;
use k8s_openapi::ByteString;
use k8s_openapi::api::certificates::v1::{CertificateSigningRequest, CertificateSigningRequestSpec};
use k8s_openapi::api::core::v1::NodeAddress;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Api, PostParams};
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, watcher};
use kube::{Client, ResourceExt as _};
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, SanType};
use sha2::{Digest as _, Sha256};
use x509_parser::extensions::GeneralName;

use super::Pair;
use crate::cluster::client::chain;

/// What a certificate is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// The API server knows the node by it.
    Client,
    /// Others know the node by it, at these names and addresses.
    Server {
        /// Its names.
        names: BTreeSet<String>,
        /// Its addresses.
        addresses: BTreeSet<IpAddr>,
    },
}

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// The request cannot be made.
    #[error("make a request for a certificate: {0}")]
    Make(#[from] rcgen::Error),
    /// The API server does not take it, or does not answer.
    #[error("request a certificate: {0}")]
    Request(#[source] Box<kube::Error>),
    /// There is another request of its name.
    #[error("the certificate signing request {0} is another one's; remove it")]
    Another(String),
    /// It was refused by whoever decides.
    #[error("the certificate signing request {name} was {verdict}: {message}")]
    Verdict {
        /// Its name.
        name: String,
        /// Denied, or failed.
        verdict: &'static str,
        /// What was said of it.
        message: String,
    },
    /// It is not there any more.
    #[error("the certificate signing request {0} was removed")]
    Gone(String),
    /// Nobody has decided.
    #[error("nobody has approved the certificate signing request {0} for {seconds} s; see kubectl certificate approve", seconds = .1.as_secs())]
    Undecided(String, Duration),
}

impl Refused {
    /// Whether the same request may still be granted.
    pub fn is_pending(&self) -> bool {
        matches!(self, Self::Request(_) | Self::Undecided(..))
    }
}

impl Purpose {
    /// The addresses of a node, as its object has them; none while there are none.
    pub fn server(addresses: &[NodeAddress]) -> Option<Self> {
        let (mut names, mut ips) = (BTreeSet::new(), BTreeSet::new());
        for address in addresses.iter().filter(|it| !it.address.is_empty()) {
            match (address.address.parse(), address.type_.as_str()) {
                (Ok(ip), "Hostname" | "InternalIP" | "ExternalIP") => drop(ips.insert(ip)),
                (Err(_), "InternalIP" | "ExternalIP") => {}
                _ => drop(names.insert(address.address.clone())),
            }
        }
        (!names.is_empty() || !ips.is_empty()).then_some(Self::Server { names, addresses: ips })
    }

    /// Whether a certificate is good for it: it may have more names.
    pub fn is_met(&self, pair: &Pair) -> bool {
        let Self::Server { names, addresses } = self else { return true };
        let Some(certificate) = pair.certified.cert.first() else { return false };
        let Ok((_, certificate)) = x509_parser::parse_x509_certificate(certificate) else { return false };
        let Ok(Some(there)) = certificate.subject_alternative_name() else { return false };
        let there = &there.value.general_names;
        let octets = |ip: &IpAddr| match ip {
            IpAddr::V4(ip) => ip.octets().to_vec(),
            IpAddr::V6(ip) => ip.octets().to_vec(),
        };
        names.iter().all(|name| there.contains(&GeneralName::DNSName(name)))
            && addresses.iter().all(|ip| there.contains(&GeneralName::IPAddress(&octets(ip))))
    }

    fn signer(&self) -> &'static str {
        match self {
            Self::Client => "kubernetes.io/kube-apiserver-client-kubelet",
            Self::Server { .. } => "kubernetes.io/kubelet-serving",
        }
    }

    fn usages(&self) -> Vec<String> {
        let usage = match self {
            Self::Client => "client auth",
            Self::Server { .. } => "server auth",
        };
        vec!["digital signature".to_owned(), usage.to_owned()]
    }

    fn request(&self, node: &str, key: &KeyPair) -> Result<String, rcgen::Error> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, "system:nodes");
        params.distinguished_name.push(DnType::CommonName, format!("system:node:{node}"));
        if let Self::Server { names, addresses } = self {
            for name in names {
                params.subject_alt_names.push(SanType::DnsName(name.as_str().try_into()?));
            }
            params.subject_alt_names.extend(addresses.iter().copied().map(SanType::IpAddress));
        }
        params.serialize_request(key)?.pem()
    }

    /// A name that is the same for the same request, so that who asks again asks for the same.
    fn name(&self, node: &str, key: &KeyPair) -> String {
        let mut hash = Sha256::new();
        for part in [key.public_key_raw(), node.as_bytes(), self.signer().as_bytes()] {
            hash.update(URL_SAFE_NO_PAD.encode(part));
            hash.update(b"|");
        }
        format!("node-csr-{}", URL_SAFE_NO_PAD.encode(hash.finalize()))
    }
}

/// Asks for a certificate of a node, and waits for it up to `patience`. The answer is PEM. What was asked for by `client`
/// is found again if it is asked for again with the same key.
pub async fn ask(
    client: &Client,
    purpose: &Purpose,
    node: &str,
    key: &KeyPair,
    patience: Duration,
) -> Result<String, Refused> {
    let requests: Api<CertificateSigningRequest> = Api::all(client.clone());
    let name = purpose.name(node, key);
    let request = CertificateSigningRequest {
        metadata: ObjectMeta { name: Some(name.clone()), ..ObjectMeta::default() },
        spec: CertificateSigningRequestSpec {
            request: ByteString(purpose.request(node, key)?.into_bytes()),
            signer_name: purpose.signer().to_owned(),
            usages: Some(purpose.usages()),
            ..CertificateSigningRequestSpec::default()
        },
        status: None,
    };
    let failed = |error| Refused::Request(Box::new(error));
    let made = match requests.create(&PostParams::default(), &request).await {
        Ok(made) => made,
        Err(kube::Error::Api(status)) if status.code == 409 => {
            let there = requests.get(&name).await.map_err(failed)?;
            let same = there.spec.signer_name == request.spec.signer_name && there.spec.usages == request.spec.usages;
            if !same {
                return Err(Refused::Another(name));
            }
            there
        }
        Err(error) => return Err(failed(error)),
    };
    tracing::info!(request = name, signer = purpose.signer(), "a certificate was asked for");
    match tokio::time::timeout(patience, wait(requests, &name, made.uid())).await {
        Ok(answer) => answer,
        Err(_) => Err(Refused::Undecided(name, patience)),
    }
}

async fn wait(requests: Api<CertificateSigningRequest>, name: &str, uid: Option<String>) -> Result<String, Refused> {
    let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
    let mut events = std::pin::pin!(watcher(requests, config).default_backoff());
    let mut listed = false;
    while let Some(event) = events.next().await {
        let request = match event {
            Ok(watcher::Event::Init) => {
                listed = false;
                continue;
            }
            Ok(watcher::Event::InitApply(request)) => {
                listed = true;
                request
            }
            Ok(watcher::Event::Apply(request)) => request,
            Ok(watcher::Event::InitDone) if listed => continue,
            Ok(watcher::Event::InitDone | watcher::Event::Delete(_)) => return Err(Refused::Gone(name.to_owned())),
            Err(error) => {
                tracing::debug!(error = chain(&error), "the request is not watched; it is tried again");
                continue;
            }
        };
        if request.uid() != uid {
            return Err(Refused::Gone(name.to_owned()));
        }
        if let Some(verdict) = verdict(&request) {
            return verdict;
        }
    }
    Err(Refused::Gone(name.to_owned()))
}

/// What has become of a request, once something has.
fn verdict(request: &CertificateSigningRequest) -> Option<Result<String, Refused>> {
    let status = request.status.as_ref()?;
    let mut approved = false;
    for condition in status.conditions.iter().flatten() {
        let refused = |verdict| {
            let message = condition.message.clone().or_else(|| condition.reason.clone()).unwrap_or_default();
            Some(Err(Refused::Verdict { name: request.name_any(), verdict, message }))
        };
        match condition.type_.as_str() {
            "Denied" => return refused("denied"),
            "Failed" => return refused("not signed"),
            "Approved" => approved = true,
            _ => {}
        }
    }
    let certificate = status.certificate.as_ref().filter(|it| approved && !it.0.is_empty())?;
    Some(Ok(String::from_utf8_lossy(&certificate.0).into_owned()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;
    use x509_parser::prelude::FromDer as _;

    use super::*;

    fn addresses(list: &[(&str, &str)]) -> Vec<NodeAddress> {
        let one = |(type_, address): &(&str, &str)| NodeAddress {
            type_: (*type_).to_owned(),
            address: (*address).to_owned(),
        };
        list.iter().map(one).collect()
    }

    #[test]
    fn a_server_is_named_by_the_addresses_of_its_node() {
        let of = |list: &[(&str, &str)]| Purpose::server(&addresses(list));
        let found =
            of(&[("InternalIP", "192.0.2.1"), ("Hostname", "n"), ("ExternalDNS", "n.example"), ("InternalIP", "?")]);
        let names = ["n", "n.example"].map(str::to_owned).into();
        assert_eq!(found, Some(Purpose::Server { names, addresses: ["192.0.2.1".parse().unwrap()].into() }));
        assert_eq!(of(&[("InternalIP", "")]), None);
    }

    #[test]
    fn a_certificate_is_good_for_the_names_that_it_has() {
        let ips = ["192.0.2.1".parse().unwrap()];
        let (certificate, key) = super::super::self_signed::make("n", &ips, jiff::Timestamp::now()).unwrap();
        let pair = Pair::of_pem(certificate.as_bytes(), key.as_bytes()).unwrap();
        let met = |list: &[(&str, &str)]| Purpose::server(&addresses(list)).unwrap().is_met(&pair);
        assert!(met(&[("Hostname", "n"), ("InternalIP", "192.0.2.1")]) && met(&[("Hostname", "n")]));
        assert!(!met(&[("Hostname", "m")]) && !met(&[("InternalIP", "192.0.2.2")]));
    }

    #[test]
    fn a_request_is_of_the_node_and_says_no_more_than_it_must() {
        let key = KeyPair::generate().unwrap();
        for purpose in [Purpose::Client, Purpose::server(&addresses(&[("Hostname", "n")])).unwrap()] {
            let text = purpose.request("n", &key).unwrap();
            let (_, pem) = x509_parser::pem::parse_x509_pem(text.as_bytes()).unwrap();
            let (_, request) =
                x509_parser::certification_request::X509CertificationRequest::from_der(&pem.contents).unwrap();
            let info = &request.certification_request_info;
            assert_eq!(info.subject.to_string(), "O=system:nodes, CN=system:node:n");
            // A client's with other names would not be signed.
            assert_eq!(request.requested_extensions().is_some(), purpose != Purpose::Client);
        }
        let name = |node| Purpose::Client.name(node, &key);
        assert_eq!(name("n"), name("n"));
        assert_ne!(name("n"), name("m"));
    }

    #[test]
    fn a_request_is_granted_when_it_is_approved_and_signed() {
        let verdict = |status: serde_json::Value| {
            let request =
                json!({"metadata": {"name": "r"}, "spec": {"request": "", "signerName": "s"}, "status": status});
            super::verdict(&serde_json::from_value(request).unwrap()).map(|it| it.map_err(|error| error.to_string()))
        };
        let condition = |type_: &str| json!([{"type": type_, "status": "True", "message": "why"}]);
        assert_eq!(verdict(json!({})), None);
        assert_eq!(verdict(json!({"conditions": condition("Approved")})), None);
        assert_eq!(verdict(json!({"certificate": "Yw=="})), None, "before anybody has approved it");
        let granted = verdict(json!({"conditions": condition("Approved"), "certificate": "Yw=="}));
        assert_eq!(granted, Some(Ok("c".into())));
        for (type_, word) in [("Denied", "denied"), ("Failed", "not signed")] {
            let refused = verdict(json!({"conditions": condition(type_)})).unwrap().unwrap_err();
            assert_eq!(refused, format!("the certificate signing request r was {word}: why"));
        }
    }
}
