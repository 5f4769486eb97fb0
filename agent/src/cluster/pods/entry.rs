//! What is to be said of a pod to the API server, and what the server has of it.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{ContainerStatus, Pod, PodStatus};
use tokio::time::Instant;

use crate::engine::config::names::PodKey;

/// For how long a pod that only begins is not told of: most run before that, and then one write tells it all.
const BEGINS: Duration = Duration::from_millis(100);

/// What the server has of a pod.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Known {
    /// The pod's uid at the server.
    pub of: String,
    /// Its version.
    pub version: Option<String>,
    pub status: PodStatus,
}

impl Known {
    pub fn of(pod: &Pod, status: &PodStatus) -> Self {
        let version = pod.metadata.resource_version.clone();
        Self { of: PodKey::of(pod).uid, version, status: status.clone() }
    }
}

/// What is to be said of one pod.
#[derive(Default)]
pub(super) struct Entry {
    /// When it was first heard of.
    pub since: Option<Instant>,
    /// Its newest status, as it is seen here.
    pub local: Option<Arc<Pod>>,
    /// What was written last: nothing is to be done while that is so.
    pub written: Option<Known>,
    /// The last refusal, so that it is said once.
    pub refused: Option<String>,
    /// The uid that is there no more, or whose DELETE was answered.
    pub deleted: Option<String>,
}

impl Entry {
    /// Until when there is nothing to tell that is worth a write of its own.
    pub fn held(&self) -> Option<Instant> {
        let begins = self.written.is_none() && self.local.as_deref().is_some_and(begins);
        if begins { self.since.map(|since| since + BEGINS) } else { None }
    }
}

/// Whether nothing has become of a pod yet: each of its containers waits for its start.
fn begins(pod: &Pod) -> bool {
    let Some(status) = &pod.status else { return true };
    let all = [&status.init_container_statuses, &status.container_statuses];
    let reason = |it: &ContainerStatus| it.state.as_ref()?.waiting.as_ref()?.reason.clone();
    let waits = |it| matches!(reason(it).as_deref(), Some("ContainerCreating" | "PodInitializing"));
    status.phase.as_deref() == Some("Pending") && all.into_iter().flatten().flatten().all(waits)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::{Value, json};

    use super::*;

    fn entry(status: Value) -> Entry {
        let pod = json!({"metadata": {"name": "web", "uid": "u"}, "spec": {"containers": []}, "status": status});
        let local = Some(Arc::new(serde_json::from_value(pod).unwrap()));
        Entry { since: Some(Instant::now()), local, ..Entry::default() }
    }

    fn container(state: Value) -> Value {
        json!({"name": "c", "image": "i", "imageID": "", "ready": false, "restartCount": 0, "state": state})
    }

    #[test]
    fn only_the_beginning_of_a_pod_is_held_back() {
        let waiting = |reason| container(json!({"waiting": {"reason": reason}}));
        let pending = |of: Value| json!({"phase": "Pending", "containerStatuses": [of]});
        let held = |status| entry(status).held().is_some();
        assert!(held(json!({"phase": "Pending"})));
        assert!(held(pending(waiting("ContainerCreating"))));
        assert!(!held(pending(waiting("ErrImagePull"))), "its user waits for that");
        assert!(!held(pending(container(json!({"running": {}})))), "its init container runs");
        assert!(!held(json!({"phase": "Running", "containerStatuses": [container(json!({"running": {}}))]})));
        assert!(!held(json!({"phase": "Failed", "reason": "Evicted"})));
        let mut told = entry(pending(waiting("ContainerCreating")));
        told.written = Some(Known { of: "u".into(), version: None, status: PodStatus::default() });
        assert!(told.held().is_none(), "what was told already is told again when it changes");
        let begun = told.since.unwrap();
        told.written = None;
        assert_eq!(told.held(), Some(begun + BEGINS), "and no longer than that");
    }
}
