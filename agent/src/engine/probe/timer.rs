//! One probe of one running container: a timer, an action, and what its answers amount to.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Probe;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use super::board::Board;
use super::tally::{Kind, Standing, Tally, Thresholds};
use crate::engine::action::{ActionError, Actions, Answer, Outcome, Subject};
use crate::engine::notice::Event;
use crate::engine::time::{Clock, Monotonic};

/// How often an action is tried whose answer cannot be judged, before that answer is thrown away.
const TRIES: usize = 3;

/// What a timer works on.
pub struct Timer {
    /// Does what the probe asks for.
    pub actions: Actions,
    /// Where the results go.
    pub board: Board,
    /// The engine's clock.
    pub clock: Clock,
    /// Which probe.
    pub kind: Kind,
    /// As the manifest has it.
    pub probe: Probe,
    /// Whom to ask; it may change while the container runs.
    pub subject: watch::Receiver<Arc<Subject>>,
    /// Whether the container has started: a startup probe says it, the others wait for it.
    pub started: watch::Sender<bool>,
    /// Since when the container runs, as far as this process saw it.
    pub since: Monotonic,
    /// It ran before this process looked at it.
    pub adopted: bool,
    /// What counts until the probe says otherwise.
    pub standing: Standing,
}

impl Timer {
    /// Asks for ever, or until no answer matters any more.
    pub async fn run(mut self) {
        let thresholds = Thresholds::of(&self.probe);
        let mut tally = Tally::new(self.kind, thresholds, self.standing);
        self.wait_for_its_turn().await;
        let mut ticks = tokio::time::interval(period(&self.probe));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut last = Told::Nothing;
        while !tally.over() {
            ticks.tick().await;
            let asked = self.clock.now();
            let outcome = self.ask().await;
            self.board.counts.note(&self.container(), self.kind, &outcome, self.clock.now() - asked);
            self.tell_unusual(&outcome, &mut last);
            let Ok(answer) = outcome else { continue };
            let step = tally.next(!matches!(answer, Answer::Failed(_)));
            tally = step.tally;
            if let Answer::Failed(message) = &answer {
                if step.turned || step.changed {
                    self.tell_failure(message, (!step.turned).then_some(thresholds.failure));
                }
                if step.changed {
                    self.settle(&tally, message);
                }
            } else if step.changed {
                self.settle(&tally, "");
                if self.kind == Kind::Startup {
                    self.started.send_replace(true);
                }
            }
        }
    }

    /// Waits for the startup probe and for the initial delay.
    async fn wait_for_its_turn(&self) {
        if self.kind != Kind::Startup {
            // This holds a sender itself, so the channel is never closed.
            let _ = self.started.subscribe().wait_for(|started| *started).await;
        }
        let delay = seconds(self.probe.initial_delay_seconds, 0);
        self.clock.sleep_until(self.since + delay).await;
        // An agent that starts finds all containers at once, and shall not ask all of them at once.
        if self.adopted {
            tokio::time::sleep(period(&self.probe).mul_f64(self.portion())).await;
        }
    }

    /// A part of 1 that is another one for each probe of each container, and the same at every start.
    fn portion(&self) -> f64 {
        let mut hasher = DefaultHasher::new();
        (&self.subject.borrow().id, self.kind).hash(&mut hasher);
        f64::from(u32::try_from(hasher.finish() >> 32).unwrap_or(0)) / f64::from(u32::MAX)
    }

    async fn ask(&mut self) -> Outcome {
        let subject = self.subject.borrow_and_update().clone();
        let mut outcome = self.ask_once(&subject).await;
        for _ in 1..TRIES {
            if outcome.is_ok() {
                break;
            }
            outcome = self.ask_once(&subject).await;
        }
        outcome
    }

    async fn ask_once(&self, subject: &Subject) -> Outcome {
        let limit = seconds(self.probe.timeout_seconds, 1);
        if let Some(exec) = &self.probe.exec {
            self.actions.probe_exec(subject, exec, limit).await
        } else if let Some(get) = &self.probe.http_get {
            self.actions.http(subject, get, limit).await
        } else if let Some(tcp) = &self.probe.tcp_socket {
            self.actions.tcp(subject, tcp, limit).await
        } else if let Some(grpc) = &self.probe.grpc {
            self.actions.grpc(subject, grpc, limit).await
        } else {
            Err(ActionError::Empty)
        }
    }

    fn settle(&self, tally: &Tally, message: &str) {
        self.board.settle(&self.subject.borrow().id, self.kind, tally.standing(), message);
    }

    fn tell_failure(&self, message: &str, times: Option<u32>) {
        let kind = self.kind;
        let message = match times {
            None => format!("{kind} probe failed: {message}"),
            Some(times) => format!("{kind} probe failed {times} times in a row: {message}"),
        };
        self.board.tell(Event::Unhealthy { container: self.container(), message });
    }

    /// Tells of warnings and of answers that cannot be judged, once until there is another one.
    fn tell_unusual(&self, outcome: &Outcome, last: &mut Told) {
        let (kind, container) = (self.kind, self.container());
        let told = match outcome {
            Ok(Answer::Warned(_)) => Told::Warning,
            Err(_) => Told::Error,
            Ok(_) => Told::Nothing,
        };
        if std::mem::replace(last, told) == told {
            return;
        }
        match outcome {
            Ok(Answer::Warned(warning)) => {
                let message = format!("{kind} probe warning: {warning}");
                self.board.tell(Event::ProbeWarning { container, message });
            }
            Err(error) => {
                let message = format!("{kind} probe errored and resulted in unknown state: {error}");
                self.board.tell(Event::Unhealthy { container, message });
            }
            Ok(_) => {}
        }
    }

    fn container(&self) -> String {
        self.subject.borrow().container.name.clone()
    }
}

/// What was told last, of what is told once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    Nothing,
    Warning,
    Error,
}

fn period(probe: &Probe) -> Duration {
    seconds(probe.period_seconds.filter(|period| *period > 0), 10)
}

fn seconds(given: Option<i32>, default: u64) -> Duration {
    Duration::from_secs(given.and_then(|given| u64::try_from(given).ok()).unwrap_or(default))
}
