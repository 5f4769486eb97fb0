//! Files and directories of a node, beyond its images and its layout.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use serde_json::Value;

use super::{After, Kind, Leak, Scope};

/// Everything below the three directories that speaks of a pod, a run, an unfinished import or a lease.
///
/// The layout stays: the first level of directories, empty; files that belong to the whole node (the boot id, locks,
/// generations), which lie at the top.
pub(super) fn find(scope: &Scope, after: After) -> Vec<Leak> {
    let mut leaks = Vec::new();
    for dir in [&scope.root_dir, &scope.state_dir] {
        for (name, path) in entries(dir) {
            match name.as_str() {
                "images" => unfinished(&path, 0, &mut leaks),
                "network" => network(&path, after, &mut leaks),
                // Two directories of records.
                "desired" => entries(&path).iter().for_each(|(_, path)| everything(path, &mut leaks)),
                // The administrator's profiles, and what users keep.
                "seccomp" | "claims" => {}
                // The node's own certificates, for the next agent.
                "pki" if after == After::Run => {}
                _ if path.is_dir() && !path.is_symlink() => everything(&path, &mut leaks),
                // A file of the whole node.
                _ => {}
            }
        }
    }
    everything(&scope.log_dir, &mut leaks);
    leaks
}

fn entries(dir: &Path) -> Vec<(String, std::path::PathBuf)> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.map(|entry| (entry.file_name().to_string_lossy().into_owned(), entry.path())).collect()
}

fn is_lock(name: &str) -> bool {
    name == "lock" || name.ends_with(".lock")
}

/// The topmost things in `dir`: a leaked directory is one leak, not one for each file in it.
fn everything(dir: &Path, leaks: &mut Vec<Leak>) {
    for (name, path) in entries(dir) {
        if is_lock(&name) {
            continue;
        }
        leaks.push(Leak::new(Kind::File, describe(&path)));
    }
}

/// Addresses that a pod holds, and what is none of the files that the network keeps between pods; after `gc --all` those
/// too.
fn network(dir: &Path, after: After, leaks: &mut Vec<Leak>) {
    for (name, path) in entries(dir) {
        match name.as_str() {
            "leases.json" | "services.json" | "network.json" | "repairs.json" if after == After::Run => {}
            "addresses" => {
                let stays = |path: &Path| after == After::Run && is_idle(path);
                let busy = entries(&path).into_iter().filter(|(_, path)| !stays(path));
                leaks.extend(busy.map(|(_, path)| Leak::new(Kind::Lease, describe(&path))));
            }
            // Where owners' wishes were.
            "wanted" => everything(&path, leaks),
            name if is_lock(name) => {}
            "leases.json" => leaks.push(Leak::new(Kind::Lease, describe(&path))),
            _ => leaks.push(Leak::new(Kind::File, describe(&path))),
        }
    }
}

/// Whether a marker says that its pod is gone and only its name still has the address.
fn is_idle(marker: &Path) -> bool {
    let text = fs::read(marker).unwrap_or_default();
    serde_json::from_slice::<Value>(&text).is_ok_and(|marker| !marker["idle"].is_null())
}

/// Temporaries of an import and records that could not be read, at the upper levels of the store: below them lie the layers' own files.
fn unfinished(dir: &Path, depth: usize, leaks: &mut Vec<Leak>) {
    for (name, path) in entries(dir) {
        let holds_temporaries = matches!(name.as_str(), "tmp" | "quarantine");
        if holds_temporaries && path.is_dir() {
            everything(&path, leaks);
        } else if [".tmp", ".partial", "tmp-", ".unpack"].iter().any(|mark| name.contains(mark)) {
            leaks.push(Leak::new(Kind::File, describe(&path)));
        } else if depth < 1 && path.is_dir() && !path.is_symlink() {
            unfinished(&path, depth + 1, leaks);
        }
    }
}

fn describe(path: &Path) -> String {
    let Ok(data) = fs::symlink_metadata(path) else { return path.display().to_string() };
    let inside = entries(path).len();
    let what = if data.is_dir() { format!("directory of {inside}") } else { format!("{} bytes", data.size()) };
    format!("{} ({what})", path.display())
}
