//! A runtime in memory whose containers live and end by a script, on tokio's clock: a worker's tests need no root and
//! no real second.
#![allow(clippy::unwrap_used)]

mod exec;
mod images;
mod node;
mod world;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use cri_proto::cri;
use cri_proto::cri::image_service_server::ImageServiceServer;
use cri_proto::cri::runtime_service_server::{RuntimeService, RuntimeServiceServer};
use cri_proto::node::node_service_server::NodeServiceServer;
use futures_util::Stream;
use tokio::sync::{broadcast, watch};
use tokio::time::{Instant, sleep, timeout};
use tonic::{Request, Response, Status};

pub use self::exec::Exec;
pub use self::node::{Networks, Pulls};
pub use self::world::{Fake, Instance, Script};
use super::config::names::{POD_UID, PodKey};
use crate::channel::{Channel, in_memory};

type Answer<T> = Result<Response<T>, Status>;
type Never<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

fn absent<T>() -> Answer<T> {
    Err(Status::unimplemented("not part of the script"))
}

#[tonic::async_trait]
impl RuntimeService for Fake {
    type GetContainerEventsStream = Never<cri::ContainerEventResponse>;

    async fn version(&self, _: Request<cri::VersionRequest>) -> Answer<cri::VersionResponse> {
        Ok(Response::new(cri::VersionResponse { runtime_name: "fake".into(), ..Default::default() }))
    }

    async fn run_pod_sandbox(&self, request: Request<cri::RunPodSandboxRequest>) -> Answer<cri::RunPodSandboxResponse> {
        let config = request.into_inner().config.unwrap();
        let metadata = config.metadata.unwrap();
        self.note(format!("sandbox {} {}", metadata.name, metadata.attempt));
        self.creating().await;
        let mut world = self.world();
        if let Some(status) = world.sandbox_failures.pop_front() {
            return Err(status);
        }
        let id = format!("{}-s{}", metadata.name, metadata.attempt);
        world.sandboxes.push(cri::PodSandboxStatus {
            id: id.clone(),
            metadata: Some(metadata),
            labels: config.labels,
            annotations: config.annotations,
            network: Some(cri::PodSandboxNetworkStatus {
                ip: "10.9.0.2".into(),
                additional_ips: vec![cri::PodIp { ip: "fd09::2".into() }],
            }),
            ..Default::default()
        });
        Ok(Response::new(cri::RunPodSandboxResponse { pod_sandbox_id: id }))
    }

    async fn stop_pod_sandbox(
        &self,
        request: Request<cri::StopPodSandboxRequest>,
    ) -> Answer<cri::StopPodSandboxResponse> {
        let id = request.into_inner().pod_sandbox_id;
        self.note(format!("stop-sandbox {id}"));
        let mut world = self.world();
        for sandbox in world.sandboxes.iter_mut().filter(|sandbox| sandbox.id == id) {
            sandbox.set_state(cri::PodSandboxState::SandboxNotready);
        }
        let inside: Vec<_> = world.containers.iter().filter(|container| container.sandbox == id).collect();
        let inside: Vec<String> = inside.iter().map(|container| container.status.id.clone()).collect();
        drop(world);
        for id in inside {
            self.end(&id, 137, "Error");
        }
        Ok(Response::new(cri::StopPodSandboxResponse {}))
    }

    async fn remove_pod_sandbox(
        &self,
        request: Request<cri::RemovePodSandboxRequest>,
    ) -> Answer<cri::RemovePodSandboxResponse> {
        let id = request.into_inner().pod_sandbox_id;
        self.note(format!("remove-sandbox {id}"));
        let mut world = self.world();
        world.sandboxes.retain(|sandbox| sandbox.id != id);
        world.containers.retain(|container| container.sandbox != id);
        Ok(Response::new(cri::RemovePodSandboxResponse {}))
    }

    async fn pod_sandbox_status(
        &self,
        request: Request<cri::PodSandboxStatusRequest>,
    ) -> Answer<cri::PodSandboxStatusResponse> {
        let id = request.into_inner().pod_sandbox_id;
        let status = self.world().sandboxes.iter().find(|sandbox| sandbox.id == id).cloned();
        match status {
            Some(_) => Ok(Response::new(cri::PodSandboxStatusResponse { status, ..Default::default() })),
            None => Err(Status::not_found(id)),
        }
    }

    async fn list_pod_sandbox(
        &self,
        request: Request<cri::ListPodSandboxRequest>,
    ) -> Answer<cri::ListPodSandboxResponse> {
        let wanted = request.into_inner().filter.unwrap_or_default().label_selector;
        let world = self.world();
        let items =
            world.sandboxes.iter().filter(|sandbox| wanted.iter().all(|(k, v)| sandbox.labels.get(k) == Some(v)));
        let items = items.map(|sandbox| cri::PodSandbox {
            id: sandbox.id.clone(),
            metadata: sandbox.metadata.clone(),
            state: sandbox.state,
            labels: sandbox.labels.clone(),
            annotations: sandbox.annotations.clone(),
            ..Default::default()
        });
        Ok(Response::new(cri::ListPodSandboxResponse { items: items.collect() }))
    }

    async fn create_container(
        &self,
        request: Request<cri::CreateContainerRequest>,
    ) -> Answer<cri::CreateContainerResponse> {
        let request = request.into_inner();
        let (config, sandbox) = (request.config.unwrap(), request.pod_sandbox_id);
        let metadata = config.metadata.clone().unwrap();
        self.note(format!("create {} {}", metadata.name, metadata.attempt));
        self.creating().await;
        let mut world = self.world();
        let scripts = world.scripts.entry(metadata.name.clone()).or_default();
        // The last script goes on for ever.
        let script = if scripts.len() > 1 { scripts.pop_front() } else { scripts.front().cloned() };
        let script = script.unwrap_or(Script::Runs { stops_after: Some(Duration::from_secs(1)) });
        if let Script::FailsToCreate(status) = script {
            return Err(status);
        }
        let id = format!("{sandbox}-{}{}", metadata.name, metadata.attempt);
        assert!(world.containers.iter().all(|container| container.status.id != id), "{id} is made twice");
        let status = cri::ContainerStatus {
            id: id.clone(),
            metadata: Some(metadata),
            labels: config.labels.clone(),
            annotations: config.annotations.clone(),
            ..Default::default()
        };
        world.containers.push(Instance { status, sandbox, config, script, ended: watch::channel(false).0 });
        Ok(Response::new(cri::CreateContainerResponse { container_id: id }))
    }

    async fn start_container(
        &self,
        request: Request<cri::StartContainerRequest>,
    ) -> Answer<cri::StartContainerResponse> {
        let id = request.into_inner().container_id;
        let script = {
            let mut world = self.world();
            let container = world.containers.iter_mut().find(|container| container.status.id == id).unwrap();
            container.status.set_state(cri::ContainerState::ContainerRunning);
            container.status.started_at = 1;
            container.script.clone()
        };
        match script {
            Script::Exits { after, code, reason } => {
                let fake = self.clone();
                tokio::spawn(async move {
                    sleep(after).await;
                    fake.end(&id, code, reason);
                });
            }
            Script::FailsToStart { code } => {
                self.end(&id, code, "StartError");
                return Err(Status::unknown("exec: no such file"));
            }
            Script::Runs { .. } | Script::FailsToCreate(_) => self.send(&self.world(), &id),
        }
        Ok(Response::new(cri::StartContainerResponse {}))
    }

    async fn stop_container(&self, request: Request<cri::StopContainerRequest>) -> Answer<cri::StopContainerResponse> {
        let cri::StopContainerRequest { container_id: id, timeout: patience } = request.into_inner();
        self.note(format!("stop {id} {patience}"));
        let (script, mut ended) = {
            let world = self.world();
            let container = world.containers.iter().find(|container| container.status.id == id).unwrap();
            (container.script.clone(), container.ended.subscribe())
        };
        let patience = Duration::from_secs(u64::try_from(patience).unwrap());
        let stops_after = match script {
            Script::Runs { stops_after } => stops_after,
            _ => Some(Duration::ZERO),
        };
        let (wait, code) = match stops_after {
            Some(after) if after <= patience && !patience.is_zero() => (after, 143),
            _ => (patience, 137),
        };
        let _ = timeout(wait, ended.wait_for(|ended| *ended)).await;
        self.end(&id, code, "Error");
        Ok(Response::new(cri::StopContainerResponse {}))
    }

    async fn remove_container(
        &self,
        request: Request<cri::RemoveContainerRequest>,
    ) -> Answer<cri::RemoveContainerResponse> {
        let id = request.into_inner().container_id;
        self.note(format!("remove {id}"));
        self.world().containers.retain(|container| container.status.id != id);
        Ok(Response::new(cri::RemoveContainerResponse {}))
    }

    async fn list_containers(
        &self,
        request: Request<cri::ListContainersRequest>,
    ) -> Answer<cri::ListContainersResponse> {
        let wanted = request.into_inner().filter.unwrap_or_default().label_selector;
        let world = self.world();
        let containers = world
            .containers
            .iter()
            .filter(|container| wanted.iter().all(|(k, v)| container.config.labels.get(k) == Some(v)))
            .map(|container| cri::Container {
                id: container.status.id.clone(),
                pod_sandbox_id: container.sandbox.clone(),
                metadata: container.status.metadata.clone(),
                state: container.status.state,
                labels: container.config.labels.clone(),
                ..Default::default()
            });
        Ok(Response::new(cri::ListContainersResponse { containers: containers.collect() }))
    }

    async fn container_status(
        &self,
        request: Request<cri::ContainerStatusRequest>,
    ) -> Answer<cri::ContainerStatusResponse> {
        let id = request.into_inner().container_id;
        let world = self.world();
        let status = world.containers.iter().find(|container| container.status.id == id);
        let status = status.map(|container| container.status.clone());
        match status {
            Some(_) => Ok(Response::new(cri::ContainerStatusResponse { status, ..Default::default() })),
            None => Err(Status::not_found(id)),
        }
    }

    async fn get_container_events(&self, _: Request<cri::GetEventsRequest>) -> Answer<Self::GetContainerEventsStream> {
        let stream = tokio_stream::wrappers::BroadcastStream::new(self.events.subscribe());
        let stream = tokio_stream::StreamExt::map(stream, |event| event.map_err(|_| Status::data_loss("lagged")));
        Ok(Response::new(Box::pin(stream)))
    }

    type StreamPodSandboxesStream = Never<cri::StreamPodSandboxesResponse>;
    type StreamContainersStream = Never<cri::StreamContainersResponse>;
    type StreamContainerStatsStream = Never<cri::StreamContainerStatsResponse>;
    type StreamPodSandboxStatsStream = Never<cri::StreamPodSandboxStatsResponse>;
    type StreamPodSandboxMetricsStream = Never<cri::StreamPodSandboxMetricsResponse>;
    async fn stream_pod_sandboxes(
        &self,
        _: Request<cri::StreamPodSandboxesRequest>,
    ) -> Answer<Self::StreamPodSandboxesStream> {
        absent()
    }
    async fn stream_containers(
        &self,
        _: Request<cri::StreamContainersRequest>,
    ) -> Answer<Self::StreamContainersStream> {
        absent()
    }
    async fn update_container_resources(
        &self,
        request: Request<cri::UpdateContainerResourcesRequest>,
    ) -> Answer<cri::UpdateContainerResourcesResponse> {
        let request = request.into_inner();
        let linux = request.linux.unwrap();
        self.note(format!("resize {} {} {}", request.container_id, linux.cpu_quota, linux.memory_limit_in_bytes));
        match self.world().resize_failures.pop_front() {
            Some(status) => Err(status),
            None => Ok(Response::new(cri::UpdateContainerResourcesResponse {})),
        }
    }
    async fn reopen_container_log(
        &self,
        _: Request<cri::ReopenContainerLogRequest>,
    ) -> Answer<cri::ReopenContainerLogResponse> {
        absent()
    }
    async fn exec_sync(&self, request: Request<cri::ExecSyncRequest>) -> Answer<cri::ExecSyncResponse> {
        self.run_exec(request.into_inner()).await
    }
    async fn exec(&self, _: Request<cri::ExecRequest>) -> Answer<cri::ExecResponse> {
        absent()
    }
    async fn attach(&self, _: Request<cri::AttachRequest>) -> Answer<cri::AttachResponse> {
        absent()
    }
    async fn port_forward(&self, _: Request<cri::PortForwardRequest>) -> Answer<cri::PortForwardResponse> {
        absent()
    }
    async fn container_stats(&self, _: Request<cri::ContainerStatsRequest>) -> Answer<cri::ContainerStatsResponse> {
        absent()
    }
    async fn list_container_stats(
        &self,
        _: Request<cri::ListContainerStatsRequest>,
    ) -> Answer<cri::ListContainerStatsResponse> {
        absent()
    }
    async fn stream_container_stats(
        &self,
        _: Request<cri::StreamContainerStatsRequest>,
    ) -> Answer<Self::StreamContainerStatsStream> {
        absent()
    }
    async fn pod_sandbox_stats(&self, _: Request<cri::PodSandboxStatsRequest>) -> Answer<cri::PodSandboxStatsResponse> {
        absent()
    }
    async fn list_pod_sandbox_stats(
        &self,
        _: Request<cri::ListPodSandboxStatsRequest>,
    ) -> Answer<cri::ListPodSandboxStatsResponse> {
        absent()
    }
    async fn stream_pod_sandbox_stats(
        &self,
        _: Request<cri::StreamPodSandboxStatsRequest>,
    ) -> Answer<Self::StreamPodSandboxStatsStream> {
        absent()
    }
    async fn update_runtime_config(
        &self,
        _: Request<cri::UpdateRuntimeConfigRequest>,
    ) -> Answer<cri::UpdateRuntimeConfigResponse> {
        absent()
    }
    async fn status(&self, _: Request<cri::StatusRequest>) -> Answer<cri::StatusResponse> {
        absent()
    }
    async fn checkpoint_container(
        &self,
        _: Request<cri::CheckpointContainerRequest>,
    ) -> Answer<cri::CheckpointContainerResponse> {
        absent()
    }
    async fn checkpoint_pod(&self, _: Request<cri::CheckpointPodRequest>) -> Answer<cri::CheckpointPodResponse> {
        absent()
    }
    async fn restore_pod(&self, _: Request<cri::RestorePodRequest>) -> Answer<cri::RestorePodResponse> {
        absent()
    }
    async fn list_metric_descriptors(
        &self,
        _: Request<cri::ListMetricDescriptorsRequest>,
    ) -> Answer<cri::ListMetricDescriptorsResponse> {
        absent()
    }
    async fn list_pod_sandbox_metrics(
        &self,
        _: Request<cri::ListPodSandboxMetricsRequest>,
    ) -> Answer<cri::ListPodSandboxMetricsResponse> {
        absent()
    }
    async fn stream_pod_sandbox_metrics(
        &self,
        _: Request<cri::StreamPodSandboxMetricsRequest>,
    ) -> Answer<Self::StreamPodSandboxMetricsStream> {
        absent()
    }
    async fn runtime_config(&self, _: Request<cri::RuntimeConfigRequest>) -> Answer<cri::RuntimeConfigResponse> {
        absent()
    }
    async fn update_pod_sandbox_resources(
        &self,
        _: Request<cri::UpdatePodSandboxResourcesRequest>,
    ) -> Answer<cri::UpdatePodSandboxResourcesResponse> {
        absent()
    }
}

/// The key of a test's pod.
pub fn key(name: &str) -> PodKey {
    PodKey { namespace: "default".into(), name: name.into(), uid: format!("uid-{name}") }
}
