//! The filesystems that images and containers are on, as a client's own look at the host finds them.

use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use cri_proto::cri;

use super::stats::{Meter, amount};
use crate::cgroup::unescape;
use crate::container::{Disk, DiskUsage};
use crate::core::Core;
use crate::error::{During as _, Result};
use crate::images::{ImageStore, Usage};

/// A filesystem's place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filesystem {
    /// Where it is mounted.
    pub point: String,
    /// What is mounted: a device, as a rule.
    pub source: String,
}

/// Of which filesystem `path` is.
pub fn of(path: &Path) -> Result<Filesystem> {
    let path = path.canonicalize().during(|| format!("look at {}", path.display()))?;
    let table = std::fs::read_to_string("/proc/self/mountinfo").during(|| "read /proc/self/mountinfo".into())?;
    let unknown = || Filesystem { point: "/".into(), source: String::new() };
    Ok(find(&table, &path).unwrap_or_else(unknown))
}

/// The mount with the longest beginning of `path`; of several on one place the last, which covers the others.
fn find(mountinfo: &str, path: &Path) -> Option<Filesystem> {
    let mount = |line: &str| {
        let (place, kind) = line.split_once(" - ")?;
        let point = unescape(place.split(' ').nth(4)?);
        let source = unescape(kind.split(' ').nth(1)?);
        path.starts_with(&point).then_some(Filesystem { point, source })
    };
    // The last of equals is the maximum.
    mountinfo.lines().filter_map(mount).max_by_key(|it| Path::new(&it.point).as_os_str().as_bytes().len())
}

/// What one directory takes of a filesystem. The numbers are left out while they are not known.
pub fn usage(filesystem: &Filesystem, disk: Option<Disk>) -> cri::FilesystemUsage {
    cri::FilesystemUsage {
        timestamp: disk.map_or_else(crate::shim::now, |it| it.at),
        fs_id: Some(cri::FilesystemIdentifier { mountpoint: filesystem.point.clone() }),
        used_bytes: disk.and_then(|it| amount(it.bytes)),
        inodes_used: disk.and_then(|it| amount(it.inodes)),
    }
}

/// What the images take, as it was counted last: good until the images change, and for a while of what is being pulled.
#[derive(Default)]
pub struct ImageUsage {
    last: Mutex<Option<(u64, Instant, Disk)>>,
}

/// How long that is.
const PERIOD: Duration = Duration::from_secs(10);

impl ImageUsage {
    fn of(&self, images: &ImageStore) -> Result<Disk> {
        let generation = images.generation()?;
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((counted, when, disk)) = *last
            && counted == generation
            && when.elapsed() < PERIOD
        {
            return Ok(disk);
        }
        let Usage { bytes, inodes } = images.usage()?;
        let disk = Disk { bytes, inodes, at: crate::shim::now() };
        *last = Some((generation, Instant::now(), disk));
        Ok(disk)
    }
}

/// ImageFsInfo.
pub fn info(core: &Core, meter: &Meter) -> Result<cri::ImageFsInfoResponse> {
    let images = meter.images.of(&core.images)?;
    let layers = core.options.root_dir.join("containers");
    Ok(cri::ImageFsInfoResponse {
        image_filesystems: vec![usage(&of(core.images.path())?, Some(images))],
        container_filesystems: vec![usage(&of(&layers)?, Some(sum(&layers, &meter.disks)?))],
    })
}

/// All writable layers together, each as it was measured last.
fn sum(layers: &Path, disks: &DiskUsage) -> Result<Disk> {
    let survey = disks.survey();
    let mut sum = Disk { at: crate::shim::now(), ..Disk::default() };
    for entry in std::fs::read_dir(layers).during(|| format!("list {}", layers.display()))?.flatten() {
        if let Some(disk) = survey.of(&entry.path().join("upper")) {
            sum.bytes += disk.bytes;
            sum.inodes += disk.inodes;
        }
    }
    Ok(sum)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const TABLE: &str = "\
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/root rw
30 22 0:25 / /var/lib rw - tmpfs tmpfs rw
31 22 254:16 /images /var/lib rw,nosuid shared:4 master:2 - ext4 /dev/vdb rw
33 22 254:32 / /var/lib/my\\040pods rw - xfs /dev/vdc rw
";

    #[test]
    fn a_path_is_of_the_mount_that_it_is_seen_through() {
        let point = |path: &str| find(TABLE, Path::new(path)).map(|it| (it.point, it.source)).unwrap();
        assert_eq!(point("/srv/x"), ("/".into(), "/dev/root".into()));
        assert_eq!(
            point("/var/lib/coracle"),
            ("/var/lib".into(), "/dev/vdb".into()),
            "the later mount covers the other"
        );
        assert_eq!(point("/var/library"), ("/".into(), "/dev/root".into()), "a name is compared whole");
        assert_eq!(point("/var/lib/my pods/a"), ("/var/lib/my pods".into(), "/dev/vdc".into()));
        assert_eq!(find("", Path::new("/")), None);
    }

    #[test]
    fn the_mount_point_of_a_directory_exists() {
        let dir = tempfile::tempdir().unwrap();
        let found = of(dir.path()).unwrap();
        let device = |path: &Path| std::os::unix::fs::MetadataExt::dev(&std::fs::metadata(path).unwrap());
        assert_eq!(device(Path::new(&found.point)), device(dir.path()), "{found:?}");
    }
}
