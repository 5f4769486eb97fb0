//! Archives that Coracle writes hold the image that it was given, digest by digest.

use std::path::{Path, PathBuf};
use std::process::Command;

use e2e::pty::Session;
use e2e::registry::DockerRegistry;
use e2e::{BUSYBOX, Node, Run, debian, fixtures, need};
use serde_json::{Value, json};

fn skopeo(args: &[&str]) -> Result<Value, String> {
    let program = debian::program("skopeo", "skopeo")?;
    let finished = Run::start(Command::new(program).args(args), None).wait().exits(0);
    serde_json::from_str(&finished.stdout()).map_err(|error| format!("skopeo prints no JSON: {error}"))
}

fn text(path: &Path) -> &str {
    path.to_str().expect("an ASCII path")
}

fn export(node: &Node, reference: &str, format: &str) -> PathBuf {
    let path = node.dir().join(format!("{format}.tar"));
    node.coracle(["image", "export", reference, "-o", text(&path), "--format", format]).exits(0).says("exported");
    path
}

/// Imported elsewhere the archive is the same image under the same name.
#[track_caller]
fn is_the_same(node: &Node, archive: &Path) {
    let other = Node::new();
    other.import(archive);
    let (here, there) = (&node.images()[0], &other.images()[0]);
    for field in ["id", "repoTags"] {
        assert_eq!(here[field], there[field]);
    }
    other.assert_images(&other.images());
}

#[test]
fn an_oci_archive_has_the_digests_of_the_import() {
    let node = need!(Node::with_busybox());
    let source = need!(fixtures::busybox());
    let before = need!(skopeo(&["inspect", &format!("oci-archive:{}", text(&source))]));
    let archive = export(&node, BUSYBOX, "oci-archive");
    let after = need!(skopeo(&["inspect", &format!("oci-archive:{}", text(&archive))]));
    assert_eq!((&before["Digest"], &before["Layers"]), (&after["Digest"], &after["Layers"]));
    is_the_same(&node, &archive);
    // Every blob, verified.
    let dir = node.make_dir("copy");
    let program = need!(debian::program("skopeo", "skopeo"));
    let (from, to) = (format!("oci-archive:{}", text(&archive)), format!("dir:{}", text(&dir)));
    let mut command = Command::new(program);
    command.args(["--insecure-policy", "copy", "--preserve-digests", &from, &to]);
    Run::start(&mut command, None).wait().exits(0);
}

#[test]
fn an_oci_archive_has_the_digests_of_the_registry() {
    let node = Node::new();
    let registry = need!(DockerRegistry::open(&node));
    let reference = need!(registry.push(&node, &need!(fixtures::busybox()), "test/busybox:1"));
    let pulled = node.coracle(["image", "pull", &reference]).exits(0);
    let archive = export(&node, &reference, "oci-archive");
    let inspected = need!(skopeo(&["inspect", &format!("oci-archive:{}", text(&archive))]));
    let digest = inspected["Digest"].as_str().expect("a digest");
    assert!(pulled.stdout().contains(&format!("digest: {digest}")), "{digest}\n{pulled}");
    is_the_same(&node, &archive);
}

#[test]
fn a_docker_archive_is_read_by_skopeo_and_keeps_the_id() {
    let node = need!(Node::with_busybox());
    let archive = export(&node, BUSYBOX, "docker-archive");
    let config = need!(skopeo(&["inspect", "--config", &format!("docker-archive:{}", text(&archive))]));
    assert_eq!(config["os"], "linux");
    let dir = node.make_dir("copy");
    let program = need!(debian::program("skopeo", "skopeo"));
    let (from, to) = (format!("docker-archive:{}", text(&archive)), format!("dir:{}", text(&dir)));
    Run::start(Command::new(program).args(["--insecure-policy", "copy", &from, &to]), None).wait().exits(0);
    let manifest = std::fs::read(dir.join("manifest.json")).expect("skopeo wrote it");
    let manifest: Value = serde_json::from_slice(&manifest).expect("JSON");
    assert_eq!(manifest["config"]["digest"], node.images()[0]["id"]);
    is_the_same(&node, &archive);
}

#[test]
fn several_images_go_into_one_archive_and_share_their_layers() {
    let node = need!(Node::with_busybox());
    need!(node.import_variant("coracle.test/other:2", json!({"Cmd": ["other"]}), &[]));
    for format in ["oci-archive", "docker-archive"] {
        let path = node.dir().join(format!("both-{format}.tar"));
        let args = ["image", "export", BUSYBOX, "coracle.test/other:2", "--format", format, "-o", text(&path)];
        node.coracle(args).exits(0);
        let other = Node::new();
        other.import(&path);
        let ids = |node: &Node| node.images().iter().map(|image| image["id"].clone()).collect::<Vec<_>>();
        assert_eq!(ids(&other), ids(&node));
    }
}

#[test]
fn standard_output_takes_an_archive_but_a_terminal_does_not() {
    let node = need!(Node::with_busybox());
    let archive = export(&node, BUSYBOX, "oci-archive");
    let output = node.command(["image", "export", BUSYBOX, "-o", "-"]).output().expect("coracle starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.stdout == std::fs::read(&archive).expect("it was written"), "another archive than in the file");
    let session = Session::start(&node, &["image", "export", BUSYBOX, "-o", "-"]);
    session.wait_for("is a terminal");
    assert_eq!(session.wait().0.code(), Some(125));
}

#[test]
fn a_failed_export_leaves_the_old_file_alone() {
    let node = need!(Node::with_busybox());
    let path = node.dir().join("old.tar");
    std::fs::write(&path, "old").expect("the directory is ours");
    node.coracle(["image", "export", "coracle.test/absent:1", "-o", text(&path)])
        .exits(125)
        .says("coracle.test/absent:1");
    assert_eq!(std::fs::read_to_string(&path).expect("it is there"), "old");
    node.coracle(["image", "export", BUSYBOX, "-o", "/no/such/directory/x.tar"]).exits(125).says("/no/such/directory");
    node.coracle(["image", "export", BUSYBOX, "-o", text(&path)]).exits(0);
    assert!(std::fs::metadata(&path).expect("it is there").len() > 1000);
    assert_eq!(
        std::fs::read_dir(node.dir())
            .expect("ours")
            .flatten()
            .filter(|entry| { entry.file_name().to_string_lossy().contains("old.tar") })
            .count(),
        1,
        "a temporary file is left"
    );
}
