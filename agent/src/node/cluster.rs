//! Makes the node one of a cluster: begins what brings the API server's wishes here, and what tells it how things are.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

use crate::channel::Cri;
use crate::cluster::certificates::ServerCertificate;
use crate::cluster::client::Making;
use crate::cluster::connection::Connection;
use crate::cluster::credentials::Credentials;
use crate::cluster::events::Sink;
use crate::cluster::node::{Telling, is_unready, pod_cidr};
use crate::cluster::objects::Following;
use crate::cluster::pods::{self, Bound, Server};
use crate::cluster::reach::Reach;
use crate::cluster::serving::Serving;
use crate::cluster::{Link, Way, Wish};
use crate::engine::Engine;
use crate::engine::config::Node;
use crate::events::Events;
use crate::node::metrics::Server as Counts;
use crate::store::Store;

/// How long the API server may take to hear that the node ends, and then how its pods did.
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
    #[expect(dead_code, reason = "it ends with this")]
    tasks: JoinSet<()>,
    /// By what others know the node, if its server is not told of another one.
    pub certificate: ServerCertificate,
    ending: watch::Sender<Option<String>>,
}

/// Becomes a node of the cluster.
pub async fn join(
    wish: &Wish,
    store: &Store,
    events: Events,
    node: &Node,
    cri: Cri,
    engine: Engine,
    counts: Counts,
) -> anyhow::Result<Membership> {
    let csi = engine.csi().context("who has drivers mount volumes is missing")?.clone();
    let (way, link) = Way::new();
    let reach = Reach::default();
    let (port, ending) = (watch::Sender::new(None), watch::Sender::new(None));
    let mut tasks = JoinSet::new();
    let (ordinary, events_limit) = (wish.limits.ordinary, wish.limits.events);
    let making = Making { ordinary, events: events_limit, reach: reach.clone(), counts };
    let bell = Arc::<Notify>::default();
    let connection = Connection::new(wish, making.clone(), way.clone(), bell.clone()).await?;
    tasks.spawn(connection.keep());
    if let Some(credentials) = Credentials::new(wish, making, link.clone(), bell) {
        tasks.spawn(credentials.keep());
    }
    let telling = Telling {
        link: link.clone(),
        store: store.clone(),
        wish: wish.node.clone(),
        port: port.subscribe(),
        ending: ending.subscribe(),
        in_use: csi.in_use(),
        doubt: Arc::default(),
        events,
        reach,
    };
    telling.begin(way, &mut tasks);
    csi.begin(&link, &wish.node.name, &mut tasks);
    tasks.spawn(pod_cidr::follow(link.clone(), cri));
    Sink::new(link.clone(), store.clone(), &wish.node.name).begin(&mut tasks);
    let certificate = if wish.server_bootstrap {
        let serving = Serving::new(&wish.cert_dir, &wish.node.name, link.clone(), store.clone());
        let certificate = serving.certificate();
        tasks.spawn(serving.keep());
        certificate
    } else {
        let addresses: Vec<_> = node.ips.iter().filter_map(|it| it.parse().ok()).collect();
        ServerCertificate::self_signed(&wish.cert_dir, &wish.node.name, &addresses)?
    };
    let pods = Server::new();
    pods::begin(&mut tasks, &link, &wish.node.name, store, pods.clone());
    let root = engine.settings().root_dir.clone();
    let objects = Following::begin(link.clone(), engine, &root)
        .with_context(|| format!("open the records of objects in {}", root.display()))?;
    Ok(Membership { link, port, pods, objects, tasks, certificate, ending })
}

impl Membership {
    /// Says that the node is not ready any more, for it ends; what cannot be said soon is not.
    pub async fn ending(&self, why: &str) {
        let mut node = self.link.node();
        self.ending.send_replace(Some(why.to_owned()));
        let said = node.wait_for(|node| node.as_deref().is_some_and(|node| is_unready(node, why)));
        if tokio::time::timeout(FAREWELL, said).await.is_err() {
            tracing::warn!("the API server was not told that the node ends");
        }
    }

    /// Waits until the server knows that its pods are over; what cannot be said soon is said by the next agent.
    pub async fn ended(&self) {
        let over = |pods: &Bound| pods.values().all(|pod| pods::is_terminal(pod));
        let mut bound = self.pods.bound();
        let told = bound.wait_for(|pods| pods.as_deref().is_none_or(over));
        if tokio::time::timeout(FAREWELL, told).await.is_err() {
            tracing::warn!("the API server was not told of every pod that it is over");
        }
    }
}
