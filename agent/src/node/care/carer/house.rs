//! What is done now and then, whether anything is short or not.

use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;
use std::time::Duration;

use cri_proto::cri;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod};

use super::super::allocatable::thousandths;
use super::super::comeback::was_evicted;
use super::super::containers::{self, Standing};
use super::super::images::{Goal, Removed, is_used};
use super::super::pressure::Observations;
use super::super::signals::{Sources, filesystem};
use super::super::system::{self, Abilities};
use super::super::{Condition, PodState, message, node_object};
use super::{Carer, pids_of, pods_of, uid};
use crate::devices::Devices;
use crate::engine::config::names::PodKey;
use crate::engine::plan::spec_of;
use crate::host::teardown;
use crate::node::file_of;

/// With which look dead containers are counted, the classes' shares worked out and images looked at.
const HOUSEKEEPING: u32 = 6;

/// How often images are removed at most, where that has not freed enough.
const IMAGES: Duration = Duration::from_secs(300);

impl Carer {
    /// Says how the node is.
    pub(super) async fn publish(&mut self, pressures: &BTreeSet<Condition>, seen: &Observations) {
        if self.system.is_none() {
            self.system = Some(system::info(&self.cri, &self.options.settings.boot_id).await);
        }
        let unready = self.unready().await;
        let Some(system) = &self.system else { return };
        let capacity = self.capacity(pids_of(seen));
        let facts = node_object::Facts {
            capacity: &capacity,
            config: &self.config,
            system,
            abilities: &self.abilities,
            pressures,
            unready,
            images: &self.images,
            devices: self.options.devices.as_ref().map(Devices::counts).unwrap_or_default(),
        };
        let before = self.store.get::<Node>("", &capacity.node.name);
        let node = node_object::node(&facts, before.as_deref(), Timestamp::now());
        // Pods are told what the node says of itself, after the settings were read again, too.
        if let Some(list) = node.status.as_ref().and_then(|status| status.allocatable.as_ref()) {
            capacity.node.allocatable.set(thousandths(list));
        }
        self.store.put(node);
    }

    /// Why no pod can run, where the runtime says so; what it can do is noted.
    async fn unready(&mut self) -> Option<String> {
        let answer = self.cri.runtime.clone().status(cri::StatusRequest::default()).await;
        let answer = match answer {
            Ok(answer) => answer.into_inner(),
            Err(status) => return Some(format!("container runtime is down: {}", status.message())),
        };
        self.abilities = Abilities::of(&answer);
        let status = answer.status.unwrap_or_default();
        let wanted = ["RuntimeReady", "NetworkReady"];
        let bad = status.conditions.iter().find(|it| wanted.contains(&it.r#type.as_str()) && !it.status);
        bad.map(|it| format!("container runtime is not ready: {} is false: {}: {}", it.r#type, it.reason, it.message))
    }

    /// Works the classes' shares and the pods' limits out where the pods or the settings are others than before.
    pub(super) fn balance(&mut self, all: &[PodState], seen: &Observations) {
        let Some(cgroups) = self.options.cgroups.clone() else { return };
        let key = |state: &PodState| format!("{}/{:?}", uid(&state.pod), spec_of(&state.pod).resources);
        let now: Vec<String> = all.iter().filter(|it| !it.over).map(key).collect();
        if self.balanced.as_ref() == Some(&now) {
            return;
        }
        let bounds = self.capacity(pids_of(seen)).bounds(&self.config);
        let active = || all.iter().filter(|it| !it.over).map(|it| &*it.pod);
        let settings = &self.options.settings;
        // What was made by another setting than today's.
        let limited = active().try_for_each(|pod| cgroups.limit_pids(uid(pod), settings));
        match cgroups.balance(active(), &bounds).and(limited) {
            Ok(()) => self.balanced = Some(now),
            Err(error) => tracing::warn!(%error, "the shares and limits of pods cannot be set"),
        }
    }

    /// Gives back what pods have left that are evicted, or an API server's and over, and starts those anew whose time has
    /// come. A manifest's pod that has ended may be asked to run again, with what it had.
    pub(super) async fn come_back(&mut self, all: &[PodState], conditions: &BTreeSet<Condition>) {
        let over: Vec<&Pod> = all.iter().filter(|it| it.over).map(|it| &*it.pod).collect();
        let left: Vec<&Pod> = over.iter().copied().filter(|it| was_evicted(it) || file_of(it).is_none()).collect();
        // One that runs again may be evicted again.
        self.cleared.retain(|cleared| left.iter().any(|it| uid(it) == cleared));
        for pod in &left {
            self.clear(pod).await;
        }
        let is = |pod: &Pod, namespace: &str, name: &str| {
            let key = PodKey::of(pod);
            key.namespace == namespace && key.name == name
        };
        self.comeback.keep(|namespace, name| all.iter().any(|it| is(&it.pod, namespace, name)));
        // An API server's pod stays as it ended: its controller makes another.
        let own: Vec<&Pod> = over.into_iter().filter(|it| was_evicted(it) && file_of(it).is_some()).collect();
        for pod in self.comeback.due(&own, conditions, self.clock.now()) {
            tracing::info!(pod = pod.metadata.name, "a pod that was evicted is started anew");
            self.pods.renew(uid(pod)).await;
        }
    }

    /// Gives back a pod's volumes: what it has left there, nobody will ask for.
    pub(super) async fn clear(&mut self, pod: &Pod) {
        let (root, uid) = (self.options.settings.root_dir.clone(), uid(pod).to_owned());
        if !self.cleared.insert(uid.clone()) {
            return;
        }
        // A driver may take its time, and care does not wait for it.
        if self.options.csi.as_ref().is_some_and(|csi| !csi.give_back(&uid)) {
            self.cleared.remove(&uid);
            return;
        }
        let of_pod = uid.clone();
        let cleared = tokio::task::spawn_blocking(move || teardown::remove_pod_volumes(&root, &of_pod)).await;
        if let Ok(Err(error)) = cleared {
            tracing::warn!(%error, "the volumes of a pod that is over cannot be given back; it is tried again");
            self.cleared.remove(&uid);
        }
    }

    /// What is done now and then, whether anything is short or not.
    pub(super) async fn keep_house(&mut self, all: &[PodState], sources: &Sources) {
        let now = self.clock.now();
        if self.housekept.is_none_or(|last| now - last >= self.options.period * HOUSEKEEPING) {
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

    pub(super) async fn collect_images(&mut self, all: &[PodState], goal: &Goal) -> Removed {
        let (age, now) = (self.config.images.minimum_age, self.clock.now());
        match self.collector.collect(&pods_of(all), goal, age, now).await {
            Ok(removed) => {
                for problem in &removed.problems {
                    tracing::warn!(problem, "an image cannot be removed");
                }
                removed
            }
            Err(status) => {
                tracing::warn!(error = status.message(), "images cannot be removed");
                Removed::default()
            }
        }
    }

    pub(super) async fn collect_containers(&mut self, all: &[PodState], pressed: bool) {
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
}
