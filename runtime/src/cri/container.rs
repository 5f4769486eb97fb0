//! The containers' verbs.

use std::sync::Arc;
use std::time::Duration;

use cri_proto::cri;
use tonic::Status;

use super::{Services, convert, info, show, status};
use crate::container::{self, Exec};
use crate::core::Core;
use crate::{Kind, Owner, records};

/// What fits into an answer beside its frame.
const MAX_OUTPUT: usize = cri_proto::MAX_MESSAGE_BYTES - 1024;

impl Services {
    pub(super) async fn create_container(
        &self,
        request: cri::CreateContainerRequest,
    ) -> Result<cri::CreateContainerResponse, Status> {
        self.run(move |core, owner| {
            let wanted = convert::container(convert::required(request.config, "config")?)?;
            let container_id = container::create(core, owner, &request.pod_sandbox_id, wanted)?;
            Ok(cri::CreateContainerResponse { container_id })
        })
        .await
    }

    pub(super) async fn start_container(&self, id: String) -> Result<cri::StartContainerResponse, Status> {
        self.run(move |core, owner| {
            container::start(core, &container::owned(core, owner, &id)?)?;
            Ok(cri::StartContainerResponse {})
        })
        .await
    }

    pub(super) async fn stop_container(
        &self,
        request: cri::StopContainerRequest,
    ) -> Result<cri::StopContainerResponse, Status> {
        self.run(move |core, owner| {
            match container::owned(core, owner, &request.container_id) {
                Ok(record) => {
                    // One below zero is none.
                    let grace = Duration::from_secs(u64::try_from(request.timeout).unwrap_or(0));
                    container::stop(core, &record, grace)?;
                }
                Err(error) if error.kind() == Kind::NotFound => {}
                Err(error) => return Err(error),
            }
            Ok(cri::StopContainerResponse {})
        })
        .await
    }

    pub(super) async fn remove_container(&self, id: String) -> Result<cri::RemoveContainerResponse, Status> {
        self.run(move |core, owner| {
            match container::owned(core, owner, &id) {
                Ok(record) => container::remove(core, &record)?,
                Err(error) if error.kind() == Kind::NotFound => {}
                Err(error) => return Err(error),
            }
            Ok(cri::RemoveContainerResponse {})
        })
        .await
    }

    pub(super) async fn container_status(
        &self,
        request: cri::ContainerStatusRequest,
    ) -> Result<cri::ContainerStatusResponse, Status> {
        self.look(|core, owner| {
            let record = container::owned(core, owner, &request.container_id)?;
            Ok(cri::ContainerStatusResponse {
                status: Some(show::container_status(core, &record)?),
                info: if request.verbose { info::container(core, &record)? } else { Default::default() },
            })
        })
    }

    pub(super) async fn list_containers(
        &self,
        filter: Option<cri::ContainerFilter>,
    ) -> Result<Vec<cri::Container>, Status> {
        self.look(|core, owner| {
            let filter = filter.unwrap_or_default();
            let mut records = records::select(core, |it: &container::Record| {
                it.owner == *owner
                    && it.id.starts_with(&filter.id)
                    && it.sandbox.starts_with(&filter.pod_sandbox_id)
                    && show::selects(&filter.label_selector, &it.request.labels)
            })?;
            records.retain(|it| !core.names.is_making(&it.id));
            records.sort_by_key(|it| std::cmp::Reverse(it.created_at));
            let mut items = Vec::new();
            for record in records {
                let view = container::view(core, &record)?;
                let state = show::container_state(view.as_ref()) as i32;
                if filter.state.is_none_or(|wanted| wanted.state == state) {
                    items.push(show::container_item(&record, view.as_ref()));
                }
            }
            Ok(items)
        })
    }

    pub(super) async fn exec_sync_container(
        &self,
        request: cri::ExecSyncRequest,
    ) -> Result<cri::ExecSyncResponse, Status> {
        let limit = u64::try_from(request.timeout).ok().filter(|&it| it > 0).map(Duration::from_secs);
        let services = self.clone();
        let start = async move {
            let start = move |core: &Arc<Core>, owner: &Owner| {
                let record = container::owned(core, owner, &request.container_id)?;
                container::exec(core, &record, &Exec { command: request.cmd, tty: false, stdin: false })
            };
            services.blocking(start).await
        };
        let mut output = container::exec_sync(start, limit).await.map_err(|error| status(&error))?;
        // All of it is one message, and one that is too long would not arrive at all.
        output.stdout.truncate(MAX_OUTPUT);
        output.stderr.truncate(MAX_OUTPUT - output.stdout.len());
        Ok(cri::ExecSyncResponse { stdout: output.stdout, stderr: output.stderr, exit_code: output.code })
    }

    pub(super) async fn reopen_log(&self, id: String) -> Result<cri::ReopenContainerLogResponse, Status> {
        self.run(move |core, owner| {
            container::reopen_log(core, &container::owned(core, owner, &id)?)?;
            Ok(cri::ReopenContainerLogResponse {})
        })
        .await
    }
}
