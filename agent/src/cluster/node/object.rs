//! The Node object as the API server is to have it: what this node is, over what others have written there. Pure.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{DaemonEndpoint, Node, NodeCondition, NodeDaemonEndpoints, NodeSpec, NodeStatus};
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
    // Resources that are somebody else's stay.
    for (theirs, mine) in [(&mut status.capacity, &mine.capacity), (&mut status.allocatable, &mine.allocatable)] {
        let theirs = theirs.get_or_insert_default();
        theirs.retain(|name, _| name.contains('/') || mine.as_ref().is_some_and(|mine| mine.contains_key(name)));
        theirs.extend(mine.clone().unwrap_or_default());
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
