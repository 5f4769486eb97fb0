//! A CSI driver in the test's process: it registers itself as node-driver-registrar would, mounts what it is asked for, notes
//! each call, and fails as the test wants it to.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cri_proto::csi::node_server::{Node as NodeService, NodeServer};
use cri_proto::csi::node_service_capability::rpc::Type;
use cri_proto::csi::node_service_capability::{Rpc, Type as Kind};
use cri_proto::csi::*;
use cri_proto::registration::registration_server::{Registration, RegistrationServer};
use cri_proto::registration::{InfoRequest, PluginInfo, RegistrationStatus, RegistrationStatusResponse};
use tokio::net::UnixListener;
use tokio::sync::watch;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::Server;
use tonic::{Code, Request, Response, Status};

use crate::inspect;

/// What it says that it is.
pub const NAME: &str = "disk.csi.coracle.test";

/// What it calls this node.
pub const NODE_ID: &str = "node-1";

/// Where it says that this node is.
pub const TOPOLOGY: (&str, &str) = ("topology.csi.coracle.test/node", "here");

/// A call as it came.
#[derive(Clone, Debug)]
pub struct Call {
    /// `NodeStageVolume` …
    pub method: &'static str,
    /// Of which volume.
    pub volume: String,
    /// Where.
    pub path: PathBuf,
    /// What else it said, as text.
    pub said: String,
}

/// How a call fails.
#[derive(Clone, Debug)]
pub enum Fault {
    /// It is refused.
    Refused(Code, &'static str),
    /// It is not answered, and not done, until the driver is healed.
    Hangs,
}

/// The driver; it ends when this is dropped.
pub struct Driver {
    shared: Arc<Shared>,
    dir: PathBuf,
    serving: Option<tokio::runtime::Runtime>,
}

struct Shared {
    data: PathBuf,
    endpoint: PathBuf,
    calls: Mutex<Vec<Call>>,
    faults: watch::Sender<HashMap<&'static str, Fault>>,
    registered: watch::Sender<Option<RegistrationStatus>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Driver {
    /// A driver that is not there yet. What its volumes hold is in `data`; `kubelet` is what looks like a kubelet's directory.
    pub fn new(kubelet: &Path, data: PathBuf) -> Self {
        let endpoint = kubelet.join("plugins").join(NAME).join("csi.sock");
        let shared = Shared {
            data,
            endpoint,
            calls: Mutex::default(),
            faults: watch::Sender::default(),
            registered: watch::Sender::default(),
        };
        Driver { shared: Arc::new(shared), dir: kubelet.to_owned(), serving: None }
    }

    fn socket(&self) -> PathBuf {
        self.dir.join("plugins_registry").join(format!("{NAME}-reg.sock"))
    }

    /// It serves, and waits until it is told that it is known.
    #[track_caller]
    pub fn come(&mut self) {
        self.shared.registered.send_replace(None);
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let runtime = runtime.expect("a runtime");
        std::fs::create_dir_all(self.shared.endpoint.parent().expect("it has one")).expect("the directory can be made");
        let guard = runtime.enter();
        let listen = |path: &Path| UnixListenerStream::new(UnixListener::bind(path).expect("the socket can be bound"));
        let (csi, registry) = (listen(&self.shared.endpoint), listen(&self.socket()));
        drop(guard);
        let node = NodeServer::new(Serves(self.shared.clone()));
        runtime.spawn(Server::builder().add_service(node).serve_with_incoming(csi));
        let registration = RegistrationServer::new(Serves(self.shared.clone()));
        runtime.spawn(Server::builder().add_service(registration).serve_with_incoming(registry));
        self.serving = Some(runtime);
        inspect::wait_until("the driver is registered", || self.registered().is_some_and(|it| it.plugin_registered));
    }

    /// It is away, as when its pod is replaced: what it has mounted stays.
    pub fn leave(&mut self) {
        if let Some(runtime) = self.serving.take() {
            runtime.shutdown_background();
        }
        for socket in [self.socket(), self.shared.endpoint.clone()] {
            let _ = std::fs::remove_file(socket);
        }
    }

    /// What it was told of its registration last.
    pub fn registered(&self) -> Option<RegistrationStatus> {
        self.shared.registered.borrow().clone()
    }

    /// From now on calls of a method fail.
    pub fn fail(&self, method: &'static str, fault: Fault) {
        self.shared.faults.send_modify(|faults| {
            faults.insert(method, fault);
        });
    }

    /// Nothing fails any more; what hangs goes on.
    pub fn heal(&self) {
        self.shared.faults.send_modify(HashMap::clear);
    }

    /// The calls of a method so far.
    pub fn calls(&self, method: &str) -> Vec<Call> {
        lock(&self.shared.calls).iter().filter(|call| call.method == method).cloned().collect()
    }

    /// Waits until a method was called for a volume.
    #[track_caller]
    pub fn wait_for(&self, method: &str, volume: &str) -> Call {
        let found = || self.calls(method).into_iter().find(|call| call.volume == volume);
        inspect::wait_until(&format!("{method} of {volume} is called"), || found().is_some());
        found().expect("it was there")
    }

    /// Forgets the calls so far.
    pub fn forget(&self) {
        lock(&self.shared.calls).clear();
    }

    /// Everything that is mounted from its volumes: the mount points.
    pub fn mounted(&self) -> Vec<PathBuf> {
        points().into_iter().filter(|point| point.starts_with(&self.dir) && !is_pods(point)).collect()
    }
}

/// The directory of pods is a mount itself.
fn is_pods(point: &Path) -> bool {
    point.file_name().is_some_and(|name| name == "pods")
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.heal();
        self.leave();
        for point in self.mounted().into_iter().rev() {
            let _ = rustix::mount::unmount(&point, rustix::mount::UnmountFlags::DETACH);
        }
    }
}

fn points() -> Vec<PathBuf> {
    let table = std::fs::read_to_string("/proc/self/mountinfo").expect("procfs is mounted");
    table.lines().filter_map(|line| line.split(' ').nth(4)).map(PathBuf::from).collect()
}

fn failed(error: impl std::fmt::Display) -> Status {
    Status::internal(error.to_string())
}

/// Mounts a directory on another, once.
fn bind(source: &Path, target: &Path) -> Result<(), Status> {
    std::fs::create_dir_all(source).map_err(failed)?;
    std::fs::create_dir_all(target).map_err(failed)?;
    if points().iter().any(|point| point == target) {
        return Ok(());
    }
    rustix::mount::mount_bind(source, target).map_err(failed)
}

fn unmount(target: &Path) -> Result<(), Status> {
    if points().iter().any(|point| point == target) {
        rustix::mount::unmount(target, rustix::mount::UnmountFlags::empty()).map_err(failed)?;
    }
    Ok(())
}

#[derive(Clone)]
struct Serves(Arc<Shared>);

impl Serves {
    /// Notes a call, and fails it where that is wanted.
    async fn begin(&self, method: &'static str, volume: &str, path: &str, said: String) -> Result<(), Status> {
        lock(&self.0.calls).push(Call { method, volume: volume.to_owned(), path: path.into(), said });
        let fault = self.0.faults.borrow().get(method).cloned();
        match fault {
            None => Ok(()),
            Some(Fault::Refused(code, why)) => Err(Status::new(code, why)),
            Some(Fault::Hangs) => {
                let healed = |faults: &HashMap<_, _>| !faults.contains_key(method);
                self.0.faults.subscribe().wait_for(healed).await.map(drop).map_err(failed)
            }
        }
    }
}

#[tonic::async_trait]
impl NodeService for Serves {
    async fn node_stage_volume(
        &self,
        request: Request<NodeStageVolumeRequest>,
    ) -> Result<Response<NodeStageVolumeResponse>, Status> {
        let asked = request.into_inner();
        self.begin("NodeStageVolume", &asked.volume_id, &asked.staging_target_path, format!("{asked:?}")).await?;
        bind(&self.0.data.join(&asked.volume_id), Path::new(&asked.staging_target_path))?;
        Ok(Response::new(NodeStageVolumeResponse::default()))
    }

    async fn node_unstage_volume(
        &self,
        request: Request<NodeUnstageVolumeRequest>,
    ) -> Result<Response<NodeUnstageVolumeResponse>, Status> {
        let asked = request.into_inner();
        self.begin("NodeUnstageVolume", &asked.volume_id, &asked.staging_target_path, String::new()).await?;
        unmount(Path::new(&asked.staging_target_path))?;
        Ok(Response::new(NodeUnstageVolumeResponse::default()))
    }

    async fn node_publish_volume(
        &self,
        request: Request<NodePublishVolumeRequest>,
    ) -> Result<Response<NodePublishVolumeResponse>, Status> {
        let asked = request.into_inner();
        self.begin("NodePublishVolume", &asked.volume_id, &asked.target_path, format!("{asked:?}")).await?;
        let source = match asked.staging_target_path.as_str() {
            // Its own, of one pod alone.
            "" => self.0.data.join(&asked.volume_id),
            staged => staged.into(),
        };
        bind(&source, Path::new(&asked.target_path))?;
        Ok(Response::new(NodePublishVolumeResponse::default()))
    }

    async fn node_unpublish_volume(
        &self,
        request: Request<NodeUnpublishVolumeRequest>,
    ) -> Result<Response<NodeUnpublishVolumeResponse>, Status> {
        let asked = request.into_inner();
        self.begin("NodeUnpublishVolume", &asked.volume_id, &asked.target_path, String::new()).await?;
        unmount(Path::new(&asked.target_path))?;
        match std::fs::remove_dir(&asked.target_path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        if asked.volume_id.starts_with("csi-") {
            let _ = std::fs::remove_dir_all(self.0.data.join(&asked.volume_id));
        }
        Ok(Response::new(NodeUnpublishVolumeResponse::default()))
    }

    async fn node_get_capabilities(
        &self,
        _: Request<NodeGetCapabilitiesRequest>,
    ) -> Result<Response<NodeGetCapabilitiesResponse>, Status> {
        let rpc = Rpc { r#type: Type::StageUnstageVolume.into() };
        let capability = NodeServiceCapability { r#type: Some(Kind::Rpc(rpc)) };
        Ok(Response::new(NodeGetCapabilitiesResponse { capabilities: vec![capability] }))
    }

    async fn node_get_info(&self, _: Request<NodeGetInfoRequest>) -> Result<Response<NodeGetInfoResponse>, Status> {
        let (key, value) = TOPOLOGY;
        let topology = Topology { segments: [(key.to_owned(), value.to_owned())].into() };
        Ok(Response::new(NodeGetInfoResponse {
            node_id: NODE_ID.to_owned(),
            max_volumes_per_node: 5,
            accessible_topology: Some(topology),
        }))
    }
}

#[tonic::async_trait]
impl Registration for Serves {
    async fn get_info(&self, _: Request<InfoRequest>) -> Result<Response<PluginInfo>, Status> {
        Ok(Response::new(PluginInfo {
            r#type: "CSIPlugin".to_owned(),
            name: NAME.to_owned(),
            endpoint: self.0.endpoint.to_string_lossy().into_owned(),
            supported_versions: vec!["1.0.0".to_owned()],
        }))
    }

    async fn notify_registration_status(
        &self,
        request: Request<RegistrationStatus>,
    ) -> Result<Response<RegistrationStatusResponse>, Status> {
        self.0.registered.send_replace(Some(request.into_inner()));
        Ok(Response::new(RegistrationStatusResponse::default()))
    }
}
