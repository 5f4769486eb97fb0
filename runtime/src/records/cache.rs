//! Files that were parsed, for as long as they are what they were: records are asked for all the time and change seldom,
//! and any process may change them.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs::Stat;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::store::{is_marked, write_marked};

/// A file without a mark of its own that was changed so short a time ago may be changed once more within the same tick of
/// the clock that the kernel marks changes by (10 ms at most): it is read again.
const SETTLED: Duration = Duration::from_millis(100);

/// How many files are remembered before it is looked whether they are all there still.
const FEW: usize = 256;

/// What a file looked like. Records are replaced, so that most changes make another inode of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    file: (u64, u64),
    size: i64,
    /// Seconds and nanoseconds.
    changed: (i64, i64),
    /// Seconds and nanoseconds.
    modified: (i64, i64),
}

impl Stamp {
    #[allow(clippy::unnecessary_cast, clippy::useless_conversion, reason = "the fields' types differ by architecture")]
    fn of(stat: &Stat) -> Self {
        let changed = (stat.st_ctime as i64, stat.st_ctime_nsec as i64);
        let modified = (stat.st_mtime as i64, stat.st_mtime_nsec as i64);
        Self { file: (stat.st_dev as u64, stat.st_ino as u64), size: stat.st_size as i64, changed, modified }
    }

    /// Whether another change would show. Not so long as the clock says that it is yet to be made, either.
    fn is_settled(&self, now: SystemTime) -> bool {
        if is_marked(self.modified.1) {
            return true;
        }
        let (seconds, nanoseconds) = self.changed;
        let (Ok(seconds), Ok(nanoseconds)) = (u64::try_from(seconds), u32::try_from(nanoseconds)) else { return false };
        let age = now.duration_since(UNIX_EPOCH + Duration::new(seconds, nanoseconds));
        age.is_ok_and(|age| age > SETTLED)
    }
}

/// By the bytes of a path: to take one apart costs more than all the rest.
type Known<T> = HashMap<OsString, (Stamp, Arc<T>)>;

/// Parsed files of one kind, by their paths.
#[derive(Debug)]
pub struct Cache<T> {
    known: Mutex<(Known<T>, usize)>,
}

impl<T> Default for Cache<T> {
    fn default() -> Self {
        Self { known: Mutex::new((HashMap::new(), FEW)) }
    }
}

impl<T: DeserializeOwned> Cache<T> {
    /// What [`read_json`](crate::store::read_json) reads, parsed again only when it may have changed.
    pub fn read(&self, path: &Path) -> io::Result<Option<Arc<T>>> {
        match self.fresh(path) {
            Ok(Some(value)) => return Ok(Some(value)),
            Ok(None) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.lock().0.remove(path.as_os_str());
                return Ok(None);
            }
            Err(error) => return Err(error),
        }
        let mut file = match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other?,
        };
        // Before it is read: what changes meanwhile makes it look otherwise.
        let stamp = Stamp::of(&rustix::fs::fstat(&file)?);
        let settled = stamp.is_settled(SystemTime::now());
        let mut bytes = Vec::with_capacity(usize::try_from(stamp.size).unwrap_or(0) + 1);
        file.read_to_end(&mut bytes)?;
        let parsed = serde_json::from_slice(&bytes).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error));
        let value = Arc::new(parsed?);
        if settled {
            self.remember(path, stamp, Arc::clone(&value));
        }
        Ok(Some(value))
    }

    /// Writes the file as [`write_json`](crate::store::write_json) does, not durably, and remembers what is in it.
    pub fn write(&self, dir: &Path, name: &str, value: &T) -> io::Result<()>
    where
        T: Clone + Serialize,
    {
        let (file, mark) = write_marked(dir, name, value)?;
        // Its last change was that of its name, unless somebody has written in it since, which changes the mark. Another in
        // its place has another inode.
        let stamp = Stamp::of(&rustix::fs::fstat(&file)?);
        if stamp.modified == mark {
            self.remember(&dir.join(name), stamp, Arc::new(value.clone()));
        }
        Ok(())
    }

    /// What was read of the file once, whatever has become of it: enough for what never changes in it.
    pub fn last(&self, path: &Path) -> Option<Arc<T>> {
        self.lock().0.get(path.as_os_str()).map(|(_, value)| Arc::clone(value))
    }

    /// What is known of the file, if that is how it is.
    fn fresh(&self, path: &Path) -> io::Result<Option<Arc<T>>> {
        let stamp = Stamp::of(&rustix::fs::stat(path)?);
        let known = self.lock();
        Ok(known.0.get(path.as_os_str()).filter(|(then, _)| *then == stamp).map(|(_, value)| Arc::clone(value)))
    }

    fn remember(&self, path: &Path, stamp: Stamp, value: Arc<T>) {
        let mut known = self.lock();
        let (files, limit) = &mut *known;
        if files.len() >= *limit {
            files.retain(|path, _| rustix::fs::stat(path.as_os_str()).is_ok());
            *limit = FEW.max(files.len() * 2);
        }
        files.insert(path.as_os_str().to_owned(), (stamp, value));
    }

    fn lock(&self) -> MutexGuard<'_, (Known<T>, usize)> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::store::{Durability, update_json_at, write_json};

    fn settle() {
        std::thread::sleep(SETTLED + Duration::from_millis(30));
    }

    fn write(dir: &Path, value: u64) {
        write_json(dir, "record.json", &value, Durability::Volatile).unwrap();
    }

    #[test]
    fn what_is_as_it_was_is_not_parsed_again() {
        let dir = tempfile::tempdir().unwrap();
        let (cache, path) = (Cache::<u64>::default(), dir.path().join("record.json"));
        std::fs::write(&path, "1").unwrap();
        let young = cache.read(&path).unwrap().unwrap();
        assert!(!Arc::ptr_eq(&young, &cache.read(&path).unwrap().unwrap()), "another change might not show yet");
        settle();
        let first = cache.read(&path).unwrap().unwrap();
        assert!(Arc::ptr_eq(&first, &cache.read(&path).unwrap().unwrap()));
        write(dir.path(), 2);
        assert_eq!((*cache.last(&path).unwrap(), *cache.read(&path).unwrap().unwrap()), (1, 2));
        let marked = cache.read(&path).unwrap().unwrap();
        assert!(Arc::ptr_eq(&marked, &cache.read(&path).unwrap().unwrap()), "each version has a mark of its own");
    }

    #[test]
    fn what_is_written_by_it_is_not_parsed_until_somebody_else_writes() {
        let dir = tempfile::tempdir().unwrap();
        let (cache, path) = (Cache::<u64>::default(), dir.path().join("record.json"));
        for value in 0..100 {
            cache.write(dir.path(), "record.json", &value).unwrap();
            let kept = cache.last(&path).unwrap();
            assert_eq!(*kept, value);
            assert!(Arc::ptr_eq(&kept, &cache.read(&path).unwrap().unwrap()));
            write(dir.path(), value + 1000);
            assert_eq!(*cache.read(&path).unwrap().unwrap(), value + 1000);
        }
    }

    #[test]
    fn every_change_is_seen_however_fast_they_come() {
        let dir = tempfile::tempdir().unwrap();
        let (cache, path) = (Cache::<u64>::default(), dir.path().join("record.json"));
        for round in 0..3 {
            for value in 0..200 {
                write(dir.path(), value);
                assert_eq!(*cache.read(&path).unwrap().unwrap(), value);
                // As on a full disk: in its place, with the same length.
                let inside = crate::store::open_dir(dir.path()).unwrap();
                update_json_at(&inside, "record.json", &(value ^ 1)).unwrap();
                std::fs::write(&path, format!("{}\n", value ^ 1)).unwrap();
                assert_eq!(*cache.read(&path).unwrap().unwrap(), value ^ 1, "round {round}");
            }
            settle();
            assert_eq!(*cache.read(&path).unwrap().unwrap(), 199 ^ 1);
        }
    }

    #[test]
    fn what_is_gone_is_none_and_what_is_broken_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let (cache, path) = (Cache::<u64>::default(), dir.path().join("record.json"));
        assert_eq!(cache.read(&path).unwrap(), None);
        write(dir.path(), 1);
        settle();
        assert!(cache.read(&path).unwrap().is_some());
        std::fs::write(&path, "{").unwrap();
        assert_eq!(cache.read(&path).unwrap_err().kind(), io::ErrorKind::InvalidData);
        std::fs::remove_file(&path).unwrap();
        assert_eq!(cache.read(&path).unwrap(), None);
        assert!(cache.lock().0.is_empty());
    }

    #[test]
    fn what_is_gone_is_forgotten_without_being_asked_for() {
        let cache = Cache::<u64>::default();
        let stamp = Stamp { file: (0, 0), size: 0, changed: (0, 0), modified: (0, 0) };
        for number in 0..10 * FEW {
            cache.remember(&PathBuf::from(format!("/no/such/file/{number}")), stamp, Arc::new(0));
        }
        assert!(cache.lock().0.len() <= FEW);
    }

    #[test]
    fn a_change_that_is_yet_to_come_is_not_settled() {
        let now = UNIX_EPOCH + Duration::from_secs(1000);
        let changed =
            |seconds, nanoseconds| Stamp { file: (1, 1), size: 1, changed: (seconds, nanoseconds), modified: (0, 0) };
        assert!(changed(999, 0).is_settled(now));
        for late in [changed(1000, 0), changed(999, 950_000_000), changed(2000, 0), changed(-1, 0)] {
            assert!(!late.is_settled(now), "{late:?}");
        }
    }
}
