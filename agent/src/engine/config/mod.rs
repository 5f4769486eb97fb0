//! From a pod to the CRI's configurations: pure, so every rule is a table test.

mod allocatable;
pub mod container;
pub mod env;
pub mod env_file;
pub mod expand;
mod logs;
pub mod names;
pub mod node_selector;
pub mod objects;
pub mod ports;
pub mod quantity;
pub mod resources;
pub mod sandbox;
pub mod security;

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Context as _;
use ipnet::IpNet;
use k8s_openapi::api::core::v1::Pod;

pub use allocatable::Allocatable;
pub use logs::LogLimits;
pub use objects::Objects;

use self::resources::Qos;
use super::image::{Providers, PullLimits};
use super::plan::spec_of;
use crate::cli::Global;
use crate::net::services::ledger;

/// What configurations need to know about the node.
#[derive(Clone, Debug, Default)]
pub struct Node {
    /// Its name: `spec.nodeName` of a pod that has none.
    pub name: String,
    /// Its addresses.
    pub ips: Vec<String>,
    /// Its processors, in thousandths.
    pub cpu_milli: i64,
    /// Its memory.
    pub memory_bytes: i64,
    /// Its huge pages, smallest first.
    pub hugepages: Vec<Hugepages>,
    /// What its pods can count on.
    pub allocatable: Allocatable,
}

/// The huge pages of one size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Hugepages {
    /// Bytes of one.
    pub size: u64,
    /// How many the node keeps.
    pub count: u64,
}

impl Hugepages {
    /// The name by which pods ask for them: `hugepages-2Mi`.
    pub fn resource(&self) -> String {
        match self.size {
            size if size >= 1 << 30 && size.is_multiple_of(1 << 30) => format!("hugepages-{}Gi", size >> 30),
            size if size >= 1 << 20 && size.is_multiple_of(1 << 20) => format!("hugepages-{}Mi", size >> 20),
            size => format!("hugepages-{}Ki", size >> 10),
        }
    }
}

/// How pods are grouped and bounded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cgroups {
    /// Pods lie below `kubepods` by their class, as kubelet has them (`cgroupsPerQOS`), and the agent makes their cgroups.
    pub per_qos: bool,
    /// Limits of CPU time are kept (`cpuCFSQuota`).
    pub cpu_quota: bool,
    /// The period of such limits, in microseconds (`cpuCFSQuotaPeriod`).
    pub cpu_period: i64,
    /// The most processes and threads of a pod (`podPidsLimit`).
    pub pids_limit: PidsLimit,
}

/// A number of processes and threads, or none for no limit. All clones are one: it changes while pods run.
#[derive(Clone, Debug)]
pub struct PidsLimit(Arc<AtomicU64>);

impl PidsLimit {
    /// A limit.
    #[cfg(test)]
    pub fn new(limit: Option<u64>) -> Self {
        let new = PidsLimit::default();
        new.set(limit);
        new
    }

    /// Changes it, for every clone.
    pub fn set(&self, limit: Option<u64>) {
        self.0.store(limit.unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// As cgroups have it: -1 is none.
    pub fn get(&self) -> i64 {
        self.0.load(Ordering::Relaxed).try_into().unwrap_or(-1)
    }
}

impl Default for PidsLimit {
    fn default() -> Self {
        PidsLimit(Arc::new(AtomicU64::new(u64::MAX)))
    }
}

impl PartialEq for PidsLimit {
    fn eq(&self, other: &Self) -> bool {
        self.get() == other.get()
    }
}

impl Eq for PidsLimit {}

impl Default for Cgroups {
    fn default() -> Self {
        Cgroups { per_qos: false, cpu_quota: true, cpu_period: 100_000, pids_limit: PidsLimit::default() }
    }
}

impl Cgroups {
    /// Period and quota for a limit in thousandths of a CPU; none where there is none, or none is kept.
    pub fn quota(&self, milli: Option<i64>) -> Option<(i64, i64)> {
        let milli = milli.filter(|milli| *milli > 0 && self.cpu_quota)?;
        // The kernel takes nothing below a millisecond.
        Some((self.cpu_period, (milli.saturating_mul(self.cpu_period) / 1000).max(1000)))
    }
}

impl Node {
    /// The addresses of a pod: its sandbox's, or this node's where the pod is in the host's network.
    pub fn ips_of(&self, pod: &Pod, sandbox: &[String]) -> Vec<String> {
        if spec_of(pod).host_network == Some(true) { self.ips.clone() } else { sandbox.to_vec() }
    }
}

/// How this agent is set up.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Pod directories (`pods/UID`) and seccomp profiles (`seccomp/`) live below it.
    pub root_dir: PathBuf,
    /// Pod records live in `pods/` below it.
    pub state_dir: PathBuf,
    /// Log directories of pods live below it.
    pub log_dir: PathBuf,
    /// Pods' cgroups are below `/CGROUP_ROOT`.
    pub cgroup_root: String,
    /// Where there, and how they are bounded.
    pub cgroups: Cgroups,
    /// Which boot this is.
    pub boot_id: String,
    /// Pods that say nothing get seccomp's RuntimeDefault.
    pub seccomp_default: bool,
    /// Facts of the node.
    pub node: Node,
    /// Kernel parameters that pods of a cluster may set besides the safe ones (`allowedUnsafeSysctls`).
    pub unsafe_sysctls: Vec<String>,
    /// When containers' logs go on in new files.
    pub log_limits: LogLimits,
    /// How images are pulled.
    pub pull_limits: PullLimits,
    /// Programs that know credentials for registries.
    pub credential_providers: Providers,
    /// Where Services have their addresses; a free range when none is said.
    pub service_ranges: Vec<IpNet>,
    /// The network of pods that name none.
    pub default_network: runtime::network::Kind,
    /// What every sandbox and container is labelled with, by which an agent knows its own on a runtime that others use
    /// too.
    pub labels: BTreeMap<String, String>,
    /// The domain below which pods and services have their names.
    pub cluster_domain: ClusterDomain,
    /// The runtime answers for names.
    pub serves_names: bool,
    /// Who answers for names in the cluster that the node is one of, if not the runtime.
    pub cluster_dns: ClusterDns,
}

/// Name servers of a cluster: none where the runtime answers for names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClusterDns {
    /// Their addresses.
    pub servers: Vec<IpAddr>,
    /// The host's search list, which comes after the cluster's domains.
    pub searches: Vec<String>,
}

/// The domain below which pods and services have their names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterDomain(pub String);

impl Default for ClusterDomain {
    fn default() -> Self {
        ClusterDomain(manifests::kubelet::CLUSTER_DOMAIN.to_owned())
    }
}

impl Settings {
    /// The settings that follow from the flags that go with every verb.
    pub fn of(global: &Global, node: Node) -> anyhow::Result<Self> {
        Ok(Settings {
            root_dir: global.root_dir.clone(),
            state_dir: global.state_dir.clone(),
            log_dir: global.log_dir.clone(),
            cgroup_root: global.cgroup_root.clone(),
            cgroups: Cgroups::default(),
            boot_id: global.this_boot()?,
            // Pods from files are confined unless they say otherwise.
            seccomp_default: true,
            node,
            unsafe_sysctls: Vec::new(),
            log_limits: LogLimits::default(),
            pull_limits: PullLimits::default(),
            credential_providers: Providers::default(),
            service_ranges: service_ranges(global)?,
            default_network: global.default_network.clone(),
            labels: BTreeMap::new(),
            cluster_domain: global.cluster_domain.clone().map_or_else(ClusterDomain::default, ClusterDomain),
            serves_names: true,
            cluster_dns: ClusterDns::default(),
        })
    }

    /// A sandbox's or container's labels, with those of this agent.
    fn label(&self, mut labels: HashMap<String, String>) -> HashMap<String, String> {
        labels.extend(self.labels.clone());
        labels
    }
}

/// Where Services have their addresses, if that is said and can be.
fn service_ranges(global: &Global) -> anyhow::Result<Vec<IpNet>> {
    if !global.service_cidr.is_empty() {
        let mut host = runtime::network::surroundings().context("look at the host's routes")?;
        host.taken.extend(global.pod_cidr.iter().map(|range| (*range, format!("--pod-cidr {range}"))));
        ledger::check(&global.service_cidr, &host)?;
    }
    Ok(global.service_cidr.clone())
}

impl Settings {
    /// The cgroup of a pod, below every hierarchy's root.
    pub fn pod_cgroup(&self, pod: &Pod) -> String {
        let uid = pod.metadata.uid.as_deref().unwrap_or_default();
        match self.cgroups.per_qos {
            true => format!("{}/pod{uid}", self.qos_cgroup(Qos::of(spec_of(pod)))),
            false => format!("{}/pods/{uid}", self.cgroup_root.trim_matches('/')),
        }
    }

    /// The cgroup that all pods of a class are in; the guaranteed ones are directly in `kubepods`.
    pub fn qos_cgroup(&self, class: Qos) -> String {
        let root = self.cgroup_root.trim_matches('/');
        let root = if root.is_empty() { "kubepods".to_owned() } else { format!("{root}/kubepods") };
        match class {
            Qos::Guaranteed => root,
            Qos::Burstable => format!("{root}/burstable"),
            Qos::BestEffort => format!("{root}/besteffort"),
        }
    }
}

/// Why no configuration can be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// An object that the pod refers to is not there.
    #[error("{kind} \"{name}\" is not there in namespace \"{namespace}\"; put it into the same manifests")]
    MissingObject {
        /// `ConfigMap`, `Secret` or `PersistentVolumeClaim`.
        kind: &'static str,
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// An object of a cluster that is not there, as kubelet says it.
    #[error("{kind} \"{name}\" not found")]
    NotFound {
        /// `configmap`, `secret`, `persistentvolumeclaim` or `runtimeclass`.
        kind: String,
        /// Its name.
        name: String,
    },
    /// An object of a cluster that may not be read, in the API server's words.
    #[error("{0}")]
    Refused(String),
    /// An object of a cluster that nobody could ask for yet.
    #[error("the API server has not told of {kind} \"{name}\" yet")]
    NotTold {
        /// As in manifests.
        kind: &'static str,
        /// Its name.
        name: String,
    },
    /// A claim of a cluster that has no volume, as kubelet says it.
    #[error("error processing PVC {namespace}/{name}: {problem}")]
    Claim {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
        /// What is wrong.
        problem: String,
    },
    /// There is no token of the pod's service account.
    #[error("failed to fetch token: {0}")]
    Token(String),
    /// The object has no such key.
    #[error("{kind} \"{name}\" has no key \"{key}\"")]
    MissingKey {
        /// `ConfigMap` or `Secret`.
        kind: &'static str,
        /// Its name.
        name: String,
        /// The key.
        key: String,
    },
    /// A file of a volume that has no such variable.
    #[error("file \"{path}\" of volume \"{volume}\": {problem}")]
    File {
        /// The volume.
        volume: String,
        /// The file.
        path: String,
        /// What is wrong.
        problem: String,
    },
    /// A field reference that leads nowhere.
    #[error("field path \"{0}\" is not one that a container can refer to")]
    FieldPath(String),
    /// A resource reference that leads nowhere.
    #[error("resource reference \"{0}\" cannot be resolved")]
    ResourceField(String),
    /// A mount of a volume that is not there.
    #[error("volume mount \"{0}\" has no volume of that name")]
    MissingVolume(String),
    /// A path in a volume that leaves it.
    #[error("{what} \"{path}\" has to be a relative path without \"..\"")]
    Path {
        /// What the path is.
        what: &'static str,
        /// The path.
        path: String,
    },
    /// A command or argument that is no text after expansion.
    #[error("{0} is not valid UTF-8 after its variables are filled in")]
    NotUtf8(&'static str),
    /// The user breaks `runAsNonRoot`.
    #[error("{0}")]
    NonRoot(String),
    /// What is asked for does not exist yet.
    #[error("{0} is not supported")]
    Unsupported(String),
    /// A value out of its range, or not one of the known ones.
    #[error("{field} has the value \"{value}\"; {expected}")]
    Value {
        /// The field.
        field: &'static str,
        /// Its value.
        value: String,
        /// What would do.
        expected: &'static str,
    },
}
