//! From an archive to files of this machine, below one directory.
//!
//! Each file is opened below the destination by the kernel, which follows no link on the way and leaves it by none
//! (openat2). Links of the archive are not made, as kubectl does not make them either: a program that later follows one
//! would be led where the container likes.

use std::cell::Cell;
use std::fs::{File, Permissions};
use std::io::{self, Read};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context as _, bail};
use runtime::store::open_dir;
use rustix::fs::{Mode, OFlags, ResolveFlags, mkdirat, openat2};
use rustix::io::Errno;
use tar::{Archive, Entry, EntryType};

/// Bytes of the headers and names of one entry: a name is held in memory, and a path has no more than 4096 bytes.
const MOST_OF_NAMES: u64 = 1 << 20;

/// Unpacks an archive of `base` in the directory `root`, where that is called `renamed`; how many entries it had.
pub fn unpack(from: impl Read, root: &Path, base: &str, renamed: &str) -> anyhow::Result<usize> {
    let place = Place { root: open_dir(root).with_context(|| format!("open {}", root.display()))? };
    let mut count = 0;
    let left = Cell::new(None);
    let mut archive = Archive::new(Bounded { from, left: &left });
    let mut entries = archive.entries().context("read the archive")?;
    loop {
        left.set(Some(MOST_OF_NAMES));
        let Some(entry) = entries.next() else { return Ok(count) };
        let mut entry = entry.context("read the archive")?;
        left.set(None);
        if entry.header().entry_type() != EntryType::XGlobalHeader {
            write(&place, &mut entry, (base, renamed)).with_context(|| format!("unpack in {}", root.display()))?;
            count += 1;
        }
        // Of what is left out, too: it is not what the next name may have.
        io::copy(&mut entry, &mut io::sink()).context("read the archive")?;
    }
}

/// Writes one entry to its place.
fn write(place: &Place, entry: &mut Entry<'_, impl Read>, (base, renamed): (&str, &str)) -> anyhow::Result<()> {
    let named: PathBuf =
        entry.path().context("read the archive")?.components().filter(|it| *it != Component::CurDir).collect();
    let path = confined(&named, base, renamed)?;
    let what = || format!("write {}", path.display());
    let mode = entry.header().mode().unwrap_or(0o644) & 0o777;
    match entry.header().entry_type() {
        EntryType::Directory => place.directory(&path).with_context(what)?,
        EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
            place.file(&path, mode, entry).with_context(what)?;
        }
        EntryType::Link => {
            let target = entry.link_name().context("read the archive")?.unwrap_or_default().into_owned();
            let mut there = place.open(&confined(&target, base, renamed)?, OFlags::RDONLY).with_context(what)?;
            place.file(&path, mode, &mut there).with_context(what)?;
        }
        EntryType::Symlink => {
            let target = entry.link_name().ok().flatten().unwrap_or_default().into_owned();
            anstream::eprintln!("warning: the link {} -> {} is left out", named.display(), target.display());
        }
        _ => anstream::eprintln!("warning: {} is no file, directory or link, and is left out", named.display()),
    }
    Ok(())
}

/// A stream of which no more than `left` bytes are read, where that says how many.
struct Bounded<'a, R> {
    from: R,
    left: &'a Cell<Option<u64>>,
}

impl<R: Read> Read for Bounded<'_, R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let Some(left) = self.left.get() else { return self.from.read(into) };
        if left == 0 {
            let why = format!("the name of an entry is longer than {MOST_OF_NAMES} bytes");
            return Err(io::Error::new(io::ErrorKind::InvalidData, why));
        }
        let most = usize::try_from(left).unwrap_or(usize::MAX).min(into.len());
        let read = self.from.read(into.get_mut(..most).unwrap_or_default())?;
        self.left.set(Some(left.saturating_sub(read as u64)));
        Ok(read)
    }
}

/// Where an entry belongs below the destination; one that would lie elsewhere is refused.
fn confined(named: &Path, base: &str, renamed: &str) -> anyhow::Result<PathBuf> {
    let mut path = PathBuf::new();
    for component in named.components() {
        match component {
            Component::CurDir => {}
            Component::Normal(name) if path.as_os_str().is_empty() => {
                if name != base {
                    bail!("the archive has {}, which is not in {base}: nothing more is copied", named.display());
                }
                path.push(renamed);
            }
            Component::Normal(name) => path.push(name),
            _ => bail!("the archive has {}, which leaves the destination: nothing more is copied", named.display()),
        }
    }
    if path.as_os_str().is_empty() {
        bail!("the archive has an entry without a name: nothing more is copied");
    }
    Ok(path)
}

struct Place {
    root: OwnedFd,
}

impl Place {
    const WITHIN: ResolveFlags =
        ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS).union(ResolveFlags::NO_MAGICLINKS);

    fn open(&self, path: &Path, flags: OFlags) -> io::Result<File> {
        let mode = if flags.contains(OFlags::CREATE) { Mode::from_raw_mode(0o600) } else { Mode::empty() };
        Ok(openat2(self.root.as_fd(), path, flags | OFlags::CLOEXEC, mode, Self::WITHIN)?.into())
    }

    /// Makes a directory, and those above it; one that is there is fine, whatever else is there is not.
    fn directory(&self, path: &Path) -> io::Result<()> {
        if path.as_os_str().is_empty() {
            return Ok(());
        }
        match self.open(path, OFlags::RDONLY | OFlags::DIRECTORY) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            found => return found.map(drop),
        }
        let (parent, name) = (path.parent().unwrap_or(Path::new("")), path.file_name().unwrap_or_default());
        self.directory(parent)?;
        let made = if parent.as_os_str().is_empty() {
            mkdirat(&self.root, name, Mode::from_raw_mode(0o755))
        } else {
            mkdirat(self.open(parent, OFlags::RDONLY | OFlags::DIRECTORY)?, name, Mode::from_raw_mode(0o755))
        };
        match made {
            Ok(()) | Err(Errno::EXIST) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn file(&self, path: &Path, mode: u32, content: &mut impl Read) -> io::Result<()> {
        self.directory(path.parent().unwrap_or(Path::new("")))?;
        // NONBLOCK: a pipe of that name is waited for by nobody, and refused by what it is.
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::NONBLOCK | OFlags::NOCTTY;
        let mut file = self.open(path, flags)?;
        if !file.metadata()?.is_file() {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "there is something there that is no file"));
        }
        file.set_len(0)?;
        io::copy(content, &mut file)?;
        file.set_permissions(Permissions::from_mode(mode))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::fs;

    use tar::{Builder, Header};

    use super::*;

    enum What {
        File(&'static str),
        Dir,
        Symlink(&'static str),
        Link(&'static str),
    }

    /// An archive with whatever names: `tar` would refuse some of them.
    fn archive(entries: &[(&str, What)]) -> Vec<u8> {
        let mut builder = Builder::new(Vec::new());
        for (name, what) in entries {
            let mut header = Header::new_gnu();
            let (kind, content, link) = match what {
                What::File(text) => (EntryType::Regular, *text, ""),
                What::Dir => (EntryType::Directory, "", ""),
                What::Symlink(to) => (EntryType::Symlink, "", *to),
                What::Link(to) => (EntryType::Link, "", *to),
            };
            header.set_entry_type(kind);
            header.set_mode(0o640);
            header.set_size(content.len() as u64);
            let raw = header.as_gnu_mut().unwrap();
            raw.name[..name.len()].copy_from_slice(name.as_bytes());
            raw.linkname[..link.len()].copy_from_slice(link.as_bytes());
            header.set_cksum();
            builder.append(&header, content.as_bytes()).unwrap();
        }
        builder.into_inner().unwrap()
    }

    fn unpack_in(dir: &Path, entries: &[(&str, What)]) -> Result<usize, String> {
        unpack(archive(entries).as_slice(), dir, "d", "new").map_err(|error| format!("{error:#}"))
    }

    #[test]
    fn files_lie_below_the_destination_under_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let all = [
            ("./d", What::Dir),
            ("./d/a/b", What::File("one")),
            ("./d/c", What::Link("./d/a/b")),
            ("./d/s", What::Symlink("/etc")),
        ];
        assert_eq!(unpack_in(dir.path(), &all), Ok(4));
        assert_eq!(fs::read_to_string(dir.path().join("new/a/b")).unwrap(), "one");
        assert_eq!(fs::read_to_string(dir.path().join("new/c")).unwrap(), "one");
        assert!(fs::symlink_metadata(dir.path().join("new/s")).is_err(), "links are left out");
        assert_eq!(fs::metadata(dir.path().join("new/c")).unwrap().permissions().mode() & 0o777, 0o640);
        // Again, over what is there.
        assert_eq!(unpack_in(dir.path(), &[("d/c", What::File("2"))]), Ok(1));
        assert_eq!(fs::read_to_string(dir.path().join("new/c")).unwrap(), "2");
    }

    #[test]
    fn nothing_of_an_archive_leaves_the_destination() {
        for (entries, said) in [
            (vec![("../evil", What::File("x"))], "leaves the destination"),
            (vec![("d/../../evil", What::File("x"))], "leaves the destination"),
            (vec![("/evil", What::File("x"))], "leaves the destination"),
            (vec![("evil", What::File("x"))], "is not in d"),
            (vec![("d/x", What::Link("../secret"))], "leaves the destination"),
            (vec![("d/x", What::Link("/secret"))], "leaves the destination"),
        ] {
            let outer = tempfile::tempdir().unwrap();
            fs::write(outer.path().join("secret"), "s").unwrap();
            let inner = outer.path().join("inner");
            fs::create_dir(&inner).unwrap();
            let error = unpack_in(&inner, &entries).unwrap_err();
            assert!(error.contains(said), "{error}");
            assert!(!outer.path().join("evil").exists() && !inner.join("evil").exists());
        }
    }

    #[test]
    fn a_name_without_an_end_is_not_kept_in_memory() {
        let mut header = Header::new_gnu();
        header.set_entry_type(EntryType::GNULongName);
        header.set_size(1 << 40);
        header.set_cksum();
        let endless = header.as_bytes().as_slice().chain(io::repeat(b'x'));
        let dir = tempfile::tempdir().unwrap();
        let error = unpack(endless, dir.path(), "d", "new").unwrap_err();
        assert!(format!("{error:#}").contains("longer than 1048576 bytes"), "{error:#}");
    }

    #[test]
    fn what_is_left_out_may_be_longer_than_a_name() {
        let mut builder = Builder::new(Vec::new());
        for (name, kind, size) in [("d/odd", EntryType::Fifo, 2 * MOST_OF_NAMES), ("d/x", EntryType::Regular, 1)] {
            let mut header = Header::new_gnu();
            header.set_entry_type(kind);
            header.set_size(size);
            builder.append_data(&mut header, name, io::repeat(b'x').take(size)).unwrap();
        }
        let dir = tempfile::tempdir().unwrap();
        let count = unpack(builder.into_inner().unwrap().as_slice(), dir.path(), "d", "new").unwrap();
        assert_eq!((count, fs::read_to_string(dir.path().join("new/x")).unwrap()), (2, "x".into()));
    }

    #[test]
    fn a_link_that_is_there_already_is_not_followed() {
        let outer = tempfile::tempdir().unwrap();
        let (inner, target) = (outer.path().join("inner"), outer.path().join("target"));
        fs::create_dir_all(inner.join("new")).unwrap();
        fs::write(&target, "kept").unwrap();
        for name in ["file", "dir"] {
            std::os::unix::fs::symlink(outer.path().join("target"), inner.join("new").join(name)).unwrap();
        }
        assert!(unpack_in(&inner, &[("d/file", What::File("x"))]).is_err());
        assert!(unpack_in(&inner, &[("d/dir/x", What::File("x"))]).is_err());
        assert_eq!(fs::read_to_string(&target).unwrap(), "kept");
    }
}
