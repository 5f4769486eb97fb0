#![allow(clippy::unwrap_used)]
use super::super::rank::Disk;
use super::super::threshold::{Signal, Threshold};
use super::*;
use manifests::kubelet::Amount;
use serde_json::json;

fn met(signal: Signal, quantity: u64, available: u64) -> Met {
    let threshold = Threshold { signal, value: Amount::Quantity(0), grace: Default::default(), reclaim: None };
    Met { threshold, quantity, available }
}

fn pod() -> Pod {
    let asks = json!({"requests": {"memory": "100Mi", "ephemeral-storage": "1Gi"}});
    let containers = json!([{"name": "big"}, {"name": "small", "resources": asks}]);
    serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": {"containers": containers}})).unwrap()
}

fn usage() -> PodUsage {
    let of = |memory: u64, layer: u64, logs: u64| {
        let disk = |bytes| Disk { bytes, inodes: 7 };
        ContainerUsage { memory, layer: disk(layer), logs: disk(logs) }
    };
    let containers = [("big", of(64 << 20, 3 << 20, 1 << 20)), ("small", of(100 << 20, 0, 0))];
    PodUsage { containers: containers.map(|(name, used)| (name.to_owned(), used)).into(), ..PodUsage::default() }
}

#[test]
fn messages_are_kubelets() {
    for (met, expected) in [
        (
            met(Signal::MemoryAvailable, 100 << 20, 97_656 << 10),
            "The node was low on resource: memory. Threshold quantity: 100Mi, available: 97656Ki. Container big was \
             using 64Mi, request is 0, has larger consumption of memory. ",
        ),
        (
            met(Signal::NodefsAvailable, 10 << 30, 1),
            "The node was low on resource: ephemeral-storage. Threshold quantity: 10Gi, available: 1. Container big \
             was using 4Mi, request is 0, has larger consumption of ephemeral-storage. ",
        ),
        (
            met(Signal::ImagefsInodesFree, 50_000, 1234),
            "The node was low on resource: inodes. Threshold quantity: 50k, available: 1234. ",
        ),
    ] {
        assert_eq!(of(&met, &pod(), Some(&usage())), expected);
    }
    let unknown = of(&met(Signal::PidAvailable, 1000, 0), &pod(), None);
    assert_eq!(unknown, "The node was low on resource: pids. Threshold quantity: 1k, available: 0. ");
}

#[test]
fn what_the_pod_asks_for_itself_is_told() {
    let mut pod = pod();
    let own = json!({"requests": {"memory": "150Mi"}});
    pod.spec.as_mut().unwrap().resources = serde_json::from_value(own).unwrap();
    let message = of(&met(Signal::MemoryAvailable, 1, 0), &pod, Some(&usage()));
    assert!(
        message.contains("Pod p was using 164Mi, request is 150Mi, has larger consumption of memory. "),
        "{message}"
    );
}

#[test]
fn quantities_are_exact() {
    for (bytes, text) in [(0, "0"), (1023, "1023"), (1024, "1Ki"), (3 << 30, "3Gi"), ((3 << 30) + 1024, "3145729Ki")] {
        assert_eq!(binary(bytes), text);
    }
}
