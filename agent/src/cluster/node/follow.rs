//! Follows what others write into the node: taints, labels, whether it is cordoned, its range of addresses for pods.

use std::sync::Arc;

use futures_util::StreamExt as _;
use k8s_openapi::api::core::v1::Node;
use kube::api::Api;
use kube::runtime::watcher::{self, Event, watcher};

use super::Telling;
use crate::cluster::Way;
use crate::cluster::client::chain;
use crate::cluster::pace::Pauses;

/// Follows it for ever.
pub(super) async fn follow(telling: Telling, way: Way) {
    let mut pauses = Pauses::of_watch();
    let only = format!("metadata.name={}", telling.wish.name);
    let mut link = telling.link.clone();
    loop {
        let nodes: Api<Node> = Api::all(link.latest().await);
        let mut events = std::pin::pin!(watcher(nodes, watcher::Config::default().fields(&only)));
        let mut listed = None;
        loop {
            let event = tokio::select! {
                event = events.next() => event,
                // What comes from now on is asked for with the new certificate.
                () = link.changed() => break,
            };
            match event {
                Some(Ok(event)) => {
                    pauses.reset();
                    match event {
                        Event::Init => listed = None,
                        Event::InitApply(node) => listed = Some(Arc::new(node)),
                        Event::InitDone => way.set_node(listed.take()),
                        Event::Apply(node) => way.set_node(Some(Arc::new(node))),
                        Event::Delete(_) => way.set_node(None),
                    }
                }
                Some(Err(error)) => {
                    tracing::debug!(error = chain(&error), "the node is not watched; it is tried again");
                    pauses.wait().await;
                }
                None => break,
            }
        }
    }
}
