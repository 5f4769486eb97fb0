//! One look at the node after the other, and what each leads to.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use cri_proto::cri;
use k8s_openapi::api::core::v1::{NodeSystemInfo, Pod};
use manifests::kubelet::Config;
use tokio::sync::mpsc;

use super::allocatable::Capacity;
use super::comeback::Comeback;
use super::images::{Collector, Pulled};
use super::pressure::{Observations, Pressure};
use super::signals::{Sources, filesystem};
use super::stalls::Stalls;
use super::system::Abilities;
use super::threshold::{self, Signal, amount_of};
use super::usage::Meter;
use super::{Care, Options, PodState, Pods};
use crate::channel::Cri;
use crate::devices::Devices;
use crate::engine::time::{Clock, Monotonic};
use crate::store::Store;

mod evict;
mod house;

/// How often memory is looked at while there is little more of it than the threshold.
const NEAR: Duration = Duration::from_secs(1);

pub(super) struct Carer {
    cri: Cri,
    store: Store,
    options: Options,
    config: Arc<Config>,
    clock: Clock,
    pods: Arc<dyn Pods>,
    pulled: mpsc::Receiver<String>,
    pressure: Pressure,
    collector: Collector,
    meter: Meter,
    comeback: Comeback,
    system: Option<NodeSystemInfo>,
    /// What the runtime said last that it can do.
    abilities: Abilities,
    /// Where images are, once the runtime has said it.
    imagefs: Option<PathBuf>,
    images: Vec<cri::Image>,
    housekept: Option<Monotonic>,
    images_tried: Option<Monotonic>,
    /// Pods whose volumes were given back.
    cleared: HashSet<String>,
    /// Kinds of pods and their number, as the classes' shares were worked out for.
    balanced: Option<Vec<String>>,
}

impl Carer {
    pub(super) fn new(care: Care, pods: Arc<dyn Pods>) -> Self {
        let Care { cri, store, mut options, meter, clock, pulled } = care;
        let config = options.config.borrow_and_update().clone();
        let owned = options.foreign.then(|| Pulled::open(&options.settings.root_dir));
        Carer {
            pressure: Pressure::new(Vec::new(), Duration::ZERO),
            collector: Collector::new(cri.clone(), owned),
            meter,
            comeback: Comeback::default(),
            pulled: pulled.1,
            system: None,
            abilities: Abilities::default(),
            imagefs: None,
            images: Vec::new(),
            housekept: None,
            images_tried: None,
            cleared: HashSet::new(),
            balanced: None,
            cri,
            store,
            options,
            config,
            clock,
            pods,
        }
    }

    pub(super) async fn run(mut self) {
        let mut pause = Duration::ZERO;
        let mut stalls = Stalls::open(&self.options.proc_root);
        let devices = self.options.devices.as_ref().map(Devices::bell).unwrap_or_default();
        loop {
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = devices.notified() => {}
                () = stalls.next() => tracing::debug!("processes wait for memory: looking at once"),
                Some(image) = self.pulled.recv() => {
                    self.collector.note_pulled(&image).await;
                    continue;
                }
                Ok(()) = self.options.config.changed() => {
                    self.config = self.options.config.borrow_and_update().clone();
                    self.balanced = None;
                }
            }
            pause = self.turn().await;
        }
    }

    /// One look; how long to wait for the next.
    async fn turn(&mut self) -> Duration {
        let all = self.pods.pods().await;
        let sources = self.sources().await;
        let seen = observe(&sources).await;
        let bounded = sources.pods.is_some();
        let thresholds = threshold::of(&self.config.eviction.thresholds, bounded);
        self.pressure.reconfigure(thresholds, self.config.eviction.transition_period);
        let verdict = self.pressure.observe(&seen, self.clock.now());
        self.publish(&verdict.conditions, &seen).await;
        self.balance(&all, &seen);
        self.come_back(&all, &verdict.conditions).await;
        if self.keep_limits(&all, &sources).await {
            return Duration::ZERO;
        }
        if !verdict.acts.is_empty() && self.relieve(&all, &verdict.acts, &sources).await {
            return Duration::ZERO;
        }
        self.keep_house(&all, &sources).await;
        if self.is_near(&seen) { NEAR.min(self.options.period) } else { self.options.period }
    }

    async fn sources(&mut self) -> Sources {
        if self.imagefs.is_none() {
            let info = self.cri.images.clone().image_fs_info(cri::ImageFsInfoRequest {}).await;
            let info =
                info.inspect_err(|status| tracing::debug!(error = status.message(), "where images are is unknown"));
            let place = info.ok().and_then(|it| it.into_inner().image_filesystems.into_iter().next()?.fs_id);
            self.imagefs = place.map(|id| id.mountpoint.into());
        }
        let bound = self.capacity(0).bounds(&self.config).memory;
        Sources {
            proc_root: self.options.proc_root.clone(),
            nodefs: self.options.settings.root_dir.clone(),
            imagefs: self.imagefs.clone(),
            pods: self.options.cgroups.clone().zip(bound),
        }
    }

    fn capacity(&self, pids: u64) -> Capacity {
        let storage = filesystem(&self.options.settings.root_dir).map_or(0, |space| space.bytes.capacity);
        Capacity { node: self.options.settings.node.clone(), storage, pids }
    }

    /// Whether memory is so short that the usual pause is too long.
    fn is_near(&self, seen: &Observations) -> bool {
        self.config.eviction.thresholds.iter().any(|it| {
            let left = seen.get(&it.signal.into()).filter(|_| it.signal == manifests::kubelet::Signal::MemoryAvailable);
            left.is_some_and(|left| left.available < amount_of(it.value, left.capacity).saturating_mul(4))
        })
    }
}

async fn observe(sources: &Sources) -> Observations {
    let sources = sources.clone();
    tokio::task::spawn_blocking(move || sources.observe()).await.unwrap_or_default()
}

fn uid(pod: &Pod) -> &str {
    pod.metadata.uid.as_deref().unwrap_or_default()
}

fn active(all: &[PodState]) -> impl Iterator<Item = &Pod> {
    all.iter().filter(|it| !it.over && it.pod.metadata.deletion_timestamp.is_none()).map(|it| &*it.pod)
}

fn pods_of(all: &[PodState]) -> Vec<Pod> {
    all.iter().map(|it| Pod::clone(&it.pod)).collect()
}

fn pids_of(seen: &Observations) -> u64 {
    seen.get(&Signal::PidAvailable).map_or(0, |it| it.capacity)
}
