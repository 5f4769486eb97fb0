//! Debian's cloud kernel and the modules that the tests need, as a kernel image and a first root.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::cpio::Archive;
use crate::debian;

/// What the machine itself, the runtime and the tests need; what these need in turn is found in the modules.
const MODULES: &[&str] = &[
    "virtio_pci",
    "virtio_blk",
    "virtio_console",
    "loop",
    "overlay",
    "veth",
    "bridge",
    "br_netfilter",
    "dummy",
    "macvlan",
    "tun",
    "nf_tables",
    "nft_chain_nat",
    "nft_ct",
    "nft_masq",
    "nft_nat",
    "nft_redir",
    "nft_reject_inet",
    "nft_fib_inet",
    "nft_limit",
    "nft_log",
    "nft_numgen",
    "nft_hash",
    "nft_objref",
    "nft_quota",
    "bfq",
];

/// Where the kernel package was unpacked.
pub struct Kernel {
    root: PathBuf,
    /// As `uname -r` says it.
    pub version: String,
}

impl Kernel {
    /// Downloads and unpacks Debian's newest cloud kernel for this architecture.
    pub fn fetch() -> Result<Self, String> {
        let package = package()?;
        let root = debian::unpacked(&[&package])?;
        let version = package.strip_prefix("linux-image-").unwrap_or(&package).to_owned();
        Ok(Self { root, version })
    }

    /// The file that QEMU boots.
    pub fn image(&self) -> PathBuf {
        self.root.join("boot").join(format!("vmlinuz-{}", self.version))
    }

    /// A first root with busybox, the modules and `init`, which loads them.
    pub fn initramfs(&self, busybox: &Path, init: &str) -> Result<Vec<u8>, String> {
        let mut archive = Archive::default();
        for dir in ["bin", "sbin", "dev", "proc", "sys", "run", "tmp", "etc", "disk", "modules"] {
            archive.directory(dir);
        }
        // Before devtmpfs is mounted the kernel opens this for init's output.
        archive.device("dev/console", 5, 1);
        archive.program("bin/busybox", &read(busybox)?).symlink("bin/sh", "busybox").program("init", init.as_bytes());
        let mut order = String::new();
        for (name, path) in self.modules()? {
            archive.program(&format!("modules/{name}.ko"), &read(&path)?);
            order.push_str(&format!("{name}\n"));
        }
        archive.program("modules/order", order.as_bytes());
        Ok(archive.finish())
    }

    /// The modules with those that they depend on, each after what it needs.
    fn modules(&self) -> Result<Vec<(String, PathBuf)>, String> {
        let dir = ["lib/modules", "usr/lib/modules"].map(|dir| self.root.join(dir).join(&self.version));
        let dir = dir.iter().find(|dir| dir.is_dir()).ok_or("the kernel package has no modules")?;
        let mut files = BTreeMap::new();
        find(&dir.join("kernel"), &mut files);
        let mut order = Vec::new();
        for name in MODULES {
            add(name, &files, &mut order)?;
        }
        Ok(order)
    }
}

/// The package that the metapackage for this architecture stands for.
fn package() -> Result<String, String> {
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => return Err(format!("no kernel is known for {other}")),
    };
    let metapackage = format!("linux-image-cloud-{architecture}");
    let ask = || {
        let output = Command::new("apt-cache").args(["depends", "--important", &metapackage]).output();
        let output = output.map_err(|error| format!("not a Debian system: apt-cache: {error}"))?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let found = text.lines().find_map(|line| line.trim().strip_prefix("Depends: linux-image-").map(str::to_owned));
        found.map(|rest| format!("linux-image-{rest}")).ok_or(format!("no package {metapackage}"))
    };
    ask().or_else(|_| debian::update().and_then(|()| ask()))
}

fn find(dir: &Path, files: &mut BTreeMap<String, PathBuf>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            find(&path, files);
        } else if let Some(name) = path.file_name().and_then(|name| name.to_str()?.strip_suffix(".ko")) {
            files.insert(name.replace('-', "_"), path.clone());
        }
    }
}

fn add(name: &str, files: &BTreeMap<String, PathBuf>, order: &mut Vec<(String, PathBuf)>) -> Result<(), String> {
    if order.iter().any(|(known, _)| known == name) {
        return Ok(());
    }
    // What is not a file is part of the kernel itself: which ones are changes with the version.
    let Some(path) = files.get(name) else { return Ok(()) };
    for needed in depends(&read(path)?) {
        add(&needed.replace('-', "_"), files, order)?;
    }
    order.push((name.to_owned(), path.clone()));
    Ok(())
}

/// What a module says that it needs, in its section of NUL-separated `key=value`.
fn depends(module: &[u8]) -> Vec<String> {
    let entries = module.split(|byte| *byte == 0);
    let found = entries.filter_map(|entry| entry.strip_prefix(b"depends=")).next().unwrap_or_default();
    let text = String::from_utf8_lossy(found);
    text.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    fs::read(path).map_err(|error| format!("cannot read {}: {error}", path.display()))
}
