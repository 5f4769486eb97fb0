//! The certificate by which others know the node, where it is to be the API server's, too: asked for with the names and
//! addresses that the node has, renewed before it runs out, and when it gets another name.

use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node;

use super::Link;
use super::certificates::{self, Files, Purpose, Refused, ServerCertificate, ask, rotation};
use super::client::chain;
use super::pace::{Pauses, chance};
use crate::store::Store;

/// How long to wait for a signature before it is asked anew, as kubelet does. Somebody has to approve it by hand.
const PATIENCE: Duration = Duration::from_secs(900);

/// How often it is looked whether the node has other addresses.
const LOOK: Duration = Duration::from_secs(10);

/// Keeps the certificate.
pub struct Serving {
    files: Files,
    node: String,
    link: Link,
    store: Store,
    certificate: ServerCertificate,
    chance: f64,
}

/// Why there is no certificate yet.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Refused(#[from] Refused),
    #[error(transparent)]
    Certificate(#[from] certificates::Error),
    #[error("the node has other addresses by now")]
    Renamed,
}

impl Serving {
    /// Of the node called `node`, whose object is in `store`, with certificates in `dir`.
    pub fn new(dir: &Path, node: &str, link: Link, store: Store) -> Self {
        let (files, certificate) = (Files::server(dir), ServerCertificate::default());
        match files.read() {
            Ok(Some(pair)) if pair.not_after > Timestamp::now() => certificate.set(&pair),
            Ok(_) => {}
            Err(error) => {
                tracing::warn!(%error, "the certificate of the node's server cannot be used; another is asked for")
            }
        }
        Self { files, node: node.to_owned(), link, store, certificate, chance: chance() }
    }

    /// What a server shows.
    pub fn certificate(&self) -> ServerCertificate {
        self.certificate.clone()
    }

    /// Keeps it for ever.
    pub async fn keep(self) {
        let mut pauses = Pauses::new(Duration::from_secs(2), Duration::from_secs(32));
        loop {
            let Some(purpose) = self.purpose().filter(|purpose| self.is_due(purpose)) else {
                tokio::time::sleep(LOOK).await;
                continue;
            };
            match self.renew(&purpose).await {
                Ok(()) => pauses.reset(),
                Err(Error::Renamed) => {}
                Err(error) => {
                    tracing::warn!(
                        error = chain(&error),
                        "the node's server has no certificate of the API server's yet; it is tried again"
                    );
                    pauses.wait().await;
                }
            }
        }
    }

    fn purpose(&self) -> Option<Purpose> {
        let node = self.store.get::<Node>("", &self.node)?;
        Purpose::server(node.status.as_ref()?.addresses.as_deref()?)
    }

    fn is_due(&self, purpose: &Purpose) -> bool {
        match self.files.read() {
            Ok(Some(pair)) => !purpose.is_met(&pair) || rotation::wait(&pair, Timestamp::now(), self.chance).is_zero(),
            Ok(None) | Err(_) => true,
        }
    }

    async fn renew(&self, purpose: &Purpose) -> Result<(), Error> {
        let key = self.files.pending_key()?;
        let client = self.link.client().await;
        let certificate = tokio::select! {
            certificate = ask(&client, purpose, &self.node, &key, PATIENCE) => certificate,
            () = self.renamed(purpose) => {
                self.files.forget_pending_key();
                return Err(Error::Renamed);
            }
        };
        if certificate.as_ref().is_err_and(|refused| !refused.is_pending()) {
            self.files.forget_pending_key();
        }
        let pair = self.files.update(&certificate?, &key.serialize_pem(), Timestamp::now())?;
        self.files.forget_pending_key();
        self.certificate.set(&pair);
        tracing::info!(until = %pair.not_after, "the node's server has a new certificate");
        Ok(())
    }

    /// Waits until the node has other names than these.
    async fn renamed(&self, purpose: &Purpose) {
        while self.purpose().is_none_or(|now| now == *purpose) {
            tokio::time::sleep(LOOK).await;
        }
    }
}
