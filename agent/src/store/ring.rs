//! The latest changes.

use std::collections::VecDeque;
use std::time::Instant;

use super::{Kind, Object};

/// What happened to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// It was not there before.
    Added,
    /// It has changed.
    Modified,
    /// It is gone.
    Deleted,
}

/// One change of one object.
#[derive(Clone, Debug)]
pub struct Change {
    /// The version that it made.
    pub version: u64,
    /// What happened.
    pub what: What,
    /// The object now, or as it was last; with that version.
    pub object: Object,
    /// The object as it was, if it was there.
    pub before: Option<Object>,
}

/// A bounded number of changes, in the order of their versions.
#[derive(Debug)]
pub(super) struct Ring {
    changes: VecDeque<(Instant, Change)>,
    most: usize,
    /// All changes after this version are here.
    complete_since: u64,
}

impl Ring {
    pub(super) fn new(most: usize, version: u64) -> Self {
        Self { changes: VecDeque::new(), most, complete_since: version }
    }

    pub(super) fn push(&mut self, change: Change) {
        if self.changes.len() >= self.most {
            self.forget_first();
        }
        self.changes.push_back((Instant::now(), change));
    }

    /// Forgets what happened before an instant.
    pub(super) fn forget_before(&mut self, instant: Option<Instant>) {
        let Some(instant) = instant else { return };
        while self.changes.front().is_some_and(|(at, _)| *at < instant) {
            self.forget_first();
        }
        self.changes.shrink_to(self.changes.len() * 2);
    }

    fn forget_first(&mut self) {
        if let Some((_, first)) = self.changes.pop_front() {
            self.complete_since = first.version;
        }
    }

    /// Whether nothing after `version` was forgotten.
    pub(super) fn reaches(&self, version: u64) -> bool {
        version >= self.complete_since
    }

    /// The first change of a kind after a version.
    pub(super) fn after(&self, version: u64, kind: Kind) -> Option<&Change> {
        let from = self.changes.partition_point(|(_, change)| change.version <= version);
        self.changes.range(from..).map(|(_, change)| change).find(|change| change.object.kind() == kind)
    }
}
