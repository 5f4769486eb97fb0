//! The order in which pods begin and end, as `coracle.dev/after` says: pure.
//!
//! A pod begins when those that it comes after are what they have to be. What has begun goes on whatever becomes of them.
//! Pods that end together end in the opposite order.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use manifests::annotations::{After, Annotations, Condition};

use super::desired::Name;
use crate::engine::Gate;
use crate::engine::phase::Phase;

/// Why a pod waits for others.
const WAITING: &str = "WaitingForDependencies";

/// Why a pod never begins.
const CYCLE: &str = "DependencyCycle";

/// The pods that a pod comes after.
fn after(name: &Name, pod: &Pod) -> Vec<(Name, Condition)> {
    // What a manifest says has been read before; what a record says may be older than that.
    let parsed = Annotations::of(pod).unwrap_or_default().after;
    let target = |it: After| ((it.namespace.unwrap_or_else(|| name.0.clone()), it.pod), it.condition);
    parsed.into_iter().map(target).collect()
}

/// Who comes after whom.
#[derive(Clone, Debug, Default)]
pub struct Order {
    after: BTreeMap<Name, Vec<(Name, Condition)>>,
    cycles: BTreeMap<Name, Vec<Name>>,
}

impl Order {
    /// The order of these pods.
    pub fn of<'a>(pods: impl IntoIterator<Item = (&'a Name, &'a Arc<Pod>)>) -> Self {
        let after: BTreeMap<Name, Vec<(Name, Condition)>> = pods
            .into_iter()
            .map(|(name, pod)| (name.clone(), after(name, pod)))
            .filter(|(_, it)| !it.is_empty())
            .collect();
        let cycles = after.keys().filter_map(|name| Some((name.clone(), cycle(name, &after)?))).collect();
        Order { after, cycles }
    }

    /// The pods whose state others wait for.
    pub fn awaited(&self) -> BTreeSet<Name> {
        self.after.values().flatten().map(|(target, _)| target.clone()).collect()
    }

    /// The pods that one comes after.
    pub fn targets(&self, name: &Name) -> impl Iterator<Item = Name> {
        self.after.get(name).into_iter().flatten().map(|(target, _)| target.clone())
    }

    /// Why a pod may not begin yet. `state` is how another one is, if it is there.
    pub fn gate(&self, name: &Name, state: impl Fn(&Name) -> Option<State>) -> Option<Gate> {
        if let Some(cycle) = self.cycles.get(name) {
            let chain = cycle.iter().map(show).collect::<Vec<_>>().join(" after ");
            let message = format!("{chain}: none of them can be the first; take one coracle.dev/after away");
            return Some(Gate { reason: CYCLE.into(), message });
        }
        let missing = self.after.get(name)?.iter().filter_map(|(target, condition)| {
            let state = state(target);
            if state.as_ref().is_some_and(|state| state.is(*condition)) {
                return None;
            }
            let now = match state {
                None => "no manifest has it".to_owned(),
                Some(State { phase: Phase::Failed, .. }) if *condition == Condition::Completed => {
                    "it has failed".to_owned()
                }
                Some(state) => format!("it is {}", state.phase.as_str()),
            };
            Some(format!("pod {} is not {} ({now})", show(target), condition.as_str()))
        });
        let missing: Vec<String> = missing.collect();
        (!missing.is_empty()).then(|| Gate { reason: WAITING.into(), message: missing.join(", ") })
    }

    /// Of `leaving`, those that may end now: no other one that leaves comes after them.
    pub fn may_end(&self, leaving: &BTreeSet<Name>) -> BTreeSet<Name> {
        let comes_after = |name: &Name, other: &Name| {
            !self.cycles.contains_key(name)
                && self.after.get(other).is_some_and(|targets| targets.iter().any(|(target, _)| target == name))
        };
        leaving.iter().filter(|name| !leaving.iter().any(|other| comes_after(name, other))).cloned().collect()
    }
}

fn show(name: &Name) -> String {
    format!("{}/{}", name.0, name.1)
}

/// The way from a pod back to itself.
fn cycle(start: &Name, after: &BTreeMap<Name, Vec<(Name, Condition)>>) -> Option<Vec<Name>> {
    let mut ways = vec![vec![start.clone()]];
    let mut seen = BTreeSet::new();
    while let Some(way) = ways.pop() {
        for (target, _) in way.last().and_then(|last| after.get(last)).into_iter().flatten() {
            let longer: Vec<Name> = way.iter().chain([target]).cloned().collect();
            if target == start {
                return Some(longer);
            }
            if seen.insert(target.clone()) {
                ways.push(longer);
            }
        }
    }
    None
}

/// How a pod is, for those that wait for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// Its phase.
    pub phase: Phase,
    /// Whether its condition Ready is true.
    pub ready: bool,
}

impl State {
    /// The state that a pod's status tells.
    pub fn of(pod: &Pod) -> Self {
        let status = pod.status.as_ref();
        let conditions = status.and_then(|status| status.conditions.as_ref());
        let ready = conditions.into_iter().flatten().any(|it| it.type_ == "Ready" && it.status == "True");
        let phase = status.and_then(|status| status.phase.as_deref()).unwrap_or_default();
        let all = [Phase::Pending, Phase::Running, Phase::Succeeded, Phase::Failed];
        let phase = all.into_iter().find(|it| it.as_str() == phase).unwrap_or_default();
        State { phase, ready }
    }

    fn is(self, condition: Condition) -> bool {
        match condition {
            Condition::Started => self.phase != Phase::Pending,
            Condition::Ready => self.ready,
            Condition::Completed => self.phase == Phase::Succeeded,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    fn name(text: &str) -> Name {
        let (namespace, name) = text.split_once('/').unwrap_or(("default", text));
        (namespace.into(), name.into())
    }

    fn order(pods: &[(&str, &str)]) -> Order {
        let pods: BTreeMap<Name, Arc<Pod>> = pods
            .iter()
            .map(|(pod, after)| {
                let annotations = if after.is_empty() { json!({}) } else { json!({"coracle.dev/after": after}) };
                let object = json!({"metadata": {"name": name(pod).1, "annotations": annotations}});
                (name(pod), Arc::new(serde_json::from_value(object).unwrap()))
            })
            .collect();
        Order::of(&pods)
    }

    fn words(gate: Option<Gate>) -> String {
        gate.map_or_else(String::new, |gate| format!("{}: {}", gate.reason, gate.message))
    }

    #[test]
    fn a_pod_waits_until_the_others_are_what_they_have_to_be() {
        let order = order(&[("web", "db, other/migrate(completed), cache(started)"), ("db", "")]);
        let gate = |db: Option<State>, migrate: Option<Phase>, cache: Phase| {
            words(order.gate(&name("web"), |it| match it.1.as_str() {
                "db" => db,
                "migrate" => migrate.map(|phase| State { phase, ready: false }),
                _ => Some(State { phase: cache, ready: false }),
            }))
        };
        let up = State { phase: Phase::Running, ready: true };
        let unready = State { phase: Phase::Running, ready: false };
        let wait = |what: &str| format!("WaitingForDependencies: {what}");
        let rows = [
            (Some(up), Some(Phase::Succeeded), Phase::Running, String::new()),
            (Some(up), Some(Phase::Succeeded), Phase::Failed, String::new()),
            (
                Some(unready),
                Some(Phase::Succeeded),
                Phase::Running,
                wait("pod default/db is not ready (it is Running)"),
            ),
            (None, Some(Phase::Succeeded), Phase::Running, wait("pod default/db is not ready (no manifest has it)")),
            (Some(up), Some(Phase::Failed), Phase::Running, wait("pod other/migrate is not completed (it has failed)")),
            (
                Some(up),
                Some(Phase::Running),
                Phase::Pending,
                wait(
                    "pod other/migrate is not completed (it is Running), pod default/cache is not started (it is Pending)",
                ),
            ),
        ];
        for (db, migrate, cache, expected) in rows {
            assert_eq!(gate(db, migrate, cache), expected);
        }
        assert_eq!(order.gate(&name("db"), |_| None), None);
        assert_eq!(order.awaited().len(), 3);
    }

    #[test]
    fn pods_in_a_circle_are_told_the_way_around_it() {
        let order = order(&[("a", "b"), ("b", "c"), ("c", "a"), ("d", "a"), ("e", "e")]);
        let said = |pod: &str| words(order.gate(&name(pod), |_| Some(State::default())));
        let whole = "DependencyCycle: default/a after default/b after default/c after default/a: none of them can be the first; take one coracle.dev/after away";
        assert_eq!(said("a"), whole);
        assert!(said("b").starts_with("DependencyCycle: default/b after default/c after default/a after default/b:"));
        assert!(said("e").starts_with("DependencyCycle: default/e after default/e:"));
        assert!(said("d").starts_with("WaitingForDependencies"), "it is not in the circle: {}", said("d"));
    }

    #[test]
    fn pods_that_end_together_end_in_the_opposite_order() {
        let order = order(&[("web", "api"), ("api", "db"), ("db", ""), ("x", "y"), ("y", "x")]);
        let ends = |leaving: &[&str]| -> Vec<String> {
            order.may_end(&leaving.iter().map(|it| name(it)).collect()).into_iter().map(|it| it.1).collect()
        };
        assert_eq!(ends(&["web", "api", "db"]), ["web"]);
        assert_eq!(ends(&["api", "db"]), ["api"]);
        assert_eq!(ends(&["web", "db"]), ["db", "web"], "the one between them stays");
        assert_eq!(ends(&["db"]), ["db"]);
        assert_eq!(ends(&["x", "y"]), ["x", "y"], "a circle has no order");
    }
}
