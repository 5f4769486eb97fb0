//! Layers that try to get out or to fool those who come after: each a clear error, nothing outside touched, nothing left.

use std::fs;
use std::path::Path;

use tar::EntryType;

use super::craft::{Bench, Crafted, E, tar, unpack, unpack_bytes};
use crate::images::{Error, Limits, Problem};

fn refused(entries: &[E]) -> Problem {
    let root = tempfile::tempdir().unwrap();
    fs::write(root.path().join("victim"), "untouched").unwrap();
    let error = unpack(root.path(), "layer", &[], entries).unwrap_err();
    assert_eq!(fs::read_to_string(root.path().join("victim")).unwrap(), "untouched");
    let names: Vec<_> = fs::read_dir(root.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names.len(), 2, "something was made beside the layer: {names:?}");
    match error {
        Error::Entry { problem, layer, .. } => {
            assert_eq!(layer, "test");
            problem
        }
        other => panic!("unexpected error {other}"),
    }
}

#[test]
fn paths_that_climb_out_are_refused() {
    for path in ["../victim", "a/../../victim", "./../victim", "..", "a/b/../../../victim"] {
        assert!(matches!(refused(&[E::dir("a"), E::file(path, "evil")]), Problem::ClimbsOut), "{path}");
    }
}

#[test]
fn absolute_paths_are_refused() {
    for path in ["/victim", "//victim", "/"] {
        assert!(matches!(refused(&[E::file(path, "evil")]), Problem::Absolute), "{path}");
    }
}

#[test]
fn writing_through_a_symbolic_link_that_leads_out_is_refused() {
    for to in ["..", "../", "/", "/tmp", "/proc/self/cwd", "b/../../.."] {
        let layer = [E::dir("b"), E::symlink("out", to), E::file("out/victim", "evil")];
        assert!(matches!(refused(&layer), Problem::SymlinkOut), "{to}");
    }
}

#[test]
fn a_chain_of_links_that_leads_out_is_refused() {
    let layer = [E::dir("d"), E::symlink("d/up", ".."), E::symlink("more", "d/up/.."), E::file("more/victim", "evil")];
    assert!(matches!(refused(&layer), Problem::SymlinkOut));
}

#[test]
fn whiteouts_and_opaque_markers_through_links_are_refused() {
    let root = tempfile::tempdir().unwrap();
    let base = root.path().join("base");
    fs::create_dir(&base).unwrap();
    for path in ["out/.wh.victim", "out/.wh..wh..opq"] {
        let layer = [E::symlink("out", ".."), E::file(path, "")];
        let name = path.replace('/', "-");
        let error = unpack(root.path(), &name, std::slice::from_ref(&base), &layer).unwrap_err();
        assert!(matches!(error, Error::Entry { problem: Problem::SymlinkOut, .. }), "{error}");
    }
    assert!(base.exists());
}

#[test]
fn a_file_replaces_a_link_and_is_not_written_through_it() {
    let root = tempfile::tempdir().unwrap();
    let victim = root.path().join("victim");
    fs::write(&victim, "untouched").unwrap();
    unpack(root.path(), "layer", &[], &[E::symlink("x", victim.to_str().unwrap()), E::file("x", "mine")]).unwrap();
    assert_eq!(fs::read_to_string(victim).unwrap(), "untouched");
    let meta = fs::symlink_metadata(root.path().join("layer/x")).unwrap();
    assert!(meta.is_file());
}

#[test]
fn a_directory_replaces_a_link_and_its_mode_does_not_reach_the_target() {
    use std::os::unix::fs::PermissionsExt;
    let root = tempfile::tempdir().unwrap();
    let outside = root.path().join("outside");
    fs::create_dir(&outside).unwrap();
    let before = fs::metadata(&outside).unwrap().permissions().mode();
    let layer = [E::symlink("x", "../outside"), E::dir("x").mode(0o777), E::file("x/f", "")];
    unpack(root.path(), "layer", &[], &layer).unwrap();
    assert_eq!(fs::metadata(&outside).unwrap().permissions().mode(), before);
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
    assert!(root.path().join("layer/x/f").is_file());
}

#[test]
fn hard_links_that_lead_out_are_refused() {
    for to in ["../victim", "/victim", "a/../../victim", "/etc/passwd"] {
        let problem = refused(&[E::dir("a"), E::hard_link("mine", to)]);
        assert!(matches!(&problem, Problem::HardLinkOut { target, .. } if target == to), "{to}: {problem}");
    }
    let problem = refused(&[E::symlink("out", ".."), E::hard_link("mine", "out/victim")]);
    assert!(matches!(problem, Problem::HardLinkOut { .. }), "{problem}");
}

#[test]
fn a_hard_link_to_a_link_is_the_link_and_not_its_target() {
    let root = tempfile::tempdir().unwrap();
    let layer = [E::symlink("l", "/etc/passwd"), E::hard_link("m", "l")];
    unpack(root.path(), "layer", &[], &layer).unwrap();
    assert_eq!(fs::read_link(root.path().join("layer/m")).unwrap(), Path::new("/etc/passwd"));
}

#[test]
fn hard_links_to_nothing_to_lower_layers_and_to_directories_are_refused() {
    assert!(matches!(refused(&[E::hard_link("a", "missing")]), Problem::HardLinkMissing { .. }));
    assert!(matches!(refused(&[E::dir("d"), E::hard_link("a", "d")]), Problem::HardLinkDirectory { .. }));
    assert!(matches!(refused(&[E::hard_link("a", "./")]), Problem::HardLinkDirectory { .. }));
    let root = tempfile::tempdir().unwrap();
    unpack(root.path(), "lower", &[], &[E::file("f", "")]).unwrap();
    let error = unpack(root.path(), "upper", &[root.path().join("lower")], &[E::hard_link("g", "f")]).unwrap_err();
    assert!(error.to_string().contains("is not in this layer"), "{error}");
}

#[test]
fn devices_that_overlay_takes_for_whiteouts_are_refused() {
    for kind in [EntryType::Char, EntryType::Block] {
        assert!(matches!(refused(&[E::device(kind, "gone", (0, 0))]), Problem::WhiteoutDevice));
    }
}

#[test]
fn attributes_that_overlay_obeys_are_refused() {
    for name in ["trusted.overlay.opaque", "trusted.overlay.redirect", "user.overlay.opaque"] {
        let problem = refused(&[E::dir("d").xattr(name, "y")]);
        assert!(matches!(&problem, Problem::ReservedXattr { name: found } if found == name), "{problem}");
    }
}

#[test]
fn owners_that_linux_does_not_have_are_refused() {
    for owner in [u64::from(u32::MAX), 1 << 32, u64::MAX] {
        let problem = refused(&[E::file("f", "").pax("uid", owner.to_string())]);
        assert!(matches!(problem, Problem::Owner { id } if id == owner), "{problem}");
    }
}

#[test]
fn names_that_are_no_names_are_refused() {
    assert!(matches!(refused(&[E::new(EntryType::Regular, "")]), Problem::BadName));
    assert!(matches!(refused(&[E::file("x", "").pax("path", b"a\0b")]), Problem::BadName));
    assert!(matches!(refused(&[E::symlink("x", "")]), Problem::BadName));
    assert!(matches!(refused(&[E::file("./", "")]), Problem::RootNotDirectory));
    assert!(matches!(refused(&[E::file("f", ""), E::file("f/g", "")]), Problem::NotADirectory));
    assert!(matches!(refused(&[E::symlink("s", "nowhere"), E::file("s/g", "")]), Problem::NotADirectory));
    assert!(matches!(refused(&[E::symlink("s", "s"), E::file("s/g", "")]), Problem::NotADirectory));
    assert!(matches!(refused(&[E::file(&"d/".repeat(300), "")]), Problem::TooDeep { .. }));
    assert!(matches!(refused(&[E::new(EntryType::new(b'V'), "volume")]), Problem::UnknownType { kind: b'V' }));
}

#[test]
fn limits_hold() {
    let small = |limits: Limits, entries: &[E]| {
        let root = tempfile::tempdir().unwrap();
        unpack_bytes(root.path(), "layer", &[], tar(entries), &limits).unwrap_err().to_string()
    };
    let entries: Vec<E> = (0..11).map(|i| E::file(&format!("f{i}"), "0123456789")).collect();
    let limits = Limits { max_entries: 10, ..Limits::default() };
    assert!(small(limits.clone(), &entries).contains("more than 10 entries; raise --max-entries"));
    // Directories that no entry mentions count too.
    assert!(small(limits, &[E::file(&"d/".repeat(12), "")]).contains("more than 10 entries"));
    let limits = Limits { max_bytes: 100, ..Limits::default() };
    assert!(small(limits, &entries).contains("more than 100 bytes; raise --max-bytes"));
    let limits = Limits { max_path_bytes: 20, ..Limits::default() };
    assert!(
        small(limits, &[E::file("abcdefghijklmnopqrstu", "")]).contains("more than 20 bytes; raise --max-path-bytes")
    );
}

#[test]
fn a_bad_layer_leaves_nothing_of_its_image() {
    let bench = Bench::new();
    let good = vec![E::file("f", "good")];
    for bad in [
        vec![E::file("../x", "")],
        vec![E::file("/x", "")],
        vec![E::symlink("o", "/"), E::file("o/x", "")],
        vec![E::hard_link("h", "../x")],
    ] {
        let archive = Crafted::new("bad", &[good.clone(), bad]);
        for bytes in [archive.oci(), archive.docker()] {
            let error = bench.import(&bytes).unwrap_err();
            assert!(matches!(error, Error::Entry { .. }), "{error}");
            assert_eq!(bench.leftovers(), Vec::<std::path::PathBuf>::new());
            assert!(bench.store.list().unwrap().is_empty());
        }
    }
}

#[test]
fn links_cannot_dig_deeper_than_anyone_can_walk() {
    let mut entries = Vec::new();
    let mut top = String::new();
    for i in 0..40 {
        let deep = format!("{top}{}", "d/".repeat(100));
        entries.push(E::dir(&deep));
        entries.push(E::symlink(&format!("l{i}"), &deep));
        top = format!("l{i}/");
    }
    assert!(matches!(refused(&entries), Problem::TooDeep { .. }));
}

#[test]
fn a_huge_attribute_is_not_taken_for_a_full_disk() {
    let root = tempfile::tempdir().unwrap();
    let error =
        unpack(root.path(), "layer", &[], &[E::file("f", "").xattr("user.big", vec![b'x'; 70_000])]).unwrap_err();
    assert!(matches!(error, Error::Entry { problem: Problem::LargeXattr { .. }, .. }), "{error}");
}
