//! Makes the node known, or takes over the one of its name.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node;
use kube::api::{Patch, PatchParams, PostParams};

use super::{Failed, Telling, object, patch};
use crate::cluster::client::chain;
use crate::cluster::pace::Pauses;

/// As kubelet waits between attempts.
const FIRST: Duration = Duration::from_millis(100);
const MOST: Duration = Duration::from_secs(7);

/// Tries until the API server knows the node. The answer is the node as it knows it.
pub(super) async fn register(telling: &Telling, mine: &Arc<Node>) -> Arc<Node> {
    let mut pauses = Pauses::new(FIRST, MOST);
    let mut said = String::new();
    loop {
        match attempt(telling, mine).await {
            Ok(node) => return Arc::new(node),
            Err(error) => {
                let text = chain(&error);
                // Once for each way in which it fails.
                if said == text {
                    tracing::debug!(error = text, "the node is not registered yet");
                } else {
                    tracing::warn!(error = text, "the node is not registered; it is tried again");
                    said = text;
                }
            }
        }
        pauses.wait().await;
    }
}

async fn attempt(telling: &Telling, mine: &Node) -> Result<Node, Failed> {
    let (nodes, name) = (telling.nodes().await, telling.wish.name.as_str());
    let own = object::Own { wish: telling.wish.clone(), port: *telling.port.borrow(), ending: None };
    if telling.wish.register {
        let node = object::first(mine, &own, Timestamp::now());
        let params = PostParams::default();
        match telling.answer("register node", name, nodes.create(&params, &node)).await {
            Ok(node) => {
                tracing::info!(node = name, "the node is registered");
                return Ok(node);
            }
            // It may be there although it may not be made.
            Err(error) if matches!(error.code(), Some(403 | 409)) => {
                let theirs = telling.answer("get node", name, nodes.get(name)).await;
                // Why it was not made says more than why it is not found.
                return adopt(telling, mine, theirs.map_err(|_| error)?, &own).await;
            }
            Err(error) => return Err(error),
        }
    }
    telling.answer("get node", name, nodes.get(name)).await
}

async fn adopt(telling: &Telling, mine: &Node, theirs: Node, own: &object::Own<'_>) -> Result<Node, Failed> {
    let (nodes, name) = (telling.nodes().await, telling.wish.name.as_str());
    let wanted = object::adopted(mine, &theirs, own);
    tracing::info!(node = name, "the node was registered before");
    let Some(patch) = patch::between(&theirs, &wanted) else { return Ok(theirs) };
    let (params, patch) = (PatchParams::default(), Patch::Strategic(patch));
    telling.answer("take over node", name, nodes.patch_status(name, &params, &patch)).await
}
