//! What cannot work says so, with the exit code that people know, and leaves nothing half-made.

use std::process::Command;

use e2e::archive::{Image, Layer, Packing};
use e2e::loopfs;
use e2e::manifest::{command, pod, script, shell};
use e2e::{Node, Run, fixtures, need};
use serde_json::json;

#[test]
fn a_command_that_does_not_exist_exits_127() {
    let node = need!(Node::with_busybox());
    for name in ["no-such-command", "/bin/no-such-command"] {
        let spec = json!({"containers": [command("c", &[name])]});
        node.run_to_end(pod("missing", spec)).exits(127).says(name);
        node.assert_nothing_left();
    }
}

#[test]
fn a_command_that_is_not_executable_exits_126() {
    let node = need!(Node::with_busybox());
    for name in ["/etc/passwd", "/etc"] {
        let spec = json!({"containers": [command("c", &[name])]});
        node.run_to_end(pod("inert", spec)).exits(126).says(name);
        node.assert_nothing_left();
    }
}

#[test]
fn a_program_of_another_machine_exits_126() {
    let node = need!(Node::with_busybox());
    let mut elf = vec![0; 4096];
    elf[..20].copy_from_slice(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\xf3\0");
    let layer = Layer::new().file("alien", 0o755, &elf).finish();
    need!(node.import_variant("coracle.test/alien:1", json!({}), &[layer]));
    let spec = json!({"containers": [{"name": "c", "image": "coracle.test/alien:1", "command": ["/alien"]}]});
    node.run_to_end(pod("alien", spec)).exits(126).says("/alien");
}

#[test]
fn an_image_that_must_not_be_pulled_and_is_not_there_says_so() {
    let node = need!(Node::with_busybox());
    let spec = json!({"containers": [{"name": "c", "image": "bussybox", "imagePullPolicy": "Never"}]});
    node.run_to_end(pod("lost", spec)).exits(125).says("bussybox");
    node.assert_nothing_left();
}

#[test]
fn one_pod_that_cannot_start_does_not_take_the_others_along() {
    let node = need!(Node::with_busybox());
    let lost = pod("lost", json!({"containers": [{"name": "c", "image": "nosuchimage", "imagePullPolicy": "Never"}]}));
    let good = pod("good", json!({"containers": [shell("c", "sleep 0.3; echo fine")]}));
    node.run(e2e::manifest::several(&[lost, good])).wait().exits(125).says("good/c | fine");
    node.assert_nothing_left();
}

#[test]
fn a_config_map_that_is_not_in_the_file_is_named() {
    let node = need!(Node::with_busybox());
    let mut container = shell("c", "echo ran");
    container["envFrom"] = json!([{"configMapRef": {"name": "absent-map"}}]);
    let refused =
        node.run_to_end(pod("lacks", json!({"containers": [container]}))).says("absent-map").never_says("| ran");
    assert!(matches!(refused.status.code(), Some(2 | 125)), "{refused}");
    node.assert_nothing_left();
}

#[test]
fn a_working_directory_that_does_not_exist_is_made_as_runtimes_do() {
    let node = need!(Node::with_busybox());
    let mut pod = script("echo in $(pwd)");
    pod["spec"]["containers"][0]["workingDir"] = json!("/made/for/this");
    node.run_to_end(pod).exits(0).says("in /made/for/this");
}

#[test]
fn without_root_every_verb_says_so_with_the_line_to_type() {
    need!(e2e::skip::root());
    let node = Node::new();
    fixtures::open_to_all(node.dir());
    // The build directory may be closed to others.
    let binary = node.dir().join("coracle");
    std::fs::copy(e2e::binary::coracle(), &binary).expect("the binary can be copied");
    fixtures::open_to_all(&binary);
    let manifest = node.manifest(script("echo ran"));
    let manifest = manifest.to_string_lossy();
    for verb in
        [vec!["run", &manifest], vec!["gc"], vec!["exec", "pod", "--", "true"], vec!["image", "import", "x.tar"]]
    {
        let mut command = Command::new("setpriv");
        command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups", "--"]).arg(&binary).args(&verb);
        let finished = Run::start(&mut command, None).wait().exits(125).never_says("| ran");
        assert!(finished.stderr().contains("sudo"), "no line to type for {verb:?}\n{finished}");
    }
}

#[test]
fn checking_manifests_needs_no_root() {
    need!(e2e::skip::root());
    let node = Node::new();
    fixtures::open_to_all(node.dir());
    let binary = node.dir().join("coracle");
    std::fs::copy(e2e::binary::coracle(), &binary).expect("the binary can be copied");
    fixtures::open_to_all(&binary);
    let manifest = node.manifest(script("echo ran"));
    let mut command = Command::new("setpriv");
    command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups", "--"]).arg(&binary);
    Run::start(command.arg("validate").arg(&manifest), None).wait().exits(0);
}

/// A node whose root directory is a filesystem of `megabytes` with `inodes`.
fn small_node(megabytes: u64, inodes: u32) -> Result<Node, String> {
    e2e::skip::root()?;
    let mut node = Node::new();
    let mounted = loopfs::mount_small(&node.dir().join("disk"), &node.root_dir, megabytes, inodes);
    let mounted = mounted.map_err(|why| format!("no small filesystem: {why}"))?;
    let mut collect = node.command(["gc", "--all"]);
    node.on_drop(move || {
        // While the filesystem is still there; what `gc` could not do shows in the check that follows.
        let _ = collect.output();
        drop(mounted);
    });
    Ok(node)
}

/// Bytes and inodes in use, as the filesystem counts them.
fn usage(node: &Node) -> (u64, u64) {
    rustix::fs::sync();
    let usage = rustix::fs::statvfs(&node.root_dir).expect("the filesystem is mounted");
    (usage.f_blocks - usage.f_bfree, usage.f_files - usage.f_ffree)
}

/// Imports an image that cannot fit: the error names `what`, and the filesystem is as before.
fn refuses_import(node: &Node, image: &Image, what: &str) {
    let archive = node.dir().join("image.tar");
    image.write_oci(&archive, Packing::Gzip).expect("the archive is written");
    let listed = node.images();
    let before = usage(node);
    let finished = node.coracle(["image".as_ref(), "import".as_ref(), archive.as_os_str()]).exits(125);
    assert!(finished.stderr().contains(what), "the error does not say {what:?}\n{finished}");
    node.assert_images(&listed);
    let after = usage(node);
    assert!(after.0 <= before.0 + 8 && after.1 <= before.1 + 2, "left behind: {before:?} became {after:?}\n{finished}");
}

#[test]
fn an_import_without_space_says_so_and_gives_the_space_back() {
    let node = need!(small_node(16, 4096));
    let layer = Layer::new().file("large", 0o644, &vec![0; 32 << 20]).finish();
    let image = Image { reference: "coracle.test/large:1".into(), layers: vec![layer], config: json!({}) };
    refuses_import(&node, &image, "no space left");
}

#[test]
fn an_import_without_inodes_says_so_and_gives_them_back() {
    let node = need!(small_node(64, 128));
    let layer = (0..1000).fold(Layer::new(), |layer, number| layer.file(&format!("f{number}"), 0o644, b"x"));
    let image = Image { reference: "coracle.test/many:1".into(), layers: vec![layer.finish()], config: json!({}) };
    refuses_import(&node, &image, "no inodes left");
}

#[test]
fn a_container_that_fills_the_disk_gets_the_error_and_the_run_ends_cleanly() {
    let node = need!(small_node(48, 8192));
    node.import(&need!(fixtures::busybox()));
    let finished = node
        .run_to_end(script("dd if=/dev/zero of=/full bs=1M 2>&1; echo code $?; echo still talking; rm /full; exit 3"));
    finished.exits(3).says("No space left on device").says("still talking");
    node.assert_nothing_left();
}

#[test]
fn a_run_on_a_full_disk_fails_with_the_reason_and_leaves_nothing() {
    let node = need!(small_node(48, 8192));
    node.import(&need!(fixtures::busybox()));
    let filler = node.root_dir.join("filler");
    need!(loopfs::tool("sh", &["-c", &format!("dd if=/dev/zero of={} bs=64k 2>/dev/null; true", filler.display())]));
    let finished = node.run_to_end(script("echo ran"));
    // A container that needs no space may run; one that cannot be made says why.
    assert!(finished.status.success() || finished.text().to_lowercase().contains("no space"), "{finished}");
    node.assert_nothing_left();
    std::fs::remove_file(filler).expect("it is ours");
    node.run_to_end(script("echo ran")).exits(0).says("| ran");
}
