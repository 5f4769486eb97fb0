//! Which mount a path is on, as proc(5) shows it.

use std::ffi::OsString;
use std::io::{Error, ErrorKind, Result};
use std::os::fd::AsRawFd as _;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

/// A mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// Where it is.
    pub point: PathBuf,
    /// Its optional fields: `shared:1 master:2`.
    pub options: String,
}

impl Mount {
    /// Whether what is mounted in it is handed on to its peers, and comes from them.
    pub fn is_shared(&self) -> bool {
        self.options.split(' ').any(|it| it.starts_with("shared:"))
    }
}

/// The mount that a path is on: by the number that the kernel gives for it, for one may hide another.
pub fn of(path: &Path) -> Result<Mount> {
    let file = rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", file.as_raw_fd()))?;
    let id = info.lines().find_map(|line| line.strip_prefix("mnt_id:")).map(str::trim);
    let id = id.ok_or_else(|| Error::from(ErrorKind::InvalidData))?;
    let text = std::fs::read_to_string("/proc/self/mountinfo")?;
    let line = text.lines().find(|line| line.split(' ').next() == Some(id));
    let fields: Vec<&str> = line.ok_or_else(|| Error::from(ErrorKind::NotFound))?.split(' ').collect();
    let options = fields.iter().skip(6).take_while(|it| **it != "-").copied().collect::<Vec<_>>();
    Ok(Mount { point: unescape(fields.get(4).copied().unwrap_or("/")), options: options.join(" ") })
}

/// mountinfo writes space, tab, newline and backslash as three octal digits.
pub fn unescape(field: &str) -> PathBuf {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        let octal = (byte == b'\\').then(|| tail.get(..3)).flatten();
        match octal.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok()) {
            Some(decoded) => {
                out.push(decoded);
                rest = &tail[3..];
            }
            None => {
                out.push(byte);
                rest = tail;
            }
        }
    }
    OsString::from_vec(out).into()
}
