//! Which container of a pod a client means.

use k8s_openapi::api::core::v1::{ContainerState, ContainerStatus, Pod};

use super::error::Error;

/// The names of all containers of a pod, in the order of their lists.
pub fn names(pod: &Pod) -> Vec<&str> {
    let Some(spec) = &pod.spec else { return Vec::new() };
    let main = spec.containers.iter().map(|it| it.name.as_str());
    let init = spec.init_containers.iter().flatten().map(|it| it.name.as_str());
    let ephemeral = spec.ephemeral_containers.iter().flatten().map(|it| it.name.as_str());
    main.chain(init).chain(ephemeral).collect()
}

/// The container that is named, or the only one.
pub fn choose(pod: &Pod, asked: Option<&str>) -> Result<String, Error> {
    let (name, names) = (pod.metadata.name.as_deref().unwrap_or_default(), names(pod));
    match (asked, names.as_slice()) {
        (Some(asked), names) if names.contains(&asked) => Ok(asked.to_owned()),
        (Some(asked), _) => Err(Error::BadRequest(format!("container {asked} is not valid for pod {name}"))),
        (None, [only]) => Ok((*only).to_owned()),
        (None, names) => {
            let names = names.join(" ");
            let why = format!("a container name must be specified for pod {name}, choose one of: [{names}]");
            Err(Error::BadRequest(why))
        }
    }
}

/// What is known of a container.
pub fn status<'a>(pod: &'a Pod, container: &str) -> Option<&'a ContainerStatus> {
    let status = pod.status.as_ref()?;
    let all = [&status.container_statuses, &status.init_container_statuses, &status.ephemeral_container_statuses];
    all.into_iter().flatten().flatten().find(|it| it.name == container)
}

/// The runtime's id of a container that runs.
pub fn running<'a>(pod: &'a Pod, container: &str) -> Result<&'a str, Error> {
    let status = status(pod, container);
    let running = status.filter(|it| it.state.as_ref().is_some_and(|state| state.running.is_some()));
    let id = running.and_then(|it| it.container_id.as_deref()).and_then(|id| id.split_once("://"));
    id.map(|(_, id)| id).ok_or_else(|| {
        let name = pod.metadata.name.as_deref().unwrap_or_default();
        let why = condition(status.and_then(|it| it.state.as_ref()));
        Error::BadRequest(format!("container {container} of pod {name} is not running: {why}"))
    })
}

fn condition(state: Option<&ContainerState>) -> String {
    if let Some(ended) = state.and_then(|it| it.terminated.as_ref()) {
        let reason = ended.reason.as_deref().unwrap_or("ended");
        return format!("{reason}, exit code {}", ended.exit_code);
    }
    let waiting = state.and_then(|it| it.waiting.as_ref()).and_then(|it| it.reason.as_deref());
    waiting.unwrap_or("it has not started").to_owned()
}

/// Which of a container's instances has the log that a client means, by its number.
pub fn logged(pod: &Pod, container: &str, previous: bool) -> Result<i32, Error> {
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let refuse = |why: String| Err(Error::BadRequest(format!("container {container:?} in pod {name:?} {why}")));
    let Some(status) = status(pod, container) else { return refuse("is not available".into()) };
    let state = status.state.clone().unwrap_or_default();
    let last = status.last_state.as_ref().and_then(|it| it.terminated.as_ref());
    // The instance that the counter stands for is either the one that is, or, while its successor waits, the last one.
    let number = |id: Option<&String>| {
        if id.is_none() || id == status.container_id.as_ref() { status.restart_count } else { status.restart_count - 1 }
    };
    match (previous, last) {
        (true, Some(last)) => return Ok(number(last.container_id.as_ref()).max(0)),
        (true, None) => {
            return Err(Error::BadRequest(format!(
                "previous terminated container {container:?} in pod {name:?} not found"
            )));
        }
        _ => {}
    }
    if state.running.is_some() || state.terminated.is_some() {
        return Ok(status.restart_count);
    }
    if let Some(last) = last {
        return Ok(number(last.container_id.as_ref()).max(0));
    }
    match state.waiting.and_then(|it| it.reason).as_deref() {
        Some("ErrImagePull") => refuse("is waiting to start: image can't be pulled".into()),
        Some("ImagePullBackOff") => refuse("is waiting to start: trying and failing to pull image".into()),
        Some(reason) => refuse(format!("is waiting to start: {reason}")),
        None => refuse("is waiting to start - no logs yet".into()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(status: Value) -> Pod {
        let mut statuses = json!([status]);
        statuses[0]["name"] = json!("a");
        serde_json::from_value(json!({
            "metadata": {"name": "p"},
            "spec": {"containers": [{"name": "a"}, {"name": "b"}], "initContainers": [{"name": "i"}],
                     "ephemeralContainers": [{"name": "e"}]},
            "status": {"containerStatuses": statuses}
        }))
        .unwrap()
    }

    fn text<T>(result: Result<T, Error>) -> String {
        result.map(drop).unwrap_err().to_string()
    }

    #[test]
    fn a_container_is_named_unless_there_is_one_alone() {
        let mut pod = pod(json!({}));
        assert_eq!(choose(&pod, Some("e")).unwrap(), "e");
        assert_eq!(text(choose(&pod, Some("x"))), "container x is not valid for pod p");
        let all = "a container name must be specified for pod p, choose one of: [a b i e]";
        assert_eq!(text(choose(&pod, None)), all);
        let spec = pod.spec.as_mut().unwrap();
        spec.containers.truncate(1);
        (spec.init_containers, spec.ephemeral_containers) = (None, None);
        assert_eq!(choose(&pod, None).unwrap(), "a");
    }

    #[test]
    fn only_what_runs_can_be_entered() {
        let running = json!({"containerID": "coracle://77", "state": {"running": {}}});
        assert_eq!(running_id(running), Ok("77".into()));
        let ended = json!({"containerID": "c://7", "state": {"terminated": {"exitCode": 3, "reason": "Error"}}});
        assert_eq!(running_id(ended), Err("container a of pod p is not running: Error, exit code 3".into()));
        let waiting = json!({"state": {"waiting": {"reason": "CrashLoopBackOff"}}});
        assert_eq!(running_id(waiting), Err("container a of pod p is not running: CrashLoopBackOff".into()));
    }

    fn running_id(status: Value) -> Result<String, String> {
        running(&pod(status), "a").map(str::to_owned).map_err(|error| error.to_string())
    }

    #[test]
    fn the_log_is_the_instances_that_kubelet_would_show() {
        let end = |id: &str| json!({"terminated": {"exitCode": 1, "containerID": id}});
        let rows = [
            (json!({"restartCount": 2, "containerID": "c://2", "state": {"running": {}}}), false, Ok(2)),
            (
                json!({"restartCount": 2, "containerID": "c://2", "state": {"running": {}}, "lastState": end("c://1")}),
                true,
                Ok(1),
            ),
            // It waits for its next start: the last one is the one that the counter stands for.
            (
                json!({"restartCount": 2, "containerID": "c://2", "state": {"waiting": {"reason": "CrashLoopBackOff"}}, "lastState": end("c://2")}),
                false,
                Ok(2),
            ),
            (
                json!({"restartCount": 2, "containerID": "c://2", "state": {"waiting": {"reason": "CrashLoopBackOff"}}, "lastState": end("c://2")}),
                true,
                Ok(2),
            ),
            (json!({"restartCount": 0, "containerID": "c://0", "state": end("c://0")}), false, Ok(0)),
            (json!({"restartCount": 0, "containerID": "c://0", "state": end("c://0")}), true, Err("not found")),
            (
                json!({"restartCount": 0, "state": {"waiting": {"reason": "ContainerCreating"}}}),
                false,
                Err("is waiting to start: ContainerCreating"),
            ),
            (
                json!({"restartCount": 0, "state": {"waiting": {"reason": "ErrImagePull"}}}),
                false,
                Err("image can't be pulled"),
            ),
        ];
        for (status, previous, expected) in rows {
            let got = logged(&pod(status.clone()), "a", previous).map_err(|error| error.to_string());
            match (&got, expected) {
                (Err(error), Err(why)) => assert!(error.contains(why), "{error}"),
                (Ok(number), Ok(expected)) => assert_eq!(*number, expected, "{status}"),
                _ => panic!("{status}: {got:?}"),
            }
        }
        assert!(text(logged(&pod(json!({})), "b", false)).contains("is not available"));
    }
}
