//! Files that were replaced and that a loss of power may take until they are on the disk: they get there together, a
//! little later, so that no pod waits for the disk on its way.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::task::JoinHandle;

/// How long files are collected before they are synced: much less than the kernel would take by itself.
const COLLECT: Duration = Duration::from_secs(2);

/// Takes the names of files; the task ends with this.
#[derive(Debug)]
pub struct Settler {
    files: UnboundedSender<PathBuf>,
    task: JoinHandle<()>,
}

impl Drop for Settler {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Settler {
    /// Begins to work.
    pub fn start() -> Self {
        let (files, told) = mpsc::unbounded_channel();
        Settler { files, task: tokio::spawn(work(told)) }
    }

    /// Has a file synced soon.
    pub fn settle(&self, file: PathBuf) {
        // The task ends only with this.
        let _ = self.files.send(file);
    }
}

async fn work(mut told: UnboundedReceiver<PathBuf>) {
    while let Some(first) = told.recv().await {
        tokio::time::sleep(COLLECT).await;
        let mut files = BTreeSet::from([first]);
        while let Ok(file) = told.try_recv() {
            files.insert(file);
        }
        // It has to be asked for once only: a panic in there would be told by its hook.
        let _ = tokio::task::spawn_blocking(move || files.into_iter().for_each(sync)).await;
    }
}

fn sync(path: PathBuf) {
    match File::open(&path).and_then(|file| file.sync_data()) {
        // Its pod is gone.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => {
            tracing::warn!(%error, path = %path.display(), "a pod's memory cannot be synced; a power cut may lose it");
        }
        Ok(()) => {}
    }
}
