//! The pods and networks of other owners, as their records tell: a run's pod may be linked to the agent's, or be in its
//! network, and the other way round.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use runtime::network::wanted;
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

/// What there is of other owners.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Others {
    /// Their pods.
    pub pods: Pods,
    /// The names of the networks that they want.
    pub networks: BTreeSet<String>,
}

/// Follows the records of other owners.
#[derive(Debug)]
pub struct Abroad {
    others: watch::Receiver<Arc<Others>>,
    task: JoinHandle<()>,
}

impl Drop for Abroad {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Abroad {
    /// Follows what is not `owner`'s, and rings the bell when it changes.
    pub fn follow(settings: &Settings, owner: &str, bell: Arc<Notify>) -> Self {
        let (tell, others) = watch::channel(Arc::default());
        let task = tokio::spawn(follow(settings.clone(), owner.to_owned(), tell, bell));
        Abroad { others, task }
    }

    /// What was seen last.
    pub fn others(&self) -> Arc<Others> {
        self.others.borrow().clone()
    }
}

async fn follow(settings: Settings, owner: String, tell: watch::Sender<Arc<Others>>, bell: Arc<Notify>) {
    let directory = record::directory(&settings.state_dir);
    let networks = wanted::directory(&settings.state_dir);
    let mut watch = Watch::new().map_err(|error| tracing::warn!(%error, "no inotify: looking every second")).ok();
    loop {
        if let Some(watch) = &mut watch {
            // They are made with the first record, below directories that are there, or will be soon.
            let parents = [&directory, &networks].into_iter().filter_map(|it| it.parent().map(PathBuf::from));
            let of_names = [directory.clone(), networks.clone()].into_iter().chain(parents);
            watch.set(&Places { of_names: of_names.collect(), ..Places::default() });
        }
        let (settings, owner) = (settings.clone(), owner.clone());
        let read = tokio::task::spawn_blocking(move || look(&settings, &owner)).await;
        match read {
            Ok(Ok(others)) => {
                let changed = tell.send_if_modified(|before| {
                    let changed = **before != others;
                    if changed {
                        *before = Arc::new(others);
                    }
                    changed
                });
                if changed {
                    bell.notify_one();
                }
            }
            Ok(Err(error)) => tracing::warn!(%error, "the pods and networks of other owners cannot be looked at"),
            Err(error) => tracing::error!(%error, "the look at other owners broke off"),
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

fn look(settings: &Settings, owner: &str) -> anyhow::Result<Others> {
    let pods = read(settings, |it| it != owner)?;
    let networks = wanted::networks(&settings.state_dir)?;
    let others = networks.into_iter().filter(|(it, _)| it.to_string() != owner);
    Ok(Others { pods, networks: others.map(|(_, spec)| spec.name).collect() })
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
