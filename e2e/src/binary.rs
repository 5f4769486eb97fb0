//! Finds the `coracle` that the tests drive.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The built binary: `CORACLE_BIN`, else the one beside the running test, built now if it is not there.
///
/// `cargo test` of the whole workspace builds it; `cargo test -p e2e` alone does not.
pub fn coracle() -> &'static Path {
    static FOUND: OnceLock<PathBuf> = OnceLock::new();
    FOUND.get_or_init(|| match std::env::var_os("CORACLE_BIN") {
        Some(path) => PathBuf::from(path).canonicalize().expect("CORACLE_BIN names a file"),
        None => beside_the_test(),
    })
}

/// The directory that cargo builds into: …/debug or …/release.
pub fn profile_dir() -> PathBuf {
    let exe = std::env::current_exe().expect("the test knows its own path");
    let dir = exe.parent().expect("an executable has a directory");
    if dir.ends_with("deps") { dir.parent().expect("deps has a parent").to_owned() } else { dir.to_owned() }
}

/// A directory for what the tests build once and keep: archives, unpacked packages.
pub fn cache_dir() -> PathBuf {
    let dir = profile_dir().join("e2e-fixtures");
    std::fs::create_dir_all(&dir).expect("the target directory is writable");
    dir
}

/// Holds an exclusive lock on `NAME.lock` in the cache until dropped: several test processes may run at once.
pub fn cache_lock(name: &str) -> File {
    let path = cache_dir().join(format!("{name}.lock"));
    let file = File::create(&path).expect("the target directory is writable");
    file.lock().unwrap_or_else(|error| panic!("cannot lock {}: {error}", path.display()));
    file
}

fn beside_the_test() -> PathBuf {
    let path = profile_dir().join("coracle");
    let _lock = cache_lock("build");
    if !path.exists() {
        build(path.parent().is_some_and(|dir| dir.ends_with("release")));
    }
    assert!(path.exists(), "{} does not exist: run `cargo build` first, or set CORACLE_BIN", path.display());
    path
}

fn build(release: bool) {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut command = Command::new(cargo);
    command.current_dir(workspace).args(["build", "--quiet", "--workspace", "--bin", "coracle"]);
    if release {
        command.arg("--release");
    }
    let status = command.status().expect("cargo starts");
    assert!(status.success(), "`cargo build --bin coracle` failed: {status}");
}
