//! A runtime in directories of its own.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use cri_proto::cri::{self, runtime_service_client::RuntimeServiceClient};
use runtime::{Options, Owner, Runtime};
use tonic::service::Routes;

pub struct Node {
    dir: Option<tempfile::TempDir>,
    path: PathBuf,
    cgroup_root: String,
    pub runtime: Runtime,
    pub cri: RuntimeServiceClient<Routes>,
    forwarding: Vec<Option<String>>,
}

/// How long a test waits for one thing, on a machine with much else to do.
const PATIENCE: Duration = Duration::from_secs(120);

/// Waits for what takes the kernel or another process a moment: what it is when it is as it should be, or at the end.
pub fn settled<T: PartialEq>(expected: &T, look: impl Fn() -> T) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        let now = look();
        if now == *expected || Instant::now() > end {
            return now;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The settings that a pod network changes. A new network namespace may have them from the machine's.
fn forwarding() -> Vec<Option<String>> {
    let names = ["ipv4/ip_forward", "ipv6/conf/all/forwarding", "ipv6/conf/lo/forwarding"];
    names.map(|name| std::fs::read_to_string(format!("/proc/sys/net/{name}")).ok()).to_vec()
}

/// A runtime's directories below one.
pub fn options(dir: &Path, cgroup_root: &str) -> Options {
    Options {
        root_dir: dir.join("root"),
        state_dir: dir.join("state"),
        cgroup_root: cgroup_root.to_owned(),
        boot_id: None,
        network: runtime::network::Options::default(),
        registry: Default::default(),
    }
}

impl Node {
    /// In directories that go with it.
    pub fn open(zygote: runtime::zygote::Zygote) -> Self {
        let before = forwarding();
        let dir = tempfile::tempdir().unwrap();
        let cgroup_root = format!("coracle-test-pods-{}", std::process::id());
        let runtime = Runtime::open(options(dir.path(), &cgroup_root), Some(zygote)).unwrap();
        let cri = RuntimeServiceClient::new(runtime.services(Owner::Run("test".into())));
        Self { path: dir.path().to_owned(), dir: Some(dir), cgroup_root, runtime, cri, forwarding: before }
    }

    /// As a run that somebody else will clean up after.
    pub fn of_run(options: Options, run: &str, zygote: runtime::zygote::Zygote) -> Self {
        let (path, cgroup_root) = (options.root_dir.clone(), options.cgroup_root.clone());
        let runtime = Runtime::open(options, Some(zygote)).unwrap();
        runtime.begin_run(run).unwrap();
        let cri = RuntimeServiceClient::new(runtime.services(Owner::Run(run.into())));
        Self { dir: None, path, cgroup_root, runtime, cri, forwarding: Vec::new() }
    }

    /// What a runtime of the same directories shows after a reboot.
    pub fn in_another_boot(&self) -> RuntimeServiceClient<Routes> {
        let options = Options { boot_id: Some("another".into()), ..options(&self.path, &self.cgroup_root) };
        RuntimeServiceClient::new(Runtime::open(options, None).unwrap().services(Owner::Run("test".into())))
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A sandbox named after the test; `pid` is its mode.
    pub async fn sandbox(&self, name: &str, pid: cri::NamespaceMode) -> String {
        self.run_sandbox(self.sandbox_config(name, pid)).await.unwrap()
    }

    pub fn sandbox_config(&self, name: &str, pid: cri::NamespaceMode) -> cri::PodSandboxConfig {
        let options = cri::NamespaceOption { pid: pid as i32, ..Default::default() };
        let context = cri::LinuxSandboxSecurityContext { namespace_options: Some(options), ..Default::default() };
        cri::PodSandboxConfig {
            metadata: Some(cri::PodSandboxMetadata {
                name: name.into(),
                uid: name.into(),
                namespace: "default".into(),
                attempt: 0,
            }),
            hostname: name.into(),
            log_directory: self.path.join("logs").join(name).to_string_lossy().into_owned(),
            linux: Some(cri::LinuxPodSandboxConfig { security_context: Some(context), ..Default::default() }),
            ..Default::default()
        }
    }

    pub async fn run_sandbox(&self, config: cri::PodSandboxConfig) -> Result<String, tonic::Status> {
        let request = cri::RunPodSandboxRequest { config: Some(config), runtime_handler: String::new() };
        Ok(self.cri.clone().run_pod_sandbox(request).await?.into_inner().pod_sandbox_id)
    }

    /// A container of the built-in image, not started.
    pub fn config(&self, name: &str, args: &[&str]) -> cri::ContainerConfig {
        cri::ContainerConfig {
            metadata: Some(cri::ContainerMetadata { name: name.into(), attempt: 0 }),
            image: Some(cri::ImageSpec { image: "coracle.local/tools".into(), ..Default::default() }),
            args: args.iter().map(|&it| it.into()).collect(),
            log_path: format!("{name}.log"),
            ..Default::default()
        }
    }

    pub async fn create(&self, sandbox: &str, config: cri::ContainerConfig) -> Result<String, tonic::Status> {
        let request =
            cri::CreateContainerRequest { pod_sandbox_id: sandbox.into(), config: Some(config), sandbox_config: None };
        Ok(self.cri.clone().create_container(request).await?.into_inner().container_id)
    }

    pub async fn start(&self, id: &str) -> Result<(), tonic::Status> {
        self.cri.clone().start_container(cri::StartContainerRequest { container_id: id.into() }).await.map(drop)
    }

    /// Creates and starts.
    pub async fn run(&self, sandbox: &str, config: cri::ContainerConfig) -> String {
        let id = self.create(sandbox, config).await.unwrap();
        self.start(&id).await.unwrap();
        id
    }

    pub async fn status(&self, id: &str) -> cri::ContainerStatus {
        let request = cri::ContainerStatusRequest { container_id: id.into(), verbose: false };
        self.cri.clone().container_status(request).await.unwrap().into_inner().status.unwrap()
    }

    /// Waits for the end.
    pub async fn ended(&self, id: &str) -> cri::ContainerStatus {
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            let status = self.status(id).await;
            if status.state() == cri::ContainerState::ContainerExited {
                return status;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("container {id} has not ended: {:?}", self.status(id).await);
    }

    pub async fn exec(&self, id: &str, cmd: &[&str], timeout: i64) -> Result<cri::ExecSyncResponse, tonic::Status> {
        let cmd = ["/bin/coracle", "tool"].iter().chain(cmd).map(|&it| it.into()).collect();
        let request = cri::ExecSyncRequest { container_id: id.into(), cmd, timeout };
        Ok(self.cri.clone().exec_sync(request).await?.into_inner())
    }

    pub async fn stop(&self, id: &str, timeout: i64) {
        let request = cri::StopContainerRequest { container_id: id.into(), timeout };
        self.cri.clone().stop_container(request).await.unwrap();
    }

    pub async fn remove_sandbox(&self, id: &str) {
        self.cri.clone().remove_pod_sandbox(cri::RemovePodSandboxRequest { pod_sandbox_id: id.into() }).await.unwrap();
    }

    /// A container's log without times: stream and text.
    pub fn log(&self, status: &cri::ContainerStatus) -> Vec<(String, String)> {
        let text = std::fs::read_to_string(&status.log_path).unwrap_or_default();
        let line = |line: &str| {
            let mut parts = line.splitn(4, ' ').skip(1);
            let (stream, _tag) = (parts.next().unwrap().to_owned(), parts.next());
            (stream, parts.next().unwrap_or("").to_owned())
        };
        text.lines().map(line).collect()
    }

    pub async fn sandbox_state(&self, id: &str) -> cri::PodSandboxState {
        let request = cri::PodSandboxStatusRequest { pod_sandbox_id: id.into(), verbose: false };
        self.cri.clone().pod_sandbox_status(request).await.unwrap().into_inner().status.unwrap().state()
    }

    /// A sandbox's addresses.
    pub async fn addresses(&self, id: &str) -> Vec<std::net::IpAddr> {
        let request = cri::PodSandboxStatusRequest { pod_sandbox_id: id.into(), verbose: false };
        let status = self.cri.clone().pod_sandbox_status(request).await.unwrap().into_inner().status.unwrap();
        let network = status.network.unwrap();
        let ips = std::iter::once(network.ip).chain(network.additional_ips.into_iter().map(|it| it.ip));
        ips.filter(|it| !it.is_empty()).map(|it| it.parse().unwrap()).collect()
    }

    /// Waits until a container has written a line.
    pub async fn says(&self, id: &str, line: &str) {
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            if self.log(&self.status(id).await).iter().any(|it| it.1 == line) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("container {id} has not said {line:?}: {:?}", self.status(id).await);
    }

    /// The process that shows itself so.
    pub fn process(&self, title: &str) -> rustix::process::Pid {
        let shown = |pid: i32| std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let pids = std::fs::read_dir("/proc").unwrap().flatten().filter_map(|it| it.file_name().to_str()?.parse().ok());
        let found = pids.into_iter().find(|&pid| shown(pid).trim_end_matches('\0') == title);
        rustix::process::Pid::from_raw(found.unwrap_or_else(|| panic!("no process {title}"))).unwrap()
    }

    /// Processes in a container's cgroup, in any hierarchy.
    pub fn processes_in(&self, id: &str) -> Vec<String> {
        let procs = |root: &str| {
            std::fs::read_dir(format!("{root}/pods"))
                .into_iter()
                .flatten()
                .flatten()
                .map(|pod| pod.path().join(id).join("cgroup.procs"))
                .filter_map(|it| std::fs::read_to_string(it).ok())
                .collect::<String>()
        };
        self.cgroups().iter().flat_map(|it| procs(it).lines().map(str::to_owned).collect::<Vec<_>>()).collect()
    }

    /// Paths of this node's cgroups that exist, in any hierarchy.
    pub fn cgroups(&self) -> Vec<String> {
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let points = mounts.lines().filter(|it| it.contains(" - cgroup")).filter_map(|it| it.split(' ').nth(4));
        points.map(|it| format!("{it}/{}", self.cgroup_root)).filter(|it| Path::new(it).exists()).collect()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let Some(dir) = &self.dir else { return };
        let report = self.runtime.collect(true, &self.runtime.hold_runs().unwrap()).unwrap();
        assert!(report.failed.is_empty(), "{report:?}");
        assert_eq!(self.cgroups(), Vec::<String>::new(), "cgroups are left");
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let dir = dir.path().to_string_lossy().into_owned();
        assert!(!mounts.contains(&dir), "mounts are left below {dir}: {mounts}");
        let links = || std::fs::read_to_string("/proc/net/dev").unwrap().contains("cor");
        assert!(!settled(&false, links), "links are left");
        assert_eq!(runtime::network::nft::Table::list_ours().unwrap(), Vec::<String>::new(), "tables are left");
        assert_eq!(forwarding(), self.forwarding, "what is forwarded was changed for good");
    }
}
