//! Whether the node has room for what a pod that runs here shall have now: pure, by kubelet's rules and in its words.
//!
//! ```text
//!  spec at the server ──is it what the pod was given?──> yes: it runs so
//!                                └─ no ──does it fit?──> yes: given, recorded, then applied by the pod's worker
//!                                             └─ no ──> the pod keeps what it has, with the condition PodResizePending;
//!                                                       asked again whenever room may have appeared
//! ```

use std::cmp::Reverse;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod, PodCondition, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::admit::{admit, allocatable, asked};
use crate::engine::config::quantity;
use crate::engine::config::resources::{Qos, priority};
use crate::engine::plan::{init_of, spec_of};
use crate::engine::resizing::PENDING;

#[cfg(test)]
mod tests;

/// Why a pod waits for what it shall have: there is no room yet.
pub const DEFERRED: &str = "Deferred";

/// Why a pod is not given what it shall have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pending {
    /// `Deferred`, until there is room; or `Infeasible`, where there never can be.
    pub reason: &'static str,
    /// The whole story.
    pub message: String,
}

/// `pod` with the resources that `has` was given.
pub fn as_given(pod: &Pod, has: &Pod) -> Pod {
    let (mut pod, has) = (pod.clone(), spec_of(has));
    let Some(spec) = &mut pod.spec else { return pod };
    spec.resources.clone_from(&has.resources);
    for container in spec.init_containers.iter_mut().flatten().chain(&mut spec.containers) {
        let known = init_of(has).iter().chain(&has.containers).find(|known| known.name == container.name);
        if let Some(known) = known {
            container.resources.clone_from(&known.resources);
        }
    }
    pod
}

/// Why `node`, on which `others` are, does not give `pod` what it shall have; none when it does.
pub fn pending(pod: &Pod, others: &[Arc<Pod>], node: &Node) -> Option<Pending> {
    let beyond = |resource: &str, read: quantity::Read| {
        let (asked, has) = (asked(pod, resource, read), allocatable(node, resource, read)?);
        (asked > has).then(|| Pending {
            reason: "Infeasible",
            message: format!("Node didn't have enough capacity: {resource}, requested: {asked}, capacity: {has}"),
        })
    };
    // As kubelet has it before 1.36; from then on the API server refuses such a resize.
    let infeasible = beyond("memory", quantity::value).or_else(|| beyond("cpu", quantity::milli));
    let deferred = || Some(Pending { reason: DEFERRED, message: admit(pod, others, node)?.message });
    infeasible.or_else(deferred)
}

/// In what order pods are asked for, as kubelet has it: first those that want no more than they have, then by their
/// priority, their class, and how long they have waited.
pub fn turn(wanted: &Pod, has: &Pod) -> impl Ord + use<> {
    let more = |resource: &str, read: quantity::Read| asked(wanted, resource, read) > asked(has, resource, read);
    let grows = more("memory", quantity::value) || more("cpu", quantity::milli);
    let spec = spec_of(wanted);
    let since = condition_of(has).and_then(|it| it.last_transition_time.clone()).map(|it| it.0);
    // Who has not waited yet comes last.
    (grows, Reverse(priority(spec)), Qos::of(spec) != Qos::Guaranteed, since.is_none(), since)
}

fn condition_of(pod: &Pod) -> Option<&PodCondition> {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions?.iter().find(|it| it.type_ == PENDING)
}

/// Says in a pod that it has not been given what it shall have, or that this is no more so. True when that is another
/// reason than before, or about another generation of the pod.
pub fn mark(pod: &mut Pod, pending: Option<&Pending>, now: Timestamp) -> bool {
    let before = condition_of(pod).cloned();
    let generation = pod.metadata.generation;
    let conditions = pod.status.get_or_insert_default().conditions.get_or_insert_default();
    conditions.retain(|it| it.type_ != PENDING);
    let Some(pending) = pending else {
        if pod.status == Some(PodStatus { conditions: Some(Vec::new()), ..PodStatus::default() }) {
            pod.status = None;
        }
        return false;
    };
    let same = |it: &&PodCondition| it.reason.as_deref() == Some(pending.reason);
    let now = Some(Time(Timestamp::from_second(now.as_second()).unwrap_or(now)));
    let since = before.as_ref().filter(same).map_or(now, |before| before.last_transition_time.clone());
    conditions.push(PodCondition {
        type_: PENDING.to_owned(),
        status: "True".to_owned(),
        reason: Some(pending.reason.to_owned()),
        message: Some(pending.message.clone()),
        last_transition_time: since,
        observed_generation: generation,
        ..PodCondition::default()
    });
    before.as_ref().filter(same).is_none_or(|before| before.observed_generation != generation)
}

/// Has one pod say of its resizing what another one says.
pub fn mark_as(pod: &mut Pod, other: &Pod) {
    if let Some(condition) = condition_of(other) {
        let mut condition = condition.clone();
        condition.observed_generation = pod.metadata.generation;
        pod.status.get_or_insert_default().conditions.get_or_insert_default().push(condition);
    }
}
