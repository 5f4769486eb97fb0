//! What a reboot makes of a pod's status: its record says how it was, and nobody knows how it ended.

use k8s_openapi::api::core::v1::{ContainerState, ContainerStateTerminated, ContainerStatus, PodStatus};

use super::phase::Phase;

/// The exit code of what nobody saw end.
const UNKNOWN_EXIT: i32 = 255;

/// Ends what was not known to have ended, as the runtime does.
pub fn settle(status: &mut PodStatus) {
    let over = [Phase::Succeeded, Phase::Failed].map(Phase::as_str);
    if status.phase.as_deref().is_some_and(|phase| over.contains(&phase)) {
        return;
    }
    status.phase = Some(Phase::Failed.as_str().to_owned());
    status.reason = Some("NodeRebooted".into());
    status.message = Some("the machine was rebooted while the pod ran".into());
    for condition in status.conditions.iter_mut().flatten().filter(|it| it.type_ != "PodScheduled") {
        condition.status = "False".into();
    }
    let (main, init) = (&mut status.container_statuses, &mut status.init_container_statuses);
    main.iter_mut().chain(init).flatten().for_each(settle_container);
}

fn settle_container(container: &mut ContainerStatus) {
    let Some(running) = container.state.as_ref().and_then(|state| state.running.clone()) else { return };
    container.ready = false;
    container.started = Some(false);
    let terminated = ContainerStateTerminated {
        container_id: container.container_id.clone(),
        exit_code: UNKNOWN_EXIT,
        reason: Some("ContainerStatusUnknown".into()),
        message: Some("the machine was rebooted, so nobody knows how it ended".into()),
        started_at: running.started_at,
        ..ContainerStateTerminated::default()
    };
    container.state = Some(ContainerState { terminated: Some(terminated), ..ContainerState::default() });
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::{Value, json};

    use super::*;

    fn settled(status: Value) -> Value {
        let mut status = serde_json::from_value(status).unwrap();
        settle(&mut status);
        serde_json::to_value(status).unwrap()
    }

    #[test]
    fn what_ran_has_ended_as_unknown_and_what_had_ended_stays() {
        let done = json!({"exitCode": 3, "reason": "Error"});
        let container = |name: &str, state: Value| json!({"name": name, "image": "", "imageID": "", "ready": true, "restartCount": 1, "state": state});
        let status = settled(json!({
            "phase": "Running",
            "conditions": [{"type": "PodScheduled", "status": "True"}, {"type": "Ready", "status": "True"}],
            "containerStatuses": [container("a", json!({"running": {}})), container("b", json!({"terminated": done}))],
        }));
        assert_eq!((&status["phase"], &status["reason"]), (&json!("Failed"), &json!("NodeRebooted")));
        assert_eq!(status["conditions"][0]["status"], "True");
        assert_eq!(status["conditions"][1]["status"], "False");
        let [a, b] = [&status["containerStatuses"][0], &status["containerStatuses"][1]];
        assert_eq!(a["state"]["terminated"]["exitCode"], 255);
        assert_eq!((&a["ready"], &a["restartCount"]), (&json!(false), &json!(1)));
        assert_eq!(b["state"]["terminated"], done);
    }

    #[test]
    fn a_pod_that_was_over_stays_as_it_was() {
        let status = json!({"phase": "Succeeded"});
        assert_eq!(settled(status.clone()), status);
    }
}
