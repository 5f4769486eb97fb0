//! What crashes and broken disks leave, and that it hurts nobody else.

use std::fs;

use super::craft::{Bench, Crafted, E};
use crate::images::{Error, ImageStore};

fn two(bench: &Bench) {
    bench.import(&Crafted::new("one", &[vec![E::file("a", "1")]]).oci()).unwrap();
    bench.import(&Crafted::new("two", &[vec![E::file("b", "2")]]).oci()).unwrap();
}

#[test]
fn what_a_killed_import_left_is_removed_by_the_next_open() {
    let bench = Bench::new();
    two(&bench);
    let at = bench.store.path();
    let before = bench.leftovers().len();
    // Killed while unpacking; between moving a layer and its record; while writing records.
    fs::create_dir_all(at.join("tmp/0123/layer/deep/er")).unwrap();
    fs::write(at.join("tmp/0123/layer/deep/er/file"), "half").unwrap();
    fs::create_dir_all(at.join("l/0123456789ab/etc")).unwrap();
    for directory in ["", "images", "layers", "blobs/sha256"] {
        fs::write(at.join(directory).join(".half.0123"), "{").unwrap();
    }
    let store = ImageStore::open(bench.root.path()).unwrap();
    assert_eq!(bench.leftovers().len(), before);
    assert!(!at.join(".half.0123").exists());
    assert_eq!(store.list().unwrap().len(), 2);
}

#[test]
fn a_live_import_is_spared() {
    let bench = Bench::new();
    let work = bench.store.temporary().unwrap();
    fs::write(work.path().join("half"), "in the making").unwrap();
    ImageStore::open(bench.root.path()).unwrap();
    assert!(work.path().join("half").exists());
    drop(work);
    assert_eq!(bench.leftovers(), Vec::<std::path::PathBuf>::new());
}

#[test]
fn the_lock_ends_with_its_holder() {
    let bench = Bench::new();
    let held = bench.store.lock().unwrap();
    let store = bench.store.clone();
    let waiting = std::thread::spawn(move || store.sweep().unwrap());
    std::thread::sleep(std::time::Duration::from_millis(50));
    assert!(!waiting.is_finished());
    drop(held);
    waiting.join().unwrap();
}

#[test]
fn a_record_that_cannot_be_read_hurts_its_own_image_alone() {
    let bench = Bench::new();
    two(&bench);
    let one = bench.store.resolve("one").unwrap();
    fs::write(bench.store.record_path(&one.id), "{ torn").unwrap();
    let store = ImageStore::open(bench.root.path()).unwrap();
    assert!(store.resolve("two").is_ok());
    assert!(matches!(store.resolve("one"), Err(Error::NotFound { .. })));
    assert_eq!(fs::read_dir(bench.store.path().join("quarantine")).unwrap().count(), 1);
    assert!(one.layers[0].join("a").exists(), "a container may run on it");
    // And it can come back.
    two(&bench);
    assert_eq!(store.resolve("one").unwrap().layers, one.layers);
    assert_eq!(fs::read_dir(bench.store.path().join("quarantine")).unwrap().count(), 0);
}

#[test]
fn a_missing_layer_hurts_its_own_image_alone() {
    for what in ["directory", "record", "torn record"] {
        let bench = Bench::new();
        two(&bench);
        let layer = bench.store.resolve("one").unwrap().layers[0].clone();
        let name = layer.file_name().unwrap().to_str().unwrap();
        let record = bench.store.layer_records().join(format!("{name}.json"));
        match what {
            "directory" => fs::remove_dir_all(&layer).unwrap(),
            "record" => fs::remove_file(&record).unwrap(),
            _ => fs::write(&record, "]").unwrap(),
        }
        let store = ImageStore::open(bench.root.path()).unwrap();
        assert!(store.resolve("two").is_ok(), "{what}");
        assert!(matches!(store.resolve("one"), Err(Error::NotFound { .. })), "{what}");
        assert_eq!(layer.exists(), what != "directory", "a container may run on it");
        two(&bench);
        store.sweep().unwrap();
        let image = store.resolve("one").unwrap();
        assert_eq!(fs::read_to_string(image.layers[0].join("a")).unwrap(), "1", "{what}");
    }
}

#[test]
fn a_broken_table_is_made_anew_from_the_records() {
    let bench = Bench::new();
    two(&bench);
    bench.import(&Crafted::new("three", &[vec![E::file("a", "1")]]).oci()).unwrap();
    fs::write(bench.store.path().join("references.json"), "").unwrap();
    let store = ImageStore::open(bench.root.path()).unwrap();
    for name in ["one", "two", "three"] {
        store.resolve(name).unwrap();
    }
    assert_eq!(store.sweep().unwrap(), Default::default());
}

#[test]
fn verify_finds_a_damaged_configuration() {
    let bench = Bench::new();
    two(&bench);
    let one = bench.store.resolve("one").unwrap();
    fs::write(bench.store.blobs().join(one.id.hex()), "{}").unwrap();
    assert_eq!(bench.store.list().unwrap().len(), 1);
    let findings = bench.store.verify().unwrap();
    assert_eq!(findings.quarantined.len(), 1);
    assert!(findings.quarantined[0].1.contains("is damaged"), "{findings:?}");
    assert_eq!(bench.store.verify().unwrap(), Default::default());
    assert!(bench.store.resolve("two").is_ok());
    // The damaged blob must not be taken for the sound one when the image comes again.
    two(&bench);
    let again = bench.store.resolve("one").unwrap();
    assert_eq!((again.config, again.digests), (one.config, one.digests));
}

#[test]
fn an_import_killed_between_record_and_table_is_finished() {
    let bench = Bench::new();
    two(&bench);
    let table = bench.store.table().unwrap();
    bench.import(&Crafted::new("three", &[vec![E::file("c", "3")]]).oci()).unwrap();
    let three = bench.store.resolve("three").unwrap();
    // As if the last write of the import had not happened.
    fs::write(bench.store.path().join("references.json"), serde_json::to_vec(&table).unwrap()).unwrap();
    let store = ImageStore::open(bench.root.path()).unwrap();
    assert_eq!(store.resolve("three").unwrap(), three);
    assert_eq!(store.list().unwrap().len(), 3);
    // A name taken away later does not come back.
    store.remove("three", &|_| false).unwrap();
    let store = ImageStore::open(bench.root.path()).unwrap();
    assert!(store.resolve("three").is_err());
    assert_eq!(store.list().unwrap().len(), 2);
}

#[test]
fn a_removal_killed_after_its_record_is_finished() {
    let bench = Bench::new();
    two(&bench);
    let one = bench.store.resolve("one").unwrap();
    fs::remove_file(bench.store.record_path(&one.id)).unwrap();
    let store = ImageStore::open(bench.root.path()).unwrap();
    assert!(!one.layers[0].exists());
    assert!(!store.blobs().join(one.id.hex()).exists());
    assert_eq!(store.table().unwrap().references.len(), 1);
    assert!(store.resolve("two").is_ok());
}

#[test]
fn the_newer_of_two_images_keeps_a_name_when_the_table_is_made_anew() {
    let bench = Bench::new();
    for content in ["1", "2", "3"] {
        bench.import(&Crafted::new("app", &[vec![E::file("f", content)]]).oci()).unwrap();
    }
    let newest = bench.store.resolve("app").unwrap();
    let generation = bench.store.generation().unwrap();
    fs::write(bench.store.path().join("references.json"), "[]").unwrap();
    let store = ImageStore::open(bench.root.path()).unwrap();
    assert_eq!(store.resolve("app").unwrap(), newest);
    assert!(store.generation().unwrap() > generation);
}
