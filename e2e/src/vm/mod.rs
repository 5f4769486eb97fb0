//! A small virtual machine: Debian's cloud kernel under QEMU, with the binaries of this build inside.
//!
//! It is what most users have and what the machine that runs the tests may not be: cgroup v2 alone, every capability,
//! AppArmor, an older kernel, and a power switch. QEMU emulates (no nested virtualisation is asked for), so it is many
//! times slower than the machine around it.
//!
//! An [`Image`] is made once: kernel and modules from Debian's package, a first root with a static busybox, and an ext4
//! disk with the test binaries at the paths that they have here. [`Machine::boot`] boots it; a small agent inside runs
//! shell scripts that the test sends over a virtio port.

mod build;
mod cpio;
mod disk;
mod kernel;
mod machine;

pub use build::Built;
pub use machine::{Boot, Machine};

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::{binary, debian};

/// The disk's size. It is sparse.
const MEGABYTES: u64 = 4096;

/// What a machine is booted from.
pub struct Image {
    /// The kernel.
    pub kernel: PathBuf,
    /// The first root.
    pub initramfs: PathBuf,
    /// The disk, a raw ext4.
    pub disk: PathBuf,
    /// The binaries on it.
    pub built: Built,
}

impl Image {
    /// Makes the image, or finds the one that was made of the same binaries before. The error says what cannot be had.
    pub fn prepare() -> Result<Self, String> {
        crate::skip::root()?;
        if std::env::consts::ARCH != "x86_64" {
            return Err("the virtual machine is made for x86_64 alone so far".into());
        }
        let kernel = kernel::Kernel::fetch()?;
        let busybox = debian::unpacked(&["busybox-static"])?.join("bin/busybox");
        let built = Built::find()?;
        let dir = binary::cache_dir().join("vm");
        fs::create_dir_all(&dir).map_err(|error| format!("cannot make {}: {error}", dir.display()))?;
        let _lock = binary::cache_lock("vm");
        let image = Self { kernel: kernel.image(), initramfs: dir.join("initramfs"), disk: dir.join("disk"), built };
        let (stamp, now) = (dir.join("stamp"), image.stamp(&kernel.version));
        if fs::read_to_string(&stamp).is_ok_and(|then| then == now) {
            return Ok(image);
        }
        // Gone first: a build that is broken off must not look complete.
        let _ = fs::remove_file(&stamp);
        let initramfs = kernel.initramfs(&busybox, include_str!("init.sh"))?;
        fs::write(&image.initramfs, initramfs).map_err(|error| format!("cannot write the initramfs: {error}"))?;
        image.make_disk(&dir, &busybox)?;
        fs::write(&stamp, now).map_err(|error| format!("cannot write {}: {error}", stamp.display()))?;
        Ok(image)
    }

    /// A copy of the disk that a test may write to for good.
    pub fn copy_disk(&self, to: &Path) -> Result<(), String> {
        crate::loopfs::tool("cp", &["--sparse=always", &self.disk.to_string_lossy(), &to.to_string_lossy()])
    }

    fn make_disk(&self, dir: &Path, busybox: &Path) -> Result<(), String> {
        let staged = tempfile::Builder::new().prefix("root").tempdir_in(dir).map_err(|error| error.to_string())?;
        disk::stage(staged.path(), busybox, &self.built)?;
        // A machine that runs now keeps the disk that it was started with.
        let new = self.disk.with_extension("new");
        disk::make(staged.path(), &new, MEGABYTES)?;
        fs::rename(&new, &self.disk).map_err(|error| format!("cannot rename {}: {error}", new.display()))
    }

    /// Changes when anything that goes into the image does.
    fn stamp(&self, kernel: &str) -> String {
        let mut stamp = format!("{kernel}\n");
        // This binary decides what goes in: its own time stands for the lists and scripts in it.
        let this = std::env::current_exe().ok();
        for path in self.built.tests.values().chain([&self.built.coracle]).chain(&this) {
            let time = fs::metadata(path).map(|data| (data.mtime(), data.mtime_nsec(), data.size()));
            stamp.push_str(&format!("{} {time:?}\n", path.display()));
        }
        stamp
    }
}
