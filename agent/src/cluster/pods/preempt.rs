//! Who makes room for a critical pod: pure, by kubelet's rules.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, Pod};

use super::admit::{Shortage, admit_with_room, asked, reading, shortages};
use super::refusal::Refusal;
use crate::engine::config::resources::{CRITICAL, Qos, priority};
use crate::engine::plan::spec_of;
use crate::node::file_of;

#[cfg(test)]
mod tests;

/// Whether a pod is one of those that the node or the cluster needs: by its priority, or as the node's own.
pub fn is_critical(pod: &Pod) -> bool {
    file_of(pod).is_some() || priority(spec_of(pod)) >= CRITICAL
}

/// Which of `others` have to go for the critical `pod` to be taken by `node`; or why it is not taken all the same.
pub fn make_room(pod: &Pod, others: &[Arc<Pod>], node: &Node) -> Result<Vec<Arc<Pod>>, Refusal> {
    // Where a manifest's pod belongs is for its manifest to say.
    let refusal = admit_with_room(pod, others, node).filter(|_| file_of(pod).is_none());
    if let Some(refusal) = refusal {
        return Err(refusal);
    }
    let wants: Vec<Want> = shortages(pod, others, node).into_iter().map(Want::from).collect();
    let of = |class: Qos| -> Vec<Arc<Pod>> {
        let may_go = |other: &&Arc<Pod>| yields(other, pod) && Qos::of(spec_of(other)) == class;
        others.iter().filter(may_go).cloned().collect()
    };
    let (loose, burstable, guaranteed) = (of(Qos::BestEffort), of(Qos::Burstable), of(Qos::Guaranteed));
    // Of a class only what those of the lower ones could not give.
    let guaranteed = nearest(guaranteed, less(less(wants.clone(), &loose), &burstable))?;
    let burstable = nearest(burstable, less(less(wants.clone(), &loose), &guaranteed))?;
    let loose = nearest(loose, less(less(wants, &burstable), &guaranteed))?;
    Ok(loose.into_iter().chain(burstable).chain(guaranteed).collect())
}

/// Whether a pod may have to go for a critical one. A manifest's never does: nobody but the node would begin it again.
fn yields(pod: &Pod, to: &Pod) -> bool {
    let lower = spec_of(pod).priority.zip(spec_of(to).priority).is_some_and(|(one, other)| one < other);
    file_of(pod).is_none() && (!is_critical(pod) || lower)
}

/// How much of a resource has to be freed.
#[derive(Clone, Debug)]
struct Want {
    resource: String,
    amount: i64,
}

impl From<Shortage> for Want {
    fn from(short: Shortage) -> Self {
        let left = short.capacity.saturating_sub(short.used);
        Want { resource: short.resource, amount: short.requested.saturating_sub(left) }
    }
}

impl Want {
    /// What of it is left when a pod has gone.
    fn without(&self, pod: &Pod) -> i64 {
        self.amount.saturating_sub(asked(pod, &self.resource, reading(&self.resource)))
    }
}

/// What is still wanted when `pods` have gone.
fn less(wants: Vec<Want>, pods: &[Arc<Pod>]) -> Vec<Want> {
    let one = |wants: Vec<Want>, pod: &Arc<Pod>| -> Vec<Want> {
        let left = wants.into_iter().map(|want| Want { amount: want.without(pod), ..want });
        left.filter(|want| want.amount > 0).collect()
    };
    pods.iter().fold(wants, one)
}

/// The few of `pods` that give what is wanted: one after the other, each the one after which the least is left.
fn nearest(mut pods: Vec<Arc<Pod>>, mut wants: Vec<Want>) -> Result<Vec<Arc<Pod>>, Refusal> {
    let mut chosen = Vec::new();
    while !wants.is_empty() {
        let best = pods.iter().enumerate().min_by(|(_, one), (_, other)| {
            distance(&wants, one).total_cmp(&distance(&wants, other)).then_with(|| size(one).cmp(&size(other)))
        });
        let Some(index) = best.map(|(index, _)| index) else { return Err(nobody(&wants)) };
        let pod = pods.swap_remove(index);
        wants = less(wants, std::slice::from_ref(&pod));
        chosen.push(pod);
    }
    Ok(chosen)
}

/// How far a pod is from giving what is wanted: the squares of the parts that are missing, so that each resource counts
/// the same.
fn distance(wants: &[Want], pod: &Pod) -> f64 {
    let part = |want: &Want| want.without(pod).max(0) as f64 / want.amount as f64;
    wants.iter().map(|want| part(want).powi(2)).sum()
}

fn size(pod: &Pod) -> (i64, i64) {
    let of = |resource| asked(pod, resource, reading(resource));
    (of("memory"), of("cpu"))
}

fn nobody(wants: &[Want]) -> Refusal {
    let said: String = wants.iter().map(|want| format!("(res: {}, q: {}), ", want.resource, want.amount)).collect();
    Refusal {
        reason: "UnexpectedAdmissionError".into(),
        message: format!(
            "Unexpected error while attempting to recover from admission failure: preemption: error finding a set of \
             pods to preempt: no set of running pods found to reclaim resources: [{said}]"
        ),
    }
}
