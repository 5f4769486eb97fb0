//! What may stay as it is when a pod's definition changes.
//!
//! Each sandbox and container carries a hash of the fields that it was made from, as an annotation. The fields are
//! listed here one by one, so that a field that Kubernetes adds, or one that has no part in how a process runs, restarts
//! nothing; and the hash has a version, so that another agent's way to count restarts nothing either.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use serde_json::{Map, Value, json};

use super::config::quantity::milli;
use super::config::resources::Qos;
use super::plan::{init_of, is_sidecar, spec_of};

/// Annotation: the hash of what a sandbox or container was made from.
pub const DEFINITION: &str = "coracle.dev/definition-hash";
/// Annotation: the resources that a container was made with.
pub const RESOURCES: &str = "coracle.dev/resources";
/// Annotation: the hash of the ConfigMaps and Secrets that a container was made with, where it follows them.
pub const OBJECTS: &str = "coracle.dev/objects-hash";

/// How hashes are made; another number is no ground for a restart.
const VERSION: &str = "1";

/// Fields that mean nothing when they are false.
const FALSE_IS_UNSET: [&str; 12] = [
    "hostIPC",
    "hostNetwork",
    "hostPID",
    "optional",
    "privileged",
    "readOnly",
    "readOnlyRootFilesystem",
    "setHostnameAsFQDN",
    "shareProcessNamespace",
    "stdin",
    "stdinOnce",
    "tty",
];

/// What follows a change of the definition that it was made from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Follows {
    /// Everything, whether it runs or has ended: a manifest says what there shall be.
    #[default]
    All,
    /// What runs, but for init containers: so kubelet does with an API server's pod, in which nothing but images changes.
    Running,
}

/// What a pod's sandbox and containers are made from, as hashes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Definition {
    /// What is made anew when it changes.
    pub follows: Follows,
    /// Of the sandbox.
    pub sandbox: String,
    /// Of the containers, by name.
    pub containers: BTreeMap<String, ContainerDefinition>,
}

/// What one container is made from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ContainerDefinition {
    /// Everything that only a new container can have otherwise.
    pub hash: String,
}

impl Definition {
    /// The definition of a pod.
    pub fn of(pod: &Pod) -> Self {
        let spec = spec_of(pod);
        let containers = init_of(spec).iter().chain(&spec.containers).map(|container| {
            let hash = hash(&container_fields(spec, container));
            (container.name.clone(), ContainerDefinition { hash })
        });
        let (follows, sandbox) = (Follows::default(), hash(&sandbox_fields(pod)));
        Definition { follows, sandbox, containers: containers.collect() }
    }
}

/// Whether what carries `annotation` was made from something else than `wanted`. What says nothing, or in another
/// version, is taken for unchanged.
pub fn differs(annotation: Option<&str>, wanted: &str) -> bool {
    let version = |text: &str| text.split_once(':').map(|(version, _)| version.to_owned());
    annotation.is_some_and(|found| found != wanted && version(found) == version(wanted))
}

fn hash(value: &Value) -> String {
    let text = normal(value.clone(), "").map(|value| value.to_string()).unwrap_or_default();
    hash_bytes(&[text.as_bytes()])
}

/// The hash of some bytes, in this version; where one part ends and the next begins counts.
pub fn hash_bytes(parts: &[&[u8]]) -> String {
    // FNV-1a: it is the same everywhere and for ever.
    let add = |sum: u64, byte: u8| (sum ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    let sum = parts.iter().fold(0xcbf2_9ce4_8422_2325_u64, |sum, part| {
        let sum = (part.len() as u64).to_le_bytes().into_iter().fold(sum, add);
        part.iter().copied().fold(sum, add)
    });
    format!("{VERSION}:{sum:016x}")
}

/// The value without what says nothing; keys are in order, for `serde_json`'s maps are sorted.
fn normal(value: Value, key: &str) -> Option<Value> {
    match value {
        Value::Null => None,
        Value::Bool(false) if FALSE_IS_UNSET.contains(&key) => None,
        Value::String(text) if text.is_empty() && key != "value" => None,
        Value::Array(items) => {
            let items: Vec<Value> = items.into_iter().filter_map(|item| normal(item, "")).collect();
            (!items.is_empty()).then_some(Value::Array(items))
        }
        Value::Object(fields) => {
            let fields = fields.into_iter().filter_map(|(key, value)| {
                let value = normal(value, &key)?;
                Some((key, value))
            });
            // A volume or a probe handler may be all in its name: `emptyDir: {}`.
            Some(Value::Object(fields.collect()))
        }
        other => Some(other),
    }
}

fn sandbox_fields(pod: &Pod) -> Value {
    let spec = spec_of(pod);
    let sidecars = init_of(spec).iter().filter(|container| is_sidecar(container));
    let ports: Vec<_> = spec
        .containers
        .iter()
        .chain(sidecars)
        .flat_map(|container| container.ports.iter().flatten())
        .filter(|port| port.host_port.is_some_and(|port| port > 0))
        .map(|port| json!([port.host_ip, port.host_port, port.container_port, port.protocol]))
        .collect();
    let annotation = |key: &str| pod.metadata.annotations.as_ref().and_then(|annotations| annotations.get(key));
    json!({
        "bandwidth": manifests::annotations::BANDWIDTH.map(annotation),
        "dnsConfig": spec.dns_config,
        "dnsPolicy": spec.dns_policy,
        "hostIPC": spec.host_ipc,
        "hostNetwork": spec.host_network,
        "hostPID": spec.host_pid,
        "hostUsers": spec.host_users,
        "hostname": spec.hostname,
        "hostnameOverride": spec.hostname_override,
        "network": annotation(manifests::annotations::NETWORK),
        "hostPorts": ports,
        // The pod's cgroup lies below that of its class.
        "qosClass": Qos::of(spec).as_str(),
        "runtimeClassName": spec.runtime_class_name,
        "securityContext": spec.security_context,
        "setHostnameAsFQDN": spec.set_hostname_as_fqdn,
        "shareProcessNamespace": spec.share_process_namespace,
        "subdomain": spec.subdomain,
    })
}

fn container_fields(spec: &PodSpec, container: &Container) -> Value {
    let mounts = container.volume_mounts.iter().flatten().map(|mount| mount.name.as_str());
    let devices = container.volume_devices.iter().flatten().map(|device| device.name.as_str());
    let used: BTreeSet<&str> = mounts.chain(devices).collect();
    let volumes: Vec<_> = spec.volumes.iter().flatten().filter(|volume| used.contains(volume.name.as_str())).collect();
    json!({
        "args": container.args,
        "command": container.command,
        "env": container.env,
        "envFrom": container.env_from,
        "image": container.image,
        "securityContext": container.security_context,
        "stdin": container.stdin,
        "stdinOnce": container.stdin_once,
        "stopSignal": container.lifecycle.as_ref().and_then(|lifecycle| lifecycle.stop_signal.as_ref()),
        "terminationMessagePath": container.termination_message_path,
        "tty": container.tty,
        "volumeDevices": container.volume_devices,
        "volumeMounts": container.volume_mounts,
        "volumes": volumes,
        "workingDir": container.working_dir,
    })
}

/// What a change of a pod's definition does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Effect {
    /// Nothing is restarted.
    Kept,
    /// A running container gets other resources.
    Resized,
    /// A container that is no longer wanted stops.
    Stopped,
    /// A container is new.
    Started,
    /// A container is restarted.
    Restarted,
    /// An init container runs again, and everything that comes after it.
    Initialized,
    /// Everything stops and begins again in a new sandbox, its init containers first.
    Replaced,
}

/// One change, and what it does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// What it does.
    pub effect: Effect,
    /// To which container; the whole pod when none.
    pub container: Option<String>,
    /// The fields that differ: `image`, `env`, `metadata.labels` …
    pub fields: Vec<String>,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.container.as_deref().unwrap_or_default();
        match self.effect {
            Effect::Kept => write!(f, "nothing restarts")?,
            Effect::Resized => write!(f, "container {name} gets other resources while it runs")?,
            Effect::Stopped => write!(f, "container {name} stops")?,
            Effect::Started => write!(f, "container {name} starts")?,
            Effect::Restarted => write!(f, "container {name} restarts")?,
            Effect::Initialized => write!(f, "init container {name} runs again, then all that comes after it")?,
            Effect::Replaced => write!(f, "the pod restarts in a new sandbox")?,
        }
        if self.fields.is_empty() { Ok(()) } else { write!(f, " ({})", self.fields.join(", ")) }
    }
}

/// What becomes of a pod whose definition `old` is replaced with `new`; nothing when they are the same.
pub fn preview(old: &Pod, new: &Pod) -> Vec<Change> {
    let (before, after) = (spec_of(old), spec_of(new));
    let fields = differing(&sandbox_fields(old), &sandbox_fields(new));
    let replaced = !fields.is_empty();
    let mut changes = Vec::new();
    if replaced {
        changes.push(Change { effect: Effect::Replaced, container: None, fields });
    }
    let mut kept = rest(old, new);
    for container in init_of(after).iter().chain(&after.containers) {
        let is_init = init_of(after).iter().any(|init| init.name == container.name);
        let known = init_of(before).iter().chain(&before.containers).find(|known| known.name == container.name);
        let mut note = |effect, fields| {
            changes.push(Change { effect, container: Some(container.name.clone()), fields });
        };
        let Some(known) = known else {
            note(Effect::Started, vec![]);
            continue;
        };
        let fields = differing(&container_fields(before, known), &container_fields(after, container));
        let restarts = !fields.is_empty();
        if restarts {
            let init = is_init && !is_sidecar(container);
            note(if init { Effect::Initialized } else { Effect::Restarted }, fields);
        }
        let resize = Resize::between(known.resources.as_ref(), container);
        if resize != Resize::None && !restarts && !replaced {
            let effect = if resize == Resize::Restart { Effect::Restarted } else { Effect::Resized };
            note(effect, vec!["resources".into()]);
        }
        kept.extend(unlisted(known, container));
    }
    for known in init_of(before).iter().chain(&before.containers) {
        if !init_of(after).iter().chain(&after.containers).any(|container| container.name == known.name) {
            changes.push(Change { effect: Effect::Stopped, container: Some(known.name.clone()), fields: vec![] });
        }
    }
    if !kept.is_empty() {
        changes.push(Change { effect: Effect::Kept, container: None, fields: kept });
    }
    changes.sort_by_key(|change| std::cmp::Reverse(change.effect));
    changes
}

/// What it takes to give a container other resources.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resize {
    /// It has them.
    None,
    /// It gets them while it runs.
    InPlace,
    /// It gets them with its next start.
    Restart,
}

impl Resize {
    /// From the resources that it `has` to those that it shall have.
    pub fn between(has: Option<&ResourceRequirements>, container: &Container) -> Resize {
        let (empty, none) = (ResourceRequirements::default(), ResourceRequirements::default());
        let (has, wanted) = (has.unwrap_or(&empty), container.resources.as_ref().unwrap_or(&none));
        let differs = |resource: &str| {
            let amount = |list: &Option<BTreeMap<String, Quantity>>| {
                list.as_ref().and_then(|list| list.get(resource)).map(|amount| milli(amount).unwrap_or(i64::MAX))
            };
            (amount(&has.requests), amount(&has.limits)) != (amount(&wanted.requests), amount(&wanted.limits))
        };
        let lists = [&has.requests, &has.limits, &wanted.requests, &wanted.limits];
        let changed: BTreeSet<&String> =
            lists.into_iter().flatten().flat_map(BTreeMap::keys).filter(|resource| differs(resource)).collect();
        if changed.is_empty() {
            return Resize::None;
        }
        let restarts = |resource: &str| {
            let policies = container.resize_policy.iter().flatten();
            policies
                .into_iter()
                .any(|policy| policy.resource_name == resource && policy.restart_policy == "RestartContainer")
        };
        // Limits are lifted, and huge pages counted, from the start on.
        let lifted = |resource: &str| {
            let limited =
                |list: &ResourceRequirements| list.limits.as_ref().is_some_and(|it| it.contains_key(resource));
            limited(has) && !limited(wanted)
        };
        let in_place = |resource: &str| matches!(resource, "cpu" | "memory" | "ephemeral-storage");
        match changed.iter().any(|it| restarts(it) || lifted(it) || !in_place(it)) {
            true => Resize::Restart,
            false => Resize::InPlace,
        }
    }
}

/// The fields of a pod beside sandbox and containers that differ.
fn rest(old: &Pod, new: &Pod) -> Vec<String> {
    let of = |pod: &Pod| {
        let mut spec = serde_json::to_value(spec_of(pod)).unwrap_or_default();
        if let Value::Object(fields) = &mut spec {
            for listed in sandbox_fields(pod).as_object().into_iter().flat_map(Map::keys) {
                fields.remove(listed);
            }
            // Volumes count where they are mounted.
            for elsewhere in ["containers", "initContainers", "volumes"] {
                fields.remove(elsewhere);
            }
        }
        let metadata = json!({"labels": pod.metadata.labels, "annotations": pod.metadata.annotations});
        (metadata, spec)
    };
    let ((old_metadata, old_spec), (new_metadata, new_spec)) = (of(old), of(new));
    let named =
        |prefix: &'static str, fields: Vec<String>| fields.into_iter().map(move |field| format!("{prefix}.{field}"));
    named("metadata", differing(&old_metadata, &new_metadata))
        .chain(named("spec", differing(&old_spec, &new_spec)))
        .collect()
}

/// The fields of a container that differ and restart nothing.
fn unlisted(old: &Container, new: &Container) -> Vec<String> {
    let empty = PodSpec::default();
    let of = |container: &Container| {
        let mut value = serde_json::to_value(container).unwrap_or_default();
        if let Value::Object(fields) = &mut value {
            for listed in container_fields(&empty, container).as_object().into_iter().flat_map(Map::keys) {
                fields.remove(listed);
            }
            fields.remove("resources");
            if let Some(Value::Object(lifecycle)) = fields.get_mut("lifecycle") {
                lifecycle.remove("stopSignal");
            }
        }
        value
    };
    differing(&of(old), &of(new)).into_iter().map(|field| format!("{}.{field}", new.name)).collect()
}

/// The keys whose values differ, after both are brought to their normal form.
fn differing(old: &Value, new: &Value) -> Vec<String> {
    let (old, new) = (normal(old.clone(), ""), normal(new.clone(), ""));
    let fields = |value: &Option<Value>| value.as_ref().and_then(Value::as_object).cloned().unwrap_or_default();
    let (old, new) = (fields(&old), fields(&new));
    let keys: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    keys.into_iter().filter(|key| old.get(*key) != new.get(*key)).cloned().collect()
}
