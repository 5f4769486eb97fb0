use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::time::Instant;

use crate::images::{BUILTIN_REFERENCE, Error, ImageStore};

#[test]
fn the_builtin_image_is_made_once_and_has_the_binary() {
    let root = tempfile::tempdir().unwrap();
    let store = ImageStore::open(root.path()).unwrap();
    let image = store.ensure_builtin().unwrap();
    assert_eq!(image.config.entrypoint, ["/bin/coracle", "tool"]);
    assert_eq!(image.references.iter().map(|r| r.to_string()).collect::<Vec<_>>(), [BUILTIN_REFERENCE]);
    assert!(image.pinned);
    assert_eq!(image.layers.len(), 1);
    let layer = &image.layers[0];
    let exe = fs::metadata("/proc/self/exe").unwrap();
    let copy = fs::metadata(layer.join("bin/coracle")).unwrap();
    assert_eq!((copy.len(), copy.permissions().mode() & 0o7777, copy.uid()), (exe.len(), 0o755, 0));
    assert_eq!(fs::metadata(layer.join("tmp")).unwrap().permissions().mode() & 0o7777, 0o1777);
    assert!(fs::read_to_string(layer.join("etc/passwd")).unwrap().starts_with("root:x:0:0:"));
    let generation = store.generation().unwrap();
    let begin = Instant::now();
    assert_eq!(store.ensure_builtin().unwrap(), image);
    println!("second call: {:?}", begin.elapsed());
    assert_eq!(store.resolve("coracle.local/tools").unwrap(), image);
    assert_eq!(store.generation().unwrap(), generation);
}

#[test]
fn a_new_binary_replaces_the_builtin_image_and_the_old_one_stays_while_in_use() {
    let root = tempfile::tempdir().unwrap();
    let store = ImageStore::open(root.path()).unwrap();
    let binary = root.path().join("binary");
    fs::write(&binary, "one").unwrap();
    let old = store.ensure_builtin_from(&binary).unwrap();
    fs::write(&binary, "another").unwrap();
    let new = store.ensure_builtin_from(&binary).unwrap();
    assert_ne!(old.id, new.id);
    assert_eq!(fs::read_to_string(new.layers[0].join("bin/coracle")).unwrap(), "another");
    assert_eq!(store.collect(&|id| id == old.id.as_str()).unwrap(), []);
    assert_eq!(fs::read_to_string(old.layers[0].join("bin/coracle")).unwrap(), "one");
    assert!(store.resolve(old.id.as_str()).unwrap().references.is_empty());
    assert_eq!(store.collect(&|_| false).unwrap(), std::slice::from_ref(&old.id));
    assert!(!old.layers[0].exists());
    assert!(new.layers[0].exists());
    assert_eq!(store.collect(&|_| false).unwrap(), []);
}

#[test]
fn the_builtin_image_cannot_be_removed() {
    let root = tempfile::tempdir().unwrap();
    let store = ImageStore::open(root.path()).unwrap();
    let image = store.ensure_builtin().unwrap();
    for name in [BUILTIN_REFERENCE, "coracle.local/tools", image.id.as_str(), &image.id.hex()[..12]] {
        assert!(matches!(store.remove(name, &|_| false), Err(Error::Pinned { .. })), "{name}");
    }
    assert_eq!(store.list().unwrap(), [image]);
}
