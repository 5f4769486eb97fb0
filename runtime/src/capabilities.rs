//! Capability sets, and how a container's set follows from what its pod asks and what the runtime itself may give.

use std::fmt;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// Every capability's name without `CAP_`, at the index of its number (capabilities(7)).
#[rustfmt::skip]
pub const NAMES: [&str; 41] = [
    "CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP",
    "LINUX_IMMUTABLE", "NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW", "IPC_LOCK", "IPC_OWNER",
    "SYS_MODULE", "SYS_RAWIO", "SYS_CHROOT", "SYS_PTRACE", "SYS_PACCT", "SYS_ADMIN", "SYS_BOOT", "SYS_NICE",
    "SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "MKNOD", "LEASE", "AUDIT_WRITE", "AUDIT_CONTROL", "SETFCAP",
    "MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG", "WAKE_ALARM", "BLOCK_SUSPEND", "AUDIT_READ", "PERFMON", "BPF",
    "CHECKPOINT_RESTORE",
];

/// A set of capabilities as the kernel's own bit mask.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CapSet(pub u64);

/// Why a set of capabilities cannot be formed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A name that is no capability.
    #[error("unknown capability {name:?}{}", hint.map(|h| format!(": did you mean {h}?")).unwrap_or_default())]
    Unknown {
        /// As it was written.
        name: String,
        /// The nearest name that exists.
        hint: Option<&'static str>,
    },
    /// `/proc/self/status` could not be read.
    #[error("read the runtime's own capabilities from {path}")]
    Status {
        /// The file read.
        path: String,
        /// The cause.
        source: std::io::Error,
    },
    /// `/proc/self/status` has no such line.
    #[error("{path} has no valid {field} line: is this a Linux procfs?")]
    Field {
        /// The file read.
        path: String,
        /// The line looked for.
        field: &'static str,
    },
}

/// A container's capabilities, and what it asked for that the runtime does not have itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Computed {
    /// What the container gets: bounding, permitted and effective.
    pub set: CapSet,
    /// What was due by request or default, and is absent because the runtime lacks it.
    pub clamped: CapSet,
}

impl CapSet {
    /// No capability.
    pub const EMPTY: CapSet = CapSet(0);
    /// Every capability this version of the software knows.
    pub const ALL: CapSet = CapSet((1 << NAMES.len()) - 1);
    /// The 14 that a container has when nothing is said.
    pub const DEFAULT: CapSet = CapSet(
        1 << 0          // CHOWN
            | 1 << 1    // DAC_OVERRIDE
            | 1 << 3    // FOWNER
            | 1 << 4    // FSETID
            | 1 << 5    // KILL
            | 1 << 6    // SETGID
            | 1 << 7    // SETUID
            | 1 << 8    // SETPCAP
            | 1 << 10   // NET_BIND_SERVICE
            | 1 << 13   // NET_RAW
            | 1 << 18   // SYS_CHROOT
            | 1 << 27   // MKNOD
            | 1 << 29   // AUDIT_WRITE
            | 1 << 31, // SETFCAP
    );

    /// The set of names, each with or without `CAP_`, in any case; `ALL` is every known capability.
    pub fn from_names<S: AsRef<str>>(names: impl IntoIterator<Item = S>) -> Result<CapSet, Error> {
        let mut set = CapSet::EMPTY;
        for name in names {
            set = set | parse(name.as_ref())?;
        }
        Ok(set)
    }

    /// Whether it holds the capability of this number.
    pub fn has(self, number: u32) -> bool {
        number < 64 && self.0 & (1 << number) != 0
    }

    /// Whether it holds the capability of this name (with or without `CAP_`); false for a name that does not exist.
    pub fn has_name(self, name: &str) -> bool {
        parse(name).is_ok_and(|cap| !cap.is_empty() && self.contains(cap))
    }

    /// Whether it holds all of `other`.
    pub fn contains(self, other: CapSet) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether it holds nothing.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// What is in this set and not in `other`.
    pub fn minus(self, other: CapSet) -> CapSet {
        CapSet(self.0 & !other.0)
    }

    /// The names, with `CAP_`, in the order of their numbers. Numbers newer than this software are `CAP_<number>`.
    pub fn names(self) -> Vec<String> {
        (0..64)
            .filter(|n| self.has(*n))
            .map(|n| match NAMES.get(n as usize) {
                Some(name) => format!("CAP_{name}"),
                None => format!("CAP_{n}"),
            })
            .collect()
    }

    /// What this process may hand on: its bounding set, as far as it is permitted.
    pub fn available(proc_root: &Path) -> Result<CapSet, Error> {
        let path = proc_root.join("self/status");
        let shown = path.display().to_string();
        let text = std::fs::read_to_string(&path).map_err(|source| Error::Status { path: shown.clone(), source })?;
        let field = |field: &'static str| {
            text.lines()
                .find_map(|line| line.strip_prefix(field))
                .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
                .ok_or(Error::Field { path: shown.clone(), field })
        };
        Ok(CapSet(field("CapBnd:")? & field("CapPrm:")?))
    }
}

/// A container's set as Kubernetes defines it. `ALL` in `add` or `drop` replaces the base; then single names are added,
/// then single names are dropped, so that `drop: [ALL], add: [X]` gives X alone. `available` bounds the result.
pub fn compute<S: AsRef<str>>(add: &[S], drop: &[S], privileged: bool, available: CapSet) -> Result<Computed, Error> {
    let is_all = |name: &S| name.as_ref().eq_ignore_ascii_case("ALL");
    let single = |names: &[S]| CapSet::from_names(names.iter().filter(|n| !is_all(n)));
    let (added, dropped) = (single(add)?, single(drop)?);
    let mut base = CapSet::DEFAULT;
    if add.iter().any(is_all) {
        base = CapSet::ALL;
    }
    if drop.iter().any(is_all) {
        base = CapSet::EMPTY;
    }
    // "Privileged" and ALL mean all that the node can give, newer than this software or not; neither counts as clamped.
    let wildcard = privileged || base == CapSet::ALL;
    let asked = if privileged { CapSet(available.0 | added.0) } else { (base | added).minus(dropped) };
    let asked = if wildcard && !privileged { CapSet(asked.0 | available.minus(CapSet::ALL).0) } else { asked };
    let due = if wildcard { added } else { asked };
    Ok(Computed { set: asked & available, clamped: due.minus(available) })
}

fn parse(name: &str) -> Result<CapSet, Error> {
    let upper = name.trim().to_ascii_uppercase();
    if upper == "ALL" {
        return Ok(CapSet::ALL);
    }
    let bare = upper.strip_prefix("CAP_").unwrap_or(&upper);
    match NAMES.iter().position(|known| *known == bare) {
        Some(number) => Ok(CapSet(1 << number)),
        None => Err(Error::Unknown { name: name.to_owned(), hint: nearest(bare) }),
    }
}

/// The known name at an edit distance of at most 2.
fn nearest(name: &str) -> Option<&'static str> {
    NAMES.iter().map(|known| (distance(name, known), *known)).filter(|(d, _)| *d <= 2).min().map(|(_, known)| known)
}

fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().take(64).enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let cost = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = cost.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

impl std::ops::BitOr for CapSet {
    type Output = CapSet;
    fn bitor(self, other: CapSet) -> CapSet {
        CapSet(self.0 | other.0)
    }
}

impl std::ops::BitAnd for CapSet {
    type Output = CapSet;
    fn bitand(self, other: CapSet) -> CapSet {
        CapSet(self.0 & other.0)
    }
}

impl fmt::Debug for CapSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.names()).finish()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn names(list: &[&str]) -> CapSet {
        CapSet::from_names(list).unwrap()
    }

    #[test]
    fn the_default_set_has_the_fourteen_names() {
        #[rustfmt::skip]
        let expected = [
            "AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD", "NET_BIND_SERVICE",
            "NET_RAW", "SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT",
        ];
        assert_eq!(CapSet::DEFAULT, names(&expected));
        assert_eq!(CapSet::DEFAULT.names().len(), 14);
        assert_eq!(CapSet::DEFAULT.0, 0xa804_25fb);
    }

    #[test]
    fn names_are_read_with_and_without_prefix_in_any_case() {
        assert_eq!(names(&["CAP_SYS_ADMIN"]), names(&["sys_admin"]));
        assert_eq!(names(&["SYS_ADMIN"]).0, 1 << 21);
        assert_eq!(names(&["all"]), CapSet::ALL);
    }

    #[test]
    fn an_unknown_name_is_an_error_with_a_suggestion() {
        let message = CapSet::from_names(["NET_ADMN"]).unwrap_err().to_string();
        assert_eq!(message, "unknown capability \"NET_ADMN\": did you mean NET_ADMIN?");
        assert_eq!(CapSet::from_names(["BANANA"]).unwrap_err().to_string(), "unknown capability \"BANANA\"");
    }

    #[test]
    fn sets_follow_from_add_drop_and_privileged() {
        let everything = CapSet::ALL;
        let without_resource = CapSet::ALL.minus(names(&["SYS_RESOURCE"]));
        struct Row {
            add: &'static [&'static str],
            drop: &'static [&'static str],
            privileged: bool,
            available: CapSet,
            set: CapSet,
            clamped: CapSet,
        }
        let base = Row {
            add: &[],
            drop: &[],
            privileged: false,
            available: everything,
            set: CapSet::DEFAULT,
            clamped: CapSet::EMPTY,
        };
        let rows = [
            Row { ..base },
            Row { add: &["NET_ADMIN"], set: CapSet::DEFAULT | names(&["NET_ADMIN"]), ..base },
            Row { drop: &["CAP_NET_RAW"], set: CapSet::DEFAULT.minus(names(&["NET_RAW"])), ..base },
            Row { drop: &["ALL"], set: CapSet::EMPTY, ..base },
            Row { drop: &["ALL"], add: &["CHOWN"], set: names(&["CHOWN"]), ..base },
            Row { add: &["ALL"], set: everything, ..base },
            Row { add: &["ALL"], drop: &["SYS_ADMIN"], set: everything.minus(names(&["SYS_ADMIN"])), ..base },
            Row { add: &["ALL"], available: without_resource, set: without_resource, ..base },
            Row { privileged: true, drop: &["ALL"], set: everything, ..base },
            Row { privileged: true, available: without_resource, set: without_resource, ..base },
            Row { add: &["SYS_RESOURCE"], available: without_resource, clamped: names(&["SYS_RESOURCE"]), ..base },
            Row {
                available: names(&["CHOWN"]),
                set: names(&["CHOWN"]),
                clamped: CapSet::DEFAULT.minus(names(&["CHOWN"])),
                ..base
            },
        ];
        for row in rows {
            let got = compute(row.add, row.drop, row.privileged, row.available).unwrap();
            assert_eq!(
                got,
                Computed { set: row.set, clamped: row.clamped },
                "add {:?} drop {:?} privileged {}",
                row.add,
                row.drop,
                row.privileged
            );
        }
    }

    #[test]
    fn add_and_drop_of_the_same_name_drops_it() {
        let got = compute(&["NET_ADMIN"], &["NET_ADMIN"], false, CapSet::ALL).unwrap();
        assert_eq!(got.set, CapSet::DEFAULT);
    }

    #[test]
    fn the_available_set_is_read_from_proc() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("self")).unwrap();
        let status = dir.path().join("self/status");
        std::fs::write(&status, "CapPrm:\t000001fffeffffff\nCapBnd:\t00000000a80425fb\n").unwrap();
        assert_eq!(CapSet::available(dir.path()).unwrap(), CapSet::DEFAULT);
        std::fs::write(&status, "Name:\tx\n").unwrap();
        assert!(CapSet::available(dir.path()).unwrap_err().to_string().contains("CapBnd"));
    }

    #[test]
    fn a_set_is_a_number_in_json() {
        assert_eq!(serde_json::to_string(&CapSet::DEFAULT).unwrap(), "2818844155");
    }
}
