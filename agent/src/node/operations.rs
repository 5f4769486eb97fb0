//! What makes the agent a service: it tells the service manager how it is, answers who asks, reads its settings again
//! when it is told to, and keeps the logs.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

use super::config::{self, Config, Flags, Unusable};
use super::control::Control;
use super::health::{self, Pulse, Served};
use super::log_rotation::LogKeeper;
use super::metrics::{Calls, Metrics};
use super::notify::Notifier;
use super::ours::Ours;
use crate::channel::Channel;
use crate::engine::Engine;
use crate::engine::config::Settings;
use crate::engine::notice::{Event, Notice};
use crate::kubelet::stats::Statistics;
use crate::logging;

/// What the service is told on its command line.
#[derive(Clone, Debug, Default)]
pub struct Wish {
    /// Where settings come from.
    pub flags: Flags,
    /// The settings, as they were read.
    pub config: Config,
    /// Where links to the containers' logs are made; nowhere without it.
    pub log_links: Option<PathBuf>,
}

/// The agent as a service.
#[derive(Debug)]
pub struct Operations {
    flags: Flags,
    settings: watch::Sender<Arc<Config>>,
    hangup: Signal,
    notifier: Arc<Notifier>,
    metrics: Metrics,
    /// Rung when containers come and go.
    bell: Arc<Notify>,
    live: Live,
    log_links: Option<PathBuf>,
}

/// What it does beside the agent's work. Ends when it is dropped.
#[derive(Debug)]
pub struct Working {
    /// Held, for what is dropped ends.
    _tasks: JoinSet<()>,
    notifier: Arc<Notifier>,
}

impl Operations {
    /// Prepares it, before anything else of the agent is there: a SIGHUP from here on ends nothing.
    pub fn new(wish: Wish, settings: &Settings) -> anyhow::Result<Self> {
        let hangup = signal(SignalKind::hangup()).context("listen for SIGHUP")?;
        let metrics = Metrics::default();
        let live = Live { settings: settings.clone(), calls: metrics.calls.clone() };
        set_oom_score_adj(wish.config.oom_score_adj);
        live.apply(&wish.config);
        Ok(Self {
            flags: wish.flags,
            settings: watch::Sender::new(Arc::new(wish.config)),
            hangup,
            notifier: Arc::new(Notifier::from_env()),
            metrics,
            bell: Arc::default(),
            live,
            log_links: wish.log_links,
        })
    }

    /// The settings, as they are from time to time.
    pub fn settings(&self) -> watch::Receiver<Arc<Config>> {
        self.settings.subscribe()
    }

    /// The same channel, counted.
    pub fn counted(&self, channel: Channel) -> Channel {
        self.metrics.calls.counted(channel)
    }

    /// What is counted.
    pub fn metrics(&self) -> Metrics {
        self.metrics.clone()
    }

    /// For whoever hears of pods first.
    pub fn listener(&self) -> impl Fn(&Notice) + Send + 'static {
        let (metrics, bell) = (self.metrics.clone(), self.bell.clone());
        move |notice| {
            metrics.note(notice);
            if matches!(notice.event, Event::Started { .. } | Event::Exited { .. } | Event::Ended(_)) {
                bell.notify_one();
            }
        }
    }

    /// What the agent tells of itself.
    pub fn served(&self, control: Control, engine: &Engine, statistics: Statistics) -> Served {
        let (cri, settings) = (engine.cri().clone(), engine.settings());
        let pulse = Pulse::new(control, cri.clone());
        let (node, ours) = (settings.node.name.clone(), Ours::new(cri, &settings.labels));
        Served { pulse, metrics: self.metrics.clone(), ours, statistics, probes: engine.probe_counts(), node }
    }

    /// Begins its work. `rotates` says whether the runtime puts logs aside itself.
    pub fn begin(self, control: Control, engine: &Engine, served: Served, rotates: bool) -> Working {
        let (cri, settings) = (engine.cri().clone(), engine.settings());
        let mut tasks = JoinSet::new();
        let pulse = served.pulse.clone();
        tasks.spawn(health::serve(self.settings.subscribe(), served));
        let keeper = LogKeeper {
            ours: Ours::new(cri, &settings.labels),
            rotates,
            log_dir: settings.log_dir.clone(),
            links: self.log_links,
            settings: self.settings.subscribe(),
            bell: self.bell,
        };
        tasks.spawn(keeper.run());
        if let Some(period) = self.notifier.watchdog() {
            tasks.spawn(watch_over(pulse, self.notifier.clone(), period));
        }
        let reloader = Reloader {
            flags: self.flags,
            settings: self.settings,
            live: self.live,
            control,
            notifier: self.notifier.clone(),
            metrics: self.metrics,
        };
        tasks.spawn(reloader.run(self.hangup));
        Working { _tasks: tasks, notifier: self.notifier }
    }
}

impl Working {
    /// The agent has taken over its pods.
    pub fn ready(&self) {
        self.notifier.ready(READY);
    }

    /// The agent ends.
    pub fn stopping(&self, pods_too: bool) {
        self.notifier.stopping(if pods_too { "stopping the pods" } else { "leaving the pods running" });
    }
}

/// What the service manager shows of an agent that works.
const READY: &str = "keeping the pods equal to their manifests";

/// Tells the service manager that the agent is alive, as long as it is: twice in the time that it has for that.
async fn watch_over(pulse: Pulse, notifier: Arc<Notifier>, period: Duration) {
    loop {
        if pulse.is_alive().await {
            notifier.alive();
        } else {
            tracing::error!(
                "the agent does not answer itself; the service manager will restart it, and no pod with it"
            );
        }
        tokio::time::sleep(period / 2).await;
    }
}

/// What follows the settings while the agent runs.
#[derive(Debug)]
struct Live {
    settings: Settings,
    calls: Calls,
}

impl Live {
    fn apply(&self, config: &Config) {
        self.settings.log_limits.set(&config.logs);
        self.settings.pull_limits.set(config.pulls);
        self.settings.cgroups.pids_limit.set(config.pod_pids_limit);
        self.calls.set_timeout(config.runtime_request_timeout);
        logging::set_verbosity(config.logging.verbosity);
    }
}

/// Reads the settings again.
struct Reloader {
    flags: Flags,
    settings: watch::Sender<Arc<Config>>,
    live: Live,
    control: Control,
    notifier: Arc<Notifier>,
    metrics: Metrics,
}

impl Reloader {
    async fn run(self, mut hangup: Signal) {
        while hangup.recv().await.is_some() {
            self.notifier.reloading();
            let flags = self.flags.clone();
            let loaded = tokio::task::spawn_blocking(move || flags.load()).await;
            if let Ok(loaded) = loaded {
                self.take(loaded);
            }
            // The manifests, too: who sends a SIGHUP has changed something.
            if let Err(refusal) = self.control.reload().await {
                tracing::warn!(%refusal, "the manifests are not read again");
            }
            self.notifier.ready(READY);
        }
    }

    fn take(&self, loaded: Result<(Config, Vec<manifests::Diagnostic>), Unusable>) {
        self.metrics.reloaded(loaded.is_ok());
        match loaded {
            Ok((config, warnings)) => {
                config::tell(&warnings);
                let old = self.settings.borrow().clone();
                let later = config::needs_restart(&old, &config);
                if !later.is_empty() {
                    let settings = later.join(", ");
                    tracing::warn!(settings, "these settings have changed and count from the agent's next start on");
                }
                self.live.apply(&config);
                if old.oom_score_adj != config.oom_score_adj {
                    set_oom_score_adj(config.oom_score_adj);
                }
                self.settings.send_replace(Arc::new(config));
                tracing::info!("the settings were read again");
            }
            Err(error) => {
                if let Unusable::Invalid { diagnostics, .. } = &error {
                    config::tell(diagnostics);
                }
                tracing::error!(%error, "the settings stay as they were");
            }
        }
    }
}

/// How ready the kernel is to kill the agent. Containers have their own.
fn set_oom_score_adj(value: i32) {
    if let Err(error) = std::fs::write("/proc/self/oom_score_adj", value.to_string()) {
        // Hosts that are containers themselves seldom may.
        tracing::info!(%error, value, "the agent's oomScoreAdj cannot be set");
    }
}
