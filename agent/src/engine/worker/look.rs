//! Looking: what is there, what it means beside what is remembered, and what follows from it.

use std::sync::Arc;

use futures_util::FutureExt as _;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use manifests::annotations::Annotations;

use super::super::change::{Definition, Follows};
use super::super::config::objects::Origin;
use super::super::config::resources::limit;
use super::super::config::{ports, quantity};
use super::super::follow;
use super::super::history::History;
use super::super::memory::{Memory, next_by_logs};
use super::super::notice::Event;
use super::super::orders::{Eviction, Orders, grace_of};
use super::super::plan::{Action, Desired, Plan, init_of, is_sidecar, names_of, plan, spec_of};
use super::super::probe::Observed;
use super::super::record::{self, PodRecord};
use super::super::steps::{Problem, container_of};
use super::super::view::{ContainerView, PodStatusView};
use super::{FirstFailure, Worker};
use crate::host::termination;

impl Worker {
    /// Takes over what the worker before this one knew: of the agent before this one, or of the boot before this one.
    pub(super) async fn recall(&mut self) {
        let (settings, steps) = (self.engine.settings().clone(), self.steps.clone());
        let (uid, pod) = (self.key.uid.clone(), self.pod.clone());
        let read = tokio::task::spawn_blocking(move || {
            let memory = Memory::read(steps.dir(), &settings.boot_id);
            let record = PodRecord::read(&record::directory(&settings.state_dir).join(format!("{uid}.json")));
            let logs = steps.log_directory();
            let next = |name: &str| (name.to_owned(), next_by_logs(&logs.join(name)));
            let counts: Vec<_> = match &memory {
                Ok(Some(_)) => vec![],
                _ => names_of(spec_of(&pod)).map(next).collect(),
            };
            (memory, record, counts)
        });
        let Ok((memory, record, counts)) = read.await else { return };
        match memory {
            Ok(Some((memory, holds))) => {
                self.memorized = holds.then(|| memory.clone());
                self.history = memory.history.clone();
                self.started = Timestamp::from_second(memory.started).unwrap_or(self.started);
                self.memory = memory;
            }
            Ok(None) => {}
            Err(error) => self.pending.push(Event::Warning(format!(
                "{error}; how often its containers were restarted is counted by their log files"
            ))),
        }
        for (name, next) in counts.into_iter().filter(|(_, next)| *next > 0) {
            self.history.containers.entry(name).or_default().next = next;
        }
        // No record, or one that cannot be read: the first look makes another.
        let record = record.ok().filter(|record| record.boot_id == self.engine.settings().boot_id);
        if let Some(status) = record.as_ref().and_then(|record| record.pod.status.clone()) {
            self.probes.recall(&status);
            self.status = Some(status);
        }
        self.recorded = record;
    }

    /// One fresh look, and what follows from it.
    pub(super) async fn look(&mut self) -> Result<(PodStatusView, Plan), Problem> {
        // Whatever the bell was rung for, this sees: it is no reason to look once more.
        let _ = self.bell.notified().now_or_never();
        let looked = self.observer.look().await;
        let (mut sandboxes, mut containers) =
            looked.map_err(|status| Problem::new("RuntimeUnavailable", status.message()))?;
        self.memory.recall(&mut sandboxes, &mut containers);
        let now = self.engine.now();
        let before = self.history.clone();
        self.history.note(&sandboxes, &containers, now);
        let orders = self.orders.borrow_and_update().clone();
        let seen = PodStatusView::new(sandboxes, containers, History::default());
        self.obey(&orders, &seen);
        let mut view = PodStatusView { history: self.history.clone(), ..seen };
        self.note_ends(&view, &before);
        self.note_addresses(&view);
        let sandbox = view.sandbox().map(|it| it.ips.clone()).unwrap_or_default();
        self.ips = self.engine.settings().node.ips_of(&self.pod, &sandbox);
        let ending = orders.stop.is_some() || self.history.eviction.is_some();
        self.probes.update(&Observed { pod: &self.pod, view: &view, ips: &self.ips, ending });
        let running = |id: &String| view.containers.iter().any(|seen| seen.id == *id && seen.running());
        self.hooks.retain(running);
        self.unhooked.retain(running);
        let plan = self.decide(&orders, &view);
        let Some(Action::Evict(eviction)) = plan.actions.iter().find(|action| matches!(action, Action::Evict(_)))
        else {
            return Ok((view, plan));
        };
        // Nobody sees the pod failed without seeing why.
        self.note_eviction(eviction.clone());
        view.history = self.history.clone();
        let plan = self.decide(&orders, &view);
        Ok((view, plan))
    }

    fn decide(&self, orders: &Orders, view: &PodStatusView) -> Plan {
        let health = self.probes.results();
        let desired = Desired {
            pod: &self.pod,
            definition: &self.definition,
            objects: &self.followed,
            backoff: self.backoff(),
            stop: orders.stop,
            gate: orders.gate.as_ref(),
            health: &health,
            hooks: &self.hooks,
            unhooked: &self.unhooked,
        };
        plan(&desired, view, self.engine.now())
    }

    /// Brings what is wanted up to date with the orders and the objects.
    fn obey(&mut self, orders: &Orders, seen: &PodStatusView) {
        let now = self.engine.now();
        let redefined = !Arc::ptr_eq(&self.pod, &orders.pod);
        if redefined {
            self.pod = orders.pod.clone();
            self.steps = self.steps.of(self.pod.clone());
            self.definition = Definition::of(&self.pod);
            self.annotations = annotations_of(&self.pod);
        }
        if !Arc::ptr_eq(self.steps.around(), &orders.around) {
            self.hosts_stale |= self.steps.around().hosts() != orders.around.hosts();
            self.steps = self.steps.among(orders.around.clone());
        }
        let objects = self.engine.objects_of(&self.key.uid);
        let given = !Arc::ptr_eq(&self.objects, &objects);
        if given {
            self.history.note_objects();
        }
        if redefined || given {
            self.followed = follow::hashes(&self.pod, &objects);
            self.objects = objects;
            self.stale = true;
            self.definition.follows = match self.objects.origin {
                Origin::Manifests => Follows::All,
                Origin::Cluster => Follows::Running,
            };
        }
        self.note_plugins();
        self.history.note_definition(&self.definition);
        // A pod that is held back is not active yet.
        if self.history.active_since.is_none() && (orders.gate.is_none() || seen.sandbox().is_some()) {
            self.history.active_since = Some(now);
        }
        let mut newest = self.obeyed;
        if let Some((serial, eviction)) = orders.eviction.as_ref().filter(|(serial, _)| *serial > self.obeyed) {
            match &mut self.history.eviction {
                // It has failed once, and why is said. It may have less time by now.
                Some(before) => {
                    let own = grace_of(&self.pod);
                    before.grace = Some(before.grace.unwrap_or(own).min(eviction.grace.unwrap_or(own)));
                }
                None => self.note_eviction(eviction.clone()),
            }
            newest = newest.max(*serial);
        }
        for (container, serial) in orders.restarts.iter().filter(|(_, serial)| **serial > self.obeyed) {
            newest = newest.max(*serial);
            match container {
                Some(name) => self.history.restart_container(name, seen.latest(name).map(|seen| seen.attempt)),
                None => self.history.restart_pod(seen.sandbox().map(|sandbox| sandbox.attempt), now),
            }
        }
        self.obeyed = newest;
    }

    pub(super) fn note_eviction(&mut self, eviction: Eviction) {
        self.pending.push(Event::Evicted { reason: eviction.reason.clone(), message: eviction.message.clone() });
        self.history.eviction = Some(eviction);
    }

    /// Takes note of ends that were not known before this look.
    fn note_ends(&mut self, view: &PodStatusView, before: &History) {
        let stopping = self.orders.borrow().stop.is_some() || self.history.fatal().is_some();
        for seen in &view.containers {
            let Some(exit) = seen.exit() else { continue };
            let place = (seen.name.clone(), seen.attempt);
            if !self.messages.contains_key(&place) {
                let message = self.last_words(seen, exit.code);
                self.messages.insert(place, message);
            }
            let known = before.container(&seen.name).and_then(|track| track.ended).map(|(attempt, _)| attempt);
            if known.is_some_and(|known| known >= seen.attempt) || seen.gone {
                continue;
            }
            if exit.code != 0 && !stopping && self.counts(&seen.name) {
                let (finished_at, container, code) = (seen.finished_at, seen.name.clone(), exit.code);
                self.failures.insert(seen.name.clone(), FirstFailure { finished_at, container, code });
            }
            let (container, attempt) = (seen.name.clone(), seen.attempt);
            let memory_limit = self.memory_limit(&container);
            self.pending.push(Event::Exited { container, attempt, exit, memory_limit });
        }
        let kept = |(name, attempt): &(String, u32)| {
            view.containers.iter().any(|seen| seen.name == *name && seen.attempt == *attempt)
        };
        self.messages.retain(|place, _| kept(place));
    }

    /// Whether a container's failure is the pod's: those beside its own work are none of it.
    fn counts(&self, name: &str) -> bool {
        let spec = spec_of(&self.pod);
        let sidecar = init_of(spec).iter().any(|init| init.name == name && is_sidecar(init));
        !sidecar && names_of(spec).any(|known| known == name)
    }

    /// Takes note of where a pod is that has ports: once, for it keeps its addresses.
    fn note_addresses(&mut self, view: &PodStatusView) {
        let spec = spec_of(&self.pod);
        let Some(sandbox) = view.sandbox().filter(|sandbox| sandbox.ready && !sandbox.ips.is_empty()) else { return };
        let listens = spec.containers.iter().any(|container| container.ports.iter().flatten().next().is_some());
        if listens && spec.host_network != Some(true) && sandbox.ips != self.told_ips {
            self.told_ips.clone_from(&sandbox.ips);
            let host_ports = ports::of_host(&self.pod).map(|port| port.to_string()).collect();
            self.pending.push(Event::Reachable { ips: sandbox.ips.clone(), host_ports });
        }
    }

    fn last_words(&self, seen: &ContainerView, code: i32) -> String {
        let message = termination::read(&self.steps.termination(&seen.name, seen.attempt));
        let container = container_of(spec_of(&self.pod), &seen.name);
        let fallback = container.and_then(|container| container.termination_message_policy.clone());
        if message.is_empty() && code != 0 && fallback.as_deref() == Some("FallbackToLogsOnError") {
            return termination::tail(&self.log_of(seen));
        }
        message
    }

    fn log_of(&self, seen: &ContainerView) -> std::path::PathBuf {
        self.steps.log_directory().join(super::super::config::names::log_path(&seen.name, seen.attempt))
    }

    fn memory_limit(&self, name: &str) -> Option<i64> {
        quantity::value(limit(&*container_of(spec_of(&self.pod), name)?, "memory")?)
    }
}

/// What a pod's annotations say; those that mean nothing were refused before the pod got here.
pub(super) fn annotations_of(pod: &Pod) -> Annotations {
    Annotations::of(pod).unwrap_or_default()
}
