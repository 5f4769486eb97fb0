//! What the worker says: notices, and the pod's record.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;

use super::super::notice::{Event, Notice};
use super::super::orders::{Gate, Seen};
use super::super::plan::Plan;
use super::super::record::PodRecord;
use super::super::resizing;
use super::super::status;
use super::super::steps::Problem;
use super::super::view::PodStatusView;
use super::Worker;

impl Worker {
    /// Tells of containers that wait for another try, once for each wait.
    pub(super) async fn tell_waiting(&mut self, plan: &Plan) {
        if self.held != plan.held {
            self.held.clone_from(&plan.held);
            if let Some(Gate { reason, message }) = plan.held.clone() {
                self.tell(Event::Held { reason, message }).await;
            }
        }
        let now = self.engine.now();
        let mut told = BTreeMap::new();
        for (container, waiting) in &plan.waiting {
            let known = self.waiting.get(container).copied();
            told.insert(container.clone(), waiting.until);
            if waiting.until.is_none_or(|until| known == Some(Some(until)) || until <= now) {
                continue;
            }
            let (container, reason) = (container.clone(), waiting.reason.clone());
            self.tell(Event::Waiting { container, reason, delay: waiting.delay }).await;
        }
        self.waiting = told;
    }

    pub(super) async fn tell_problem(&self, container: Option<&str>, problem: &Problem, fatal: bool) {
        let (reason, message) = (problem.reason.to_owned(), problem.message.clone());
        self.tell(Event::Failed { container: container.map(str::to_owned), reason, message, fatal }).await;
    }

    pub(super) async fn tell(&self, event: Event) {
        self.engine.tell(Notice { pod: self.key.clone(), event }).await;
    }

    /// Writes the pod's record and memory where they differ from what is written.
    pub(super) fn record(&mut self, view: &PodStatusView, plan: &Plan) -> Result<(), String> {
        let engine = self.engine.clone();
        let settings = engine.settings();
        let health = self.probes.results();
        let status = status::of(&status::Input {
            pod: &self.pod,
            view,
            plan,
            messages: &self.messages,
            before: self.status.as_ref(),
            started: self.started,
            now: Timestamp::now(),
            runtime: engine.runtime_name(),
            node: &settings.node,
            health: &health,
            hooks: &self.hooks,
            unhooked: &self.unhooked,
        });
        // One that ends with its pod is not done.
        if self.orders.borrow().stop.is_none() {
            self.pending.extend(resizing::events(&self.pod, self.status.as_ref(), &status));
        }
        self.status = Some(status.clone());
        let mut pod = Pod::clone(&self.pod);
        pod.status = Some(status);
        if let Some(stop) = self.orders.borrow().stop {
            let since = self.written.as_ref().and_then(|written| written.metadata.deletion_timestamp.clone());
            pod.metadata.deletion_timestamp = since.or_else(|| Some(Time(Timestamp::now())));
            pod.metadata.deletion_grace_period_seconds = i64::try_from(stop.grace.as_secs()).ok();
        }
        // One of it, whoever keeps it.
        let pod = self.written.clone().filter(|written| **written == pod).unwrap_or_else(|| Arc::new(pod));
        self.seen.send_if_modified(|seen| {
            let now = Seen {
                pod: Some(pod.clone()),
                waiting: plan.waiting.clone(),
                wake_at: plan.wake_at,
                finished: plan.finished,
                held: plan.held.is_some(),
                obeyed: seen.obeyed,
            };
            let changed = *seen != now;
            *seen = now;
            changed
        });
        let remembered = self.remember(view);
        if remembered.is_ok() && self.seen.borrow().obeyed != self.obeyed {
            self.seen.send_modify(|seen| seen.obeyed = self.obeyed);
        }
        if self.written.as_ref() != Some(&pod) {
            if let Some(store) = engine.store() {
                store.put(Pod::clone(&pod));
            }
            let owner = engine.owner().to_owned();
            let boot_id = settings.boot_id.clone();
            let record = PodRecord { pod: Pod::clone(&pod), owner, boot_id, log_directory: self.steps.log_directory() };
            // An agent that takes over finds most of them as they are to be.
            if self.recorded.take().as_ref() != Some(&record) {
                record.write(&settings.state_dir).map_err(|error| error.to_string())?;
            }
            self.written = Some(pod);
        }
        remembered
    }

    /// Writes down what is remembered, for who comes after.
    fn remember(&mut self, view: &PodStatusView) -> Result<(), String> {
        self.memory = self.memory.with(view);
        if !self.engine.keep() || self.memorized.as_ref() == Some(&self.memory) {
            return Ok(());
        }
        let now = self.engine.now();
        let file = self.memory.clone().dated(now).write(self.steps.dir()).map_err(|error| error.to_string())?;
        self.engine.settler().settle(file);
        self.memorized = Some(self.memory.clone());
        Ok(())
    }
}
