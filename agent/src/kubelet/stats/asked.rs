//! What there is on the filesystems of volumes, of which one may not answer: a network's whose server is gone has who asks
//! it wait for ever.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::disk::{self, Space};

/// How long an answer is waited for, of all volumes together.
const PATIENCE: Duration = Duration::from_secs(1);

/// The name of the threads that ask.
const THREAD: &str = "volume-space";

/// What volumes have answered. There is one question to each at a time, on a thread that ends with the answer.
#[derive(Debug, Default)]
pub struct Asked {
    volumes: Mutex<HashMap<PathBuf, Volume>>,
    answered: Condvar,
}

#[derive(Debug, Default)]
struct Volume {
    /// Since when it is being asked.
    since: Option<Instant>,
    last: Option<Space>,
}

impl Asked {
    /// Asks volumes, and forgets others. Of one that does not answer in time there is what it answered last, if anything.
    pub fn look(self: &Arc<Self>, paths: &BTreeSet<PathBuf>) -> HashMap<PathBuf, Space> {
        let mut volumes = self.volumes();
        volumes.retain(|path, volume| paths.contains(path) || volume.since.is_some());
        for path in paths {
            let volume = volumes.entry(path.clone()).or_default();
            if volume.since.is_none() && self.ask(path) {
                volume.since = Some(Instant::now());
            }
        }
        loop {
            let since = paths.iter().filter_map(|it| volumes.get(it)?.since).max();
            let left = since.map_or(Duration::ZERO, |it| PATIENCE.saturating_sub(it.elapsed()));
            if left.is_zero() {
                break;
            }
            volumes = self.answered.wait_timeout(volumes, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        paths.iter().filter_map(|it| Some((it.clone(), volumes.get(it)?.last?))).collect()
    }

    /// Asks one: whoever calls holds the lock, so that the answer comes after the question.
    fn ask(self: &Arc<Self>, path: &Path) -> bool {
        let (this, path) = (Arc::clone(self), path.to_owned());
        let ask = move || {
            let space = disk::space(&path);
            this.volumes().insert(path, Volume { since: None, last: space });
            this.answered.notify_all();
        };
        let started = std::thread::Builder::new().name(THREAD.into()).spawn(ask);
        started.inspect_err(|error| tracing::debug!(%error, "a volume is not asked what there is on it")).is_ok()
    }

    fn volumes(&self) -> MutexGuard<'_, HashMap<PathBuf, Volume>> {
        self.volumes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs::File;
    use std::os::fd::AsRawFd as _;

    use rustix::mount::{MountFlags, UnmountFlags};

    use super::*;

    fn asking() -> usize {
        let threads = std::fs::read_dir("/proc/self/task").unwrap().flatten();
        threads.filter(|it| std::fs::read_to_string(it.path().join("comm")).is_ok_and(|it| it.trim() == THREAD)).count()
    }

    /// Mounts a file system whose server never says a word; it ends with what is returned.
    fn hang(target: &Path) -> Option<File> {
        let server = File::options().read(true).write(true).open("/dev/fuse").ok()?;
        let options = format!("fd={},rootmode=40000,user_id=0,group_id=0", server.as_raw_fd());
        let options = std::ffi::CString::new(options).unwrap();
        rustix::mount::mount("none", target, "fuse", MountFlags::empty(), options.as_c_str()).ok().map(|()| server)
    }

    #[test]
    fn a_volume_that_does_not_answer_holds_up_nobody_and_is_asked_once() {
        let [sound, hung] = [(), ()].map(|()| tempfile::tempdir().unwrap());
        let paths = BTreeSet::from([sound.path().to_owned(), hung.path().to_owned()]);
        let asked = Arc::new(Asked::default());
        assert_eq!(asked.look(&paths).len(), 2);
        assert_eq!(asked.look(&BTreeSet::from([sound.path().to_owned()])).len(), 1);
        let Some(server) = hang(hung.path()) else {
            return eprintln!("skipped: a file system that does not answer takes root and /dev/fuse");
        };
        for _ in 0..3 {
            let told = asked.look(&paths);
            assert!(told.contains_key(sound.path()) && !told.contains_key(hung.path()), "{told:?}");
        }
        // A thread that has answered takes a moment to end.
        let end = Instant::now() + Duration::from_secs(60);
        while asking() > 1 && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(asking(), 1);
        drop(server);
        rustix::mount::unmount(hung.path(), UnmountFlags::DETACH).unwrap();
        while asking() > 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
        // It answers again; from now on that is told while it does not.
        let before = asked.look(&paths)[hung.path()];
        let server = hang(hung.path()).unwrap();
        assert_eq!(asked.look(&paths)[hung.path()].of_all().time, before.of_all().time);
        drop(server);
        rustix::mount::unmount(hung.path(), UnmountFlags::DETACH).unwrap();
    }
}
