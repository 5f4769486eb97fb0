//! From files of this machine to an archive.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use anyhow::Context as _;
use tar::{Builder, HeaderMode};

/// Writes what is at `from`, with all in it, under the name `name`. Links stay links.
pub fn pack(from: &Path, name: &str, to: impl Write) -> anyhow::Result<()> {
    let mut archive = Builder::new(to);
    archive.mode(HeaderMode::Complete);
    archive.follow_symlinks(false);
    add(&mut archive, from, name)?;
    archive.into_inner().context("write the archive")?.flush().context("write the archive")
}

fn add(archive: &mut Builder<impl Write>, from: &Path, name: &str) -> anyhow::Result<()> {
    let what = || format!("read {}", from.display());
    let meta = fs::symlink_metadata(from).with_context(what)?;
    if meta.is_dir() {
        archive.append_dir(name, from).with_context(what)?;
        let mut entries = fs::read_dir(from).with_context(what)?.collect::<Result<Vec<_>, _>>().with_context(what)?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let below = Path::new(name).join(entry.file_name());
            let below = below.to_str().with_context(|| format!("{} is not UTF-8", entry.path().display()))?;
            add(archive, &entry.path(), below)?;
        }
        Ok(())
    } else if meta.is_file() {
        archive.append_file(name, &mut File::open(from).with_context(what)?).with_context(what)
    } else if meta.is_symlink() {
        archive.append_path_with_name(from, name).with_context(what)
    } else {
        anstream::eprintln!("warning: {} is no file, directory or link, and is left out", from.display());
        Ok(())
    }
}
