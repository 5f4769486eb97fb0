//! kubelet's HTTPS API: what an API server asks a node for (logs, exec, attach, port-forward), what monitoring asks it for
//! (statistics, metrics), and a few things for those who look after it.
//!
//! ```text
//! serve      connections: TLS, limits, how long a client may take
//!   answer   one request: who asks (auth), may they (auth, route), then
//!     pods, system_logs, stats, metrics        what is shown
//!     access                                   logs and sessions, as `api` has them
//! ```
//!
//! Nothing is served to clients that nobody knows. Refusals are lines of text, as kubelet's.

mod answer;
mod auth;
mod configz;
mod flags;
pub mod metrics;
pub mod pods;
mod refusal;
mod route;
mod serve;
pub mod stats;
mod system_logs;

use std::sync::Arc;

use manifests::kubelet::{Authorization, Config, PORT};
use tokio::sync::watch;

use self::auth::{Certificates, Rights, Tokens};
pub use self::flags::Flags;
use self::metrics::Requests;
use self::pods::Names;
pub use self::serve::Listener;
use self::stats::Statistics;
use crate::access::Access;
use crate::cluster::Link;
use crate::engine::config::Settings;
use crate::node::health::Served;

/// What it is served from. Cheap to clone.
#[derive(Clone)]
pub struct Kubelet {
    inner: Arc<Inner>,
}

struct Inner {
    access: Access,
    /// What the agent tells of itself.
    served: Served,
    settings: watch::Receiver<Arc<Config>>,
    statistics: Statistics,
    certificates: Option<Certificates>,
    tokens: Option<Tokens>,
    rights: Rights,
    requests: Requests,
    names: Names,
    /// Where pods' cgroups are, and what the node is.
    settings_of_pods: Settings,
    port: u16,
}

/// What it is made of.
pub struct Parts {
    /// The ways into pods.
    pub access: Access,
    /// What the agent tells of itself.
    pub served: Served,
    /// The settings, as they are from time to time; what says where and to whom it is served is taken once.
    pub settings: watch::Receiver<Arc<Config>>,
    /// What pods and the node use.
    pub statistics: Statistics,
    /// What pods are called.
    pub names: Names,
    /// Where pods' cgroups are, and what the node is.
    pub settings_of_pods: Settings,
    /// The port, to be told.
    pub port: u16,
    /// The way to the API server, in a cluster.
    pub link: Option<Link>,
}

/// The port to serve on; none where nobody wants it.
pub fn port(config: &Config, in_cluster: bool) -> Option<u16> {
    let usual = || in_cluster.then_some(PORT);
    config.server.port.or_else(usual).filter(|_| config.server.enabled)
}

impl Kubelet {
    /// Kubelet's API, for clients that one of these makes known: a certificate, a token.
    pub fn new(parts: Parts) -> anyhow::Result<Self> {
        let Parts { access, served, settings, statistics, names, settings_of_pods, port, link } = parts;
        let server = settings.borrow().server.clone();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let certificates = server.client_ca.as_deref().map(|path| Certificates::open(path, provider)).transpose()?;
        let tokens = link.clone().zip(server.tokens).map(|(link, counts)| Tokens::new(link, counts));
        anyhow::ensure!(
            certificates.is_some() || tokens.is_some(),
            "kubelet's API has no client that it could know: give it --client-ca-file, or --port 0 for no such API"
        );
        if certificates.is_none() {
            tracing::warn!(
                "no client of kubelet's API is known by a certificate, so that an API server gets no logs and no sessions: \
                 give --client-ca-file, or authentication.x509.clientCAFile in --config"
            );
        }
        let rights = match (server.authorization, link) {
            (Some(Authorization::AlwaysAllow), _) | (None, None) => Rights::All,
            (_, Some(link)) => Rights::reviewed(link, served.node.clone(), &server),
            (Some(Authorization::Webhook), None) => anyhow::bail!(
                "authorization.mode Webhook asks an API server what clients of kubelet's API may do, and there is none: \
                 give --kubeconfig, or --authorization-mode AlwaysAllow, or --port 0 for no such API"
            ),
        };
        let requests = Requests::default();
        let inner = Inner {
            access,
            served,
            settings,
            statistics,
            certificates,
            tokens,
            rights,
            requests,
            names,
            settings_of_pods,
            port,
        };
        Ok(Self { inner: Arc::new(inner) })
    }
}
