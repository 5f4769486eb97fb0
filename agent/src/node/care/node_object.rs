//! The Node object: what the node is, what it has, and how it is.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use cri_proto::cri;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    ContainerImage, Node, NodeAddress, NodeCondition, NodeSpec, NodeStatus, NodeSystemInfo,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use manifests::kubelet::Config;

use super::allocatable::Capacity;
use super::system::Abilities;
use super::threshold::Condition;
use crate::devices::Count;

#[cfg(test)]
mod tests;

/// How often the time in a condition is brought up to date although nothing has changed.
const HEARTBEAT: Duration = Duration::from_secs(300);

/// The names of one image that are told.
const NAMES: usize = 5;

/// What the object is made of.
#[derive(Clone, Debug)]
pub struct Facts<'a> {
    /// What there is.
    pub capacity: &'a Capacity,
    /// How much of it is given away.
    pub config: &'a Config,
    /// Kernel, machine, runtime.
    pub system: &'a NodeSystemInfo,
    /// What the runtime can do.
    pub abilities: &'a Abilities,
    /// What runs short.
    pub pressures: &'a BTreeSet<Condition>,
    /// Why no pod can run, where that is so.
    pub unready: Option<String>,
    /// The images that are here.
    pub images: &'a [cri::Image],
    /// The devices that plug-ins bring, by resource.
    pub devices: BTreeMap<String, Count>,
}

/// The object as it is now. What has not changed since `before` keeps its times.
pub fn node(facts: &Facts<'_>, before: Option<&Node>, now: Timestamp) -> Node {
    let name = &facts.capacity.node.name;
    let now = Timestamp::from_second(now.as_second()).unwrap_or(now);
    let labels = [
        ("kubernetes.io/hostname", name.as_str()),
        ("kubernetes.io/os", &facts.system.operating_system),
        ("kubernetes.io/arch", &facts.system.architecture),
    ];
    let labels: BTreeMap<String, String> = labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
    let mut node = Node {
        metadata: ObjectMeta {
            name: Some(name.clone()),
            // As kubelet refers to its node in events.
            uid: Some(name.clone()),
            labels: Some(labels),
            creation_timestamp: before.map_or(Some(Time(now)), |it| it.metadata.creation_timestamp.clone()),
            resource_version: before.and_then(|it| it.metadata.resource_version.clone()),
            ..ObjectMeta::default()
        },
        spec: Some(NodeSpec::default()),
        status: Some(status(facts)),
    };
    let known = before.and_then(|it| it.status.as_ref()?.conditions.as_ref());
    if let Some(conditions) = node.status.as_mut().and_then(|status| status.conditions.as_mut()) {
        for condition in conditions.iter_mut() {
            let known = known.and_then(|known| known.iter().find(|it| it.type_ == condition.type_));
            let same = known.filter(|known| known.status == condition.status);
            condition.last_transition_time = same.map_or(Some(Time(now)), |it| it.last_transition_time.clone());
            condition.last_heartbeat_time = known.and_then(|known| known.last_heartbeat_time.clone());
        }
    }
    let due = beat(before).is_none_or(|last| now.duration_since(last).unsigned_abs() >= HEARTBEAT);
    if due || before != Some(&node) {
        for condition in node.status.iter_mut().flat_map(|status| status.conditions.iter_mut().flatten()) {
            condition.last_heartbeat_time = Some(Time(now));
        }
    }
    node
}

fn beat(node: Option<&Node>) -> Option<Timestamp> {
    let conditions = node?.status.as_ref()?.conditions.as_ref()?;
    conditions.first()?.last_heartbeat_time.as_ref().map(|time| time.0)
}

fn status(facts: &Facts<'_>) -> NodeStatus {
    let node = &facts.capacity.node;
    let address = |type_: &str, address: &String| NodeAddress { type_: type_.to_owned(), address: address.clone() };
    let mut addresses: Vec<NodeAddress> = node.ips.iter().map(|ip| address("InternalIP", ip)).collect();
    addresses.push(address("Hostname", &node.name));
    NodeStatus {
        addresses: Some(addresses),
        capacity: Some(with(facts.capacity.quantities(facts.config), facts, |count| count.capacity)),
        allocatable: Some(with(facts.capacity.allocatable(facts.config), facts, |count| count.allocatable)),
        conditions: Some(conditions(facts)),
        node_info: Some(facts.system.clone()),
        images: Some(images(facts.images, facts.config.node_status_max_images)),
        runtime_handlers: facts.abilities.handlers.clone(),
        features: facts.abilities.features.clone(),
        ..NodeStatus::default()
    }
}

/// With the devices that plug-ins bring.
fn with(
    mut list: BTreeMap<String, Quantity>,
    facts: &Facts<'_>,
    of: impl Fn(&Count) -> usize,
) -> BTreeMap<String, Quantity> {
    list.extend(facts.devices.iter().map(|(name, count)| (name.clone(), Quantity(of(count).to_string()))));
    list
}

/// In kubelet's order and words.
fn conditions(facts: &Facts<'_>) -> Vec<NodeCondition> {
    let pressure = |condition: Condition, bad: (&str, &str), good: (&str, &str)| {
        let is = facts.pressures.contains(&condition);
        let (reason, message) = if is { bad } else { good };
        make(condition.as_str(), is, reason, message)
    };
    let mut conditions = vec![
        pressure(
            Condition::Memory,
            ("KubeletHasInsufficientMemory", "kubelet has insufficient memory available"),
            ("KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
        ),
        pressure(
            Condition::Disk,
            ("KubeletHasDiskPressure", "kubelet has disk pressure"),
            ("KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
        ),
        pressure(
            Condition::Pid,
            ("KubeletHasInsufficientPID", "kubelet has insufficient PID available"),
            ("KubeletHasSufficientPID", "kubelet has sufficient PID available"),
        ),
    ];
    conditions.push(match &facts.unready {
        None => make("Ready", true, "KubeletReady", "kubelet is posting ready status"),
        Some(why) => make("Ready", false, "KubeletNotReady", why),
    });
    conditions
}

fn make(type_: &str, is: bool, reason: &str, message: &str) -> NodeCondition {
    NodeCondition {
        type_: type_.to_owned(),
        status: if is { "True" } else { "False" }.to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        ..NodeCondition::default()
    }
}

/// The largest images; digests before tags, as kubelet names them.
fn images(images: &[cri::Image], most: Option<usize>) -> Vec<ContainerImage> {
    let mut shown: Vec<&cri::Image> = images.iter().collect();
    shown.sort_by(|one, other| other.size.cmp(&one.size).then_with(|| one.id.cmp(&other.id)));
    shown.truncate(most.unwrap_or(usize::MAX));
    let show = |image: &cri::Image| ContainerImage {
        names: Some(image.repo_digests.iter().chain(&image.repo_tags).take(NAMES).cloned().collect()),
        size_bytes: i64::try_from(image.size).ok(),
    };
    shown.into_iter().map(show).collect()
}
