//! From what a worker tells to kubelet's reasons and words.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;

use super::{Happening, Severity};
use crate::engine::notice::{Event, Notice, Pull};
use crate::engine::orders::Eviction;

/// The events of a notice; most have one, some none.
pub fn of(notice: &Notice, pod: Option<&Pod>) -> Vec<Happening> {
    let normal = |reason: &str, message: String| Happening::new(Severity::Normal, reason, message);
    let warning = |reason: &str, message: String| Happening::new(Severity::Warning, reason, message);
    match &notice.event {
        Event::Pull { container, pull: Pull::Begun { image } } => {
            vec![normal("Pulling", format!("Pulling image {image:?}")).of(container)]
        }
        Event::Pull { container, pull: Pull::Done { image, took, .. } } => {
            let took = duration(*took);
            let message = format!("Successfully pulled image {image:?} in {took} ({took} including waiting).");
            vec![normal("Pulled", message).of(container)]
        }
        Event::Started { container, .. } => vec![
            normal("Created", "Container created".into()).of(container),
            normal("Started", "Container started".into()).of(container),
        ],
        // As every container is before it begins: no event of kubelet's.
        Event::Held { reason, .. } if reason == "ContainerCreating" => vec![],
        Event::Held { reason, message } => vec![normal(reason, message.clone())],
        Event::Waiting { container, reason, .. } => waiting(notice, pod, container, reason),
        Event::Failed { container: Some(container), reason, message, .. } => {
            failed(pod, container, reason, message).into_iter().map(|it| it.of(container)).collect()
        }
        Event::Failed { container: None, reason, message, .. } => vec![match reason.as_str() {
            "CreatePodSandboxError" => {
                warning("FailedCreatePodSandBox", format!("Failed to create pod sandbox: {message}"))
            }
            "StopPodSandboxError" | "StopContainerError" | "RemovePodSandboxError" => {
                warning("FailedKillPod", format!("error killing pod: {message}"))
            }
            "FailedCreatePodContainer" => warning(reason, format!("unable to ensure pod container exists: {message}")),
            "NetworkNotReady" => warning(reason, format!("network is not ready: {message}")),
            _ => warning(reason, message.clone()),
        }],
        Event::Unhealthy { container, message } => vec![warning("Unhealthy", message.clone()).of(container)],
        Event::ProbeWarning { container, message } => vec![warning("ProbeWarning", message.clone()).of(container)],
        Event::HookFailed { container, hook, message } => vec![warning(hook.failed(), message.clone()).of(container)],
        Event::Killing { container, message } => vec![normal("Killing", message.clone()).of(container)],
        Event::Resize { reason, message, bad: false } => vec![normal(reason, message.clone())],
        Event::Resize { reason, message, bad: true } => vec![warning(reason, message.clone())],
        Event::BeginsAgain { because } => {
            let message = format!("The pod's containers begin again, because of container {because}");
            vec![normal("RestartAllContainers", message)]
        }
        // Its containers' ends tell of it.
        Event::Evicted { reason, .. } if reason == Eviction::TERMINATED => vec![],
        Event::Evicted { reason, message } if reason == "DeadlineExceeded" => vec![normal(reason, message.clone())],
        Event::Evicted { reason, message } => vec![warning(reason, message.clone())],
        Event::Warning(message) => vec![warning("Ignored", message.clone())],
        Event::SandboxLost => {
            vec![normal("SandboxChanged", "Pod sandbox changed, it will be killed and re-created.".into())]
        }
        // What a status says as well.
        Event::Pull { pull: Pull::Going { .. } | Pull::Note(_), .. }
        | Event::Reachable { .. }
        | Event::Exited { .. }
        | Event::Ended(_) => Vec::new(),
    }
}

fn waiting(notice: &Notice, pod: Option<&Pod>, container: &str, reason: &str) -> Vec<Happening> {
    let key = &notice.pod;
    let happening = match reason {
        "CrashLoopBackOff" => {
            let pod = format!("{}_{}({})", key.name, key.namespace, key.uid);
            let message = format!("Back-off restarting failed container {container} in pod {pod}");
            Happening::new(Severity::Warning, "BackOff", message)
        }
        "ImagePullBackOff" => {
            let message = format!("Back-off pulling image {:?}", image(pod, container));
            let failed = Happening::new(Severity::Warning, "Failed", format!("Error: {reason}"));
            return vec![Happening::new(Severity::Normal, "BackOff", message).of(container), failed.of(container)];
        }
        _ => return Vec::new(),
    };
    vec![happening.of(container)]
}

fn failed(pod: Option<&Pod>, container: &str, reason: &str, message: &str) -> Vec<Happening> {
    let warning = |reason: &str, message: String| Happening::new(Severity::Warning, reason, message);
    match reason {
        "ErrImagePull" => vec![
            warning("Failed", format!("Failed to pull image {:?}: {message}", image(pod, container))),
            warning("Failed", format!("Error: {reason}")),
        ],
        "ErrImageNeverPull" => {
            vec![warning(reason, message.to_owned()), warning("Failed", format!("Error: {reason}"))]
        }
        "InvalidImageName" => {
            vec![warning("InspectFailed", message.to_owned()), warning("Failed", format!("Error: {reason}"))]
        }
        "CreateContainerConfigError" | "CreateContainerError" | "RunContainerError" | "StartError" => {
            vec![warning("Failed", format!("Error: {message}"))]
        }
        _ => vec![warning(reason, message.to_owned())],
    }
}

/// The name in the manifest of a container's image.
fn image<'a>(pod: Option<&'a Pod>, container: &str) -> &'a str {
    let Some(spec) = pod.and_then(|pod| pod.spec.as_ref()) else { return "" };
    let all = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    all.filter(|it| it.name == container).find_map(|it| it.image.as_deref()).unwrap_or_default()
}

/// Where a container stands in its pod.
pub fn field(pod: Option<&Pod>, container: &str) -> String {
    let spec = pod.and_then(|pod| pod.spec.as_ref());
    let init = spec.and_then(|spec| spec.init_containers.as_ref()).into_iter().flatten();
    let ephemeral = spec.and_then(|spec| spec.ephemeral_containers.as_ref()).into_iter().flatten();
    let list = match () {
        () if init.into_iter().any(|it| it.name == container) => "initContainers",
        () if ephemeral.into_iter().any(|it| it.name == container) => "ephemeralContainers",
        () => "containers",
    };
    format!("spec.{list}{{{container}}}")
}

/// A time span to the millisecond, as Go writes it.
fn duration(span: Duration) -> String {
    let millis = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
    if millis < 1000 {
        return format!("{millis}ms");
    }
    let (minutes, rest) = (millis / 60_000, millis % 60_000);
    let seconds = format!("{}.{:03}", rest / 1000, rest % 1000);
    let seconds = seconds.trim_end_matches('0').trim_end_matches('.');
    if minutes == 0 { format!("{seconds}s") } else { format!("{minutes}m{seconds}s") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::config::names::PodKey;
    use crate::engine::lifecycle::Hook;

    fn told(event: Event) -> Vec<String> {
        let pod = serde_json::json!({"spec": {"containers": [{"name": "a", "image": "web:1"}]}});
        let pod = serde_json::from_value::<Pod>(pod).ok();
        let key = PodKey { namespace: "n".into(), name: "p".into(), uid: "u".into() };
        let happenings = of(&Notice { pod: key, event }, pod.as_ref());
        happenings.iter().map(|it| format!("{:?} {}: {}", it.severity, it.reason, it.message)).collect()
    }

    #[test]
    fn the_words_are_kubelets() {
        let a = || "a".to_owned();
        let failed = |reason: &str| Event::Failed {
            container: Some(a()),
            reason: reason.into(),
            message: "why".into(),
            fatal: false,
        };
        let waiting =
            |reason: &str| Event::Waiting { container: a(), reason: reason.into(), delay: Duration::from_secs(10) };
        let took = Duration::from_millis(1250);
        let done = Pull::Done { image: "web:1".into(), bytes: 1, resumed: 0, took };
        let rows = [
            (
                Event::Pull { container: a(), pull: Pull::Begun { image: "web:1".into() } },
                vec![r#"Normal Pulling: Pulling image "web:1""#],
            ),
            (
                Event::Pull { container: a(), pull: done },
                vec![r#"Normal Pulled: Successfully pulled image "web:1" in 1.25s (1.25s including waiting)."#],
            ),
            (Event::Pull { container: a(), pull: Pull::Note("x".into()) }, vec![]),
            (
                Event::Started { container: a(), attempt: 0, log: "/l".into() },
                vec!["Normal Created: Container created", "Normal Started: Container started"],
            ),
            (
                waiting("CrashLoopBackOff"),
                vec!["Warning BackOff: Back-off restarting failed container a in pod p_n(u)"],
            ),
            (
                waiting("ImagePullBackOff"),
                vec![r#"Normal BackOff: Back-off pulling image "web:1""#, "Warning Failed: Error: ImagePullBackOff"],
            ),
            (failed("InvalidImageName"), vec!["Warning InspectFailed: why", "Warning Failed: Error: InvalidImageName"]),
            (
                failed("ErrImageNeverPull"),
                vec!["Warning ErrImageNeverPull: why", "Warning Failed: Error: ErrImageNeverPull"],
            ),
            (waiting("ContainerCreating"), vec![]),
            (
                failed("ErrImagePull"),
                vec![r#"Warning Failed: Failed to pull image "web:1": why"#, "Warning Failed: Error: ErrImagePull"],
            ),
            (failed("CreateContainerConfigError"), vec!["Warning Failed: Error: why"]),
            (failed("FailedMount"), vec!["Warning FailedMount: why"]),
            (
                Event::Failed {
                    container: None,
                    reason: "CreatePodSandboxError".into(),
                    message: "why".into(),
                    fatal: false,
                },
                vec!["Warning FailedCreatePodSandBox: Failed to create pod sandbox: why"],
            ),
            (
                Event::HookFailed { container: a(), hook: Hook::PostStart, message: "why".into() },
                vec!["Warning FailedPostStartHook: why"],
            ),
            (
                Event::Failed {
                    container: None,
                    reason: "StopPodSandboxError".into(),
                    message: "why".into(),
                    fatal: false,
                },
                vec!["Warning FailedKillPod: error killing pod: why"],
            ),
            (Event::Evicted { reason: "Preempting".into(), message: "why".into() }, vec!["Warning Preempting: why"]),
            (
                Event::Evicted { reason: "DeadlineExceeded".into(), message: "why".into() },
                vec!["Normal DeadlineExceeded: why"],
            ),
            (Event::Evicted { reason: "Terminated".into(), message: "why".into() }, vec![]),
            (Event::SandboxLost, vec!["Normal SandboxChanged: Pod sandbox changed, it will be killed and re-created."]),
        ];
        for (event, expected) in rows {
            assert_eq!(told(event.clone()), expected, "{event:?}");
        }
    }

    #[test]
    fn spans_are_written_as_go_writes_them() {
        for (millis, text) in [(0, "0ms"), (999, "999ms"), (1000, "1s"), (1050, "1.05s"), (61_000, "1m1s")] {
            assert_eq!(duration(Duration::from_millis(millis)), text);
        }
    }
}
