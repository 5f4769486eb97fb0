//! What the command line says of the cluster.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use k8s_openapi::api::core::v1::Taint;
use manifests::kubelet::Config;

use super::client::Limit;
use super::{certificates, label};
use crate::engine::config::Node;

/// Flags of `agent` that make its node one of a cluster.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Cluster options")]
#[group(id = "cluster")]
pub struct Flags {
    /// Kubeconfig of the API server that this is to be a node of; written by --bootstrap-kubeconfig if it is not there
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// Kubeconfig to ask for a certificate with, while --kubeconfig has none that counts
    #[arg(long, value_name = "FILE", requires = "kubeconfig")]
    pub bootstrap_kubeconfig: Option<PathBuf>,
    /// Directory of the node's certificates [default: `pki` in --root-dir]
    #[arg(long, value_name = "DIR")]
    pub cert_dir: Option<PathBuf>,
    /// Name of the node [default: the host's]
    #[arg(long, value_name = "NAME", value_parser = label::node_name)]
    pub hostname_override: Option<String>,
    /// Addresses of the node, one, or one of each family [default: those that it reaches the world with]
    #[arg(long, value_name = "IP", value_delimiter = ',')]
    pub node_ip: Vec<IpAddr>,
    /// Labels of the node
    #[arg(long, value_name = "KEY=VALUE", value_delimiter = ',', value_parser = label::label)]
    pub node_labels: Vec<(String, String)>,
    /// Taints of the node when it is registered
    #[arg(long, value_name = "KEY=VALUE:EFFECT", value_delimiter = ',', value_parser = label::taint)]
    pub register_with_taints: Vec<Taint>,
    /// Register the node; otherwise somebody else has to [default: true]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    pub register_node: Option<bool>,
    /// What the cloud calls the machine
    #[arg(long, value_name = "ID")]
    pub provider_id: Option<String>,
}

/// What is asked for: the node is one of a cluster.
#[derive(Clone, Debug)]
pub struct Wish {
    /// How the API server is reached, and as whom.
    pub kubeconfig: PathBuf,
    /// How it is asked for a certificate, if that kubeconfig has none.
    pub bootstrap: Option<PathBuf>,
    /// Where certificates are kept.
    pub cert_dir: PathBuf,
    /// The node's certificates are renewed before they run out.
    pub rotate: bool,
    /// The certificate by which others know the node is the API server's, too.
    pub server_bootstrap: bool,
    /// What the node is to be.
    pub node: NodeWish,
    /// How much the API server is asked.
    pub limits: Limits,
}

/// What the node is to be, beside what it is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NodeWish {
    /// Its name.
    pub name: String,
    /// It is made if it is not there.
    pub register: bool,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its taints when it is made.
    pub taints: Vec<Taint>,
    /// What the cloud calls it.
    pub provider_id: Option<String>,
    /// How often its status is looked at.
    pub update_frequency: Duration,
    /// How often its status is told although it has not changed.
    pub report_frequency: Duration,
    /// How long a sign of life counts.
    pub lease: Duration,
}

/// How much the API server is asked.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// For everything but events and signs of life.
    pub ordinary: Limit,
    /// For events.
    pub events: Limit,
}

impl Flags {
    /// The node is one of a cluster if they name an API server.
    pub fn wish(&self, config: &Config, root: &Path, node: &Node) -> Option<anyhow::Result<Wish>> {
        let kubeconfig = self.kubeconfig.as_ref()?;
        let absolute = |path: &PathBuf| {
            std::path::absolute(path).with_context(|| format!("find the kubeconfig {}", path.display()))
        };
        let bootstrap = self.bootstrap_kubeconfig.as_ref().map(absolute).transpose();
        Some(absolute(kubeconfig).and_then(|kubeconfig| Ok(self.whole(kubeconfig, bootstrap?, config, root, node))))
    }

    fn whole(
        &self,
        kubeconfig: PathBuf,
        bootstrap: Option<PathBuf>,
        config: &Config,
        root: &Path,
        node: &Node,
    ) -> Wish {
        let cluster = &config.cluster;
        let taints = match self.register_with_taints.as_slice() {
            [] => cluster.taints.clone(),
            given => given.to_vec(),
        };
        let limit = |(rate, burst): (u32, u32)| Limit { rate: (rate > 0).then(|| rate.into()), burst };
        Wish {
            cert_dir: self.certificates(root),
            rotate: cluster.rotate_certificates.unwrap_or(bootstrap.is_some()),
            server_bootstrap: cluster.server_tls_bootstrap,
            kubeconfig,
            bootstrap,
            node: NodeWish {
                name: node.name.clone(),
                register: self.register_node.unwrap_or(cluster.register),
                labels: self.node_labels.iter().cloned().collect(),
                taints,
                provider_id: self.provider_id.clone().or_else(|| cluster.provider_id.clone()),
                update_frequency: cluster.status_update_frequency,
                report_frequency: cluster.status_report_frequency,
                lease: cluster.lease_duration,
            },
            limits: Limits { ordinary: limit(cluster.requests), events: limit(cluster.events) },
        }
    }

    /// Where certificates are kept.
    pub fn certificates(&self, root: &Path) -> PathBuf {
        self.cert_dir.clone().unwrap_or_else(|| certificates::directory(root))
    }

    /// The node as these say, where they say something.
    pub fn facts(&self, mut node: Node) -> Node {
        if let Some(name) = &self.hostname_override {
            node.name.clone_from(name);
        }
        if !self.node_ip.is_empty() {
            node.ips = label::addresses(&self.node_ip, &node.ips);
        }
        node
    }
}
