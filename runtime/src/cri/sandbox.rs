//! The sandboxes' verbs.

use cri_proto::cri;
use tonic::Status;

use super::{Services, convert, show};
use crate::sandbox;

impl Services {
    pub(super) async fn run_sandbox(
        &self,
        request: cri::RunPodSandboxRequest,
    ) -> Result<cri::RunPodSandboxResponse, Status> {
        self.run(move |core, owner| {
            if !request.runtime_handler.is_empty() {
                let handler = request.runtime_handler;
                return Err(crate::Error::Invalid(format!("there is no runtime handler {handler:?}; leave it empty")));
            }
            let config = convert::required(request.config, "config")?;
            let wanted = convert::sandbox(config, &core.options.cgroup_root)?;
            Ok(cri::RunPodSandboxResponse { pod_sandbox_id: sandbox::create(core, owner, wanted)? })
        })
        .await
    }

    pub(super) async fn stop_sandbox(&self, id: String) -> Result<cri::StopPodSandboxResponse, Status> {
        self.run(move |core, owner| {
            match sandbox::owned(core, owner, &id) {
                Ok(record) => sandbox::stop(core, record)?,
                Err(error) if error.kind() == crate::Kind::NotFound => {}
                Err(error) => return Err(error),
            }
            Ok(cri::StopPodSandboxResponse {})
        })
        .await
    }

    pub(super) async fn remove_sandbox(&self, id: String) -> Result<cri::RemovePodSandboxResponse, Status> {
        self.run(move |core, owner| {
            sandbox::remove(core, owner, &id)?;
            Ok(cri::RemovePodSandboxResponse {})
        })
        .await
    }

    pub(super) async fn sandbox_status(
        &self,
        request: cri::PodSandboxStatusRequest,
    ) -> Result<cri::PodSandboxStatusResponse, Status> {
        self.run(move |core, owner| {
            let record = sandbox::owned(core, owner, &request.pod_sandbox_id)?;
            Ok(cri::PodSandboxStatusResponse {
                status: Some(show::sandbox_status(core, &record)),
                info: if request.verbose { show::info(&record) } else { Default::default() },
                ..Default::default()
            })
        })
        .await
    }

    pub(super) async fn list_sandboxes(
        &self,
        filter: Option<cri::PodSandboxFilter>,
    ) -> Result<Vec<cri::PodSandbox>, Status> {
        self.run(move |core, owner| {
            let filter = filter.unwrap_or_default();
            let mut records = sandbox::all(core)?;
            records.retain(|it| {
                it.owner == *owner
                    && it.id.starts_with(&filter.id)
                    && show::selects(&filter.label_selector, &it.request.labels)
                    && filter.state.is_none_or(|state| state.state == show::sandbox_state(core, it) as i32)
            });
            records.sort_by_key(|it| std::cmp::Reverse(it.created_at));
            Ok(records.iter().map(|it| show::sandbox_item(core, it)).collect())
        })
        .await
    }
}
