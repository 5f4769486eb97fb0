//! One running container and its timers.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Container, Probe};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::board::{Board, ProbeResult};
use super::tally::{Kind, Standing};
use super::timer::Timer;
use crate::engine::action::{Actions, Subject};
use crate::engine::time::{Clock, Monotonic};

/// A running container.
#[derive(Debug)]
pub struct Instance {
    actions: Actions,
    board: Board,
    clock: Clock,
    since: Monotonic,
    adopted: bool,
    subject: watch::Sender<Arc<Subject>>,
    started: watch::Sender<bool>,
    timers: BTreeMap<Kind, Running>,
}

/// A timer's task, which ends with this.
#[derive(Debug)]
struct Running {
    probe: Probe,
    task: JoinHandle<()>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Instance {
    /// A container that was just seen to run. `adopted`: it ran before anybody looked.
    pub fn new(id: &str, actions: Actions, board: Board, clock: Clock, adopted: bool, started: bool) -> Self {
        let subject = Subject { id: id.to_owned(), ..Subject::default() };
        Instance {
            actions,
            board,
            clock,
            since: clock.now(),
            adopted,
            subject: watch::Sender::new(Arc::new(subject)),
            started: watch::Sender::new(started),
            timers: BTreeMap::new(),
        }
    }

    /// Takes note of what may change while it runs.
    pub fn follow(&self, container: &Container, ips: &[String]) {
        let known = self.subject.borrow().clone();
        if *known.container == *container && known.ips == ips {
            return;
        }
        let subject = Subject { id: known.id.clone(), container: Arc::new(container.clone()), ips: ips.to_vec() };
        self.subject.send_replace(Arc::new(subject));
    }

    /// A timer for each probe that the manifest has now; those of a pod that ends only say whether it is ready.
    pub fn keep_timers(&mut self, container: &Container, ending: bool) {
        for kind in Kind::ALL {
            let probe = match kind {
                Kind::Startup => container.startup_probe.as_ref(),
                Kind::Liveness => container.liveness_probe.as_ref(),
                Kind::Readiness => container.readiness_probe.as_ref(),
            };
            let probe = probe.filter(|_| !ending || kind == Kind::Readiness);
            if self.timers.get(&kind).map(|running| &running.probe) == probe {
                continue;
            }
            self.timers.remove(&kind);
            self.reset(kind, probe.is_some(), ending);
            // What has started has no use for another startup probe.
            if let Some(probe) = probe.filter(|_| kind != Kind::Startup || !*self.started.borrow()) {
                let task = tokio::spawn(self.timer(kind, probe).run());
                self.timers.insert(kind, Running { probe: probe.clone(), task });
            }
        }
    }

    /// Clears what a probe said that is there no more, or is there in another form: all but what it has proved.
    fn reset(&self, kind: Kind, stays: bool, ending: bool) {
        let id = &self.subject.borrow().id;
        self.board.amend(id, |result| {
            match (kind, stays) {
                (Kind::Readiness, true) => result.ready = Some(result.ready.unwrap_or(false)),
                (Kind::Readiness, false) => result.ready = None,
                (Kind::Startup, false) if !ending => result.started = true,
                (Kind::Startup | Kind::Liveness, _) => {}
            }
            if result.failed.as_ref().is_some_and(|failed| failed.kind == kind) {
                result.failed = None;
            }
        });
        if kind == Kind::Startup && !stays && !ending {
            self.started.send_replace(true);
        }
    }

    fn timer(&self, kind: Kind, probe: &Probe) -> Timer {
        let subject = self.subject.subscribe();
        let known = self.board.result(&subject.borrow().id).unwrap_or_default();
        Timer {
            actions: self.actions.clone(),
            board: self.board.clone(),
            clock: self.clock,
            kind,
            probe: probe.clone(),
            subject,
            started: self.started.clone(),
            since: self.since,
            adopted: self.adopted,
            standing: standing(kind, &known),
        }
    }
}

/// Where a probe begins, by what is known already.
fn standing(kind: Kind, known: &ProbeResult) -> Standing {
    match (kind, known.ready) {
        (Kind::Readiness, Some(true)) => Standing::Passing,
        _ => kind.initial(),
    }
}
