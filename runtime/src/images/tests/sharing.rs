//! Names, removal, and several users of one store.

use std::fs;
use std::sync::Barrier;

use super::craft::{Bench, Crafted, E, gzip};
use crate::images::{Digest, Error, ImageStore, Limits};

fn never(_: &str) -> bool {
    false
}

fn image(name: &str, content: &str) -> Crafted {
    Crafted::new(name, &[vec![E::file("base", "shared")], vec![E::file("own", content)]])
}

#[test]
fn images_are_found_by_name_id_digest_and_prefix() {
    let bench = Bench::new();
    let crafted = image("app:1", "x");
    bench.import(&crafted.oci()).unwrap();
    let (id, manifest) = (crafted.id(), Digest::of(&crafted.manifest_bytes()));
    for name in [
        "app:1".to_owned(),
        "library/app:1".to_owned(),
        "docker.io/library/app:1".to_owned(),
        id.to_string(),
        id.hex().to_owned(),
        id.hex()[..12].to_owned(),
        id.as_str()[..20].to_owned(),
        format!("app@{manifest}"),
        format!("app:1@{manifest}"),
    ] {
        assert_eq!(bench.store.resolve(&name).unwrap().id, id, "{name}");
    }
    for name in ["app", "app:2", "other:1", &format!("other@{manifest}"), "0123456789ab", &"0".repeat(64), "Bad:Name:x"]
    {
        assert!(bench.store.resolve(name).is_err(), "{name}");
    }
}

#[test]
fn an_ambiguous_prefix_is_an_error_with_the_ids() {
    // Of a thousand ids some two begin with the same four digits.
    let mut seen = std::collections::HashMap::new();
    let (one, two) = (0..)
        .find_map(|i| {
            let mut crafted = image(&format!("app:{i}"), "x");
            crafted.config["Labels"] = serde_json::json!({"n": i.to_string()});
            let prefix = crafted.id().hex()[..4].to_owned();
            seen.insert(prefix, crafted.clone()).map(|other| (other, crafted))
        })
        .unwrap();
    let bench = Bench::new();
    bench.import(&one.oci()).unwrap();
    let id = one.id();
    let prefix = &id.hex()[..4];
    assert_eq!(bench.store.resolve(prefix).unwrap().id, one.id());
    bench.import(&two.oci()).unwrap();
    let error = bench.store.resolve(prefix).unwrap_err();
    assert!(matches!(&error, Error::Ambiguous { ids, .. } if ids.len() == 2), "{error}");
    assert!(bench.store.resolve(&prefix[..3]).is_err());
}

#[test]
fn a_missing_image_says_what_was_looked_for_and_what_exists_nearest_first() {
    let bench = Bench::new();
    let error = bench.store.resolve("ngnix").unwrap_err();
    assert_eq!(
        error.to_string(),
        "image docker.io/library/ngnix:latest not found; no image is present; import one with `coracle image import FILE`"
    );
    for i in 0..9 {
        bench.import(&image(&format!("something-else:{i}"), &i.to_string()).oci()).unwrap();
    }
    bench.import(&image("nginx", "n").oci()).unwrap();
    let error = bench.store.resolve("ngnix").unwrap_err().to_string();
    assert!(error.contains("; present: docker.io/library/nginx:latest, "), "{error}");
    assert!(error.contains(" and 2 more; "), "{error}");
}

#[test]
fn a_name_moves_to_the_image_that_comes_last() {
    let bench = Bench::new();
    bench.import(&image("app", "old").oci()).unwrap();
    let old = bench.store.resolve("app").unwrap();
    bench.import(&image("app", "new").oci()).unwrap();
    let new = bench.store.resolve("app").unwrap();
    assert_ne!(old.id, new.id);
    // By its digest the old one is found, whatever the tag means by now.
    let left = bench.store.resolve(old.id.as_str()).unwrap();
    assert_eq!(left.references.iter().map(ToString::to_string).collect::<Vec<_>>(), old.digests);
    assert_eq!(left.digests, old.digests);
    assert_eq!(bench.store.resolve(&old.digests[0]).unwrap().id, old.id);
}

#[test]
fn removing_a_tag_leaves_the_others_and_removing_the_last_removes_the_image() {
    let bench = Bench::new();
    let archive = image("app:1", "x").oci();
    bench.import(&archive).unwrap();
    bench.import_with(&archive, Some("app:2"), &Limits::default()).unwrap();
    bench.import(&image("other", "y").oci()).unwrap();
    let layers = bench.store.resolve("app:1").unwrap().layers;
    assert_eq!(bench.store.remove("app:1", &never).unwrap(), None);
    assert!(bench.store.resolve("app:1").is_err());
    assert!(layers[1].exists());
    assert!(bench.store.remove("app:2", &never).unwrap().is_some());
    assert!(!layers[1].exists(), "the layer of its own stays");
    assert!(layers[0].exists(), "the shared layer is gone");
    assert!(bench.store.remove("app:2", &never).is_err());
    bench.store.remove("other", &never).unwrap();
    assert_eq!(bench.leftovers(), Vec::<std::path::PathBuf>::new());
}

#[test]
fn removing_by_id_takes_all_tags() {
    let bench = Bench::new();
    let crafted = image("app:1", "x");
    bench.import(&crafted.oci()).unwrap();
    bench.import_with(&crafted.oci(), Some("app:2"), &Limits::default()).unwrap();
    assert_eq!(bench.store.remove(crafted.id().as_str(), &never).unwrap(), Some(crafted.id()));
    assert!(bench.store.list().unwrap().is_empty());
    assert_eq!(bench.leftovers(), Vec::<std::path::PathBuf>::new());
}

#[test]
fn an_image_in_use_stays() {
    let bench = Bench::new();
    let crafted = image("app:1", "x");
    bench.import(&crafted.oci()).unwrap();
    bench.import_with(&crafted.oci(), Some("app:2"), &Limits::default()).unwrap();
    let in_use = |id: &str| id == crafted.id().as_str();
    assert!(matches!(bench.store.remove(crafted.id().as_str(), &in_use), Err(Error::InUse { .. })));
    assert_eq!(bench.store.remove("app:2", &in_use).unwrap(), None, "a name can go while another stays");
    assert!(matches!(bench.store.remove("app:1", &in_use), Err(Error::InUse { .. })));
    assert!(bench.store.resolve("app:1").unwrap().layers.iter().all(|layer| layer.exists()));
}

#[test]
fn usage_and_generation_follow_what_happens() {
    let bench = Bench::new();
    let (empty, generation) = (bench.store.usage().unwrap(), bench.store.generation().unwrap());
    bench.import(&Crafted::new("app", &[vec![E::file("f", &"x".repeat(10_000))]]).oci()).unwrap();
    let usage = bench.store.usage().unwrap();
    assert!(usage.bytes >= empty.bytes + 12_288 && usage.inodes >= empty.inodes + 2, "{usage:?}");
    assert!(bench.store.generation().unwrap() > generation);
    bench.store.remove("app", &never).unwrap();
    assert_eq!(bench.store.usage().unwrap(), empty);
}

#[test]
fn many_imports_and_removals_at_once_leave_a_sound_store() {
    let bench = Bench::new();
    let archives: Vec<_> = (0..3)
        .map(|i| {
            let path = bench.root.path().join(format!("{i}.tar"));
            fs::write(&path, image(&format!("app:{i}"), &i.to_string()).compressed(gzip).oci()).unwrap();
            path
        })
        .collect();
    let begin = Barrier::new(6);
    std::thread::scope(|scope| {
        for worker in 0..6 {
            let (begin, archives, root) = (&begin, &archives, bench.root.path());
            scope.spawn(move || {
                begin.wait();
                for round in 0..8 {
                    // Every user opens the store anew, as processes do.
                    let store = ImageStore::open(root).unwrap();
                    let i = (worker + round) % archives.len();
                    if worker == 5 {
                        match store.remove(&format!("app:{i}"), &never) {
                            Ok(_) | Err(Error::NotFound { .. }) => {}
                            Err(e) => panic!("{e}"),
                        }
                    } else {
                        store.import(&archives[i], None, &Limits::default(), &mut |_| {}).unwrap();
                    }
                }
            });
        }
    });
    for (i, path) in archives.iter().enumerate() {
        bench.store.import(path, None, &Limits::default(), &mut |_| {}).unwrap();
        let image = bench.store.resolve(&format!("app:{i}")).unwrap();
        assert_eq!(fs::read_to_string(image.layers[1].join("own")).unwrap(), i.to_string());
    }
    assert_eq!(bench.store.verify().unwrap(), Default::default());
    assert_eq!(fs::read_dir(bench.store.layer_root()).unwrap().count(), 4);
    assert_eq!(fs::read_dir(bench.store.path().join("tmp")).unwrap().count(), 0);
}
