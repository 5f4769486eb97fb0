//! One look at a pod through the CRI.

use std::collections::HashMap;

use cri_proto::cri;
use tonic::{Code, Status};

use super::change;
use super::config::names::POD_UID;
use super::view::{ContainerView, SandboxView};
use crate::channel::Cri;

/// Looks at one pod. What cannot change any more is asked for once.
#[derive(Debug)]
pub struct Observer {
    cri: Cri,
    uid: String,
    ended: HashMap<String, ContainerView>,
    ips: HashMap<String, Vec<String>>,
}

impl Observer {
    /// Looks at the pod `uid`.
    pub fn new(cri: Cri, uid: String) -> Self {
        Observer { cri, uid, ended: HashMap::new(), ips: HashMap::new() }
    }

    /// The pod's sandboxes and containers now.
    pub async fn look(&mut self) -> Result<(Vec<SandboxView>, Vec<ContainerView>), Status> {
        let label_selector = HashMap::from([(POD_UID.to_owned(), self.uid.clone())]);
        let filter = cri::PodSandboxFilter { label_selector: label_selector.clone(), ..Default::default() };
        let request = cri::ListPodSandboxRequest { filter: Some(filter) };
        let listed = self.cri.runtime.clone().list_pod_sandbox(request).await?.into_inner().items;
        let mut sandboxes = Vec::with_capacity(listed.len());
        for sandbox in listed {
            let ready = sandbox.state() == cri::PodSandboxState::SandboxReady;
            let ips = if ready { self.ips(&sandbox.id).await? } else { vec![] };
            let attempt = sandbox.metadata.as_ref().map_or(0, |metadata| metadata.attempt);
            let definition = sandbox.annotations.get(change::DEFINITION).cloned();
            let (id, created_at) = (sandbox.id, sandbox.created_at);
            sandboxes.push(SandboxView { id, attempt, ready, created_at, ips, definition, gone: false });
        }
        let filter = cri::ContainerFilter { label_selector, ..Default::default() };
        let request = cri::ListContainersRequest { filter: Some(filter) };
        let listed = self.cri.runtime.clone().list_containers(request).await?.into_inner().containers;
        let mut containers = Vec::with_capacity(listed.len());
        for container in listed {
            containers.extend(self.container(&container).await?);
        }
        self.ended.retain(|id, _| containers.iter().any(|seen| seen.id == *id));
        self.ips.retain(|id, _| sandboxes.iter().any(|seen| seen.id == *id));
        Ok((sandboxes, containers))
    }

    async fn ips(&mut self, id: &str) -> Result<Vec<String>, Status> {
        if let Some(known) = self.ips.get(id) {
            return Ok(known.clone());
        }
        let request = cri::PodSandboxStatusRequest { pod_sandbox_id: id.to_owned(), verbose: false };
        let answer = match self.cri.runtime.clone().pod_sandbox_status(request).await {
            Ok(answer) => answer.into_inner(),
            Err(status) if status.code() == Code::NotFound => return Ok(vec![]),
            Err(status) => return Err(status),
        };
        let network = answer.status.and_then(|status| status.network).unwrap_or_default();
        let others = network.additional_ips.into_iter().map(|ip| ip.ip);
        let ips: Vec<String> = std::iter::once(network.ip).chain(others).filter(|ip| !ip.is_empty()).collect();
        self.ips.insert(id.to_owned(), ips.clone());
        Ok(ips)
    }

    async fn container(&mut self, listed: &cri::Container) -> Result<Option<ContainerView>, Status> {
        if let Some(ended) = self.ended.get(&listed.id) {
            return Ok(Some(ended.clone()));
        }
        let request = cri::ContainerStatusRequest { container_id: listed.id.clone(), verbose: false };
        let answer = match self.cri.runtime.clone().container_status(request).await {
            Ok(answer) => answer.into_inner(),
            // Removed since it was listed.
            Err(status) if status.code() == Code::NotFound => return Ok(None),
            Err(status) => return Err(status),
        };
        let Some(status) = answer.status else { return Ok(None) };
        let view = ContainerView::from_cri(&status, &listed.pod_sandbox_id);
        if status.state() == cri::ContainerState::ContainerExited {
            self.ended.insert(listed.id.clone(), view.clone());
        }
        Ok(Some(view))
    }
}
