//! Archives that are cut off, changed, or not what they say: each a clear error, and nothing left.

use serde_json::json;

use super::craft::{Bench, Crafted, E, gzip, oci_archive, parts_archive, tar, zstd};
use crate::images::{Digest, Error, Kind, Limits};

fn image() -> Crafted {
    let noise: String = (0..200_000u64).map(|i| char::from(b'a' + (i * i % 251 % 26) as u8)).collect();
    Crafted::new("app", &[vec![E::file("f", &noise)]])
}

/// Imports and gives the error; nothing must be left.
fn fails(bytes: &[u8]) -> Error {
    let bench = Bench::new();
    let error = bench.import(bytes).unwrap_err();
    assert_eq!(bench.leftovers(), Vec::<std::path::PathBuf>::new(), "after {error}");
    assert_eq!(error.kind(), Kind::Invalid, "{error}");
    error
}

#[test]
fn a_truncated_archive_fails_wherever_it_ends() {
    for bytes in [image().oci(), image().docker(), gzip(&image().oci()), zstd(&image().docker())] {
        for part in [1, 3, 10, 50, 90, 98] {
            fails(&bytes[..bytes.len() * part / 100]);
        }
    }
    let bytes = image().oci();
    let error = fails(&bytes[..bytes.len() / 2]);
    assert!(error.to_string().contains("is truncated"), "{error}");
    assert!(fails(&[]).to_string().contains("is empty"));
}

/// The image's layer blob replaced, its descriptor as it was.
fn with_blob(crafted: &Crafted, blob: Vec<u8>) -> Vec<u8> {
    let mut blobs = crafted.blobs();
    blobs[0].1 = blob;
    oci_archive(&[crafted.descriptor()], &blobs)
}

#[test]
fn a_truncated_or_oversized_blob_is_told_by_its_size() {
    for how in [gzip, zstd, |bytes: &[u8]| bytes.to_vec()] {
        let crafted = image().compressed(how);
        let blob = crafted.layers[0].0.clone();
        let error = fails(&with_blob(&crafted, blob[..blob.len() / 2].to_vec()));
        assert!(error.to_string().contains("is truncated: "), "{error}");
        let error = fails(&with_blob(&crafted, [blob, vec![0; 512]].concat()));
        assert!(error.to_string().contains("is oversized: "), "{error}");
    }
}

#[test]
fn a_changed_blob_is_told_by_its_digest() {
    for how in [gzip, zstd, |bytes: &[u8]| bytes.to_vec()] {
        let crafted = image().compressed(how);
        let blob = &crafted.layers[0].0;
        for at in [blob.len() / 3, blob.len() / 2] {
            let mut changed = blob.clone();
            changed[at] ^= 0x20;
            let error = fails(&with_blob(&crafted, changed));
            assert!(
                matches!(&error, Error::DigestMismatch { expected, .. } if *expected == Digest::of(blob)),
                "{error}"
            );
        }
    }
}

#[test]
fn a_layer_that_is_not_its_diff_id_is_refused() {
    let mut crafted = image();
    // The configuration speaks of another tar than the blob holds.
    crafted.layers[0].1 = tar(&[E::file("other", "")]);
    for bytes in [crafted.oci(), crafted.docker()] {
        let error = fails(&bytes);
        assert!(matches!(error, Error::DiffIdMismatch { .. }), "{error}");
    }
}

#[test]
fn changed_documents_are_refused() {
    let crafted = image();
    for (index, what) in [(1, "manifest"), (2, "configuration")] {
        let mut blobs = crafted.blobs();
        let last = blobs[index].1.len() - 1;
        blobs[index].1[last] = b' ';
        let error = fails(&oci_archive(&[crafted.descriptor()], &blobs));
        assert!(matches!(error, Error::DigestMismatch { .. }) && error.to_string().contains(what), "{error}");
    }
}

#[test]
fn a_missing_part_is_named() {
    let crafted = image();
    for missing in 0..3 {
        let mut blobs = crafted.blobs();
        let (name, _) = blobs.remove(missing);
        let error = fails(&oci_archive(&[crafted.descriptor()], &blobs));
        assert!(error.to_string().contains(&format!("lacks {name}")), "{error}");
    }
}

#[test]
fn what_is_no_image_archive_is_refused_with_the_reason() {
    let plain = |parts: &[(&str, &str)]| {
        let parts: Vec<_> = parts.iter().map(|(n, d)| ((*n).to_owned(), d.as_bytes().to_vec())).collect();
        fails(&parts_archive(&parts)).to_string()
    };
    assert!(plain(&[("readme", "")]).contains("no index.json"));
    assert!(plain(&[("index.json", "{")]).contains("broken index.json"));
    assert!(plain(&[("index.json", "{}")]).contains("holds no image"));
    assert!(plain(&[("manifest.json", "[]")]).contains("holds no image"));
    assert!(plain(&[("manifest.json", r#"[{"Config": "c"}]"#)]).contains("lacks c"));
    let symlinks = tar(&[E::symlink("index.json", "b"), E::symlink("b", "index.json")]);
    assert!(fails(&symlinks).to_string().contains("too many links"));
    assert!(fails(b"this is some text and no archive at all").to_string().contains("cannot be read"));
    let mut crafted = image();
    crafted.layers.clear();
    assert!(fails(&crafted.oci()).to_string().contains("no layers"));
}

#[test]
fn an_index_that_names_itself_ends() {
    // A digest cannot name itself, but indexes can be nested.
    let crafted = image();
    let mut blobs = crafted.blobs();
    let mut descriptor = crafted.descriptor();
    for _ in 0..6 {
        let bytes = json!({"schemaVersion": 2, "manifests": [descriptor]}).to_string().into_bytes();
        blobs.push((format!("blobs/sha256/{}", Digest::of(&bytes).hex()), bytes.clone()));
        descriptor = json!({"mediaType": "application/vnd.oci.image.index.v1+json", "digest": Digest::of(&bytes), "size": bytes.len()});
    }
    let error = fails(&oci_archive(&[descriptor], &blobs));
    assert!(error.to_string().contains("nested too deeply"), "{error}");
}

#[test]
fn a_layer_that_unpacks_without_end_stops_at_the_limit() {
    // Zeros behind the archive's end count for no file, but they are not read for ever.
    let endless = [tar(&[E::file("f", "x")]), vec![0; 64 << 20]].concat();
    let mut crafted = Crafted::new("bomb", &[vec![]]);
    crafted.layers = vec![(gzip(&endless), endless)];
    let limits = Limits { max_bytes: 1 << 20, max_entries: 10, ..Limits::default() };
    let bench = Bench::new();
    let error = bench.import_with(&crafted.oci(), None, &limits).unwrap_err();
    assert!(matches!(error, Error::Limit { flag: "--max-bytes", .. }), "{error}");
    assert_eq!(bench.leftovers(), Vec::<std::path::PathBuf>::new());
}

#[test]
fn a_full_disk_is_told_from_one_without_inodes() {
    use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
    let import = |options: &std::ffi::CStr, entries: Vec<E>| {
        let root = tempfile::tempdir().unwrap();
        mount("tmpfs", root.path(), "tmpfs", MountFlags::empty(), options).unwrap();
        let archive = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(archive.path(), Crafted::new("app", &[entries]).compressed(gzip).oci()).unwrap();
        let store = crate::images::ImageStore::open(root.path()).unwrap();
        let error = store.import(archive.path(), None, &Limits::default(), &mut |_| {}).unwrap_err();
        let left = std::fs::read_dir(store.path().join("tmp")).unwrap().count();
        unmount(root.path(), UnmountFlags::DETACH).unwrap();
        assert_eq!((error.kind(), left), (Kind::Transient, 0));
        error.to_string()
    };
    let big: Vec<E> = (0..40).map(|i| E::file(&format!("f{i}"), &"x".repeat(1 << 20))).collect();
    let error = import(c"size=32m", big);
    assert!(error.starts_with("no space left for images in"), "{error}");
    let many: Vec<E> = (0..500).map(|i| E::file(&format!("f{i}"), "")).collect();
    let error = import(c"size=64m,nr_inodes=200", many);
    assert!(error.starts_with("no inodes left for images in"), "{error}");
}
