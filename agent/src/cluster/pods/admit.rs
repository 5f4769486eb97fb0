//! Whether this node takes a pod: pure, by kubelet's rules and in its words. The scheduler has asked the same; but a pod may
//! be bound by hand, or the node may have changed since.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, Pod, Taint, Toleration};

use super::refusal::Refusal;
use crate::engine::config::resources::pod_request;
use crate::engine::config::{node_selector, ports, quantity};
use crate::engine::orders::Eviction;
use crate::engine::plan::{init_of, spec_of};
use crate::node::care::comeback::admits;
use crate::node::care::threshold::Condition;

mod sysctls;
#[cfg(test)]
mod tests;

/// The operating system that pods run on.
const OS: &str = "linux";

/// Of which resource a node has too little for a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shortage {
    /// Its name: `cpu`, whose amounts are thousandths, `memory`, `pods` …
    pub resource: String,
    /// What the pod asks for.
    pub requested: i64,
    /// What others have been given.
    pub used: i64,
    /// What the node has to give.
    pub capacity: i64,
}

/// What a node lets pods have that its object does not say.
#[derive(Clone, Copy, Debug)]
pub struct House<'a> {
    /// The kernel parameters that pods may set besides the safe ones.
    pub unsafe_sysctls: &'a [String],
    /// Its kernel confines by AppArmor.
    pub apparmor: bool,
}

impl House<'_> {
    /// Why no pod like this is taken, whatever room there is; none when it is.
    pub fn refuses(&self, pod: &Pod) -> Option<Refusal> {
        sysctls::forbidden(pod, self.unsafe_sysctls).or_else(|| self.unconfined(pod))
    }

    /// A profile that nobody would enforce is as good as none, which is not what was asked for.
    fn unconfined(&self, pod: &Pod) -> Option<Refusal> {
        let spec = spec_of(pod);
        let of_pod = spec.security_context.as_ref().and_then(|context| context.app_armor_profile.as_ref());
        let contexts =
            init_of(spec).iter().chain(&spec.containers).map(|container| container.security_context.as_ref());
        let of_each = contexts.map(|context| context.and_then(|it| it.app_armor_profile.as_ref()).or(of_pod));
        let mut confined = of_each.flatten().filter(|profile| profile.type_ != "Unconfined");
        if self.apparmor || confined.next().is_none() {
            return None;
        }
        refusal("AppArmor", "Cannot enforce AppArmor: AppArmor is not enabled on the host".to_owned())
    }
}

/// Why `node`, on which `others` are, does not take a pod; none when it does.
pub fn admit(pod: &Pod, others: &[Arc<Pod>], node: &Node) -> Option<Refusal> {
    pressure(pod, node)
        .or_else(|| os(pod))
        .or_else(|| shortages(pod, others, node).first().map(out_of))
        .or_else(|| misfit(pod, others, node))
}

/// Why `node` does not take a pod, for which there would be room.
pub fn admit_with_room(pod: &Pod, others: &[Arc<Pod>], node: &Node) -> Option<Refusal> {
    pressure(pod, node).or_else(|| os(pod)).or_else(|| misfit(pod, others, node))
}

fn misfit(pod: &Pod, others: &[Arc<Pod>], node: &Node) -> Option<Refusal> {
    affinity(pod, node).or_else(|| host_ports(pod, others)).or_else(|| taints(pod, node))
}

fn refusal(reason: &str, message: String) -> Option<Refusal> {
    Some(Refusal { reason: reason.to_owned(), message })
}

fn failed(predicate: &str, why: &str) -> Option<Refusal> {
    refusal(predicate, format!("Predicate {predicate} failed: {why}"))
}

/// A node that runs short takes no more than those it would not evict.
fn pressure(pod: &Pod, node: &Node) -> Option<Refusal> {
    let all = [Condition::Memory, Condition::Disk, Condition::Pid];
    let holds = |condition: &Condition| {
        let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref());
        conditions.into_iter().flatten().any(|it| it.type_ == condition.as_str() && it.status == "True")
    };
    let now: BTreeSet<Condition> = all.into_iter().filter(holds).collect();
    if admits(spec_of(pod), &now) {
        return None;
    }
    let names: Vec<&str> = now.iter().map(|condition| condition.as_str()).collect();
    refusal(Eviction::EVICTED, format!("The node had condition: [{}]. ", names.join(" ")))
}

fn os(pod: &Pod) -> Option<Refusal> {
    let label = pod.metadata.labels.as_ref().and_then(|labels| labels.get("kubernetes.io/os"));
    if label.is_some_and(|os| os != OS) {
        let message = "Failed to admit pod as the `kubernetes.io/os` label doesn't match node label";
        return refusal("PodOSSelectorNodeLabelDoesNotMatch", message.to_owned());
    }
    if spec_of(pod).os.as_ref().is_some_and(|os| os.name != OS) {
        return refusal("PodOSNotSupported", "Failed to admit pod as the OS field doesn't match node OS".to_owned());
    }
    None
}

/// The resources of which a pod asks for more than the node has left.
pub fn shortages(pod: &Pod, others: &[Arc<Pod>], node: &Node) -> Vec<Shortage> {
    let none = BTreeMap::new();
    let has = node.status.as_ref().and_then(|status| status.allocatable.as_ref()).unwrap_or(&none);
    // As kubelet counts them: the number of pods first.
    let names = has.keys().filter(|name| *name == "pods").chain(has.keys().filter(|name| *name != "pods"));
    let short = |name: &String| {
        let read = reading(name);
        let used = others.iter().map(|other| asked(other, name, read)).fold(0, i64::saturating_add);
        let (requested, capacity) = (asked(pod, name, read), allocatable(node, name, read)?);
        let fits = requested <= 0 || requested <= capacity.saturating_sub(used);
        (!fits).then(|| Shortage { resource: name.clone(), requested, used, capacity })
    };
    names.filter_map(short).collect()
}

/// How amounts of a resource are counted.
pub fn reading(resource: &str) -> quantity::Read {
    if resource == "cpu" { quantity::milli } else { quantity::value }
}

/// What a node has to give of a resource.
pub fn allocatable(node: &Node, resource: &str, read: quantity::Read) -> Option<i64> {
    read(node.status.as_ref()?.allocatable.as_ref()?.get(resource)?)
}

fn out_of(short: &Shortage) -> Refusal {
    let Shortage { resource, requested, used, capacity } = short;
    let message = format!(
        "Node didn't have enough resource: {resource}, requested: {requested}, used: {used}, capacity: {capacity}"
    );
    Refusal { reason: format!("OutOf{resource}"), message }
}

/// What a pod asks for, with what its runtime class adds.
pub fn asked(pod: &Pod, resource: &str, read: quantity::Read) -> i64 {
    if resource == "pods" { 1 } else { pod_request(spec_of(pod), resource, read) }
}

fn affinity(pod: &Pod, node: &Node) -> Option<Refusal> {
    let none = BTreeMap::new();
    let labels = node.metadata.labels.as_ref().unwrap_or(&none);
    let spec = spec_of(pod);
    let selected = spec.node_selector.iter().flatten().all(|(key, value)| labels.get(key) == Some(value));
    let affinity = spec.affinity.as_ref().and_then(|it| it.node_affinity.as_ref());
    let required = affinity.and_then(|it| it.required_during_scheduling_ignored_during_execution.as_ref());
    let name = node.metadata.name.as_deref().unwrap_or_default();
    let fits = required.is_none_or(|it| node_selector::matches(it, labels, name));
    if selected && fits {
        return None;
    }
    failed("NodeAffinity", "node(s) didn't match Pod's node affinity/selector")
}

fn host_ports(pod: &Pod, others: &[Arc<Pod>]) -> Option<Refusal> {
    let taken = |port: &ports::HostPort| {
        let mut all = others.iter().flat_map(|other| ports::of_host(other));
        all.any(|other| other.clashes(port))
    };
    if ports::of_host(pod).any(|port| taken(&port)) {
        return failed("NodePorts", "node(s) didn't have free ports for the requested pod ports");
    }
    None
}

fn taints(pod: &Pod, node: &Node) -> Option<Refusal> {
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_ref());
    let tolerations = spec_of(pod).tolerations.as_deref().unwrap_or_default();
    let mut bad = taints.into_iter().flatten().filter(|taint| taint.effect == "NoExecute");
    if bad.any(|taint| !tolerations.iter().any(|it| tolerates(it, taint))) {
        return failed("TaintToleration", "node(s) had taints that the pod didn't tolerate");
    }
    None
}

fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let empty = |text: &Option<String>| text.as_deref().unwrap_or_default().is_empty();
    if !empty(&toleration.effect) && toleration.effect.as_deref() != Some(&taint.effect) {
        return false;
    }
    if !empty(&toleration.key) && toleration.key.as_deref() != Some(&taint.key) {
        return false;
    }
    let value = toleration.value.as_deref().unwrap_or_default();
    match toleration.operator.as_deref() {
        Some("Exists") => true,
        Some("Equal" | "") | None => value == taint.value.as_deref().unwrap_or_default(),
        _ => false,
    }
}
