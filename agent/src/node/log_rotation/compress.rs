//! Compresses the log files that were put aside, but for the newest: who follows it may not be done with it.

use std::collections::HashMap;
use std::fs::{File, Permissions};
use std::io::{self, BufReader, BufWriter, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;

/// What has to stay free besides the largest that a compressed file can be: a full disk is not filled further.
const SPARE: u64 = 16 << 20;

/// Directories that nothing has changed in since, by when they had changed last.
pub type Seen = HashMap<PathBuf, (i64, i64)>;

/// Compresses what is due in the containers' directories below `log_dir`.
pub fn below(log_dir: &Path, seen: &mut Seen) {
    let mut found = Seen::new();
    for dir in children(log_dir).iter().flat_map(|pod| children(pod)) {
        let Ok(changed) = std::fs::metadata(&dir).map(|it| (it.mtime(), it.mtime_nsec())) else { continue };
        if seen.get(&dir) != Some(&changed)
            && let Err(error) = inside(&dir)
        {
            tracing::warn!(dir = %dir.display(), %error, "a log cannot be compressed");
        }
        // As it was before: what was changed meanwhile is looked at again.
        found.insert(dir, changed);
    }
    *seen = found;
}

fn children(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries.filter(|it| it.file_type().is_ok_and(|kind| kind.is_dir())).map(|it| it.path()).collect()
}

/// Compresses what is due in one directory.
fn inside(dir: &Path) -> io::Result<()> {
    let fd = OwnedFd::from(File::open(dir)?);
    let mut lives: Vec<String> = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let name = entry?.file_name();
        let Some((number, rest)) = name.to_str().and_then(|it| it.split_once(".log.")) else { continue };
        let live = format!("{number}.log");
        // Of an agent that was killed.
        if rest.strip_suffix(".tmp").is_some_and(|it| it.parse::<runtime::logs::Stamp>().is_ok()) {
            std::fs::remove_file(dir.join(&name))?;
        } else if !lives.contains(&live) {
            lives.push(live);
        }
    }
    for live in lives {
        let mut kept = runtime::logs::kept(fd.as_fd(), &live)?;
        kept.pop();
        for file in kept.iter().filter(|file| file.plain) {
            let from = dir.join(file.stamp.name(&live));
            compress(&from, &dir.join(file.stamp.compressed_name(&live)))?;
        }
    }
    Ok(())
}

/// Compresses one file. One that is removed meanwhile, because others have come, is done with.
fn compress(from: &Path, to: &Path) -> io::Result<()> {
    let source = match File::open(from) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    let metadata = source.metadata()?;
    let disk = rustix::fs::fstatvfs(&source)?;
    if disk.f_bavail.saturating_mul(disk.f_frsize) < metadata.len() + SPARE {
        tracing::debug!(file = %from.display(), "the disk is too full to compress a log");
        return Ok(());
    }
    let mut temporary = from.as_os_str().to_owned();
    temporary.push(".tmp");
    let temporary = PathBuf::from(temporary);
    let written = write(&source, &temporary, metadata.mode()).and_then(|()| std::fs::rename(&temporary, to));
    if written.is_err() {
        let _ = std::fs::remove_file(&temporary);
    }
    written?;
    match std::fs::remove_file(from) {
        // It was removed while it was compressed, for there are newer ones: so goes this.
        Err(error) if error.kind() == io::ErrorKind::NotFound => match std::fs::remove_file(to) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        },
        other => other,
    }
}

fn write(source: &File, to: &Path, mode: u32) -> io::Result<()> {
    let target = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(to)?;
    let mut encoder = GzEncoder::new(BufWriter::new(&target), Compression::default());
    io::copy(&mut BufReader::new(source), &mut encoder)?;
    encoder.finish()?.flush()?;
    target.set_permissions(Permissions::from_mode(mode & 0o7777))?;
    target.set_modified(source.metadata()?.modified()?)?;
    // The plain one goes once this is there for good.
    target.sync_all()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::io::Read as _;

    #[test]
    fn all_but_the_newest_are_compressed_once() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("ns_p_uid/c");
        std::fs::create_dir_all(&dir).unwrap();
        for name in [
            "0.log",
            "0.log.20200101-000000",
            "0.log.20210101-000000",
            "0.log.20220101-000000",
            "0.log.20200101-000000.tmp",
            "0.log.bak",
            "1.log",
            "1.log.20200101-000000",
        ] {
            std::fs::write(dir.join(name), name).unwrap();
        }
        let mut seen = Seen::new();
        below(root.path(), &mut seen);
        let mut names: Vec<_> =
            std::fs::read_dir(&dir).unwrap().map(|it| it.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        let expected = [
            "0.log",
            "0.log.20200101-000000.gz",
            "0.log.20210101-000000.gz",
            "0.log.20220101-000000",
            "0.log.bak",
            "1.log",
            "1.log.20200101-000000",
        ];
        assert_eq!(names, expected);
        let mut text = String::new();
        let packed = File::open(dir.join("0.log.20200101-000000.gz")).unwrap();
        flate2::read::GzDecoder::new(packed).read_to_string(&mut text).unwrap();
        assert_eq!(text, "0.log.20200101-000000");
        below(root.path(), &mut seen);
        let before = seen.clone();
        below(root.path(), &mut seen);
        assert_eq!(seen, before, "nothing is left to do");
    }
}
