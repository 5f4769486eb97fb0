//! subPath: a part of a volume, found without ever leaving the volume, and held by a bind mount of the descriptor that
//! was found, so that nothing can be put in its place before the runtime mounts it.

use std::fs;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Component, Path};

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::{HostError, io_error, make_dir, mount};
use crate::engine::config::{ConfigError, container::is_local};

/// Finds `sub` in the volume at `volume`, makes it a directory if it is not there, and mounts it on `target`; as kubelet
/// does it, without what is mounted in it. Unless it `propagates`, what is mounted there later is not there either: a
/// directory that holds this very target would else be mounted in itself, twice as often with every pod.
pub fn prepare(volume: &Path, sub: &str, target: &Path, propagates: bool) -> Result<(), HostError> {
    if !is_local(sub) {
        return Err(ConfigError::Path { what: "subPath", path: sub.to_owned() }.into());
    }
    let found = open(volume, sub)?;
    mount::part(target).map_err(io_error("unmount", target))?;
    make_target(&found, target)?;
    let mounted = mount::bind(found.as_fd(), target, false);
    let mounted = mounted.and_then(|()| if propagates { Ok(()) } else { mount::separate(target) });
    mounted.map_err(io_error("mount a subPath on", target))
}

/// Reads a file of a volume that containers write to: without leaving the volume, and no more than `most` bytes.
pub fn read(volume: &Path, file: &str, most: u64) -> io::Result<Vec<u8>> {
    if !is_local(file) {
        return Err(io::Error::other("it has to be a relative path without \"..\""));
    }
    let base = rustix::fs::open(volume, OFlags::PATH | OFlags::CLOEXEC | OFlags::DIRECTORY, Mode::empty())?;
    // What is no file must neither block nor be opened in any other sense.
    let found = resolve(&base, Path::new(file))?;
    let stat = rustix::fs::fstat(&found)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(io::Error::other("it is not a file"));
    }
    let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&found));
    let mut bytes = Vec::new();
    fs::File::open(path)?.take(most + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        return Err(io::Error::other(format!("it has more than {most} bytes")));
    }
    Ok(bytes)
}

/// Opens `sub` inside `volume`: links in it are resolved as if the volume were the root directory.
fn open(volume: &Path, sub: &str) -> Result<OwnedFd, HostError> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let base = rustix::fs::open(volume, flags | OFlags::DIRECTORY, Mode::empty()).map_err(io_error("open", volume))?;
    let mode = fs::metadata(volume).map_err(io_error("look at", volume))?.permissions().mode() & 0o7777;
    let whole = volume.join(sub);
    let mut walked = std::path::PathBuf::new();
    let mut here = inside(&base, Path::new("."), &whole)?;
    for part in Path::new(sub).components() {
        let Component::Normal(name) = part else { continue };
        walked.push(name);
        match resolve(&base, &walked) {
            Ok(next) => here = next,
            Err(Errno::NOENT) => {
                make(&here, name, mode).map_err(io_error("make the subPath", &whole))?;
                here = inside(&base, &walked, &whole)?;
            }
            Err(error) => return Err(io_error("open the subPath", &whole)(error)),
        }
    }
    Ok(here)
}

/// Makes a directory as open as its volume is, with the volume's group where new files get that, whatever the umask says:
/// containers of any user write to it. Of two who make it at a time the first does.
fn make(here: &OwnedFd, name: &std::ffi::OsStr, mode: u32) -> Result<(), Errno> {
    match rustix::fs::mkdirat(here, name, Mode::from_raw_mode(mode)) {
        Err(Errno::EXIST) => Ok(()),
        Err(error) => Err(error),
        Ok(()) => {
            // A container may have put a link in its place by now.
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let made = rustix::fs::openat(here, name, flags, Mode::empty())?;
            rustix::fs::fchmod(&made, Mode::from_raw_mode(mode))
        }
    }
}

fn inside(base: &OwnedFd, path: &Path, whole: &Path) -> Result<OwnedFd, HostError> {
    resolve(base, path).map_err(io_error("open the subPath", whole))
}

fn resolve(base: &OwnedFd, path: &Path) -> Result<OwnedFd, Errno> {
    let how = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    // A rename elsewhere at the wrong moment makes the kernel give up; it asks to be called again.
    for _ in 0..128 {
        match rustix::fs::openat2(base, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), how) {
            Err(Errno::AGAIN) => std::thread::yield_now(),
            result => return result,
        }
    }
    Err(Errno::AGAIN)
}

fn make_target(found: &OwnedFd, target: &Path) -> Result<(), HostError> {
    let stat = rustix::fs::fstat(found).map_err(io_error("look at the subPath for", target))?;
    if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
        return make_dir(target, 0o750);
    }
    if let Some(parent) = target.parent() {
        make_dir(parent, 0o750)?;
    }
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(false).mode(0o640);
    options.open(target).map(drop).map_err(io_error("make", target))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::os::unix::fs::symlink;

    fn root() -> bool {
        let root = rustix::process::geteuid().is_root();
        if !root {
            eprintln!("skipped: mounts take root");
        }
        root
    }

    #[test]
    fn a_missing_sub_path_becomes_a_directory_of_the_volume() {
        if !root() {
            return;
        }
        let (volume, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let target = out.path().join("t");
        fs::set_permissions(volume.path(), fs::Permissions::from_mode(0o3777)).unwrap();
        prepare(volume.path(), "a/b", &target, false).unwrap();
        for made in ["a", "a/b"] {
            let mode = fs::metadata(volume.path().join(made)).unwrap().permissions().mode();
            assert_eq!(mode & 0o7777, 0o3777, "{made} is as open as its volume");
        }
        fs::write(volume.path().join("a/b/file"), "x").unwrap();
        assert_eq!(fs::read_to_string(target.join("file")).unwrap(), "x");
        prepare(volume.path(), "a/b", &target, false).unwrap();
        assert_eq!(mount::below(&target).unwrap().len(), 1, "mounted once, however often prepared");
        mount::unmount(&target).unwrap();
    }

    #[test]
    fn a_file_is_mounted_as_a_file_even_through_the_data_link() {
        if !root() {
            return;
        }
        let (volume, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::create_dir(volume.path().join("..v1")).unwrap();
        fs::write(volume.path().join("..v1/key"), "value").unwrap();
        symlink("..v1", volume.path().join("..data")).unwrap();
        symlink("..data/key", volume.path().join("key")).unwrap();
        let target = out.path().join("c/0");
        prepare(volume.path(), "key", &target, false).unwrap();
        assert_eq!(fs::read_to_string(&target).unwrap(), "value");
        mount::unmount(&target).unwrap();
    }

    #[test]
    fn links_out_of_the_volume_stay_inside_it() {
        if !root() {
            return;
        }
        let (volume, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        symlink("/etc", volume.path().join("evil")).unwrap();
        symlink("../../../../etc/passwd", volume.path().join("up")).unwrap();
        let target = out.path().join("t");
        for (sub, inner) in [("evil", "etc"), ("up", "etc/passwd")] {
            assert!(prepare(volume.path(), sub, &target, false).is_err(), "the volume has no {inner}");
        }
        fs::create_dir(volume.path().join("etc")).unwrap();
        prepare(volume.path(), "evil", &target, false).unwrap();
        assert!(!target.join("hostname").exists(), "the volume's own etc");
        mount::unmount(&target).unwrap();
        let error = prepare(volume.path(), "../x", &target, false).unwrap_err();
        assert!(error.to_string().contains("relative path"), "{error}");
    }
}
