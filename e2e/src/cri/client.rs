//! A client for tests that are plain functions: every call blocks, and none waits for ever.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use cri_proto::cri::image_service_client::ImageServiceClient;
use cri_proto::cri::runtime_service_client::RuntimeServiceClient;
use cri_proto::cri::*;
use cri_proto::{MAX_MESSAGE_BYTES, cri};
use tokio::runtime::Runtime;
use tonic::transport::{Channel, Endpoint};
use tonic::{Response, Status, Streaming};

use crate::patience;

/// How long a call may take.
const CALL: Duration = Duration::from_secs(120);

/// Both services on one unix socket.
#[derive(Clone)]
pub struct Client {
    tokio: Arc<Runtime>,
    channel: Channel,
}

impl Client {
    /// A client that connects when it is first used, and again when the server was restarted.
    pub fn new(socket: &Path) -> Self {
        let tokio = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let tokio = Arc::new(tokio.expect("threads can be started"));
        let endpoint = Endpoint::from_shared(format!("unix://{}", socket.display())).expect("the path is plain");
        let _inside = tokio.enter();
        let channel = endpoint.connect_lazy();
        drop(_inside);
        Self { tokio, channel }
    }

    /// RuntimeService, for calls that need more than the methods here: metadata, cancellation, many at once.
    pub fn runtime(&self) -> RuntimeServiceClient<Channel> {
        let client = RuntimeServiceClient::new(self.channel.clone());
        client.max_decoding_message_size(MAX_MESSAGE_BYTES).max_encoding_message_size(MAX_MESSAGE_BYTES)
    }

    /// ImageService, as [`Client::runtime`].
    pub fn images(&self) -> ImageServiceClient<Channel> {
        let client = ImageServiceClient::new(self.channel.clone());
        client.max_decoding_message_size(MAX_MESSAGE_BYTES).max_encoding_message_size(MAX_MESSAGE_BYTES)
    }

    /// The channel that both services are on.
    pub fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// Runs a future to its end on the client's runtime.
    pub fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.tokio.block_on(future)
    }

    /// Starts a future on the client's runtime; [`Client::block_on`] of the handle waits for it.
    pub fn spawn<T: Send + 'static>(
        &self,
        future: impl Future<Output = T> + Send + 'static,
    ) -> tokio::task::JoinHandle<T> {
        self.tokio.spawn(future)
    }

    /// The events of containers from now on.
    pub fn events(&self) -> Result<Events, Status> {
        let mut client = self.runtime();
        let stream = self.call(async move { client.get_container_events(GetEventsRequest {}).await })?;
        Ok(Events { tokio: Arc::clone(&self.tokio), stream })
    }

    fn call<T>(&self, call: impl Future<Output = Result<Response<T>, Status>>) -> Result<T, Status> {
        let limit = patience(CALL);
        self.tokio.block_on(async {
            match tokio::time::timeout(limit, call).await {
                Ok(answer) => answer.map(Response::into_inner),
                Err(_) => Err(Status::deadline_exceeded(format!("the test waited {limit:?} for an answer"))),
            }
        })
    }

    fn collect<T>(&self, call: impl Future<Output = Result<Response<Streaming<T>>, Status>>) -> Result<Vec<T>, Status> {
        self.call(async {
            let mut stream = call.await?.into_inner();
            let mut items = Vec::new();
            while let Some(item) = stream.message().await? {
                items.push(item);
            }
            Ok(Response::new(items))
        })
    }
}

/// One blocking method for each call.
macro_rules! calls {
    ($service:ident: $($name:ident($request:ident) -> $answer:ident;)*) => {
        impl Client {
            $(
                #[doc = concat!("`", stringify!($request), "`, blocking.")]
                pub fn $name(&self, request: cri::$request) -> Result<cri::$answer, Status> {
                    let mut client = self.$service();
                    self.call(async move { client.$name(request).await })
                }
            )*
        }
    };
}

/// One method for each streaming list, which collects it.
macro_rules! lists {
    ($service:ident: $($name:ident($request:ident) -> $answer:ident;)*) => {
        impl Client {
            $(
                #[doc = concat!("`", stringify!($request), "`: every message of the answer.")]
                pub fn $name(&self, request: cri::$request) -> Result<Vec<cri::$answer>, Status> {
                    let mut client = self.$service();
                    self.collect(async move { client.$name(request).await })
                }
            )*
        }
    };
}

calls! { runtime:
    version(VersionRequest) -> VersionResponse;
    run_pod_sandbox(RunPodSandboxRequest) -> RunPodSandboxResponse;
    stop_pod_sandbox(StopPodSandboxRequest) -> StopPodSandboxResponse;
    remove_pod_sandbox(RemovePodSandboxRequest) -> RemovePodSandboxResponse;
    pod_sandbox_status(PodSandboxStatusRequest) -> PodSandboxStatusResponse;
    list_pod_sandbox(ListPodSandboxRequest) -> ListPodSandboxResponse;
    create_container(CreateContainerRequest) -> CreateContainerResponse;
    start_container(StartContainerRequest) -> StartContainerResponse;
    stop_container(StopContainerRequest) -> StopContainerResponse;
    remove_container(RemoveContainerRequest) -> RemoveContainerResponse;
    list_containers(ListContainersRequest) -> ListContainersResponse;
    container_status(ContainerStatusRequest) -> ContainerStatusResponse;
    update_container_resources(UpdateContainerResourcesRequest) -> UpdateContainerResourcesResponse;
    reopen_container_log(ReopenContainerLogRequest) -> ReopenContainerLogResponse;
    exec_sync(ExecSyncRequest) -> ExecSyncResponse;
    exec(ExecRequest) -> ExecResponse;
    attach(AttachRequest) -> AttachResponse;
    port_forward(PortForwardRequest) -> PortForwardResponse;
    container_stats(ContainerStatsRequest) -> ContainerStatsResponse;
    list_container_stats(ListContainerStatsRequest) -> ListContainerStatsResponse;
    pod_sandbox_stats(PodSandboxStatsRequest) -> PodSandboxStatsResponse;
    list_pod_sandbox_stats(ListPodSandboxStatsRequest) -> ListPodSandboxStatsResponse;
    update_runtime_config(UpdateRuntimeConfigRequest) -> UpdateRuntimeConfigResponse;
    status(StatusRequest) -> StatusResponse;
    checkpoint_container(CheckpointContainerRequest) -> CheckpointContainerResponse;
    checkpoint_pod(CheckpointPodRequest) -> CheckpointPodResponse;
    restore_pod(RestorePodRequest) -> RestorePodResponse;
    list_metric_descriptors(ListMetricDescriptorsRequest) -> ListMetricDescriptorsResponse;
    list_pod_sandbox_metrics(ListPodSandboxMetricsRequest) -> ListPodSandboxMetricsResponse;
    runtime_config(RuntimeConfigRequest) -> RuntimeConfigResponse;
    update_pod_sandbox_resources(UpdatePodSandboxResourcesRequest) -> UpdatePodSandboxResourcesResponse;
}

lists! { runtime:
    stream_pod_sandboxes(StreamPodSandboxesRequest) -> StreamPodSandboxesResponse;
    stream_containers(StreamContainersRequest) -> StreamContainersResponse;
    stream_container_stats(StreamContainerStatsRequest) -> StreamContainerStatsResponse;
    stream_pod_sandbox_stats(StreamPodSandboxStatsRequest) -> StreamPodSandboxStatsResponse;
    stream_pod_sandbox_metrics(StreamPodSandboxMetricsRequest) -> StreamPodSandboxMetricsResponse;
}

calls! { images:
    list_images(ListImagesRequest) -> ListImagesResponse;
    image_status(ImageStatusRequest) -> ImageStatusResponse;
    pull_image(PullImageRequest) -> PullImageResponse;
    remove_image(RemoveImageRequest) -> RemoveImageResponse;
    image_fs_info(ImageFsInfoRequest) -> ImageFsInfoResponse;
}

lists! { images:
    stream_images(StreamImagesRequest) -> StreamImagesResponse;
}

/// What GetContainerEvents sends.
pub struct Events {
    tokio: Arc<Runtime>,
    stream: Streaming<ContainerEventResponse>,
}

impl Events {
    /// The next event; the error says why there is none.
    pub fn next_within(&mut self, limit: Duration) -> Result<ContainerEventResponse, String> {
        let stream = &mut self.stream;
        self.tokio.block_on(async {
            match tokio::time::timeout(patience(limit), stream.message()).await {
                Ok(Ok(Some(event))) => Ok(event),
                Ok(Ok(None)) => Err("the stream of events ended".into()),
                Ok(Err(status)) => Err(format!("the stream of events broke: {status}")),
                Err(_) => Err(format!("no event within {limit:?}")),
            }
        })
    }
}
