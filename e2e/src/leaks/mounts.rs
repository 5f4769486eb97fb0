//! Mounts in every mount namespace, and the namespaces that mounts pin.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::process::Command;

use super::{Kind, Leak, Scope, names};

/// A line of mountinfo.
pub(super) struct Mount {
    pub root: String,
    pub point: String,
    fstype: String,
    source: String,
    options: String,
}

impl Mount {
    fn parse(line: &str) -> Option<Self> {
        let (before, after) = line.split_once(" - ")?;
        let mut before = before.split(' ').skip(3);
        let mut after = after.split(' ');
        Some(Self {
            root: unescape(before.next()?),
            point: unescape(before.next()?),
            fstype: after.next()?.to_owned(),
            source: unescape(after.next()?),
            options: unescape(after.next().unwrap_or_default()),
        })
    }

    fn mentions(&self, marks: &[String]) -> bool {
        [&self.point, &self.root, &self.source, &self.options].into_iter().any(|field| names(field, marks))
    }
}

/// The mounts that a process sees; none if it is gone.
pub(super) fn of_process(pid: &str) -> Vec<Mount> {
    let text = fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap_or_default();
    text.lines().filter_map(Mount::parse).collect()
}

/// Every mount of the node, once for each mount namespace that holds it.
pub(super) fn find(scope: &Scope, marks: &[String]) -> Vec<Leak> {
    let mut seen = BTreeSet::new();
    let mut leaks = Vec::new();
    for pid in namespaces(&mut seen) {
        for mount in of_process(&pid).iter().filter(|mount| mount.mentions(marks)) {
            // A filesystem mounted exactly there is whoever made the directory's, not the node's.
            if scope.dirs().iter().any(|dir| dir.to_str() == Some(&mount.point)) {
                continue;
            }
            let kind = if mount.fstype == "nsfs" { Kind::Namespace } else { Kind::Mount };
            let Mount { root, point, fstype, source, .. } = mount;
            let place =
                if pid == "self" { String::new() } else { format!(", in the mount namespace of process {pid}") };
            leaks.push(Leak::new(kind, format!("{point} ({fstype}, from {source}, root {root}){place}")));
        }
    }
    leaks
}

/// One process of each mount namespace, this one's first.
fn namespaces(seen: &mut BTreeSet<OsString>) -> Vec<String> {
    let others = fs::read_dir("/proc").into_iter().flatten().flatten();
    let numbers = others.filter_map(|entry| entry.file_name().into_string().ok());
    let pids = std::iter::once("self".to_owned()).chain(numbers.filter(|name| name.parse::<u32>().is_ok()));
    let mut first_of = |pid: &String| {
        fs::read_link(format!("/proc/{pid}/ns/mnt")).is_ok_and(|namespace| seen.insert(namespace.into_os_string()))
    };
    pids.filter(|pid| first_of(pid)).collect()
}

/// Detaches the node's mounts of this namespace, the innermost first.
pub(super) fn detach(scope: &Scope) {
    let marks: Vec<String> = scope.dirs().iter().map(|dir| dir.to_string_lossy().into_owned()).collect();
    for mount in of_process("self").iter().rev().filter(|mount| names(&mount.point, &marks)) {
        // A shared mount may have gone with its peer.
        let _ = Command::new("umount").args(["--lazy", &mount.point]).output();
    }
}

/// mountinfo writes blanks and backslashes as octal.
fn unescape(field: &str) -> String {
    let mut out = String::with_capacity(field.len());
    let mut rest = field;
    while let Some((before, after)) = rest.split_once('\\') {
        out.push_str(before);
        match after.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                out.push(char::from(byte));
                rest = &after[3..];
            }
            None => {
                out.push('\\');
                rest = after;
            }
        }
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::Mount;

    #[test]
    fn mountinfo_is_read_with_optional_fields_and_escapes() {
        let line = r"36 35 98:0 /ro\040ot /mnt\0402 rw,noatime master:1 shared:7 - ext3 /dev/root rw,errors=continue";
        let mount = Mount::parse(line).expect("a line of proc(5)");
        assert_eq!(mount.root, "/ro ot");
        assert_eq!(mount.point, "/mnt 2");
        assert_eq!((mount.fstype.as_str(), mount.source.as_str()), ("ext3", "/dev/root"));
    }
}
