//! A directory of manifests, or a single one.
//!
//! Whatever way an editor, a shell, git or a ConfigMap's mount puts a file there, it is read when it is whole: files are
//! waited for while somebody writes them, and a directory that is a link, or whose files are, is watched where they lead.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use rustix::fs::{Mode, OFlags};
use tokio::sync::{mpsc, watch};

use super::watch::{Places, Watch};
use super::{Content, Files, LARGEST, Snapshot};
use crate::sources::is_manifest;

/// How often to look where inotify cannot be had.
const WITHOUT_INOTIFY: Duration = Duration::from_secs(1);

/// Stamps of files are as coarse as the kernel's tick: one that was read this soon after it changed may have changed
/// since without showing it.
const COARSE: Duration = Duration::from_millis(100);

/// How long an empty file is looked at again: its writer has emptied it, and the kernel tells of that, and stamps the file,
/// only when it is done.
const EMPTIED: Duration = Duration::from_secs(1);

/// How often a look is taken again because something happened meanwhile: what never rests is told as it is.
const AGAIN: u32 = 20;

/// Tells what is there, now and whenever it has changed.
pub async fn follow(path: PathBuf, every: Duration, mut look: watch::Receiver<()>, told: mpsc::Sender<Snapshot>) {
    let mut watch = Watch::new().map_err(|error| tracing::warn!(%error, "no inotify: looking every second")).ok();
    let mut scanner = Scanner { path: path.clone(), known: BTreeMap::new(), empty: BTreeMap::new(), unsure: false };
    let (mut before, mut again) = (None, 0);
    loop {
        // Before the look, so that nothing between the two is missed.
        if let Some(watch) = &mut watch {
            watch.set(&places(&path));
        }
        let files = scanner.scan(watch.as_ref()).map_err(|error| said(&path, &error));
        // A file that was opened for writing between the two may have been read in half.
        let disturbed = watch.as_mut().is_some_and(Watch::catch_up);
        if disturbed && again < AGAIN {
            again += 1;
            tokio::task::yield_now().await;
            continue;
        }
        again = 0;
        let snapshot = Snapshot { source: path.display().to_string(), files };
        if before.as_ref() != Some(&snapshot) {
            before = Some(snapshot.clone());
            if told.send(snapshot).await.is_err() {
                return;
            }
        }
        if disturbed {
            continue;
        }
        let every = if scanner.unsure { COARSE } else { every };
        let changed = async {
            match &mut watch {
                Some(watch) => tokio::time::timeout(every, watch.changed()).await.unwrap_or_default(),
                None => tokio::time::sleep(every.min(WITHOUT_INOTIFY)).await,
            }
        };
        tokio::select! {
            () = changed => {}
            Ok(()) = look.changed() => {}
        }
    }
}

fn said(path: &Path, error: &io::Error) -> String {
    format!("cannot read the manifests at {}: {error}; what came from there goes on as it is", path.display())
}

/// Every directory in which a change can change what is found at `path`.
fn places(path: &Path) -> Places {
    let parent = |path: &Path| path.parent().map(Path::to_owned);
    let above: BTreeSet<PathBuf> =
        parent(path).into_iter().chain(path.canonicalize().ok().as_deref().and_then(parent)).collect();
    let mut dirs = BTreeSet::new();
    if path.is_dir() {
        dirs.insert(path.to_owned());
        for entry in std::fs::read_dir(path).into_iter().flatten().flatten() {
            let is_link = entry.file_type().is_ok_and(|kind| kind.is_symlink());
            if let Some(real) = is_link.then(|| entry.path().canonicalize().ok()).flatten() {
                dirs.extend(real.parent().map(Path::to_owned));
            }
        }
        return Places { of_names: above, of_files: dirs };
    }
    Places { of_names: dirs, of_files: above }
}

/// What tells one version of a file from another without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    file: (u64, u64),
    size: u64,
    changed: (i64, i64),
    modified: (i64, i64),
}

impl Stamp {
    fn of(meta: &std::fs::Metadata) -> Self {
        Stamp {
            file: (meta.dev(), meta.ino()),
            size: meta.size(),
            changed: (meta.ctime(), meta.ctime_nsec()),
            modified: (meta.mtime(), meta.mtime_nsec()),
        }
    }

    /// Whether the file, read at `now`, could have changed again and look the same.
    fn is_fresh(self, now: SystemTime) -> bool {
        let (seconds, nanoseconds) = self.changed;
        let (Ok(seconds), Ok(nanoseconds)) = (u64::try_from(seconds), u32::try_from(nanoseconds)) else { return true };
        let changed = SystemTime::UNIX_EPOCH + Duration::new(seconds, nanoseconds);
        now.duration_since(changed).is_ok_and(|age| age < COARSE)
    }
}

struct Scanner {
    path: PathBuf,
    /// What was read of each file that has not changed since.
    known: BTreeMap<PathBuf, (Stamp, Content)>,
    /// Since when files have been empty.
    empty: BTreeMap<PathBuf, Instant>,
    /// Some file may only just be about to be written.
    unsure: bool,
}

impl Scanner {
    fn scan(&mut self, watch: Option<&Watch>) -> io::Result<Files> {
        let mut files = Files::new();
        let mut known = BTreeMap::new();
        self.unsure = false;
        for path in self.candidates()? {
            let real = path.canonicalize().unwrap_or_else(|_| path.clone());
            let written = |watch: &Watch| watch.is_being_written(&path) || watch.is_being_written(&real);
            let content =
                if watch.is_some_and(written) { Some(Content::Unfinished) } else { self.read(&path, &mut known) };
            if let Some(content) = content {
                files.insert(path.display().to_string(), content);
            }
        }
        self.known = known;
        Ok(files)
    }

    /// The files to read: a directory's manifests, or the path itself. A single file that is gone is none; a directory
    /// that is gone is an error, for what is not mounted has not been removed.
    fn candidates(&self) -> io::Result<Vec<PathBuf>> {
        match std::fs::metadata(&self.path) {
            Ok(meta) if meta.is_dir() => {}
            Ok(_) => return Ok(vec![self.path.clone()]),
            Err(error) if error.kind() == io::ErrorKind::NotFound && is_manifest(&self.path) => return Ok(vec![]),
            Err(error) => return Err(error),
        }
        let mut found = Vec::new();
        for entry in std::fs::read_dir(&self.path)? {
            let path = entry?.path();
            if is_manifest(&path) {
                found.push(path);
            }
        }
        found.sort();
        Ok(found)
    }

    /// Reads a file, unless it is what it was; none when it has gone meanwhile.
    fn read(&mut self, path: &Path, known: &mut BTreeMap<PathBuf, (Stamp, Content)>) -> Option<Content> {
        let gone = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
        let meta = match std::fs::metadata(path) {
            Ok(meta) => meta,
            // A link that leads nowhere is there, and its manifest is not.
            Err(error) if gone(&error) && std::fs::symlink_metadata(path).is_err() => return None,
            Err(error) => return Some(Content::Unreadable(format!("cannot be looked at: {error}"))),
        };
        let stamp = Stamp::of(&meta);
        if let Some((before, content)) = self.known.get(path).filter(|(before, _)| *before == stamp) {
            known.insert(path.to_owned(), (*before, content.clone()));
            return Some(content.clone());
        }
        let now = SystemTime::now();
        let content = match text(path, &meta) {
            Ok(content) => content,
            Err(error) if gone(&error) => return None,
            Err(error) => Content::Unreadable(format!("cannot be read: {error}")),
        };
        let is_empty = matches!(&content, Content::Text(text) if text.is_empty());
        if !is_empty {
            self.empty.remove(path);
        }
        let just_emptied =
            is_empty && self.empty.entry(path.to_owned()).or_insert_with(Instant::now).elapsed() < EMPTIED;
        let changed = std::fs::metadata(path).map_or(true, |meta| Stamp::of(&meta) != stamp);
        if just_emptied || changed {
            self.unsure = true;
            return Some(Content::Unfinished);
        }
        if !stamp.is_fresh(now) {
            known.insert(path.to_owned(), (stamp, content.clone()));
        }
        Some(content)
    }
}

fn text(path: &Path, meta: &std::fs::Metadata) -> io::Result<Content> {
    let unreadable = |why: &str| Ok(Content::Unreadable(why.to_owned()));
    if meta.is_dir() {
        return unreadable("is a directory, not a manifest; directories are not searched in depth");
    }
    if !meta.is_file() {
        return unreadable("is no regular file");
    }
    // Should it have become a pipe meanwhile, opening it does not wait.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = std::fs::File::from(rustix::fs::open(path, flags, Mode::empty())?);
    let mut bytes = Vec::new();
    file.take(LARGEST + 1).read_to_end(&mut bytes)?;
    if u64::try_from(bytes.len()).is_ok_and(|size| size > LARGEST) {
        return unreadable("is larger than 10 MiB, which no manifest is");
    }
    match String::from_utf8(bytes) {
        Ok(text) => Ok(Content::Text(text.into())),
        Err(error) => {
            let at = error.utf8_error().valid_up_to();
            unreadable(&format!("is not UTF-8 at byte {at}; save the file as UTF-8"))
        }
    }
}
