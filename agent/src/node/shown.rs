//! What the agent shows besides its pods: manifests that are not good, as objects of their own, and the objects that pods
//! refer to.
//!
//! An invalid manifest is a pod that is called like its file, has failed, and says why in its status: `web.yaml 0/0
//! Invalid`. The pods that it held before go on beside it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ConfigMap, Node, PersistentVolumeClaim, Pod, PodSpec, PodStatus, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use manifests::Object;
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;

use super::desired::{Desired, FILE, Name, name_of};
use crate::engine::config::Settings;
use crate::engine::config::names::PodKey;
use crate::engine::notice::{Event, Notice};
use crate::engine::record::{self, PodRecord};
use crate::net::ambassador::object::Ambassador;
use crate::net::{Inputs, ambassador, services};
use crate::store::{Kind, Store};

/// The reason of a manifest that is not good.
pub const INVALID: &str = "Invalid";

/// The reason of a source that cannot be looked at.
const UNREADABLE: &str = "Unreadable";

/// The longest name of a pod.
const LONGEST_NAME: usize = 253;

/// What is shown.
#[derive(Debug)]
pub struct Shown {
    store: Store,
    notices: mpsc::Sender<Notice>,
    owner: String,
    /// The object of each manifest that is not good, by path.
    invalid: BTreeMap<String, Pod>,
    /// What was told of manifests that are good.
    warnings: BTreeMap<String, Vec<String>>,
    objects: BTreeSet<(Kind, Name)>,
    /// What is shown of Services and policies.
    network: BTreeSet<(Kind, Name)>,
}

/// Whether an object stands for a manifest, and is no pod that could run.
pub fn is_shown(pod: &Pod) -> bool {
    let reason = pod.status.as_ref().and_then(|status| status.reason.as_deref());
    let empty = pod.spec.as_ref().is_none_or(|spec| spec.containers.is_empty());
    empty && matches!(reason, Some(INVALID | UNREADABLE))
}

impl Shown {
    /// Shows in `store` and tells to `notices`.
    pub fn new(store: Store, notices: mpsc::Sender<Notice>, owner: String) -> Self {
        let (invalid, warnings) = (BTreeMap::new(), BTreeMap::new());
        Shown { store, notices, owner, invalid, warnings, objects: BTreeSet::new(), network: BTreeSet::new() }
    }

    /// Shows what speaks against manifests now.
    pub async fn judge(&mut self, desired: &Desired, settings: &Settings) {
        let verdicts = verdicts(desired);
        let gone: Vec<String> = self.invalid.keys().filter(|file| !verdicts.contains_key(*file)).cloned().collect();
        for file in gone {
            if let Some(pod) = self.invalid.remove(&file) {
                self.hide(&pod, settings);
            }
        }
        for (file, (reason, why)) in verdicts {
            let before = self.invalid.get(&file).and_then(|pod| pod.status.as_ref()?.message.as_deref());
            if before != Some(why.as_str()) {
                self.show(&file, reason, &why, desired, settings).await;
            }
        }
        let warnings = desired.files().iter().map(|(file, it)| (file.clone(), it.warnings.clone())).collect();
        let before = std::mem::replace(&mut self.warnings, warnings);
        for (file, it) in desired.files().iter().filter(|(file, it)| before.get(*file) != Some(&it.warnings)) {
            let pod = it.good.iter().find_map(|located| pod_of(&located.object));
            for warning in &it.warnings {
                match pod {
                    Some(pod) => self.tell(pod, Event::Warning(warning.clone())).await,
                    None => tracing::warn!(file, "{warning}"),
                }
            }
        }
    }

    async fn show(&mut self, file: &str, reason: &'static str, why: &str, desired: &Desired, settings: &Settings) {
        let since = self.invalid.get(file).and_then(|pod| pod.metadata.creation_timestamp.clone());
        let pod = object(file, reason, why, since, desired);
        let log_directory = PathBuf::new();
        let (owner, boot_id) = (self.owner.clone(), settings.boot_id.clone());
        let record = PodRecord { pod: pod.clone(), owner, boot_id, log_directory };
        if let Err(error) = record.write(&settings.state_dir) {
            tracing::warn!(%error, "verbs without the agent's help will not see that a manifest is invalid");
        }
        let failed = |reason: &str, message: String| Event::Failed {
            container: None,
            reason: reason.to_owned(),
            message,
            fatal: false,
        };
        self.tell(&pod, failed(reason, why.to_owned())).await;
        let held = desired.files().get(file).into_iter().flat_map(|it| &it.good);
        for pod in held.filter_map(|located| pod_of(&located.object)) {
            let message = format!("the newest version of {file} is not used, and the pod goes on as it was:\n{why}");
            self.tell(pod, failed("InvalidManifest", message)).await;
        }
        self.store.put(pod.clone());
        self.invalid.insert(file.to_owned(), pod);
    }

    fn hide(&self, pod: &Pod, settings: &Settings) {
        let key = PodKey::of(pod);
        tracing::info!(file = super::file_of(pod), "the manifest is good again, or gone");
        self.store.remove::<Pod>(&key.namespace, &key.name);
        if let Err(error) = record::remove(&settings.state_dir, &key.uid) {
            tracing::warn!(%error, "the record of a manifest that was invalid cannot be removed");
        }
    }

    /// The node as it is here.
    pub fn node(&self, name: &str) -> Option<Arc<Node>> {
        self.store.get::<Node>("", name)
    }

    /// Shows a pod that has no worker.
    pub fn put(&self, pod: Pod) {
        self.store.put(pod);
    }

    /// The object of that name.
    pub fn find(&self, name: &Name) -> Option<&Pod> {
        self.invalid.values().find(|pod| {
            let key = PodKey::of(pod);
            (key.namespace, key.name) == *name
        })
    }

    /// Forgets what an agent before this one has shown.
    pub fn forget_former(&self, settings: &Settings) -> Result<(), record::RecordError> {
        let (records, _) = record::list(&settings.state_dir)?;
        for record in records.iter().filter(|it| it.owner == self.owner && is_shown(&it.pod)) {
            record::remove(&settings.state_dir, record.pod.metadata.uid.as_deref().unwrap_or_default())?;
        }
        Ok(())
    }

    /// Shows the objects that pods refer to; Secrets are not shown.
    pub fn objects(&mut self, desired: &Desired) {
        let mut shown = BTreeSet::new();
        for located in desired.files().values().flat_map(|file| &file.good) {
            let kind = match &located.object {
                Object::ConfigMap(map) => {
                    self.store.put(ConfigMap::clone(map));
                    Kind::ConfigMap
                }
                Object::PersistentVolumeClaim(claim) => {
                    self.store.put(PersistentVolumeClaim::clone(claim));
                    Kind::PersistentVolumeClaim
                }
                Object::Pod(_)
                | Object::Secret(_)
                | Object::Service(_)
                | Object::NetworkPolicy(_)
                | Object::Network(_)
                | Object::Ambassador(_) => continue,
            };
            shown.insert((kind, name_of(&located.object)));
        }
        for (kind, (namespace, name)) in self.objects.difference(&shown) {
            match kind {
                Kind::ConfigMap => drop(self.store.remove::<ConfigMap>(namespace, name)),
                _ => drop(self.store.remove::<PersistentVolumeClaim>(namespace, name)),
            }
        }
        self.objects = shown;
    }

    /// Shows Services with what they got, the endpoints behind them, policies, and ambassadors with how their pods are.
    pub fn network(&mut self, inputs: &Inputs) {
        let mut shown = BTreeSet::new();
        let now = Timestamp::from_second(Timestamp::now().as_second()).unwrap_or_default();
        for (name, service) in &inputs.declared.services {
            let none = Vec::new();
            let addresses = inputs.service_addresses.get(name).unwrap_or(&none);
            let problem = inputs.service_problems.get(name).map(String::as_str);
            let since = self.store.get::<Service>(&name.0, &name.1).and_then(|it| services::shown::since(&it));
            self.store.put(services::shown::service(service, addresses, problem, since.unwrap_or(now)));
            shown.insert((Kind::Service, name.clone()));
        }
        for (name, policy) in &inputs.declared.policies {
            self.store.put(policy.clone());
            shown.insert((Kind::NetworkPolicy, name.clone()));
        }
        for slice in services::shown::slices(inputs) {
            let meta = &slice.metadata;
            let name = (meta.namespace.clone().unwrap_or_default(), meta.name.clone().unwrap_or_default());
            shown.insert((Kind::EndpointSlice, name));
            self.store.put(slice);
        }
        let config = |(namespace, name): &Name| self.store.get::<ConfigMap>(namespace, name).map(Arc::unwrap_or_clone);
        for ambassador in ambassador::object::all(inputs, config) {
            let meta = &ambassador.metadata;
            let name = (meta.namespace.clone().unwrap_or_default(), meta.name.clone().unwrap_or_default());
            shown.insert((Kind::Ambassador, name));
            self.store.put(ambassador);
        }
        for (kind, (namespace, name)) in self.network.difference(&shown) {
            match kind {
                Kind::Ambassador => drop(self.store.remove::<Ambassador>(namespace, name)),
                Kind::Service => drop(self.store.remove::<Service>(namespace, name)),
                Kind::NetworkPolicy => drop(self.store.remove::<NetworkPolicy>(namespace, name)),
                _ => drop(self.store.remove::<EndpointSlice>(namespace, name)),
            }
        }
        self.network = shown;
    }

    /// Tells what has happened to a pod.
    pub async fn tell(&self, pod: &Pod, event: Event) {
        if self.notices.send(Notice { pod: PodKey::of(pod), event }).await.is_err() {
            tracing::debug!("nobody listens to the agent's notices");
        }
    }
}

/// What speaks against files and sources, by path.
fn verdicts(desired: &Desired) -> BTreeMap<String, (&'static str, String)> {
    let files = desired.files().iter().filter_map(|(file, it)| Some((file.clone(), (INVALID, it.invalid.clone()?))));
    let sources = desired.faults().iter().map(|(source, fault)| (source.clone(), (UNREADABLE, fault.clone())));
    files.chain(sources).collect()
}

fn pod_of(object: &Object) -> Option<&Pod> {
    match object {
        Object::Pod(pod) => Some(pod),
        _ => None,
    }
}

/// The object that stands for a manifest.
fn object(file: &str, reason: &str, why: &str, since: Option<Time>, desired: &Desired) -> Pod {
    let mut pod = Pod::default();
    let mut name = name_for(file);
    let taken = |name: &str| desired.pods().contains_key(&("default".to_owned(), name.to_owned()));
    while taken(&name) {
        name.push_str("-invalid");
    }
    let now = || Timestamp::from_second(Timestamp::now().as_second()).ok().map(Time);
    pod.metadata.namespace = Some("default".into());
    pod.metadata.name = Some(name);
    pod.metadata.uid = Some(uid_for(file));
    pod.metadata.creation_timestamp = since.or_else(now);
    pod.metadata.annotations = Some(BTreeMap::from([(FILE.to_owned(), file.to_owned())]));
    pod.spec = Some(PodSpec::default());
    pod.status = Some(PodStatus {
        phase: Some("Failed".into()),
        reason: Some(reason.to_owned()),
        message: Some(why.to_owned()),
        ..PodStatus::default()
    });
    pod
}

/// The name of a file as a pod may have it: `web.yaml` is one already.
fn name_for(file: &str) -> String {
    let last = file.trim_end_matches('/').rsplit('/').next().unwrap_or(file).to_lowercase();
    let fitting = |c: char| if c.is_ascii_alphanumeric() || c == '.' || c == '-' { c } else { '-' };
    let text: String = last.chars().map(fitting).take(LONGEST_NAME - "-invalid".len()).collect();
    let name = text.trim_matches(['-', '.']);
    if name.is_empty() { "manifest".to_owned() } else { name.to_owned() }
}

/// The same for the same file: whoever watches sees one object change.
fn uid_for(file: &str) -> String {
    let digest = Sha256::digest(file.as_bytes());
    let hex: String = digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    let part = |from: usize, to: usize| hex.get(from..to).unwrap_or_default();
    format!("{}-{}-8{}-8{}-{}", part(0, 8), part(8, 12), part(12, 15), part(15, 18), part(18, 30))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_have_names_that_pods_may_have() {
        let rows = [
            ("/etc/manifests/web.yaml", "web.yaml"),
            ("/m/My_Pod (1).yml", "my-pod--1-.yml"),
            ("http://host/pods/", "pods"),
            ("/m/_.yaml", "yaml"),
            ("/m/", "m"),
            ("/", "manifest"),
        ];
        for (file, name) in rows {
            assert_eq!(name_for(file), name, "{file}");
        }
        assert_eq!(name_for(&"x".repeat(300)).len(), 245);
        assert_eq!(uid_for("a").len(), 36);
        assert_ne!(uid_for("a"), uid_for("b"));
    }
}
