//! What is told of a resize, in kubelet's words: pure.

use k8s_openapi::api::core::v1::{Container, Pod, PodCondition, PodStatus, ResourceRequirements};
use serde::Serialize;

use super::notice::Event;
use super::plan::{init_of, spec_of};

/// The condition of a pod that is being given other resources.
pub const IN_PROGRESS: &str = "PodResizeInProgress";

/// The reason of that condition when it does not go well.
pub const ERROR: &str = "Error";

/// The condition of a pod that has not been given what it shall have.
pub const PENDING: &str = "PodResizePending";

/// What there is to tell when a pod's status was `before` and is `now`.
pub fn events(pod: &Pod, before: Option<&PodStatus>, now: &PodStatus) -> Vec<Event> {
    let tell = |reason: &str, what: &str, error: &str| Event::Resize {
        reason: reason.to_owned(),
        message: format!("{what}: {}", summary(pod, error)),
        bad: !error.is_empty(),
    };
    let failure = |it: &PodCondition| it.message.clone().filter(|_| it.reason.as_deref() == Some(ERROR));
    match (before.and_then(condition), condition(now)) {
        (None, Some(now)) => match failure(now) {
            Some(why) => vec![tell("ResizeStarted", "Pod resize started", ""), error(&tell, &why)],
            None => vec![tell("ResizeStarted", "Pod resize started", "")],
        },
        (Some(before), Some(now)) if failure(before) != failure(now) => {
            failure(now).into_iter().map(|why| error(&tell, &why)).collect()
        }
        (Some(_), None) if !matches!(now.phase.as_deref(), Some("Succeeded" | "Failed")) => {
            vec![tell("ResizeCompleted", "Pod resize completed", "")]
        }
        _ => Vec::new(),
    }
}

fn error(tell: &dyn Fn(&str, &str, &str) -> Event, why: &str) -> Event {
    tell("ResizeError", "Pod resize error", why)
}

fn condition(status: &PodStatus) -> Option<&PodCondition> {
    status.conditions.iter().flatten().find(|it| it.type_ == IN_PROGRESS)
}

/// What a pod shall have, in the order in which kubelet writes it.
#[derive(Serialize)]
struct Summary<'a> {
    #[serde(rename = "initContainers", skip_serializing_if = "Vec::is_empty")]
    init_containers: Vec<Shall<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    containers: Vec<Shall<'a>>,
    generation: i64,
    #[serde(skip_serializing_if = "str::is_empty")]
    error: &'a str,
}

#[derive(Serialize)]
struct Shall<'a> {
    name: &'a str,
    resources: ResourceRequirements,
}

/// What a pod shall have, and what speaks against it, as kubelet writes it into events.
pub fn summary(pod: &Pod, error: &str) -> String {
    let shall = |it: &'_ Container| it.resources.clone().unwrap_or_default();
    let spec = spec_of(pod);
    let summary = Summary {
        init_containers: init_of(spec).iter().map(|it| Shall { name: &it.name, resources: shall(it) }).collect(),
        containers: spec.containers.iter().map(|it| Shall { name: &it.name, resources: shall(it) }).collect(),
        generation: pod.metadata.generation.unwrap_or(0),
        error,
    };
    serde_json::to_string(&summary).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    #[allow(clippy::unwrap_used)]
    fn a_resize_is_told_once_when_it_begins_fails_and_ends() {
        let resources = json!({"requests": {"cpu": "1"}});
        let pod =
            json!({"metadata": {"generation": 2}, "spec": {"containers": [{"name": "a", "resources": resources}]}});
        let pod: Pod = serde_json::from_value(pod).unwrap();
        let status = |condition: serde_json::Value| -> PodStatus {
            let conditions: Vec<_> = Some(condition).filter(|it| !it.is_null()).into_iter().collect();
            serde_json::from_value(json!({"phase": "Running", "conditions": conditions})).unwrap()
        };
        let idle = status(json!(null));
        let goes = status(json!({"type": IN_PROGRESS, "status": "True"}));
        let fails = status(json!({"type": IN_PROGRESS, "status": "True", "reason": "Error", "message": "busy"}));
        let over = PodStatus { phase: Some("Failed".into()), ..idle.clone() };
        let plain = r#"{"containers":[{"name":"a","resources":{"requests":{"cpu":"1"}}}],"generation":2}"#;
        let bad = r#"{"containers":[{"name":"a","resources":{"requests":{"cpu":"1"}}}],"generation":2,"error":"busy"}"#;
        let started = format!("ResizeStarted Pod resize started: {plain}");
        let failed = format!("ResizeError Pod resize error: {bad}");
        let rows = [
            (None, &idle, vec![]),
            (Some(&idle), &goes, vec![started.clone()]),
            (None, &fails, vec![started, failed.clone()]),
            (Some(&goes), &goes, vec![]),
            (Some(&goes), &fails, vec![failed]),
            (Some(&fails), &fails, vec![]),
            (Some(&fails), &idle, vec![format!("ResizeCompleted Pod resize completed: {plain}")]),
            (Some(&goes), &over, vec![]),
        ];
        for (before, now, expected) in rows {
            let told = events(&pod, before, now).into_iter().map(|it| match it {
                Event::Resize { reason, message, bad } => {
                    assert_eq!(bad, reason == "ResizeError");
                    format!("{reason} {message}")
                }
                other => format!("{other:?}"),
            });
            assert_eq!(told.collect::<Vec<_>>(), expected, "{before:?} {now:?}");
        }
    }
}
