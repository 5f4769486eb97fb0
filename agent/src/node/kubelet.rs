//! kubelet's API of this node: from when its parts are there until the agent ends.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::cluster::Membership;
use super::config::Config;
use super::health::Served;
use crate::access::Access;
use crate::cluster::certificates::{self, Pair, ServerCertificate};
use crate::engine::config::Settings;
use crate::kubelet::pods::Names;
use crate::kubelet::stats::Statistics;
use crate::kubelet::{self, Kubelet, Listener, Parts};

/// How long nobody listens after that could not be.
const AGAIN: Duration = Duration::from_secs(5);

/// How often it is looked whether the certificate's files have changed.
const LOOK: Duration = Duration::from_secs(60);

/// What it needs of the node.
pub struct Around<'a> {
    /// The ways into pods.
    pub access: Access,
    /// What the agent tells of itself.
    pub served: Served,
    /// kubelet's settings, as they are from time to time.
    pub config: watch::Receiver<Arc<Config>>,
    /// What pods and the node use.
    pub statistics: Statistics,
    /// What pods are called.
    pub names: Names,
    /// Directories and facts.
    pub settings: &'a Settings,
}

/// Serves it, if anybody wants it, until the answer is dropped.
pub fn begin(around: Around<'_>, membership: Option<&Membership>) -> anyhow::Result<JoinSet<()>> {
    let link = membership.map(|it| it.link.clone());
    let told = membership.map(|it| it.port.clone());
    let mut tasks = JoinSet::new();
    let Around { access, served, config, statistics, names, settings } = around;
    let now = config.borrow().clone();
    let Some(port) = kubelet::port(&now, link.is_some()) else { return Ok(tasks) };
    let address = SocketAddr::new(now.server.address, port);
    let certificate = match (&now.server.certificate, membership.map(|it| it.certificate.clone())) {
        (Some((certificate, key)), _) => {
            let shown = ServerCertificate::of_files(certificate, key).context("prepare kubelet's API")?;
            tasks.spawn(follow(shown.clone(), certificate.clone(), key.clone()));
            shown
        }
        (None, Some(certificate)) => certificate,
        (None, None) => {
            let ips: Vec<IpAddr> = settings.node.ips.iter().filter_map(|it| it.parse().ok()).collect();
            let directory = certificates::directory(&settings.root_dir);
            ServerCertificate::self_signed(&directory, &settings.node.name, &ips).context("prepare kubelet's API")?
        }
    };
    served.metrics.server.set_shown(certificate.clone());
    let settings_of_pods = settings.clone();
    let parts = Parts { access, served, settings: config, statistics, names, settings_of_pods, port, link };
    let kubelet = Kubelet::new(parts)?;
    tasks.spawn(async move {
        let listener = listen(address, &certificate, now.server.modern_tls).await;
        tracing::info!(address = %listener.address(), "kubelet's API is served");
        if let Some(told) = told {
            told.send_replace(Some(listener.address().port()));
        }
        listener.serve(kubelet).await;
    });
    Ok(tasks)
}

/// Listens, as soon as that can be: pods do not wait for it.
async fn listen(address: SocketAddr, certificate: &ServerCertificate, modern_tls: bool) -> Listener {
    let mut told = None;
    loop {
        match Listener::bind(address, certificate, modern_tls).await {
            Ok(listener) => return listener,
            Err(error) => {
                let error = format!("{error:#}");
                if told.as_ref() != Some(&error) {
                    tracing::warn!(
                        error,
                        "kubelet's API cannot be served, and everything else goes on; it is tried again"
                    );
                }
                told = Some(error);
                tokio::time::sleep(AGAIN).await;
            }
        }
    }
}

/// Keeps the certificate as its files are. What cannot be used leaves it as it was.
async fn follow(shown: ServerCertificate, certificate: PathBuf, key: PathBuf) {
    let mut before = changed(&certificate, &key);
    loop {
        tokio::time::sleep(LOOK).await;
        let now = changed(&certificate, &key);
        if now == before {
            continue;
        }
        match Pair::read(&certificate, &key) {
            Ok(pair) => {
                shown.set(&pair);
                tracing::info!(path = %certificate.display(), "the certificate of kubelet's API was read again");
            }
            // A pair that is being written is whole the next time.
            Err(error) => tracing::warn!(%error, "the certificate of kubelet's API stays as it was"),
        }
        before = now;
    }
}

fn changed(certificate: &Path, key: &Path) -> [Option<SystemTime>; 2] {
    [certificate, key].map(|path| std::fs::metadata(path).and_then(|it| it.modified()).ok())
}
