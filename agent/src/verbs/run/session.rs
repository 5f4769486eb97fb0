//! One run: from the first pod's start to the last trace's removal.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use futures_util::future::join_all;
use k8s_openapi::api::core::v1::Pod;
use runtime::zygote::Zygote;
use runtime::{Owner, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};

use super::around::Around;
use super::output::{self, Output};
use super::voices::{Colors, Voices};
use crate::channel::Cri;
use crate::cli::Global;
use crate::engine::backoff::Policy;
use crate::engine::config::{Objects, Settings};
use crate::engine::notice::Event;
use crate::engine::time::format_duration;
use crate::engine::{Engine, Options, Outcome, PodHandle, Stopper};
use crate::failure::OWN_FAILURE;
use crate::local;
use crate::net::Declared;
use crate::net::network::Network;
use crate::net::sender::{Sender, Trouble};
use crate::net::services::ledger::Ledger;

/// The exit code of a run whose pods failed without a container that did.
const FAILED: u8 = 1;

/// Notices that wait to be told; workers wait beyond that.
const NOTICES: usize = 1024;

/// What to run, and how.
pub struct Plan {
    /// Flags that go with every verb.
    pub global: Global,
    /// Directories and facts.
    pub settings: Settings,
    /// ConfigMaps and Secrets.
    pub objects: Objects,
    /// What manifests say of the network.
    pub declared: Declared,
    /// The pods.
    pub pods: Vec<Pod>,
    /// Restart back-off.
    pub backoff: Policy,
    /// What shims are forked from.
    pub zygote: Option<Zygote>,
}

/// Runs the pods to their end and removes every trace of them; the exit code.
pub async fn run(plan: Plan) -> anyhow::Result<u8> {
    // Before anything is made: a signal from here on ends the run in good order.
    let signals = Signals::new()?;
    let id = runtime::new_id().context("make an id")?.get(..12).unwrap_or_default().to_owned();
    let owner = Owner::Run(id.clone());
    let (runtime, channel) = local::open(&plan.global, owner, plan.zygote)?;
    begin(&runtime, &id).await?;
    let cri = Cri::new(channel);
    let sender = match plan.global.cni_conf_dir {
        Some(_) => Sender::without(Trouble::Plugged),
        None => Sender::new(cri.clone()),
    };
    let owner = format!("run:{id}");
    let addresses = Ledger::new(&plan.settings.root_dir, &plan.settings.state_dir, owner.clone(), Vec::new());
    let network = Network::new(sender.clone(), plan.settings.clone(), owner.clone());
    let options = Options {
        settings: plan.settings,
        objects: plan.objects,
        backoff: plan.backoff,
        pod_cgroups: None,
        owner,
        fail_fast: true,
        keep: false,
        store: None,
        network: Some(sender),
        csi: None,
        devices: None,
    };
    let pods = Pods { pods: plan.pods, declared: plan.declared, network };
    let code = work(cri, options, pods, &plan.global, signals).await;
    if matches!(code, Ok((_, Removed::All))) {
        let ending = runtime.clone();
        tokio::task::spawn_blocking(move || ending.end_run(&id)).await?.context("end the run")?;
        addresses.release().context("give the addresses of Services back")?;
    }
    code.map(|(code, _)| code)
}

async fn begin(runtime: &Runtime, id: &str) -> anyhow::Result<()> {
    let (runtime, id) = (runtime.clone(), id.to_owned());
    tokio::task::spawn_blocking(move || runtime.begin_run(&id)).await?.context("begin the run")
}

/// Whether anything of the run is left for `gc`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Removed {
    All,
    NotAll,
}

/// The pods, and what is said of their network.
struct Pods {
    pods: Vec<Pod>,
    declared: Declared,
    network: Network,
}

async fn work(
    cri: Cri,
    options: Options,
    Pods { pods, declared, network }: Pods,
    global: &Global,
    signals: Signals,
) -> anyhow::Result<(u8, Removed)> {
    let (notices, mut received) = mpsc::channel(NOTICES);
    let (abandon, abandoned) = watch::channel(false);
    let (output, printing) = output::start(abandoned);
    let colors =
        Colors { stdout: global.color.wanted(&std::io::stdout()), stderr: global.color.wanted(&std::io::stderr()) };
    let mut voices = Voices::new(output.clone(), colors, ambiguous(&pods));
    let engine = Engine::new(cri, options, notices).await.context("reach the container runtime")?;
    let (around, handles) = Around::start(&engine, network, declared, pods)?;
    let guiding = tokio::spawn(around.guide());
    let stoppers = handles.iter().map(PodHandle::stopper).collect();
    let closed = printing.closed.clone();
    let guard = tokio::spawn(obey(signals, stoppers, output.clone(), closed, abandon));

    let mut left = handles.len();
    while left > 0 {
        let Some(notice) = received.recv().await else { break };
        left -= usize::from(matches!(notice.event, Event::Ended(_)));
        voices.tell(notice).await;
    }
    voices.finish().await;
    let pods: Vec<Arc<Pod>> = handles.iter().map(PodHandle::pod).collect();
    let outcomes: Vec<Outcome> = join_all(handles.into_iter().map(PodHandle::outcome)).await;
    let problems: Vec<String> =
        join_all(pods.iter().map(|pod| engine.remove(pod))).await.into_iter().flatten().collect();
    for problem in &problems {
        output.say(&format!("error: {problem}")).await;
    }
    if !problems.is_empty() {
        output.say("what is left is removed by: coracle gc").await;
    }
    guiding.abort();
    guard.abort();
    // Its end of the output has to be gone before the printer can be done.
    let _ = guard.await;
    drop(output);
    printing.finish().await;
    let removed = if problems.is_empty() { Removed::All } else { Removed::NotAll };
    Ok((exit_code(&outcomes, removed), removed))
}

/// Whether two pods have one name in two namespaces.
fn ambiguous(pods: &[Pod]) -> bool {
    let names: BTreeSet<_> = pods.iter().map(|pod| &pod.metadata.name).collect();
    names.len() < pods.len()
}

/// 0, the exit code of the container that failed first, or 125 for what Coracle itself could not do.
fn exit_code(outcomes: &[Outcome], removed: Removed) -> u8 {
    if outcomes.iter().any(|outcome| outcome.fatal.is_some()) {
        return OWN_FAILURE;
    }
    let failures = outcomes.iter().filter_map(|outcome| outcome.failure.as_ref());
    match failures.min_by_key(|failure| failure.finished_at) {
        // Exit codes are bytes; a runtime that says otherwise has failed all the same.
        Some(failure) => u8::try_from(failure.code).unwrap_or(u8::MAX),
        None if removed == Removed::NotAll => OWN_FAILURE,
        // Its containers ended well when they were told to, but not in their time.
        None if outcomes.iter().any(|outcome| outcome.evicted) => FAILED,
        None => 0,
    }
}

struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Signals {
    fn new() -> anyhow::Result<Self> {
        let listen = |kind| signal(kind).context("listen for signals");
        Ok(Signals {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            hangup: listen(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.hangup.recv() => {}
        }
    }
}

/// The first signal, or the loss of whoever reads our output, stops the pods with their grace; the second one kills.
async fn obey(
    mut signals: Signals,
    stoppers: Vec<Stopper>,
    output: Output,
    mut closed: watch::Receiver<bool>,
    abandon: watch::Sender<bool>,
) {
    tokio::select! {
        () = signals.next() => {}
        Ok(_) = closed.wait_for(|closed| *closed) => {}
    }
    let grace = stoppers.iter().map(Stopper::grace).max().unwrap_or(Duration::ZERO);
    for stopper in &stoppers {
        stopper.stop(stopper.grace());
    }
    let message = format!("stopping, within {}; once more (Ctrl-C) to kill at once", format_duration(grace));
    tokio::select! {
        // Not said before the second signal when the terminal is stopped: the kill must not wait for it.
        () = async { output.say(&message).await; std::future::pending().await } => {}
        () = signals.next() => {}
    }
    for stopper in &stoppers {
        stopper.stop(Duration::ZERO);
    }
    let _ = tokio::time::timeout(Duration::from_secs(1), output.say("killing")).await;
    // Give a terminal that still takes output the time to take it.
    tokio::time::sleep(Duration::from_secs(5)).await;
    abandon.send_replace(true);
    std::future::pending().await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::FirstFailure;
    use crate::engine::history::Failure;
    use crate::engine::phase::Phase;
    use crate::engine::time::Monotonic;

    fn failed(finished_at: i64, code: i32) -> Outcome {
        let failure = FirstFailure { finished_at, container: "c".into(), code };
        Outcome { phase: Phase::Failed, failure: Some(failure), ..Outcome::default() }
    }

    #[test]
    fn the_exit_code_is_that_of_whoever_failed_first() {
        let fine = Outcome { phase: Phase::Succeeded, ..Outcome::default() };
        let failure =
            Failure { reason: "r".into(), message: "m".into(), at: Monotonic::default(), count: 1, fatal: true };
        let fatal = Outcome { fatal: Some(failure), ..Outcome::default() };
        let rows = [
            (vec![fine.clone()], Removed::All, 0),
            (vec![fine.clone(), failed(2, 5), failed(1, 127)], Removed::All, 127),
            (vec![failed(1, 3), fatal], Removed::All, 125),
            (vec![fine.clone(), Outcome { evicted: true, ..fine.clone() }], Removed::All, 1),
            (vec![fine.clone()], Removed::NotAll, 125),
            (vec![failed(1, 3)], Removed::NotAll, 3),
            (vec![failed(1, -1)], Removed::All, 255),
        ];
        for (outcomes, removed, code) in rows {
            assert_eq!(exit_code(&outcomes, removed), code, "{outcomes:?}");
        }
    }
}
