//! Whatever entries a layer holds, in whatever order: nothing outside its directory is made or changed.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use tar::EntryType;

use super::craft::{E, unpack};
use crate::images::{Error, Problem};

/// Few names, so that entries meet: through links, over each other, up and down.
fn part() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["a", "b", "c", "..", ".", "victim", ".wh.a", ".wh.b", ".wh..wh..opq", ".wh.", ""])
}

fn path() -> impl Strategy<Value = String> {
    prop::collection::vec(part(), 1..5).prop_map(|parts| parts.join("/"))
}

fn entry() -> impl Strategy<Value = E> {
    let kind = prop::sample::select(vec![
        EntryType::Regular,
        EntryType::Regular,
        EntryType::Directory,
        EntryType::Directory,
        EntryType::Symlink,
        EntryType::Symlink,
        EntryType::Link,
        EntryType::Fifo,
        EntryType::Char,
    ]);
    let link = prop_oneof![path(), path().prop_map(|p| format!("/{p}")), Just("../..".to_owned())];
    (kind, path(), link, 0u32..0o10000).prop_map(|(kind, path, link, mode)| E {
        link: link.into(),
        mode,
        device: (1, 3),
        data: if kind == EntryType::Regular { b"evil".to_vec() } else { Vec::new() },
        ..E::new(kind, path)
    })
}

/// Everything below `root` but the layer: kind, owner, mode, time and content.
fn outside(root: &Path) -> BTreeMap<PathBuf, (u32, u64, i64, Vec<u8>)> {
    let mut found = BTreeMap::new();
    let mut pending = vec![root.to_owned()];
    while let Some(at) = pending.pop() {
        for entry in fs::read_dir(&at).unwrap() {
            let path = entry.unwrap().path();
            if path.ends_with("up/layer") {
                continue;
            }
            let meta = fs::symlink_metadata(&path).unwrap();
            let content = if meta.is_file() { fs::read(&path).unwrap() } else { Vec::new() };
            // The directory that the layer stands in gets a new time from the layer's own making.
            let time = if path.ends_with("up") { 0 } else { meta.mtime_nsec() };
            found.insert(path.clone(), (meta.mode(), meta.nlink(), time, content));
            if meta.is_dir() {
                pending.push(path);
            }
        }
    }
    found
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn nothing_outside_the_layer_is_touched(entries in prop::collection::vec(entry(), 1..24), base: bool) {
        let root = tempfile::tempdir().unwrap();
        let up = root.path().join("up");
        for directory in ["a", "b", "up/a", "up/b", "up/lower/a"] {
            fs::create_dir_all(root.path().join(directory)).unwrap();
        }
        for victim in ["victim", "a/victim", "up/victim", "up/a/b", "up/lower/victim"] {
            fs::write(root.path().join(victim), "untouched").unwrap();
        }
        fs::create_dir(up.join("layer")).unwrap();
        let before = outside(root.path());
        fs::remove_dir(up.join("layer")).unwrap();
        let lower = if base { vec![] } else { vec![up.join("lower")] };
        let result = unpack(&up, "layer", &lower, &entries);
        prop_assert_eq!(outside(root.path()), before);
        if let Err(error) = result {
            // Refused by a rule; the kernel itself was never asked for what it had to refuse.
            let by_rule = matches!(&error, Error::Entry { problem, .. } if !matches!(problem, Problem::Os { .. }));
            prop_assert!(by_rule, "{}", error);
        }
    }
}
