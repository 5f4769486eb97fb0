//! A directory that looks like a kubelet's (`--kubelet-compat-dir`), for who mounts `/var/lib/kubelet`: collectors of logs,
//! backups of volumes, drivers.
//!
//! ```text
//! DIR/pods                                        the agent's own directory of pods, mounted there too
//! DIR/plugins, plugins_registry                   where drivers have their sockets (`crate::csi`)
//! DIR/device-plugins                              where device plug-ins have theirs, beside kubelet.sock, the agent's
//! ```
//!
//! The mount and the original are peers (mount_namespaces(7)): a Secret's tmpfs that is mounted in one is in the other,
//! what a container mounts below `DIR/pods` comes to the agent's, and both end together.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::fd::AsFd as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use runtime::mountinfo;
use runtime::store::{Durability, open_dir, read_json, write_json};
use serde::{Deserialize, Serialize};

use super::{HostError, io_error, mount};
use crate::cri_socket::Place;

/// Where it is written down what is mounted, in the state directory.
const RECORD: &str = "kubelet-compat.json";

const PODS: &str = "pods";

/// Directories that DaemonSets expect to be there (kubelet's pkg/kubelet/config/defaults.go).
const OF_DRIVERS: [&str; 3] = ["plugins", "plugins_registry", "device-plugins"];

/// What an agent has in the directory of device plug-ins.
const OF_DEVICES: [&str; 2] = ["kubelet.sock", "kubelet.sock.lock"];

#[derive(Debug, Serialize, Deserialize)]
struct Record {
    dir: PathBuf,
}

/// Makes `wanted` look like a kubelet's directory; what an agent before this one has made elsewhere goes. Done again without
/// harm.
pub fn establish(wanted: Option<&Path>, root: &Path, state: &Path) -> Result<(), HostError> {
    if recorded(state)?.is_some_and(|dir| Some(&*dir) != wanted) {
        remove(root, state)?;
    }
    let Some(dir) = wanted else { return Ok(()) };
    let (own, place) = (root.join(PODS), dir.join(PODS));
    make(&own)?;
    if real(dir) == real(root) {
        let why = "it is the agent's own root directory; choose another one".to_owned();
        return Err(HostError::Compat { dir: dir.to_owned(), why });
    }
    if is_same(&own, &place).map_err(io_error("look at", &place))? {
        return Ok(());
    }
    check(dir, &own, &place)?;
    std::iter::once(PODS).chain(OF_DRIVERS).try_for_each(|it| make(&dir.join(it)))?;
    // Before the mount: whoever ends this process, the next one finds it.
    let record = Record { dir: dir.to_owned() };
    write_json(state, RECORD, &record, Durability::Volatile).map_err(io_error("write", &state.join(RECORD)))?;
    let bound = open_dir(&own).and_then(|own| mount::bind(own.as_fd(), &place, true));
    bound.map_err(io_error("mount the directory of pods on", &place))
}

/// Undoes it; the directory that it was. The mount of one that is not there any more went with the machine's last boot, and
/// what is there instead is somebody's.
pub fn remove(root: &Path, state: &Path) -> Result<Option<PathBuf>, HostError> {
    let Some(dir) = recorded(state)? else { return Ok(None) };
    let (own, place) = (root.join(PODS), dir.join(PODS));
    let look = io_error("look at", &place);
    let mounted = is_mount(&place).and_then(|mounted| Ok((mounted, mounted && is_same(&own, &place)?)));
    let (mounted, ours) = mounted.map_err(look)?;
    if ours {
        mount::part(&place).map_err(io_error("unmount", &place))?;
    }
    forget_socket(&device_plugins(&dir));
    for made in std::iter::once(PODS).chain(OF_DRIVERS) {
        // What holds something is somebody's, and so is all of it where something else is mounted.
        if ours || !mounted {
            let _ = fs::remove_dir(dir.join(made));
        }
    }
    let record = state.join(RECORD);
    fs::remove_file(&record).map_err(io_error("remove", &record))?;
    Ok(Some(dir))
}

/// Removes what a killed agent has left of its socket for device plug-ins, unless somebody serves there, as a kubelet does that
/// has taken the directory over.
fn forget_socket(dir: &Path) {
    let files = OF_DEVICES.map(|name| dir.join(name));
    if files.iter().all(|it| fs::symlink_metadata(it).is_err()) {
        return;
    }
    if let Ok(_place) = Place::take(&files[0]) {
        files.iter().for_each(|it| drop(fs::remove_file(it)));
    }
}

/// The directory that was made to look so, if one was.
pub fn recorded(state: &Path) -> Result<Option<PathBuf>, HostError> {
    let path = state.join(RECORD);
    let record: Option<Record> = read_json(&path).map_err(io_error("read", &path))?;
    Ok(record.map(|it| it.dir))
}

/// Where device plug-ins have their sockets.
pub fn device_plugins(dir: &Path) -> PathBuf {
    dir.join("device-plugins")
}

fn make(dir: &Path) -> Result<(), HostError> {
    fs::DirBuilder::new().recursive(true).mode(0o750).create(dir).map_err(io_error("make directory", dir))
}

/// Whether the directory of pods may be mounted there.
fn check(dir: &Path, own: &Path, place: &Path) -> Result<(), HostError> {
    let wrong = |why: String| Err(HostError::Compat { dir: dir.to_owned(), why });
    if real(place).starts_with(real(own)) {
        return wrong(format!("it is in {}, which would be mounted in itself; choose another one", own.display()));
    }
    if is_mount(place).map_err(io_error("look at", place))? {
        let why = "something is mounted there already, perhaps by another agent; unmount it, or choose another one";
        return wrong(format!("{}: {why}", place.display()));
    }
    match fs::read_dir(place).map(|mut entries| entries.next()) {
        Ok(Some(entry)) => {
            let what = entry.map_err(io_error("list", place))?.path();
            let why = "is there: it is a kubelet's; remove what that has left, or choose another one";
            return wrong(format!("{} {why}", what.display()));
        }
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(io_error("list", place)(error)),
        Ok(None) | Err(_) => {}
    }
    let on = mountinfo::of(own).map_err(io_error("find the mount of", own))?;
    if !on.is_shared() {
        let point = on.point.display();
        return wrong(format!(
            "{} is on {point}, which is not a shared mount; run mount --make-shared {point}",
            own.display()
        ));
    }
    Ok(())
}

/// A path without links, as far as there is something.
fn real(path: &Path) -> PathBuf {
    let found = path.ancestors().find_map(|it| Some((it.canonicalize().ok()?, path.strip_prefix(it).ok()?)));
    found.map_or_else(|| path.to_owned(), |(real, rest)| real.join(rest))
}

fn is_same(own: &Path, place: &Path) -> io::Result<bool> {
    let id = |path: &Path| fs::metadata(path).map(|it| (it.dev(), it.ino()));
    match id(place) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        found => Ok(found? == id(own)?),
    }
}

/// Whether something is mounted on a directory, which need not be there.
fn is_mount(path: &Path) -> io::Result<bool> {
    match path.canonicalize() {
        Ok(real) => Ok(mountinfo::of(&real)?.point == real),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn a_socket_goes_with_the_directory_unless_somebody_serves_on_it() {
        let all = tempfile::tempdir().unwrap();
        let [root, state, dir] = ["root", "state", "kubelet"].map(|it| all.path().join(it));
        let socket = device_plugins(&dir).join(OF_DEVICES[0]);
        let removed = || {
            write_json(&state, RECORD, &Record { dir: dir.clone() }, Durability::Volatile).unwrap();
            assert_eq!(remove(&root, &state).unwrap(), Some(dir.clone()));
        };
        [&root, &state, &device_plugins(&dir)].into_iter().try_for_each(|it| make(it)).unwrap();
        let kubelet = UnixListener::bind(&socket).unwrap();
        removed();
        assert!(socket.exists(), "it is a kubelet's");
        drop(kubelet);
        removed();
        assert!(!device_plugins(&dir).exists(), "nobody served there any more");
    }
}
