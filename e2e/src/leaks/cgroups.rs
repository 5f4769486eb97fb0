//! Cgroups of a node, in every hierarchy.

use std::fs;
use std::path::{Path, PathBuf};

use super::{After, Kind, Leak};

/// The roots named `name`, wherever they are: Coracle may itself run some levels down.
pub(super) fn roots(name: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for hierarchy in hierarchies() {
        search(&hierarchy, name, 6, &mut found);
    }
    found
}

/// Where the hierarchies of both versions are mounted.
pub fn hierarchies() -> Vec<PathBuf> {
    let text = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let cgroup = |line: &&str| line.contains(" - cgroup ") || line.contains(" - cgroup2 ");
    let points = text.lines().filter(cgroup).filter_map(|line| line.split(' ').nth(4));
    points.map(PathBuf::from).collect()
}

fn children(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|entry| entry.path()).collect()
}

fn search(dir: &Path, name: &str, depth: usize, found: &mut Vec<PathBuf>) {
    for child in children(dir) {
        if child.file_name().is_some_and(|last| last == name) {
            found.push(child);
        } else if depth > 0 {
            search(&child, name, depth - 1, found);
        }
    }
}

/// Every cgroup of the node. After a run its empty root, and the empty parent of the shims, may stay.
pub(super) fn find(name: &str, after: After) -> Vec<Leak> {
    let mut leaks = Vec::new();
    for root in roots(name) {
        let mut all = vec![root.clone()];
        let mut next = 0;
        while next < all.len() {
            let below = children(&all[next]);
            all.extend(below);
            next += 1;
        }
        for cgroup in all {
            let layout = cgroup == root || cgroup == root.join("coracle-shims");
            let processes = fs::read_to_string(cgroup.join("cgroup.procs")).unwrap_or_default();
            if layout && after == After::Run && processes.is_empty() {
                continue;
            }
            let holds = processes.split_whitespace().collect::<Vec<_>>().join(" ");
            leaks.push(Leak::new(Kind::Cgroup, format!("{} (processes: {holds})", cgroup.display())));
        }
    }
    leaks
}

/// Removes the node's cgroups, the innermost first.
pub(super) fn remove(name: &str) {
    fn remove_tree(dir: &Path) {
        for child in children(dir) {
            remove_tree(&child);
        }
        // EBUSY: a dying process holds it for a moment more; the next check shows it if it stays.
        let _ = fs::remove_dir(dir);
    }
    for root in roots(name) {
        remove_tree(&root);
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn this_machine_has_hierarchies() {
        assert!(!super::hierarchies().is_empty());
    }
}
