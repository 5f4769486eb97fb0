//! The node agent: keeps what runs equal to the manifests.
//!
//! ```text
//!  sources ──snapshots──> reconcile: desired state (recorded) ──> one worker a pod (engine) ──CRI──> runtime
//!                              ^                                        │
//!               control: API, verbs                                notices: events, log
//! ```

pub mod care;
mod cluster;
pub mod config;
pub mod control;
pub mod desired;
mod devices;
mod former;
pub mod health;
mod kubelet;
mod live;
mod log_rotation;
pub mod metrics;
mod notify;
pub mod operations;
pub mod order;
pub mod ours;
mod quiet;
mod reconcile;
mod serving;
pub mod shown;
mod shutdown;
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
use tokio::sync::{mpsc, watch};

use self::care::Care;
use self::care::registry::OfAgent;
use self::control::Control;
use self::desired::disk::Disk;
use self::metrics::Metrics;
use self::operations::Operations;
use self::ours::Ours;
use self::quiet::Quiet;
use self::reconcile::Reconciler;
pub use self::serving::Listen;
use self::serving::Serving;
use self::shown::Shown;
use self::sources::{Pace, Place};
use crate::access::Access;
use crate::api::Api;
use crate::channel::{self, Cri};
use crate::cli::Global;
use crate::cri_socket::Server;
use crate::csi::Csi;
use crate::engine::backoff::Policy;
use crate::engine::config::names::PodKey;
use crate::engine::config::{Objects, Settings};
use crate::engine::notice::{Event, Notice};
use crate::engine::{Engine, Options};
use crate::events::{Events, Happening, Severity};
use crate::host::compat;
use crate::host::qos::PodCgroups;
use crate::kubelet::pods::Names;
use crate::kubelet::stats::Statistics;
use crate::local;
use crate::net::network::Network;
use crate::net::object::Board;
use crate::net::sender::{Sender, Trouble};
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
    /// Restart back-off; as the settings have it when none.
    pub backoff: Option<Policy>,
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
    /// A directory to make look like a kubelet's.
    pub kubelet_compat_dir: Option<PathBuf>,
    /// What cluster the node is one of, if any.
    pub cluster: Option<crate::cluster::Wish>,
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
    let node_settings = operations.settings();
    let disk = Disk::open(&wish.settings.root_dir).with_context(|| {
        format!("open the desired state in {}", desired::disk::directory(&wish.settings.root_dir).display())
    })?;
    let (runtime, channel) = local::open(&wish.global, Owner::Agent, zygote)?;
    let mut held = serve(&runtime).await?;
    if let Err(error) = Place::record(&wish.places, &wish.settings.state_dir) {
        tracing::warn!(%error, "where manifests come from cannot be written down: coracle apply does not know it");
    }
    compat::establish(wish.kubelet_compat_dir.as_deref(), &wish.settings.root_dir, &wish.settings.state_dir)?;
    let csi = Csi::open(&wish.settings.root_dir, wish.kubelet_compat_dir.clone(), wish.settings.boot_id.clone())
        .context("read what CSI drivers have mounted")?;
    let mut settings = wish.settings.clone();
    settings.cgroups = care::cgroups(&settings);
    let cgroups = PodCgroups::open(Path::new("/proc"), &settings).context("find the cgroups of pods")?;
    let own_channel = channel.clone();
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
    let cri_client = Cri::new(operations.counted(channel));
    let sender = match wish.endpoint {
        Some(_) => Sender::without(Trouble::Foreign),
        None if wish.global.cni_conf_dir.is_some() => Sender::without(Trouble::Plugged),
        None => Sender::new(cri_client.clone()),
    };
    let devices = devices::open(&wish, &settings)?;
    let options = Options {
        settings: settings.clone(),
        pod_cgroups: Some(cgroups.clone()),
        objects: Objects::default(),
        backoff: wish.backoff.unwrap_or_else(|| config::back_off(&node_settings.borrow())),
        owner: Owner::Agent.to_string(),
        fail_fast: false,
        keep: true,
        store: Some(store.clone()),
        network: Some(sender.clone()),
        csi: Some(csi.clone()),
        devices: Some(devices.clone()),
    };
    let network = Network::new(sender, settings.clone(), options.owner.clone())
        .shown_on(Board::new(store.clone(), cri_client.clone()))
        .in_cluster(wish.cluster.is_some())
        .recall()
        .context("look through the records of pods")?;
    let shown = Shown::new(store.clone(), told.clone(), options.owner.clone());
    shown.forget_former(&settings).context("look through the records of pods")?;
    let engine = Engine::new(cri_client.clone(), options, told).await.with_context(|| match &wish.endpoint {
        Some(socket) => format!("reach the container runtime at {}", socket.display()),
        None => "reach the container runtime".to_owned(),
    })?;
    let care = care::Options {
        foreign: wish.endpoint.is_some(),
        period: wish.housekeeping,
        csi: Some(csi.clone()),
        devices: Some(devices.clone()),
        ..care::Options::new(settings.clone(), Some(cgroups), operations.settings())
    };
    let care = Care::new(cri_client.clone(), store.clone(), care);
    let names = Names { node: settings.node.name.clone(), mirrored: wish.cluster.is_some() };
    let statistics = Statistics::new(
        Ours::new(cri_client.clone(), &settings.labels),
        store.clone(),
        care.meter(),
        names.clone(),
        engine.clone(),
    );
    let (working, watched, quiet) = (operations.listener(), care.watched(), Quiet::default());
    let calming = tokio::spawn(quiet.clone().run());
    // The beginning, too, is something that happens.
    quiet.hear();
    let listener = move |notice: &Notice| {
        quiet.hear();
        tell(notice);
        working(notice);
        watched.hear(notice);
    };
    let events = Events::new(store.clone(), &settings.node.name);
    events.node(Happening::new(Severity::Normal, "Starting", "Starting the node agent."));
    // Beside the work: a runtime that was left may be gone, and the pods of this one do not wait for its answer.
    tokio::spawn(tell_leftovers(disk.clone(), wish.endpoint.clone(), own_channel, events.clone()));
    if wish.backoff.is_none() {
        tokio::spawn(follow_backoff(engine.clone(), node_settings.clone()));
    }
    let telling = tokio::spawn(serving::tell(notices, events.clone(), store.clone(), listener));
    let (control, commands) = Control::new();
    // What runs behind another endpoint has its sessions there, too.
    let own = wish.endpoint.is_none().then(|| runtime.clone());
    let access = Access::new(store.clone(), cri_client.clone(), own, settings.log_dir.clone());
    let api = serving.begin(Api::new(access.clone(), Arc::new(control.clone())))?;
    let metrics = operations.metrics();
    let served = operations.served(control.clone(), &engine, statistics.clone());
    let config = operations.settings();
    let working = operations.begin(control.clone(), &engine, served.clone(), wish.endpoint.is_none());
    let (snapshots, looks) = mpsc::channel(SNAPSHOTS);
    let (look, looks_at_once) = watch::channel(());
    let mut reconciler = Reconciler::new(engine.clone(), disk, shown, settings.node.name.clone(), look, network);
    let membership = match &wish.cluster {
        Some(wish) => {
            let (cri, counts) = (cri_client.clone(), metrics.server.clone());
            Some(cluster::join(wish, &store, events.clone(), &settings.node, cri, engine, counts).await?)
        }
        None => None,
    };
    if let Some(membership) = &membership {
        reconciler.follow(membership.pods.clone(), membership.objects.clone(), membership.link.node());
    }
    reconciler.resume(wish.places.iter().map(Place::name).collect()).await?;
    let pods = OfAgent {
        registry: reconciler.registry(),
        control: control.clone(),
        listener: Box::new(hear(events.clone(), metrics)),
    };
    let caring = tokio::spawn(care.run(Arc::new(pods)));
    // What pods have is known by now.
    let registering = devices::serve(&devices, &wish)?;
    let around = kubelet::Around { access, served, config, statistics, names, settings: &settings };
    let asked = kubelet::begin(around, membership.as_ref())?;
    let following: Vec<_> = wish
        .places
        .iter()
        .map(|place| sources::follow(place.clone(), wish.pace, looks_at_once.clone(), snapshots.clone()))
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
        events.node(Happening::new(Severity::Normal, "Shutdown", "Shutdown manager detected shutdown event"));
        if let Some(membership) = &membership {
            membership.ending("node is shutting down").await;
        }
        let steps = node_settings.borrow().shutdown.clone();
        reconciler.shut_down(&steps, signals.next()).await;
        if let Some(membership) = &membership {
            membership.ended().await;
        }
    }
    drop((api, asked, control, membership));
    following.into_iter().for_each(|task| task.abort());
    telling.abort();
    calming.abort();
    caring.abort();
    registering.into_iter().for_each(|task| task.abort());
    if let Some(cri) = cri {
        held.1 = Some(cri.finish().await?);
    }
    outcome.map(|()| held)
}

/// Says what this agent has left in other runtimes.
async fn tell_leftovers(disk: Disk, endpoint: Option<PathBuf>, own: channel::Channel, events: Events) {
    match former::leftovers(&disk, endpoint.as_deref(), own).await {
        Ok(said) => {
            for message in said {
                tracing::warn!("{message}");
                events.node(Happening::new(Severity::Warning, "FormerRuntime", message));
            }
        }
        Err(error) => tracing::warn!(%error, "which container runtimes were used before is unknown"),
    }
}

/// Keeps the restart back-off as the settings have it.
async fn follow_backoff(engine: Engine, mut settings: watch::Receiver<Arc<config::Config>>) {
    while settings.changed().await.is_ok() {
        engine.set_backoff(config::back_off(&settings.borrow_and_update()));
    }
}

/// Says what care does to pods and to the node; of pods their workers tell the events.
fn hear(events: Events, metrics: Metrics) -> impl Fn(Option<PodKey>, &care::Told) {
    move |pod, told| {
        let name = pod.as_ref().map(|pod| format!("{}/{}", pod.namespace, pod.name));
        told.signal.into_iter().for_each(|signal| metrics.evicted(signal));
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
