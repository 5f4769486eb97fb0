//! What pods use: memory and processes by their cgroups, disks by what the runtime and a look at the files say.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;

use cri_proto::cri;
use k8s_openapi::api::core::v1::{Pod, Volume};
use runtime::{DiskSurvey, DiskUsage};
use tonic::Status;

use super::rank::{Disk, Usage};
use crate::channel::Cri;
use crate::engine::config::Settings;
use crate::engine::config::names::{CONTAINER_NAME, POD_UID, PodKey};
use crate::engine::plan::{init_of, spec_of};
use crate::host::PodDir;
use crate::host::qos::PodCgroups;

/// What a container uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ContainerUsage {
    /// Its working set.
    pub memory: u64,
    /// Its writable layer.
    pub layer: Disk,
    /// Its logs.
    pub logs: Disk,
}

/// What a pod uses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodUsage {
    /// Working set and processes; none where nothing tells.
    pub cgroup: Option<(u64, u64)>,
    /// By name.
    pub containers: BTreeMap<String, ContainerUsage>,
    /// Volumes on the node's disk that live and die with the pod, by name.
    pub volumes: BTreeMap<String, Disk>,
}

impl PodUsage {
    /// All of it, as pods are compared.
    pub fn total(&self) -> Usage {
        let containers = self.containers.values();
        let (memory, processes) = self.cgroup.unwrap_or((containers.clone().map(|it| it.memory).sum(), 0));
        let add = |sum: Disk, it: Disk| sum + it;
        let layers = containers.clone().map(|it| it.layer).fold(Disk::default(), add);
        let files = containers.map(|it| it.logs).chain(self.volumes.values().copied()).fold(Disk::default(), add);
        Usage { memory, processes, layers, files }
    }
}

/// So many pods are asked about one by one.
const FEW: usize = 16;

/// The containers of one pod.
fn only(pod: &Pod) -> cri::ContainerStatsFilter {
    let uid = pod.metadata.uid.clone().unwrap_or_default();
    cri::ContainerStatsFilter { label_selector: HashMap::from([(POD_UID.to_owned(), uid)]), ..Default::default() }
}

/// Measures pods.
#[derive(Clone)]
pub struct Meter {
    cri: Cri,
    settings: Settings,
    cgroups: Option<PodCgroups>,
    disks: DiskUsage,
}

impl Meter {
    /// Asks `cri` about containers.
    pub fn new(cri: Cri, settings: Settings, cgroups: Option<PodCgroups>) -> Self {
        Meter { cri, settings, cgroups, disks: DiskUsage::default() }
    }

    /// What these pods use, by uid. Directories whose sizes are not known yet count nothing; they are measured beside.
    pub async fn measure(&self, pods: Vec<Pod>) -> Result<HashMap<String, PodUsage>, Status> {
        let mut stats = Vec::new();
        // Of each container the runtime may have to measure a writable layer: only of those that are asked for.
        let filters: Vec<_> = match pods.len() {
            0..=FEW => pods.iter().map(|pod| Some(only(pod))).collect(),
            _ => vec![None],
        };
        for filter in filters {
            let request = cri::ListContainerStatsRequest { filter };
            stats.extend(self.cri.runtime.clone().list_container_stats(request).await?.into_inner().stats);
        }
        let mut by_pod: HashMap<String, BTreeMap<String, ContainerUsage>> = HashMap::new();
        for container in stats {
            let labels = container.attributes.as_ref().map(|it| &it.labels);
            let label = |key: &str| labels.and_then(|labels| labels.get(key)).cloned().unwrap_or_default();
            let used = by_pod.entry(label(POD_UID)).or_default().entry(label(CONTAINER_NAME)).or_default();
            let of = |value: &Option<cri::UInt64Value>| value.as_ref().map_or(0, |it| it.value);
            used.memory += container.memory.as_ref().map_or(0, |it| of(&it.working_set_bytes));
            if let Some(layer) = &container.writable_layer {
                used.layer = used.layer + Disk { bytes: of(&layer.used_bytes), inodes: of(&layer.inodes_used) };
            }
        }
        self.look_at(pods, by_pod).await
    }

    /// What these pods take of disks, by uid.
    pub async fn disks(&self, pods: Vec<Pod>) -> Result<HashMap<String, PodUsage>, Status> {
        self.look_at(pods, HashMap::new()).await
    }

    /// What all pods together use, where that is known.
    pub fn of_all(&self) -> Option<runtime::cgroup::Stats> {
        self.cgroups.as_ref()?.usage_of_all().ok()?
    }

    async fn look_at(
        &self,
        pods: Vec<Pod>,
        by_pod: HashMap<String, BTreeMap<String, ContainerUsage>>,
    ) -> Result<HashMap<String, PodUsage>, Status> {
        let meter = self.clone();
        let looked = tokio::task::spawn_blocking(move || {
            let survey = meter.disks.survey();
            let of = |pod: &Pod| {
                let uid = pod.metadata.uid.clone().unwrap_or_default();
                let usage = meter.look(pod, by_pod.get(&uid).cloned().unwrap_or_default(), &survey);
                (uid, usage)
            };
            pods.iter().map(of).collect()
        });
        looked.await.map_err(|panic| Status::internal(panic.to_string()))
    }

    fn look(&self, pod: &Pod, containers: BTreeMap<String, ContainerUsage>, survey: &DiskSurvey<'_>) -> PodUsage {
        let size = |path: PathBuf| match survey.of(&path) {
            Some(disk) => Disk { bytes: disk.bytes, inodes: disk.inodes },
            None => Disk::default(),
        };
        let (spec, key) = (spec_of(pod), PodKey::of(pod));
        let mut usage = PodUsage { cgroup: self.cgroup(&key.uid), containers, volumes: BTreeMap::new() };
        let logs = key.log_directory(&self.settings.log_dir);
        for container in init_of(spec).iter().chain(&spec.containers) {
            usage.containers.entry(container.name.clone()).or_default().logs = size(logs.join(&container.name));
        }
        if let Ok(dir) = PodDir::new(&self.settings.root_dir, &key.uid) {
            let on_disk = spec.volumes.iter().flatten().filter_map(|volume| Some((volume, plugin(volume)?)));
            usage.volumes = on_disk.map(|(it, plugin)| (it.name.clone(), size(dir.volume(plugin, &it.name)))).collect();
        }
        usage
    }

    fn cgroup(&self, uid: &str) -> Option<(u64, u64)> {
        let stats = self.cgroups.as_ref()?.usage(uid);
        let stats = stats.inspect_err(|error| tracing::debug!(%error, uid, "a pod's cgroup cannot be read")).ok()??;
        let memory = stats.memory.map_or(0, |memory| memory.working_set);
        Some((memory, stats.pids.map_or(0, |pids| pids.current)))
    }
}

/// The directory's name of a volume that takes space on the node's disk and goes with its pod.
fn plugin(volume: &Volume) -> Option<&'static str> {
    if let Some(empty) = &volume.empty_dir {
        return empty.medium.as_deref().unwrap_or_default().is_empty().then_some("empty-dir");
    }
    let named = [
        (volume.config_map.is_some(), "configmap"),
        (volume.downward_api.is_some(), "downward-api"),
        (volume.projected.is_some(), "projected"),
    ];
    named.into_iter().find(|(is, _)| *is).map(|(_, name)| name)
}
