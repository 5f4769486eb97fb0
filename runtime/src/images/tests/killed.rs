//! Real processes on one store, killed at whatever they are doing.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::craft::{Bench, Crafted, E, gzip};
use crate::images::{ImageStore, Limits};

const WORKER: &str = "images::tests::killed::worker";
const FILES: usize = 1500;

/// Imports or removes as the environment says, in a process of its own.
#[test]
#[ignore = "a part of the tests in this file, which run it as a process"]
fn worker() {
    let root = std::env::var("CORACLE_TEST_ROOT").unwrap();
    let store = ImageStore::open(Path::new(&root)).unwrap();
    match std::env::var("CORACLE_TEST_ARCHIVE") {
        Ok(archive) => drop(store.import(Path::new(&archive), None, &Limits::default(), &mut |_| {}).unwrap()),
        Err(_) => drop(store.remove("app", &|_| false)),
    }
}

fn start(root: &Path, archive: Option<&Path>) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", WORKER, "--ignored"]).env("CORACLE_TEST_ROOT", root).stdout(Stdio::null());
    if let Some(archive) = archive {
        command.env("CORACLE_TEST_ARCHIVE", archive);
    }
    command.spawn().unwrap()
}

fn archive(bench: &Bench) -> std::path::PathBuf {
    let many = |prefix: &str| (0..FILES).map(|i| E::file(&format!("{prefix}{}/{i}", i % 7), "content")).collect();
    let path = bench.root.path().join("app.tar");
    fs::write(&path, Crafted::new("app", &[many("a"), many("b")]).compressed(gzip).oci()).unwrap();
    path
}

/// What is there is whole, and nothing else is there.
fn check(bench: &Bench) -> bool {
    let store = ImageStore::open(bench.root.path()).unwrap();
    assert_eq!(store.verify().unwrap(), Default::default());
    let Ok(image) = store.resolve("app") else {
        assert_eq!(bench.leftovers(), Vec::<std::path::PathBuf>::new());
        return false;
    };
    for layer in &image.layers {
        let files: usize = fs::read_dir(layer).unwrap().map(|d| fs::read_dir(d.unwrap().path()).unwrap().count()).sum();
        assert_eq!(files, FILES);
    }
    assert_eq!(image.layers.len(), 2);
    // Two layers with a record and a blob each, one image, its configuration and manifest.
    assert_eq!(bench.leftovers().len(), 9);
    true
}

#[test]
fn an_import_or_removal_killed_at_any_instant_leaves_a_whole_image_or_none() {
    let bench = Bench::new();
    let archive = archive(&bench);
    let mut interrupted = false;
    for round in 0..24u64 {
        let mut importer = start(bench.root.path(), Some(&archive));
        std::thread::sleep(Duration::from_millis(round * 9 % 200));
        importer.kill().unwrap();
        importer.wait().unwrap();
        interrupted |= !check(&bench);
        let mut remover = start(bench.root.path(), None);
        std::thread::sleep(Duration::from_millis(round * 5 % 60));
        remover.kill().unwrap();
        remover.wait().unwrap();
        check(&bench);
    }
    assert!(interrupted, "no import was killed before it was done");
    assert!(start(bench.root.path(), Some(&archive)).wait().unwrap().success());
    assert!(check(&bench));
}

#[test]
fn processes_that_import_the_same_image_at_once_all_succeed() {
    let bench = Bench::new();
    let archive = archive(&bench);
    let importers: Vec<Child> = (0..4).map(|_| start(bench.root.path(), Some(&archive))).collect();
    for mut importer in importers {
        assert!(importer.wait().unwrap().success());
    }
    assert!(check(&bench));
}
