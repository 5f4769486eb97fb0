//! One look at the node after the other, and what each leads to.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use cri_proto::cri;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, NodeSystemInfo, Pod};
use manifests::kubelet::Config;
use tokio::sync::{mpsc, watch};

use super::allocatable::Capacity;
use super::comeback::{Comeback, was_evicted};
use super::containers::{self, Standing};
use super::images::{Collector, Goal, Pulled, Removed, is_used};
use super::pressure::{Met, Observations, Pressure};
use super::rank::{Candidate, Request, Usage, rank};
use super::signals::{Sources, filesystem};
use super::threshold::{self, Resource, Signal, amount_of};
use super::usage::{Meter, PodUsage};
use super::{Care, Condition, Figures, Options, PodState, Pods, Told, limits, message, node_object, system};
use crate::channel::Cri;
use crate::engine::config::names::PodKey;
use crate::engine::config::quantity::value;
use crate::engine::config::resources::{CRITICAL, pod_request, priority};
use crate::engine::grace_of;
use crate::engine::plan::spec_of;
use crate::engine::time::{Clock, Monotonic};
use crate::host::teardown;
use crate::store::Store;

/// How long a pod that was evicted may take until the next one is chosen.
const PATIENCE: Duration = Duration::from_secs(30);

/// How often it is looked at meanwhile.
const GLANCE: Duration = Duration::from_millis(250);

/// How often memory is looked at while there is little more of it than the threshold.
const NEAR: Duration = Duration::from_secs(1);

/// How often dead containers are counted, the classes' shares worked out and images looked at.
const HOUSEKEEPING: Duration = Duration::from_secs(60);

/// How often images are removed at most, where that has not freed enough.
const IMAGES: Duration = Duration::from_secs(300);

/// The grace of a pod that a hard threshold evicts.
const AT_ONCE: Duration = Duration::from_secs(1);

pub(super) struct Carer {
    cri: Cri,
    store: Store,
    options: Options,
    config: Arc<Config>,
    clock: Clock,
    pods: Arc<dyn Pods>,
    conditions: watch::Sender<BTreeSet<Condition>>,
    figures: watch::Sender<Figures>,
    pulled: mpsc::Receiver<String>,
    pressure: Pressure,
    collector: Collector,
    meter: Meter,
    comeback: Comeback,
    system: Option<NodeSystemInfo>,
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
        let Care { cri, store, mut options, clock, conditions, figures, pulled } = care;
        let config = options.config.borrow_and_update().clone();
        let owned = options.foreign.then(|| Pulled::open(&options.settings.root_dir));
        Carer {
            pressure: Pressure::new(Vec::new(), Duration::ZERO),
            collector: Collector::new(cri.clone(), owned),
            meter: Meter::new(cri.clone(), options.settings.clone(), options.cgroups.clone()),
            comeback: Comeback::default(),
            pulled: pulled.1,
            system: None,
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
            conditions,
            figures,
        }
    }

    pub(super) async fn run(mut self) {
        let mut pause = Duration::ZERO;
        loop {
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
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

    /// Says how the node is.
    async fn publish(&mut self, pressures: &BTreeSet<Condition>, seen: &Observations) {
        self.conditions.send_if_modified(|known| std::mem::replace(known, pressures.clone()) != *pressures);
        if self.system.is_none() {
            self.system = Some(system::info(&self.cri, &self.options.settings.boot_id).await);
        }
        let Some(system) = &self.system else { return };
        let unready = self.unready().await;
        let capacity = self.capacity(pids_of(seen));
        let facts = node_object::Facts {
            capacity: &capacity,
            config: &self.config,
            system,
            pressures,
            unready,
            images: &self.images,
        };
        let before = self.store.get::<Node>("", &capacity.node.name);
        let node = node_object::node(&facts, before.as_deref(), Timestamp::now());
        self.store.put(node);
    }

    /// Why no pod can run, where the runtime says so.
    async fn unready(&self) -> Option<String> {
        let answer = self.cri.runtime.clone().status(cri::StatusRequest::default()).await;
        let status = match answer {
            Ok(answer) => answer.into_inner().status.unwrap_or_default(),
            Err(status) => return Some(format!("container runtime is down: {}", status.message())),
        };
        let wanted = ["RuntimeReady", "NetworkReady"];
        let bad = status.conditions.iter().find(|it| wanted.contains(&it.r#type.as_str()) && !it.status);
        bad.map(|it| format!("container runtime is not ready: {} is false: {}: {}", it.r#type, it.reason, it.message))
    }

    /// Works the classes' shares out where the pods are others than before.
    fn balance(&mut self, all: &[PodState], seen: &Observations) {
        let Some(cgroups) = self.options.cgroups.clone() else { return };
        let key = |state: &PodState| format!("{}/{:?}", uid(&state.pod), spec_of(&state.pod).resources);
        let now: Vec<String> = all.iter().filter(|it| !it.over).map(key).collect();
        if self.balanced.as_ref() == Some(&now) {
            return;
        }
        let bounds = self.capacity(pids_of(seen)).bounds(&self.config);
        let active = all.iter().filter(|it| !it.over).map(|it| &*it.pod);
        match cgroups.balance(active, &bounds) {
            Ok(()) => self.balanced = Some(now),
            Err(error) => tracing::warn!(%error, "the shares of pods cannot be set"),
        }
    }

    /// Gives back what evicted pods have left, and starts those anew whose time has come.
    async fn come_back(&mut self, all: &[PodState], conditions: &BTreeSet<Condition>) {
        let evicted: Vec<&Pod> = all.iter().filter(|it| it.over && was_evicted(&it.pod)).map(|it| &*it.pod).collect();
        self.cleared.retain(|cleared| all.iter().any(|it| uid(&it.pod) == cleared));
        for pod in &evicted {
            self.clear(pod).await;
        }
        let is = |pod: &Pod, namespace: &str, name: &str| {
            let key = PodKey::of(pod);
            key.namespace == namespace && key.name == name
        };
        self.comeback.keep(|namespace, name| all.iter().any(|it| is(&it.pod, namespace, name)));
        for pod in self.comeback.due(&evicted, conditions, self.clock.now()) {
            tracing::info!(pod = pod.metadata.name, "a pod that was evicted is started anew");
            self.pods.renew(uid(pod)).await;
        }
    }

    /// Gives back a pod's volumes: what it has left there, nobody will ask for.
    async fn clear(&mut self, pod: &Pod) {
        let (root, uid) = (self.options.settings.root_dir.clone(), uid(pod).to_owned());
        if !self.cleared.insert(uid.clone()) {
            return;
        }
        let cleared = tokio::task::spawn_blocking(move || teardown::remove_pod_volumes(&root, &uid)).await;
        if let Ok(Err(error)) = cleared {
            tracing::warn!(%error, "the volumes of an evicted pod cannot be given back");
        }
    }

    /// Evicts pods that are over their own limits. True when there was one.
    async fn keep_limits(&mut self, all: &[PodState], sources: &Sources) -> bool {
        if !self.config.local_storage_capacity_isolation {
            return false;
        }
        let limited: Vec<Pod> = active(all).filter(|pod| limits::has_any(pod)).cloned().collect();
        if limited.is_empty() {
            return false;
        }
        let Some(usage) = self.measure(limited.clone()).await else { return false };
        let apart = sources.images_apart();
        let mut gone = Vec::new();
        for pod in limited.iter().filter(|pod| priority(spec_of(pod)) < CRITICAL) {
            let Some(why) = usage.get(uid(pod)).and_then(|usage| limits::exceeded(pod, usage, apart)) else { continue };
            self.evict(pod, &why, AT_ONCE, "ephemeral-storage").await;
            gone.push(uid(pod).to_owned());
        }
        self.wait_for(&gone).await;
        !gone.is_empty()
    }

    async fn measure(&self, pods: Vec<Pod>) -> Option<HashMap<String, PodUsage>> {
        let measured = self.meter.measure(pods).await;
        measured.inspect_err(|status| tracing::warn!(error = status.message(), "what pods use is unknown")).ok()
    }

    /// Takes back what is short: first what no pod misses, then one pod. True when it is worth looking again at once.
    async fn relieve(&mut self, all: &[PodState], acts: &[Met], sources: &Sources) -> bool {
        let Some(met) = acts.first() else { return false };
        let resource = met.resource().as_str();
        self.tell(None, "EvictionThresholdMet", format!("Attempting to reclaim {resource}")).await;
        if self.reclaim(all, met, sources).await && Pressure::relieved(acts, &observe(sources).await) {
            return false;
        }
        let candidates: Vec<Pod> = active(all).cloned().collect();
        let usage = self.measure(candidates.clone()).await;
        let candidate = |pod: &Pod| {
            let usage = usage.as_ref().map(|usage| usage.get(uid(pod)).map(PodUsage::total).unwrap_or_default());
            // What uses nothing gives nothing back.
            (usage != Some(Usage::default())).then(|| candidate(pod, usage))
        };
        let ranked =
            rank(candidates.iter().filter_map(candidate).collect(), met.threshold.signal, sources.images_apart());
        let first = ranked.first().and_then(|first| candidates.iter().find(|pod| uid(pod) == first.uid));
        let Some(pod) = first else {
            tracing::warn!(resource, "the node is short, and there is no pod that could be evicted");
            return false;
        };
        let most = Duration::from_secs(self.config.eviction.max_pod_grace.into());
        let grace = if met.threshold.is_hard() { AT_ONCE } else { most.min(grace_of(pod)).max(AT_ONCE) };
        let why = message::of(met, pod, usage.as_ref().and_then(|usage| usage.get(uid(pod))));
        self.evict(pod, &why, grace, name_of(met.threshold.signal)).await;
        self.wait_for(&[uid(pod).to_owned()]).await;
        true
    }

    /// Dead containers and unused images, where it is a disk that is short. False when nothing could help.
    async fn reclaim(&mut self, all: &[PodState], met: &Met, sources: &Sources) -> bool {
        if !matches!(met.resource(), Resource::EphemeralStorage | Resource::Inodes) {
            return false;
        }
        // Neither is on the disk of the pods' files then.
        if sources.images_apart() && !met.threshold.signal.is_of_images() {
            return false;
        }
        for state in all.iter().filter(|it| it.over && was_evicted(&it.pod)) {
            self.clear(&state.pod).await;
        }
        self.collect_containers(all, true).await;
        self.collect_images(all, &Goal::All).await;
        true
    }

    /// What is done now and then, whether anything is short or not.
    async fn keep_house(&mut self, all: &[PodState], sources: &Sources) {
        let now = self.clock.now();
        if self.housekept.is_none_or(|last| now - last >= HOUSEKEEPING) {
            self.housekept = Some(now);
            self.balanced = None;
            self.collect_containers(all, false).await;
            self.sweep_cgroups().await;
            match self.collector.look(&pods_of(all), now).await {
                Ok(images) => self.images = images,
                Err(status) => tracing::warn!(error = status.message(), "the images cannot be listed"),
            }
            if let Some(long) = self.config.images.maximum_age {
                self.collect_images(all, &Goal::UnusedFor(long)).await;
            }
        }
        let disk = sources.imagefs.clone().unwrap_or_else(|| sources.nodefs.clone());
        let full = filesystem(&disk).is_ok_and(|space| is_used(&space, self.config.images.high_percent));
        if !full || self.config.images.high_percent >= 100 {
            self.images_tried = None;
        } else if self.images_tried.is_none_or(|last| now - last >= IMAGES) {
            self.images_tried = Some(now);
            self.free_images(all, disk).await;
        }
    }

    async fn free_images(&mut self, all: &[PodState], disk: PathBuf) {
        let percent = self.config.images.low_percent;
        let removed = self.collect_images(all, &Goal::Until { disk: disk.clone(), percent }).await;
        if filesystem(&disk).is_ok_and(|space| is_used(&space, self.config.images.high_percent)) {
            let message = format!(
                "The disk of the images ({}) is used to more than {}% of its space or its files, and no unused image is \
                 left that is old enough to be removed ({} freed). See what else is on it: images in use, logs, volumes.",
                disk.display(),
                self.config.images.high_percent,
                message::binary(removed.bytes)
            );
            self.tell(None, "FreeDiskSpaceFailed", message).await;
        }
    }

    async fn collect_images(&mut self, all: &[PodState], goal: &Goal) -> Removed {
        let (age, now) = (self.config.images.minimum_age, self.clock.now());
        match self.collector.collect(&pods_of(all), goal, age, now).await {
            Ok(removed) => {
                for problem in &removed.problems {
                    tracing::warn!(problem, "an image cannot be removed");
                }
                let count = removed.images.len();
                self.figures.send_if_modified(|figures| add(&mut figures.images_removed, count));
                removed
            }
            Err(status) => {
                tracing::warn!(error = status.message(), "images cannot be removed");
                Removed::default()
            }
        }
    }

    async fn collect_containers(&mut self, all: &[PodState], pressed: bool) {
        let instances = match containers::list(&self.cri).await {
            Ok(instances) => instances,
            Err(status) => return tracing::warn!(error = status.message(), "the containers cannot be listed"),
        };
        // Of a pod that ended by itself the containers are what tells so.
        let known: HashMap<&str, bool> = all.iter().map(|it| (uid(&it.pod), it.over && was_evicted(&it.pod))).collect();
        let standing = |uid: &str| match known.get(uid) {
            Some(true) => Standing::Over,
            Some(false) => Standing::Live,
            None => Standing::Unknown,
        };
        let now = i64::try_from(Timestamp::now().as_nanosecond()).unwrap_or(i64::MAX);
        let surplus = containers::surplus(&instances, standing, &self.options.containers, pressed, now);
        let problems = containers::remove(&self.cri, &surplus).await;
        for problem in &problems {
            tracing::warn!(problem, "a dead container cannot be removed");
        }
        let count = surplus.len() - problems.len();
        self.figures.send_if_modified(|figures| add(&mut figures.containers_removed, count));
    }

    /// Cgroups of pods that are gone, which a runtime that is not ours leaves.
    async fn sweep_cgroups(&self) {
        let Some(cgroups) = &self.options.cgroups else { return };
        let swept = match cgroups.uids() {
            Ok(mut uids) => {
                // Listed later, for a pod is known before it has a cgroup.
                for state in self.pods.pods().await {
                    uids.remove(uid(&state.pod));
                }
                uids.iter().try_for_each(|uid| cgroups.remove(uid))
            }
            Err(error) => Err(error),
        };
        if let Err(error) = swept {
            tracing::debug!(%error, "a cgroup that is left cannot be removed");
        }
    }

    async fn evict(&mut self, pod: &Pod, why: &str, grace: Duration, signal: &'static str) {
        tracing::warn!(pod = pod.metadata.name, uid = uid(pod), why, "a pod is evicted");
        self.tell(Some(pod), "Evicted", why.to_owned()).await;
        self.pods.evict(uid(pod), why, grace).await;
        self.figures.send_modify(|figures| *figures.evictions.entry(signal).or_default() += 1);
    }

    /// Waits until nothing of these pods runs, but not for ever.
    async fn wait_for(&self, uids: &[String]) {
        let until = self.clock.now() + PATIENCE;
        while self.clock.now() < until {
            let all = self.pods.pods().await;
            let runs = |it: &PodState| !it.over && uids.iter().any(|gone| gone == uid(&it.pod));
            if !all.iter().any(runs) {
                return;
            }
            tokio::time::sleep(GLANCE).await;
        }
    }

    async fn tell(&self, pod: Option<&Pod>, reason: &'static str, message: String) {
        let pod = pod.map(|pod| uid(pod).to_owned());
        self.pods.tell(Told { pod, warning: true, reason, message }).await;
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

fn candidate(pod: &Pod, usage: Option<Usage>) -> Candidate {
    let spec = spec_of(pod);
    let asked = |resource| u64::try_from(pod_request(spec, resource, value)).unwrap_or(0);
    let request = Request { memory: asked("memory"), ephemeral_storage: asked("ephemeral-storage") };
    Candidate { uid: uid(pod).to_owned(), priority: priority(spec), request, usage }
}

fn name_of(signal: Signal) -> &'static str {
    let named = manifests::kubelet::Signal::ALL.into_iter().find(|it| Signal::from(*it) == signal);
    named.map_or("allocatableMemory.available", manifests::kubelet::Signal::name)
}

fn add(figure: &mut u64, count: usize) -> bool {
    *figure += u64::try_from(count).unwrap_or(0);
    count > 0
}
