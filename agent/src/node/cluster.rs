//! Makes the node one of a cluster: begins what brings the API server's wishes here, and what tells it how things are.

use std::time::Duration;

use anyhow::Context as _;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::cluster::connection::Connection;
use crate::cluster::node::{self, Telling};
use crate::cluster::objects::Following;
use crate::cluster::pods::{self, Server};
use crate::cluster::reach::Reach;
use crate::cluster::{Link, Way, Wish};
use crate::engine::Engine;
use crate::store::Store;

/// How long the API server may take to hear that the node ends.
const FAREWELL: Duration = Duration::from_secs(2);

/// What goes on while the node is one of a cluster; it ends when this is dropped.
pub struct Membership {
    /// The way to the API server.
    pub link: Link,
    /// The port that kubelet's API is served on, as soon as it is.
    pub port: watch::Sender<Option<u16>>,
    /// The pods that are bound to it.
    pub pods: Server,
    /// What they refer to.
    pub objects: Following,
    /// What works on it.
    pub tasks: JoinSet<()>,
    ending: watch::Sender<Option<String>>,
}

/// Becomes a node of the cluster.
pub async fn join(wish: &Wish, store: &Store, engine: Engine) -> anyhow::Result<Membership> {
    let (way, link) = Way::new();
    let reach = Reach::default();
    let (port, ending) = (watch::Sender::new(None), watch::Sender::new(None));
    let mut tasks = JoinSet::new();
    let connection = Connection::new(wish, way.clone(), reach.clone()).await?;
    tasks.spawn(connection.keep());
    let telling = Telling {
        link: link.clone(),
        store: store.clone(),
        wish: wish.node.clone(),
        port: port.subscribe(),
        ending: ending.subscribe(),
        reach,
    };
    telling.begin(way, &mut tasks);
    let pods = Server::new();
    pods::begin(&mut tasks, &link, &wish.node.name, store, pods.clone());
    let root = engine.settings().root_dir.clone();
    let objects = Following::begin(link.clone(), engine, &root)
        .with_context(|| format!("open the records of objects in {}", root.display()))?;
    Ok(Membership { link, port, pods, objects, tasks, ending })
}

impl Membership {
    /// Says that the node is not ready any more, for it ends; what cannot be said soon is not.
    pub async fn ending(&self, why: &str) {
        let mut node = self.link.node();
        self.ending.send_replace(Some(why.to_owned()));
        let said = node.wait_for(|node| node.as_deref().is_some_and(|node| node::is_unready(node, why)));
        if tokio::time::timeout(FAREWELL, said).await.is_err() {
            tracing::warn!("the API server was not told that the node ends");
        }
    }
}
