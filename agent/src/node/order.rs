//! The order in which pods begin and end, as `coracle.dev/after` and `coracle.dev/links` say: pure.
//!
//! A pod begins when those that it comes after are what they have to be; a link that is not `ungated` has it come after
//! its target, and what it waits for then [`crate::net::Picture`] says. What has begun goes on whatever becomes of them.
//! Pods that end together end in the opposite order.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use manifests::annotations::{Annotations, Condition, Kind};

use super::desired::Name;
use crate::engine::Gate;
use crate::engine::phase::Phase;
use crate::net::links::{show, target_of};

/// Why a pod waits for others.
const WAITING: &str = "WaitingForDependencies";

/// Why a pod never begins.
const CYCLE: &str = "DependencyCycle";

/// The same, where links have to do with it.
const LINK_CYCLE: &str = "LinkCycle";

/// Another pod that comes first.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Wait {
    target: Name,
    /// What it has to be; for a link that is not asked here.
    condition: Option<Condition>,
}

/// The pods that a pod comes after.
fn after(name: &Name, pod: &Pod) -> Vec<Wait> {
    // What a manifest says has been read before; what a record says may be older than that.
    let Annotations { after, links, .. } = Annotations::of(pod).unwrap_or_default();
    let after = after.into_iter().map(|it| Wait {
        target: (it.namespace.unwrap_or_else(|| name.0.clone()), it.pod),
        condition: Some(it.condition),
    });
    let links = links.iter().filter(|link| link.gated && link.kind == Kind::Pod);
    after.chain(links.map(|link| Wait { target: target_of(name, link), condition: None })).collect()
}

/// Who comes after whom.
#[derive(Clone, Debug, Default)]
pub struct Order {
    after: BTreeMap<Name, Vec<Wait>>,
    cycles: BTreeMap<Name, Vec<Name>>,
}

impl Order {
    /// The order of these pods.
    pub fn of<'a>(pods: impl IntoIterator<Item = (&'a Name, &'a Arc<Pod>)>) -> Self {
        let after: BTreeMap<Name, Vec<Wait>> = pods
            .into_iter()
            .map(|(name, pod)| (name.clone(), after(name, pod)))
            .filter(|(_, it)| !it.is_empty())
            .collect();
        let cycles = after.keys().filter_map(|name| Some((name.clone(), cycle(name, &after)?))).collect();
        Order { after, cycles }
    }

    /// The pods whose state others wait for.
    pub fn awaited(&self) -> BTreeSet<Name> {
        self.after.values().flatten().map(|wait| wait.target.clone()).collect()
    }

    /// The pods that one comes after.
    pub fn targets(&self, name: &Name) -> impl Iterator<Item = Name> {
        self.after.get(name).into_iter().flatten().map(|wait| wait.target.clone())
    }

    /// Why a pod may not begin yet. `state` is how another one is, if it is there.
    pub fn gate(&self, name: &Name, state: impl Fn(&Name) -> Option<State>) -> Option<Gate> {
        if let Some(gate) = self.cycle(name) {
            return Some(gate);
        }
        let missing = self.after.get(name)?.iter().filter_map(|Wait { target, condition }| {
            let (state, condition) = (state(target), condition.as_ref()?);
            if state.is_some_and(|state| state.is(*condition)) {
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

    /// The pods that come after themselves, each with why it never begins.
    pub fn cycles(&self) -> impl Iterator<Item = (&Name, Gate)> {
        self.cycles.keys().filter_map(|name| Some((name, self.cycle(name)?)))
    }

    /// Why a pod that comes after itself never begins.
    fn cycle(&self, name: &Name) -> Option<Gate> {
        let way = self.cycles.get(name)?;
        let steps: Vec<(&Name, &Name, bool)> =
            way.iter().zip(way.iter().skip(1)).map(|(from, to)| (from, to, self.is_link(from, to))).collect();
        let words =
            steps.iter().map(|(_, to, link)| format!(" {} {}", if *link { "linked to" } else { "after" }, show(to)));
        let chain = show(name) + &words.collect::<String>();
        let Some((from, to, _)) = steps.iter().find(|(.., link)| *link) else {
            let message = format!("{chain}: none of them can be the first; take one coracle.dev/after away");
            return Some(Gate { reason: CYCLE.into(), message });
        };
        let written = if from.0 == to.0 { to.1.clone() } else { format!("{}.{}", to.1, to.0) };
        let from = show(from);
        let message = format!(
            "{chain}: none of them can be the first; write {written}(ungated) in coracle.dev/links of pod {from}"
        );
        Some(Gate { reason: LINK_CYCLE.into(), message })
    }

    /// Whether a link alone has one pod come after another.
    fn is_link(&self, from: &Name, to: &Name) -> bool {
        let mut waits = self.after.get(from).into_iter().flatten().filter(|wait| wait.target == *to);
        waits.all(|wait| wait.condition.is_none())
    }

    /// Of `leaving`, those that may end now: no other one that leaves comes after them.
    pub fn may_end(&self, leaving: &BTreeSet<Name>) -> BTreeSet<Name> {
        let waits = leaving.iter().filter_map(|name| self.after.get(name)).flatten();
        let held: BTreeSet<&Name> = waits.map(|wait| &wait.target).collect();
        leaving.iter().filter(|name| !held.contains(name) || self.cycles.contains_key(*name)).cloned().collect()
    }
}

/// The way from a pod back to itself.
fn cycle(start: &Name, after: &BTreeMap<Name, Vec<Wait>>) -> Option<Vec<Name>> {
    let mut ways = vec![vec![start.clone()]];
    let mut seen = BTreeSet::new();
    while let Some(way) = ways.pop() {
        for Wait { target, .. } in way.last().and_then(|last| after.get(last)).into_iter().flatten() {
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
        // What is being stopped is nothing to build on.
        if pod.metadata.deletion_timestamp.is_some() {
            return State::default();
        }
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
    fn links_in_a_circle_say_how_to_open_it() {
        let pods: BTreeMap<Name, Arc<Pod>> = [
            ("a", json!({"coracle.dev/links": "b.other:x, c(ungated)"})),
            ("other/b", json!({"coracle.dev/after": "default/a(started)"})),
            ("c", json!({"coracle.dev/links": "a"})),
            ("d", json!({"coracle.dev/links": "e"})),
            ("f", json!({"coracle.dev/links": "c:x"})),
            ("e", json!({"coracle.dev/links": "d", "coracle.dev/after": "d"})),
        ]
        .into_iter()
        .map(|(pod, annotations)| {
            let object = json!({"metadata": {"name": name(pod).1, "annotations": annotations}});
            (name(pod), Arc::new(serde_json::from_value(object).unwrap()))
        })
        .collect();
        let order = Order::of(&pods);
        let said = |pod: &str| words(order.gate(&name(pod), |_| Some(State::default())));
        let close = "none of them can be the first; write b.other(ungated) in coracle.dev/links of pod default/a";
        assert_eq!(said("a"), format!("LinkCycle: default/a linked to other/b after default/a: {close}"));
        assert_eq!(said("other/b"), format!("LinkCycle: other/b after default/a linked to other/b: {close}"));
        assert_eq!(said("c"), "", "what it waits for is not asked here, and a does not wait for it");
        let close = "none of them can be the first; write e(ungated) in coracle.dev/links of pod default/d";
        assert_eq!(said("e"), format!("LinkCycle: default/e after default/d linked to default/e: {close}"));
        let names: Vec<&str> = order.cycles().map(|(name, _)| name.1.as_str()).collect();
        assert_eq!(names, ["a", "d", "e", "b"]);
        let ends = order.may_end(&["f", "c"].map(name).into());
        assert_eq!(ends, [name("f")].into(), "who is linked to it ends first");
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
