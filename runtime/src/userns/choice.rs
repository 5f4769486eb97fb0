//! Which ids of the host a pod gets, where its client leaves that to the runtime.

use std::path::Path;

/// Ids of one pod. Kubernetes wants at least as many, and at a multiple of it, so that no two pods are in each other's
/// reach when a volume moves between nodes.
pub const LENGTH: u32 = 65_536;

/// Beyond it some programs and filesystems take ids for negative numbers.
const END: u64 = 1 << 31;

/// The ranges that pods may use and that others have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ranges {
    /// First id and number of ids that pods may use; none is everything from 65536 on.
    pub ours: Option<(u64, u64)>,
    /// What others have.
    pub taken: Vec<(u64, u64)>,
}

impl Ranges {
    /// What `/etc/subuid` and `/etc/subgid` say (subuid(5)): the range of the user `kubelet`, as kubelet has it, is for
    /// pods; every other user's is not.
    pub fn read(etc: &Path) -> Self {
        let read = |name: &str| std::fs::read_to_string(etc.join(name)).unwrap_or_default();
        Self::parse(&read("subuid"), &read("subgid"))
    }

    pub(super) fn parse(subuid: &str, subgid: &str) -> Self {
        let (uids, gids) = (entries(subuid), entries(subgid));
        let of_kubelet = |entries: &[(String, u64, u64)]| {
            entries.iter().find(|it| it.0 == "kubelet").map(|&(_, first, count)| (first, count))
        };
        // A pod's users and groups are mapped alike, so only a range that both files have is one.
        let ours = of_kubelet(&uids).filter(|range| of_kubelet(&gids) == Some(*range));
        let others = uids.iter().chain(&gids).filter(|it| it.0 != "kubelet");
        let taken = others.map(|&(_, first, count)| (first, count)).collect();
        Self { ours, taken }
    }
}

/// NAME:FIRST:COUNT, one a line. Others are comments, or somebody else's mistakes.
fn entries(text: &str) -> Vec<(String, u64, u64)> {
    let entry = |line: &str| {
        let mut parts = line.trim().split(':');
        let (name, first, count) = (parts.next()?, parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        Some((name.to_owned(), first, count))
    };
    text.lines().filter_map(entry).collect()
}

/// The first host id of a range that nobody has. `used` are those of the sandboxes that there are: first id and number.
pub fn choose(ranges: &Ranges, used: &[(u64, u64)]) -> Option<u32> {
    let length = u64::from(LENGTH);
    let (first, count) = ranges.ours.unwrap_or((length, END - length));
    let end = first.saturating_add(count).min(END);
    let mut start = first.max(length).next_multiple_of(length);
    while start + length <= end {
        let overlaps = |&&(first, count): &&(u64, u64)| first < start + length && start < first.saturating_add(count);
        match used.iter().chain(&ranges.taken).find(overlaps) {
            None => return u32::try_from(start).ok(),
            Some((first, count)) => start = first.saturating_add(*count).max(start + 1).next_multiple_of(length),
        }
    }
    None
}
