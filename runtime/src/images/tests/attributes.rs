//! What unpacked files look like: owners, modes, times, attributes, links, devices, holes.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use tar::EntryType;

use super::craft::{E, tar, unpack, unpack_bytes};
use crate::images::Limits;

fn layer(entries: &[E]) -> (tempfile::TempDir, std::path::PathBuf) {
    let root = tempfile::tempdir().unwrap();
    unpack(root.path(), "layer", &[], entries).unwrap();
    let path = root.path().join("layer");
    (root, path)
}

fn xattr(path: &Path, name: &str) -> Option<Vec<u8>> {
    let mut value = vec![0; 1024];
    let n = rustix::fs::lgetxattr(path, name, &mut value[..]).ok()?;
    value.truncate(n);
    Some(value)
}

#[test]
fn modes_and_owners_are_kept_with_set_user_id() {
    let (_root, at) = layer(&[
        E::file("su", "x").mode(0o4755).owner(0, 5),
        E::file("plain", "").mode(0o600).owner(1000, 1001),
        E::file("sgid", "").mode(0o2710).owner(70_000, 4_294_967_294),
        E::dir("t").mode(0o1777),
        E::symlink("l", "target").owner(7, 8),
        E::dir("./").mode(0o700).owner(9, 9),
    ]);
    let facts = |name: &str| {
        let meta = fs::symlink_metadata(at.join(name)).unwrap();
        (meta.mode() & 0o7777, meta.uid(), meta.gid())
    };
    assert_eq!(facts("su"), (0o4755, 0, 5));
    assert_eq!(facts("plain"), (0o600, 1000, 1001));
    assert_eq!(facts("sgid"), (0o2710, 70_000, 4_294_967_294));
    assert_eq!(facts("t"), (0o1777, 0, 0));
    assert_eq!((facts("l").1, facts("l").2), (7, 8));
    assert_eq!(facts(""), (0o700, 9, 9));
}

#[test]
fn times_are_kept_to_the_nanosecond_and_those_of_directories_survive_their_entries() {
    let (_root, at) = layer(&[
        E::dir("d").pax("mtime", "1350244992.023960108"),
        E::file("d/f", "x").pax("mtime", "-1.5"),
        E::symlink("d/l", "f").pax("mtime", "12.000000001"),
        E { mtime: 77, ..E::new(EntryType::Fifo, "d/p") },
        E::dir("d/e").pax("mtime", "5"),
        E::file("d/e/late", ""),
    ]);
    let time = |name: &str| {
        let meta = fs::symlink_metadata(at.join(name)).unwrap();
        (meta.mtime(), meta.mtime_nsec())
    };
    assert_eq!(time("d"), (1_350_244_992, 23_960_108));
    assert_eq!(time("d/f"), (-2, 500_000_000));
    assert_eq!(time("d/l"), (12, 1));
    assert_eq!(time("d/p"), (77, 0));
    assert_eq!(time("d/e"), (5, 0));
}

#[test]
fn attributes_are_kept_newlines_and_capabilities_included() {
    // The second byte of the permitted set is a newline: a parser by lines would break here.
    let capability = [1, 0, 0, 2, 0, 10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let (_root, at) = layer(&[
        E::file("ping", "x").owner(0, 1).xattr("security.capability", capability),
        E::dir("d").xattr("user.note", b"two\nlines"),
        E::file("s", "").xattr("security.selinux", "foreign_t"),
        E::symlink("l", "ping").xattr("user.note", "a link keeps none"),
    ]);
    assert_eq!(xattr(&at.join("ping"), "security.capability").unwrap(), capability);
    assert_eq!(xattr(&at.join("d"), "user.note").unwrap(), b"two\nlines");
    assert_eq!(xattr(&at.join("l"), "user.note"), None);
    assert_eq!(xattr(&at.join("s"), "security.selinux"), None);
}

#[test]
fn links_and_devices_are_made() {
    let (_root, at) = layer(&[
        E::file("f", "same"),
        E::dir("sub"),
        E::hard_link("sub/g", "f"),
        E::hard_link("h", "./sub/g"),
        E::symlink("abs", "/etc/passwd"),
        E::symlink("up", "../../../etc"),
        E::device(EntryType::Char, "null", (1, 3)).mode(0o666).owner(0, 5),
        E::device(EntryType::Block, "loop", (7, 300)),
        E::new(EntryType::Fifo, "pipe").mode(0o622),
        E { kind: EntryType::Continuous, ..E::file("old", "contiguous") },
    ]);
    let inode = |name: &str| fs::metadata(at.join(name)).unwrap().ino();
    assert_eq!((inode("f"), inode("f")), (inode("sub/g"), inode("h")));
    assert_eq!(fs::read_link(at.join("abs")).unwrap(), Path::new("/etc/passwd"));
    assert_eq!(fs::read_link(at.join("up")).unwrap(), Path::new("../../../etc"));
    let null = fs::metadata(at.join("null")).unwrap();
    assert!(null.file_type().is_char_device());
    assert_eq!((null.rdev(), null.mode() & 0o7777, null.gid()), (rustix::fs::makedev(1, 3), 0o666, 5));
    let block = fs::metadata(at.join("loop")).unwrap();
    assert!(block.file_type().is_block_device());
    assert_eq!(block.rdev(), rustix::fs::makedev(7, 300));
    let pipe = fs::metadata(at.join("pipe")).unwrap();
    assert!(pipe.file_type().is_fifo());
    assert_eq!(pipe.mode() & 0o7777, 0o622);
    assert_eq!(fs::read_to_string(at.join("old")).unwrap(), "contiguous");
}

#[test]
fn later_entries_replace_earlier_ones_of_any_type() {
    let (_root, at) = layer(&[
        E::dir("a"),
        E::dir("a/deep"),
        E::file("a/deep/f", "old"),
        E::file("a", "now a file"),
        E::file("b", "file"),
        E::dir("b"),
        E::file("b/in", "now a directory"),
        E::file("c", "first"),
        E::file("c", "second"),
        E::symlink("e", "c"),
        E::hard_link("e", "c"),
        E::dir("keep"),
        E::file("keep/f", "stays"),
        E::dir("keep").mode(0o700),
        E::hard_link("c", "c"),
    ]);
    assert_eq!(fs::read_to_string(at.join("a")).unwrap(), "now a file");
    assert_eq!(fs::read_to_string(at.join("b/in")).unwrap(), "now a directory");
    assert_eq!(fs::read_to_string(at.join("c")).unwrap(), "second");
    assert_eq!(fs::symlink_metadata(at.join("e")).unwrap().ino(), fs::metadata(at.join("c")).unwrap().ino());
    assert_eq!(fs::read_to_string(at.join("keep/f")).unwrap(), "stays");
    assert_eq!(fs::metadata(at.join("keep")).unwrap().mode() & 0o7777, 0o700);
}

#[test]
fn a_replaced_parent_is_not_written_to_any_more() {
    // The directory of the last entry is remembered; it must be forgotten when its name means something else.
    let (_root, at) = layer(&[
        E::dir("d"),
        E::file("d/one", ""),
        E::symlink("d", "other"),
        E::dir("other"),
        E::file("d/two", "through the link, inside"),
    ]);
    assert!(at.join("other/two").is_file());
    assert!(!at.join("other/one").exists());
}

#[test]
fn a_tar_of_gnu_tar_with_long_names_and_holes_unpacks_as_it_was() {
    let root = tempfile::tempdir().unwrap();
    let source = root.path().join("source");
    let deep = source.join("d".repeat(120)).join("e".repeat(120));
    fs::create_dir_all(&deep).unwrap();
    fs::write(deep.join("f".repeat(120)), "long").unwrap();
    std::os::unix::fs::symlink("t".repeat(200), source.join("link")).unwrap();
    let sparse = fs::File::create(source.join("sparse")).unwrap();
    use std::os::unix::fs::FileExt;
    for at in 0..30u64 {
        sparse.write_all_at(b"island", at * 1_000_000).unwrap();
    }
    sparse.set_len(64 << 20).unwrap();
    for format in [
        &["--format=gnu"][..],
        &["--format=posix"],
        &["--format=posix", "--sparse-version=0.0"],
        &["--format=posix", "--sparse-version=0.1"],
    ] {
        let tar = std::process::Command::new("tar")
            .args(["--sparse", "-C"])
            .arg(&source)
            .args(format)
            .args(["-cf", "-", "."])
            .output()
            .unwrap();
        assert!(tar.status.success(), "{}", String::from_utf8_lossy(&tar.stderr));
        assert!(tar.stdout.len() < 4 << 20, "the archive has no holes: {}", tar.stdout.len());
        let name = format.join("");
        unpack_bytes(root.path(), &name, &[], tar.stdout, &Limits::default()).unwrap();
        let diff = std::process::Command::new("diff")
            .arg("-r")
            .arg("--no-dereference")
            .arg(&source)
            .arg(root.path().join(&name))
            .output()
            .unwrap();
        assert!(diff.status.success(), "{format:?}: {}", String::from_utf8_lossy(&diff.stdout));
        assert!(fs::metadata(root.path().join(&name).join("sparse")).unwrap().blocks() < 4096, "holes were filled");
    }
}

#[test]
fn contents_are_counted() {
    let root = tempfile::tempdir().unwrap();
    let entries = [E::dir("d"), E::file("d/f", "12345"), E::file("implicit/g", "678")];
    let contents = unpack(root.path(), "layer", &[], &entries).unwrap();
    assert_eq!((contents.bytes, contents.inodes, contents.disk_bytes), (8, 4, 4 * 4096));
}

#[test]
fn an_archive_without_its_closing_zeros_is_whole() {
    let root = tempfile::tempdir().unwrap();
    let mut bytes = tar(&[E::file("f", "x")]);
    bytes.truncate(1024);
    unpack_bytes(root.path(), "layer", &[], bytes, &Limits::default()).unwrap();
    assert!(root.path().join("layer/f").exists());
}
