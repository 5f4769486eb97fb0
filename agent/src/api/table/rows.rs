//! The columns of each kind, by the rules of an API server.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, Node, PersistentVolumeClaim, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use serde_json::{Value, json};

use super::{AGE, Column, NAME, column, network, wide};
use crate::printer::Columns;
use crate::printer::human::since;
use crate::store::{Kind, Object};

pub(super) const NONE: &str = "<none>";
const UNKNOWN: &str = "<unknown>";
pub(super) const UNSET: &str = "<unset>";

/// The headings of a kind.
pub fn columns(kind: Kind) -> &'static [Column] {
    match kind {
        Kind::Pod => POD,
        Kind::Event => EVENT,
        Kind::Node => NODE,
        Kind::ConfigMap => CONFIG_MAP,
        Kind::Namespace => NAMESPACE,
        Kind::PersistentVolumeClaim => CLAIM,
        Kind::Service => network::SERVICE,
        Kind::EndpointSlice => network::SLICE,
        Kind::NetworkPolicy => network::POLICY,
        Kind::Link => network::LINK,
        Kind::Ambassador => network::AMBASSADOR,
        Kind::Network => network::NETWORK,
    }
}

/// One object's cells, as many as its kind has headings.
pub fn cells(object: &Object, now: Timestamp) -> Vec<Value> {
    let meta = object.metadata();
    let name = meta.name.clone().unwrap_or_default();
    let age = since(meta.creation_timestamp.as_ref().map(|it| it.0), now);
    match object {
        Object::Pod(object) => pod(object, now),
        Object::Event(object) => event(object, now),
        Object::Node(object) => node(object, age),
        Object::ConfigMap(object) => {
            let count =
                object.data.as_ref().map_or(0, |it| it.len()) + object.binary_data.as_ref().map_or(0, |it| it.len());
            vec![json!(name), json!(count), json!(age)]
        }
        Object::Namespace(object) => {
            let phase = object.status.as_ref().and_then(|status| status.phase.clone());
            vec![json!(name), json!(phase), json!(age)]
        }
        Object::PersistentVolumeClaim(object) => claim(object, age),
        Object::Service(object) => network::service(object, age),
        Object::EndpointSlice(object) => network::slice(object, age),
        Object::NetworkPolicy(object) => network::policy(object, age),
        Object::Link(object) => network::link(object, age),
        Object::Ambassador(object) => network::ambassador(object, age),
        Object::Network(object) => network::network(object, age),
    }
}

const POD: &[Column] = &[
    NAME,
    column("Ready", "How many containers are ready, of how many."),
    column("Status", "The most telling word about the containers."),
    column("Restarts", "How often containers were started again, and how long since the last time."),
    AGE,
    wide("IP", "The address of the pod."),
    wide("Node", "The node that it is on."),
    wide("Nominated Node", "The node that it waits for room on."),
    wide("Readiness Gates", "How many of its further conditions of readiness hold, of how many."),
];

fn pod(pod: &Pod, now: Timestamp) -> Vec<Value> {
    let columns = Columns::of(pod, now);
    let (spec, status) = (pod.spec.as_ref(), pod.status.as_ref());
    let text = |text: Option<&String>| json!(text.filter(|it| !it.is_empty()).map_or(NONE, String::as_str));
    vec![
        json!(pod.metadata.name),
        json!(columns.ready),
        json!(columns.status),
        json!(columns.restarts),
        json!(columns.age),
        text(status.and_then(|it| it.pod_ip.as_ref())),
        text(spec.and_then(|it| it.node_name.as_ref())),
        text(status.and_then(|it| it.nominated_node_name.as_ref())),
        json!(gates(pod)),
    ]
}

fn gates(pod: &Pod) -> String {
    let gates = pod.spec.as_ref().and_then(|spec| spec.readiness_gates.as_deref()).unwrap_or_default();
    if gates.is_empty() {
        return NONE.into();
    }
    let conditions = pod.status.as_ref().and_then(|it| it.conditions.as_deref()).unwrap_or_default();
    let holds = |kind: &str| conditions.iter().any(|it| it.type_ == kind && it.status == "True");
    let hold = gates.iter().filter(|gate| holds(&gate.condition_type)).count();
    format!("{hold}/{}", gates.len())
}

const EVENT: &[Column] = &[
    column("Last Seen", "The time since it happened last."),
    column("Type", "Normal or Warning."),
    column("Reason", "What happened, in a word."),
    column("Object", "What it happened to."),
    wide("Subobject", "The part of the object."),
    wide("Source", "Who tells it."),
    column("Message", "What happened."),
    wide("First Seen", "The time since it happened first."),
    Column { kind: "integer", ..wide("Count", "How often it happened.") },
    Column { priority: 1, ..NAME },
];

fn event(event: &Event, now: Timestamp) -> Vec<Value> {
    let about = &event.involved_object;
    let micro = |time: Option<&MicroTime>| time.map(|it| span(it.0, now));
    let first = event.first_timestamp.as_ref().map(|it| span(it.0, now));
    let first = first.or(micro(event.event_time.as_ref())).unwrap_or_else(|| UNKNOWN.into());
    let mut last = event.last_timestamp.as_ref().map_or_else(|| first.clone(), |it| span(it.0, now));
    let mut count = event.count.unwrap_or(1).max(1);
    if let Some(series) = &event.series {
        last = micro(series.last_observed_time.as_ref()).unwrap_or(last);
        count = series.count.unwrap_or(count);
    }
    let kind = about.kind.as_deref().unwrap_or_default().to_lowercase();
    let object = about.name.as_ref().filter(|it| !it.is_empty()).map_or(kind.clone(), |name| format!("{kind}/{name}"));
    let source = event.source.clone().unwrap_or_default();
    let source: Vec<String> = [source.component, source.host].into_iter().flatten().collect();
    vec![
        json!(last),
        json!(event.type_),
        json!(event.reason),
        json!(object),
        json!(about.field_path.as_deref().unwrap_or_default()),
        json!(source.join(", ")),
        json!(event.message.as_deref().unwrap_or_default().trim()),
        json!(first),
        json!(count),
        json!(event.metadata.name),
    ]
}

const NODE: &[Column] = &[
    NAME,
    column("Status", "Whether it is ready."),
    column("Roles", "What it is for."),
    AGE,
    column("Version", "The version of its agent."),
    wide("Internal-IP", "Its address."),
    wide("External-IP", "Its address from outside."),
    wide("OS-Image", "Its operating system."),
    wide("Kernel-Version", "Its kernel."),
    wide("Container-Runtime", "Its container runtime."),
];

fn node(node: &Node, age: String) -> Vec<Value> {
    let status = node.status.clone().unwrap_or_default();
    let ready = status.conditions.iter().flatten().find(|it| it.type_ == "Ready");
    let mut words = vec![match ready {
        Some(condition) if condition.status == "True" => "Ready",
        Some(_) => "NotReady",
        None => "Unknown",
    }];
    if node.spec.as_ref().and_then(|spec| spec.unschedulable) == Some(true) {
        words.push("SchedulingDisabled");
    }
    let address = |kind: &str| {
        let found = status.addresses.iter().flatten().find(|it| it.type_ == kind);
        json!(found.map_or(NONE, |it| it.address.as_str()))
    };
    let info = status.node_info.clone().unwrap_or_default();
    let known = |text: &str| json!(if text.is_empty() { UNKNOWN } else { text });
    let mut kernel = if info.kernel_version.is_empty() { UNKNOWN.to_owned() } else { info.kernel_version };
    if !info.architecture.is_empty() {
        kernel = format!("{kernel} ({})", info.architecture);
    }
    let labels = node.metadata.labels.iter().flatten();
    let mut roles: Vec<&str> = labels.filter_map(|(key, _)| key.strip_prefix("node-role.kubernetes.io/")).collect();
    roles.retain(|it| !it.is_empty());
    vec![
        json!(node.metadata.name),
        json!(words.join(",")),
        json!(if roles.is_empty() { NONE.into() } else { roles.join(",") }),
        json!(age),
        json!(info.kubelet_version),
        address("InternalIP"),
        address("ExternalIP"),
        known(&info.os_image),
        json!(kernel),
        known(&info.container_runtime_version),
    ]
}

const CONFIG_MAP: &[Column] = &[NAME, Column { kind: "integer", ..column("Data", "How many entries it has.") }, AGE];

const NAMESPACE: &[Column] = &[NAME, column("Status", "Whether it is in use."), AGE];

const CLAIM: &[Column] = &[
    NAME,
    column("Status", "Whether it has a volume."),
    column("Volume", "The volume."),
    column("Capacity", "The size of the volume."),
    column("Access Modes", "How it may be mounted."),
    column("StorageClass", "The class of storage that it asks for."),
    column("VolumeAttributesClass", "The class of attributes that it asks for."),
    AGE,
    wide("VolumeMode", "A file system or a block device."),
];

fn claim(claim: &PersistentVolumeClaim, age: String) -> Vec<Value> {
    let spec = claim.spec.clone().unwrap_or_default();
    let status = claim.status.clone().unwrap_or_default();
    let bound = spec.volume_name.as_ref().is_some_and(|it| !it.is_empty());
    let short = |mode: &String| match mode.as_str() {
        "ReadWriteOnce" => "RWO",
        "ReadOnlyMany" => "ROX",
        "ReadWriteMany" => "RWX",
        "ReadWriteOncePod" => "RWOP",
        _ => "",
    };
    let modes: Vec<&str> = status.access_modes.iter().flatten().map(short).filter(|_| bound).collect();
    let capacity = status.capacity.as_ref().and_then(|it| it.get("storage")).filter(|_| bound);
    let deleted = claim.metadata.deletion_timestamp.is_some().then(|| "Terminating".to_owned());
    vec![
        json!(claim.metadata.name),
        json!(deleted.or(status.phase).unwrap_or_default()),
        json!(spec.volume_name.unwrap_or_default()),
        json!(capacity.map_or("", |it| it.0.as_str())),
        json!(modes.join(",")),
        json!(spec.storage_class_name.unwrap_or_default()),
        json!(spec.volume_attributes_class_name.unwrap_or_else(|| UNSET.into())),
        json!(age),
        json!(spec.volume_mode.unwrap_or_else(|| UNSET.into())),
    ]
}

fn span(time: Timestamp, now: Timestamp) -> String {
    since(Some(time), now)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn row(object: Object) -> Vec<String> {
        let kind = object.kind();
        let cells = cells(&object, "2026-11-22T10:05:00Z".parse().unwrap());
        assert_eq!(cells.len(), columns(kind).len());
        cells.iter().map(|cell| cell.as_str().map_or_else(|| cell.to_string(), str::to_owned)).collect()
    }

    fn object<T: crate::store::Stored + serde::de::DeserializeOwned>(mut value: Value) -> Object {
        value["metadata"]["name"] = json!("x");
        value["metadata"]["creationTimestamp"] = json!("2026-11-22T10:00:00Z");
        T::wrap(Arc::new(serde_json::from_value(value).unwrap()))
    }

    #[test]
    fn rows_are_those_of_an_api_server() {
        let pod = row(object::<Pod>(json!({
            "spec": {"containers": [{"name": "a"}], "nodeName": "here", "readinessGates": [{"conditionType": "G"}]},
            "status": {"phase": "Pending", "conditions": [{"type": "G", "status": "True"}]}
        })));
        assert_eq!(pod, ["x", "0/1", "Pending", "0", "5m", NONE, "here", NONE, "1/1"]);
        let event = row(object::<Event>(json!({
            "involvedObject": {"kind": "Pod", "name": "p", "fieldPath": "spec.containers{a}"}, "type": "Normal",
            "reason": "Started", "message": "Container started\n", "source": {"component": "coracle", "host": "here"},
            "firstTimestamp": "2026-11-22T10:00:00Z", "lastTimestamp": "2026-11-22T10:04:00Z", "count": 3
        })));
        let expected =
            ["60s", "Normal", "Started", "pod/p", "spec.containers{a}", "coracle, here", "Container started"];
        assert_eq!(event[..7], expected);
        assert_eq!(event[7..], ["5m", "3", "x"]);
        let node = row(object::<Node>(json!({
            "spec": {"unschedulable": true},
            "status": {"conditions": [{"type": "Ready", "status": "False"}],
                       "addresses": [{"type": "InternalIP", "address": "10.0.0.1"}]}
        })));
        assert_eq!(
            node,
            ["x", "NotReady,SchedulingDisabled", NONE, "5m", "", "10.0.0.1", NONE, UNKNOWN, UNKNOWN, UNKNOWN]
        );
        let claim = row(object::<PersistentVolumeClaim>(json!({
            "spec": {"volumeName": "v", "volumeMode": "Filesystem"},
            "status": {"phase": "Bound", "accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}}
        })));
        assert_eq!(claim, ["x", "Bound", "v", "1Gi", "RWO", "", UNSET, "5m", "Filesystem"]);
        let service = row(object::<k8s_openapi::api::core::v1::Service>(json!({"spec": {
            "type": "ClusterIP", "clusterIP": "10.0.0.9", "clusterIPs": ["10.0.0.9", "fd00::9"],
            "ports": [{"port": 80, "protocol": "TCP"}, {"port": 53, "protocol": "UDP"}], "selector": {"a": "b", "c": "d"}
        }})));
        assert_eq!(service, ["x", "ClusterIP", "10.0.0.9", NONE, "80/TCP,53/UDP", "5m", "a=b,c=d"]);
        let slice = row(object::<k8s_openapi::api::discovery::v1::EndpointSlice>(json!({
            "addressType": "IPv4", "ports": [{"port": 80}, {"port": 53}],
            "endpoints": (1..6).map(|it| json!({"addresses": [format!("10.0.0.{it}")]})).collect::<Vec<_>>()
        })));
        assert_eq!(slice, ["x", "IPv4", "80,53", "10.0.0.1,10.0.0.2,10.0.0.3 + 2 more...", "5m"]);
        let policy = row(object::<k8s_openapi::api::networking::v1::NetworkPolicy>(json!({"spec": {
            "podSelector": {"matchLabels": {"a": "b"}, "matchExpressions": [
                {"key": "c", "operator": "In", "values": ["e", "d"]}, {"key": "f", "operator": "DoesNotExist"}]}
        }})));
        assert_eq!(policy, ["x", "a=b,c in (d,e),!f", "5m"]);
        let map = row(object::<k8s_openapi::api::core::v1::ConfigMap>(json!({"data": {"a": "", "b": ""}})));
        assert_eq!(map, ["x", "2", "5m"]);
    }
}
