//! What may have started, derived from the manifests' history alone.
//!
//! Each version of a pod's manifest has a number, which its containers note when they start, beside their pod's life: a
//! pod that is removed and added again begins another one. What is noted has to be explained:
//!
//! - a version of a container starts only if some manifest has had it;
//! - the versions of one container start in the order in which the manifests had them;
//! - within one life of a pod, one version of a container starts once. Nothing ends by itself here, so a second start
//!   would be a restart that nobody asked for.

use std::collections::BTreeMap;

/// A container's start, as it noted it itself.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Start {
    /// The pod's uid.
    pub uid: String,
    /// The container.
    pub container: String,
    /// The version that it was made from.
    pub version: u32,
}

/// One pod, as its manifest has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// The version of each container.
    pub containers: BTreeMap<String, u32>,
    /// What restarts nothing.
    pub label: u32,
}

/// All that manifests have said of one pod, newest last; none when there was no manifest.
#[derive(Clone, Debug, Default)]
pub struct History {
    states: Vec<Option<Wanted>>,
    next: u32,
}

impl History {
    /// What the manifest says now.
    pub fn now(&self) -> Option<&Wanted> {
        self.states.last().and_then(Option::as_ref)
    }

    /// The manifest says something else now.
    pub fn push(&mut self, wanted: Option<Wanted>) {
        self.states.push(wanted);
    }

    /// A version that was never used for this pod.
    pub fn version(&mut self) -> u32 {
        self.next += 1;
        self.next
    }

    /// What of `starts`, in the order in which they were noted, cannot be explained.
    pub fn unexplained(&self, starts: &[Start]) -> Vec<String> {
        let mut wrong = Vec::new();
        let mut seen: BTreeMap<(&str, &str), Vec<u32>> = BTreeMap::new();
        for start in starts {
            let had = |state: &Option<Wanted>| {
                state.as_ref().is_some_and(|it| it.containers.get(&start.container) == Some(&start.version))
            };
            if !self.states.iter().any(had) {
                wrong.push(format!("{start:?}: no manifest had that version"));
            }
            let before = seen.entry((&start.uid, &start.container)).or_default();
            if before.contains(&start.version) {
                wrong.push(format!("{start:?}: it had started before in the same life of the pod"));
            } else if before.iter().any(|version| *version > start.version) {
                wrong.push(format!("{start:?}: a newer version had started before"));
            }
            before.push(start.version);
        }
        let lives = self.lives();
        let mut uids: Vec<&str> = starts.iter().map(|start| start.uid.as_str()).collect();
        uids.dedup();
        let distinct = uids.iter().collect::<std::collections::BTreeSet<_>>().len();
        if distinct > lives {
            wrong.push(format!("{distinct} lives of a pod that was added {lives} times: {uids:?}"));
        }
        if uids.len() != distinct {
            wrong.push(format!("a life went on after another had begun: {uids:?}"));
        }
        wrong
    }

    /// How often the pod was added.
    fn lives(&self) -> usize {
        let mut there = false;
        let mut lives = 0;
        for state in &self.states {
            lives += usize::from(state.is_some() && !there);
            there = state.is_some();
        }
        lives
    }
}
