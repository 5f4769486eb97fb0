//! `/healthz` and `/metrics`, over HTTP on loopback.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use cri_proto::cri;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use super::config::Config;
use super::control::Control;
use super::metrics::{Metrics, Page};
use super::ours::Ours;
use crate::channel::Cri;
use crate::engine::probe::Counts;
use crate::kubelet::metrics::resource;
use crate::kubelet::stats::Statistics;

/// How long a part of the agent may take to give a sign of life.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long a client may take for its headers, and how long a connection may be idle.
const IDLE: Duration = Duration::from_secs(30);

/// Connections at a time; more wait to be accepted.
const CONNECTIONS: usize = 32;

/// How long nothing is accepted after it could not be: descriptors may be short for a while.
const PAUSE: Duration = Duration::from_millis(50);

/// How long nobody listens after that could not be.
const AGAIN: Duration = Duration::from_secs(5);

/// Whether the agent is well.
#[derive(Clone, Debug)]
pub struct Pulse {
    control: Control,
    cri: Cri,
}

/// What was looked at, and what was found.
pub type Findings = Vec<(&'static str, Result<(), String>)>;

impl Pulse {
    /// The pulse of the agent behind `control`, and of its runtime.
    pub fn new(control: Control, cri: Cri) -> Self {
        Self { control, cri }
    }

    /// Feels it: both have to answer.
    pub async fn feel(&self) -> Findings {
        let (reconciler, runtime) = tokio::join!(self.reconciler(), self.runtime());
        vec![("ping", Ok(())), ("syncloop", reconciler), ("runtime", runtime)]
    }

    /// Whether the agent itself goes on. A container runtime that does not answer is not made to by another agent.
    pub async fn is_alive(&self) -> bool {
        self.reconciler().await.is_ok()
    }

    async fn reconciler(&self) -> Result<(), String> {
        match tokio::time::timeout(PATIENCE, self.control.ping()).await {
            Ok(answer) => answer.map_err(|error| error.to_string()),
            Err(_) => Err(format!("nothing was decided for {PATIENCE:?}")),
        }
    }

    async fn runtime(&self) -> Result<(), String> {
        let mut runtime = self.cri.runtime.clone();
        match tokio::time::timeout(PATIENCE, runtime.version(cri::VersionRequest::default())).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(status)) => Err(format!("the container runtime says: {}", status.message())),
            Err(_) => Err(format!("the container runtime has not answered for {PATIENCE:?}")),
        }
    }
}

/// What is served.
#[derive(Clone)]
pub struct Served {
    /// Whether the agent is well.
    pub pulse: Pulse,
    /// What is counted.
    pub metrics: Metrics,
    /// What runs.
    pub ours: Ours,
    /// What it uses.
    pub statistics: Statistics,
    /// What probes answered.
    pub probes: Counts,
    /// The node's name.
    pub node: String,
}

/// Serves where the settings say, as they are from time to time, until it is dropped. A place that cannot be had, such as
/// a port that somebody else has, is tried again: pods do not wait for it.
pub async fn serve(mut settings: watch::Receiver<Arc<Config>>, served: Served) {
    loop {
        let health = settings.borrow_and_update().health;
        let serving = async {
            let Some(port) = health.port else { return std::future::pending().await };
            let listener = listen(SocketAddr::new(health.address, port)).await;
            accept(listener, &served).await;
        };
        let moved = settings.wait_for(|settings| settings.health != health);
        tokio::select! {
            () = serving => return,
            moved = moved => if moved.is_err() { return },
        }
    }
}

/// Listens, as soon as that can be: clients wait until they are served.
async fn listen(address: SocketAddr) -> TcpListener {
    let mut told = None;
    loop {
        match TcpListener::bind(address).await {
            Ok(listener) => {
                if told.is_some() {
                    tracing::info!(%address, "/healthz and /metrics are served now");
                }
                return listener;
            }
            Err(error) => {
                let error = error.to_string();
                if told.as_ref() != Some(&error) {
                    tracing::warn!(
                        %address, error,
                        "/healthz and /metrics cannot be served, and everything else goes on; it is tried again every \
                         {AGAIN:?}; choose another --healthz-port, or 0 for none"
                    );
                }
                told = Some(error);
                tokio::time::sleep(AGAIN).await;
            }
        }
    }
}

async fn accept(listener: TcpListener, served: &Served) {
    let mut clients = JoinSet::new();
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        while clients.try_join_next().is_some() {}
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        let served = served.clone();
        clients.spawn(async move {
            let service = service_fn(move |request| {
                let served = served.clone();
                async move { Ok::<_, Infallible>(answer(&served, &request).await) }
            });
            let mut server = http1::Builder::new();
            server.timer(TokioTimer::new()).header_read_timeout(IDLE);
            // What goes wrong on a connection is its client's business.
            let _ = server.serve_connection(TokioIo::new(stream), service).await;
            drop(place);
        });
    }
}

async fn answer(served: &Served, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return reply(StatusCode::METHOD_NOT_ALLOWED, "there is only GET\n".into());
    }
    let verbose =
        request.uri().query().is_some_and(|query| query.split('&').any(|it| it.split('=').next() == Some("verbose")));
    match request.uri().path() {
        "/healthz" | "/livez" | "/readyz" => health(served.pulse.feel().await, verbose),
        "/metrics" => reply(StatusCode::OK, served.metrics.page(&served.ours, &served.node, &served.probes).await),
        "/metrics/resource" => {
            let mut page = Page::default();
            resource::write(&mut page, &served.statistics.summary(true).await);
            reply(StatusCode::OK, page.finish())
        }
        path => match path.strip_prefix("/healthz/") {
            Some(part) => {
                let mut findings = served.pulse.feel().await;
                findings.retain(|(name, _)| *name == part);
                if findings.is_empty() { not_found() } else { health(findings, verbose) }
            }
            None => not_found(),
        },
    }
}

fn not_found() -> Response<Full<Bytes>> {
    let known = "/healthz, /healthz/syncloop, /healthz/runtime, /livez, /readyz, /metrics and /metrics/resource";
    reply(StatusCode::NOT_FOUND, format!("there is {known}\n"))
}

fn health(findings: Findings, verbose: bool) -> Response<Full<Bytes>> {
    let (status, text) = told(&findings, verbose);
    reply(status, text)
}

/// `ok`, as kubelet says it; or each finding, where something is wrong or all is asked for.
pub fn told(findings: &Findings, verbose: bool) -> (StatusCode, String) {
    let well = findings.iter().all(|(_, found)| found.is_ok());
    let status = if well { StatusCode::OK } else { StatusCode::INTERNAL_SERVER_ERROR };
    if well && !verbose {
        return (status, "ok".into());
    }
    let mut text = String::new();
    for (name, found) in findings {
        match found {
            Ok(()) => text.push_str(&format!("[+]{name} ok\n")),
            Err(why) => text.push_str(&format!("[-]{name} failed: {why}\n")),
        }
    }
    text.push_str(if well { "healthz check passed\n" } else { "healthz check failed\n" });
    (status, text)
}

fn reply(status: StatusCode, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = status;
    let plain = header::HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, plain);
    response
}
