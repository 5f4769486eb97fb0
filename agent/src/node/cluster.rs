//! Makes the node one of a cluster: begins what brings the API server's wishes here, and what tells it how things are.

use anyhow::Context as _;
use kube::Client;
use kube::config::{KubeConfigOptions, Kubeconfig};
use tokio::task::JoinSet;

use crate::cluster::objects::Following;
use crate::cluster::{Link, Way, Wish};
use crate::engine::Engine;

/// What goes on while the node is one of a cluster; it ends when this is dropped.
pub struct Membership {
    /// The way to the API server.
    pub link: Link,
    /// What its pods refer to.
    pub objects: Following,
    /// What works on it.
    pub tasks: JoinSet<()>,
}

/// Becomes a node of the cluster.
pub async fn join(wish: &Wish, engine: Engine) -> anyhow::Result<Membership> {
    let (way, link) = Way::new();
    let path = wish.kubeconfig.display();
    let kubeconfig = Kubeconfig::read_from(&wish.kubeconfig).with_context(|| format!("read the kubeconfig {path}"))?;
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
        .await
        .with_context(|| format!("use the kubeconfig {path}"))?;
    way.set(Client::try_from(config).with_context(|| format!("use the kubeconfig {path}"))?);
    let root = engine.settings().root_dir.clone();
    let objects = Following::begin(link.clone(), engine, &root)
        .with_context(|| format!("open the records of objects in {}", root.display()))?;
    Ok(Membership { link, objects, tasks: JoinSet::new() })
}
