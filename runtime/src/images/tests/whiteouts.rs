//! Whiteouts and opaque directories, as overlay itself sees them.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use super::craft::{Bench, Crafted, E, unpack};
use crate::images::{Error, Problem};

/// Unpacks layers and gives the tree that overlay makes of them.
fn merged(layers: &[Vec<E>]) -> Vec<String> {
    let root = tempfile::tempdir().unwrap();
    let mut lower: Vec<PathBuf> = Vec::new();
    for (i, entries) in layers.iter().enumerate() {
        unpack(root.path(), &i.to_string(), &lower, entries).unwrap();
        lower.push(root.path().join(i.to_string()));
    }
    mounted(&lower, tree)
}

fn mounted<T>(layers: &[PathBuf], look: impl Fn(&Path) -> T) -> T {
    let root = tempfile::tempdir().unwrap();
    let target = root.path().join("merged");
    fs::create_dir(&target).unwrap();
    let empty = root.path().join("empty");
    fs::create_dir(&empty).unwrap();
    // Overlay wants two lower layers when there is no upper one.
    let mut names: Vec<&str> = layers.iter().rev().map(|p| p.to_str().unwrap()).collect();
    names.push(empty.to_str().unwrap());
    let options = std::ffi::CString::new(format!("lowerdir={}", names.join(":"))).unwrap();
    mount("overlay", &target, "overlay", MountFlags::RDONLY, options.as_c_str()).unwrap();
    let result = look(&target);
    unmount(&target, UnmountFlags::DETACH).unwrap();
    result
}

fn tree(root: &Path) -> Vec<String> {
    fn walk(root: &Path, at: &Path, out: &mut Vec<String>) {
        for entry in fs::read_dir(at).unwrap() {
            let path = entry.unwrap().path();
            out.push(path.strip_prefix(root).unwrap().to_str().unwrap().to_owned());
            if fs::symlink_metadata(&path).unwrap().is_dir() {
                walk(root, &path, out);
            }
        }
    }
    let mut out = Vec::new();
    walk(root, root, &mut out);
    out.sort();
    out
}

fn base() -> Vec<E> {
    vec![E::dir("d"), E::file("d/old", "old"), E::file("d/keep", "keep"), E::file("f", "f")]
}

#[test]
fn a_whiteout_removes_a_file_and_a_directory() {
    assert_eq!(merged(&[base(), vec![E::file("d/.wh.old", ""), E::file(".wh.f", "")]]), ["d", "d/keep"]);
    assert_eq!(merged(&[base(), vec![E::file(".wh.d", "")]]), ["f"]);
}

#[test]
fn an_opaque_directory_hides_what_is_below() {
    let layer = vec![E::dir("d"), E::file("d/.wh..wh..opq", ""), E::file("d/new", "")];
    assert_eq!(merged(&[base(), layer]), ["d", "d/new", "f"]);
    // The marker may come after the files, and without an entry for its directory.
    assert_eq!(merged(&[base(), vec![E::file("d/new", ""), E::file("d/.wh..wh..opq", "")]]), ["d", "d/new", "f"]);
}

#[test]
fn a_whiteout_spares_what_its_own_layer_has_whatever_comes_first() {
    let file = E::file("f", "new");
    let whiteout = E::file(".wh.f", "");
    for layer in [vec![file.clone(), whiteout.clone()], vec![whiteout, file]] {
        assert_eq!(merged(&[base(), layer]), ["d", "d/keep", "d/old", "f"]);
    }
    let directory = [E::dir("d"), E::file("d/new", "")];
    let whiteout = E::file(".wh.d", "");
    let before = [&[whiteout.clone()][..], &directory].concat();
    let after = [&directory[..], std::slice::from_ref(&whiteout)].concat();
    let implicit = vec![whiteout, E::file("d/new", "")];
    let replaced = vec![E::file("d", "a file"), E::dir("d"), E::file("d/new", "")];
    for layer in [before, after, implicit, replaced] {
        assert_eq!(merged(&[base(), layer]), ["d", "d/new", "f"]);
    }
}

#[test]
fn whiteouts_of_the_lowest_layer_mean_nothing_and_leave_nothing() {
    let layer = vec![E::file(".wh.x", ""), E::dir("d"), E::file("d/.wh..wh..opq", ""), E::file("d/.wh.y", "")];
    let root = tempfile::tempdir().unwrap();
    unpack(root.path(), "layer", &[], &layer).unwrap();
    assert_eq!(tree(&root.path().join("layer")), ["d"]);
}

#[test]
fn whiteouts_that_name_nothing_are_refused() {
    let root = tempfile::tempdir().unwrap();
    for (i, path) in [".wh.", "d/.wh.", ".wh..", ".wh..."].iter().enumerate() {
        let error = unpack(root.path(), &i.to_string(), &[], &[E::file(path, "")]).unwrap_err();
        assert!(matches!(error, Error::Entry { problem: Problem::BadWhiteout, .. }), "{path}: {error}");
    }
}

#[test]
fn bookkeeping_of_old_storage_drivers_is_passed_over() {
    let layer =
        vec![E::file(".wh..wh.aufs", ""), E::dir(".wh..wh.plnk"), E::file(".wh..wh.plnk/1.2", ""), E::file("f", "")];
    assert_eq!(merged(&[base(), layer]), ["d", "d/keep", "d/old", "f"]);
}

#[test]
fn an_opaque_root_leaves_the_layers_below_out() {
    let bench = Bench::new();
    let top = vec![E::file(".wh..wh..opq", ""), E::file("only", "")];
    bench.import(&Crafted::new("opaque", &[base(), top]).oci()).unwrap();
    let image = bench.store.resolve("opaque").unwrap();
    assert_eq!(image.layers.len(), 1);
    assert_eq!(mounted(&image.layers, tree), ["only"]);
}

#[test]
fn a_directory_that_only_a_lower_layer_describes_looks_as_there() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    let root = tempfile::tempdir().unwrap();
    let lower = root.path().join("lower");
    let tmp = E::dir("var/tmp").mode(0o1777).owner(3, 4).xattr("user.note", "kept");
    unpack(root.path(), "lower", &[], &[E::dir("var"), tmp]).unwrap();
    unpack(root.path(), "upper", &[lower], &[E::file("var/tmp/f", ""), E::file("fresh/g", "")]).unwrap();
    let meta = fs::metadata(root.path().join("upper/var/tmp")).unwrap();
    assert_eq!((meta.permissions().mode() & 0o7777, meta.uid(), meta.gid()), (0o1777, 3, 4));
    assert_eq!(meta.mtime(), 1_000_000_000);
    let mut value = [0; 8];
    let n = rustix::fs::getxattr(root.path().join("upper/var/tmp"), "user.note", &mut value).unwrap();
    assert_eq!(&value[..n], b"kept");
    let fresh = fs::metadata(root.path().join("upper/fresh")).unwrap();
    assert_eq!((fresh.permissions().mode() & 0o7777, fresh.uid()), (0o755, 0));
}
