//! The directory of device plug-ins' sockets.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::FileTypeExt as _;
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags};
use tokio::net::UnixStream;

/// The node's own socket.
pub const OWN: &str = "kubelet.sock";

/// Removes the sockets that are there, as kubelet does when it starts: whoever still serves one registers anew.
pub fn sweep(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        // The node's own is looked at, and replaced, by who makes the new one.
        if entry.file_type()?.is_socket() && entry.file_name() != OWN {
            match fs::remove_file(entry.path()) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
    }
    Ok(())
}

/// A plug-in's socket, by the name that it said: a socket in the directory itself, whatever becomes of its name.
pub fn socket(dir: &OwnedFd, name: &str) -> io::Result<OwnedFd> {
    let bad = |why: &str| Err(io::Error::new(ErrorKind::InvalidInput, format!("{name:?} {why}")));
    if matches!(name, "" | "." | ".." | OWN) || name.contains(['/', '\0']) {
        return bad("is no name of a plug-in's socket");
    }
    let socket = rustix::fs::openat(dir, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
    let mode = rustix::fs::fstat(&socket)?.st_mode;
    match FileType::from_raw_mode(mode) {
        FileType::Socket => Ok(socket),
        _ => bad("is not a socket"),
    }
}

/// Connects to it.
pub async fn connect(socket: &OwnedFd) -> io::Result<UnixStream> {
    UnixStream::connect(format!("/proc/self/fd/{}", socket.as_raw_fd())).await
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::net::UnixListener;

    use super::*;

    #[tokio::test]
    async fn only_a_socket_of_the_directory_itself_is_a_plug_in_s() {
        let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let at = |name: &str| dir.path().join(name);
        let _plugin = UnixListener::bind(at("plugin.sock")).unwrap();
        let _foreign = UnixListener::bind(other.path().join("s")).unwrap();
        std::os::unix::fs::symlink(other.path().join("s"), at("link")).unwrap();
        fs::write(at("file"), "kept").unwrap();
        let opened = runtime::store::open_dir(dir.path()).unwrap();
        connect(&socket(&opened, "plugin.sock").unwrap()).await.unwrap();
        for name in ["", ".", "..", OWN, "../s", "a/b", "a\0", "file", "link", "none"] {
            assert!(socket(&opened, name).is_err(), "{name:?}");
        }
        sweep(dir.path()).unwrap();
        let mut left: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|it| it.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["file", "link"]);
    }
}
