//! The way to the API server.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Node;
use kube::Client;
use tokio::sync::watch;

use super::client::Clients;

/// The way to the API server, which may not be known yet, and may become another: a certificate is renewed. Cheap to clone.
#[derive(Clone)]
pub struct Link {
    clients: watch::Receiver<Option<Clients>>,
    node: watch::Receiver<Option<Arc<Node>>>,
}

/// The other end of a [`Link`]: what makes the way known. All clones are one.
#[derive(Clone)]
pub struct Way {
    clients: watch::Sender<Option<Clients>>,
    node: watch::Sender<Option<Arc<Node>>>,
}

impl Way {
    /// A way that is not known yet.
    pub fn new() -> (Self, Link) {
        let (clients, node) = (watch::Sender::new(None), watch::Sender::new(None));
        let link = Link { clients: clients.subscribe(), node: node.subscribe() };
        (Self { clients, node }, link)
    }

    /// From now on it is this one.
    pub fn set(&self, clients: Clients) {
        self.clients.send_replace(Some(clients));
    }

    /// Whoever watches something begins anew: [`Link::changed`] ends, although the way is the same.
    pub fn renew(&self) {
        self.clients.send_modify(|_| {});
    }

    /// The node is known to be this by the API server, or not at all. What was on its way for longer than what is known
    /// already is not taken for news.
    pub fn set_node(&self, node: Option<Arc<Node>>) {
        self.node.send_if_modified(|known| {
            let news = !matches!((&known, &node), (Some(known), Some(node)) if is_older(node, known));
            if news {
                *known = node;
            }
            news
        });
    }
}

impl Link {
    /// The client to ask with now; waits until there is one. Never ends when there will be none: then the agent ends.
    pub async fn client(&self) -> Client {
        self.clients().await.ordinary
    }

    /// All of them; waits as [`Link::client`] does.
    pub(super) async fn clients(&self) -> Clients {
        let mut receiver = self.clients.clone();
        match receiver.wait_for(Option::is_some).await.map(|clients| clients.clone()) {
            Ok(Some(clients)) => clients,
            Ok(None) | Err(_) => std::future::pending().await,
        }
    }

    /// The client to ask with now, as [`Link::client`], for who waits for [`Link::changed`] besides: that ends when there is a
    /// way that comes after this one.
    pub async fn latest(&mut self) -> Client {
        loop {
            if let Some(clients) = self.clients.borrow_and_update().clone() {
                return clients.ordinary;
            }
            self.changed().await;
        }
    }

    /// Waits until the way is another one than when `self` was made, or [`Link::latest`] or this was asked last: the certificate
    /// was renewed, the server did not answer, or has another storage. Who watches something may go on with the old one until that ends by itself.
    pub async fn changed(&mut self) {
        if self.clients.changed().await.is_err() {
            std::future::pending().await
        }
    }

    /// The node as the API server knows it, with its taints, its labels and whether it is cordoned; none until it was seen,
    /// and when it was deleted.
    pub fn node(&self) -> watch::Receiver<Option<Arc<Node>>> {
        self.node.clone()
    }
}

/// Whether one is an earlier version of the other.
fn is_older(one: &Node, other: &Node) -> bool {
    let version = |node: &Node| node.metadata.resource_version.as_ref()?.parse::<u64>().ok();
    one.metadata.uid == other.metadata.uid && version(one).zip(version(other)).is_some_and(|(one, other)| one < other)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

    use super::*;

    fn node(uid: &str, version: &str) -> Option<Arc<Node>> {
        let (uid, resource_version) = (Some(uid.to_owned()), Some(version.to_owned()));
        let metadata = ObjectMeta { uid, resource_version, ..ObjectMeta::default() };
        Some(Arc::new(Node { metadata, ..Node::default() }))
    }

    #[test]
    fn an_older_version_of_the_node_is_no_news() {
        let (way, link) = Way::new();
        let receiver = link.node();
        let known = || receiver.borrow().as_ref().and_then(|it| it.metadata.resource_version.clone());
        for (uid, version, expected) in [("a", "9", "9"), ("a", "8", "9"), ("a", "10", "10"), ("b", "2", "2")] {
            way.set_node(node(uid, version));
            assert_eq!(known().as_deref(), Some(expected), "{uid} {version}");
        }
        way.set_node(None);
        assert_eq!(known(), None);
    }
}
