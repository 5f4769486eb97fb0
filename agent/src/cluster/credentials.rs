//! The certificate by which the API server knows the node: got by bootstrap where there is none, renewed before it runs
//! out.
//!
//! ```text
//!  no kubeconfig that counts ── bootstrap ──> certificate, kubeconfig ── at 70 to 90 % of its life ──> another certificate
//!          ^                                          │
//!          └──────────── it has run out <─────────────┘  (the API server was away for long)
//! ```

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use kube::Client;
use tokio::sync::Notify;

use super::certificates::{self, Files, Purpose, Refused, ask, rotation};
use super::client::{self, Making, chain};
use super::pace::{Pauses, chance};
use super::{Link, Wish, bootstrap};

/// How long to wait for a signature before it is asked anew, as kubelet does.
const PATIENCE: Duration = Duration::from_secs(900);

/// How long the first one is waited for.
const FIRST_PATIENCE: Duration = Duration::from_secs(3600);

/// The longest sleep: clocks are set.
const LOOK: Duration = Duration::from_secs(600);

/// As kubelet waits between attempts.
const PAUSES: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(32));

/// Keeps the certificate.
pub struct Credentials {
    kubeconfig: PathBuf,
    bootstrap: Option<PathBuf>,
    rotate: bool,
    node: String,
    files: Files,
    making: Making,
    link: Link,
    /// Rung when there is another one.
    bell: Arc<Notify>,
    /// When in a certificate's life this node renews it.
    chance: f64,
}

/// Why there is no certificate yet.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Client(#[from] client::Error),
    #[error(transparent)]
    Refused(#[from] Refused),
    #[error(transparent)]
    Certificate(#[from] certificates::Error),
    #[error(transparent)]
    Bootstrap(#[from] bootstrap::Error),
}

impl Credentials {
    /// As is wished; none if nothing is to be kept.
    pub fn new(wish: &Wish, making: Making, link: Link, bell: Arc<Notify>) -> Option<Self> {
        (wish.rotate || wish.bootstrap.is_some()).then(|| Self {
            kubeconfig: wish.kubeconfig.clone(),
            bootstrap: wish.bootstrap.clone(),
            rotate: wish.rotate,
            node: wish.node.name.clone(),
            files: Files::client(&wish.cert_dir),
            making,
            link,
            bell,
            chance: chance(),
        })
    }

    /// Keeps it for ever; if it is not to be renewed, only until it is there.
    pub async fn keep(self) {
        let mut pauses = Pauses::new(PAUSES.0, PAUSES.1);
        let mut said = String::new();
        loop {
            if !self.is_due().await {
                if !self.rotate {
                    return;
                }
                continue;
            }
            match self.renew().await {
                Ok(()) => {
                    pauses.reset();
                    said.clear();
                }
                Err(error) => {
                    let text = chain(&error);
                    if said == text {
                        tracing::debug!(error = text, "there is no certificate of the API server's for this node yet");
                    } else {
                        tracing::warn!(
                            error = text,
                            "there is no certificate of the API server's for this node yet; it is tried again"
                        );
                        said = text;
                    }
                    pauses.wait().await;
                }
            }
        }
    }

    /// Whether one has to be asked for; waits until it may have to.
    async fn is_due(&self) -> bool {
        if self.bootstrap.is_some() && !bootstrap::is_valid(&self.kubeconfig, Timestamp::now()).await {
            return true;
        }
        if !self.rotate {
            return false;
        }
        match self.files.read() {
            Ok(Some(pair)) => {
                let wait = rotation::wait(&pair, Timestamp::now(), self.chance);
                tokio::time::sleep(wait.min(LOOK)).await;
                wait <= LOOK
            }
            // What the kubeconfig has is not the node's to renew: it gets one of its own.
            Ok(None) => true,
            Err(error) => {
                tracing::warn!(%error, "the node's certificate cannot be used; another is asked for");
                true
            }
        }
    }

    async fn renew(&self) -> Result<(), Error> {
        let now = Timestamp::now();
        let bootstrap = match &self.bootstrap {
            Some(path) if !bootstrap::is_valid(&self.kubeconfig, now).await => Some(path),
            _ => None,
        };
        let (client, patience) = match bootstrap {
            Some(path) => (self.client_of(path).await?, FIRST_PATIENCE),
            None => (self.link.client().await, PATIENCE),
        };
        let key = self.files.pending_key()?;
        let certificate = ask(&client, &Purpose::Client, &self.node, &key, patience).await;
        // One that was refused is not asked for again.
        if certificate.as_ref().is_err_and(|refused| !refused.is_pending()) {
            self.files.forget_pending_key();
        }
        let pair = self.files.update(&certificate?, &key.serialize_pem(), Timestamp::now())?;
        self.files.forget_pending_key();
        if let Some(path) = bootstrap {
            bootstrap::write(path, &self.kubeconfig, &self.files.current())?;
        }
        tracing::info!(until = %pair.not_after, "the node has a new certificate");
        self.bell.notify_one();
        Ok(())
    }

    async fn client_of(&self, kubeconfig: &std::path::Path) -> Result<Client, client::Error> {
        Ok(client::read(kubeconfig).await?.clients(kubeconfig, &self.making)?.ordinary)
    }
}
