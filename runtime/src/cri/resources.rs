//! Changing what containers and pods may use.

use cri_proto::cri;
use tonic::Status;

use super::{Services, convert};
use crate::{container, sandbox};

impl Services {
    /// What the message does not say stays as it is.
    pub(super) async fn update_container(
        &self,
        request: cri::UpdateContainerResourcesRequest,
    ) -> Result<cri::UpdateContainerResourcesResponse, Status> {
        self.run(move |core, owner| {
            let wanted = convert::limits("linux", request.linux.unwrap_or_default())?;
            container::update(core, owner, &request.container_id, wanted)?;
            Ok(cri::UpdateContainerResourcesResponse {})
        })
        .await
    }

    /// The pod's cgroup is the client's: what it says of the pod as a whole is kept and shown.
    pub(super) async fn update_sandbox(
        &self,
        request: cri::UpdatePodSandboxResourcesRequest,
    ) -> Result<cri::UpdatePodSandboxResourcesResponse, Status> {
        self.run(move |core, owner| {
            let record = sandbox::owned(core, owner, &request.pod_sandbox_id)?;
            let overhead = request.overhead.map(|it| convert::limits("overhead", it)).transpose()?;
            let resources = request.resources.map(|it| convert::limits("resources", it)).transpose()?;
            sandbox::update_amounts(core, &record, sandbox::Amounts { overhead, resources })?;
            Ok(cri::UpdatePodSandboxResourcesResponse {})
        })
        .await
    }
}
