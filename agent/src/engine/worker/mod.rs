//! A pod's worker: looks, plans, carries out, and waits for the next reason to look.
//!
//! Guarantees: one worker a pod, so a pod's steps never overlap (stops and postStart hooks alone run beside the rest, so
//! that a shorter grace reaches the runtime while a longer one is waited for). It is level-triggered: every decision
//! comes from a fresh look, never from an event's content.

mod carry;
mod devices;
mod look;
mod stopping;
mod tell;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Pod, PodStatus};
use k8s_openapi::jiff::Timestamp;
use manifests::annotations::Annotations;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

use self::stopping::{Done, Patience};
use super::Engine;
use super::change::Definition;
use super::config::Objects;
use super::config::names::PodKey;
use super::history::{Failure, History};
use super::memory::Memory;
use super::notice::Event;
use super::observe::Observer;
use super::orders::{Gate, Orders, Seen};
use super::phase::Phase;
use super::plan::Plan;
use super::probe::Probes;
use super::record::PodRecord;
use super::steps::Steps;
use super::time::Monotonic;
use super::view::PodStatusView;
use crate::devices::Devices;

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
    /// The node ended it.
    pub evicted: bool,
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
    definition: Definition,
    annotations: Annotations,
    /// The objects as of the last look, and the hashes of what containers follow among them.
    objects: Arc<Objects>,
    /// The hosts file may be older than what the pod knows of others.
    hosts_stale: bool,
    followed: BTreeMap<String, String>,
    /// What is in the pod's volumes may be older than the objects.
    stale: bool,
    /// Why they could not be brought up to date the last time.
    unrefreshed: Option<String>,
    key: PodKey,
    steps: Steps,
    observer: Observer,
    probes: Probes,
    bell: Arc<Notify>,
    /// Counts device plug-ins that come.
    arrivals: Option<watch::Receiver<u64>>,
    orders: watch::Receiver<Orders>,
    /// The last order to restart or evict that was obeyed.
    obeyed: u64,
    seen: watch::Sender<Seen>,
    memory: Memory,
    /// What is written of it.
    memorized: Option<Memory>,
    history: History,
    messages: BTreeMap<(String, u32), String>,
    failures: BTreeMap<String, FirstFailure>,
    /// Containers that are being stopped, by id.
    stopping: HashMap<String, watch::Sender<Patience>>,
    /// Containers whose postStart hook is going on.
    hooks: BTreeSet<String>,
    /// Containers whose postStart hook failed.
    unhooked: BTreeSet<String>,
    tasks: JoinSet<Done>,
    waiting: BTreeMap<String, Option<Monotonic>>,
    /// What it was told to wait for.
    held: Option<Gate>,
    /// What is told once the record says it, too: who hears of a start finds the container running in `get`.
    pending: Vec<Event>,
    /// Where the pod is.
    ips: Vec<String>,
    /// Where the pod was said to be.
    told_ips: Vec<String>,
    status: Option<PodStatus>,
    written: Option<Arc<Pod>>,
    /// The record that the agent before this one wrote, until there is another.
    recorded: Option<PodRecord>,
    /// Why its record could not be written.
    unrecorded: Option<String>,
    started: Timestamp,
}

/// What comes after a pod's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rest {
    Over,
    Again,
}

/// What a plan's steps have changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    None,
    Some,
    Failed,
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
        let bell = engine.hub().register(&key.uid);
        let started = Timestamp::now();
        Worker {
            observer: Observer::new(engine.cri().clone(), key.uid.clone()),
            probes: Probes::new(
                engine.actions().clone(),
                bell.clone(),
                engine.clock(),
                engine.probe_counts().of(key.clone()),
            ),
            definition: Definition::of(&pod),
            annotations: look::annotations_of(&pod),
            objects: Arc::default(),
            hosts_stale: false,
            followed: BTreeMap::new(),
            stale: false,
            unrefreshed: None,
            memory: Memory::new(&engine.settings().boot_id, started.as_second()),
            bell,
            arrivals: engine.devices().map(Devices::arrivals),
            engine,
            pod,
            key,
            steps,
            orders,
            obeyed: 0,
            seen,
            memorized: None,
            history: History::default(),
            messages: BTreeMap::new(),
            failures: BTreeMap::new(),
            stopping: HashMap::new(),
            hooks: BTreeSet::new(),
            unhooked: BTreeSet::new(),
            tasks: JoinSet::new(),
            waiting: BTreeMap::new(),
            held: None,
            pending: Vec::new(),
            ips: Vec::new(),
            told_ips: Vec::new(),
            status: None,
            written: None,
            recorded: None,
            unrecorded: None,
            started,
        }
    }

    /// Works until nothing of the pod runs and nothing will, and nobody can ask for more.
    ///
    /// Each kind of work has its memory for as long as it goes on (the boxes): most pods wait nearly always.
    #[tracing::instrument(name = "pod", skip_all, fields(uid = %self.key.uid))]
    pub(super) async fn run(mut self, wanted: Arc<Notify>) -> Outcome {
        if self.engine.keep() {
            Box::pin(self.recall()).await;
        }
        let mut rested = false;
        loop {
            let (view, plan) = match Box::pin(self.look()).await {
                Ok(seen) => seen,
                Err(problem) => {
                    self.tell_problem(None, &problem, false).await;
                    self.wait(Some(self.engine.now() + RETRY)).await;
                    continue;
                }
            };
            if plan.finished {
                Box::pin(self.settle_all()).await;
                // Whoever hears of its end finds them free.
                self.engine.release_devices(&self.key.uid);
            }
            Box::pin(self.note(&view, &plan)).await;
            if plan.finished {
                if !rested {
                    self.tell(Event::Ended(plan.phase)).await;
                }
                rested = true;
                if self.rest(&view, &plan, &wanted).await == Rest::Over {
                    self.engine.hub().forget(&self.key.uid);
                    let failure = self.failures.into_values().min_by_key(|failure| failure.finished_at);
                    let (fatal, evicted) = (self.history.fatal().cloned(), self.history.eviction.is_some());
                    return Outcome { phase: plan.phase, failure, fatal, evicted };
                }
                continue;
            }
            rested = false;
            let mut wake_at = plan.wake_at;
            let progress = Box::pin(self.carry_out(&view, plan.actions)).await;
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

    /// Writes down what is seen and remembered, and tells what is new.
    async fn note(&mut self, view: &PodStatusView, plan: &Plan) {
        let recorded = self.record(view, plan);
        if let Err(error) = &recorded
            && self.unrecorded.as_ref() != Some(error)
        {
            self.tell(Event::Warning(error.clone())).await;
        }
        self.unrecorded = recorded.err();
        self.pending.extend(self.probes.take_events());
        for event in std::mem::take(&mut self.pending) {
            self.tell(event).await;
        }
        self.tell_waiting(plan).await;
    }

    /// Waits, when a pod is over, for another definition or restart, until nobody can ask for one any more; meanwhile its
    /// record is written if that failed, for the people who look at it.
    async fn rest(&mut self, view: &PodStatusView, plan: &Plan, wanted: &Notify) -> Rest {
        loop {
            let retry = self.unrecorded.is_some();
            tokio::select! {
                () = wanted.notified() => return Rest::Over,
                changed = self.orders.changed() => return if changed.is_ok() { Rest::Again } else { Rest::Over },
                // Objects that it follows may have changed, or somebody took its containers away.
                () = self.bell.notified() => return Rest::Again,
                () = tokio::time::sleep(RETRY), if retry => {}
            }
            self.unrecorded = self.record(view, plan).err();
        }
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
        let done = tokio::select! {
            () = self.bell.notified() => None,
            // A closed channel means that nobody is left who could ask.
            Ok(()) = self.orders.changed() => None,
            Some(done) = self.tasks.join_next() => Some(done),
            () = sleep => None,
        };
        if let Some(Ok(done)) = done {
            Box::pin(self.settle(done)).await;
        }
    }
}
