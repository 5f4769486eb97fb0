//! The leases on disk: `<root>/network/leases.json`, durable, so that a pod has its address again after a reboot.
//!
//! Who holds an address at this moment is not in it but in the markers of this boot (`state.rs`): it is written only when
//! a pod gets a place that it did not have, once for all pods that wait at that moment.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use ipnet::Ipv6Net;
use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};

use super::pool::{self, Leases, Use};
use super::ranges::Ranges;
use super::state::Seat;
use crate::store::{Durability, read_json, sweep_temporaries, write_json};

const FILE: &str = "leases.json";

/// Leases that are kept: pods of more names than these have run here, and the oldest are forgotten.
const MOST: usize = 2048;

/// `leases.json`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Durable {
    /// Version of this record.
    pub version: u32,
    /// What the pods' ranges were last.
    pub ranges: Ranges,
    /// Whether a client gave these to the pods of this node.
    #[serde(default)]
    pub given: bool,
    /// This machine's private IPv6 prefix for pods, made at random once.
    pub ula: Option<Ipv6Net>,
    /// Places by namespace and name.
    pub leases: Leases,
    /// The same of named networks.
    #[serde(default)]
    pub networks: BTreeMap<String, Pool>,
}

/// What is kept of a named network.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pool {
    /// Its ranges.
    pub ranges: Ranges,
    /// Places by namespace and name.
    pub leases: Leases,
}

impl Durable {
    /// The leases of a network; empty is the default one.
    pub fn leases(&self, network: &str) -> Option<&Leases> {
        if network.is_empty() { Some(&self.leases) } else { self.networks.get(network).map(|it| &it.leases) }
    }
}

/// What is to be written down.
#[derive(Clone, Debug)]
pub enum Change {
    /// A pod has a place.
    Lease {
        /// Namespace and name.
        pod: String,
        /// Which.
        seat: Seat,
    },
    /// These are the ranges of a named network.
    Network(String, Ranges),
    /// These are the ranges, whether a client gave them, and the private prefix if there is one.
    Ranges(Ranges, bool, Option<Ipv6Net>),
}

type Outcome = Arc<OnceLock<Result<(), (io::ErrorKind, String)>>>;

/// The file, its last reading, and who waits for a write.
pub struct Book {
    dir: PathBuf,
    read: Mutex<Option<(Stamp, Arc<Durable>)>>,
    queue: Mutex<Vec<(Change, Outcome)>>,
    writing: Mutex<()>,
}

/// A file that is replaced by rename has a new one each time.
type Stamp = (u64, i64, i64);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Book {
    /// The book in a directory, which exists.
    pub fn new(dir: PathBuf) -> Self {
        Self { dir, read: Mutex::default(), queue: Mutex::default(), writing: Mutex::default() }
    }

    /// What is written now.
    pub fn read(&self) -> io::Result<Arc<Durable>> {
        let path = self.dir.join(FILE);
        let Some(stamp) = stamp(&path)? else { return Ok(Arc::default()) };
        if let Some((known, durable)) = &*lock(&self.read)
            && *known == stamp
        {
            return Ok(Arc::clone(durable));
        }
        let durable = Arc::new(self.parse(&path)?);
        *lock(&self.read) = Some((stamp, Arc::clone(&durable)));
        Ok(durable)
    }

    /// A file that cannot be understood costs the pods their addresses, not the machine its pods.
    fn parse(&self, path: &Path) -> io::Result<Durable> {
        match read_json(path) {
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                let aside = self.dir.join("leases.json.unreadable");
                tracing::warn!(%error, path = %path.display(), "the addresses of pods are forgotten");
                std::fs::rename(path, aside)?;
                Ok(Durable::default())
            }
            other => other.map(Option::unwrap_or_default),
        }
    }

    /// Writes a change down, together with those of everybody who waits; returns when it is durable.
    pub fn commit(&self, change: Change, usage: impl FnMut(&Seat) -> Use) -> io::Result<()> {
        let outcome = Outcome::default();
        lock(&self.queue).push((change, Arc::clone(&outcome)));
        let turn = lock(&self.writing);
        if outcome.get().is_none() {
            let batch = std::mem::take(&mut *lock(&self.queue));
            let (changes, waiting): (Vec<_>, Vec<_>) = batch.into_iter().unzip();
            let written = self.write(changes, usage).map_err(|error| (error.kind(), error.to_string()));
            for it in waiting {
                // Each is set once, by whoever takes it from the queue.
                let _ = it.set(written.clone());
            }
        }
        drop(turn);
        match outcome.get() {
            Some(Err((kind, text))) => Err(io::Error::new(*kind, text.clone())),
            _ => Ok(()),
        }
    }

    fn write(&self, changes: Vec<Change>, mut usage: impl FnMut(&Seat) -> Use) -> io::Result<()> {
        let _locked = exclusive(&self.dir.join("lock"))?;
        let mut durable = Durable::clone(&*self.read()?);
        let before = durable.clone();
        for change in changes {
            match change {
                Change::Lease { pod, seat } if seat.network.is_empty() => {
                    pool::record(&mut durable.leases, &pod, seat.place);
                }
                Change::Lease { pod, seat } => {
                    pool::record(&mut durable.networks.entry(seat.network).or_default().leases, &pod, seat.place);
                }
                Change::Network(name, ranges) => durable.networks.entry(name).or_default().ranges = ranges,
                Change::Ranges(ranges, given, ula) => {
                    (durable.ranges, durable.given, durable.ula) = (ranges, given, ula);
                }
            }
        }
        pool::trim(&mut durable.leases, MOST, |place| usage(&Seat { network: String::new(), place }));
        for (network, pool) in &mut durable.networks {
            pool::trim(&mut pool.leases, MOST, |place| usage(&Seat { network: network.clone(), place }));
        }
        if durable == before {
            return Ok(());
        }
        durable.version = 1;
        write_json(&self.dir, FILE, &durable, Durability::Durable)
    }

    /// Forgets what was kept of networks whose names nobody asks for any more.
    pub fn forget_networks(&self, keep: impl Fn(&str) -> bool) -> io::Result<()> {
        let _locked = exclusive(&self.dir.join("lock"))?;
        let mut durable = Durable::clone(&*self.read()?);
        let before = durable.networks.len();
        durable.networks.retain(|name, _| keep(name));
        if durable.networks.len() == before {
            return Ok(());
        }
        write_json(&self.dir, FILE, &durable, Durability::Durable)
    }

    /// Removes what writers left that were killed.
    pub fn sweep(&self) -> io::Result<()> {
        sweep_temporaries(&self.dir)
    }

    /// Forgets everything.
    pub fn forget(&self) -> io::Result<bool> {
        let _locked = exclusive(&self.dir.join("lock"))?;
        match std::fs::remove_file(self.dir.join(FILE)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            other => other.map(|()| true),
        }
    }
}

fn stamp(path: &Path) -> io::Result<Option<Stamp>> {
    use std::os::unix::fs::MetadataExt as _;
    match std::fs::metadata(path) {
        Ok(it) => Ok(Some((it.ino(), it.mtime(), it.mtime_nsec()))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Waits for a lock file, made if it is missing. The lock ends with the descriptor, however its holder ends.
pub fn exclusive(path: &Path) -> io::Result<std::fs::File> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let file = std::fs::OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path)?;
    flock(&file, FlockOperation::LockExclusive)?;
    Ok(file)
}

/// flock(2), again where a signal came between.
pub fn flock(file: impl std::os::fd::AsFd, operation: FlockOperation) -> io::Result<()> {
    loop {
        match rustix::fs::flock(&file, operation) {
            Err(rustix::io::Errno::INTR) => {}
            other => return Ok(other?),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn lease(pod: &str, place: u32) -> Change {
        Change::Lease { pod: pod.into(), seat: Seat { network: String::new(), place } }
    }

    #[test]
    fn many_that_wait_together_are_all_written() {
        let dir = tempfile::tempdir().unwrap();
        let book = Book::new(dir.path().to_owned());
        std::thread::scope(|scope| {
            for place in 0..20 {
                let book = &book;
                scope.spawn(move || book.commit(lease(&format!("default/{place}"), place), |_| Use::Held).unwrap());
            }
        });
        assert_eq!(book.read().unwrap().leases.len(), 20);
        assert_eq!(Book::new(dir.path().to_owned()).read().unwrap(), book.read().unwrap());
    }

    #[test]
    fn what_another_process_writes_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        let (one, two) = (Book::new(dir.path().to_owned()), Book::new(dir.path().to_owned()));
        one.commit(lease("default/a", 3), |_| Use::Unused).unwrap();
        assert_eq!(two.read().unwrap().leases["default/a"].place, 3);
        two.commit(lease("default/b", 4), |_| Use::Unused).unwrap();
        assert_eq!(one.read().unwrap().leases.len(), 2);
    }

    #[test]
    fn networks_have_leases_of_their_own() {
        let dir = tempfile::tempdir().unwrap();
        let book = Book::new(dir.path().to_owned());
        let back = Seat { network: "back".into(), place: 3 };
        book.commit(lease("default/a", 3), |_| Use::Unused).unwrap();
        book.commit(Change::Lease { pod: "default/b".into(), seat: back }, |_| Use::Unused).unwrap();
        let durable = book.read().unwrap();
        assert_eq!(durable.leases("").unwrap()["default/a"].place, 3);
        assert_eq!(durable.leases("back").unwrap()["default/b"].place, 3);
        book.forget_networks(|it| it == "back").unwrap();
        assert_eq!(book.read().unwrap(), durable);
        book.forget_networks(|it| it != "back").unwrap();
        assert_eq!(book.read().unwrap().leases("back"), None);
    }

    #[test]
    fn a_broken_file_is_set_aside() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(FILE), "{\"version\":1,").unwrap();
        let book = Book::new(dir.path().to_owned());
        assert_eq!(*book.read().unwrap(), Durable::default());
        book.commit(lease("default/a", 0), |_| Use::Unused).unwrap();
        assert_eq!(book.read().unwrap().leases.len(), 1);
        assert!(dir.path().join("leases.json.unreadable").exists());
    }

    #[test]
    fn a_directory_that_cannot_be_written_fails_everybody_who_waits() {
        let dir = tempfile::tempdir().unwrap();
        let book = Book::new(dir.path().join("missing"));
        assert!(book.commit(lease("default/a", 0), |_| Use::Unused).is_err());
    }
}
