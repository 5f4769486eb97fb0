//! The columns of a pod, by kubectl's rules.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerStateTerminated, ContainerStatus, Pod};

use super::human::age;
use crate::engine::plan::{init_of, is_sidecar, spec_of};

/// What a row shows besides the name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Columns {
    /// `READY/ALL`.
    pub ready: String,
    /// The most telling word about the pod.
    pub status: String,
    /// How often, and how long since the last time.
    pub restarts: String,
    /// Since it was made.
    pub age: String,
}

#[derive(Default)]
struct Count {
    ready: usize,
    restarts: i32,
    last: Option<Timestamp>,
}

impl Count {
    fn add(&mut self, status: &ContainerStatus) {
        self.restarts += status.restart_count;
        let ended = status.last_state.as_ref().and_then(|state| state.terminated.as_ref());
        let ended = ended.and_then(|ended| ended.finished_at.as_ref()).map(|time| time.0);
        self.last = self.last.max(ended);
    }
}

impl Columns {
    /// The columns of a pod.
    pub fn of(pod: &Pod, now: Timestamp) -> Self {
        let spec = spec_of(pod);
        let status = pod.status.clone().unwrap_or_default();
        let mut reason = status.reason.clone().or(status.phase.clone()).unwrap_or_else(|| "Unknown".into());
        let sidecars = init_of(spec).iter().filter(|init| is_sidecar(init)).count();
        let mut count = Count::default();
        match init_reason(pod, &mut count) {
            Some(waiting) if !holds(pod, "Initialized") => reason = waiting,
            // A sidecar that was stopped at the pod's end has no say.
            _ => reason = main_reason(pod, reason, &mut count),
        }
        if pod.metadata.deletion_timestamp.is_some() && !matches!(status.phase.as_deref(), Some("Succeeded" | "Failed"))
        {
            reason = "Terminating".into();
        }
        let since = |time: Timestamp| Duration::try_from(now.duration_since(time)).unwrap_or_default();
        let created = pod.metadata.creation_timestamp.as_ref().or(status.start_time.as_ref());
        let restarts = match count.last {
            Some(last) if count.restarts > 0 => format!("{} ({} ago)", count.restarts, age(since(last))),
            _ => count.restarts.to_string(),
        };
        Columns {
            ready: format!("{}/{}", count.ready, spec.containers.len() + sidecars),
            status: reason,
            restarts,
            age: created.map_or_else(|| "<unknown>".into(), |time| age(since(time.0))),
        }
    }
}

/// What the init containers say, until they are through.
fn init_reason(pod: &Pod, count: &mut Count) -> Option<String> {
    let spec = spec_of(pod);
    let statuses = pod.status.as_ref().and_then(|status| status.init_container_statuses.as_ref())?;
    for (index, status) in statuses.iter().enumerate() {
        count.add(status);
        let sidecar = init_of(spec).get(index).is_some_and(is_sidecar);
        let state = status.state.clone().unwrap_or_default();
        if state.terminated.as_ref().is_some_and(|ended| ended.exit_code == 0) {
            continue;
        }
        if sidecar && status.started == Some(true) {
            count.ready += usize::from(status.ready);
            continue;
        }
        let waiting = state.waiting.and_then(|waiting| waiting.reason).filter(|reason| reason != "PodInitializing");
        return Some(match (&state.terminated, waiting) {
            (Some(ended), _) => format!("Init:{}", ending(ended)),
            (None, Some(reason)) => format!("Init:{reason}"),
            (None, None) => format!("Init:{index}/{}", statuses.len()),
        });
    }
    None
}

/// What the containers say; the first one has the last word.
fn main_reason(pod: &Pod, phase: String, count: &mut Count) -> String {
    let mut reason = phase;
    let (mut running, mut error) = (false, None);
    let statuses = pod.status.as_ref().and_then(|status| status.container_statuses.clone()).unwrap_or_default();
    for status in statuses.iter().rev() {
        count.add(status);
        let state = status.state.clone().unwrap_or_default();
        if let Some(waiting) = state.waiting.and_then(|waiting| waiting.reason).filter(|reason| !reason.is_empty()) {
            reason = waiting;
        } else if let Some(ended) = &state.terminated {
            reason = ending(ended);
            error = (ended.exit_code != 0).then(|| reason.clone()).or(error);
        } else if status.ready && state.running.is_some() {
            running = true;
            count.ready += 1;
        }
    }
    match (reason.as_str(), running, error) {
        ("Completed", true, _) if holds(pod, "Ready") => "Running".into(),
        ("Completed", _, Some(error)) => error,
        ("Completed", true, None) => "NotReady".into(),
        _ => reason,
    }
}

fn ending(ended: &ContainerStateTerminated) -> String {
    match (&ended.reason, ended.signal) {
        (Some(reason), _) if !reason.is_empty() => reason.clone(),
        (_, Some(signal)) if signal != 0 => format!("Signal:{signal}"),
        _ => format!("ExitCode:{}", ended.exit_code),
    }
}

/// Whether a condition of a pod is true.
fn holds(pod: &Pod, kind: &str) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions.into_iter().flatten().any(|condition| condition.type_ == kind && condition.status == "True")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::{Value, json};

    fn container(name: &str, restarts: i32, state: Value) -> Value {
        let ready = state.get("running").is_some();
        json!({"name": name, "image": "", "imageID": "", "ready": ready, "started": ready, "restartCount": restarts,
            "state": state})
    }

    fn columns(status: Value) -> (String, String, String) {
        let pod: Pod = serde_json::from_value(json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "p", "creationTimestamp": "2026-11-22T10:00:00Z"},
            "spec": {"initContainers": [{"name": "i"}, {"name": "j"}], "containers": [{"name": "a"}, {"name": "b"}]},
            "status": status
        }))
        .unwrap();
        let columns = Columns::of(&pod, "2026-11-22T10:05:00Z".parse().unwrap());
        assert_eq!(columns.age, "5m");
        (columns.ready, columns.status, columns.restarts)
    }

    fn ended(reason: &str, code: i32) -> Value {
        json!({"terminated": {"exitCode": code, "reason": reason}})
    }

    #[test]
    fn the_status_is_kubectls() {
        let (running, waiting) = (json!({"running": {}}), |reason: &str| json!({"waiting": {"reason": reason}}));
        let rows = [
            (running.clone(), running.clone(), "Running", "2/2", "Running"),
            (waiting("CrashLoopBackOff"), running.clone(), "Running", "1/2", "CrashLoopBackOff"),
            (ended("Completed", 0), ended("Completed", 0), "Succeeded", "0/2", "Completed"),
            (ended("Error", 3), ended("Completed", 0), "Failed", "0/2", "Error"),
            (ended("Completed", 0), ended("Error", 3), "Failed", "0/2", "Error"),
            (ended("OOMKilled", 137), running.clone(), "Running", "1/2", "OOMKilled"),
            (ended("Completed", 0), running.clone(), "Running", "1/2", "NotReady"),
            (ended("", 7), ended("Completed", 0), "Failed", "0/2", "ExitCode:7"),
            (waiting("ContainerCreating"), waiting("ContainerCreating"), "Pending", "0/2", "ContainerCreating"),
        ];
        for (a, b, phase, ready, status) in rows {
            let statuses = json!([container("a", 0, a.clone()), container("b", 0, b)]);
            let seen = columns(json!({"phase": phase, "containerStatuses": statuses}));
            assert_eq!((seen.0.as_str(), seen.1.as_str()), (ready, status), "{a}");
        }
    }

    #[test]
    fn a_sidecar_that_was_stopped_with_its_pod_has_no_say() {
        let init = json!([container("s", 0, ended("Error", 143))]);
        let main = json!([container("a", 0, ended("Completed", 0)), container("b", 0, ended("Completed", 0))]);
        let seen = |initialized: &str| {
            let conditions = json!([{"type": "Initialized", "status": initialized}]);
            columns(json!({"phase": "Succeeded", "conditions": conditions, "initContainerStatuses": init, "containerStatuses": main})).1
        };
        assert_eq!((seen("True").as_str(), seen("False").as_str()), ("Completed", "Init:Error"));
    }

    #[test]
    fn init_containers_come_first() {
        let waiting = json!({"waiting": {"reason": "PodInitializing"}});
        let rows = [
            (json!({"running": {}}), waiting.clone(), "Init:0/2"),
            (ended("Completed", 0), json!({"running": {}}), "Init:1/2"),
            (ended("Error", 3), waiting.clone(), "Init:Error"),
            (json!({"waiting": {"reason": "CrashLoopBackOff"}}), waiting.clone(), "Init:CrashLoopBackOff"),
        ];
        for (first, second, status) in rows {
            let inits = json!([container("i", 0, first), container("j", 0, second)]);
            let mains = json!([container("a", 0, waiting.clone()), container("b", 0, waiting.clone())]);
            let seen = columns(json!({"phase": "Pending", "initContainerStatuses": inits, "containerStatuses": mains}));
            assert_eq!((seen.0.as_str(), seen.1.as_str()), ("0/2", status));
        }
    }

    #[test]
    fn restarts_are_added_up_with_the_time_of_the_last() {
        let mut first = container("a", 2, json!({"running": {}}));
        first["lastState"] = json!({"terminated": {"exitCode": 1, "finishedAt": "2026-11-22T10:04:00Z"}});
        let statuses = json!([first, container("b", 1, json!({"running": {}}))]);
        assert_eq!(columns(json!({"phase": "Running", "containerStatuses": statuses})).2, "3 (60s ago)");
    }
}
