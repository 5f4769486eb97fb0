//! What a node agent is told: kubelet's settings, typed, with kubelet's defaults.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::time::Duration;

use k8s_openapi::api::core::v1::Taint;

use super::server::Server;

/// The settings of a node.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// `staticPodPath`: a directory of manifests, or one file.
    pub static_pod_path: Option<PathBuf>,
    /// The domain below which pods and services have their names.
    pub cluster_domain: Option<String>,
    /// `clusterDNS`: the name servers of pods whose policy is `ClusterFirst`; the node's own when there are none.
    pub cluster_dns: Vec<IpAddr>,
    /// The file that names the name servers for all other names.
    pub resolv_conf: Option<PathBuf>,
    /// `staticPodURL`: where manifests are fetched from.
    pub static_pod_url: Option<String>,
    /// `staticPodURLHeader`: the headers of that request, in the order of their names.
    pub static_pod_url_header: Vec<(String, String)>,
    /// `fileCheckFrequency`: how often the directory is read although the kernel said nothing.
    pub file_check_frequency: Duration,
    /// `httpCheckFrequency`: how often the URL is fetched.
    pub http_check_frequency: Duration,
    /// `containerRuntimeEndpoint`: somebody else's runtime; the built-in one without it.
    pub container_runtime_endpoint: Option<String>,
    /// `runtimeRequestTimeout`: for requests that take no time of their own.
    pub runtime_request_timeout: Duration,
    /// `registryPullQPS` and its kin.
    pub pulls: Pulls,
    /// `containerLog*`.
    pub logs: ContainerLogs,
    /// `imageMinimumGCAge` and its kin.
    pub images: ImageGc,
    /// `eviction*`.
    pub eviction: Eviction,
    /// `systemReserved`, `kubeReserved`, `reservedSystemCPUs`.
    pub reserved: Reserved,
    /// `maxPods`.
    pub max_pods: u32,
    /// `podsPerCore`; none is no limit.
    pub pods_per_core: Option<u32>,
    /// `podPidsLimit`; none is no limit but the node's.
    pub pod_pids_limit: Option<u64>,
    /// `nodeStatusMaxImages`: how many images a node's status names; none is all.
    pub node_status_max_images: Option<usize>,
    /// `allowedUnsafeSysctls`: kernel parameters, or the beginnings of such with a `*`, that pods of a cluster may set
    /// besides the safe ones; with dots.
    pub allowed_unsafe_sysctls: Vec<String>,
    /// `localStorageCapacityIsolation`: limits of ephemeral storage are kept.
    pub local_storage_capacity_isolation: bool,
    /// `crashLoopBackOff.maxContainerRestartPeriod`.
    pub max_container_restart_period: Duration,
    /// `shutdownGracePeriod` and its kin, from the lowest priority to the highest; none for the pods' own time.
    pub shutdown: Vec<ShutdownStep>,
    /// `healthzBindAddress` and `healthzPort`.
    pub health: Health,
    /// kubelet's own API.
    pub server: Server,
    /// `oomScoreAdj` of the agent.
    pub oom_score_adj: i32,
    /// `logging`: the agent's own messages.
    pub logging: Logging,
    /// What the node is in its cluster, if it is in one.
    pub cluster: Cluster,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            static_pod_path: None,
            cluster_domain: None,
            cluster_dns: Vec::new(),
            resolv_conf: None,
            static_pod_url: None,
            static_pod_url_header: Vec::new(),
            file_check_frequency: Duration::from_secs(20),
            http_check_frequency: Duration::from_secs(20),
            container_runtime_endpoint: None,
            runtime_request_timeout: Duration::from_secs(120),
            pulls: Pulls::default(),
            logs: ContainerLogs::default(),
            images: ImageGc::default(),
            eviction: Eviction::default(),
            reserved: Reserved::default(),
            max_pods: 110,
            pods_per_core: None,
            pod_pids_limit: None,
            allowed_unsafe_sysctls: Vec::new(),
            node_status_max_images: Some(50),
            local_storage_capacity_isolation: true,
            max_container_restart_period: Duration::from_secs(300),
            shutdown: Vec::new(),
            health: Health::default(),
            server: Server::default(),
            oom_score_adj: -999,
            logging: Logging::default(),
            cluster: Cluster::default(),
        }
    }
}

/// What the node is in a cluster, and how it deals with the API server.
#[derive(Clone, Debug, PartialEq)]
pub struct Cluster {
    /// `registerNode`: the node is made if it is not there.
    pub register: bool,
    /// `registerWithTaints`: its taints when it is made.
    pub taints: Vec<Taint>,
    /// `providerID`: what the cloud calls it.
    pub provider_id: Option<String>,
    /// `nodeStatusUpdateFrequency`: how often its status is looked at.
    pub status_update_frequency: Duration,
    /// `nodeStatusReportFrequency`: how often its status is told although it has not changed.
    pub status_report_frequency: Duration,
    /// `nodeLeaseDurationSeconds`: how long a sign of life counts.
    pub lease_duration: Duration,
    /// `kubeAPIQPS` and `kubeAPIBurst`: requests a second, 0 for no limit, and at once.
    pub requests: (u32, u32),
    /// `eventRecordQPS` and `eventBurst`: events a second, 0 for no limit, and at once.
    pub events: (u32, u32),
    /// `rotateCertificates`: the certificate by which the API server knows the node is renewed; if it was got by bootstrap
    /// when nothing is said.
    pub rotate_certificates: Option<bool>,
    /// `serverTLSBootstrap`: the certificate by which others know the node is the API server's, too.
    pub server_tls_bootstrap: bool,
}

impl Default for Cluster {
    fn default() -> Self {
        Self {
            register: true,
            taints: Vec::new(),
            provider_id: None,
            status_update_frequency: Duration::from_secs(10),
            status_report_frequency: Duration::from_secs(300),
            lease_duration: Duration::from_secs(40),
            requests: (50, 100),
            events: (50, 100),
            rotate_certificates: None,
            server_tls_bootstrap: false,
        }
    }
}

/// How images are pulled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pulls {
    /// `registryPullQPS`: pulls begun in a second; none is no limit.
    pub qps: Option<u32>,
    /// `registryBurst`: pulls begun at once.
    pub burst: u32,
    /// `serializeImagePulls` and `maxParallelImagePulls`: pulls that go on at a time; none is no limit.
    pub parallel: Option<u32>,
}

impl Default for Pulls {
    /// Kubelet's, but for one thing: pulls share the line and each layer has its own limit, so nothing is gained by
    /// taking them one after the other.
    fn default() -> Self {
        Self { qps: Some(5), burst: 10, parallel: None }
    }
}

/// How containers' logs are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContainerLogs {
    /// `containerLogMaxSize`: bytes at which a log goes on in a new file; none is never.
    pub max_size: Option<u64>,
    /// `containerLogMaxFiles`: how many files one container instance may have, the one being written included.
    pub max_files: u32,
    /// `containerLogMaxWorkers`: how many logs are rotated at a time on an endpoint that does not do it itself.
    pub workers: u32,
    /// `containerLogMonitorInterval`: how often their sizes are looked at.
    pub interval: Duration,
}

impl Default for ContainerLogs {
    fn default() -> Self {
        Self { max_size: Some(10 << 20), max_files: 5, workers: 1, interval: Duration::from_secs(10) }
    }
}

/// When unused images are removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageGc {
    /// `imageMinimumGCAge`: younger ones are not.
    pub minimum_age: Duration,
    /// `imageMaximumGCAge`: ones that long unused always are; none is never.
    pub maximum_age: Option<Duration>,
    /// `imageGCHighThresholdPercent`: the disk's use at which removing begins; 100 is never.
    pub high_percent: u8,
    /// `imageGCLowThresholdPercent`: the use at which it ends.
    pub low_percent: u8,
}

impl Default for ImageGc {
    fn default() -> Self {
        Self { minimum_age: Duration::from_secs(120), maximum_age: None, high_percent: 85, low_percent: 80 }
    }
}

/// When pods are evicted.
#[derive(Clone, Debug, PartialEq)]
pub struct Eviction {
    /// `evictionHard`, `evictionSoft`, with their grace periods and minimum reclaims.
    pub thresholds: Vec<Threshold>,
    /// `evictionPressureTransitionPeriod`: how long a pressure that is over is still reported.
    pub transition_period: Duration,
    /// `evictionMaxPodGracePeriod`: the longest grace that a pod gets at a soft threshold, in seconds.
    pub max_pod_grace: u32,
}

impl Default for Eviction {
    fn default() -> Self {
        let hard = |signal, value| Threshold { signal, value, grace: None, minimum_reclaim: None };
        let thresholds = vec![
            hard(Signal::MemoryAvailable, Amount::Quantity(100 << 20)),
            hard(Signal::NodefsAvailable, Amount::Percent(10.0)),
            hard(Signal::NodefsInodesFree, Amount::Percent(5.0)),
            hard(Signal::ImagefsAvailable, Amount::Percent(15.0)),
            hard(Signal::ImagefsInodesFree, Amount::Percent(5.0)),
        ];
        Self { thresholds, transition_period: Duration::from_secs(300), max_pod_grace: 0 }
    }
}

/// What a threshold looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Signal {
    /// `memory.available`
    MemoryAvailable,
    /// `nodefs.available`
    NodefsAvailable,
    /// `nodefs.inodesFree`
    NodefsInodesFree,
    /// `imagefs.available`
    ImagefsAvailable,
    /// `imagefs.inodesFree`
    ImagefsInodesFree,
    /// `pid.available`
    PidAvailable,
}

impl Signal {
    /// All of them.
    pub const ALL: [Signal; 6] = [
        Signal::MemoryAvailable,
        Signal::NodefsAvailable,
        Signal::NodefsInodesFree,
        Signal::ImagefsAvailable,
        Signal::ImagefsInodesFree,
        Signal::PidAvailable,
    ];

    /// As kubelet writes it.
    pub fn name(self) -> &'static str {
        match self {
            Signal::MemoryAvailable => "memory.available",
            Signal::NodefsAvailable => "nodefs.available",
            Signal::NodefsInodesFree => "nodefs.inodesFree",
            Signal::ImagefsAvailable => "imagefs.available",
            Signal::ImagefsInodesFree => "imagefs.inodesFree",
            Signal::PidAvailable => "pid.available",
        }
    }
}

/// How much of something.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Amount {
    /// Bytes, inodes or process ids.
    Quantity(u64),
    /// Percent of what there is.
    Percent(f64),
}

/// Below `value` of `signal`, pods are evicted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Threshold {
    /// What it looks at.
    pub signal: Signal,
    /// The least that has to be free.
    pub value: Amount,
    /// A soft one: how long it has to be crossed first.
    pub grace: Option<Duration>,
    /// `evictionMinimumReclaim`: how far beyond the value to go once it was crossed.
    pub minimum_reclaim: Option<Amount>,
}

/// What pods may not count on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reserved {
    /// `systemReserved`.
    pub system: Resources,
    /// `kubeReserved`.
    pub kube: Resources,
}

/// Amounts of the resources that can be reserved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Resources {
    /// Thousandths of a CPU.
    pub cpu_milli: u64,
    /// Bytes.
    pub memory: u64,
    /// Bytes.
    pub ephemeral_storage: u64,
    /// Process ids.
    pub pid: u64,
}

/// Pods from one priority on are stopped together, and have this long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShutdownStep {
    /// The least priority of its pods; of the lowest step's pods, any below the next one's.
    pub priority: i32,
    /// Then the next step's turn comes.
    pub grace: Duration,
}

/// Where the agent tells whether it is well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Health {
    /// The address.
    pub address: IpAddr,
    /// The port; none for not at all.
    pub port: Option<u16>,
}

impl Default for Health {
    fn default() -> Self {
        Self { address: IpAddr::V4(Ipv4Addr::LOCALHOST), port: Some(10248) }
    }
}

/// The agent's own messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Logging {
    /// `logging.format`.
    pub format: Option<LogFormat>,
    /// `logging.verbosity`, as klog counts.
    pub verbosity: u32,
}

/// How the agent writes its messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
    /// To systemd's journal, with fields.
    Journald,
}
