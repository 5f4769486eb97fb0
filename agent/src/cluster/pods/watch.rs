//! Follows the pods that the API server binds to this node.

use std::time::{Duration, Instant};

use futures_util::{StreamExt as _, pin_mut};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{ListParams, WatchParams};
use kube::core::WatchEvent;
use kube::{Api, Error};

use super::server::Server;
use crate::cluster::Link;
use crate::cluster::patience::{Patience, is_code};
use crate::engine::config::names::PodKey;

/// How long a list may take.
const ANSWER: Duration = Duration::from_secs(60);

/// How long a watch may be silent: servers send a bookmark every minute, and one that sends none is asked again, which costs
/// next to nothing; a connection that is half dead is noticed so.
const SILENCE: Duration = Duration::from_secs(100);

/// A watch that ends sooner than this is not asked again at once.
const BRIEF: Duration = Duration::from_secs(1);

/// As kubelet's reflectors wait.
const FIRST: Duration = Duration::from_millis(800);
const LONGEST: Duration = Duration::from_secs(30);

/// Why a list or watch ended.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error("{0}")]
    Failed(#[from] Error),
    #[error("it did not answer within {ANSWER:?}")]
    Timeout,
}

/// Keeps `server` equal to what the API server has of pods of the node `node`, for ever.
pub async fn follow(link: Link, node: String, server: Server) {
    let mut patience = Patience::new(FIRST, LONGEST);
    let mut follower = Follower { selector: format!("spec.nodeName={node}"), server, version: None };
    let mut lost = false;
    loop {
        let api: Api<Pod> = Api::all(link.client().await);
        let began = Instant::now();
        let watches = follower.version.is_some();
        let outcome = match follower.version.clone() {
            None => follower.list(&api).await,
            Some(version) => follower.watch(&api, &version).await,
        };
        let Err(error) = outcome else {
            if std::mem::take(&mut lost) {
                tracing::info!("the API server answers again: pods are followed");
            }
            patience.reset();
            if watches && began.elapsed() < BRIEF {
                tokio::time::sleep(FIRST).await;
            }
            continue;
        };
        if let Broken::Failed(error) = &error
            && is_code(error, 410)
        {
            tracing::info!("the API server has forgotten what this node had seen last: all pods are listed again");
            follower.version = None;
        } else if !std::mem::replace(&mut lost, true) {
            tracing::warn!(%error, "the pods of the API server cannot be followed; what is known of them goes on, and it is tried again");
        }
        let wait = match &error {
            Broken::Failed(error) => patience.after(error),
            Broken::Timeout => FIRST,
        };
        tokio::time::sleep(wait).await;
    }
}

struct Follower {
    selector: String,
    server: Server,
    /// Everything up to this is known.
    version: Option<String>,
}

impl Follower {
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
