//! The file systems of Coracle's two directories.

use std::path::{Path, PathBuf};

use super::{Finding, Options};

const GIGABYTE: u64 = 1 << 30;

pub(super) fn findings(options: &Options) -> Vec<Finding> {
    let mut findings = match look(&options.root_dir) {
        Ok(place) => root_dir(&place),
        Err(error) => {
            let finding = Finding::missing("root directory", format!("{}: {error}", options.root_dir.display()));
            vec![finding.so("images and containers have no place").remedy("choose another with --root-dir")]
        }
    };
    findings.push(match look(&options.state_dir) {
        Ok(place) if place.read_only => Finding::missing("state directory", format!("{} is read-only", place.shown()))
            .so("pods cannot run")
            .remedy("choose another with --state-dir"),
        Ok(place) if place.kind == "tmpfs" => Finding::ok("state directory", format!("{} on tmpfs", place.shown())),
        Ok(place) => {
            let what =
                format!("{} on {}, not tmpfs: records of another boot are told apart", place.shown(), place.kind);
            Finding::ok("state directory", what)
        }
        Err(error) => Finding::missing("state directory", format!("{}: {error}", options.state_dir.display()))
            .so("pods cannot run")
            .remedy("choose another with --state-dir"),
    });
    findings
}

/// What is known about the file system of a directory, or of the nearest one above it that exists.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub wanted: PathBuf,
    pub kind: String,
    pub read_only: bool,
    pub free_bytes: u64,
    /// None where the file system makes inodes as it needs them.
    pub free_inodes: Option<u64>,
    pub entry_types: bool,
}

impl Place {
    fn shown(&self) -> std::path::Display<'_> {
        self.wanted.display()
    }
}

fn look(wanted: &Path) -> std::io::Result<Place> {
    let there = wanted.ancestors().find(|path| path.is_dir()).unwrap_or(Path::new("/"));
    let statfs = rustix::fs::statfs(there)?;
    let statvfs = rustix::fs::statvfs(there)?;
    let mut entries = rustix::fs::Dir::read_from(rustix::fs::open(
        there,
        rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC,
        rustix::fs::Mode::empty(),
    )?)?;
    let entry_types = !entries.any(|entry| entry.is_ok_and(|entry| entry.file_type() == rustix::fs::FileType::Unknown));
    Ok(Place {
        wanted: wanted.to_owned(),
        kind: name(statfs.f_type as u64),
        read_only: statvfs.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY),
        free_bytes: statvfs.f_bavail.saturating_mul(statvfs.f_frsize),
        free_inodes: (statvfs.f_files > 0).then_some(statvfs.f_favail),
        entry_types,
    })
}

pub(super) fn root_dir(place: &Place) -> Vec<Finding> {
    const TOPIC: &str = "root directory";
    let shown = place.shown();
    let another = "choose another with --root-dir";
    if place.read_only {
        let finding = Finding::missing(TOPIC, format!("{shown} is read-only"));
        return vec![finding.so("images and containers have no place").remedy(another)];
    }
    let mut findings = Vec::new();
    if matches!(place.kind.as_str(), "overlay" | "nfs" | "fuse" | "9p" | "cifs" | "vfat") {
        let finding = Finding::missing(TOPIC, format!("{shown} is on {}", place.kind));
        findings.push(finding.so("overlayfs cannot write there: containers get no root file system").remedy(another));
    }
    if !place.entry_types {
        let finding = Finding::missing(TOPIC, format!("{shown} is on {} without entry types", place.kind));
        let finding = finding.so("overlayfs needs them (d_type) to hide what an image deletes");
        findings.push(finding.remedy("make the file system anew (mkfs.xfs -n ftype=1), or --root-dir elsewhere"));
    }
    if place.free_bytes < GIGABYTE {
        let finding = Finding::degraded(TOPIC, format!("{shown} has {} MiB free", place.free_bytes >> 20));
        findings.push(finding.so("importing an image may fail for want of space").remedy(another));
    }
    if let Some(inodes) = place.free_inodes.filter(|inodes| *inodes < 50_000) {
        let finding = Finding::degraded(TOPIC, format!("{shown} has {inodes} inodes free"));
        findings.push(finding.so("importing an image may fail for want of inodes").remedy(another));
    }
    if findings.is_empty() {
        let gigabytes = place.free_bytes as f64 / GIGABYTE as f64;
        findings.push(Finding::ok(TOPIC, format!("{shown} on {}, {gigabytes:.1} GiB free", place.kind)));
    }
    findings
}

/// A file system's name by its magic number (statfs(2)).
fn name(magic: u64) -> String {
    const NAMES: [(u64, &str); 13] = [
        (0xef53, "ext4"),
        (0x5846_5342, "xfs"),
        (0x9123_683e, "btrfs"),
        (0x0102_1994, "tmpfs"),
        (0x794c_7630, "overlay"),
        (0xf2f5_2010, "f2fs"),
        (0x2fc1_2fc1, "zfs"),
        (0x6969, "nfs"),
        (0x6573_5546, "fuse"),
        (0x0102_1997, "9p"),
        (0xff53_4d42, "cifs"),
        (0x4d44, "vfat"),
        (0x8584_58f6, "ramfs"),
    ];
    let known = NAMES.iter().find(|(number, _)| *number == magic & 0xffff_ffff);
    known.map_or_else(|| format!("a file system of type {magic:#x}"), |(_, name)| (*name).to_owned())
}
