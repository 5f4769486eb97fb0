//! What the fake runtime has, and what a test does to it.

use super::*;

/// How one instance of a container goes.
#[derive(Clone, Debug)]
pub enum Script {
    /// Ends by itself.
    Exits { after: Duration, code: i32, reason: &'static str },
    /// Runs until stopped; `None` ignores the stop signal.
    Runs { stops_after: Option<Duration> },
    /// CreateContainer fails.
    FailsToCreate(Status),
    /// StartContainer fails and leaves the container as ended.
    FailsToStart { code: i32 },
}

/// What a test sets and reads.
#[derive(Default)]
pub struct World {
    pub scripts: BTreeMap<String, VecDeque<Script>>,
    pub execs: BTreeMap<String, VecDeque<Exec>>,
    pub images: BTreeSet<String>,
    pub image_user: (Option<i64>, String),
    pub pulls: Pulls,
    pub networks: Networks,
    pub sandbox_failures: VecDeque<Status>,
    pub resize_failures: VecDeque<Status>,
    /// Events are not sent.
    pub lossy: bool,
    pub sandboxes: Vec<cri::PodSandboxStatus>,
    pub containers: Vec<Instance>,
    /// Every call that changes something, with the second at which it came.
    pub calls: Vec<(u64, String)>,
    pub most_creations: usize,
    pub(super) creations: usize,
}

pub struct Instance {
    pub status: cri::ContainerStatus,
    pub sandbox: String,
    pub config: cri::ContainerConfig,
    pub(super) script: Script,
    pub(super) ended: watch::Sender<bool>,
}

#[derive(Clone)]
pub struct Fake {
    pub(super) world: Arc<Mutex<World>>,
    pub(super) events: broadcast::Sender<cri::ContainerEventResponse>,
    pub(super) begin: Instant,
}

impl Fake {
    pub fn new() -> Self {
        let world = World { images: BTreeSet::from(["i".to_owned()]), ..World::default() };
        Fake { world: Arc::new(Mutex::new(world)), events: broadcast::channel(1024).0, begin: Instant::now() }
    }

    pub fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap()
    }

    pub fn script(&self, name: &str, scripts: impl IntoIterator<Item = Script>) {
        self.world().scripts.entry(name.to_owned()).or_default().extend(scripts);
    }

    pub fn channel(&self) -> Channel {
        let mut routes = tonic::service::Routes::builder();
        routes.add_service(RuntimeServiceServer::new(self.clone()));
        routes.add_service(ImageServiceServer::new(self.clone()));
        routes.add_service(NodeServiceServer::new(self.clone()));
        in_memory(routes.routes())
    }

    /// The calls as `SECOND VERB NAME`.
    pub fn calls(&self) -> Vec<String> {
        self.world().calls.iter().map(|(second, call)| format!("{second} {call}")).collect()
    }

    /// The shim of every sandbox dies.
    pub fn kill_shims(&self) {
        let mut world = self.world();
        for sandbox in &mut world.sandboxes {
            sandbox.set_state(cri::PodSandboxState::SandboxNotready);
        }
        let running: Vec<String> = world.containers.iter().map(|container| container.status.id.clone()).collect();
        drop(world);
        for id in running {
            self.end(&id, 255, "Unknown");
        }
    }

    /// A container ends as by itself.
    pub fn exit(&self, id: &str, code: i32) {
        self.end(id, code, if code == 0 { "Completed" } else { "Error" });
    }

    /// The machine is booted again, and the runtime knows nothing any more.
    pub fn reboot(&self) {
        let mut world = self.world();
        world.sandboxes.clear();
        world.containers.clear();
        world.calls.clear();
    }

    pub(super) fn note(&self, call: String) {
        let second = self.begin.elapsed().as_secs();
        self.world().calls.push((second, call));
    }

    pub(super) fn end(&self, id: &str, code: i32, reason: &str) {
        let mut world = self.world();
        let Some(container) = world.containers.iter_mut().find(|container| container.status.id == id) else { return };
        if container.status.state() != cri::ContainerState::ContainerRunning {
            return;
        }
        container.status.set_state(cri::ContainerState::ContainerExited);
        container.status.exit_code = code;
        container.status.reason = reason.to_owned();
        container.status.finished_at = 1_000_000_000 + i64::try_from(self.begin.elapsed().as_nanos()).unwrap();
        let _ = container.ended.send(true);
        self.send(&world, id);
    }

    pub(super) fn send(&self, world: &World, id: &str) {
        if world.lossy {
            return;
        }
        let container = world.containers.iter().find(|container| container.status.id == id).unwrap();
        let uid = container.config.labels[POD_UID].clone();
        let metadata = Some(cri::PodSandboxMetadata { uid, ..Default::default() });
        let event = cri::ContainerEventResponse {
            container_id: id.to_owned(),
            pod_sandbox_status: Some(cri::PodSandboxStatus { metadata, ..Default::default() }),
            ..Default::default()
        };
        let _ = self.events.send(event);
    }

    pub(super) async fn creating(&self) {
        {
            let mut world = self.world();
            world.creations += 1;
            world.most_creations = world.most_creations.max(world.creations);
        }
        sleep(Duration::from_millis(5)).await;
        self.world().creations -= 1;
    }
}
