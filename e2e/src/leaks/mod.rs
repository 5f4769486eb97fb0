//! The leak checker: everything that a node has left in the kernel and on the disk, found by the node's names alone.
//!
//! It asks the kernel (`/proc`, the cgroup hierarchies, every mount namespace) and the directories, never Coracle's own
//! records: a record is one of the things that may be wrong. What it looks for:
//!
//! - processes whose cgroup, command line, executable, root, working directory or descriptors name the node, and
//!   processes of the binary that belong to no living parent (a zygote whose agent is gone);
//! - mounts in any mount namespace that it can read, whose place or source lies in the node's directories;
//! - namespaces pinned there;
//! - cgroups below a directory with the node's cgroup root as its name, in every hierarchy;
//! - files and directories in the state and root directories, except images and what is merely the layout; addresses
//!   that a pod still holds;
//! - in the network namespace of the node's host: links of pods, nftables tables, routes that claim a range, sysctls
//!   that are not what they were when the node was made.

mod cgroups;
mod files;
mod mounts;
pub mod network;
mod processes;

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

pub use cgroups::hierarchies;
pub use network::Network;

/// What kind of thing was left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A process, living or a zombie.
    Process,
    /// A mount, in any mount namespace.
    Mount,
    /// A namespace kept alive by a bind mount.
    Namespace,
    /// A cgroup.
    Cgroup,
    /// A link of a pod.
    Link,
    /// A table of nftables.
    Rules,
    /// A route that claims a range.
    Route,
    /// A sysctl that was changed.
    Sysctl,
    /// An address or another thing that is leased.
    Lease,
    /// Any other file or directory.
    File,
}

/// One thing that was left, with what a reader needs to find out why.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Leak {
    /// Its kind.
    pub kind: Kind,
    /// Where it is and what it is.
    pub what: String,
}

impl Leak {
    fn new(kind: Kind, what: impl Into<String>) -> Self {
        Self { kind, what: what.into() }
    }

    /// One line for each.
    pub fn list(leaks: &[Leak]) -> String {
        leaks.iter().map(|leak| format!("  {leak}\n")).collect()
    }
}

impl fmt::Display for Leak {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.kind, self.what)
    }
}

/// What has just happened, which decides what may still be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    /// `run` ended, or a plain `gc`, and no pod is there: the node's empty cgroup root may stay, addresses keep their
    /// pods' names, and packets are still forwarded.
    Run,
    /// `gc --all`: nothing stays but images.
    GcAll,
}

/// The names of one node.
#[derive(Clone, Debug)]
pub struct Scope {
    /// `--root-dir`
    pub root_dir: PathBuf,
    /// `--state-dir`
    pub state_dir: PathBuf,
    /// `--log-dir`
    pub log_dir: PathBuf,
    /// `--cgroup-root`
    pub cgroup_root: String,
    /// The binary, to find its processes that nothing else ties to the node.
    pub binary: Option<PathBuf>,
    /// The network of its host, if it has one of its own.
    pub network: Option<Network>,
}

impl Scope {
    /// Everything that is left now.
    pub fn find(&self, after: After) -> Vec<Leak> {
        let marks = self.marks();
        let mut leaks = processes::find(self, &marks);
        leaks.extend(mounts::find(self, &marks));
        leaks.extend(cgroups::find(&self.cgroup_root, after));
        leaks.extend(files::find(self, after));
        leaks.extend(self.network.iter().flat_map(|network| network.find(after)));
        leaks.sort();
        leaks.dedup();
        leaks
    }

    /// What is still left after `patience`: the kernel takes a moment to bury what was killed.
    pub fn settle(&self, after: After, patience: Duration) -> Vec<Leak> {
        let deadline = Instant::now() + patience;
        loop {
            let leaks = self.find(after);
            if leaks.is_empty() || Instant::now() >= deadline {
                return leaks;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Removes by force what a failed test left, so that the next one starts on a clean machine.
    pub fn scrub(&self) {
        self.cut_power();
        for dir in [&self.state_dir, &self.root_dir, &self.log_dir] {
            // The directory's owner removes it again, with its parent; a failure shows there.
            let _ = std::fs::remove_dir_all(dir);
        }
    }

    /// Ends what does not outlive a boot: processes, mounts, cgroups.
    pub fn cut_power(&self) {
        processes::kill(self, &self.marks());
        mounts::detach(self);
        cgroups::remove(&self.cgroup_root);
    }

    fn dirs(&self) -> [&Path; 3] {
        [&self.root_dir, &self.state_dir, &self.log_dir]
    }

    /// The paths that name the node, as this mount namespace spells them and as the filesystems below it do.
    fn marks(&self) -> Vec<String> {
        let mounts = mounts::of_process("self");
        let mut marks = Vec::new();
        for dir in self.dirs() {
            marks.push(dir.to_string_lossy().into_owned());
            let holder = mounts.iter().filter(|mount| dir.starts_with(&mount.point));
            if let Some(mount) = holder.max_by_key(|mount| mount.point.len())
                && let Ok(below) = dir.strip_prefix(&mount.point)
                && below.components().next().is_some()
            {
                marks.push(Path::new(&mount.root).join(below).to_string_lossy().into_owned());
            }
        }
        marks.sort();
        marks.dedup();
        marks
    }
}

/// Whether `text` contains one of the paths, whole: `/a/root` is in `x=/a/root/b`, not in `/a/root2`.
fn names(text: &str, marks: &[String]) -> bool {
    let whole = |rest: &str| !rest.starts_with(|next: char| next.is_alphanumeric() || next == '-' || next == '_');
    marks.iter().any(|mark| text.match_indices(mark.as_str()).any(|(at, _)| whole(&text[at + mark.len()..])))
}

#[cfg(test)]
mod tests {
    use super::names;

    #[test]
    fn a_mark_is_found_only_as_a_whole_path() {
        let marks = ["/tmp/n-1/root".to_owned()];
        for (text, expected) in [
            ("/tmp/n-1/root", true),
            ("lowerdir=/tmp/n-1/root/a:/b", true),
            ("/tmp/n-1/root2 /tmp/n-1/root/x", true),
            ("/tmp/n-1/root2", false),
            ("/tmp/n-1/root-old", false),
            ("/tmp/n-11/root", false),
        ] {
            assert_eq!(names(text, &marks), expected, "{text}");
        }
    }
}
