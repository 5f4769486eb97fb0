//! Keeps the way to the API server as the kubeconfig has it: files that change are read again.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::Notify;

use super::certificates::Files;
use super::client::{self, Error, Making, Stamps, chain};
use super::{Way, Wish, bootstrap};

/// How often the kubeconfig and what it names are looked at.
const LOOK: Duration = Duration::from_secs(10);

/// The connection to the API server.
pub struct Connection {
    kubeconfig: PathBuf,
    /// Where the node's own certificate is, if it is renewed: it counts more than the kubeconfig's.
    own: Option<Files>,
    making: Making,
    way: Way,
    stamps: Option<Stamps>,
    /// Rung when there is another certificate.
    bell: Arc<Notify>,
}

impl Connection {
    /// As is wished. Without bootstrap a kubeconfig that cannot be used is an error: nothing would ever come of it.
    pub async fn new(wish: &Wish, making: Making, way: Way, bell: Arc<Notify>) -> Result<Self, Error> {
        let own = wish.rotate.then(|| Files::client(&wish.cert_dir));
        let mut this = Self { kubeconfig: wish.kubeconfig.clone(), own, making, way, stamps: None, bell };
        if wish.bootstrap.is_none() || bootstrap::is_valid(&this.kubeconfig, Timestamp::now()).await {
            this.open().await?;
        }
        Ok(this)
    }

    /// Keeps it for ever.
    pub async fn keep(mut self) {
        loop {
            tokio::select! {
                () = tokio::time::sleep(LOOK) => match &self.stamps {
                    Some(stamps) if stamps.are_old() => {}
                    _ => continue,
                },
                () = self.bell.notified() => {}
            }
            match self.open().await {
                Ok(()) => {
                    tracing::info!(path = %self.kubeconfig.display(), "the API server is asked with other credentials")
                }
                Err(error) => tracing::warn!(
                    error = chain(&error),
                    "the kubeconfig has changed and cannot be used: what it was before is, until it changes again"
                ),
            }
        }
    }

    async fn open(&mut self) -> Result<(), Error> {
        let own = self.own.as_ref().map(Files::current);
        // Before the files are read: one that changes in between is seen to have changed.
        self.stamps = Some(Stamps::of(&self.kubeconfig, own.clone()));
        let mut read = client::read(&self.kubeconfig).await?;
        let until = self.own.as_ref().and_then(|files| files.read().ok()?).map(|pair| pair.not_after);
        let until = until.filter(|until| *until > Timestamp::now());
        if let (Some(path), Some(_)) = (own, until) {
            read.identify_by(&path);
        }
        self.making.counts.set_client(until);
        self.way.set(read.clients(&self.kubeconfig, &self.making)?);
        Ok(())
    }
}
