#![allow(clippy::unwrap_used)]
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod};
use serde_json::{Value, json};

use super::{as_given, mark, mark_as, pending, turn};

fn node() -> Node {
    let status = json!({"allocatable": {"cpu": "2", "memory": "1Gi", "pods": "10"}});
    serde_json::from_value(json!({"metadata": {"name": "n"}, "status": status})).unwrap()
}

fn pod(cpu: &str, memory: &str) -> Pod {
    with(json!({"requests": {"cpu": cpu, "memory": memory}}), |_| ())
}

fn with(resources: Value, change: impl FnOnce(&mut Value)) -> Pod {
    let containers = json!([{"name": "c", "image": "i", "resources": resources}]);
    let mut pod = json!({"metadata": {"name": "p", "generation": 2}, "spec": {"containers": containers}});
    change(&mut pod);
    serde_json::from_value(pod).unwrap()
}

#[test]
fn a_resize_fits_is_deferred_or_can_never_be() {
    let others = [Arc::new(pod("1", "512Mi"))];
    let rows = [
        (pod("1", "512Mi"), None),
        (pod("10m", "1Mi"), None),
        (
            pod("1500m", "1Mi"),
            Some((
                "Deferred",
                "Node didn't have enough resource: cpu, requested: 1500, used: 1000, capacity: 2000".to_owned(),
            )),
        ),
        (
            pod("3", "1Mi"),
            Some(("Infeasible", "Node didn't have enough capacity: cpu, requested: 3000, capacity: 2000".to_owned())),
        ),
        (
            pod("3", "2Gi"),
            Some((
                "Infeasible",
                "Node didn't have enough capacity: memory, requested: 2147483648, capacity: 1073741824".to_owned(),
            )),
        ),
    ];
    for (pod, expected) in rows {
        assert_eq!(pending(&pod, &others, &node()).map(|it| (it.reason, it.message)), expected);
    }
}

#[test]
fn what_a_pod_was_given_it_keeps_and_all_else_is_new() {
    let has = pod("1", "1Mi");
    let mut wants = pod("2", "2Mi");
    wants.metadata.labels = Some([("a".to_owned(), "b".to_owned())].into());
    wants.spec.as_mut().unwrap().containers[0].image = Some("other".into());
    let given = as_given(&wants, &has);
    let (container, spec) = (&given.spec.as_ref().unwrap().containers[0], has.spec.as_ref().unwrap());
    assert_eq!(container.resources, spec.containers[0].resources);
    assert_eq!((container.image.as_deref(), &given.metadata), (Some("other"), &wants.metadata));
    assert_eq!(as_given(&has, &has), has);
}

#[test]
fn who_wants_no_more_comes_first_then_the_more_important_then_who_waits_longest() {
    let has = pod("1", "1Mi");
    let important =
        |priority: i32| with(json!({"requests": {"cpu": "2"}}), |pod| pod["spec"]["priority"] = json!(priority));
    let both = json!({"requests": {"cpu": "2", "memory": "2Mi"}, "limits": {"cpu": "2", "memory": "2Mi"}});
    let waits = |since: &str| {
        let condition = json!({"type": "PodResizePending", "status": "True", "lastTransitionTime": since});
        let mut has = has.clone();
        has.status = Some(serde_json::from_value(json!({"conditions": [condition]})).unwrap());
        has
    };
    let ordered = [
        turn(&pod("500m", "1Mi"), &has),
        turn(&important(7), &has),
        turn(&with(both, |_| ()), &has),
        turn(&pod("2", "1Mi"), &waits("2026-01-01T00:00:00Z")),
        turn(&pod("2", "1Mi"), &waits("2026-01-02T00:00:00Z")),
        turn(&pod("2", "1Mi"), &has),
    ];
    assert!(ordered.is_sorted());
}

#[test]
fn a_pod_says_why_it_waits_until_it_waits_no_more() {
    let at = |text: &str| -> Timestamp { text.parse().unwrap() };
    let big = |cpu: &str| pending(&pod(cpu, "1Mi"), &[Arc::new(pod("1", "1Mi"))], &node());
    let mut pod = pod("1", "1Mi");
    assert!(mark(&mut pod, big("2").as_ref(), at("2026-01-01T00:00:00.5Z")), "it is new");
    let said = |pod: &Pod| serde_json::to_value(pod.status.as_ref().unwrap()).unwrap()["conditions"][0].clone();
    let first = said(&pod);
    assert_eq!((&first["reason"], &first["observedGeneration"]), (&json!("Deferred"), &json!(2)));
    assert_eq!(first["lastTransitionTime"], "2026-01-01T00:00:00Z");
    assert!(!mark(&mut pod, big("2").as_ref(), at("2026-01-02T00:00:00Z")), "it was said");
    assert_eq!(said(&pod), first);
    pod.metadata.generation = Some(3);
    assert!(mark(&mut pod, big("1500m").as_ref(), at("2026-01-02T00:00:00Z")), "that is another wish");
    assert_eq!(said(&pod)["lastTransitionTime"], "2026-01-01T00:00:00Z", "and waits for the same");
    let mut newer = pod.clone();
    (newer.metadata.generation, newer.status) = (Some(4), None);
    mark_as(&mut newer, &pod);
    assert_eq!((&said(&newer)["reason"], &said(&newer)["observedGeneration"]), (&json!("Deferred"), &json!(4)));
    assert!(mark(&mut pod, big("3").as_ref(), at("2026-01-03T00:00:00Z")), "for another reason");
    assert_eq!(said(&pod)["lastTransitionTime"], "2026-01-03T00:00:00Z");
    assert!(!mark(&mut pod, None, at("2026-01-04T00:00:00Z")));
    assert_eq!(pod.status, None);
}
