//! RuntimeService: which verb is where.

use cri_proto::cri::{self, runtime_service_server::RuntimeService};
use tonic::{Request, Response, Status};

use super::Services;
use super::events::Answers;

/// The name that clients know this runtime by.
const NAME: &str = "coracle";

/// What no version has: the state of processes is not frozen here.
const UNSUPPORTED: [&str; 3] = ["CheckpointContainer", "CheckpointPod", "RestorePod"];

/// One of [`UNSUPPORTED`].
fn unsupported(verb: &'static str) -> Status {
    debug_assert!(UNSUPPORTED.contains(&verb), "{verb}");
    Status::unimplemented(format!("{NAME} does not have {verb}; nor has it {}", UNSUPPORTED.join(", ")))
}

/// Bytes of one message of a list, after which another begins.
const CHUNK: usize = 1 << 20;

/// A list in messages of about [`CHUNK`] bytes, so that none is too long for one.
pub(super) fn chunks<T: prost::Message + 'static, A: Send + 'static>(
    items: Vec<T>,
    wrap: impl Fn(Vec<T>) -> A + Send + 'static,
) -> Response<Answers<A>> {
    let mut chunks: Vec<Vec<T>> = Vec::new();
    let mut bytes = CHUNK;
    for item in items {
        let length = item.encoded_len();
        if bytes + length > CHUNK {
            chunks.push(Vec::new());
            bytes = 0;
        }
        bytes += length;
        if let Some(last) = chunks.last_mut() {
            last.push(item);
        }
    }
    Response::new(Box::pin(tokio_stream::iter(chunks.into_iter().map(move |chunk| Ok(wrap(chunk))))))
}

#[tonic::async_trait]
impl RuntimeService for Services {
    async fn version(&self, _request: Request<cri::VersionRequest>) -> Result<Response<cri::VersionResponse>, Status> {
        Ok(Response::new(cri::VersionResponse {
            version: "0.1.0".into(),
            runtime_name: NAME.into(),
            runtime_version: env!("CARGO_PKG_VERSION").into(),
            runtime_api_version: "v1".into(),
        }))
    }

    async fn status(&self, request: Request<cri::StatusRequest>) -> Result<Response<cri::StatusResponse>, Status> {
        self.node_status(request.into_inner().verbose).await.map(Response::new)
    }

    async fn runtime_config(
        &self,
        _request: Request<cri::RuntimeConfigRequest>,
    ) -> Result<Response<cri::RuntimeConfigResponse>, Status> {
        let linux = cri::LinuxRuntimeConfiguration { cgroup_driver: cri::CgroupDriver::Cgroupfs as i32 };
        Ok(Response::new(cri::RuntimeConfigResponse { linux: Some(linux) }))
    }

    async fn run_pod_sandbox(
        &self,
        request: Request<cri::RunPodSandboxRequest>,
    ) -> Result<Response<cri::RunPodSandboxResponse>, Status> {
        let request = request.into_inner();
        self.run_sandbox(request).await.map(Response::new)
    }

    async fn stop_pod_sandbox(
        &self,
        request: Request<cri::StopPodSandboxRequest>,
    ) -> Result<Response<cri::StopPodSandboxResponse>, Status> {
        let request = request.into_inner();
        self.stop_sandbox(request.pod_sandbox_id).await.map(Response::new)
    }

    async fn remove_pod_sandbox(
        &self,
        request: Request<cri::RemovePodSandboxRequest>,
    ) -> Result<Response<cri::RemovePodSandboxResponse>, Status> {
        let request = request.into_inner();
        self.remove_sandbox(request.pod_sandbox_id).await.map(Response::new)
    }

    async fn pod_sandbox_status(
        &self,
        request: Request<cri::PodSandboxStatusRequest>,
    ) -> Result<Response<cri::PodSandboxStatusResponse>, Status> {
        let request = request.into_inner();
        self.sandbox_status(request).await.map(Response::new)
    }

    async fn list_pod_sandbox(
        &self,
        request: Request<cri::ListPodSandboxRequest>,
    ) -> Result<Response<cri::ListPodSandboxResponse>, Status> {
        let request = request.into_inner();
        Ok(Response::new(cri::ListPodSandboxResponse { items: self.list_sandboxes(request.filter).await? }))
    }

    async fn create_container(
        &self,
        request: Request<cri::CreateContainerRequest>,
    ) -> Result<Response<cri::CreateContainerResponse>, Status> {
        let request = request.into_inner();
        Services::create_container(self, request).await.map(Response::new)
    }

    async fn start_container(
        &self,
        request: Request<cri::StartContainerRequest>,
    ) -> Result<Response<cri::StartContainerResponse>, Status> {
        let request = request.into_inner();
        Services::start_container(self, request.container_id).await.map(Response::new)
    }

    async fn stop_container(
        &self,
        request: Request<cri::StopContainerRequest>,
    ) -> Result<Response<cri::StopContainerResponse>, Status> {
        let request = request.into_inner();
        Services::stop_container(self, request).await.map(Response::new)
    }

    async fn remove_container(
        &self,
        request: Request<cri::RemoveContainerRequest>,
    ) -> Result<Response<cri::RemoveContainerResponse>, Status> {
        let request = request.into_inner();
        Services::remove_container(self, request.container_id).await.map(Response::new)
    }

    async fn list_containers(
        &self,
        request: Request<cri::ListContainersRequest>,
    ) -> Result<Response<cri::ListContainersResponse>, Status> {
        let request = request.into_inner();
        Ok(Response::new(cri::ListContainersResponse {
            containers: Services::list_containers(self, request.filter).await?,
        }))
    }

    async fn container_status(
        &self,
        request: Request<cri::ContainerStatusRequest>,
    ) -> Result<Response<cri::ContainerStatusResponse>, Status> {
        let request = request.into_inner();
        Services::container_status(self, request).await.map(Response::new)
    }

    async fn exec_sync(
        &self,
        request: Request<cri::ExecSyncRequest>,
    ) -> Result<Response<cri::ExecSyncResponse>, Status> {
        let request = request.into_inner();
        self.exec_sync_container(request).await.map(Response::new)
    }

    async fn exec(&self, request: Request<cri::ExecRequest>) -> Result<Response<cri::ExecResponse>, Status> {
        let request = request.into_inner();
        self.prepare_exec(request).await.map(Response::new)
    }

    async fn reopen_container_log(
        &self,
        request: Request<cri::ReopenContainerLogRequest>,
    ) -> Result<Response<cri::ReopenContainerLogResponse>, Status> {
        let request = request.into_inner();
        self.reopen_log(request.container_id).await.map(Response::new)
    }

    async fn list_container_stats(
        &self,
        request: Request<cri::ListContainerStatsRequest>,
    ) -> Result<Response<cri::ListContainerStatsResponse>, Status> {
        let request = request.into_inner();
        Ok(Response::new(cri::ListContainerStatsResponse { stats: self.stats_of(request.filter).await? }))
    }

    async fn container_stats(
        &self,
        request: Request<cri::ContainerStatsRequest>,
    ) -> Result<Response<cri::ContainerStatsResponse>, Status> {
        let stats = self.container_stats_of(request.into_inner().container_id).await?;
        Ok(Response::new(cri::ContainerStatsResponse { stats: Some(stats) }))
    }

    type GetContainerEventsStream = Answers<cri::ContainerEventResponse>;

    async fn get_container_events(
        &self,
        _request: Request<cri::GetEventsRequest>,
    ) -> Result<Response<Self::GetContainerEventsStream>, Status> {
        self.container_events().await.map(Response::new)
    }

    type StreamPodSandboxesStream = Answers<cri::StreamPodSandboxesResponse>;

    async fn stream_pod_sandboxes(
        &self,
        request: Request<cri::StreamPodSandboxesRequest>,
    ) -> Result<Response<Self::StreamPodSandboxesStream>, Status> {
        let items = self.list_sandboxes(request.into_inner().filter).await?;
        Ok(chunks(items, |items| cri::StreamPodSandboxesResponse { pod_sandboxes: items }))
    }

    type StreamContainersStream = Answers<cri::StreamContainersResponse>;

    async fn stream_containers(
        &self,
        request: Request<cri::StreamContainersRequest>,
    ) -> Result<Response<Self::StreamContainersStream>, Status> {
        let items = Services::list_containers(self, request.into_inner().filter).await?;
        Ok(chunks(items, |items| cri::StreamContainersResponse { containers: items }))
    }

    type StreamContainerStatsStream = Answers<cri::StreamContainerStatsResponse>;

    async fn stream_container_stats(
        &self,
        request: Request<cri::StreamContainerStatsRequest>,
    ) -> Result<Response<Self::StreamContainerStatsStream>, Status> {
        let items = self.stats_of(request.into_inner().filter).await?;
        Ok(chunks(items, |items| cri::StreamContainerStatsResponse { container_stats: items }))
    }

    type StreamPodSandboxStatsStream = Answers<cri::StreamPodSandboxStatsResponse>;

    async fn stream_pod_sandbox_stats(
        &self,
        request: Request<cri::StreamPodSandboxStatsRequest>,
    ) -> Result<Response<Self::StreamPodSandboxStatsStream>, Status> {
        let items = self.pods_stats(request.into_inner().filter).await?;
        Ok(chunks(items, |items| cri::StreamPodSandboxStatsResponse { pod_sandbox_stats: items }))
    }

    type StreamPodSandboxMetricsStream = Answers<cri::StreamPodSandboxMetricsResponse>;

    async fn stream_pod_sandbox_metrics(
        &self,
        _request: Request<cri::StreamPodSandboxMetricsRequest>,
    ) -> Result<Response<Self::StreamPodSandboxMetricsStream>, Status> {
        let items = self.metrics().await?;
        Ok(chunks(items, |items| cri::StreamPodSandboxMetricsResponse { pod_sandbox_metrics: items }))
    }

    async fn update_container_resources(
        &self,
        request: Request<cri::UpdateContainerResourcesRequest>,
    ) -> Result<Response<cri::UpdateContainerResourcesResponse>, Status> {
        let request = request.into_inner();
        self.update_container(request).await.map(Response::new)
    }

    async fn attach(&self, request: Request<cri::AttachRequest>) -> Result<Response<cri::AttachResponse>, Status> {
        self.prepare_attach(request.into_inner()).await.map(Response::new)
    }

    async fn port_forward(
        &self,
        request: Request<cri::PortForwardRequest>,
    ) -> Result<Response<cri::PortForwardResponse>, Status> {
        self.prepare_port_forward(request.into_inner()).await.map(Response::new)
    }

    async fn pod_sandbox_stats(
        &self,
        request: Request<cri::PodSandboxStatsRequest>,
    ) -> Result<Response<cri::PodSandboxStatsResponse>, Status> {
        let stats = self.pod_stats_of(request.into_inner().pod_sandbox_id).await?;
        Ok(Response::new(cri::PodSandboxStatsResponse { stats: Some(stats) }))
    }

    async fn list_pod_sandbox_stats(
        &self,
        request: Request<cri::ListPodSandboxStatsRequest>,
    ) -> Result<Response<cri::ListPodSandboxStatsResponse>, Status> {
        let stats = self.pods_stats(request.into_inner().filter).await?;
        Ok(Response::new(cri::ListPodSandboxStatsResponse { stats }))
    }

    async fn update_runtime_config(
        &self,
        request: Request<cri::UpdateRuntimeConfigRequest>,
    ) -> Result<Response<cri::UpdateRuntimeConfigResponse>, Status> {
        let request = request.into_inner();
        self.update_config(request).await.map(Response::new)
    }

    async fn checkpoint_container(
        &self,
        _request: Request<cri::CheckpointContainerRequest>,
    ) -> Result<Response<cri::CheckpointContainerResponse>, Status> {
        Err(unsupported("CheckpointContainer"))
    }

    async fn checkpoint_pod(
        &self,
        _request: Request<cri::CheckpointPodRequest>,
    ) -> Result<Response<cri::CheckpointPodResponse>, Status> {
        Err(unsupported("CheckpointPod"))
    }

    async fn restore_pod(
        &self,
        _request: Request<cri::RestorePodRequest>,
    ) -> Result<Response<cri::RestorePodResponse>, Status> {
        Err(unsupported("RestorePod"))
    }

    async fn list_metric_descriptors(
        &self,
        _request: Request<cri::ListMetricDescriptorsRequest>,
    ) -> Result<Response<cri::ListMetricDescriptorsResponse>, Status> {
        Ok(Response::new(cri::ListMetricDescriptorsResponse { descriptors: super::metrics::descriptors() }))
    }

    async fn list_pod_sandbox_metrics(
        &self,
        _request: Request<cri::ListPodSandboxMetricsRequest>,
    ) -> Result<Response<cri::ListPodSandboxMetricsResponse>, Status> {
        Ok(Response::new(cri::ListPodSandboxMetricsResponse { pod_metrics: self.metrics().await? }))
    }

    async fn update_pod_sandbox_resources(
        &self,
        request: Request<cri::UpdatePodSandboxResourcesRequest>,
    ) -> Result<Response<cri::UpdatePodSandboxResourcesResponse>, Status> {
        let request = request.into_inner();
        self.update_sandbox(request).await.map(Response::new)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use tokio_stream::StreamExt as _;

    fn sizes(ids: Vec<String>) -> Vec<usize> {
        let items = ids.into_iter().map(|id| cri::PodSandbox { id, ..Default::default() }).collect();
        let stream = chunks(items, |items: Vec<cri::PodSandbox>| items.len()).into_inner();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(stream.map(Result::unwrap).collect())
    }

    #[test]
    fn a_list_comes_in_messages_of_a_bounded_size() {
        assert!(sizes(Vec::new()).is_empty());
        assert_eq!(sizes(vec!["a".into(); 500]), [500]);
        // What is too long for one message is alone in its own.
        assert_eq!(sizes(vec!["a".into(), "b".repeat(3 << 20), "c".into(), "d".into()]), [1, 1, 2]);
        assert_eq!(sizes(vec!["b".repeat(400 << 10); 5]), [2, 2, 1]);
    }
}
