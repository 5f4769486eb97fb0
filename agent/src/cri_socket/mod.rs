//! The sockets that clients of the container runtime interface and of the API connect to.
//!
//! One server at a time holds a path: a lock beside it says who, so that of two that start at once one is refused, and
//! what a dead one left is replaced. A client meets the old socket, or none, or one that is served: the new one is made
//! under another name and moved into its place when everything behind it is ready.

mod authority;
mod server;

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, PermissionsExt as _};
use std::os::unix::net::UnixStream as StdStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use futures_util::Stream;
use rustix::fs::{FlockOperation, Mode, OFlags};
use tokio::net::{UnixListener, UnixStream};

pub use authority::Lenient;
pub use server::Server;

/// How long no connection is accepted after one could not be: descriptors may be short for a while.
const PAUSE: Duration = Duration::from_millis(50);

/// A path for a socket, ours as long as this lives.
#[derive(Debug)]
pub struct Place {
    dir: OwnedFd,
    name: String,
    path: PathBuf,
    _lock: File,
}

/// A socket that listens. Dropping it takes it away.
#[derive(Debug)]
pub struct Socket {
    place: Place,
    listener: UnixListener,
}

impl Place {
    /// Takes a path, unless somebody serves there.
    pub fn take(path: &Path) -> anyhow::Result<Self> {
        let name = path.file_name().and_then(|name| name.to_str());
        let Some(name) = name else { bail!("{} is no path of a socket", path.display()) };
        let parent = path.parent().filter(|it| !it.as_os_str().is_empty()).unwrap_or(Path::new("."));
        // One that is there is somebody's who knows why it is as it is.
        let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(parent);
        made.with_context(|| format!("make the directory {}", parent.display()))?;
        let flags = OFlags::DIRECTORY | OFlags::PATH | OFlags::CLOEXEC;
        let dir = rustix::fs::open(parent, flags, Mode::empty());
        let dir = dir.with_context(|| format!("open the directory {}", parent.display()))?;
        let lock = lock(&dir, name).with_context(|| format!("lock {}.lock", path.display()))?;
        let Some(lock) = lock else { bail!(busy(path)) };
        let place = Self { dir, name: name.to_owned(), path: path.to_owned(), _lock: lock };
        match std::fs::symlink_metadata(path) {
            Ok(meta) if !meta.file_type().is_socket() => bail!("{} exists and is no socket", path.display()),
            // Somebody who knows nothing of the lock.
            Ok(_) if StdStream::connect(place.short(&place.name)).is_ok() => bail!(busy(path)),
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("look at {}", path.display()))
            }
            _ => Ok(place),
        }
    }

    /// A name in the directory by its descriptor: a socket's path is short, whatever the directory's is.
    fn short(&self, name: &str) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}/{name}", self.dir.as_raw_fd()))
    }

    /// Listens, from the moment that the path is there.
    pub fn listen(self) -> anyhow::Result<Socket> {
        let temporary = format!(".{}.new", self.name);
        let (new, path) = (self.short(&temporary), self.short(&self.name));
        let listening = remove(&new).and_then(|()| {
            let listener = UnixListener::bind(&new)?;
            // Nobody connects to it before it has its name; should somebody guess that, its peers are looked at.
            std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o600))?;
            std::fs::rename(&new, &path)?;
            Ok(listener)
        });
        let listener = listening.with_context(|| format!("listen on {}", self.path.display()))?;
        Ok(Socket { place: self, listener })
    }
}

fn busy(path: &Path) -> String {
    format!("somebody serves on {} already; stop it, or choose another socket or state directory", path.display())
}

/// The lock beside the socket; none when somebody has it. The file stays: one that is taken away could be two.
fn lock(dir: &OwnedFd, name: &str) -> io::Result<Option<File>> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let file = rustix::fs::openat(dir, format!("{name}.lock"), flags, Mode::from_raw_mode(0o600))?;
    match rustix::io::retry_on_intr(|| rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive)) {
        Ok(()) => Ok(Some(file.into())),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

impl Socket {
    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.place.path
    }

    /// The connections of whoever may use it: this process's own user. Others reach it only where somebody has opened
    /// it up to them, and are hung up on.
    pub fn connections(&self) -> impl Stream<Item = io::Result<Lenient>> + '_ {
        futures_util::stream::unfold((), move |()| async move { Some((Ok(Lenient::new(self.accept().await)), ())) })
    }

    /// The next connection of somebody who may use it.
    pub async fn accept(&self) -> UnixStream {
        loop {
            match self.listener.accept().await {
                Ok((stream, _)) if stream.peer_cred().is_ok_and(|it| it.uid() == own_uid()) => return stream,
                Ok(_) => {}
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }
}

fn own_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

impl Drop for Socket {
    fn drop(&mut self) {
        if let Err(error) = remove(&self.place.short(&self.place.name)) {
            tracing::warn!(%error, path = %self.place.path.display(), "the socket could not be removed");
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_place_is_taken_by_one_and_a_stale_socket_replaced() {
        let dir = tempfile::tempdir().unwrap();
        // Longer than a socket's path may be.
        let path = dir.path().join("d".repeat(100)).join("a.sock");
        let first = Place::take(&path).unwrap();
        assert!(Place::take(&path).unwrap_err().to_string().contains("already"));
        assert!(!path.exists());
        let socket = first.listen().unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::metadata(path.parent().unwrap()).unwrap().permissions().mode() & 0o777, 0o700);
        drop(socket);
        assert!(!path.exists());
        // One that a killed server left: nobody listens on it.
        drop(std::os::unix::net::UnixListener::bind(dir.path().join("s")).unwrap());
        std::fs::rename(dir.path().join("s"), &path).unwrap();
        drop(Place::take(&path).unwrap().listen().unwrap());
    }

    #[tokio::test]
    async fn what_others_serve_and_what_is_no_socket_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.sock");
        let other = std::os::unix::net::UnixListener::bind(&path).unwrap();
        assert!(Place::take(&path).unwrap_err().to_string().contains("already"));
        drop(other);
        let file = dir.path().join("file");
        std::fs::write(&file, "kept").unwrap();
        assert!(Place::take(&file).unwrap_err().to_string().contains("no socket"));
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "kept");
    }
}
