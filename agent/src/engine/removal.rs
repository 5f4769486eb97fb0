//! The end of everything that a pod had.

use std::collections::HashMap;
use std::sync::PoisonError;

use cri_proto::cri;
use k8s_openapi::api::core::v1::Pod;

use super::config::names::{POD_UID, PodKey};
use super::{Engine, record};
use crate::host::teardown;

impl Engine {
    /// Removes everything of a pod that has ended: containers, sandboxes, volumes, logs and its record. Each part is
    /// tried whatever became of the others; the answer is what failed.
    pub async fn remove(&self, pod: &Pod) -> Vec<String> {
        let key = PodKey::of(pod);
        let settings = self.settings();
        let mut problems = self.remove_sandboxes(&key).await;
        // What still runs may use the volumes; and what a driver has mounted, it has to unmount.
        if problems.is_empty()
            && let Some(csi) = self.csi()
        {
            problems.extend(csi.unpublish(&key.uid).await);
        }
        if problems.is_empty() {
            let logs = key.log_directory(&settings.log_dir);
            let (root, uid) = (settings.root_dir.clone(), key.uid.clone());
            let gone = tokio::task::spawn_blocking(move || {
                [teardown::remove_pod_dirs(&root, &uid), teardown::remove_pod_logs(&logs)]
            });
            match gone.await {
                Ok(results) => {
                    problems.extend(results.into_iter().filter_map(Result::err).map(|error| error.to_string()));
                }
                Err(error) => problems.push(error.to_string()),
            }
        }
        if problems.is_empty()
            && let Some(cgroups) = self.pod_cgroups()
        {
            problems.extend(cgroups.remove(&key.uid).err().map(|error| error.to_string()));
        }
        // The record is how a later clean-up finds the rest.
        if problems.is_empty() {
            problems.extend(record::remove(&settings.state_dir, &key.uid).err().map(|error| error.to_string()));
        }
        if problems.is_empty()
            && let Some(store) = self.store()
            && store.get::<Pod>(&key.namespace, &key.name).is_some_and(|shown| PodKey::of(&shown) == key)
        {
            store.remove::<Pod>(&key.namespace, &key.name);
        }
        if problems.is_empty() {
            self.release_devices(&key.uid);
            self.inner.given.write().unwrap_or_else(PoisonError::into_inner).remove(&key.uid);
        }
        problems
    }

    async fn remove_sandboxes(&self, key: &PodKey) -> Vec<String> {
        let label_selector = HashMap::from([(POD_UID.to_owned(), key.uid.clone())]);
        let filter = Some(cri::PodSandboxFilter { label_selector, ..Default::default() });
        let listed = self.cri().runtime.clone().list_pod_sandbox(cri::ListPodSandboxRequest { filter }).await;
        let sandboxes = match listed {
            Ok(answer) => answer.into_inner().items,
            Err(status) => return vec![format!("cannot list the sandboxes of pod {}: {}", key.name, status.message())],
        };
        let mut problems = Vec::new();
        for sandbox in sandboxes {
            let id = sandbox.id;
            let stop = cri::StopPodSandboxRequest { pod_sandbox_id: id.clone() };
            let remove = cri::RemovePodSandboxRequest { pod_sandbox_id: id.clone() };
            let mut runtime = self.cri().runtime.clone();
            let mut result = runtime.stop_pod_sandbox(stop).await.map(drop);
            if result.is_ok() {
                result = runtime.remove_pod_sandbox(remove).await.map(drop);
            }
            if let Err(status) = result {
                problems.push(format!("cannot remove sandbox {id} of pod {}: {}", key.name, status.message()));
            }
        }
        problems
    }

    /// Takes back the devices of a pod that is over.
    pub(super) fn release_devices(&self, uid: &str) {
        if let Some(devices) = self.devices() {
            devices.release(uid);
        }
    }
}
