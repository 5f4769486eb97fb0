//! One cgroup directory in one hierarchy: files are opened relative to its descriptor.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use rustix::fs::{Mode, OFlags};

use super::{Controller, Error, Mount, Version};

#[derive(Debug)]
pub(super) struct Dir {
    pub fd: OwnedFd,
    pub mount: Mount,
    /// Below the mount point; for messages.
    pub path: String,
    pub refused: Vec<(Controller, String)>,
}

pub(super) const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW);

impl Dir {
    pub fn shown(&self, name: &str) -> PathBuf {
        self.mount.point.join(&self.path).join(name)
    }

    pub fn error(&self, op: impl Into<String>, name: &str, source: impl Into<io::Error>) -> Error {
        Error::Io { op: op.into(), path: self.shown(name), source: source.into() }
    }

    pub fn try_clone(&self) -> Result<Dir, Error> {
        let fd = self.fd.try_clone().map_err(|source| self.error("duplicate", "", source))?;
        Ok(Dir { fd, mount: self.mount.clone(), path: self.path.clone(), refused: self.refused.clone() })
    }

    pub fn open(&self, name: &str, flags: OFlags) -> Result<OwnedFd, Error> {
        rustix::fs::openat(&self.fd, name, flags | OFlags::CLOEXEC, Mode::empty())
            .map_err(|source| self.error("open", name, source))
    }

    pub fn open_child(&self, name: &str) -> Result<Dir, Error> {
        let fd = self.open(name, DIRECTORY)?;
        let path = if self.path.is_empty() { name.to_owned() } else { format!("{}/{name}", self.path) };
        Ok(Dir { fd, mount: self.mount.clone(), path, refused: Vec::new() })
    }

    /// Makes a child directory, which may exist, and opens it.
    pub fn create_child(&self, name: &str) -> Result<Dir, Error> {
        self.create_new(name).map(|(dir, _)| dir)
    }

    /// The same, and whether it is new.
    pub fn create_new(&self, name: &str) -> Result<(Dir, bool), Error> {
        match rustix::fs::mkdirat(&self.fd, name, Mode::from_raw_mode(0o755)) {
            Ok(()) => Ok((self.open_child(name)?, true)),
            Err(rustix::io::Errno::EXIST) => Ok((self.open_child(name)?, false)),
            Err(source) => Err(self.error("make cgroup", name, source)),
        }
    }

    /// One write of the whole value: the kernel reads no setting in pieces.
    pub fn write(&self, name: &str, value: &str) -> Result<(), Error> {
        let fd = self.open(name, OFlags::WRONLY).map_err(|e| writing(e, value))?;
        self.write_to(&fd, name, value)
    }

    pub fn write_to(&self, fd: impl AsFd, name: &str, value: &str) -> Result<(), Error> {
        match rustix::io::retry_on_intr(|| rustix::io::write(fd.as_fd(), value.as_bytes())) {
            Ok(written) if written == value.len() => Ok(()),
            Ok(_) => Err(self.error(format!("write {value:?} to"), name, io::Error::from(io::ErrorKind::WriteZero))),
            Err(source) => Err(self.error(format!("write {value:?} to"), name, source)),
        }
    }

    pub fn read(&self, name: &str) -> Result<String, Error> {
        let fd = self.open(name, OFlags::RDONLY).map_err(reading)?;
        let mut buffer = Vec::with_capacity(4096);
        loop {
            let more = rustix::io::retry_on_intr(|| rustix::io::read(&fd, rustix::buffer::spare_capacity(&mut buffer)))
                .map_err(|source| self.error("read", name, source))?;
            if more == 0 {
                break;
            }
            buffer.reserve(4096);
        }
        Ok(String::from_utf8_lossy(&buffer).into_owned())
    }

    /// None if there is no such file.
    pub fn read_if_present(&self, name: &str) -> Result<Option<String>, Error> {
        absent(self.read(name))
    }

    pub fn read_u64(&self, name: &str) -> Result<u64, Error> {
        let text = self.read(name)?;
        text.trim().parse().map_err(|_| Error::Contents {
            path: self.shown(name),
            text: text.trim().to_owned(),
            expected: "a number",
        })
    }

    /// The names of its child cgroups.
    pub fn children(&self) -> Result<Vec<String>, Error> {
        let mut names = Vec::new();
        let fail = |source| self.error("list", "", source);
        for entry in rustix::fs::Dir::read_from(&self.fd).map_err(fail)? {
            let entry = match entry {
                Ok(entry) => entry,
                // The directory was removed meanwhile.
                Err(rustix::io::Errno::NOENT) => break,
                Err(source) => return Err(fail(source)),
            };
            let name = entry.file_name().to_string_lossy();
            if entry.file_type() == rustix::fs::FileType::Directory && name != "." && name != ".." {
                names.push(name.into_owned());
            }
        }
        Ok(names)
    }

    pub fn is_v2(&self) -> bool {
        self.mount.version == Version::V2
    }
}

/// A missing file or cgroup is an answer.
pub(super) fn absent<T>(result: Result<T, Error>) -> Result<Option<T>, Error> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(e) if matches!(e.errno(), Some(libc::ENOENT | libc::ENODEV)) => Ok(None),
        Err(e) => Err(e),
    }
}

fn writing(error: Error, value: &str) -> Error {
    match error {
        Error::Io { path, source, .. } => Error::Io { op: format!("write {value:?} to"), path, source },
        other => other,
    }
}

fn reading(error: Error) -> Error {
    match error {
        Error::Io { path, source, .. } => Error::Io { op: "read".to_owned(), path, source },
        other => other,
    }
}
