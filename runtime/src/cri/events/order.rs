//! The order of events: what happens to a container is heard from its shim and from whoever asked for it, and whoever
//! listens is told each thing once, in the order in which it must have happened.
//!
//! ```text
//!   Unknown ──> Created ──> Started ──> Stopped ──> Deleted
//!                  └── it never ran ──────^           ^
//!                  └──────────────────────────────────┘
//! ```

/// Where a container or a sandbox is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Nothing was told of it.
    Unknown,
    /// It was made.
    Created,
    /// It runs.
    Started,
    /// It has ended.
    Stopped,
    /// It is gone.
    Deleted,
}

/// What is to be told when it is heard that something at `now` has come to `next`: nothing if that was told before, and
/// first of all what must have come before it. `ran`: it was started some time.
pub fn due(now: Phase, next: Phase, ran: bool) -> Vec<Phase> {
    use Phase::{Created, Deleted, Started, Stopped};
    let ran = ran || now == Started;
    let came = |it: &Phase| match it {
        Started => ran || next == Started,
        // What never ran ends when it is said to; that it is gone says nothing of an end.
        Stopped => ran || next == Stopped,
        _ => true,
    };
    let between = [Created, Started, Stopped, Deleted].into_iter().filter(|it| now < *it && *it <= next);
    between.filter(came).collect()
}

#[cfg(test)]
mod tests {
    use super::Phase::{Created, Deleted, Started, Stopped, Unknown};
    use super::*;

    #[test]
    fn everything_is_told_once_and_in_order() {
        let cases: [(Phase, Phase, bool, &[Phase]); 14] = [
            (Unknown, Created, false, &[Created]),
            (Created, Started, true, &[Started]),
            (Started, Stopped, true, &[Stopped]),
            (Stopped, Deleted, true, &[Deleted]),
            // Its end is heard from the shim before its start from whoever asked for it.
            (Created, Stopped, true, &[Started, Stopped]),
            (Stopped, Started, true, &[]),
            (Unknown, Stopped, true, &[Created, Started, Stopped]),
            // It could not be run.
            (Created, Stopped, false, &[Stopped]),
            (Unknown, Stopped, false, &[Created, Stopped]),
            // It was removed, running or not.
            (Started, Deleted, false, &[Stopped, Deleted]),
            (Created, Deleted, false, &[Deleted]),
            (Created, Deleted, true, &[Started, Stopped, Deleted]),
            // Heard again.
            (Stopped, Stopped, true, &[]),
            (Deleted, Stopped, true, &[]),
        ];
        for (now, next, ran, expected) in cases {
            assert_eq!(due(now, next, ran), expected, "{now:?} {next:?} {ran}");
        }
    }
}
