//! State on disk: versioned JSON, one directory an object, replaced whole or not at all.

use std::fs::File;
use std::hash::{BuildHasher as _, RandomState};
use std::io::{self, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::LazyLock;
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::fs::{
    AtFlags, Mode, OFlags, RenameFlags, Timespec, Timestamps, UTIME_OMIT, futimens, openat, renameat, renameat_with,
    unlinkat,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// What a record has to survive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// The loss of power: the file and its directory are synced before this returns.
    Durable,
    /// The death of its writer; and the loss of power, which leaves the old file or the new one, as soon as the writer has
    /// synced it.
    Deferred,
    /// The death of its writer: the file is replaced and not even begun to be written to the disk. For what ends with this
    /// boot.
    Volatile,
}

/// Writes `value` as `name` in the directory `dir`, atomically.
///
/// A failure leaves the old file as it was and no temporary behind.
pub fn write_json<T: Serialize>(dir: &Path, name: &str, value: &T, durability: Durability) -> io::Result<()> {
    write_json_at(open_dir(dir)?, name, value, durability)
}

/// [`write_json`] in a directory that is open.
pub fn write_json_at<T: Serialize>(dir: impl AsFd, name: &str, value: &T, durability: Durability) -> io::Result<()> {
    write_at(dir, name, &line(value)?, durability).map(drop)
}

/// [`write_json`] without durability; the file, and the mark that this version of it has and no other.
pub fn write_marked<T: Serialize>(dir: &Path, name: &str, value: &T) -> io::Result<(File, Mark)> {
    write_at(open_dir(dir)?, name, &line(value)?, Durability::Volatile)
}

fn line<T: Serialize>(value: &T) -> io::Result<Vec<u8>> {
    let mut bytes = serde_json::to_vec(value)?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// [`write_json`] of bytes that are what they are.
pub fn write_file(dir: &Path, name: &str, bytes: &[u8], durability: Durability) -> io::Result<()> {
    write_at(open_dir(dir)?, name, bytes, durability).map(drop)
}

fn write_at(dir: impl AsFd, name: &str, bytes: &[u8], durability: Durability) -> io::Result<(File, Mark)> {
    let temporary = format!(".{name}.{}.{}", std::process::id(), unique());
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let mut file = File::from(openat(&dir, temporary.as_str(), flags, Mode::from_raw_mode(0o600))?);
    let written = file.write_all(bytes).and_then(|()| mark(&file)).and_then(|mark| match durability {
        Durability::Durable => file.sync_all().map(|()| mark),
        Durability::Deferred | Durability::Volatile => Ok(mark),
    });
    let renamed = written.and_then(|mark| {
        match durability {
            Durability::Volatile => exchange(&dir, &temporary, name)?,
            Durability::Durable | Durability::Deferred => renameat(&dir, temporary.as_str(), &dir, name)?,
        }
        Ok(mark)
    });
    if renamed.is_err() {
        // The first cause is what matters; a temporary that stays is swept.
        let _ = unlinkat(&dir, temporary.as_str(), AtFlags::empty());
    } else if durability == Durability::Durable {
        rustix::fs::fsync(&dir)?;
    }
    renamed.map(|mark| (file, mark))
}

/// Puts `temporary` in the place of `name`.
///
/// A rename over a file makes ext4 write the new one to the disk at once, and whoever renames waits for that, for
/// milliseconds at best; files that change places are written when their time comes.
fn exchange(dir: impl AsFd, temporary: &str, name: &str) -> io::Result<()> {
    match renameat_with(&dir, temporary, &dir, name, RenameFlags::EXCHANGE) {
        Ok(()) => Ok(unlinkat(&dir, temporary, AtFlags::empty())?),
        // There is none yet, or the file system cannot.
        Err(_) => Ok(renameat(&dir, temporary, &dir, name)?),
    }
}

/// [`write_json_at`] of a small record that has to be written whatever the disk says: where that is full, and there is
/// one already, it is written over, in the block that it has. A reader may then meet half of it, for a moment.
pub fn update_json_at<T: Serialize>(dir: impl AsFd, name: &str, value: &T) -> io::Result<()> {
    let full = match write_json_at(&dir, name, value, Durability::Volatile) {
        Err(error) if matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) => error,
        other => return other,
    };
    let Ok(file) = openat(&dir, name, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).map(File::from) else {
        return Err(full);
    };
    let mut bytes = serde_json::to_vec(value)?;
    // In one write, and no byte of the old one after it.
    let old = usize::try_from(file.metadata()?.len()).unwrap_or(0);
    bytes.resize(bytes.len().max(old), b' ');
    std::os::unix::fs::FileExt::write_all_at(&file, &bytes, 0)?;
    mark(&file).map(drop)
}

/// A version's modification time, in seconds and nanoseconds.
pub type Mark = (i64, i64);

/// Thousandths of a microsecond in the modification time of every file that was written here, which the kernel's own
/// times have once in a thousand.
const MARK: i64 = 421;

/// Gives a file a modification time that no other version of it has.
///
/// The kernel's clock for files stands still for up to 10 ms, so that two versions may look alike. With this they differ
/// even then, and whoever knows one knows whether it has become another.
fn mark(file: &File) -> io::Result<Mark> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    // Every process begins elsewhere and goes on from there.
    static BEGINNING: LazyLock<u64> = LazyLock::new(|| RandomState::new().hash_one(std::process::id()));
    let number = BEGINNING.wrapping_add(unique()) % 1_000_000;
    let last_modification = Timespec {
        tv_sec: i64::try_from(now.as_secs()).unwrap_or(0),
        tv_nsec: i64::try_from(number).unwrap_or(0) * 1000 + MARK,
    };
    let last_access = Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT };
    futimens(file, &Timestamps { last_access, last_modification })?;
    Ok((last_modification.tv_sec, last_modification.tv_nsec))
}

/// Whether a modification time's nanoseconds are those of a file that was written here: each version has others.
pub fn is_marked(nanoseconds: i64) -> bool {
    nanoseconds % 1000 == MARK
}

/// Reads what [`write_json`] wrote. `None` when there is no such file; a file that cannot be parsed is `InvalidData`.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> io::Result<Option<T>> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    match serde_json::from_slice(&bytes) {
        Ok(value) => Ok(Some(value)),
        Err(error) => Err(io::Error::new(io::ErrorKind::InvalidData, error)),
    }
}

/// Removes the temporaries that writers left in `dir` when they died. Their names say whose they are.
pub fn sweep_temporaries(dir: &Path) -> io::Result<()> {
    let entries = match std::fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    for entry in entries {
        let name = entry?.file_name();
        let Some(writer) = name.to_str().and_then(writer_of) else { continue };
        if Path::new("/proc").join(writer).exists() {
            continue;
        }
        match std::fs::remove_file(dir.join(&name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// The process id in the name of a temporary: `.NAME.PID.COUNT`.
fn writer_of(name: &str) -> Option<&str> {
    let mut parts = name.strip_prefix('.')?.rsplitn(3, '.');
    let (count, pid, _) = (parts.next()?, parts.next()?, parts.next()?);
    let number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    (number(count) && number(pid)).then_some(pid)
}

/// Opens a directory for use as the base of `*at` calls.
pub fn open_dir(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty())?)
}

/// Removes a directory and all in it; one that is not there is success.
pub fn remove_dir(path: &Path) -> io::Result<()> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn unique() -> u64 {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_replaced_whole_and_leaves_no_temporary() {
        let dir = tempfile::tempdir().unwrap();
        for durability in [Durability::Durable, Durability::Deferred, Durability::Volatile] {
            for value in ["first", "second"] {
                write_json(dir.path(), "a.json", &value, durability).unwrap();
                assert_eq!(read_json::<String>(&dir.path().join("a.json")).unwrap().as_deref(), Some(value));
            }
            assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
            std::fs::remove_file(dir.path().join("a.json")).unwrap();
        }
    }

    #[test]
    fn temporaries_of_dead_writers_are_swept_and_nothing_else_is() {
        let dir = tempfile::tempdir().unwrap();
        let living = format!(".a.json.{}.7", std::process::id());
        // Above the kernel's highest process id.
        let dead = ".a.json.4194305.0";
        for name in [living.as_str(), dead, "a.json", ".hidden", ".b.json.x.1"] {
            std::fs::write(dir.path().join(name), "").unwrap();
        }
        sweep_temporaries(dir.path()).unwrap();
        let left = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name());
        let mut left: Vec<String> = left.map(|name| name.into_string().unwrap()).collect();
        left.sort();
        let mut expected = vec![living, ".b.json.x.1".into(), ".hidden".into(), "a.json".into()];
        expected.sort();
        assert_eq!(left, expected);
        sweep_temporaries(&dir.path().join("none")).unwrap();
    }

    #[test]
    fn a_record_is_updated_on_a_full_disk() {
        let dir = tempfile::tempdir().unwrap();
        let size = c"size=64k";
        if rustix::mount::mount("none", dir.path(), "tmpfs", rustix::mount::MountFlags::empty(), Some(size)).is_err() {
            eprintln!("skipped: a_record_is_updated_on_a_full_disk: no tmpfs can be mounted");
            return;
        }
        let open = || open_dir(dir.path()).unwrap();
        update_json_at(open(), "a.json", &"the first value, a long one").unwrap();
        let mut ballast = File::create(dir.path().join("ballast")).unwrap();
        while ballast.write_all(&[0; 512]).is_ok() {}
        let read = || read_json::<String>(&dir.path().join("a.json")).unwrap().unwrap();
        for value in ["short", "and a value that is longer than the first one was"] {
            write_json_at(open(), "a.json", &value, Durability::Volatile).unwrap_err();
            update_json_at(open(), "a.json", &value).unwrap();
            assert_eq!(read(), value);
        }
        assert!(update_json_at(open(), "b.json", &"new").is_err());
        drop(ballast);
        rustix::mount::unmount(dir.path(), rustix::mount::UnmountFlags::empty()).unwrap();
    }

    #[test]
    fn a_missing_record_is_none_and_a_broken_one_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        assert!(read_json::<String>(&dir.path().join("a.json")).unwrap().is_none());
        std::fs::write(dir.path().join("a.json"), "{").unwrap();
        let error = read_json::<String>(&dir.path().join("a.json")).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }
}
