//! Keeps the way to the API server as the kubeconfig has it: files that change are read again.

use std::path::PathBuf;
use std::time::Duration;

use super::client::{self, Error, Making, Read, chain};
use super::reach::Reach;
use super::{Way, Wish};

/// How often the kubeconfig and what it names are looked at.
const LOOK: Duration = Duration::from_secs(10);

/// The connection to the API server.
pub struct Connection {
    kubeconfig: PathBuf,
    making: Making,
    way: Way,
    read: Option<Read>,
}

impl Connection {
    /// As is wished. Without bootstrap a kubeconfig that cannot be used is an error: nothing would ever come of it.
    pub async fn new(wish: &Wish, way: Way, reach: Reach) -> Result<Self, Error> {
        let making = Making { ordinary: wish.limits.ordinary, events: wish.limits.events, reach };
        let mut this = Self { kubeconfig: wish.kubeconfig.clone(), making, way, read: None };
        this.open().await?;
        Ok(this)
    }

    /// Keeps it for ever.
    pub async fn keep(mut self) {
        loop {
            tokio::time::sleep(LOOK).await;
            if !self.read.as_ref().is_none_or(Read::is_old) {
                continue;
            }
            match self.open().await {
                Ok(()) => tracing::info!(path = %self.kubeconfig.display(), "the kubeconfig has changed and is used"),
                Err(error) => {
                    tracing::warn!(
                        error = chain(&error),
                        "the kubeconfig has changed and cannot be used; the old one is"
                    )
                }
            }
        }
    }

    async fn open(&mut self) -> Result<(), Error> {
        let read = client::read(&self.kubeconfig).await?;
        let clients = read.clients(&self.kubeconfig, &self.making)?;
        self.read = Some(read);
        self.way.set(clients);
        Ok(())
    }
}
