//! The pods of other owners, as their records tell: a run's pod may be linked to the agent's, and the other way round.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

use crate::engine::config::Settings;
use crate::engine::config::names::PodKey;
use crate::engine::record;
use crate::node::desired::Name;
use crate::node::shown::is_shown;
use crate::node::sources::watch::{Places, Watch};

/// How long more changes are waited for after one: records come in numbers.
const GATHER: Duration = Duration::from_millis(50);

/// How often to look without a reason; and where the kernel cannot tell of changes.
const LOOK: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_secs(1);

/// Pods by namespace and name.
pub type Pods = BTreeMap<Name, Arc<Pod>>;

/// Follows the records of other owners' pods.
#[derive(Debug)]
pub struct Abroad {
    pods: watch::Receiver<Arc<Pods>>,
    task: JoinHandle<()>,
}

impl Drop for Abroad {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Abroad {
    /// Follows the pods that are not `owner`'s, and rings the bell when they change.
    pub fn follow(settings: &Settings, owner: &str, bell: Arc<Notify>) -> Self {
        let (tell, pods) = watch::channel(Arc::default());
        let task = tokio::spawn(follow(settings.clone(), owner.to_owned(), tell, bell));
        Abroad { pods, task }
    }

    /// The pods as they were seen last.
    pub fn pods(&self) -> Arc<Pods> {
        self.pods.borrow().clone()
    }
}

async fn follow(settings: Settings, owner: String, tell: watch::Sender<Arc<Pods>>, bell: Arc<Notify>) {
    let directory = record::directory(&settings.state_dir);
    let mut watch = Watch::new().map_err(|error| tracing::warn!(%error, "no inotify: looking every second")).ok();
    loop {
        if let Some(watch) = &mut watch {
            // It is made with the first record, below a directory that is there.
            let of_names = [Some(directory.clone()), directory.parent().map(PathBuf::from)].into_iter().flatten();
            watch.set(&Places { of_names: of_names.collect(), ..Places::default() });
        }
        let (settings, owner) = (settings.clone(), owner.clone());
        let read = tokio::task::spawn_blocking(move || read(&settings, |it| it != owner)).await;
        match read {
            Ok(Ok(pods)) => {
                let changed = tell.send_if_modified(|before| {
                    let changed = **before != pods;
                    if changed {
                        *before = Arc::new(pods);
                    }
                    changed
                });
                if changed {
                    bell.notify_one();
                }
            }
            Ok(Err(error)) => tracing::warn!(%error, "the pods of other owners cannot be looked at"),
            Err(error) => tracing::error!(%error, "the look at the pods of other owners broke off"),
        }
        match &mut watch {
            Some(watch) => {
                if tokio::time::timeout(LOOK, watch.changed()).await.is_ok() {
                    tokio::time::sleep(GATHER).await;
                }
            }
            None => tokio::time::sleep(POLL).await,
        }
    }
}

/// The pods of some owners, as their records have them.
pub fn read(settings: &Settings, whose: impl Fn(&str) -> bool) -> Result<Pods, record::RecordError> {
    let (records, _) = record::list_in_boot(&settings.state_dir, &settings.boot_id)?;
    let mut pods = Pods::new();
    for record in records.into_iter().filter(|record| whose(&record.owner) && !is_shown(&record.pod)) {
        let key = PodKey::of(&record.pod);
        let name = (key.namespace, key.name);
        // Of two with one name the one that lives counts.
        let lives = |pod: &Pod| pod.status.as_ref().and_then(|it| it.phase.as_deref()) == Some("Running");
        if pods.get(&name).is_none_or(|before| !lives(before)) {
            pods.insert(name, Arc::new(record.pod));
        }
    }
    Ok(pods)
}
