//! The archives that the tests make are what other tools take for images.

use std::process::Command;

use e2e::archive::Packing;
use e2e::{BUSYBOX, debian, fixtures, need};
use serde_json::{Value, json};

fn inspect(skopeo: &std::path::Path, source: &str) -> Value {
    let output = Command::new(skopeo).args(["inspect", source]).output().expect("skopeo starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("skopeo prints JSON")
}

#[test]
fn skopeo_reads_our_archives_and_both_forms_hold_the_same_image() {
    let skopeo = need!(debian::program("skopeo", "skopeo"));
    let dir = tempfile::tempdir().expect("a temporary directory");
    let image = need!(fixtures::busybox_image(BUSYBOX, json!({"User": "default-user"})));
    let (oci, docker) = (dir.path().join("oci.tar"), dir.path().join("docker.tar"));
    image.write_oci(&oci, Packing::Gzip).expect("the archive is written");
    image.write_docker(&docker).expect("the archive is written");
    let oci = inspect(&skopeo, &format!("oci-archive:{}:{BUSYBOX}", oci.display()));
    let docker = inspect(&skopeo, &format!("docker-archive:{}", docker.display()));
    for inspected in [&oci, &docker] {
        assert_eq!(inspected["Os"], "linux");
        assert_eq!(inspected["Layers"].as_array().map(Vec::len), Some(1), "{inspected:#}");
    }
    assert_eq!(oci["Env"], docker["Env"]);
}

#[test]
fn skopeo_copies_every_blob_with_its_digest_verified() {
    let skopeo = need!(debian::program("skopeo", "skopeo"));
    let archive = need!(fixtures::busybox());
    let dir = tempfile::tempdir().expect("a temporary directory");
    let output = Command::new(skopeo)
        .args(["--insecure-policy", "copy", &format!("oci-archive:{}", archive.display())])
        .arg(format!("dir:{}", dir.path().display()))
        .output()
        .expect("skopeo starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
