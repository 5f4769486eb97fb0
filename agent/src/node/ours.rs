//! What of a runtime is this agent's: everything of its own one, what has its labels of one that others use too.

use std::collections::{BTreeMap, HashMap};

use cri_proto::cri;
use tonic::Status;

use crate::channel::Cri;

/// The sandboxes and containers of this agent.
#[derive(Clone, Debug)]
pub struct Ours {
    /// The runtime.
    pub cri: Cri,
    labels: HashMap<String, String>,
}

impl Ours {
    /// What has these labels.
    pub fn new(cri: Cri, labels: &BTreeMap<String, String>) -> Self {
        Self { cri, labels: labels.clone().into_iter().collect() }
    }

    /// The sandboxes.
    pub async fn sandboxes(&self) -> Result<Vec<cri::PodSandbox>, Status> {
        let filter = cri::PodSandboxFilter { label_selector: self.labels.clone(), ..Default::default() };
        let request = cri::ListPodSandboxRequest { filter: Some(filter) };
        Ok(self.cri.runtime.clone().list_pod_sandbox(request).await?.into_inner().items)
    }

    /// The containers.
    pub async fn containers(&self) -> Result<Vec<cri::Container>, Status> {
        let filter = cri::ContainerFilter { label_selector: self.labels.clone(), ..Default::default() };
        let request = cri::ListContainersRequest { filter: Some(filter) };
        Ok(self.cri.runtime.clone().list_containers(request).await?.into_inner().containers)
    }

    /// What they use.
    pub async fn stats(&self) -> Result<Vec<cri::PodSandboxStats>, Status> {
        let filter = cri::PodSandboxStatsFilter { label_selector: self.labels.clone(), ..Default::default() };
        let request = cri::ListPodSandboxStatsRequest { filter: Some(filter) };
        Ok(self.cri.runtime.clone().list_pod_sandbox_stats(request).await?.into_inner().stats)
    }
}
