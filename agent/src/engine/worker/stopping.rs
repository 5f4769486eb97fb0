//! What runs beside the worker: stops with their preStop hooks, and postStart hooks.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::LifecycleHandler;
use tokio::sync::watch;

use super::super::Engine;
use super::super::action::Subject;
use super::super::config::names::PodKey;
use super::super::lifecycle::{self, Hook, HookFailure};
use super::super::notice::{Event, Notice};
use super::super::plan::{Cause, spec_of};
use super::super::steps::{Problem, Sandbox, Steps, container_of};
use super::super::time::Monotonic;
use super::{RETRY, Worker};

/// What a container gets at least to end by itself after its preStop hook, as in kubelet: however long that took.
const LEAST: Duration = Duration::from_secs(2);

/// What has come to its end beside the worker.
#[derive(Debug)]
pub(super) enum Done {
    /// A stop.
    Stopped { id: String, result: Result<(), Problem> },
    /// A postStart hook.
    Hooked { id: String, name: String, result: Result<(), HookFailure> },
}

/// How much time a container has to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Patience {
    /// When it ends.
    pub deadline: Monotonic,
    /// Nothing has to stop before it any more.
    pub turn: bool,
}

impl Patience {
    /// Takes in what is planned now: time only gets less, but for what a container has at least from its turn on.
    fn follow(&mut self, planned: Patience, now: Monotonic) -> bool {
        let before = *self;
        if planned.turn && !self.turn {
            *self = Patience { deadline: planned.deadline.min(self.deadline.max(now + LEAST)), turn: true };
        } else {
            self.deadline = self.deadline.min(planned.deadline);
        }
        *self != before
    }
}

/// One stop.
struct Stop {
    id: String,
    pod: PodKey,
    engine: Engine,
    steps: Steps,
    patience: watch::Receiver<Patience>,
    hook: Option<(LifecycleHandler, Subject)>,
}

impl Worker {
    /// Runs a container's preStop hook and has the runtime stop it in its turn, beside whatever else goes on; asks again
    /// only for less patience.
    pub(super) async fn stop_container(&mut self, id: String, name: &str, patience: Patience, cause: &Cause) {
        if let Some(before) = self.stopping.get(&id) {
            let now = self.engine.now();
            before.send_if_modified(|before| before.follow(patience, now));
            return;
        }
        self.hooks.remove(&id);
        self.tell(Event::Killing { container: name.to_owned(), message: cause.message(name) }).await;
        let (sender, receiver) = watch::channel(patience);
        self.stopping.insert(id.clone(), sender);
        let container = container_of(spec_of(&self.pod), name);
        let hook = container.and_then(|container| {
            let handler = container.lifecycle.as_ref()?.pre_stop.clone()?;
            Some((
                handler,
                Subject { id: id.clone(), container: Arc::new(container.into_owned()), ips: self.ips.clone() },
            ))
        });
        let (engine, steps) = (self.engine.clone(), self.steps.clone());
        let stop = Stop { id, pod: self.key.clone(), engine, steps, patience: receiver, hook };
        self.tasks.spawn(stop.run());
    }

    /// Runs a container's postStart hook, if it has one.
    pub(super) fn post_start(&mut self, id: &str, name: &str, sandbox: &Sandbox) {
        let Some(container) = container_of(spec_of(&self.pod), name) else { return };
        let Some(handler) = container.lifecycle.as_ref().and_then(|lifecycle| lifecycle.post_start.clone()) else {
            return;
        };
        let ips = self.engine.settings().node.ips_of(&self.pod, &sandbox.ips);
        let subject = Subject { id: id.to_owned(), container: Arc::new(container.into_owned()), ips };
        let (actions, name) = (self.engine.actions().clone(), name.to_owned());
        self.hooks.insert(id.to_owned());
        self.tasks.spawn(async move {
            let result = lifecycle::run(&actions, &handler, &subject, None).await;
            Done::Hooked { id: subject.id, name, result }
        });
    }

    /// Takes note of what has come to its end.
    pub(super) async fn settle(&mut self, done: Done) {
        match done {
            Done::Stopped { id, result } => {
                self.stopping.remove(&id);
                if let Err(problem) = result {
                    self.tell_problem(None, &problem, false).await;
                    self.pause().await;
                }
            }
            Done::Hooked { id, name, result } => {
                // A hook that ends with its container, which was stopped or has ended, says nothing.
                let expected = self.hooks.remove(&id);
                if let Err(failure) = result
                    && expected
                {
                    self.tell_hook(&name, Hook::PostStart, &failure).await;
                    self.unhooked.insert(id);
                }
            }
        }
    }

    /// Hears what ran beside the worker of a pod that is over; what does not end soon has nothing more to say.
    pub(super) async fn settle_all(&mut self) {
        let until = tokio::time::Instant::now() + RETRY;
        while let Ok(Some(Ok(done))) = tokio::time::timeout_at(until, self.tasks.join_next()).await {
            self.settle(done).await;
        }
        self.tasks.abort_all();
        self.stopping.clear();
    }

    async fn tell_hook(&self, name: &str, hook: Hook, failure: &HookFailure) {
        let (container, message) = (name.to_owned(), failure.to_string());
        self.tell(Event::HookFailed { container, hook, message }).await;
    }
}

impl Stop {
    async fn run(mut self) -> Done {
        let hook = self.pre_stop().await;
        let hooked = hook.is_some();
        if let Some((container, Err(failure))) = hook {
            // At once: when the container has ended, so may its worker have.
            let event = Event::HookFailed { container, hook: Hook::PreStop, message: failure.to_string() };
            self.engine.tell(Notice { pod: self.pod.clone(), event }).await;
        }
        let overdue = self.turn().await;
        let result = self.stop(hooked || overdue).await;
        Done::Stopped { id: self.id, result }
    }

    /// The hook, if there is one and time for it; its time is part of the grace.
    async fn pre_stop(&mut self) -> Option<(String, Result<(), HookFailure>)> {
        let (handler, subject) = self.hook.take()?;
        let left = self.patience.borrow().deadline - self.engine.now();
        if left.is_zero() {
            return None;
        }
        let actions = self.engine.actions().clone();
        let (mut patience, clock) = (self.patience.clone(), self.engine.clock());
        let shortened = async {
            // Less patience than the hook was promised ends it.
            if patience.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
            loop {
                let at = patience.borrow_and_update().deadline;
                tokio::select! {
                    () = clock.sleep_until(at) => return,
                    Ok(()) = patience.changed() => {}
                }
            }
        };
        tokio::select! {
            biased;
            result = lifecycle::run(&actions, &handler, &subject, Some(left)) => Some((subject.container.name.clone(), result)),
            () = shortened => None,
        }
    }

    /// Waits until nothing has to stop before it, but not beyond its own time; true when that ended it.
    async fn turn(&mut self) -> bool {
        let clock = self.engine.clock();
        loop {
            let Patience { deadline, turn } = *self.patience.borrow_and_update();
            if turn {
                return false;
            }
            tokio::select! {
                () = clock.sleep_until(deadline) => return true,
                Ok(()) = self.patience.changed() => {}
            }
        }
    }

    async fn stop(&mut self, least: bool) -> Result<(), Problem> {
        loop {
            let at = self.patience.borrow_and_update().deadline;
            let left = at - self.engine.now();
            let left = if least { left.max(LEAST) } else { left };
            let timeout = i64::try_from(left.as_millis().div_ceil(1000)).unwrap_or(i64::MAX);
            let steps = self.steps.clone();
            tokio::select! {
                result = steps.stop_container(&self.id, timeout) => return result,
                // The runtime goes on with the one that is given up.
                () = sooner(&mut self.patience, at) => {}
            }
        }
    }
}

/// Until there is less time than until `at`.
async fn sooner(patience: &mut watch::Receiver<Patience>, at: Monotonic) {
    if patience.wait_for(|patience| patience.deadline < at).await.is_err() {
        std::future::pending().await
    }
}
