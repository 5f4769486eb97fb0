//! Follows the pods that the API server binds to this node.

use std::time::{Duration, Instant};

use futures_util::{StreamExt as _, pin_mut};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{ListParams, WatchParams};
use kube::core::WatchEvent;
use kube::{Api, Error};

use super::answer::is_code;
use super::server::Server;
use crate::cluster::Link;
use crate::cluster::pace::Pauses;
use crate::engine::config::names::PodKey;

/// How long a list may take.
const ANSWER: Duration = Duration::from_secs(60);

/// How long a watch may be silent: servers send a bookmark every minute, and one that sends none is asked again, which costs
/// next to nothing; a connection that is half dead is noticed so.
const SILENCE: Duration = Duration::from_secs(100);

/// A watch that ends sooner than this is not asked again at once.
const BRIEF: Duration = Duration::from_secs(1);

/// Why a list or watch ended.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error("{0}")]
    Failed(#[from] Error),
    #[error("it did not answer within {ANSWER:?}")]
    Timeout,
}

/// Keeps `server` equal to what the API server has of pods of the node `node`, for ever.
pub async fn follow(mut link: Link, node: String, server: Server) {
    let mut pauses = Pauses::of_watch();
    let mut follower = Follower { selector: format!("spec.nodeName={node}"), server, version: None };
    loop {
        let api: Api<Pod> = Api::all(link.latest().await);
        let began = Instant::now();
        let watches = follower.version.is_some();
        let outcome = tokio::select! {
            outcome = follower.go_on(&api) => outcome,
            // It may have another storage, whose versions say nothing of those that were seen.
            () = link.changed() => {
                follower.version = None;
                follower.server.doubt();
                continue;
            }
        };
        match outcome {
            Ok(()) => {
                pauses.reset();
                if watches && began.elapsed() < BRIEF {
                    pauses.wait().await;
                }
                continue;
            }
            Err(Broken::Failed(error)) if is_code(&error, 410) => {
                tracing::info!("the API server has forgotten what this node had seen last: all pods are listed again");
                follower.version = None;
            }
            Err(error) => tracing::debug!(%error, "the pods of the API server cannot be followed; it is tried again"),
        }
        pauses.wait().await;
    }
}

struct Follower {
    selector: String,
    server: Server,
    /// Everything up to this is known.
    version: Option<String>,
}

impl Follower {
    async fn go_on(&mut self, api: &Api<Pod>) -> Result<(), Broken> {
        match self.version.clone() {
            None => self.list(api).await,
            Some(version) => self.watch(api, &version).await,
        }
    }

    async fn list(&mut self, api: &Api<Pod>) -> Result<(), Broken> {
        let params = ListParams::default().fields(&self.selector);
        let listed = tokio::time::timeout(ANSWER, api.list(&params)).await.map_err(|_| Broken::Timeout)??;
        self.version = Some(listed.metadata.resource_version.unwrap_or_default());
        self.server.replace(listed.items);
        Ok(())
    }

    /// Takes what changes, until the server ends it.
    async fn watch(&mut self, api: &Api<Pod>, version: &str) -> Result<(), Broken> {
        let params = WatchParams::default().fields(&self.selector);
        let opened = tokio::time::timeout(ANSWER, api.watch(&params, version)).await;
        let events = opened.map_err(|_| Broken::Timeout)??;
        pin_mut!(events);
        loop {
            let Ok(next) = tokio::time::timeout(SILENCE, events.next()).await else { return Ok(()) };
            let Some(event) = next else { return Ok(()) };
            match event? {
                WatchEvent::Added(pod) | WatchEvent::Modified(pod) => {
                    self.version.clone_from(&pod.metadata.resource_version);
                    self.server.put(pod);
                }
                WatchEvent::Deleted(pod) => {
                    self.version.clone_from(&pod.metadata.resource_version);
                    self.server.remove(&PodKey::of(&pod).uid);
                }
                WatchEvent::Bookmark(mark) => self.version = Some(mark.metadata.resource_version),
                WatchEvent::Error(status) => return Err(Error::Api(status).into()),
            }
        }
    }
}
