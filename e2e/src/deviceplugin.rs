//! A device plug-in in the test's process, as a driver's DaemonSet would run one: its devices are the host's `/dev/null`, under
//! other names.

use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use cri_proto::device_plugin as api;
use cri_proto::device_plugin::device_plugin_server::{DevicePlugin, DevicePluginServer};
use cri_proto::device_plugin::registration_client::RegistrationClient;
use tokio::net::UnixListener;
use tokio::sync::watch;
use tokio_stream::wrappers::{UnixListenerStream, WatchStream};
use tokio_stream::{Stream, StreamExt as _};
use tonic::transport::Endpoint;
use tonic::{Request, Response, Status};

/// The version of the API that plug-ins speak.
pub const VERSION: &str = "v1beta1";

/// A device that is said to be healthy and cannot be given.
pub const BROKEN: &str = "broken";

/// A plug-in that serves. It is gone when it is dropped: connections and socket.
pub struct Plugin {
    runtime: Option<tokio::runtime::Runtime>,
    devices: watch::Sender<Vec<api::Device>>,
    calls: Arc<Mutex<Vec<String>>>,
    dir: PathBuf,
    endpoint: String,
}

/// Which devices there are: names, and whether each is healthy.
pub type List<'a> = &'a [(&'a str, bool)];

fn list(devices: List<'_>) -> Vec<api::Device> {
    let device = |(id, healthy): &(&str, bool)| api::Device {
        id: (*id).to_owned(),
        health: if *healthy { "Healthy" } else { "Unhealthy" }.to_owned(),
        topology: None,
    };
    devices.iter().map(device).collect()
}

impl Plugin {
    /// Serves on a socket in `dir` from now on.
    pub fn serve(dir: &Path, endpoint: &str, devices: List<'_>) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let (devices, calls) = (watch::Sender::new(list(devices)), Arc::<Mutex<Vec<String>>>::default());
        let service = Service { devices: devices.subscribe(), calls: calls.clone() };
        let listener = runtime.block_on(async { UnixListener::bind(dir.join(endpoint)) }).expect("a socket");
        let server = tonic::transport::Server::builder().add_service(DevicePluginServer::new(service));
        runtime.spawn(server.serve_with_incoming(UnixListenerStream::new(listener)));
        Self { runtime: Some(runtime), devices, calls, dir: dir.to_owned(), endpoint: endpoint.to_owned() }
    }

    /// Registers with the node, for a resource.
    pub fn register(&self, resource: &str) -> Result<(), Status> {
        self.register_as(VERSION, &self.endpoint, resource)
    }

    /// Registers with a version and an endpoint that may be none.
    pub fn register_as(&self, version: &str, endpoint: &str, resource: &str) -> Result<(), Status> {
        let request = api::RegisterRequest {
            version: version.to_owned(),
            endpoint: endpoint.to_owned(),
            resource_name: resource.to_owned(),
            options: None,
        };
        register(self.runtime.as_ref().expect("it goes with this"), &self.dir, request)
    }

    /// Says that there are other devices.
    pub fn tell(&self, devices: List<'_>) {
        self.devices.send_replace(list(devices));
    }

    /// What it was asked so far: `Allocate a,b`, `PreStartContainer a,b`.
    pub fn calls(&self) -> Vec<String> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether its socket is still there.
    pub fn has_socket(&self) -> bool {
        self.dir.join(&self.endpoint).exists()
    }
}

impl Drop for Plugin {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
        let _ = std::fs::remove_file(self.dir.join(&self.endpoint));
    }
}

/// Asks the node whose directory of plug-ins `dir` is to register one.
fn register(runtime: &tokio::runtime::Runtime, dir: &Path, request: api::RegisterRequest) -> Result<(), Status> {
    let address = format!("unix://{}", dir.join("kubelet.sock").display());
    runtime.block_on(async {
        let channel = Endpoint::from_shared(address).expect("the path is plain").connect().await;
        let channel = channel.map_err(|error| Status::unavailable(format!("{error:?}")))?;
        RegistrationClient::new(channel).register(request).await.map(drop)
    })
}

struct Service {
    devices: watch::Receiver<Vec<api::Device>>,
    calls: Arc<Mutex<Vec<String>>>,
}

impl Service {
    fn note(&self, call: &str, devices: &[String]) {
        let call = format!("{call} {}", devices.join(","));
        self.calls.lock().unwrap_or_else(PoisonError::into_inner).push(call);
    }
}

/// What a container needs: a variable, a directory, and a node in `/dev` for each device.
fn answer(ids: &[String]) -> api::ContainerAllocateResponse {
    let node = |id: &String| api::DeviceSpec {
        container_path: format!("/dev/unit-{id}"),
        host_path: "/dev/null".to_owned(),
        permissions: "rw".to_owned(),
    };
    let mount =
        api::Mount { container_path: "/unit".to_owned(), host_path: "/sys/class/mem".to_owned(), read_only: true };
    api::ContainerAllocateResponse {
        envs: [("UNITS".to_owned(), ids.join(","))].into(),
        mounts: vec![mount],
        devices: ids.iter().map(node).collect(),
        annotations: [("unit.example/given".to_owned(), ids.join(","))].into(),
        cdi_devices: vec![],
    }
}

#[tonic::async_trait]
impl DevicePlugin for Service {
    async fn get_device_plugin_options(
        &self,
        _: Request<api::Empty>,
    ) -> Result<Response<api::DevicePluginOptions>, Status> {
        let options = api::DevicePluginOptions { pre_start_required: true, get_preferred_allocation_available: true };
        Ok(Response::new(options))
    }

    type ListAndWatchStream = Pin<Box<dyn Stream<Item = Result<api::ListAndWatchResponse, Status>> + Send>>;

    async fn list_and_watch(&self, _: Request<api::Empty>) -> Result<Response<Self::ListAndWatchStream>, Status> {
        let lists = WatchStream::new(self.devices.clone());
        Ok(Response::new(Box::pin(lists.map(|devices| Ok(api::ListAndWatchResponse { devices })))))
    }

    /// Prefers the last ones by their names.
    async fn get_preferred_allocation(
        &self,
        request: Request<api::PreferredAllocationRequest>,
    ) -> Result<Response<api::PreferredAllocationResponse>, Status> {
        let answer = |mut one: api::ContainerPreferredAllocationRequest| {
            one.available_device_i_ds.sort();
            let size = usize::try_from(one.allocation_size).unwrap_or(0);
            let device_i_ds = one.available_device_i_ds.into_iter().rev().take(size).collect();
            api::ContainerPreferredAllocationResponse { device_i_ds }
        };
        let container_responses = request.into_inner().container_requests.into_iter().map(answer).collect();
        Ok(Response::new(api::PreferredAllocationResponse { container_responses }))
    }

    async fn allocate(
        &self,
        request: Request<api::AllocateRequest>,
    ) -> Result<Response<api::AllocateResponse>, Status> {
        let asked = request.into_inner().container_requests;
        asked.iter().for_each(|it| self.note("Allocate", &it.devices_ids));
        if asked.iter().flat_map(|it| &it.devices_ids).any(|id| id == BROKEN) {
            return Err(Status::internal("it is broken"));
        }
        let container_responses = asked.iter().map(|it| answer(&it.devices_ids)).collect();
        Ok(Response::new(api::AllocateResponse { container_responses }))
    }

    async fn pre_start_container(
        &self,
        request: Request<api::PreStartContainerRequest>,
    ) -> Result<Response<api::PreStartContainerResponse>, Status> {
        self.note("PreStartContainer", &request.into_inner().devices_ids);
        Ok(Response::new(api::PreStartContainerResponse {}))
    }
}
