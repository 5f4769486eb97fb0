//! Makes the node known, or takes over the one of its name.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node;
use kube::api::{ListParams, Patch, PatchParams, PostParams};

use super::{Failed, Telling, object, patch};
use crate::cluster::client::chain;
use crate::cluster::pace::Pauses;

/// As kubelet waits between attempts.
const FIRST: Duration = Duration::from_millis(100);
const MOST: Duration = Duration::from_secs(7);

/// Tries until the API server knows the node. The answer is the node as it knows it, and whether it was made.
pub(super) async fn register(telling: &Telling, mine: &Arc<Node>) -> (Arc<Node>, bool) {
    let mut pauses = Pauses::new(FIRST, MOST);
    let mut said = String::new();
    loop {
        match attempt(telling, mine).await {
            Ok((node, made)) => return (Arc::new(node), made),
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

async fn attempt(telling: &Telling, mine: &Node) -> Result<(Node, bool), Failed> {
    let (nodes, name) = (telling.nodes().await, telling.wish.name.as_str());
    let (port, in_use) = (*telling.port.borrow(), telling.in_use.borrow().clone());
    let own = object::Own { wish: telling.wish.clone(), port, ending: None, in_use };
    if telling.wish.register {
        let node = object::first(mine, &own, Timestamp::now());
        let params = PostParams::default();
        match telling.answer("register node", name, nodes.create(&params, &node)).await {
            Ok(node) => {
                tracing::info!(node = name, "the node is registered");
                return Ok((node, true));
            }
            // It may be there although it may not be made.
            Err(error) if matches!(error.code(), Some(403 | 409)) => {
                let theirs = telling.answer("get node", name, nodes.get(name)).await;
                // Why it was not made says more than why it is not found.
                let node = adopt(telling, mine, theirs.map_err(|_| error)?, &own).await?;
                return Ok((node, false));
            }
            Err(error) => return Err(error),
        }
    }
    Ok((telling.answer("get node", name, nodes.get(name)).await?, false))
}

async fn adopt(telling: &Telling, mine: &Node, theirs: Node, own: &object::Own<'_>) -> Result<Node, Failed> {
    let (nodes, name) = (telling.nodes().await, telling.wish.name.as_str());
    let wanted = object::adopted(mine, &theirs, own);
    tracing::info!(node = name, "the node was registered before");
    let Some(patch) = patch::between(&theirs, &wanted) else { return Ok(theirs) };
    let (params, patch) = (PatchParams::default(), Patch::Strategic(patch));
    telling.answer("take over node", name, nodes.patch_status(name, &params, &patch)).await
}

/// Whether the API server has lost the node that was `seen`, and with it everything: it counts its versions from an earlier
/// one. A node that somebody has deleted stays away until its agent starts anew, as kubelet's does.
pub(super) async fn is_another_storage(telling: &Telling, seen: &Node) -> bool {
    if telling.link.node().borrow().is_some() {
        return false;
    }
    let params = ListParams::default().fields(&format!("metadata.name={}", telling.wish.name));
    let nodes = telling.nodes().await;
    match telling.answer("list node", &telling.wish.name, nodes.list(&params)).await {
        Ok(list) if list.items.is_empty() => {
            is_earlier(list.metadata.resource_version.as_deref(), seen.metadata.resource_version.as_deref())
        }
        _ => false,
    }
}

fn is_earlier(now: Option<&str>, seen: Option<&str>) -> bool {
    let number = |version: Option<&str>| version?.parse::<u64>().ok();
    number(now).zip(number(seen)).is_some_and(|(now, seen)| now < seen)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_that_go_back_are_another_storage_s() {
        for (now, seen, expected) in [
            (Some("5"), Some("10"), true),
            (Some("11"), Some("10"), false),
            (None, Some("1"), false),
            (Some("1"), None, false),
        ] {
            assert_eq!(is_earlier(now, seen), expected, "{now:?} {seen:?}");
        }
    }
}
