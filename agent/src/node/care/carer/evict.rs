//! Pods that have to go.

use std::collections::HashMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;

use super::super::comeback::was_evicted;
use super::super::images::Goal;
use super::super::pressure::{Met, Pressure};
use super::super::rank::{Candidate, Request, Usage, helps, rank};
use super::super::signals::Sources;
use super::super::threshold::Resource;
use super::super::usage::PodUsage;
use super::super::{PodState, Told, limits, message};
use super::{Carer, active, observe, uid};
use crate::engine::config::quantity::value;
use crate::engine::config::resources::{CRITICAL, pod_request, priority};
use crate::engine::grace_of;
use crate::engine::orders::Eviction;
use crate::engine::plan::spec_of;

/// How long a pod that was evicted may take until the next one is chosen.
const PATIENCE: Duration = Duration::from_secs(30);

/// How often it is looked at meanwhile.
const GLANCE: Duration = Duration::from_millis(250);

/// The grace of a pod that a hard threshold evicts.
const AT_ONCE: Duration = Duration::from_secs(1);

impl Carer {
    /// Evicts pods that are over their own limits. True when there was one.
    pub(super) async fn keep_limits(&mut self, all: &[PodState], sources: &Sources) -> bool {
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
            let Some((limit, why)) = usage.get(uid(pod)).and_then(|usage| limits::exceeded(pod, usage, apart)) else {
                continue;
            };
            self.evict(pod, limit, &why, AT_ONCE).await;
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
    pub(super) async fn relieve(&mut self, all: &[PodState], acts: &[Met], sources: &Sources) -> bool {
        let Some(met) = acts.first() else { return false };
        let resource = met.resource().as_str();
        self.tell(None, "EvictionThresholdMet", format!("Attempting to reclaim {resource}")).await;
        if self.reclaim(all, met, sources).await && Pressure::relieved(acts, &observe(sources).await) {
            return false;
        }
        let candidates: Vec<Pod> = active(all).cloned().collect();
        let usage = self.measure(candidates.clone()).await;
        let (signal, apart) = (met.threshold.signal, sources.images_apart());
        let candidate = |pod: &Pod| {
            let usage = usage.as_ref().map(|usage| usage.get(uid(pod)).map(PodUsage::total).unwrap_or_default());
            helps(usage.as_ref(), signal, apart, met.lacking()).then(|| candidate(pod, usage))
        };
        let ranked = rank(candidates.iter().filter_map(candidate).collect(), signal, apart);
        let first = ranked.first().and_then(|first| candidates.iter().find(|pod| uid(pod) == first.uid));
        let Some(pod) = first else {
            tracing::warn!(resource, "the node is short, and no pod has enough of it that its eviction would help");
            return false;
        };
        let most = Duration::from_secs(self.config.eviction.max_pod_grace.into());
        let grace = if met.threshold.is_hard() { AT_ONCE } else { most.min(grace_of(pod)).max(AT_ONCE) };
        let why = message::of(met, pod, usage.as_ref().and_then(|usage| usage.get(uid(pod))));
        self.evict(pod, signal.name(), &why, grace).await;
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

    async fn evict(&mut self, pod: &Pod, signal: &'static str, why: &str, grace: Duration) {
        tracing::warn!(pod = pod.metadata.name, uid = uid(pod), why, "a pod is evicted");
        let (reason, message, signal) = (Eviction::EVICTED, why.to_owned(), Some(signal));
        let about = Some(uid(pod).to_owned());
        self.pods.tell(Told { pod: about, warning: true, reason, signal, message }).await;
        self.pods.evict(uid(pod), why, grace).await;
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

    pub(super) async fn tell(&self, pod: Option<&Pod>, reason: &'static str, message: String) {
        let pod = pod.map(|pod| uid(pod).to_owned());
        self.pods.tell(Told { pod, warning: true, reason, signal: None, message }).await;
    }
}

fn candidate(pod: &Pod, usage: Option<Usage>) -> Candidate {
    let spec = spec_of(pod);
    let asked = |resource| u64::try_from(pod_request(spec, resource, value)).unwrap_or(0);
    let request = Request { memory: asked("memory"), ephemeral_storage: asked("ephemeral-storage") };
    Candidate { uid: uid(pod).to_owned(), priority: priority(spec), request, usage }
}
