//! Clients of the API server, as a kubeconfig says.
//!
//! They share one connection (HTTP/2 where the server speaks it, as kubelet has it), which is asked for a sign of life
//! while it is in use: a server that went without a word is noticed after [`SIGN_OF_LIFE`] and [`LAST_SIGN`], not by the
//! kernel hours later.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::header::USER_AGENT;
use http::{HeaderValue, Request};
use hyper_util::client::legacy::Client as Http;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use kube::Client;
use kube::client::retry::RetryPolicy;
use kube::client::{Body, ConfigExt as _};
use kube::config::{KubeConfigOptions, Kubeconfig};
use tower::retry::RetryLayer;
use tower::{BoxError, ServiceBuilder};

use super::pace::Bucket;
use super::reach::Reach;
use crate::node::metrics::Server as Counts;

/// How long making a connection may take.
const CONNECT: Duration = Duration::from_secs(30);

/// A connection that was silent for this long is asked whether it lives.
const SIGN_OF_LIFE: Duration = Duration::from_secs(30);

/// How long the answer to that may take.
const LAST_SIGN: Duration = Duration::from_secs(15);

/// How often a request that the server asks to send again later is sent again.
const AGAIN: u32 = 5;

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kubeconfig cannot be read or says what cannot be.
    #[error("read the kubeconfig {}: {source}", path.display())]
    Kubeconfig {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: Box<kube::config::KubeconfigError>,
    },
    /// What it says makes no client.
    #[error("use the kubeconfig {}: {source}", path.display())]
    Client {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: Box<kube::Error>,
    },
}

/// How much the API server is asked.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limit {
    /// Requests a second; none is no limit.
    pub rate: Option<f64>,
    /// Requests at once.
    pub burst: u32,
}

impl Limit {
    fn bucket(self) -> Option<Arc<Bucket>> {
        self.rate.map(|rate| Arc::new(Bucket::new(rate, self.burst)))
    }
}

/// The clients of one API server.
#[derive(Clone)]
pub struct Clients {
    /// For everything but what has one of its own.
    pub ordinary: Client,
    /// For signs of life: they never wait for anything else.
    pub heartbeat: Client,
    /// For events, which have a limit of their own.
    pub events: Client,
}

/// What clients are made with beside a kubeconfig.
#[derive(Clone, Debug)]
pub struct Making {
    /// For everything but events and signs of life: `kubeAPIQPS`, `kubeAPIBurst`.
    pub ordinary: Limit,
    /// For events: `eventRecordQPS`, `eventBurst`.
    pub events: Limit,
    /// Who is told whether the server answers.
    pub reach: Reach,
    /// Who counts what it answers.
    pub counts: Counts,
}

/// A kubeconfig as it was read.
pub struct Read {
    config: kube::Config,
}

/// Reads a kubeconfig, and the files that its current context names.
pub async fn read(path: &Path) -> Result<Read, Error> {
    let wrong = |source| Error::Kubeconfig { path: path.to_owned(), source: Box::new(source) };
    let kubeconfig = Kubeconfig::read_from(path).map_err(wrong)?;
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await;
    let mut config = config.map_err(wrong)?;
    config.headers.push((USER_AGENT, HeaderValue::from_static(concat!("coracle/", env!("CARGO_PKG_VERSION")))));
    Ok(Read { config })
}

impl Read {
    /// From now on it is the certificate and key in `pem` that say who asks.
    pub fn identify_by(&mut self, pem: &Path) {
        let pem = Some(pem.display().to_string());
        let user = &mut self.config.auth_info;
        (user.client_certificate, user.client_key) = (pem.clone(), pem);
        (user.client_certificate_data, user.client_key_data) = (None, None);
        (user.token, user.token_file, user.username, user.password) = (None, None, None, None);
        (user.exec, user.auth_provider) = (None, None);
    }

    /// Clients as it says; `path` is where it was read.
    pub fn clients(&self, path: &Path, making: &Making) -> Result<Clients, Error> {
        connect(&self.config, making)
            .map_err(|source| Error::Client { path: path.to_owned(), source: Box::new(source) })
    }
}

/// How the files of a kubeconfig were at some time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stamps(Vec<(PathBuf, Option<Stamp>)>);

/// By what a file that has changed is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    modified: Option<SystemTime>,
    inode: u64,
    size: u64,
}

impl Stamps {
    /// How a kubeconfig, what its current context names and `others` are now.
    pub fn of(kubeconfig: &Path, others: impl IntoIterator<Item = PathBuf>) -> Self {
        let named = Kubeconfig::read_from(kubeconfig).map(|it| files_of(&it)).unwrap_or_default();
        let files = std::iter::once(kubeconfig.to_owned()).chain(named).chain(others);
        Self(files.map(|file| (file.clone(), stamp(&file))).collect())
    }

    /// Whether any of the files is another one by now.
    pub fn are_old(&self) -> bool {
        self.0.iter().any(|(path, before)| stamp(path) != *before)
    }
}

/// The files that the current context refers to. A file with a token is read again by who uses it.
fn files_of(kubeconfig: &Kubeconfig) -> Vec<PathBuf> {
    let current = kubeconfig.current_context.as_deref();
    let context = kubeconfig.contexts.iter().find(|it| Some(it.name.as_str()) == current);
    let Some(context) = context.and_then(|it| it.context.as_ref()) else { return Vec::new() };
    let cluster = kubeconfig.clusters.iter().find(|it| it.name == context.cluster);
    let user = kubeconfig.auth_infos.iter().find(|it| Some(&it.name) == context.user.as_ref());
    let (cluster, user) = (cluster.and_then(|it| it.cluster.as_ref()), user.and_then(|it| it.auth_info.as_ref()));
    let authority = cluster.and_then(|it| it.certificate_authority.clone());
    let own = user.map(|it| [it.client_certificate.clone(), it.client_key.clone()]);
    authority.into_iter().chain(own.into_iter().flatten().flatten()).map(PathBuf::from).collect()
}

fn stamp(path: &Path) -> Option<Stamp> {
    use std::os::unix::fs::MetadataExt as _;
    let metadata = std::fs::metadata(path).ok()?;
    Some(Stamp { modified: metadata.modified().ok(), inode: metadata.ino(), size: metadata.len() })
}

/// Clients as `config` says, with connections of their own.
fn connect(config: &kube::Config, making: &Making) -> Result<Clients, kube::Error> {
    let mut connector = HttpConnector::new();
    connector.enforce_http(false);
    connector.set_connect_timeout(Some(CONNECT));
    connector.set_nodelay(true);
    // Where the server speaks HTTP/1.1 only, it is the kernel that asks for a sign of life.
    connector.set_keepalive(Some(SIGN_OF_LIFE));
    connector.set_keepalive_interval(Some(LAST_SIGN / 3));
    connector.set_keepalive_retries(Some(3));
    connector.set_tcp_user_timeout(Some(SIGN_OF_LIFE + LAST_SIGN));
    let tls = config.rustls_client_config()?;
    let builder = hyper_rustls::HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http();
    let builder = match config.tls_server_name.clone().map(TryInto::try_into) {
        Some(Ok(name)) => builder.with_server_name_resolver(hyper_rustls::FixedServerNameResolver::new(name)),
        Some(Err(error)) => return Err(kube::Error::Service(Box::new(error))),
        None => builder,
    };
    let connector = builder.enable_all_versions().wrap_connector(connector);
    let http = Http::builder(TokioExecutor::new())
        .timer(TokioTimer::new())
        .pool_timer(TokioTimer::new())
        .http2_keep_alive_interval(SIGN_OF_LIFE)
        .http2_keep_alive_timeout(LAST_SIGN)
        .http2_adaptive_window(true)
        .build(connector);
    let client = |limit: Option<Arc<Bucket>>, again: u32| client(config, &http, limit, again, making);
    Ok(Clients {
        ordinary: client(making.ordinary.bucket(), AGAIN)?,
        heartbeat: client(None, 0)?,
        events: client(making.events.bucket(), 0)?,
    })
}

type Connector = hyper_rustls::HttpsConnector<HttpConnector>;

fn client(
    config: &kube::Config,
    http: &Http<Connector, Body>,
    limit: Option<Arc<Bucket>>,
    again: u32,
    making: &Making,
) -> Result<Client, kube::Error> {
    let (http, reach, counts) = (http.clone(), making.reach.clone(), making.counts.clone());
    let innermost = tower::service_fn(move |request: Request<Body>| {
        let (http, limit, reach, counts) = (http.clone(), limit.clone(), reach.clone(), counts.clone());
        async move {
            if let Some(limit) = limit {
                limit.take().await;
            }
            let host = request.uri().authority().map(ToString::to_string).unwrap_or_default();
            let method = request.method().clone();
            match http.request(request).await {
                Ok(response) => {
                    reach.answered();
                    counts.note(&host, method.as_str(), Some(response.status().as_u16()));
                    Ok(response)
                }
                Err(error) => {
                    counts.note(&host, method.as_str(), None);
                    if error.is_connect() {
                        reach.failed(&chain(&error));
                    }
                    Err(BoxError::from(error))
                }
            }
        }
    });
    let retry = RetryPolicy::new(Duration::from_millis(100), Duration::from_secs(30), again, true);
    let retry = retry.map_err(|error| kube::Error::Service(Box::new(error)))?;
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer((again > 0).then(|| RetryLayer::new(retry)))
        .option_layer(config.auth_layer()?)
        .layer(config.extra_headers_layer()?)
        .service(innermost);
    Ok(Client::new(service, config.default_namespace.clone()))
}

/// An error with all that it follows from: the outermost says little of connections.
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        let more = error.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        next = error.source();
    }
    text
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_a_kubeconfig_names_is_seen_to_change() {
        let dir = tempfile::tempdir().unwrap();
        let [config, authority, certificate, other] =
            ["kubeconfig", "ca.crt", "tls.crt", "other"].map(|name| dir.path().join(name));
        std::fs::write(&authority, "1").unwrap();
        std::fs::write(
            &config,
            "apiVersion: v1
kind: Config
clusters: [{name: c, cluster: {server: 'https://h', certificate-authority: ca.crt}}]
users: [{name: u, user: {client-certificate: tls.crt, client-key: tls.key}}, {name: v, user: {client-key: other}}]
contexts: [{name: x, context: {cluster: c, user: u}}]
current-context: x
",
        )
        .unwrap();
        let now = || Stamps::of(&config, None);
        let first = now();
        assert!(!first.are_old());
        std::fs::write(&other, "what another context names").unwrap();
        assert!(!first.are_old());
        std::fs::write(&authority, "22").unwrap();
        assert!(first.are_old() && !now().are_old());
        let second = now();
        std::fs::write(&certificate, "it was not there").unwrap();
        assert!(second.are_old());
    }
}
