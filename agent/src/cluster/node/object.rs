//! The Node object as the API server is to have it: what this node is, over what others have written there. Pure.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{DaemonEndpoint, Node, NodeCondition, NodeDaemonEndpoints, NodeSpec, NodeStatus};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};

use crate::cluster::NodeWish;

/// Volumes are mounted by controllers' leave, as kubelet has it by default.
const ATTACH: &str = "volumes.kubernetes.io/controller-managed-attach-detach";

/// Labels that are the node's own: what others make of them is undone when the node registers.
const DEFAULT_LABELS: [&str; 9] = [
    "kubernetes.io/hostname",
    "topology.kubernetes.io/zone",
    "topology.kubernetes.io/region",
    "node.kubernetes.io/instance-type",
    "kubernetes.io/os",
    "kubernetes.io/arch",
    "beta.kubernetes.io/os",
    "beta.kubernetes.io/arch",
    "beta.kubernetes.io/instance-type",
];

/// What is known of the node here, beside the object in the store.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Own<'a> {
    /// What the flags say.
    pub wish: NodeWish,
    /// Where kubelet's API is served.
    pub port: Option<u16>,
    /// Why no pod may come, where the whole node is about to end.
    pub ending: Option<&'a str>,
    /// The volumes that have to stay attached.
    pub in_use: Vec<String>,
}

/// The object to register: `mine` is the store's.
pub fn first(mine: &Node, own: &Own<'_>, now: Timestamp) -> Node {
    let node = Node {
        metadata: ObjectMeta {
            name: Some(own.wish.name.clone()),
            labels: Some(labels(mine, own)),
            annotations: Some([(ATTACH.to_owned(), "true".to_owned())].into()),
            ..ObjectMeta::default()
        },
        spec: Some(NodeSpec {
            provider_id: own.wish.provider_id.clone(),
            taints: Some(own.wish.taints.clone()).filter(|it| !it.is_empty()),
            ..NodeSpec::default()
        }),
        status: Some(NodeStatus::default()),
    };
    reported(mine, &node, own, now)
}

fn labels(mine: &Node, own: &Own<'_>) -> std::collections::BTreeMap<String, String> {
    let mut labels = mine.metadata.labels.clone().unwrap_or_default();
    for name in ["os", "arch"] {
        if let Some(value) = labels.get(&format!("kubernetes.io/{name}")).cloned() {
            labels.insert(format!("beta.kubernetes.io/{name}"), value);
        }
    }
    labels.extend(own.wish.labels.clone());
    labels
}

/// A node that is there already, as it is to be when this one takes it over: with the labels that are the node's own.
pub fn adopted(mine: &Node, theirs: &Node, own: &Own<'_>) -> Node {
    let mut node = theirs.clone();
    let given = labels(mine, own);
    let labels = node.metadata.labels.get_or_insert_default();
    labels.extend(given.into_iter().filter(|(key, _)| DEFAULT_LABELS.contains(&key.as_str())));
    node.metadata.annotations.get_or_insert_default().insert(ATTACH.to_owned(), "true".to_owned());
    node
}

/// What the API server is to be told: `mine` is the store's object, `theirs` the API server's.
pub fn reported(mine: &Node, theirs: &Node, own: &Own<'_>, now: Timestamp) -> Node {
    let mut node = theirs.clone();
    let labels = node.metadata.labels.get_or_insert_default();
    for name in ["kubernetes.io/os", "kubernetes.io/arch"] {
        if let Some(value) = mine.metadata.labels.as_ref().and_then(|it| it.get(name)) {
            labels.insert(name.to_owned(), value.clone());
        }
    }
    let status = node.status.get_or_insert_default();
    let Some(mine) = &mine.status else { return node };
    status.addresses.clone_from(&mine.addresses);
    status.node_info.clone_from(&mine.node_info);
    status.images.clone_from(&mine.images);
    status.runtime_handlers.clone_from(&mine.runtime_handlers);
    status.features.clone_from(&mine.features);
    status.volumes_in_use = Some(own.in_use.clone()).filter(|volumes| !volumes.is_empty());
    // Resources that are somebody else's stay.
    for (theirs, mine) in [(&mut status.capacity, &mine.capacity), (&mut status.allocatable, &mine.allocatable)] {
        let theirs = theirs.get_or_insert_default();
        theirs.retain(|name, _| name.contains('/') || mine.as_ref().is_some_and(|mine| mine.contains_key(name)));
        for (name, amount) in mine.iter().flatten() {
            // The API server writes some amounts in other words.
            if !theirs.get(name).is_some_and(|there| is_same(there, amount)) {
                theirs.insert(name.clone(), amount.clone());
            }
        }
    }
    status.daemon_endpoints =
        own.port.map(|port| NodeDaemonEndpoints { kubelet_endpoint: Some(DaemonEndpoint { port: port.into() }) });
    let conditions = status.conditions.get_or_insert_default();
    for condition in mine.conditions.iter().flatten() {
        let condition = ending(condition, own);
        put(conditions, condition, now);
    }
    node
}

/// A node that is about to end is not ready.
fn ending(condition: &NodeCondition, own: &Own<'_>) -> NodeCondition {
    let mut condition = condition.clone();
    if let (Some(why), "Ready") = (own.ending, condition.type_.as_str()) {
        condition.status = "False".into();
        condition.reason = Some("KubeletNotReady".into());
        condition.message = Some(why.to_owned());
    }
    condition
}

/// A condition in the place of the one of its type. It has been so since the API server knows of it.
fn put(conditions: &mut Vec<NodeCondition>, mut condition: NodeCondition, now: Timestamp) {
    let second = Timestamp::from_second(now.as_second()).unwrap_or(now);
    condition.last_heartbeat_time = Some(Time(second));
    match conditions.iter_mut().find(|it| it.type_ == condition.type_) {
        Some(there) => {
            let same = there.status == condition.status;
            condition.last_transition_time = if same { there.last_transition_time.clone() } else { Some(Time(second)) };
            *there = condition;
        }
        None => {
            condition.last_transition_time = Some(Time(second));
            conditions.push(condition);
        }
    }
}

fn is_same(one: &Quantity, other: &Quantity) -> bool {
    let parse = |it: &Quantity| it.0.parse::<manifests::quantity::Quantity>().ok().map(|it| it.nano());
    one == other || parse(one).is_some_and(|one| Some(one) == parse(other))
}

/// kubelet's words for what has become of conditions, and of whether pods may be scheduled.
pub fn transitions(before: &Node, after: &Node) -> Vec<&'static str> {
    let status = |node: &Node, type_: &str| {
        let conditions = node.status.iter().flat_map(|it| it.conditions.iter().flatten());
        conditions.into_iter().find(|it| it.type_ == type_).map(|it| it.status == "True")
    };
    let words = [
        ("MemoryPressure", "NodeHasInsufficientMemory", "NodeHasSufficientMemory"),
        ("DiskPressure", "NodeHasDiskPressure", "NodeHasNoDiskPressure"),
        ("PIDPressure", "NodeHasInsufficientPID", "NodeHasSufficientPID"),
        ("Ready", "NodeReady", "NodeNotReady"),
    ];
    let told = |(type_, is, is_not): (&str, &'static str, &'static str)| {
        let now = status(after, type_)?;
        (status(before, type_) != Some(now)).then_some(if now { is } else { is_not })
    };
    let mut all: Vec<_> = words.into_iter().filter_map(told).collect();
    let cordoned = |node: &Node| node.spec.as_ref().and_then(|it| it.unschedulable).unwrap_or(false);
    if cordoned(before) != cordoned(after) {
        all.push(if cordoned(after) { "NodeNotSchedulable" } else { "NodeSchedulable" });
    }
    all
}

/// The id of this boot, where the API server knows of another one.
pub fn rebooted<'a>(before: &Node, after: &'a Node) -> Option<&'a str> {
    fn boot(node: &Node) -> Option<&str> {
        Some(node.status.as_ref()?.node_info.as_ref()?.boot_id.as_str()).filter(|boot| !boot.is_empty())
    }
    let (before, after) = (boot(before)?, boot(after)?);
    (before != after).then_some(after)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn node(value: Value) -> Node {
        serde_json::from_value(value).unwrap()
    }

    fn mine() -> Node {
        node(json!({
            "metadata": {"name": "n", "uid": "n", "labels": {"kubernetes.io/os": "linux", "kubernetes.io/hostname": "n"}},
            "status": {
                "capacity": {"cpu": "2", "memory": "2048Mi"},
                "allocatable": {"cpu": "2"},
                "addresses": [{"type": "InternalIP", "address": "192.0.2.1"}],
                "nodeInfo": {"kubeletVersion": "v1", "architecture": "", "bootID": "", "containerRuntimeVersion": "",
                    "kernelVersion": "", "kubeProxyVersion": "", "machineID": "", "operatingSystem": "", "osImage": "",
                    "systemUUID": ""},
                "conditions": [
                    {"type": "DiskPressure", "status": "False", "lastTransitionTime": "2026-01-01T00:00:00Z"},
                    {"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}
                ]
            }
        }))
    }

    fn own() -> Own<'static> {
        let labels = [("a".to_owned(), "b".to_owned()), ("kubernetes.io/hostname".to_owned(), "m".to_owned())].into();
        Own {
            wish: NodeWish { name: "n".into(), labels, ..NodeWish::default() },
            port: Some(10250),
            ending: None,
            in_use: vec![],
        }
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn condition<'a>(node: &'a Node, type_: &str) -> &'a NodeCondition {
        node.status.as_ref().unwrap().conditions.as_ref().unwrap().iter().find(|it| it.type_ == type_).unwrap()
    }

    #[test]
    fn what_is_registered_has_the_labels_and_taints_that_were_asked_for() {
        let taint =
            k8s_openapi::api::core::v1::Taint { key: "t".into(), effect: "NoExecute".into(), ..Default::default() };
        let mut own = own();
        (own.wish.taints, own.wish.provider_id) = (vec![taint.clone()], Some("x://1".into()));
        let first = first(&mine(), &own, at("2026-01-02T00:00:00Z"));
        let labels = first.metadata.labels.as_ref().unwrap();
        assert_eq!((labels["a"].as_str(), labels["kubernetes.io/hostname"].as_str()), ("b", "m"));
        assert_eq!(labels["beta.kubernetes.io/os"], "linux");
        let spec = first.spec.as_ref().unwrap();
        assert_eq!((spec.taints.as_deref(), spec.provider_id.as_deref()), (Some(&[taint][..]), Some("x://1")));
        assert_eq!(first.metadata.uid, None, "that is the API server's to give");
        assert_eq!(condition(&first, "Ready").status, "True");
    }

    #[test]
    fn a_node_that_was_there_keeps_what_others_wrote() {
        let theirs = node(json!({
            "metadata": {"name": "n", "labels": {"kubernetes.io/hostname": "old", "a": "theirs", "c": "d"}},
            "spec": {"taints": [{"key": "k", "effect": "NoSchedule"}]}
        }));
        let adopted = adopted(&mine(), &theirs, &own());
        let labels = adopted.metadata.labels.as_ref().unwrap();
        assert_eq!((labels["a"].as_str(), labels["c"].as_str()), ("theirs", "d"));
        assert_eq!(labels["kubernetes.io/hostname"], "m", "which is the node's own");
        assert_eq!(adopted.spec, theirs.spec);
    }

    #[test]
    fn a_condition_has_been_so_since_the_api_server_knows_it() {
        let theirs = node(json!({"metadata": {"name": "n"}, "status": {
            "capacity": {"example.com/gpu": "1", "hugepages-2Mi": "4Mi", "memory": "2Gi"},
            "conditions": [
                {"type": "Ready", "status": "True", "lastTransitionTime": "2025-01-01T00:00:00Z"},
                {"type": "NetworkUnavailable", "status": "False", "lastTransitionTime": "2025-01-01T00:00:00Z"},
                {"type": "DiskPressure", "status": "True", "lastTransitionTime": "2025-01-01T00:00:00Z"}
            ]
        }}));
        let now = at("2026-01-02T00:00:00.5Z");
        let node = reported(&mine(), &theirs, &own(), now);
        let since = |type_| condition(&node, type_).last_transition_time.as_ref().unwrap().0;
        assert_eq!(since("Ready"), at("2025-01-01T00:00:00Z"));
        assert_eq!(since("NetworkUnavailable"), at("2025-01-01T00:00:00Z"), "which is another's");
        assert_eq!(since("DiskPressure"), at("2026-01-02T00:00:00Z"));
        let status = node.status.as_ref().unwrap();
        let capacity: Vec<_> = status.capacity.as_ref().unwrap().iter().map(|(k, v)| format!("{k}={}", v.0)).collect();
        assert_eq!(capacity, ["cpu=2", "example.com/gpu=1", "memory=2Gi"]);
        assert_eq!(status.daemon_endpoints.as_ref().unwrap().kubelet_endpoint.as_ref().unwrap().port, 10250);
        let again = reported(&mine(), &node, &own(), at("2026-01-02T01:00:00Z"));
        assert!(!super::super::patch::differ(&node, &again), "it is told once");
        assert_eq!(transitions(&theirs, &node), ["NodeHasNoDiskPressure"]);
    }

    #[test]
    fn a_node_that_ends_is_not_ready_and_says_why() {
        let own = Own { ending: Some("it ends"), ..own() };
        let node = reported(&mine(), &Node::default(), &own, at("2026-01-02T00:00:00Z"));
        let ready = condition(&node, "Ready");
        assert_eq!((ready.status.as_str(), ready.reason.as_deref()), ("False", Some("KubeletNotReady")));
        assert!(super::super::is_unready(&node, "it ends"));
        assert_eq!(condition(&node, "DiskPressure").status, "False");
    }

    #[test]
    fn volumes_that_are_in_use_are_told_until_they_are_not() {
        let own = Own { in_use: vec!["kubernetes.io/csi/d^h".into()], ..own() };
        let node = reported(&mine(), &Node::default(), &own, at("2026-01-02T00:00:00Z"));
        assert_eq!(node.status.as_ref().unwrap().volumes_in_use.as_deref(), Some(&own.in_use[..]));
        let after = reported(&mine(), &node, &super::tests::own(), at("2026-01-02T00:00:00Z"));
        let patch = super::super::patch::between(&node, &after).unwrap();
        assert_eq!(patch["status"]["volumesInUse"], serde_json::Value::Null);
        assert!(patch["status"].as_object().unwrap().contains_key("volumesInUse"));
    }

    #[test]
    fn a_boot_is_told_when_another_one_is_known() {
        let of = |boot: &str| {
            let mut node = mine();
            node.status.as_mut().unwrap().node_info.as_mut().unwrap().boot_id = boot.to_owned();
            node
        };
        let rows = [("", "b", None), ("a", "", None), ("b", "b", None), ("a", "b", Some("b"))];
        for (before, after, expected) in rows {
            assert_eq!(rebooted(&of(before), &of(after)), expected, "{before} {after}");
        }
    }

    #[test]
    fn what_becomes_of_a_node_has_kubelet_s_words() {
        let mut cordoned = mine();
        cordoned.spec = Some(NodeSpec { unschedulable: Some(true), ..NodeSpec::default() });
        assert_eq!(transitions(&mine(), &cordoned), ["NodeNotSchedulable"]);
        assert_eq!(transitions(&cordoned, &mine()), ["NodeSchedulable"]);
        assert_eq!(transitions(&Node::default(), &mine()), ["NodeHasNoDiskPressure", "NodeReady"]);
    }
}
