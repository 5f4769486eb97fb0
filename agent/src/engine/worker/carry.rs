//! Carrying a plan out, step by step.

use super::super::backoff::Policy;
use super::super::history::Failure;
use super::super::notice::Event;
use super::super::plan::{Action, Cause, spec_of};
use super::super::steps::{Problem, Sandbox};
use super::super::view::PodStatusView;
use super::stopping::Patience;
use super::{Progress, RETRY, Worker};

/// How long to wait before resources are tried to be given again.
const RESIZE_RETRY: std::time::Duration = std::time::Duration::from_secs(30);

impl Worker {
    /// Does the plan's steps in order; orders that come meanwhile come first.
    pub(super) async fn carry_out(&mut self, view: &PodStatusView, actions: Vec<Action>) -> Progress {
        let mut progress = Progress::None;
        self.refresh(view).await;
        for action in actions {
            if self.orders.has_changed().unwrap_or(false) {
                return Progress::Some;
            }
            let result = match action {
                Action::StopContainer { id, name, deadline, turn, cause } => {
                    if self.mark(view, &id, &cause) {
                        progress = Progress::Some;
                    }
                    self.stop_container(id, &name, Patience { deadline, turn }, &cause).await;
                    continue;
                }
                // After any of these a fresh look: what has begun is recorded before the next one is made.
                // Noted when it was decided.
                Action::Evict(_) => return Progress::Some,
                Action::Void { names, because } => {
                    self.begin_again(view, &names, because).await;
                    return Progress::Some;
                }
                Action::CreateSandbox { attempt } => {
                    self.create_sandbox(attempt).await;
                    return Progress::Some;
                }
                Action::StartContainer { name, attempt, sandbox } => {
                    self.start_container(view, &name, attempt, &sandbox).await;
                    return Progress::Some;
                }
                Action::Resize { id, name } => {
                    self.resize(&id, &name).await;
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

    /// Takes note of what a stop means for what comes after it; true when that is new. From here on it holds, also when
    /// the definition is changed back.
    fn mark(&mut self, view: &PodStatusView, id: &str, cause: &Cause) -> bool {
        let Some(seen) = view.containers.iter().find(|seen| seen.id == *id) else { return false };
        let before = self.history.clone();
        match cause {
            Cause::Ending | Cause::Unwanted | Cause::Hook => {}
            Cause::Changed | Cause::Void => self.history.void(Some(&seen.name), seen.attempt),
            Cause::Unhealthy(_) => self.history.condemn(&seen.name, seen.attempt),
            Cause::Replaced => {
                if let Some(sandbox) = view.sandboxes.iter().find(|sandbox| sandbox.id == seen.sandbox) {
                    self.history.void(None, sandbox.attempt);
                }
            }
        }
        self.history != before
    }

    async fn begin_again(&mut self, view: &PodStatusView, names: &[String], because: String) {
        for name in names {
            if let Some(seen) = view.latest(name) {
                self.history.void(Some(name), seen.attempt);
            }
        }
        self.tell(Event::BeginsAgain { because }).await;
    }

    async fn create_sandbox(&mut self, attempt: u32) {
        let policy = self.backoff();
        if attempt > 0 && self.history.sandbox.void.is_none_or(|void| void.saturating_add(1) != attempt) {
            self.tell(Event::SandboxLost).await;
        }
        // What this pod may reach, and who may reach it, is settled before anything of it runs.
        let network = tokio::select! {
            network = self.engine.network(&self.key, &self.pod) => network,
            Ok(()) = self.orders.changed() => {
                self.orders.mark_changed();
                return;
            }
        };
        self.history.starting(None, &policy, self.engine.now());
        let devices = match network {
            Ok(()) => self.take_devices().await,
            Err(trouble) => Err(Problem::from(trouble)),
        };
        let created = match devices {
            Ok(true) => self.steps.create_sandbox(attempt).await,
            Ok(false) => return,
            Err(problem) => Err(problem),
        };
        match created {
            Ok(()) => self.history.started(None),
            Err(problem) => self.failed(None, problem, attempt).await,
        }
    }

    async fn start_container(&mut self, view: &PodStatusView, name: &str, attempt: u32, sandbox: &str) {
        let policy = self.backoff();
        let seen = view.sandboxes.iter().find(|seen| seen.id == sandbox);
        let sandbox = Sandbox {
            id: sandbox.to_owned(),
            attempt: seen.map_or(0, |seen| seen.attempt),
            ips: seen.map(|seen| seen.ips.clone()).unwrap_or_default(),
        };
        let target = match self.target(view, name) {
            Ok(target) => target,
            Err(problem) => return self.failed(Some(name), problem, attempt).await,
        };
        // A pull may take minutes: who asks for something else meanwhile does not wait for it.
        let image = tokio::select! {
            image = self.steps.ensure_image(name, &sandbox) => image,
            Ok(()) = self.orders.changed() => {
                self.orders.mark_changed();
                return;
            }
        };
        self.history.starting(Some(name), &policy, self.engine.now());
        let started = match image {
            Ok(image) => self.steps.start_container(name, attempt, &sandbox, image, target).await,
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
                    self.post_start(&started.id, name, &sandbox);
                    self.pending.push(Event::Started { container: name.to_owned(), attempt, log: started.log });
                }
            }
            Err(problem) => self.failed(Some(name), problem, attempt).await,
        }
    }

    /// The container whose processes an ephemeral one is to see.
    fn target(&self, view: &PodStatusView, name: &str) -> Result<Option<String>, Problem> {
        let mut ephemeral = spec_of(&self.pod).ephemeral_containers.iter().flatten();
        let target = ephemeral.find(|it| it.name == name).and_then(|it| it.target_container_name.as_deref());
        let Some(target) = target.filter(|target| !target.is_empty()) else { return Ok(None) };
        match view.latest(target).filter(|seen| seen.running()) {
            Some(seen) => Ok(Some(seen.id.clone())),
            None => {
                let message = format!("its target container \"{target}\" does not run");
                Err(Problem { transient: true, ..Problem::new("CreateContainerConfigError", message) })
            }
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
        self.history.failed(name, &self.backoff(), failure);
    }

    async fn resize(&mut self, id: &str, name: &str) {
        let result = self.steps.resize(id, name).await;
        let wanted = super::super::steps::container_of(spec_of(&self.pod), name).and_then(|it| it.resources.clone());
        let resized = self.history.resized.entry(id.to_owned()).or_default();
        match result {
            Ok(()) => {
                resized.has = Some(wanted.unwrap_or_default());
                resized.failure = None;
            }
            // The pod's status says it, and with it an event.
            Err(problem) => resized.failure = Some((problem.message, self.engine.now() + RESIZE_RETRY)),
        }
    }

    /// Brings the files that the pod sees up to date, after each change of what they are made from; what fails is tried
    /// again by the next look, and told once.
    async fn refresh(&mut self, view: &PodStatusView) {
        let mut failed = None;
        // One that is to come writes the file itself.
        let sandbox = view.sandbox().filter(|sandbox| sandbox.ready);
        if std::mem::take(&mut self.hosts_stale)
            && let Some(sandbox) = sandbox
            && let Err(problem) = self.steps.refresh_hosts(sandbox.ips.clone()).await
        {
            self.hosts_stale = true;
            failed = Some(problem);
        }
        if std::mem::take(&mut self.stale)
            && let Err(problem) = self.steps.refresh(self.ips.clone()).await
        {
            self.stale = true;
            failed = Some(problem);
        }
        let message = failed.as_ref().map(|problem| problem.message.clone());
        let known = std::mem::replace(&mut self.unrefreshed, message);
        if let Some(problem) = failed.filter(|problem| known.as_ref() != Some(&problem.message)) {
            self.tell_problem(None, &problem, false).await;
        }
    }

    /// The node's back-off, but for what the pod says itself.
    pub(super) fn backoff(&self) -> Policy {
        self.engine.backoff().with(&self.annotations.restart_backoff)
    }

    /// Waits a little after a step that failed beside the others.
    pub(super) async fn pause(&self) {
        tokio::time::sleep(RETRY).await;
    }
}
