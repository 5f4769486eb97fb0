//! Small real filesystems, for what happens when one is full; and other mounts that a test makes.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

/// Loop devices are found and taken in two steps: one test at a time.
static LOOP: Mutex<()> = Mutex::new(());

/// Makes an ext4 of `megabytes` with `inodes`, and with no journal to take of its room, in the file `image` and mounts it
/// at `point`.
pub fn mount_small(image: &Path, point: &Path, megabytes: u64, inodes: u32) -> Result<Mounted, String> {
    mount_ext4(image, point, megabytes, &["-O", "^has_journal", "-N", &inodes.to_string()])
}

/// Makes an ext4 of `megabytes` with `options` of mkfs.ext4(8) in the file `image` and mounts it at `point`.
pub fn mount_ext4(image: &Path, point: &Path, megabytes: u64, options: &[&str]) -> Result<Mounted, String> {
    let file = std::fs::File::create(image).map_err(|error| format!("cannot create {}: {error}", image.display()))?;
    file.set_len(megabytes << 20).map_err(|error| format!("cannot size {}: {error}", image.display()))?;
    let image = image.to_string_lossy();
    tool("mkfs.ext4", &[&["-q", "-F", "-m", "0"], options, &[&image]].concat())?;
    std::fs::create_dir_all(point).map_err(|error| format!("cannot create {}: {error}", point.display()))?;
    let _one = LOOP.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    Mounted::new(&["-o", "loop", &image], point)
}

/// A mount that lasts as long as this value.
pub struct Mounted(PathBuf);

impl Mounted {
    /// `mount ARGS… POINT`, private to no one: it propagates as the place does.
    pub fn new(args: &[&str], point: &Path) -> Result<Self, String> {
        let point_text = point.to_string_lossy();
        tool("mount", &[args, &[&point_text]].concat())?;
        Ok(Self(point.to_owned()))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Changes the mount's propagation: `--make-shared` and its like.
    pub fn change(&self, how: &str) -> Result<(), String> {
        tool("mount", &[how, &self.0.to_string_lossy()])
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if let Err(error) = tool("umount", &[&self.0.to_string_lossy()]) {
            eprintln!("{error}; detaching it");
            // Whoever holds it is what the test is to find; the mount itself must not outlive it.
            let _ = tool("umount", &["--lazy", &self.0.to_string_lossy()]);
        }
    }
}

/// A file that takes all that is free of a filesystem, as long as this value lasts.
pub struct Ballast(PathBuf);

impl Ballast {
    /// Fills the filesystem that `dir` is on.
    pub fn fill(dir: &Path) -> Self {
        let path = dir.join("ballast");
        let mut file = std::fs::File::create(&path).expect("an empty file can be made");
        // The last byte too: a small record needs no more than a block.
        for size in [1 << 20, 4096, 4096] {
            while file.write_all(&vec![0; size]).is_ok() {}
            // What the filesystem keeps in hand for blocks that it has not chosen yet is free again afterwards.
            file.sync_all().expect("what fits can be written");
        }
        Self(path)
    }
}

impl Drop for Ballast {
    fn drop(&mut self) {
        std::fs::remove_file(&self.0).expect("it is ours");
    }
}

/// Runs a system tool; its complaint is the error.
pub fn tool(name: &str, args: &[&str]) -> Result<(), String> {
    let output = Command::new(name).args(args).output().map_err(|error| format!("cannot start {name}: {error}"))?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    if output.status.success() { Ok(()) } else { Err(format!("{name} {}: {}", args.join(" "), complaint.trim())) }
}
