//! A pod's worker: looks, plans, carries out, and waits for the next reason to look.
//!
//! Guarantees: one worker a pod, so a pod's steps never overlap (stops alone run beside the rest, so that a shorter
//! grace reaches the runtime while a longer one is waited for). It is level-triggered: every decision comes from a
//! fresh look, never from an event's content.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Pod, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

use super::Engine;
use super::config::names::PodKey;
use super::config::resources::limit;
use super::config::{ports, quantity};
use super::notice::{Event, Notice};
use super::observe::Observer;
use super::orders::{Orders, Seen};
use super::phase::Phase;
use super::plan::{Action, Desired, Plan, init_of, plan, spec_of};
use super::record::PodRecord;
use super::status;
use super::steps::{Problem, Sandbox, Steps};
use super::time::Monotonic;
use super::view::{ContainerView, Failure, History, PodStatusView};
use crate::host::termination;

/// How long to wait after something failed that has no back-off of its own.
const RETRY: Duration = Duration::from_secs(1);

/// How a pod ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Its last phase.
    pub phase: Phase,
    /// The container that failed first, among those that were not run again, and its exit code; what a requested stop
    /// ended does not count.
    pub failure: Option<FirstFailure>,
    /// What Coracle itself could not do.
    pub fatal: Option<Failure>,
}

/// The container that failed first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FirstFailure {
    /// Wall clock, nanoseconds.
    pub finished_at: i64,
    /// Its name.
    pub container: String,
    /// Its exit code.
    pub code: i32,
}

pub(super) struct Worker {
    engine: Engine,
    pod: Arc<Pod>,
    key: PodKey,
    steps: Steps,
    observer: Observer,
    bell: Arc<Notify>,
    orders: watch::Receiver<Orders>,
    seen: watch::Sender<Seen>,
    history: History,
    messages: BTreeMap<(String, u32), String>,
    failures: BTreeMap<String, FirstFailure>,
    stopping: HashMap<String, Monotonic>,
    stops: JoinSet<(String, Result<(), Problem>)>,
    waiting: BTreeMap<String, Option<Monotonic>>,
    /// What is told once the record says it, too: who hears of a start finds the container running in `get`.
    pending: Vec<Event>,
    /// Where the pod was said to be.
    told_ips: Vec<String>,
    status: Option<PodStatus>,
    written: Option<Pod>,
    /// Why its record could not be written.
    unrecorded: Option<String>,
    started: Timestamp,
}

impl Worker {
    pub(super) fn new(
        engine: Engine,
        steps: Steps,
        orders: watch::Receiver<Orders>,
        seen: watch::Sender<Seen>,
    ) -> Self {
        let pod = orders.borrow().pod.clone();
        let key = PodKey::of(&pod);
        Worker {
            observer: Observer::new(engine.cri().clone(), key.uid.clone()),
            bell: engine.hub().register(&key.uid),
            engine,
            pod,
            key,
            steps,
            orders,
            seen,
            history: History::default(),
            messages: BTreeMap::new(),
            failures: BTreeMap::new(),
            stopping: HashMap::new(),
            stops: JoinSet::new(),
            waiting: BTreeMap::new(),
            pending: Vec::new(),
            told_ips: Vec::new(),
            status: None,
            written: None,
            unrecorded: None,
            started: Timestamp::now(),
        }
    }

    /// Works until nothing of the pod runs and nothing will.
    #[tracing::instrument(name = "pod", skip_all, fields(uid = %self.key.uid))]
    pub(super) async fn run(mut self, wanted: Arc<Notify>) -> Outcome {
        loop {
            let (view, plan) = match self.look().await {
                Ok(seen) => seen,
                Err(problem) => {
                    self.tell_problem(None, &problem, false).await;
                    self.wait(Some(self.engine.now() + RETRY)).await;
                    continue;
                }
            };
            let recorded = self.record(&view, &plan);
            if let Err(error) = &recorded
                && self.unrecorded.as_ref() != Some(error)
            {
                self.tell(Event::Warning(error.clone())).await;
            }
            self.unrecorded = recorded.err();
            for event in std::mem::take(&mut self.pending) {
                self.tell(event).await;
            }
            self.tell_waiting(&plan).await;
            if plan.finished {
                self.tell(Event::Ended(plan.phase)).await;
                if self.rest(&view, &plan, &wanted).await == Rest::Over {
                    self.engine.hub().forget(&self.key.uid);
                    let failure = self.failures.into_values().min_by_key(|failure| failure.finished_at);
                    return Outcome { phase: plan.phase, failure, fatal: self.history.fatal().cloned() };
                }
                continue;
            }
            let mut wake_at = plan.wake_at;
            let progress = self.carry_out(&view, plan.actions).await;
            if progress == Progress::Some {
                continue;
            }
            if progress == Progress::Failed || self.unrecorded.is_some() {
                let retry = self.engine.now() + RETRY;
                wake_at = Some(wake_at.map_or(retry, |at| at.min(retry)));
            }
            self.wait(wake_at).await;
        }
    }

    /// Waits, when a pod is over, for another definition or restart, until nobody can ask for one any more; meanwhile its
    /// record is written if that failed, for the people who look at it.
    async fn rest(&mut self, view: &PodStatusView, plan: &Plan, wanted: &Notify) -> Rest {
        loop {
            let retry = self.unrecorded.is_some();
            tokio::select! {
                () = wanted.notified() => return Rest::Over,
                changed = self.orders.changed() => return if changed.is_ok() { Rest::Again } else { Rest::Over },
                () = tokio::time::sleep(RETRY), if retry => {}
            }
            self.unrecorded = self.record(view, plan).err();
        }
    }

    /// One fresh look, and what follows from it.
    async fn look(&mut self) -> Result<(PodStatusView, Plan), Problem> {
        let looked = self.observer.look().await;
        let (sandboxes, containers) = looked.map_err(|status| Problem::new("RuntimeUnavailable", status.message()))?;
        let now = self.engine.now();
        let before = self.history.clone();
        self.history.note(&sandboxes, &containers, now);
        let view = PodStatusView::new(sandboxes, containers, self.history.clone());
        self.note_ends(&view, &before);
        self.note_addresses(&view);
        let orders = self.orders.borrow_and_update().clone();
        let desired = Desired { pod: &self.pod, backoff: self.engine.backoff(), stop: orders.stop };
        let plan = plan(&desired, &view, now);
        Ok((view, plan))
    }

    /// Does the plan's steps in order; stops asked for meanwhile come first.
    async fn carry_out(&mut self, view: &PodStatusView, actions: Vec<Action>) -> Progress {
        let mut progress = Progress::None;
        for action in actions {
            if self.orders.has_changed().unwrap_or(false) {
                return Progress::Some;
            }
            let result = match action {
                Action::StopContainer { id, deadline, .. } => {
                    self.stop_container(id, deadline);
                    continue;
                }
                // After either one a fresh look: what has begun is recorded before the next one is made.
                Action::CreateSandbox { attempt } => {
                    self.create_sandbox(attempt).await;
                    return Progress::Some;
                }
                Action::StartContainer { name, attempt, sandbox } => {
                    self.start_container(view, &name, attempt, &sandbox).await;
                    return Progress::Some;
                }
                Action::StopSandbox { id } => {
                    let result = self.steps.stop_sandbox(&id).await;
                    if result.is_ok() {
                        self.history.stopped.insert(id);
                    }
                    result
                }
                Action::RemoveSandbox { id } => self.steps.remove_sandbox(&id).await,
                Action::RemoveContainer { id, name, attempt } => self.steps.forget_container(&id, &name, attempt).await,
            };
            match result {
                Ok(()) if progress == Progress::None => progress = Progress::Some,
                Ok(()) => {}
                Err(problem) => {
                    self.tell_problem(None, &problem, false).await;
                    progress = Progress::Failed;
                }
            }
        }
        progress
    }

    async fn create_sandbox(&mut self, attempt: u32) {
        let policy = self.engine.backoff();
        if attempt > 0 {
            self.tell(Event::SandboxLost).await;
        }
        self.history.starting(None, &policy, self.engine.now());
        match self.steps.create_sandbox(attempt).await {
            Ok(()) => self.history.started(None),
            Err(problem) => self.failed(None, problem, attempt).await,
        }
    }

    async fn start_container(&mut self, view: &PodStatusView, name: &str, attempt: u32, sandbox: &str) {
        let policy = self.engine.backoff();
        let seen = view.sandboxes.iter().find(|seen| seen.id == sandbox);
        let sandbox = Sandbox {
            id: sandbox.to_owned(),
            attempt: seen.map_or(0, |seen| seen.attempt),
            ips: seen.map(|seen| seen.ips.clone()).unwrap_or_default(),
        };
        // A pull may take minutes: who asks for the end of the pod meanwhile does not wait for it.
        let image = tokio::select! {
            image = self.steps.ensure_image(name, &sandbox) => image,
            Ok(()) = self.orders.changed() => return,
        };
        self.history.starting(Some(name), &policy, self.engine.now());
        let started = match image {
            Ok(image) => self.steps.start_container(name, attempt, &sandbox, image).await,
            Err(problem) => Err(problem),
        };
        match started {
            Ok(started) => {
                self.history.started(Some(name));
                self.failures.remove(name);
                for warning in started.warnings {
                    self.pending.push(Event::Warning(warning));
                }
                if started.ran {
                    self.pending.push(Event::Started { container: name.to_owned(), attempt, log: started.log });
                }
            }
            Err(problem) => self.failed(Some(name), problem, attempt).await,
        }
    }

    /// A creation that failed is tried again with back-off; the first one of its kind ends a run that nobody would
    /// otherwise see fail, unless the cause may pass by itself.
    async fn failed(&mut self, name: Option<&str>, problem: Problem, attempt: u32) {
        let fatal = self.engine.fail_fast() && attempt == 0 && !problem.transient;
        self.tell_problem(name, &problem, fatal).await;
        let failure = Failure {
            reason: problem.reason.to_owned(),
            message: problem.message,
            at: self.engine.now(),
            count: 0,
            fatal,
        };
        self.history.failed(name, &self.engine.backoff(), failure);
    }

    /// Asks the runtime to stop a container, beside whatever else goes on; asks again only for less patience.
    fn stop_container(&mut self, id: String, deadline: Monotonic) {
        if self.stopping.get(&id).is_some_and(|before| *before <= deadline) {
            return;
        }
        self.stopping.insert(id.clone(), deadline);
        let left = deadline - self.engine.now();
        let timeout = i64::try_from(left.as_millis().div_ceil(1000)).unwrap_or(i64::MAX);
        let steps = self.steps.clone();
        self.stops.spawn(async move {
            let result = steps.stop_container(&id, timeout).await;
            (id, result)
        });
    }

    /// Waits for a reason to look again.
    async fn wait(&mut self, wake_at: Option<Monotonic>) {
        let clock = self.engine.clock();
        let sleep = async {
            match wake_at {
                Some(at) => clock.sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        let ended = tokio::select! {
            () = self.bell.notified() => None,
            // A closed channel means that nobody is left who could ask.
            Ok(()) = self.orders.changed() => None,
            Some(ended) = self.stops.join_next() => Some(ended),
            () = sleep => None,
        };
        if let Some(Ok((id, Err(problem)))) = ended {
            self.stopping.remove(&id);
            self.tell_problem(None, &problem, false).await;
            tokio::time::sleep(RETRY).await;
        }
    }

    /// Takes note of ends that were not known before this look.
    fn note_ends(&mut self, view: &PodStatusView, before: &History) {
        let stopping = self.orders.borrow().stop.is_some() || self.history.fatal().is_some();
        for seen in &view.containers {
            let known = before.container(&seen.name).and_then(|track| track.ended).map(|(attempt, _)| attempt);
            let Some(exit) = seen.exit().filter(|_| known.is_none_or(|known| known < seen.attempt)) else { continue };
            let message = self.last_words(seen, exit.code);
            self.messages.insert((seen.name.clone(), seen.attempt), message);
            if exit.code != 0 && !stopping {
                let (finished_at, container, code) = (seen.finished_at, seen.name.clone(), exit.code);
                self.failures.insert(seen.name.clone(), FirstFailure { finished_at, container, code });
            }
            let (container, attempt) = (seen.name.clone(), seen.attempt);
            let memory_limit = self.memory_limit(&container);
            self.pending.push(Event::Exited { container, attempt, exit, memory_limit });
        }
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
        let spec = spec_of(&self.pod);
        let container = init_of(spec).iter().chain(&spec.containers).find(|container| container.name == seen.name);
        let policy = container.and_then(|container| container.termination_message_policy.as_deref());
        if message.is_empty() && code != 0 && policy == Some("FallbackToLogsOnError") {
            return termination::tail(&self.log_of(seen));
        }
        message
    }

    fn log_of(&self, seen: &ContainerView) -> std::path::PathBuf {
        self.steps.log_directory().join(super::config::names::log_path(&seen.name, seen.attempt))
    }

    fn memory_limit(&self, name: &str) -> Option<i64> {
        let spec = spec_of(&self.pod);
        let container = init_of(spec).iter().chain(&spec.containers).find(|container| container.name == name)?;
        quantity::value(limit(container, "memory")?)
    }

    /// Tells of containers that wait for another try, once for each wait.
    async fn tell_waiting(&mut self, plan: &Plan) {
        let now = self.engine.now();
        for (container, waiting) in &plan.waiting {
            let known = self.waiting.insert(container.clone(), waiting.until);
            if waiting.until.is_none_or(|until| known == Some(Some(until)) || until <= now) {
                continue;
            }
            let (container, reason) = (container.clone(), waiting.reason.clone());
            self.tell(Event::Waiting { container, reason, delay: waiting.delay }).await;
        }
    }

    async fn tell_problem(&self, container: Option<&str>, problem: &Problem, fatal: bool) {
        let (reason, message) = (problem.reason.to_owned(), problem.message.clone());
        self.tell(Event::Failed { container: container.map(str::to_owned), reason, message, fatal }).await;
    }

    async fn tell(&self, event: Event) {
        self.engine.tell(Notice { pod: self.key.clone(), event }).await;
    }

    /// Writes the pod's record where it differs from the one before.
    fn record(&mut self, view: &PodStatusView, plan: &Plan) -> Result<(), String> {
        let settings = self.engine.settings();
        let status = status::of(&status::Input {
            pod: &self.pod,
            view,
            plan,
            messages: &self.messages,
            before: self.status.as_ref(),
            started: self.started,
            now: Timestamp::now(),
            runtime: self.engine.runtime_name(),
            node: &settings.node,
        });
        self.status = Some(status.clone());
        let mut pod = Pod::clone(&self.pod);
        pod.status = Some(status);
        if self.orders.borrow().stop.is_some() {
            let since = self.written.as_ref().and_then(|written| written.metadata.deletion_timestamp.clone());
            pod.metadata.deletion_timestamp = since.or_else(|| Some(Time(Timestamp::now())));
        }
        if self.written.as_ref() == Some(&pod) {
            return Ok(());
        }
        self.seen.send_replace(Seen {
            pod: Some(Arc::new(pod.clone())),
            waiting: plan.waiting.clone(),
            wake_at: plan.wake_at,
            finished: plan.finished,
        });
        let owner = self.engine.owner().to_owned();
        let boot_id = settings.boot_id.clone();
        let record = PodRecord { pod, owner, boot_id, log_directory: self.steps.log_directory() };
        record.write(&settings.state_dir).map_err(|error| error.to_string())?;
        self.written = Some(record.pod);
        Ok(())
    }
}

/// What comes after a pod's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rest {
    Over,
    Again,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    None,
    Some,
    Failed,
}
