//! Archives whose layers try to leave their directory, and archives that are not what they say.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use e2e::archive::{Entry, Image, Layer, Packing};
use e2e::{Finished, Node, need};
use serde_json::json;
use tar::EntryType;

/// Every path below a directory, and what lies beside it.
fn tree(dir: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    let mut dirs = vec![dir.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(&dir).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                dirs.push(entry.path());
            }
            found.insert(entry.path());
        }
    }
    found
}

fn image(layers: Vec<Arc<Vec<u8>>>) -> Image {
    Image { reference: "coracle.test/attack:1".into(), layers, config: json!({"Cmd": ["/x"]}) }
}

/// A node whose store has its layout already, so that a refused import must change nothing at all.
fn node() -> Result<Node, String> {
    e2e::skip::root()?;
    let node = Node::new();
    let good = node.dir().join("good.tar");
    let layer = Layer::new().file("good", 0o644, b"good").finish();
    let image = Image { reference: "coracle.test/good:1".into(), ..image(vec![layer]) };
    image.write_oci(&good, Packing::Gzip).expect("the archive is written");
    node.import(&good);
    Ok(node)
}

/// Imports the archive and asserts that it is refused with `text`, and that nothing is different from before.
#[track_caller]
fn refused(node: &Node, archive: &Path, flags: &[&str], text: &str) -> Finished {
    let before = tree(&node.root_dir);
    let listed = node.coracle(["image", "ls"]).exits(0).stdout();
    let mut args: Vec<&std::ffi::OsStr> = vec!["image".as_ref(), "import".as_ref()];
    args.extend(flags.iter().map(|flag| -> &std::ffi::OsStr { flag.as_ref() }));
    args.push(archive.as_os_str());
    let finished = node.coracle(args).exits(125);
    let said = finished.stderr().to_lowercase();
    assert!(said.contains(text), "the error does not say {text:?}\n{finished}");
    let after = tree(&node.root_dir);
    let left: Vec<_> = after.symmetric_difference(&before).collect();
    assert!(left.is_empty(), "the store changed: {left:#?}\n{finished}");
    assert_eq!(node.coracle(["image", "ls"]).exits(0).stdout(), listed);
    assert!(!node.dir().join("escaped").exists() && !Path::new("/tmp/escaped").exists(), "it climbed out");
    finished
}

/// Refuses an image of these layers.
#[track_caller]
fn refuses_layers(layers: Vec<Arc<Vec<u8>>>, text: &str) {
    let node = need!(node());
    let archive = node.dir().join("attack.tar");
    image(layers).write_oci(&archive, Packing::Gzip).expect("the archive is written");
    refused(&node, &archive, &[], text);
}

#[test]
fn a_name_that_climbs_by_dots_is_refused() {
    let climbing = Layer::new().file("../../../../../../../../tmp/escaped", 0o644, b"x");
    refuses_layers(vec![climbing.finish()], "escaped");
}

#[test]
fn a_name_that_climbs_from_a_subdirectory_is_refused() {
    let climbing = Layer::new().dir("a/", 0o755).file("a/../../escaped", 0o644, b"x");
    refuses_layers(vec![climbing.finish()], "escaped");
}

#[test]
fn an_absolute_name_is_refused() {
    refuses_layers(vec![Layer::new().file("/tmp/escaped", 0o644, b"x").finish()], "absolute");
}

#[test]
fn a_file_through_a_symlink_out_of_the_layer_is_refused() {
    for target in ["/tmp", "../../../../../../../../../../../../../../tmp"] {
        let layer = Layer::new().symlink("door", target).file("door/escaped", 0o644, b"x");
        refuses_layers(vec![layer.finish()], "symbolic link");
    }
}

#[test]
fn a_symlink_of_one_layer_does_not_lead_the_next_layer_out() {
    let node = need!(node());
    let outside = node.make_dir("outside");
    let first = Layer::new().symlink("door", &outside.to_string_lossy()).finish();
    let second = Layer::new().file("door/escaped", 0o644, b"x").finish();
    let archive = node.dir().join("attack.tar");
    image(vec![first, second]).write_oci(&archive, Packing::Gzip).expect("the archive is written");
    node.coracle(["image".as_ref(), "import".as_ref(), archive.as_os_str()]);
    assert_eq!(tree(&outside), BTreeSet::new(), "it climbed out");
}

#[test]
fn a_hard_link_to_a_file_of_the_host_is_refused() {
    for target in ["/etc/passwd", "../../../../../../../../../../../../../../../etc/passwd"] {
        refuses_layers(vec![Layer::new().hard_link("stolen", target).finish()], "stolen");
    }
}

#[test]
fn a_hard_link_through_a_symlink_is_refused() {
    let layer = Layer::new().symlink("etc", "/etc").hard_link("stolen", "etc/passwd");
    refuses_layers(vec![layer.finish()], "stolen");
}

#[test]
fn a_whiteout_that_climbs_removes_nothing_of_the_host() {
    let node = need!(node());
    let outside = node.make_dir("outside");
    std::fs::write(outside.join("victim"), "").expect("a file");
    let first = Layer::new().symlink("door", &outside.to_string_lossy()).finish();
    for name in ["door/.wh.victim", "door/.wh..wh..opq", ".wh...", ".wh.."] {
        let second = Layer::new().file(name, 0o644, b"").finish();
        let archive = node.dir().join("attack.tar");
        image(vec![first.clone(), second]).write_oci(&archive, Packing::Gzip).expect("the archive is written");
        node.coracle(["image".as_ref(), "import".as_ref(), archive.as_os_str()]);
        assert!(outside.join("victim").exists(), "{name} removed a file of the host");
    }
}

#[test]
fn a_layer_cut_short_is_refused() {
    let node = need!(node());
    let archive = node.dir().join("attack.tar");
    let layer = Layer::new().file("big", 0o644, &vec![7; 100_000]).finish();
    let cut = |_, blob: Vec<u8>| blob[..blob.len() / 2].to_vec();
    image(vec![layer]).write_oci_with(&archive, Packing::Gzip, cut).expect("the archive is written");
    refused(&node, &archive, &[], "truncated");
}

#[test]
fn a_tar_cut_short_within_a_sound_blob_is_refused() {
    let layer = Layer::new().file("big", 0o644, &vec![7; 100_000]).truncated(50_000);
    refuses_layers(vec![layer], "layer");
}

#[test]
fn a_layer_whose_bytes_are_not_what_its_digest_says_is_refused() {
    let node = need!(node());
    let archive = node.dir().join("attack.tar");
    let layer = Layer::new().file("file", 0o644, b"original").finish();
    let change = |_, mut blob: Vec<u8>| {
        let at = blob.windows(8).position(|bytes| bytes == b"original").expect("packed plain");
        blob[at] = b'0';
        blob
    };
    image(vec![layer]).write_oci_with(&archive, Packing::Plain, change).expect("the archive is written");
    refused(&node, &archive, &[], "digest");
}

#[test]
fn a_layer_larger_than_allowed_is_refused_with_the_flag_to_raise() {
    let node = need!(node());
    let archive = node.dir().join("attack.tar");
    // A bomb: a thousand times larger than its blob.
    let layer = Layer::new().file("zeros", 0o644, &vec![0; 8 << 20]).finish();
    image(vec![layer]).write_oci(&archive, Packing::Gzip).expect("the archive is written");
    refused(&node, &archive, &["--max-bytes", "1Mi"], "--max-bytes");
}

#[test]
fn more_entries_than_allowed_are_refused_with_the_flag_to_raise() {
    let node = need!(node());
    let archive = node.dir().join("attack.tar");
    let layer = (0..200).fold(Layer::new(), |layer, number| layer.file(&format!("f{number}"), 0o644, b""));
    image(vec![layer.finish()]).write_oci(&archive, Packing::Gzip).expect("the archive is written");
    refused(&node, &archive, &["--max-entries", "100"], "--max-entries");
}

#[test]
fn an_entry_that_claims_more_bytes_than_there_are_is_refused() {
    let mut entry = Layer::new().entry(&Entry { data: &[1; 512], ..Entry::new(EntryType::Regular, "liar") });
    let length = entry.len();
    // The header says 512 bytes; they are not there.
    entry = Layer::new()
        .file("before", 0o644, b"")
        .entry(&Entry { data: &[1; 512], ..Entry::new(EntryType::Regular, "liar") });
    let cut = entry.truncated(length);
    refuses_layers(vec![cut], "layer");
}

#[test]
fn what_is_no_archive_is_refused() {
    let node = need!(node());
    let archive = node.dir().join("attack.tar");
    std::fs::write(&archive, "this is not a tar").expect("a file");
    refused(&node, &archive, &[], "attack.tar");
    std::fs::write(&archive, "").expect("a file");
    refused(&node, &archive, &[], "attack.tar");
}

#[test]
fn an_archive_that_does_not_exist_is_named() {
    let node = need!(node());
    refused(&node, Path::new("/nonexistent/image.tar"), &[], "/nonexistent/image.tar");
}
