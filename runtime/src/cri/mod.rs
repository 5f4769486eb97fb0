//! The Container Runtime Interface over the runtime: messages in, validated requests on, answers back.
//!
//! Every handler is the same shape: convert, do the work on a thread that may block, convert; what only looks at records
//! does so in place. What is slow is bounded by [`Services::run`]; what goes wrong becomes a status in one place.

mod config;
mod container;
mod convert;
mod events;
mod filesystem;
mod image;
mod info;
mod metrics;
mod resources;
mod runtime;
mod sandbox;
mod show;
mod signals;
mod stats;
mod status;
mod streaming;

use std::sync::Arc;

use tokio::sync::Semaphore;
use tonic::{Code, Status};

use crate::core::Core;
use crate::error::{During as _, Error, Kind, Result};
use crate::ids::Owner;
use crate::images::{self, PullRequest, Subscription};
use crate::sessions::Sessions;

/// Requests that may be at work at once; more wait. Stopping a container holds its place for its grace period, so that
/// this is well above the number of containers which a client stops at a time.
const MAX_AT_WORK: usize = 256;

/// How the message of a pull begins whose registry does not answer (k8s.io/cri-api/pkg/errors).
const REGISTRY_UNAVAILABLE: &str = "RegistryUnavailable";

/// The services of one owner.
#[derive(Clone)]
pub struct Services {
    core: Arc<Core>,
    owner: Owner,
    sessions: Sessions,
    bridge: Arc<Semaphore>,
    meter: Arc<stats::Meter>,
    events: Arc<events::Hub>,
}

impl Services {
    /// Services that show and change what is `owner`'s and nothing else.
    pub fn new(core: Arc<Core>, owner: Owner, sessions: Sessions) -> Self {
        Self {
            core,
            owner,
            sessions,
            bridge: Arc::new(Semaphore::new(MAX_AT_WORK)),
            meter: Arc::default(),
            events: Arc::default(),
        }
    }

    /// Runs blocking work on a thread for it.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Arc<Core>, &Owner) -> Result<T> + Send + 'static,
    ) -> std::result::Result<T, Status> {
        self.blocking(work).await.map_err(|error| status(&error))
    }

    /// Looks at records, right here: they are few, small and in memory, so that another thread would cost more than the
    /// look, and a client with many pods would have as many threads.
    pub(crate) fn look<T>(&self, look: impl FnOnce(&Arc<Core>, &Owner) -> Result<T>) -> std::result::Result<T, Status> {
        look(&self.core, &self.owner).map_err(|error| status(&error))
    }

    /// [`Services::run`] for what goes on with an error.
    pub(crate) async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Arc<Core>, &Owner) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let place = Arc::clone(&self.bridge).acquire_owned().await;
        let (core, owner) = (Arc::clone(&self.core), self.owner.clone());
        let done = tokio::task::spawn_blocking(move || {
            // Given back when the work is over, even if nobody waits for it any more.
            let _place = place;
            work(&core, &owner)
        });
        done.await.map_err(std::io::Error::from).during(|| "do what was requested".into())?
    }
}

impl Services {
    /// Wishes for an image.
    pub(crate) fn begin_pull(&self, request: PullRequest) -> std::result::Result<Subscription, Status> {
        self.core.puller.pull(request).map_err(|error| image_status(&error))
    }
}

/// An error as a client sees it.
pub fn status(error: &Error) -> Status {
    answer(error.kind(), error)
}

/// The same of an image, of which several may hear.
pub(crate) fn image_status(error: &images::Error) -> Status {
    let status = answer(error.kind().into(), error);
    match error {
        // The word by which kubelet tells a registry that cannot be reached from an image that cannot be had.
        images::Error::Registry { .. } if error.kind() == images::Kind::Transient => {
            Status::new(status.code(), format!("{REGISTRY_UNAVAILABLE}: {}", status.message()))
        }
        _ => status,
    }
}

fn answer(kind: Kind, error: &dyn std::error::Error) -> Status {
    let code = match kind {
        Kind::NotFound => Code::NotFound,
        Kind::Conflict => Code::FailedPrecondition,
        Kind::Invalid => Code::InvalidArgument,
        Kind::Unauthenticated => Code::Unauthenticated,
        Kind::Transient => Code::Unavailable,
        Kind::Timeout => Code::DeadlineExceeded,
        Kind::Internal => Code::Internal,
    };
    Status::new(code, bounded(error.to_string()))
}

/// A message that fits into the trailers of an answer: a client gives up a connection whose headers have no end.
fn bounded(mut text: String) -> String {
    const MOST: usize = 4096;
    if text.len() > MOST {
        text.truncate(text.floor_char_boundary(MOST));
        text.push('…');
    }
    text
}
