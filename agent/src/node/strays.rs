//! Pods that run and that no record of the desired state has: it was lost, or is damaged.
//!
//! One whose manifest is found goes on with its uid, as if nothing had been; the others are stopped when every manifest
//! is known.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use cri_proto::cri;
use k8s_openapi::api::core::v1::Pod;
use runtime::Owner;

use super::desired::Name;
use super::shown;
use crate::engine::Engine;
use crate::engine::config::names::PodKey;
use crate::engine::record;

/// What runs and is in no record.
#[derive(Debug, Default)]
pub struct Strays {
    pods: BTreeMap<Name, Pod>,
    /// Records that cannot be used: as long as there are any, nobody knows what they said.
    pub unusable: BTreeSet<PathBuf>,
}

impl Strays {
    /// Looks for pods of the agent whose uid is none of `known`: in their records of this boot, which have their whole
    /// definition, and among the runtime's sandboxes.
    pub async fn find(engine: &Engine, known: &BTreeSet<String>) -> anyhow::Result<Self> {
        let (owner, settings) = (Owner::Agent.to_string(), engine.settings());
        let mut pods: BTreeMap<Name, Pod> = BTreeMap::new();
        // Coracle's own runtime shows the agent nothing else; on another one the labels tell.
        let label_selector = settings.labels.clone().into_iter().collect();
        let filter = Some(cri::PodSandboxFilter { label_selector, ..Default::default() });
        let request = cri::ListPodSandboxRequest { filter };
        let listed = engine.cri().runtime.clone().list_pod_sandbox(request).await?.into_inner().items;
        for metadata in listed.into_iter().filter_map(|sandbox| sandbox.metadata) {
            let mut pod = Pod::default();
            let name = (metadata.namespace, metadata.name);
            (pod.metadata.namespace, pod.metadata.name) = (Some(name.0.clone()), Some(name.1.clone()));
            pod.metadata.uid = Some(metadata.uid);
            pods.insert(name, pod);
        }
        let (records, _) = record::list(&settings.state_dir)?;
        for record in records.into_iter().filter(|record| record.owner == owner && !shown::is_shown(&record.pod)) {
            let key = PodKey::of(&record.pod);
            pods.insert((key.namespace, key.name), record.pod);
        }
        pods.retain(|_, pod| pod.metadata.uid.as_ref().is_some_and(|uid| !known.contains(uid)));
        Ok(Strays { pods, unusable: BTreeSet::new() })
    }

    /// The uids of pods that run, by name.
    pub fn uids(&self) -> BTreeMap<Name, String> {
        self.pods.iter().filter_map(|(name, pod)| Some((name.clone(), pod.metadata.uid.clone()?))).collect()
    }

    /// Takes all of them out.
    pub fn take(&mut self) -> Vec<Pod> {
        std::mem::take(&mut self.pods).into_values().collect()
    }
}
