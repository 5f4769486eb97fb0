//! Keeps the containers' log files: compresses those that were put aside, links them where collectors look, and puts
//! them aside for a runtime that does not do it itself.
//!
//! Coracle's own shims put a log aside while they write it. Elsewhere that is done as kubelet does it: the file is
//! renamed, then the runtime is asked to open its log anew.

mod compress;
mod links;

use std::collections::HashMap;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use cri_proto::cri;
use futures_util::StreamExt as _;
use manifests::kubelet::ContainerLogs;
use tokio::sync::{Notify, watch};

use super::config::Config;
use super::ours::Ours;
use crate::engine::config::names::{CONTAINER_NAME, POD_NAME, POD_NAMESPACE, POD_UID, PodKey, log_path};

/// How long to wait after something has happened: much happens at once.
const SETTLE: Duration = Duration::from_millis(100);

/// Whoever keeps the logs.
#[derive(Debug)]
pub struct LogKeeper {
    /// The containers.
    pub ours: Ours,
    /// It puts logs aside itself.
    pub rotates: bool,
    /// The pods' log directories are in it.
    pub log_dir: PathBuf,
    /// Where links to the logs are made; nowhere without it.
    pub links: Option<PathBuf>,
    /// The settings, as they are from time to time.
    pub settings: watch::Receiver<Arc<Config>>,
    /// Rung when containers were started or are gone.
    pub bell: Arc<Notify>,
}

/// A container's log.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Log {
    pod: PodKey,
    container: String,
    id: String,
    path: PathBuf,
    running: bool,
}

impl LogKeeper {
    /// Works for ever.
    pub async fn run(self) {
        let mut seen = HashMap::new();
        let mut looked_at = Instant::now();
        loop {
            let logs = self.settings.borrow().logs;
            // However often the bell rings, what is done now and then is done.
            let left = logs.interval.saturating_sub(looked_at.elapsed());
            let rung = tokio::select! {
                biased;
                () = tokio::time::sleep(left) => false,
                () = self.bell.notified() => { tokio::time::sleep(SETTLE).await; true }
            };
            // Our own runtime's containers are asked for only when something has happened: in between, looking at the
            // directories is enough.
            if rung || !self.rotates {
                self.look_at_containers(logs).await;
            }
            if !rung {
                looked_at = Instant::now();
                let (dir, links) = (self.log_dir.clone(), self.links.clone());
                let looked = tokio::task::spawn_blocking(move || {
                    compress::below(&dir, &mut seen);
                    if let Some(links) = links {
                        told(links::clean(&links, &dir));
                    }
                    seen
                });
                seen = looked.await.unwrap_or_default();
            }
        }
    }

    async fn look_at_containers(&self, limits: ContainerLogs) {
        let containers = match self.ours.containers().await {
            Ok(containers) => containers,
            Err(error) => {
                tracing::debug!(%error, "the containers' logs cannot be looked at");
                return;
            }
        };
        let logs: Vec<Log> = containers.iter().filter_map(|it| Log::of(it, &self.log_dir)).collect();
        if let Some(links) = self.links.clone() {
            let logs = logs.clone();
            // The log of a container that has just been made is there before its container runs.
            let _ = tokio::task::spawn_blocking(move || told(links::make(&links, &logs))).await;
        }
        if let (Some(max_size), false) = (limits.max_size, self.rotates) {
            let running = logs.into_iter().filter(|log| log.running);
            let rotations = futures_util::stream::iter(running.map(|log| self.rotate(log, max_size, limits.max_files)));
            rotations.buffer_unordered(limits.workers as usize).collect::<()>().await;
        }
    }

    /// Puts a log aside when it is too large.
    async fn rotate(&self, log: Log, max_size: u64, max_files: u32) {
        if std::fs::metadata(&log.path).map_or(0, |it| it.len()) < max_size {
            return;
        }
        if let Err(error) = self.put_aside(&log, max_files).await {
            let pod = format!("{}/{}", log.pod.namespace, log.pod.name);
            tracing::warn!(pod, container = log.container, %error, "the log is too large and cannot be put aside");
        }
    }

    async fn put_aside(&self, log: &Log, max_files: u32) -> anyhow::Result<()> {
        let path = log.path.clone();
        let aside = tokio::task::spawn_blocking(move || rename(&path, max_files)).await??;
        let request = cri::ReopenContainerLogRequest { container_id: log.id.clone() };
        if let Err(status) = self.ours.cri.runtime.clone().reopen_container_log(request).await {
            // The runtime still writes to the old file: it has to be found where it was.
            std::fs::rename(&aside, &log.path)?;
            anyhow::bail!("the runtime does not open its log anew: {}", status.message());
        }
        Ok(())
    }
}

fn told(made: std::io::Result<()>) {
    if let Err(error) = made {
        tracing::warn!(%error, "the logs cannot be linked to");
    }
}

/// Makes room and renames a log. Answers with its new path.
fn rename(path: &Path, max_files: u32) -> std::io::Result<PathBuf> {
    let (Some(dir), Some(live)) = (path.parent(), path.file_name().and_then(|it| it.to_str())) else {
        return Err(std::io::ErrorKind::InvalidInput.into());
    };
    let fd = OwnedFd::from(std::fs::File::open(dir)?);
    let kept = runtime::logs::kept(fd.as_fd(), live)?;
    let kept = runtime::logs::remove_excess(fd.as_fd(), live, kept, (max_files as usize).saturating_sub(2))?;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |it| it.as_secs());
    Ok(dir.join(runtime::logs::rename_aside(fd.as_fd(), live, &kept, i64::try_from(now).unwrap_or(i64::MAX))?))
}

impl Log {
    /// The log of a container of a pod.
    fn of(container: &cri::Container, log_dir: &Path) -> Option<Log> {
        let label = |key: &str| container.labels.get(key).cloned();
        let pod = PodKey { namespace: label(POD_NAMESPACE)?, name: label(POD_NAME)?, uid: label(POD_UID)? };
        let name = label(CONTAINER_NAME)?;
        let attempt = container.metadata.as_ref()?.attempt;
        let path = pod.log_directory(log_dir).join(log_path(&name, attempt));
        let running = container.state() == cri::ContainerState::ContainerRunning;
        Some(Log { pod, container: name, id: container.id.clone(), path, running })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_log_is_renamed_and_the_oldest_goes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.log");
        for name in ["0.log", "0.log.20200101-000000.gz", "0.log.20210101-000000"] {
            std::fs::write(dir.path().join(name), name).unwrap();
        }
        let aside = rename(&path, 3).unwrap();
        assert_eq!(std::fs::read_to_string(&aside).unwrap(), "0.log");
        assert!(!path.exists() && !dir.path().join("0.log.20200101-000000.gz").exists());
        assert!(dir.path().join("0.log.20210101-000000").exists());
    }
}
