//! The node agent: keeps what runs equal to the manifests.
//!
//! ```text
//!  sources ──snapshots──> reconcile: desired state (recorded) ──> one worker a pod (engine) ──CRI──> runtime
//!                              ^                                        │
//!               control: API, verbs                                notices: events, log
//! ```

pub mod care;
pub mod config;
pub mod control;
pub mod desired;
mod health;
mod live;
mod log_rotation;
mod metrics;
mod notify;
pub mod operations;
mod order;
mod ours;
mod reconcile;
mod serving;
mod shown;
pub mod sources;
mod strays;
pub mod why;

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use k8s_openapi::api::core::v1::Pod;
use runtime::zygote::Zygote;
use runtime::{Owner, Runtime, streaming};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Notify, mpsc};

use self::care::Care;
use self::care::registry::OfAgent;
use self::control::Control;
use self::desired::disk::Disk;
use self::operations::Operations;
use self::reconcile::Reconciler;
pub use self::serving::Listen;
use self::serving::Serving;
use self::shown::Shown;
use self::sources::{Pace, Place};
use crate::channel::{self, Cri};
use crate::cli::Global;
use crate::cri_socket::Server;
use crate::engine::backoff::Policy;
use crate::engine::config::names::PodKey;
use crate::engine::config::{Objects, Settings};
use crate::engine::notice::{Event, Notice};
use crate::engine::{Engine, Options};
use crate::events::{Events, Happening, Severity};
use crate::host::qos::PodCgroups;
use crate::local;
use crate::store::Store;

/// Notices that wait to be told; workers wait beyond that.
const NOTICES: usize = 1024;

/// Snapshots that wait to be worked on; sources wait beyond that.
const SNAPSHOTS: usize = 8;

/// Label, on a runtime that others use too: which agent's a sandbox or container is.
pub const AGENT: &str = "coracle.dev/agent";

/// What an agent is told on its command line.
#[derive(Clone, Debug)]
pub struct Wish {
    /// Flags that go with every verb.
    pub global: Global,
    /// Directories and facts.
    pub settings: Settings,
    /// Where manifests come from.
    pub places: Vec<Place>,
    /// How they are looked at.
    pub pace: Pace,
    /// Restart back-off.
    pub backoff: Policy,
    /// What makes it a service.
    pub operations: operations::Wish,
    /// Where the API is served besides its socket.
    pub api: Listen,
    /// How often the node is looked at.
    pub housekeeping: Duration,
    /// Whether the end of the agent is the end of the pods.
    pub shutdown_pods: bool,
    /// The socket of another container runtime; Coracle's own when none.
    pub endpoint: Option<PathBuf>,
    /// Where to serve CRI clients beside the agent's pods.
    pub cri_socket: Option<PathBuf>,
}

/// What lasts as long as the process: dropped earlier, another agent could begin while this one's threads still work.
#[derive(Debug)]
#[allow(dead_code, reason = "the locks end with them")]
pub struct Held(runtime::Serving, Option<runtime::Serving>);

/// Runs the agent until it is told to end.
pub async fn run(wish: Wish, zygote: Option<Zygote>) -> anyhow::Result<Held> {
    // Before anything is made: a signal from here on ends the agent in good order.
    let mut signals = Signals::new()?;
    let operations = Operations::new(wish.operations.clone(), &wish.settings)?;
    let disk = Disk::open(&wish.settings.root_dir).with_context(|| {
        format!("open the desired state in {}", desired::disk::directory(&wish.settings.root_dir).display())
    })?;
    let (runtime, channel) = local::open(&wish.global, Owner::Agent, zygote)?;
    let mut held = serve(&runtime).await?;
    let mut settings = wish.settings.clone();
    settings.cgroups = care::cgroups(&operations.settings().borrow());
    let cgroups = PodCgroups::open(Path::new("/proc"), &settings).context("find the cgroups of pods")?;
    let channel = match &wish.endpoint {
        Some(socket) => {
            // Others use that runtime too: the labels say what is this agent's.
            let id = disk.id().context("name this agent")?;
            settings.labels.insert(AGENT.to_owned(), id);
            channel::unix(socket.clone())
        }
        None => channel,
    };
    let serving = Serving::prepare(&settings, &wish.api).await?;
    let (told, notices) = mpsc::channel(NOTICES);
    // Of an agent before this one nobody shall take a version for one of this one's.
    let store = Store::new(u64::try_from(jiff::Timestamp::now().as_millisecond()).unwrap_or(0));
    let options = Options {
        settings: settings.clone(),
        pod_cgroups: Some(cgroups.clone()),
        objects: Objects::default(),
        backoff: wish.backoff,
        owner: Owner::Agent.to_string(),
        fail_fast: false,
        keep: true,
        store: Some(store.clone()),
    };
    let shown = Shown::new(store.clone(), told.clone(), options.owner.clone());
    shown.forget_former(&settings).context("look through the records of pods")?;
    let cri_client = Cri::new(operations.counted(channel));
    let engine = Engine::new(cri_client.clone(), options, told).await.with_context(|| match &wish.endpoint {
        Some(socket) => format!("reach the container runtime at {}", socket.display()),
        None => "reach the container runtime".to_owned(),
    })?;
    let care = care::Options {
        foreign: wish.endpoint.is_some(),
        period: wish.housekeeping,
        ..care::Options::new(settings.clone(), Some(cgroups), operations.settings())
    };
    let care = Care::new(cri_client.clone(), store.clone(), care);
    let (working, watched) = (operations.listener(), care.watched());
    let listener = move |notice: &Notice| {
        tell(notice);
        working(notice);
        watched.hear(notice);
    };
    let events = Events::new(store.clone(), &settings.node.name);
    events.node(Happening::new(Severity::Normal, "Starting", "Starting the node agent."));
    let telling = tokio::spawn(serving::tell(notices, events.clone(), store.clone(), listener));
    let (control, commands) = Control::new();
    // What runs behind another endpoint has its sessions there, too.
    let own = wish.endpoint.is_none().then(|| runtime.clone());
    let api = serving.begin(serving::api(store, cri_client.clone(), own, control.clone(), &settings))?;
    let working = operations.begin(control.clone(), cri_client, &settings, wish.endpoint.is_none()).await?;
    let (snapshots, looks) = mpsc::channel(SNAPSHOTS);
    let look = Arc::new(Notify::new());
    let mut reconciler = Reconciler::new(engine, disk, shown, settings.node.name.clone(), look.clone());
    reconciler.resume(wish.places.iter().map(Place::name).collect()).await?;
    let pods = OfAgent { registry: reconciler.registry(), control: control.clone(), listener: Box::new(hear(events)) };
    let caring = tokio::spawn(care.run(Arc::new(pods)));
    let following: Vec<_> = wish
        .places
        .iter()
        .map(|place| sources::follow(place.clone(), wish.pace, look.clone(), snapshots.clone()))
        .collect();
    drop(snapshots);
    tracing::info!(sources = ?wish.places.iter().map(Place::name).collect::<Vec<_>>(), "the agent is ready");
    let mut cri = match &wish.cri_socket {
        Some(path) => Some(Server::start(&runtime, path, &streaming_options()).await?),
        None => None,
    };
    let end = async {
        tokio::select! {
            () = signals.next() => Ok(()),
            ended = cri_ended(cri.as_mut()) => ended,
        }
    };
    working.ready();
    let outcome = reconciler.run(looks, commands, end).await;
    working.stopping(wish.shutdown_pods);
    if wish.shutdown_pods {
        reconciler.shut_down(signals.next()).await;
    }
    drop((api, control));
    following.into_iter().for_each(|task| task.abort());
    telling.abort();
    caring.abort();
    if let Some(cri) = cri {
        held.1 = Some(cri.finish().await?);
    }
    outcome.map(|()| held)
}

/// Says what care does to pods and to the node; of pods their workers tell the events.
fn hear(events: Events) -> impl Fn(Option<PodKey>, &care::Told) {
    move |pod, told| {
        let name = pod.as_ref().map(|pod| format!("{}/{}", pod.namespace, pod.name));
        let severity = if told.warning { Severity::Warning } else { Severity::Normal };
        match severity {
            Severity::Warning => tracing::warn!(pod = name, reason = told.reason, "{}", told.message),
            Severity::Normal => tracing::info!(pod = name, reason = told.reason, "{}", told.message),
        }
        if pod.is_none() {
            events.node(Happening::new(severity, told.reason, told.message.clone()));
        }
    }
}

/// Where sessions of CRI clients are served: a free port of this host alone.
fn streaming_options() -> streaming::Options {
    streaming::Options { address: Ipv4Addr::LOCALHOST.into(), port: 0, tls: None }
}

/// Waits until CRI clients are served no more, which nobody has asked for.
async fn cri_ended(server: Option<&mut Server>) -> anyhow::Result<()> {
    match server {
        Some(server) => server.ended().await,
        None => std::future::pending().await,
    }
}

/// Declares this process the agent of its state directory.
async fn serve(runtime: &Runtime) -> anyhow::Result<Held> {
    let serving = runtime.clone();
    let serving = tokio::task::spawn_blocking(move || serving.serve(&Owner::Agent)).await?;
    Ok(Held(serving.context("take over the pods of the agent")?, None))
}

/// Says what happens to pods.
fn tell(Notice { pod, event }: &Notice) {
    let pod = format!("{}/{}", pod.namespace, pod.name);
    match event {
        Event::Failed { container, reason, message, .. } => tracing::warn!(pod, container, reason, "{message}"),
        Event::Warning(message) => tracing::warn!(pod, "{message}"),
        event => tracing::info!(pod, "{event:?}"),
    }
}

/// The signals that end the agent.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> anyhow::Result<Self> {
        let listen = |kind| signal(kind).context("listen for signals");
        Ok(Signals { terminate: listen(SignalKind::terminate())?, interrupt: listen(SignalKind::interrupt())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Where a pod's manifest is.
pub fn file_of(pod: &Pod) -> Option<String> {
    pod.metadata.annotations.as_ref()?.get(desired::FILE).cloned()
}
