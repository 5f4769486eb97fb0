//! The sandboxes' verbs.

use cri_proto::cri;
use tonic::Status;

use super::{Services, convert, info, show};
use crate::{records, sandbox};

/// What a sandbox is called has no default.
fn named(metadata: Option<&cri::PodSandboxMetadata>) -> crate::error::Result<()> {
    let metadata = convert::required(metadata, "config.metadata")?;
    let fields = [("name", &metadata.name), ("namespace", &metadata.namespace), ("uid", &metadata.uid)];
    match fields.iter().find(|(_, value)| value.is_empty()) {
        Some((field, _)) => Err(crate::Error::Invalid(format!("config.metadata.{field} is empty"))),
        None => Ok(()),
    }
}

impl Services {
    pub(super) async fn run_sandbox(
        &self,
        request: cri::RunPodSandboxRequest,
    ) -> Result<cri::RunPodSandboxResponse, Status> {
        self.run(move |core, owner| {
            if !request.runtime_handler.is_empty() {
                let handler = request.runtime_handler;
                let why = "there is none of that name; leave it empty";
                return Err(crate::Error::Invalid(format!("runtime_handler {handler:?}: {why}")));
            }
            let config = convert::required(request.config, "config")?;
            named(config.metadata.as_ref())?;
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
        self.look(|core, owner| {
            let mut record = sandbox::owned(core, owner, &request.pod_sandbox_id)?;
            record.request.amounts = sandbox::amounts(core, &record)?;
            let containers_statuses = show::statuses_of(core, &record.id)?;
            Ok(cri::PodSandboxStatusResponse {
                status: Some(show::sandbox_status(core, &record)),
                info: if request.verbose { info::sandbox(core, &record) } else { Default::default() },
                containers_statuses,
                timestamp: crate::shim::now(),
            })
        })
    }

    pub(super) async fn list_sandboxes(
        &self,
        filter: Option<cri::PodSandboxFilter>,
    ) -> Result<Vec<cri::PodSandbox>, Status> {
        self.look(|core, owner| {
            let filter = filter.unwrap_or_default();
            let mut records = records::select(core, |it: &sandbox::Record| {
                it.owner == *owner
                    && it.id.starts_with(&filter.id)
                    && show::selects(&filter.label_selector, &it.request.labels)
            })?;
            records.retain(|it| {
                !core.names.is_making(&it.id)
                    && filter.state.is_none_or(|state| state.state == show::sandbox_state(core, it) as i32)
            });
            records.sort_by_key(|it| std::cmp::Reverse(it.created_at));
            Ok(records.iter().map(|it| show::sandbox_item(core, it)).collect())
        })
    }
}
