//! Sound archives in all their forms.

use std::fs;

use serde_json::json;

use super::craft::{Bench, Crafted, E, gzip, oci_archive, parts_archive, zstd};
use crate::images::{Digest, Error, Kind, Limits};

fn image(name: &str) -> Crafted {
    Crafted::new(name, &[vec![E::dir("bin"), E::file("bin/sh", "shell")], vec![E::file("etc/f", "second")]])
}

#[test]
fn both_forms_import_with_every_compression_inside_and_outside() {
    type Compress = fn(&[u8]) -> Vec<u8>;
    let plain: Compress = |bytes| bytes.to_vec();
    let twice: Compress = |bytes| {
        let (a, b) = bytes.split_at(bytes.len() / 2);
        [gzip(a), gzip(b)].concat()
    };
    let frames: Compress = |bytes| {
        let (a, b) = bytes.split_at(bytes.len() / 2);
        let skippable = [0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3];
        [&skippable[..], &zstd(a), &skippable, &zstd(b)].concat()
    };
    for (i, inside) in [plain, gzip, zstd, twice, frames].into_iter().enumerate() {
        for (j, outside) in [plain, gzip, zstd].into_iter().enumerate() {
            let crafted = image("app:1").compressed(inside);
            for bytes in [crafted.oci(), crafted.docker()] {
                let bench = Bench::new();
                let imported = bench.import(&outside(&bytes)).unwrap_or_else(|e| panic!("{i} in {j}: {e}"));
                assert_eq!(imported.len(), 1);
                assert_eq!(imported[0].id, crafted.id());
                assert_eq!(imported[0].references[0].to_string(), "docker.io/library/app:1");
                let image = bench.store.resolve("app:1").unwrap();
                assert_eq!(fs::read_to_string(image.layers[0].join("bin/sh")).unwrap(), "shell");
                assert_eq!(fs::read_to_string(image.layers[1].join("etc/f")).unwrap(), "second");
            }
        }
    }
}

#[test]
fn an_image_says_what_its_configuration_says() {
    let bench = Bench::new();
    let mut crafted = image("app");
    crafted.config = json!({
        "Env": ["A=b", "C=d"], "Cmd": ["run"], "Entrypoint": ["/init"], "User": "1000:100", "WorkingDir": "/srv",
        "StopSignal": "SIGQUIT", "Labels": {"k": "v"}, "Volumes": {"/data": {}}, "ExposedPorts": {"80/tcp": {}, "53/udp": {}},
        "OnBuild": null, "Healthcheck": {"Test": ["CMD", "true"]},
    });
    bench.import(&crafted.oci()).unwrap();
    let image = bench.store.resolve("app").unwrap();
    let config = &image.config;
    assert_eq!(config.env, ["A=b", "C=d"]);
    assert_eq!(
        (config.cmd.as_slice(), config.entrypoint.as_slice()),
        (&["run".to_owned()][..], &["/init".to_owned()][..])
    );
    assert_eq!(
        (config.user.as_str(), config.working_dir.as_str(), config.stop_signal.as_str()),
        ("1000:100", "/srv", "SIGQUIT")
    );
    assert_eq!((config.volumes.as_slice(), config.exposed_ports.len()), (&["/data".to_owned()][..], 2));
    assert_eq!(config.labels["k"], "v");
    assert_eq!(image.created.as_deref(), Some("2026-01-02T03:04:05Z"));
    assert_eq!((image.size, image.pinned), (11, false));
    assert_eq!(image.digests, [format!("docker.io/library/app@{}", Digest::of(&crafted.manifest_bytes()))]);
}

#[test]
fn names_come_from_the_annotations_the_tags_or_the_caller() {
    let cases = [
        (json!({"org.opencontainers.image.ref.name": "localhost/app:2"}), vec!["localhost/app:2"]),
        (
            json!({"org.opencontainers.image.ref.name": "2", "io.containerd.image.name": "r.example/app:2"}),
            vec!["r.example/app:2"],
        ),
        (json!({"org.opencontainers.image.ref.name": "busybox"}), vec!["docker.io/library/busybox:latest"]),
        (json!({"org.opencontainers.image.ref.name": "latest"}), vec![]),
        (json!({"org.opencontainers.image.ref.name": "v1.2"}), vec![]),
        (json!({}), vec![]),
    ];
    for (annotations, expected) in cases {
        let bench = Bench::new();
        let crafted = image("x");
        let mut descriptor = crafted.descriptor();
        descriptor["annotations"] = annotations.clone();
        let archive = oci_archive(&[descriptor], &crafted.blobs());
        let imported = bench.import(&archive).unwrap();
        let names: Vec<String> = imported[0].references.iter().map(|r| r.to_string()).collect();
        assert_eq!(names, expected, "{annotations}");
        let imported = bench.import_with(&archive, Some("mine"), &Limits::default()).unwrap();
        assert_eq!(imported[0].references[0].to_string(), "docker.io/library/mine:latest");
        assert_eq!(bench.store.resolve(crafted.id().as_str()).unwrap().references.len(), expected.len() + 1);
    }
}

#[test]
fn the_image_of_this_machine_is_taken_from_an_index() {
    let mut foreign = image("app");
    foreign.architecture = "riscv64".to_owned();
    let ours = image("app");
    let list = |which: &[&Crafted]| {
        let manifests: Vec<_> = which
            .iter()
            .map(|crafted| {
                let mut descriptor = crafted.descriptor();
                descriptor["platform"] = json!({"os": "linux", "architecture": crafted.architecture});
                descriptor
            })
            .chain([json!({"mediaType": "x", "digest": Digest::of(b""), "size": 0,
                "platform": {"os": "unknown", "architecture": "unknown"},
                "annotations": {"vnd.docker.reference.type": "attestation-manifest"}})])
            .collect();
        manifests
    };
    let blobs = [ours.blobs(), foreign.blobs()].concat();
    // In index.json itself, and in an index that it names.
    let flat = oci_archive(&list(&[&foreign, &ours]), &blobs);
    let inner = json!({"schemaVersion": 2, "manifests": list(&[&foreign, &ours])}).to_string().into_bytes();
    let descriptor = json!({"mediaType": "application/vnd.oci.image.index.v1+json", "digest": Digest::of(&inner),
        "size": inner.len(), "annotations": {"org.opencontainers.image.ref.name": "app"}});
    let path = format!("blobs/sha256/{}", Digest::of(&inner).hex());
    let nested = oci_archive(&[descriptor], &[blobs, vec![(path, inner)]].concat());
    for archive in [flat, nested] {
        let bench = Bench::new();
        let imported = bench.import(&archive).unwrap();
        assert_eq!((imported.len(), &imported[0].id), (1, &ours.id()));
    }
    let bench = Bench::new();
    let error = bench.import(&oci_archive(&list(&[&foreign]), &foreign.blobs())).unwrap_err();
    assert!(error.to_string().starts_with("the image is for linux/riscv64; this host runs linux/"), "{error}");
    let error = bench.import(&foreign.docker()).unwrap_err();
    assert!(matches!(error, Error::Platform { .. }), "{error}");
}

#[test]
fn an_archive_of_several_images_imports_them_all_but_not_under_one_name() {
    let bench = Bench::new();
    let (one, two) = (image("one"), Crafted::new("two", &[vec![E::file("x", "2")]]));
    let archive = oci_archive(&[one.descriptor(), two.descriptor()], &[one.blobs(), two.blobs()].concat());
    let error = bench.import_with(&archive, Some("both"), &Limits::default()).unwrap_err();
    assert!(matches!(error, Error::ManyImages { count: 2, .. }), "{error}");
    assert_eq!(bench.import(&archive).unwrap().len(), 2);
    assert_eq!(bench.store.list().unwrap().len(), 2);
}

#[test]
fn a_docker_archive_may_link_to_its_layers_and_newer_ones_are_both_forms_at_once() {
    let crafted = image("linked");
    let manifest = json!([{"Config": "config.json", "RepoTags": ["linked:1", "linked:2"], "Layers": ["a/layer.tar", "b/layer.tar"]}]);
    let mut parts = crafted.blobs();
    parts.push(("config.json".to_owned(), crafted.config_bytes()));
    parts.push(("manifest.json".to_owned(), manifest.to_string().into_bytes()));
    let blob = |i: usize| format!("blobs/sha256/{}", Digest::of(&crafted.layers[i].0).hex());
    let mut bytes = parts_archive(&parts);
    bytes.truncate(bytes.len() - 1024);
    bytes.extend(super::craft::tar(&[
        E::symlink("a/layer.tar", &format!("../{}", blob(0))),
        E::hard_link("b/layer.tar", &blob(1)),
    ]));
    let bench = Bench::new();
    assert_eq!(bench.import(&bytes).unwrap()[0].references.len(), 2);

    let mut descriptor = crafted.descriptor();
    descriptor["annotations"] = json!({"org.opencontainers.image.ref.name": "1"});
    let mut blobs = crafted.blobs();
    let config = format!("blobs/sha256/{}", crafted.id().hex());
    let manifest = json!([{"Config": config, "RepoTags": ["linked:1", "linked:2"], "Layers": [blob(0), blob(1)]}]);
    blobs.push(("manifest.json".to_owned(), manifest.to_string().into_bytes()));
    let bench = Bench::new();
    let imported = bench.import(&oci_archive(&[descriptor], &blobs)).unwrap();
    assert_eq!(imported[0].references.len(), 2);
    assert_eq!(imported[0].id, crafted.id());
}

#[test]
fn layers_are_unpacked_once_and_progress_says_so() {
    let bench = Bench::new();
    let path = bench.root.path().join("a.tar");
    let big = vec![E::file("big", &"x".repeat(3 << 20))];
    let crafted = Crafted::new("one", &[big.clone(), vec![E::file("a", "1")]]);
    fs::write(&path, crafted.oci()).unwrap();
    let mut seen = Vec::new();
    bench.store.import(&path, None, &Limits::default(), &mut |p| seen.push(p)).unwrap();
    let first: Vec<_> = seen.iter().filter(|p| p.layer == 0).collect();
    assert!(first.len() > 3 && first.windows(2).all(|pair| pair[0].bytes <= pair[1].bytes), "{first:?}");
    assert!(seen.iter().all(|p| p.layers == 2 && !p.exists && p.bytes <= p.total_bytes));
    let last = seen.last().unwrap();
    assert_eq!((last.layer, last.bytes), (1, last.total_bytes));

    let other = Crafted::new("two", &[big, vec![E::file("b", "2")]]);
    fs::write(&path, other.docker()).unwrap();
    seen.clear();
    bench.store.import(&path, None, &Limits::default(), &mut |p| seen.push(p)).unwrap();
    assert_eq!(seen.iter().filter(|p| p.exists).map(|p| p.layer).collect::<Vec<_>>(), [0]);
    let (one, two) = (bench.store.resolve("one").unwrap(), bench.store.resolve("two").unwrap());
    assert_eq!(one.layers[0], two.layers[0]);
    assert_ne!(one.layers[1], two.layers[1]);
}

#[test]
fn the_same_layer_above_another_is_a_layer_of_its_own() {
    let bench = Bench::new();
    let common = vec![E::file("d/f", "")];
    bench.import(&Crafted::new("one", &[vec![E::dir("d").mode(0o700)], common.clone()]).oci()).unwrap();
    bench.import(&Crafted::new("two", &[vec![E::dir("d").mode(0o711)], common]).oci()).unwrap();
    let mode = |name: &str| {
        use std::os::unix::fs::PermissionsExt;
        let image = bench.store.resolve(name).unwrap();
        fs::metadata(image.layers[1].join("d")).unwrap().permissions().mode() & 0o777
    };
    assert_eq!((mode("one"), mode("two")), (0o700, 0o711));
}

#[test]
fn as_many_layers_as_overlay_mounts_and_no_more() {
    let layers = |n: usize| (0..n).map(|i| vec![E::file(&format!("f{i}"), "")]).collect::<Vec<_>>();
    let bench = Bench::new();
    bench.import(&Crafted::new("many", &layers(127)).oci()).unwrap();
    let image = bench.store.resolve("many").unwrap();
    let names: Vec<&str> = image.layers.iter().map(|p| p.file_name().unwrap().to_str().unwrap()).collect();
    assert!(names.iter().all(|n| n.len() <= 12) && names.join(":").len() < 4096 - 256);
    assert!(image.layers.iter().all(|p| p.parent().unwrap() == bench.store.layer_root()));
    let error = bench.import(&Crafted::new("more", &layers(128)).oci()).unwrap_err();
    assert!(error.to_string().contains("128 layers; more than 127"), "{error}");
}

#[test]
fn nothing_can_take_the_name_of_what_is_built_in() {
    let bench = Bench::new();
    let error = bench.import(&image("coracle.local/tools").oci()).unwrap_err();
    assert!(matches!(error, Error::Pinned { .. }), "{error}");
    let error = bench.import_with(&image("x").oci(), Some("coracle.local/other:1"), &Limits::default()).unwrap_err();
    assert_eq!(error.kind(), Kind::Conflict);
    assert_eq!(bench.leftovers(), Vec::<std::path::PathBuf>::new());
}

#[test]
fn names_of_the_archive_do_not_matter_when_the_caller_gives_one() {
    let bench = Bench::new();
    let archive = image("No Name At All").oci();
    assert!(matches!(bench.import(&archive), Err(Error::Reference { .. })));
    bench.import_with(&archive, Some("app"), &Limits::default()).unwrap();
}

#[test]
fn one_image_may_have_names_by_several_manifests() {
    let bench = Bench::new();
    let (plain, compressed) = (image("app:1"), image("app:2").compressed(gzip));
    bench.import(&plain.oci()).unwrap();
    bench.import(&compressed.oci()).unwrap();
    let found = bench.store.resolve("app:1").unwrap();
    let mut expected =
        [&plain, &compressed].map(|i| format!("docker.io/library/app@{}", Digest::of(&i.manifest_bytes())));
    expected.sort();
    assert_eq!(found.digests, expected);
    for digest in expected {
        assert_eq!(bench.store.resolve(&digest).unwrap().id, plain.id());
    }
    bench.store.remove("app:1", &|_| false).unwrap();
    assert_eq!(bench.store.verify().unwrap(), Default::default());
    bench.store.remove("app:2", &|_| false).unwrap();
    assert_eq!(bench.leftovers(), Vec::<std::path::PathBuf>::new());
}
