//! What drivers were asked for, on disk, from before the first call until after the last: `ROOT/csi/used/DIGEST.json`, one a
//! pod and volume, and `ROOT/csi/staged/DIGEST.json`, one a volume.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use runtime::store::{self, Durability};
use serde::{Deserialize, Serialize};

use super::CsiError;
use super::wish::hex;
use crate::host::{HostError, io_error, mount};
use crate::node::desired::disk::discard;

/// The version of the records.
const VERSION: u32 = 1;

const USED: &str = "used";
const STAGED: &str = "staged";

/// A driver, and by what it knows a volume.
pub type VolumeKey = (String, String);

/// How far a call has come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// The driver was not asked yet, or has refused.
    Wanted,
    /// It may have been asked.
    Begun,
    /// It has done it, in this boot.
    Done(String),
}

/// A volume that a pod uses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Used {
    version: u32,
    /// The pod's uid.
    pub pod: String,
    /// The volume's name in the pod.
    pub volume: String,
    /// The driver.
    pub driver: String,
    /// By what it knows the volume.
    pub handle: String,
    /// A controller attaches it.
    pub attachable: bool,
    /// Where it is published.
    pub target: PathBuf,
    /// The driver has handed it over to the pod's group.
    pub grouped: bool,
    /// Whether it is.
    pub phase: Phase,
}

/// A volume that is staged for the node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Staged {
    version: u32,
    /// The driver.
    pub driver: String,
    /// By what it knows the volume.
    pub handle: String,
    /// A controller attaches it.
    pub attachable: bool,
    /// Where.
    pub path: PathBuf,
    /// Whether it is.
    pub phase: Phase,
}

impl Used {
    /// Of a wish for which the driver was not asked yet.
    pub fn new(wish: &super::Wish, target: PathBuf) -> Self {
        Used {
            version: VERSION,
            pod: wish.pod.clone(),
            volume: wish.volume.clone(),
            driver: wish.driver.clone(),
            handle: wish.handle.clone(),
            attachable: wish.attachable,
            target,
            grouped: false,
            phase: Phase::Wanted,
        }
    }

    /// The volume.
    pub fn key(&self) -> VolumeKey {
        (self.driver.clone(), self.handle.clone())
    }

    fn file(&self) -> String {
        name_of(&self.pod, &self.volume)
    }
}

impl Staged {
    /// Of a wish for which the driver may be asked at once.
    pub fn new(wish: &super::Wish, path: PathBuf) -> Self {
        Staged {
            version: VERSION,
            driver: wish.driver.clone(),
            handle: wish.handle.clone(),
            attachable: wish.attachable,
            path,
            phase: Phase::Begun,
        }
    }

    /// The volume.
    pub fn key(&self) -> VolumeKey {
        (self.driver.clone(), self.handle.clone())
    }

    fn file(&self) -> String {
        name_of(&self.driver, &self.handle)
    }
}

/// A file for two names of any length and characters.
fn name_of(one: &str, other: &str) -> String {
    format!("{}.json", hex(&[one, "\n", other]))
}

/// What is recorded.
#[derive(Debug)]
pub struct Records {
    directory: PathBuf,
    book: Mutex<Book>,
}

#[derive(Debug, Default)]
struct Book {
    used: BTreeMap<(String, String), Used>,
    staged: BTreeMap<VolumeKey, Staged>,
}

fn directory(root: &Path) -> PathBuf {
    root.join("csi")
}

/// Whether drivers have ever mounted anything below a root directory, and it was not forgotten.
pub fn is_recorded(root: &Path) -> bool {
    directory(root).exists()
}

/// Takes away what drivers have mounted, without their help, and what is recorded of it.
pub fn forget(root: &Path) -> Result<(), HostError> {
    let directory = directory(root);
    let records = Records::open(root).map_err(io_error("read the records in", &directory))?;
    let book = records.book();
    let targets = book.used.values().map(|it| &it.target);
    for point in targets.chain(book.staged.values().map(|it| &it.path)) {
        mount::unmount(point).map_err(io_error("unmount", point))?;
        clear(point)?;
    }
    std::fs::remove_dir_all(&directory).map_err(io_error("remove", &directory))
}

/// Removes a directory where a driver had something mounted, and the one above, which is the volume's. A driver that has
/// removed it has done right; one that has left something in it has not, and nothing is deleted.
pub fn clear(point: &Path) -> Result<(), HostError> {
    for directory in [Some(point), point.parent()].into_iter().flatten() {
        match std::fs::remove_dir(directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            result => result.map_err(io_error("remove the directory of a volume,", directory))?,
        }
    }
    Ok(())
}

impl Records {
    /// Everything that is recorded. One that cannot be read is said, and stays where it is; others are not its matter.
    pub fn open(root: &Path) -> io::Result<Self> {
        let directory = directory(root);
        let mut book = Book::default();
        for one in read_all::<Used>(&directory.join(USED))? {
            book.used.insert((one.pod.clone(), one.volume.clone()), one);
        }
        for one in read_all::<Staged>(&directory.join(STAGED))? {
            book.staged.insert(one.key(), one);
        }
        Ok(Records { directory, book: Mutex::new(book) })
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a pod uses.
    pub fn used_by(&self, pod: &str) -> Vec<Used> {
        self.book().used.values().filter(|it| it.pod == pod).cloned().collect()
    }

    /// A volume that a pod uses.
    pub fn used(&self, pod: &str, volume: &str) -> Option<Used> {
        self.book().used.get(&(pod.to_owned(), volume.to_owned())).cloned()
    }

    /// A volume that is staged.
    pub fn staged(&self, key: &VolumeKey) -> Option<Staged> {
        self.book().staged.get(key).cloned()
    }

    /// Whether some pod uses a volume.
    pub fn is_used(&self, key: &VolumeKey) -> bool {
        self.book().used.values().any(|it| it.key() == *key)
    }

    /// What is staged and used by nobody.
    pub fn unused(&self) -> Vec<VolumeKey> {
        let book = self.book();
        let used: BTreeSet<VolumeKey> = book.used.values().map(Used::key).collect();
        book.staged.keys().filter(|key| !used.contains(*key)).cloned().collect()
    }

    /// The volumes that have to stay attached, as a Node's status names them.
    pub fn in_use(&self) -> Vec<String> {
        let book = self.book();
        let used = book.used.values().filter(|it| it.attachable).map(Used::key);
        let staged = book.staged.values().filter(|it| it.attachable).map(Staged::key);
        let names: BTreeSet<String> = used.chain(staged).map(|key| unique(&key)).collect();
        names.into_iter().collect()
    }

    /// Records a use, so that it outlasts the loss of power.
    pub fn put_used(&self, used: &Used) -> Result<(), CsiError> {
        self.write(USED, &used.file(), used)?;
        self.book().used.insert((used.pod.clone(), used.volume.clone()), used.clone());
        Ok(())
    }

    /// Records what is staged, as [`Records::put_used`].
    pub fn put_staged(&self, staged: &Staged) -> Result<(), CsiError> {
        self.write(STAGED, &staged.file(), staged)?;
        self.book().staged.insert(staged.key(), staged.clone());
        Ok(())
    }

    fn write(&self, kind: &str, name: &str, record: &impl Serialize) -> Result<(), CsiError> {
        let directory = self.directory.join(kind);
        let write = || {
            use std::os::unix::fs::DirBuilderExt as _;
            std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&directory)?;
            store::write_json(&directory, name, record, Durability::Durable)
        };
        write().map_err(|source| CsiError::Record { path: directory.clone(), source })
    }

    /// A pod does not use a volume any more.
    pub fn remove_used(&self, used: &Used) -> Result<(), CsiError> {
        self.discard(USED, &used.file())?;
        self.book().used.remove(&(used.pod.clone(), used.volume.clone()));
        Ok(())
    }

    /// A volume is not staged any more, and the directories above it go with the last one below them. Another one is in the
    /// book before its directory is made, so that none is taken away beneath it.
    pub fn remove_staged(&self, staged: &Staged) -> Result<(), CsiError> {
        let book = self.book();
        // DRIVER, csi and kubernetes.io, above DIGEST/globalmount.
        for above in staged.path.ancestors().skip(2).take(3) {
            if book.staged.values().any(|it| it.key() != staged.key() && it.path.starts_with(above)) {
                break;
            }
            // What holds something is somebody's.
            let _ = std::fs::remove_dir(above);
        }
        drop(book);
        self.discard(STAGED, &staged.file())?;
        self.book().staged.remove(&staged.key());
        Ok(())
    }

    fn discard(&self, kind: &str, name: &str) -> Result<(), CsiError> {
        let path = self.directory.join(kind).join(name);
        discard(&path).map_err(|source| CsiError::Record { path, source })
    }
}

/// What a Node's status calls a volume.
pub fn unique((driver, handle): &VolumeKey) -> String {
    format!("kubernetes.io/csi/{driver}^{handle}")
}

fn read_all<T: serde::de::DeserializeOwned>(directory: &Path) -> io::Result<Vec<T>> {
    store::sweep_temporaries(directory)?;
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut all = Vec::new();
    for entry in entries {
        let path = entry?.path();
        match read(&path) {
            Ok(one) => all.push(one),
            Err(error) => {
                let record = path.display();
                tracing::error!(%record, %error, "a volume that a CSI driver mounted is not known any more; unmount it by hand");
            }
        }
    }
    Ok(all)
}

fn read<T: serde::de::DeserializeOwned>(path: &Path) -> io::Result<T> {
    let value: serde_json::Value = store::read_json(path)?.unwrap_or_default();
    if value["version"] != VERSION {
        let why = format!("it has version {}, and this coracle knows version {VERSION}", value["version"]);
        return Err(io::Error::new(io::ErrorKind::InvalidData, why));
    }
    Ok(serde_json::from_value(value)?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn used(pod: &str, handle: &str, attachable: bool) -> Used {
        Used {
            version: VERSION,
            pod: pod.to_owned(),
            volume: "v".to_owned(),
            driver: "d".to_owned(),
            handle: handle.to_owned(),
            attachable,
            target: "/t".into(),
            grouped: false,
            phase: Phase::Begun,
        }
    }

    #[test]
    fn what_was_asked_for_is_known_to_the_next_agent() {
        let root = tempfile::tempdir().unwrap();
        let records = Records::open(root.path()).unwrap();
        assert!(!is_recorded(root.path()), "nothing is made for nothing");
        let staged = Staged {
            version: VERSION,
            driver: "d".into(),
            handle: "h".into(),
            attachable: true,
            path: root.path().join("plugins/kubernetes.io/csi/d/s/globalmount"),
            phase: Phase::Done("boot".into()),
        };
        records.put_used(&used("a", "h", true)).unwrap();
        records.put_staged(&staged).unwrap();
        records.put_used(&used("b", "h", true)).unwrap();
        records.put_used(&used("c", "i/../^", false)).unwrap();
        records.remove_used(&used("a", "h", true)).unwrap();
        std::fs::write(root.path().join("csi/used/bad.json"), "{").unwrap();
        let again = Records::open(root.path()).unwrap();
        assert_eq!(again.used_by("a"), []);
        assert_eq!(again.used("b", "v"), Some(used("b", "h", true)));
        assert_eq!(again.staged(&staged.key()), Some(staged.clone()));
        assert_eq!(again.unused(), []);
        again.remove_used(&used("b", "h", true)).unwrap();
        assert_eq!(again.unused(), [staged.key()]);
        assert_eq!(
            again.in_use(),
            ["kubernetes.io/csi/d^h"],
            "it is staged still; what nobody attaches does not count"
        );
        let other = Staged {
            handle: "o".into(),
            path: root.path().join("plugins/kubernetes.io/csi/e/o/globalmount"),
            ..staged.clone()
        };
        let above = |staged: &Staged| staged.path.ancestors().nth(2).unwrap().to_owned();
        for one in [&staged, &other] {
            std::fs::create_dir_all(above(one)).unwrap();
        }
        again.put_staged(&other).unwrap();
        again.remove_staged(&staged).unwrap();
        assert!(!above(&staged).exists() && above(&other).exists(), "the other's directory is there still");
        again.remove_staged(&other).unwrap();
        let left = std::fs::read_dir(root.path().join("plugins")).unwrap().count();
        assert_eq!(left, 0, "what was made for the last one went with it");
        assert_eq!(again.in_use(), Vec::<String>::new());
        assert!(root.path().join("csi/used/bad.json").exists());
    }
}
