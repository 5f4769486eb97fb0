//! The end of the pods with their agent: lower priorities first, each step within its time, and of one step's pods those
//! first that come after others.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use manifests::kubelet::ShutdownStep;
use tokio::task::JoinSet;

use super::desired::Name;
use super::live::Live;
use super::order::Order;
use crate::engine::config::resources::priority;
use crate::engine::orders::Eviction;
use crate::engine::plan::spec_of;

/// What is said of a cluster's pod that ends with its node, in kubelet's words.
const TERMINATED: &str = "Pod was terminated in response to imminent node shutdown.";

/// What is still to be stopped.
pub struct Shutdown {
    /// The pods.
    pub left: BTreeMap<Name, Live>,
    /// Those that were being stopped for good before: they belong to the task that removes them.
    pub endings: JoinSet<Name>,
}

impl Shutdown {
    /// Stops them, and waits for that. Who is not gone when the time of a step is over ends beside the next one's pods;
    /// `hurry` kills whatever is left.
    pub async fn run(mut self, steps: &[ShutdownStep], hurry: impl Future<Output = ()>) {
        let mut ends: JoinSet<Name> = JoinSet::new();
        let groups = groups(steps, self.left.iter().map(|(name, live)| (name, priority(spec_of(&live.pod)))));
        tokio::pin!(hurry);
        for (grace, mut group) in groups {
            tracing::info!(pods = group.len(), within = ?grace, "stopping pods");
            let patience = async {
                match grace {
                    Some(grace) => tokio::time::sleep(grace).await,
                    None => std::future::pending().await,
                }
            };
            tokio::pin!(patience);
            while !group.is_empty() {
                self.end(&group, grace, &mut ends);
                let ended = tokio::select! {
                    ended = self.next(&mut ends) => ended,
                    () = &mut patience => break,
                    () = &mut hurry => return self.kill(ends).await,
                };
                let Some(name) = ended else { break };
                group.remove(&name);
            }
            // Its time is over: what waited for others of its step waits no more.
            self.end_all(&group, grace, &mut ends);
        }
        while !self.left.is_empty() {
            tokio::select! {
                ended = self.next(&mut ends) => if ended.is_none() { return },
                () = &mut hurry => return self.kill(ends).await,
            }
        }
    }

    /// Asks those to end that nobody of their step comes after.
    fn end(&mut self, group: &BTreeSet<Name>, grace: Option<Duration>, ends: &mut JoinSet<Name>) {
        let members = self.left.iter().filter(|(name, _)| group.contains(*name));
        let order = Order::of(members.map(|(name, live)| (name, &live.pod)));
        self.end_all(&order.may_end(group), grace, ends);
    }

    fn end_all(&mut self, names: &BTreeSet<Name>, grace: Option<Duration>, ends: &mut JoinSet<Name>) {
        for name in names {
            let Some(live) = self.left.get_mut(name) else { continue };
            let grace = grace.map(|grace| grace.min(live.grace()));
            // A manifest's pod begins again with the next agent; a cluster's has failed, and its controller makes another.
            if super::file_of(&live.pod).is_none() && !live.leaves() && !live.is_over() {
                live.evict(Eviction::TERMINATED, TERMINATED, grace);
            }
            live.leave(grace);
            if let Some(ending) = live.end() {
                let name = name.clone();
                ends.spawn(async move {
                    ending.handle.outcome().await;
                    name
                });
            }
        }
    }

    /// The next one that is gone; none when nobody is waited for.
    async fn next(&mut self, ends: &mut JoinSet<Name>) -> Option<Name> {
        loop {
            let ended = tokio::select! {
                Some(ended) = ends.join_next() => ended,
                Some(ended) = self.endings.join_next() => ended,
                else => return None,
            };
            if let Ok(name) = ended {
                self.left.remove(&name);
                return Some(name);
            }
        }
    }

    async fn kill(mut self, mut ends: JoinSet<Name>) {
        let names = self.left.keys().cloned().collect();
        self.end_all(&names, Some(Duration::ZERO), &mut ends);
        while !self.left.is_empty() && self.next(&mut ends).await.is_some() {}
    }
}

/// The pods of each step, with its time; all of them in one without steps, in their own. A pod is of the last step whose
/// priority it has or exceeds, and of the first if there is none, as in kubelet.
fn groups<'n>(
    steps: &[ShutdownStep],
    pods: impl Iterator<Item = (&'n Name, i32)>,
) -> Vec<(Option<Duration>, BTreeSet<Name>)> {
    let mut groups: Vec<_> = steps.iter().map(|step| (Some(step.grace), BTreeSet::new())).collect();
    if groups.is_empty() {
        groups.push((None, BTreeSet::new()));
    }
    for (name, priority) in pods {
        let index = steps.iter().rposition(|step| step.priority <= priority).unwrap_or(0);
        if let Some((_, group)) = groups.get_mut(index) {
            group.insert(name.clone());
        }
    }
    groups.retain(|(_, group)| !group.is_empty());
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_is_of_the_last_step_whose_priority_it_reaches() {
        let step = |priority, seconds| ShutdownStep { priority, grace: Duration::from_secs(seconds) };
        let name = |priority: &i32| ("default".to_owned(), priority.to_string());
        let of = |steps: &[ShutdownStep], priorities: &[i32]| {
            let names: Vec<_> = priorities.iter().map(|it| (name(it), *it)).collect();
            let groups = groups(steps, names.iter().map(|(name, priority)| (name, *priority)));
            let short = |(grace, group): (Option<Duration>, BTreeSet<Name>)| {
                let names: Vec<_> = group.into_iter().map(|it| it.1).collect();
                (grace.map(|it| it.as_secs()), names.join(" "))
            };
            groups.into_iter().map(short).collect::<Vec<_>>()
        };
        let steps = [step(0, 60), step(100, 10), step(1000, 5)];
        let all = [-7, 0, 99, 100, 5000];
        let expected =
            [(Some(60), "-7 0 99"), (Some(10), "100"), (Some(5), "5000")].map(|(it, of)| (it, of.to_owned()));
        assert_eq!(of(&steps, &all), expected);
        assert_eq!(of(&steps, &[100]), [(Some(10), "100".to_owned())], "nobody waits for a step without pods");
        assert_eq!(of(&[], &[1, 2]), [(None, "1 2".to_owned())]);
        assert_eq!(of(&steps, &[]), []);
    }
}
