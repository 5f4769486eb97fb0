//! Which container a command shall run in.

use anyhow::{Context as _, bail};
use k8s_openapi::api::core::v1::{ContainerState, ContainerStatus, PodStatus};
use runtime::Owner;

use crate::engine::record::PodRecord;
use crate::record::name_of;

/// The annotation by which a pod names the container that is meant when none is.
const DEFAULT_CONTAINER: &str = "kubectl.kubernetes.io/default-container";

/// A running container.
#[derive(Debug, PartialEq)]
pub struct Target {
    /// Its name in the pod.
    pub container: String,
    /// The runtime's id of it.
    pub container_id: String,
    /// Whose pod it is.
    pub owner: Owner,
    /// The names that it was chosen from, if nobody chose.
    pub defaulted: Option<String>,
}

/// Finds the container that is asked for, or the default one, which has to be running.
pub fn choose(record: &PodRecord, asked: Option<&str>) -> anyhow::Result<Target> {
    let spec = record.pod.spec.as_ref().context("the pod's record has no spec")?;
    let names: Vec<&str> = spec.containers.iter().map(|it| it.name.as_str()).collect();
    let init = spec.init_containers.iter().flatten().map(|it| it.name.as_str());
    let annotated = record.pod.metadata.annotations.as_ref().and_then(|all| all.get(DEFAULT_CONTAINER));
    let container = match asked.or(annotated.map(String::as_str)).or(names.first().copied()) {
        Some(name) if names.contains(&name) || init.clone().any(|it| it == name) => name,
        Some(name) => {
            let all: Vec<_> = names.iter().copied().chain(init).collect();
            bail!("pod {} has no container {name}; it has {}", name_of(record), all.join(", "));
        }
        None => bail!("pod {} has no containers", name_of(record)),
    };
    let chosen = asked.is_some() || annotated.is_some() || names.len() == 1;
    Ok(Target {
        container: container.to_owned(),
        container_id: running_id(record, container)?,
        owner: Owner::try_from(record.owner.clone()).map_err(anyhow::Error::msg)?,
        defaulted: (!chosen).then(|| names.join(", ")),
    })
}

fn running_id(record: &PodRecord, container: &str) -> anyhow::Result<String> {
    let empty = PodStatus::default();
    let status = record.pod.status.as_ref().unwrap_or(&empty);
    let mut all = status.container_statuses.iter().chain(&status.init_container_statuses).flatten();
    let status = all.find(|it| it.name == container);
    let of = || format!("container {container} of pod {}", name_of(record));
    let Some(ContainerStatus { state: Some(ContainerState { running: Some(_), .. }), container_id: Some(id), .. }) =
        status
    else {
        bail!("{} is not running: {}", of(), condition(status.and_then(|it| it.state.as_ref())));
    };
    match id.strip_prefix("coracle://") {
        Some(id) if !id.is_empty() => Ok(id.to_owned()),
        _ => bail!("{} is not one of this runtime's: {id}", of()),
    }
}

fn condition(state: Option<&ContainerState>) -> String {
    if let Some(ended) = state.and_then(|it| it.terminated.as_ref()) {
        let reason = ended.reason.as_deref().unwrap_or("ended");
        return format!("{reason}, exit code {}", ended.exit_code);
    }
    let waiting = state.and_then(|it| it.waiting.as_ref()).and_then(|it| it.reason.as_deref());
    waiting.unwrap_or("it has not started").to_owned()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    fn record() -> PodRecord {
        let pod = serde_json::from_value(json!({
            "metadata": {"name": "web"},
            "spec": {"containers": [{"name": "app"}, {"name": "log"}], "initContainers": [{"name": "set-up"}]},
            "status": {
                "containerStatuses": [
                    {"name": "app", "containerID": "coracle://aa", "state": {"running": {}}},
                    {"name": "log", "containerID": "coracle://bb", "state": {"waiting": {"reason": "CrashLoopBackOff"}}},
                ],
                "initContainerStatuses": [
                    {"name": "set-up", "containerID": "coracle://cc",
                     "state": {"terminated": {"exitCode": 0, "reason": "Completed"}}},
                ],
            },
        }));
        PodRecord { pod: pod.unwrap(), owner: "run:7".into(), boot_id: "b".into(), log_directory: "/log".into() }
    }

    #[test]
    fn the_first_container_is_the_default_and_that_is_said() {
        let target = choose(&record(), None).unwrap();
        let expected = Target {
            container: "app".into(),
            container_id: "aa".into(),
            owner: Owner::Run("7".into()),
            defaulted: Some("app, log".into()),
        };
        assert_eq!(target, expected);
    }

    #[test]
    fn the_pod_may_name_its_default() {
        let mut record = record();
        record.pod.metadata.annotations = Some([(DEFAULT_CONTAINER.to_owned(), "app".to_owned())].into());
        assert_eq!(choose(&record, None).unwrap().defaulted, None);
    }

    #[test]
    fn what_does_not_run_says_why() {
        for (name, why) in [
            ("log", "container log of pod web is not running: CrashLoopBackOff"),
            ("set-up", "container set-up of pod web is not running: Completed, exit code 0"),
            ("other", "pod web has no container other; it has app, log, set-up"),
        ] {
            assert_eq!(choose(&record(), Some(name)).unwrap_err().to_string(), why);
        }
        let mut record = record();
        record.pod.status = None;
        assert!(choose(&record, None).unwrap_err().to_string().ends_with("it has not started"));
    }
}
