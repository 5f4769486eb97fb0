//! When a pod that was evicted is started anew: pure, but for what it remembers.
//!
//! kubelet leaves this to controllers, which put another pod elsewhere. Here there is no elsewhere: the pod comes back
//! when the node admits it, by kubelet's rules of admission, and with a growing wait, for a pod that was evicted for its
//! own greed will most likely be so again.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use k8s_openapi::api::core::v1::{Pod, PodSpec};

use super::threshold::Condition;
use crate::engine::config::resources::{CRITICAL, Qos, priority};
use crate::engine::orders::Eviction;
use crate::engine::plan::{RestartPolicy, spec_of};
use crate::engine::time::Monotonic;

#[cfg(test)]
mod tests;

/// The first wait; it doubles with each eviction.
const FIRST: Duration = Duration::from_secs(10);

/// The longest wait, and how long a pod has to live for its next wait to be the first again.
const LONGEST: Duration = Duration::from_secs(300);

/// The pods that were evicted, by namespace and name: a pod that comes back has another uid.
#[derive(Clone, Debug, Default)]
pub struct Comeback {
    waits: BTreeMap<(String, String), Wait>,
}

#[derive(Clone, Debug)]
struct Wait {
    uid: String,
    /// When it was over.
    since: Monotonic,
    wait: Duration,
    /// When it was started anew.
    back: Option<Monotonic>,
}

impl Comeback {
    /// Which of these pods, all of which are over, come back now.
    pub fn due<'a>(&mut self, over: &[&'a Pod], conditions: &BTreeSet<Condition>, now: Monotonic) -> Vec<&'a Pod> {
        let mut due = Vec::new();
        for pod in over.iter().filter(|pod| was_evicted(pod) && may_come_back(spec_of(pod))) {
            let meta = &pod.metadata;
            let text = |text: &Option<String>| text.clone().unwrap_or_default();
            let (key, uid) = ((text(&meta.namespace), text(&meta.name)), text(&meta.uid));
            let wait = self.waits.entry(key).or_insert_with(|| Wait::first(&uid, now));
            if wait.uid != uid {
                *wait = wait.next(&uid, now);
            }
            if wait.back.is_none() && now - wait.since >= wait.wait && admits(spec_of(pod), conditions) {
                wait.back = Some(now);
                due.push(*pod);
            }
        }
        due
    }

    /// Forgets pods that nobody wants any more.
    pub fn keep(&mut self, mut is_there: impl FnMut(&str, &str) -> bool) {
        self.waits.retain(|(namespace, name), _| is_there(namespace, name));
    }
}

impl Wait {
    fn first(uid: &str, now: Monotonic) -> Self {
        Wait { uid: uid.to_owned(), since: now, wait: FIRST, back: None }
    }

    /// After another eviction.
    fn next(&self, uid: &str, now: Monotonic) -> Self {
        let lived = self.back.map(|back| now - back);
        let wait = if lived.is_some_and(|lived| lived >= LONGEST) { FIRST } else { (self.wait * 2).min(LONGEST) };
        Wait { wait, ..Wait::first(uid, now) }
    }
}

/// Whether the node has ended this pod.
pub fn was_evicted(pod: &Pod) -> bool {
    let status = pod.status.as_ref();
    status.is_some_and(|it| it.phase.as_deref() == Some("Failed") && it.reason.as_deref() == Some(Eviction::EVICTED))
}

/// What is to run once has had its turn.
fn may_come_back(spec: &PodSpec) -> bool {
    RestartPolicy::of(spec) != RestartPolicy::Never
}

/// kubelet's rules: critical pods always, others not while the node is short of anything, but for those that asked for
/// something while it is short of memory alone.
pub fn admits(spec: &PodSpec, conditions: &BTreeSet<Condition>) -> bool {
    let memory_alone = conditions.iter().all(|condition| *condition == Condition::Memory);
    conditions.is_empty() || priority(spec) >= CRITICAL || (memory_alone && Qos::of(spec) != Qos::BestEffort)
}
