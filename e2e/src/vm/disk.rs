//! The machine's disk: an ext4 with the binaries under test at the paths that they have here, the programs that tests
//! call, and the images that they import, for inside there is neither a network nor a package manager.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::build::Built;
use crate::{binary, debian, fixtures, loopfs};

/// Programs that the tests call and that busybox words its complaints or takes its options otherwise than, with the
/// package of each.
const PROGRAMS: &[(&str, &str)] = &[
    ("bash", "bash"),
    ("ldd", "libc-bin"),
    ("dash", "dash"),
    ("tar", "tar"),
    ("diff", "diffutils"),
    ("grep", "grep"),
    ("sed", "sed"),
    ("mount", "mount"),
    ("umount", "mount"),
    ("unshare", "util-linux"),
    ("nsenter", "util-linux"),
    ("setsid", "util-linux"),
    ("setpriv", "util-linux"),
    ("mkfs.ext4", "e2fsprogs"),
    ("curl", "curl"),
];

const COREUTILS: &[&str] = &[
    "cat", "chmod", "chown", "cp", "dd", "echo", "env", "head", "id", "ln", "ls", "mkdir", "mknod", "mv", "rm",
    "rmdir", "sleep", "sort", "stat", "sync", "tail", "timeout", "touch", "tr", "true", "wc",
];

const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n";
const GROUP: &str = "root:x:0:\ntty:x:5:\nnogroup:x:65534:\n";
const INITTAB: &str = "::sysinit:/vm/setup\n::once:/vm/agent\n";

/// Fills `root` with what the disk holds.
pub fn stage(root: &Path, busybox: &Path, built: &Built) -> Result<(), String> {
    for dir in
        ["proc", "sys", "dev", "run", "tmp", "root", "etc", "var/lib", "var/log", "usr/bin", "usr/sbin", "vm/bin"]
    {
        make_dir(&root.join(dir))?;
    }
    for (link, target) in [("bin", "usr/bin"), ("sbin", "usr/sbin"), ("lib", "usr/lib"), ("lib64", "usr/lib64")] {
        make_dir(&root.join(target))?;
        symlink(target, root.join(link)).map_err(|error| format!("cannot link {link}: {error}"))?;
    }
    permit(&root.join("tmp"), 0o1777)?;
    for (name, text) in [("passwd", PASSWD), ("group", GROUP), ("inittab", INITTAB), ("hosts", "127.0.0.1 localhost\n")]
    {
        write(&root.join("etc").join(name), text, 0o644)?;
    }
    write(&root.join("etc/resolv.conf"), "nameserver 192.0.2.1\n", 0o644)?;
    for (name, text) in [("setup", include_str!("setup.sh")), ("agent", include_str!("agent.sh"))] {
        write(&root.join("vm").join(name), text, 0o755)?;
    }
    put_busybox(root, busybox)?;
    for (program, package) in PROGRAMS {
        put_program(root, &debian::program(program, package)?, None)?;
    }
    for program in COREUTILS {
        put_program(root, &debian::program(program, "coreutils")?, None)?;
    }
    put_apparmor(root)?;
    put_binaries(root, built)?;
    put_fixtures(root)?;
    Ok(())
}

/// Makes a filesystem image of a directory.
pub fn make(root: &Path, image: &Path, megabytes: u64) -> Result<(), String> {
    let file = fs::File::create(image).map_err(|error| format!("cannot create {}: {error}", image.display()))?;
    file.set_len(megabytes << 20).map_err(|error| format!("cannot size {}: {error}", image.display()))?;
    let flags = ["-q", "-F", "-m", "0", "-E", "lazy_itable_init=1", "-d"];
    loopfs::tool("mkfs.ext4", &[&flags[..], &[&root.to_string_lossy(), &image.to_string_lossy()]].concat())
}

/// The static busybox for the machine itself: as init, and for every applet that no real program stands before.
fn put_busybox(root: &Path, busybox: &Path) -> Result<(), String> {
    copy(busybox, &root.join("vm/busybox"))?;
    let listed = Command::new(busybox).arg("--list").output().map_err(|error| format!("busybox --list: {error}"))?;
    for applet in String::from_utf8_lossy(&listed.stdout).lines().filter(|applet| *applet != "busybox") {
        symlink("/vm/busybox", root.join("vm/bin").join(applet)).map_err(|error| format!("link {applet}: {error}"))?;
    }
    symlink("dash", root.join("usr/bin/sh")).map_err(|error| format!("cannot link sh: {error}"))?;
    // The images that tests make hold this one.
    put_program(root, &fixtures::busybox_program()?, Some("usr/bin/busybox"))
}

/// Copies a program to where it is here, or to `at`, with the libraries that it needs.
fn put_program(root: &Path, program: &Path, at: Option<&str>) -> Result<(), String> {
    put_program_of(root, program, at, None)
}

fn put_program_of(root: &Path, program: &Path, at: Option<&str>, extra: Option<&Path>) -> Result<(), String> {
    let place = at.map_or_else(|| inside(root, program), |at| root.join(at));
    copy(program, &place)?;
    for library in debian::libraries(program, extra).unwrap_or_default() {
        let path = extra.and_then(|extra| library.strip_prefix(extra).ok()).unwrap_or(&library);
        copy(&library, &inside(root, path))?;
    }
    Ok(())
}

/// What compiles and loads AppArmor profiles; the kernel under test has it, the one here may not.
fn put_apparmor(root: &Path) -> Result<(), String> {
    let unpacked = debian::unpacked(&["apparmor"])?;
    let parser = ["sbin/apparmor_parser", "usr/sbin/apparmor_parser"].map(|path| unpacked.join(path));
    let parser = parser.iter().find(|path| path.exists()).ok_or("package apparmor has no apparmor_parser")?;
    put_program_of(root, parser, Some("usr/sbin/apparmor_parser"), Some(&unpacked))?;
    write(&root.join("etc/apparmor/parser.conf"), "", 0o644)
}

/// The binaries at the paths that they have here, and the files that they read by their path in the source.
fn put_binaries(root: &Path, built: &Built) -> Result<(), String> {
    let binaries: BTreeSet<&PathBuf> = built.tests.values().chain([&built.coracle]).collect();
    for path in binaries {
        put_stripped(path, &inside(root, path))?;
    }
    symlink(&built.coracle, root.join("usr/bin/coracle")).map_err(|error| format!("cannot link coracle: {error}"))?;
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().ok_or("the crate has no workspace")?;
    let examples = workspace.join("manifests/examples");
    for entry in fs::read_dir(&examples).map_err(|error| format!("{}: {error}", examples.display()))?.flatten() {
        copy(&entry.path(), &inside(root, &entry.path()))?;
    }
    // `e2e/..` is how the tests find it.
    make_dir(&inside(root, Path::new(env!("CARGO_MANIFEST_DIR"))))
}

/// The image archives that tests import, made here.
fn put_fixtures(root: &Path) -> Result<(), String> {
    for archive in [fixtures::busybox()?, fixtures::heavy()?, fixtures::nginx(fixtures::NGINX_PORT)?] {
        copy(&archive, &inside(root, &archive))?;
    }
    // A cache directory inside is where the tests look first.
    make_dir(&inside(root, &binary::cache_dir()))
}

/// Debug information is nine tenths of a test binary. Where there is no `strip` it goes along.
fn put_stripped(from: &Path, to: &Path) -> Result<(), String> {
    make_parent(to)?;
    let stripped = loopfs::tool("strip", &["-o", &to.to_string_lossy(), &from.to_string_lossy()]);
    if stripped.is_ok() { Ok(()) } else { copy(from, to) }
}

fn inside(root: &Path, path: &Path) -> PathBuf {
    root.join(path.strip_prefix("/").unwrap_or(path))
}

fn copy(from: &Path, to: &Path) -> Result<(), String> {
    make_parent(to)?;
    if to.exists() {
        return Ok(());
    }
    fs::copy(from, to).map(drop).map_err(|error| format!("cannot copy {} to {}: {error}", from.display(), to.display()))
}

fn write(path: &Path, text: &str, mode: u32) -> Result<(), String> {
    make_parent(path)?;
    fs::write(path, text).map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    permit(path, mode)
}

fn permit(path: &Path, mode: u32) -> Result<(), String> {
    let mode = fs::Permissions::from_mode(mode);
    fs::set_permissions(path, mode).map_err(|error| format!("cannot change {}: {error}", path.display()))
}

fn make_parent(path: &Path) -> Result<(), String> {
    path.parent().map_or(Ok(()), make_dir)
}

fn make_dir(path: &Path) -> Result<(), String> {
    fs::create_dir_all(path).map_err(|error| format!("cannot make {}: {error}", path.display()))
}
