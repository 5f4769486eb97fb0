#![allow(clippy::unwrap_used)]
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, Pod};
use serde_json::{Value, json};

use super::{is_critical, make_room};

fn node() -> Node {
    let status = json!({"allocatable": {"cpu": "2", "memory": "1Gi", "pods": "4"}});
    serde_json::from_value(json!({"metadata": {"name": "n"}, "status": status})).unwrap()
}

fn pod(name: &str, priority: i32, resources: Value) -> Arc<Pod> {
    let containers = json!([{"name": "c", "resources": resources}]);
    let spec = json!({"priority": priority, "containers": containers});
    Arc::new(serde_json::from_value(json!({"metadata": {"name": name}, "spec": spec})).unwrap())
}

fn burstable(name: &str, cpu: &str, memory: &str) -> Arc<Pod> {
    pod(name, 0, json!({"requests": {"cpu": cpu, "memory": memory}}))
}

fn guaranteed(name: &str, cpu: &str) -> Arc<Pod> {
    pod(name, 0, json!({"limits": {"cpu": cpu, "memory": "64Mi"}, "requests": {"cpu": cpu, "memory": "64Mi"}}))
}

fn critical(cpu: &str) -> Arc<Pod> {
    pod("critical", 2_000_000_000, json!({"requests": {"cpu": cpu}}))
}

fn who(pod: &Pod, others: &[Arc<Pod>]) -> Result<String, String> {
    let name = |pod: &Arc<Pod>| pod.metadata.name.clone().unwrap_or_default();
    let victims = make_room(pod, others, &node()).map_err(|it| format!("{}: {}", it.reason, it.message))?;
    Ok(victims.iter().map(name).collect::<Vec<_>>().join(" "))
}

#[test]
fn as_few_go_as_there_have_to_and_of_the_lowest_class_first() {
    let loose = |name: &str| pod(name, 0, json!({}));
    let rows = [
        ("there is room", critical("1"), vec![burstable("a", "1", "1Mi")], Ok("")),
        ("one goes", critical("2"), vec![burstable("a", "1", "1Mi")], Ok("a")),
        (
            "the one that is nearest to what is wanted",
            critical("1"),
            vec![burstable("a", "100m", "1Mi"), burstable("b", "1900m", "1Mi")],
            Ok("b"),
        ),
        (
            "of those that are as near the smaller one",
            critical("1"),
            vec![burstable("a", "1", "2Mi"), burstable("b", "1", "1Mi")],
            Ok("b"),
        ),
        (
            "who asks for less than all stays when a lower class gives enough",
            critical("1"),
            vec![guaranteed("g", "1"), burstable("b", "1", "1Mi")],
            Ok("b"),
        ),
        (
            "a higher class only for what the lower ones cannot give",
            critical("2"),
            vec![guaranteed("g", "1"), burstable("b", "1", "1Mi"), loose("l")],
            Ok("b g"),
        ),
        (
            "the number of pods counts",
            critical("100m"),
            vec![loose("a"), burstable("b", "1m", "1Mi"), guaranteed("c", "1m"), guaranteed("d", "1m")],
            Ok("a"),
        ),
    ];
    for (what, pod, others, expected) in rows {
        assert_eq!(who(&pod, &others), expected.map(str::to_owned), "{what}");
    }
}

#[test]
fn nobody_goes_for_nothing() {
    let expected = "UnexpectedAdmissionError: Unexpected error while attempting to recover from admission failure: \
                    preemption: error finding a set of pods to preempt: no set of running pods found to reclaim \
                    resources: [(res: cpu, q: 1000), ]";
    let other = pod("other", 2_000_000_000, json!({"requests": {"cpu": "2"}}));
    assert_eq!(who(&critical("1"), std::slice::from_ref(&other)), Err(expected.to_owned()), "who is as critical stays");
    let higher = pod("higher", 2_000_001_000, json!({"requests": {"cpu": "1"}}));
    assert_eq!(who(&higher, &[other]), Ok("other".to_owned()));
    let mut own = Pod::clone(&burstable("own", "2", "1Mi"));
    own.metadata.annotations = Some([("coracle.dev/file".to_owned(), "/m/own.yaml".to_owned())].into());
    assert!(is_critical(&own), "a manifest's pods are");
    assert!(who(&critical("1"), &[Arc::new(own)]).is_err(), "and stay");
    let mut elsewhere = Pod::clone(&critical("2"));
    elsewhere.spec.as_mut().unwrap().node_selector = Some([("there".to_owned(), "no".to_owned())].into());
    let refused = who(&elsewhere, &[burstable("a", "1", "1Mi")]).unwrap_err();
    assert!(
        refused.starts_with("NodeAffinity: "),
        "whom the node does not take at all, nobody makes room for: {refused}"
    );
}
