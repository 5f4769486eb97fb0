//! Why a pod is not what it should be: the chain of causes, each with what to do about it.

mod advice;

use std::time::Duration;

use k8s_openapi::api::core::v1::{ContainerStateTerminated, ContainerStatus, Pod, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde::{Deserialize, Serialize};

use self::advice::Advice;
use super::desired::Name;
use super::order::Order;
use super::reconcile::View;
use super::shown;
use crate::engine::Gate;
use crate::engine::plan::Waiting;
use crate::engine::time::{Monotonic, format_duration};

/// The pods that are gone through, should they wait for each other in a long line.
const DEEPEST: usize = 8;

/// Why a pod is as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Why {
    /// `NAMESPACE/NAME`.
    pub pod: String,
    /// Its phase, or kubectl's word where that says more.
    pub status: String,
    /// Its manifest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// What keeps it from being ready and up to date; nothing when it is.
    pub causes: Vec<Cause>,
}

/// One cause.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Cause {
    /// What is the case.
    pub what: String,
    /// Since when.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<Time>,
    /// What failed last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// When it is tried again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
    /// The pods that it waits for, and what keeps them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub because: Vec<Why>,
}

/// Why the pod `name` is as it is; none when there is no such pod.
pub fn of(name: &Name, view: &View<'_>) -> Option<Why> {
    if let Some(invalid) = view.invalid(name) {
        return Some(of_manifest(invalid));
    }
    explain(name, view, DEEPEST)
}

/// Why a pod was as it was when its record was written; `clusters` says that it is an API server's.
pub fn of_record(pod: &Pod, clusters: bool) -> Why {
    if shown::is_shown(pod) {
        return of_manifest(pod);
    }
    let advice = Advice { pod, clusters };
    let status = pod.status.clone().unwrap_or_default();
    let containers = containers(&status).filter_map(|it| of_container(advice, it, None, Monotonic::default()));
    let causes = of_pod(advice, &status).into_iter().chain(containers).collect();
    Why { pod: show(pod), status: word(&status), file: super::file_of(pod), causes }
}

fn containers(status: &PodStatus) -> impl Iterator<Item = &ContainerStatus> {
    let lists = [&status.init_container_statuses, &status.container_statuses, &status.ephemeral_container_statuses];
    lists.into_iter().flatten().flatten()
}

/// What kubectl says of a pod.
fn word(status: &PodStatus) -> String {
    status.reason.clone().or_else(|| status.phase.clone()).unwrap_or_else(|| "Pending".into())
}

/// An object that stands for a manifest that is not good.
fn of_manifest(pod: &Pod) -> Why {
    let status = pod.status.clone().unwrap_or_default();
    let cause = Cause {
        what: "the manifest is not used; what it said before stays in force".into(),
        since: pod.metadata.creation_timestamp.clone(),
        error: status.message,
        advice: Some("correct the file; it is read again when it changes".into()),
        ..Cause::default()
    };
    Why { pod: show(pod), status: status.reason.unwrap_or_default(), file: super::file_of(pod), causes: vec![cause] }
}

fn explain(name: &Name, view: &View<'_>, depth: usize) -> Option<Why> {
    let desired = view.desired.pods();
    let live = view.pods.get(name);
    let pod = live.map(|live| live.pod.clone()).or_else(|| desired.get(name).cloned())?;
    let seen = live.map(super::live::Live::seen).unwrap_or_default();
    let status = seen.pod.as_ref().and_then(|pod| pod.status.clone()).unwrap_or_default();
    let mut causes = Vec::new();
    let file = super::file_of(&pod);
    if let Some(why) = file.as_ref().and_then(|file| view.desired.files().get(file)?.invalid.clone()) {
        causes.push(Cause {
            what: "the newest version of its manifest is not used".into(),
            error: Some(why),
            advice: Some("correct the file; it is read again when it changes".into()),
            ..Cause::default()
        });
    }
    let leaves = live.is_some_and(super::live::Live::leaves);
    if leaves {
        let what = if desired.contains_key(name) {
            "it is being stopped, to be started anew"
        } else {
            "it is being stopped for good"
        };
        let since = seen.pod.as_ref().and_then(|pod| pod.metadata.deletion_timestamp.clone());
        causes.push(Cause { what: what.into(), since, ..Cause::default() });
    } else if status.container_statuses.iter().flatten().all(|it| it.container_id.is_none()) {
        causes.extend(gate(name, view, depth));
    }
    let advice = Advice { pod: &pod, clusters: view.desired.bound().find(name).is_some() };
    causes.extend(of_pod(advice, &status));
    for container in containers(&status) {
        let waiting = seen.waiting.get(&container.name);
        causes.extend(of_container(advice, container, waiting, view.now));
    }
    Some(Why { pod: show(&pod), status: word(&status), file, causes })
}

/// What it waits for, and why that is not there.
fn gate(name: &Name, view: &View<'_>, depth: usize) -> Option<Cause> {
    let desired = view.desired.pods();
    let order = Order::of(&*desired);
    let order_says = order.gate(name, |target| view.state(target, &desired));
    let gate = Gate::both(order_says, view.network.gate(name))?;
    let targets = order.targets(name).filter(|target| depth > 0 && view.desired.pods().contains_key(target));
    let because = targets.filter_map(|target| explain(&target, view, depth - 1)).filter(|why| !why.causes.is_empty());
    Some(Cause { what: format!("{}: {}", gate.reason, gate.message), because: because.collect(), ..Cause::default() })
}

/// What is the matter with the pod as a whole.
fn of_pod(advice: Advice<'_>, status: &PodStatus) -> Option<Cause> {
    let reason = status.reason.as_deref()?;
    Some(Cause {
        what: format!("it was ended: {reason}"),
        error: status.message.clone(),
        advice: Some(advice.on_end(reason)),
        ..Cause::default()
    })
}

/// What is the matter with a container.
fn of_container(
    advice: Advice<'_>,
    status: &ContainerStatus,
    waiting: Option<&Waiting>,
    now: Monotonic,
) -> Option<Cause> {
    let name = &status.name;
    let state = status.state.clone().unwrap_or_default();
    let last = status.last_state.as_ref().and_then(|last| last.terminated.as_ref());
    if let Some(is) = state.waiting {
        let reason = is.reason.unwrap_or_default();
        let until = waiting.and_then(|waiting| waiting.until).filter(|until| *until > now);
        return Some(Cause {
            what: format!("container {name} waits: {reason}"),
            since: last.and_then(|last| last.finished_at.clone()),
            error: is.message.or_else(|| last.map(ended)),
            next: until.map(|until| format!("in {}", format_duration(rounded(until - now)))),
            advice: advice.on_wait(name, &reason, last),
            ..Cause::default()
        });
    }
    if let Some(end) = state.terminated.filter(|end| end.exit_code != 0) {
        return Some(Cause {
            what: format!("container {name} has ended"),
            since: end.finished_at.clone(),
            error: Some(ended(&end)),
            advice: Some(format!("coracle logs {} -c {name}", advice.name())),
            ..Cause::default()
        });
    }
    let running = state.running.filter(|_| !status.ready)?;
    let probe = if status.started == Some(false) {
        "its startup probe has not succeeded yet"
    } else {
        "its readiness probe fails"
    };
    Some(Cause {
        what: format!("container {name} runs and is not ready"),
        since: running.started_at,
        advice: Some(format!("{probe}; coracle events says how")),
        ..Cause::default()
    })
}

fn rounded(duration: Duration) -> Duration {
    Duration::from_secs(duration.as_secs() + u64::from(duration.subsec_nanos() > 0))
}

fn ended(end: &ContainerStateTerminated) -> String {
    let reason = end.reason.as_deref().unwrap_or("Error");
    let message = end.message.as_deref().map(|text| format!(": {}", text.trim_end())).unwrap_or_default();
    format!("{reason}, exit code {}{message}", end.exit_code)
}

fn show(pod: &Pod) -> String {
    let meta = &pod.metadata;
    format!("{}/{}", meta.namespace.as_deref().unwrap_or("default"), meta.name.as_deref().unwrap_or_default())
}
