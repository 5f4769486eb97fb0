#![allow(clippy::unwrap_used)]
use super::super::rank::Disk;
use super::super::usage::ContainerUsage;
use super::*;
use serde_json::{Value, json};

const MI: u64 = 1 << 20;

fn pod(containers: &[Option<&str>], volumes: Value) -> Pod {
    let container = |(index, limit): (usize, &Option<&str>)| match limit {
        Some(limit) => json!({"name": format!("c{index}"), "resources": {"limits": {"ephemeral-storage": limit}}}),
        None => json!({"name": format!("c{index}")}),
    };
    let containers: Vec<Value> = containers.iter().enumerate().map(container).collect();
    serde_json::from_value(json!({"spec": {"containers": containers, "volumes": volumes}})).unwrap()
}

/// MiB of layers and logs by container, and of volumes by name.
fn usage(containers: &[(u64, u64)], volumes: &[(&str, u64)]) -> PodUsage {
    let disk = |mi: u64| Disk { bytes: mi * MI, inodes: 1 };
    let containers = containers.iter().enumerate().map(|(index, (layer, logs))| {
        (format!("c{index}"), ContainerUsage { memory: 0, layer: disk(*layer), logs: disk(*logs) })
    });
    let volumes = volumes.iter().map(|(name, mi)| ((*name).to_owned(), disk(*mi)));
    PodUsage { cgroup: None, containers: containers.collect(), volumes: volumes.collect() }
}

fn empty_dir(limit: &str) -> Value {
    json!([{"name": "v", "emptyDir": {"sizeLimit": limit}}])
}

#[test]
fn what_is_over_its_limit_is_told_in_kubelets_words() {
    let none = json!([]);
    let pod_limit = "Pod ephemeral local storage usage exceeds the total limit of containers 30Mi. ";
    for (why, pod, usage, apart, expected) in [
        (
            "a volume",
            pod(&[None], empty_dir("10Mi")),
            usage(&[(0, 0)], &[("v", 11)]),
            false,
            Some("Usage of EmptyDir volume \"v\" exceeds the limit \"10Mi\". "),
        ),
        ("a volume at its limit", pod(&[None], empty_dir("10Mi")), usage(&[(0, 0)], &[("v", 10)]), false, None),
        ("no limit at all", pod(&[None], none.clone()), usage(&[(900, 900)], &[]), false, None),
        ("a limit of nothing is none", pod(&[None], empty_dir("0")), usage(&[(0, 0)], &[("v", 10)]), false, None),
        (
            "layers and logs of a container",
            pod(&[Some("10Mi"), Some("50Mi")], none.clone()),
            usage(&[(6, 5), (0, 0)], &[]),
            false,
            Some("Container c0 exceeded its local ephemeral storage limit \"10Mi\". "),
        ),
        (
            "layers elsewhere do not count for a container",
            pod(&[Some("10Mi"), Some("50Mi")], none.clone()),
            usage(&[(6, 5), (0, 0)], &[]),
            true,
            None,
        ),
        (
            "logs do",
            pod(&[Some("10Mi"), Some("50Mi")], none.clone()),
            usage(&[(0, 11), (0, 0)], &[]),
            true,
            Some("Container c0 exceeded its local ephemeral storage limit \"10Mi\". "),
        ),
        (
            "volumes count for the pod",
            pod(&[Some("10Mi"), Some("20Mi")], json!([{"name": "v", "emptyDir": {}}])),
            usage(&[(1, 1), (0, 0)], &[("v", 29)]),
            false,
            Some(pod_limit),
        ),
        (
            "a container without a limit counts for the pod",
            pod(&[Some("30Mi"), None], none.clone()),
            usage(&[(1, 0), (30, 0)], &[]),
            false,
            Some(pod_limit),
        ),
    ] {
        assert_eq!(exceeded(&pod, &usage, apart).map(|(_, why)| why).as_deref(), expected, "{why}");
    }
}

#[test]
fn only_pods_with_limits_are_measured() {
    assert!(!has_any(&pod(&[None], json!([{"name": "v", "emptyDir": {}}]))));
    assert!(has_any(&pod(&[None], empty_dir("1Mi"))));
    assert!(has_any(&pod(&[None, Some("1Gi")], json!([]))));
    let memory = json!([{"name": "v", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}}]);
    assert!(!has_any(&pod(&[None], memory)));
}
