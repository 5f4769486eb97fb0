#![allow(clippy::unwrap_used)]
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, Pod};
use serde_json::{Value, json};

use super::{Bound, Step, mirror, mirrored, steps};

fn own(name: &str, uid: &str, image: &str) -> Arc<Pod> {
    let pod = json!({
        "metadata": {"name": name, "namespace": "default", "uid": uid, "annotations": {"coracle.dev/file": "/m/a.yaml"}},
        "spec": {
            "containers": [{
                "name": "c",
                "image": image,
                "env": [
                    {"name": "A", "value": "1"},
                    {"name": "B", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
                ],
                "envFrom": [{"configMapRef": {"name": "m"}}],
            }],
            "imagePullSecrets": [{"name": "s"}],
            "volumes": [{"name": "v", "secret": {"secretName": "s"}}, {"name": "h", "hostPath": {"path": "/h"}}],
        },
    });
    Arc::new(serde_json::from_value(pod).unwrap())
}

fn node() -> Node {
    serde_json::from_value(json!({"metadata": {"name": "n-1", "uid": "node-uid"}})).unwrap()
}

/// As the server has it once it was made.
fn made(pod: &Pod, uid: &str) -> Arc<Pod> {
    let mut pod = pod.clone();
    pod.metadata.uid = Some(uid.into());
    Arc::new(pod)
}

fn words(steps: &[Step]) -> Vec<String> {
    let word = |step: &Step| match step {
        Step::Create(pod) => format!("create {}", pod.metadata.name.clone().unwrap()),
        Step::Delete(key) => format!("delete {} {}", key.name, key.uid),
    };
    steps.iter().map(word).collect()
}

#[test]
fn a_mirror_says_whose_it_is_and_refers_to_nothing() {
    let pod = mirror(&own("web", "u-1", "i:1"), &node());
    assert_eq!(mirrored(&pod), Some("u-1"));
    let shown: Value = serde_json::to_value(&pod).unwrap();
    assert_eq!(shown["metadata"]["name"], "web-n-1");
    assert_eq!(shown["metadata"]["annotations"]["kubernetes.io/config.source"], "file");
    let owner = json!([{"apiVersion": "v1", "kind": "Node", "name": "n-1", "uid": "node-uid", "controller": true}]);
    assert_eq!(shown["metadata"]["ownerReferences"], owner);
    assert_eq!(shown["spec"]["nodeName"], "n-1");
    assert_eq!(shown["spec"]["tolerations"], json!([{"operator": "Exists", "effect": "NoExecute"}]));
    assert_eq!(shown["spec"]["containers"][0]["env"], json!([{"name": "A", "value": "1"}]));
    let text = shown.to_string();
    for reference in ["secret", "envFrom", "imagePullSecrets"] {
        assert!(!text.contains(reference), "{reference} in {text}");
    }
    assert!(text.contains("hostPath"));
}

#[test]
fn mirrors_are_made_replaced_and_removed() {
    let (one, other) = (own("web", "u-1", "i:1"), own("web", "u-1", "i:2"));
    let wanted: Bound = [("u-1".to_owned(), one.clone())].into();
    let there = made(&mirror(&one, &node()), "m-1");
    let changed = made(&mirror(&other, &node()), "m-2");
    let stranger = made(&mirror(&own("old", "u-9", "i"), &node()), "m-9");
    let mut leaving = Pod::clone(&there);
    leaving.metadata.deletion_timestamp = serde_json::from_value(json!("2026-01-01T00:00:00Z")).unwrap();
    let rows: [(Vec<Arc<Pod>>, &[&str]); 5] = [
        (vec![], &["create web-n-1"]),
        (vec![there.clone()], &[]),
        (vec![changed], &["delete web-n-1 m-2", "create web-n-1"]),
        (vec![Arc::new(leaving)], &["delete web-n-1 m-1", "create web-n-1"]),
        (vec![there, stranger], &["delete old-n-1 m-9"]),
    ];
    for (there, expected) in rows {
        assert_eq!(words(&steps(&wanted, &there, &node())), expected);
    }
}
