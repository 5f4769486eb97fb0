//! A pod's figures: what the container runtime says, put in kubelet's words.

use std::collections::BTreeMap;

use cri_proto::cri;
use k8s_openapi::api::core::v1::Pod;

use super::Seen;
use super::disk::used;
use super::types::{
    ContainerStats, CpuStats, FsStats, InterfaceStats, IoStats, MemoryStats, Moment, NetworkStats, PodReference,
    PodStats, ProcessStats, PsiData, PsiStats, SwapStats, VolumeStats,
};
use crate::engine::config::names::{CONTAINER_NAME, POD_NAME, POD_NAMESPACE, POD_UID};
use crate::node::care::usage::PodUsage;

/// What a pod uses. `outer` says what it is called outside of the node.
pub fn stats(
    said: &cri::PodSandboxStats,
    seen: &Seen,
    only_cpu_and_memory: bool,
    outer: impl Fn(&Pod) -> String,
) -> Option<PodStats> {
    let attributes = said.attributes.as_ref()?;
    let label = |key: &str| attributes.labels.get(key).cloned().unwrap_or_default();
    let linux = said.linux.as_ref()?;
    let uid = label(POD_UID);
    let name = seen.pods.get(&uid).map_or_else(|| label(POD_NAME), |pod| outer(pod));
    let disks = seen.disks.get(&uid);
    // Of a name, the newest one.
    let mut containers: BTreeMap<String, ContainerStats> = BTreeMap::new();
    for it in &linux.containers {
        if let Some(stats) = container(it, seen, disks, only_cpu_and_memory) {
            let known = containers.get(&stats.name).is_some_and(|known| known.start_time > stats.start_time);
            if !known {
                containers.insert(stats.name.clone(), stats);
            }
        }
    }
    let containers: Vec<_> = containers.into_values().collect();
    let swap = swap_of(&containers);
    let mut pod = PodStats {
        pod_ref: PodReference { name, namespace: label(POD_NAMESPACE), uid },
        start_time: seen.made.get(&attributes.id).copied(),
        cpu: linux.cpu.as_ref().map(cpu),
        memory: linux.memory.as_ref().map(memory),
        swap,
        containers,
        ..PodStats::default()
    };
    if !only_cpu_and_memory {
        pod.io = linux.io.as_ref().map(io);
        pod.network = linux.network.as_ref().map(network);
        let count = linux.process.as_ref().and_then(|it| number(it.process_count));
        pod.processes = count.map(|count| ProcessStats { count });
        let volumes = disks.map(|it| it.volumes.clone()).unwrap_or_default();
        let volume = |(name, disk): (String, _)| {
            let disk: crate::node::care::rank::Disk = disk;
            let fs = used(seen.nodefs.as_ref(), Some(disk.bytes), Some(disk.inodes));
            VolumeStats { fs, name, pvc_ref: None }
        };
        pod.volumes = volumes.into_iter().map(volume).collect();
        pod.ephemeral_storage = Some(ephemeral(&pod, seen));
        // What outlives the pod is none of its own.
        pod.volumes.extend(seen.claims.get(&pod.pod_ref.uid).cloned().unwrap_or_default());
    }
    Some(pod)
}

fn number(value: Option<cri::UInt64Value>) -> Option<u64> {
    value.map(|it| it.value)
}

fn container(
    said: &cri::ContainerStats,
    seen: &Seen,
    disks: Option<&PodUsage>,
    only_cpu_and_memory: bool,
) -> Option<ContainerStats> {
    let attributes = said.attributes.as_ref()?;
    // One that has ended uses nothing.
    let cpu = cpu(said.cpu.as_ref()?);
    let name = attributes.labels.get(CONTAINER_NAME).cloned().unwrap_or_default();
    let mut stats = ContainerStats {
        start_time: seen.made.get(&attributes.id).copied(),
        cpu: Some(cpu),
        memory: said.memory.as_ref().map(memory),
        swap: said.swap.as_ref().map(swap),
        ..ContainerStats::default()
    };
    if !only_cpu_and_memory {
        let layer = said.writable_layer.as_ref();
        stats.rootfs = layer.map(|it| used(seen.imagefs.as_ref(), number(it.used_bytes), number(it.inodes_used)));
        let logs = disks.and_then(|it| it.containers.get(&name)).map(|it| it.logs);
        stats.logs = logs.map(|it| used(seen.nodefs.as_ref(), Some(it.bytes), Some(it.inodes)));
        stats.io = said.io.as_ref().map(io);
    }
    stats.name = name;
    Some(stats)
}

/// Own files, logs and volumes of every container.
fn ephemeral(pod: &PodStats, seen: &Seen) -> FsStats {
    let of_containers = pod.containers.iter().flat_map(|it| [&it.rootfs, &it.logs]).flatten();
    let all: Vec<&FsStats> = of_containers.chain(pod.volumes.iter().map(|it| &it.fs)).collect();
    let bytes = all.iter().filter_map(|it| it.used_bytes).sum();
    let inodes = all.iter().filter_map(|it| it.inodes_used).sum();
    used(seen.nodefs.as_ref(), Some(bytes), Some(inodes))
}

fn cpu(said: &cri::CpuUsage) -> CpuStats {
    CpuStats {
        time: Moment(said.timestamp),
        usage_nano_cores: number(said.usage_nano_cores),
        usage_core_nano_seconds: number(said.usage_core_nano_seconds),
        psi: said.psi.as_ref().and_then(psi),
    }
}

fn memory(said: &cri::MemoryUsage) -> MemoryStats {
    MemoryStats {
        time: Moment(said.timestamp),
        available_bytes: number(said.available_bytes),
        usage_bytes: number(said.usage_bytes),
        working_set_bytes: number(said.working_set_bytes),
        rss_bytes: number(said.rss_bytes),
        page_faults: number(said.page_faults),
        major_page_faults: number(said.major_page_faults),
        psi: said.psi.as_ref().and_then(psi),
    }
}

fn swap(said: &cri::SwapUsage) -> SwapStats {
    SwapStats {
        time: Moment(said.timestamp),
        swap_available_bytes: number(said.swap_available_bytes),
        swap_usage_bytes: number(said.swap_usage_bytes),
    }
}

/// What containers use is what their pod uses: the interface has no word for a pod's own.
fn swap_of(containers: &[ContainerStats]) -> Option<SwapStats> {
    let of: Vec<&SwapStats> = containers.iter().filter_map(|it| it.swap.as_ref()).collect();
    let time = of.iter().map(|it| it.time).max()?;
    let sum = |value: fn(&SwapStats) -> Option<u64>| of.iter().filter_map(|it| value(it)).reduce(u64::saturating_add);
    Some(SwapStats {
        time,
        swap_available_bytes: sum(|it| it.swap_available_bytes),
        swap_usage_bytes: sum(|it| it.swap_usage_bytes),
    })
}

fn io(said: &cri::IoUsage) -> IoStats {
    IoStats { time: Moment(said.timestamp), psi: said.psi.as_ref().and_then(psi) }
}

fn psi(said: &cri::PsiStats) -> Option<PsiStats> {
    let data = |it: &cri::PsiData| PsiData { total: it.total, avg10: it.avg10, avg60: it.avg60, avg300: it.avg300 };
    Some(PsiStats { full: data(said.full.as_ref()?), some: data(said.some.as_ref()?) })
}

fn network(said: &cri::NetworkUsage) -> NetworkStats {
    let interface = |it: &cri::NetworkInterfaceUsage| InterfaceStats {
        name: it.name.clone(),
        rx_bytes: number(it.rx_bytes),
        rx_errors: number(it.rx_errors),
        tx_bytes: number(it.tx_bytes),
        tx_errors: number(it.tx_errors),
    };
    NetworkStats {
        time: Moment(said.timestamp),
        usual: said.default_interface.as_ref().map(interface).unwrap_or_default(),
        interfaces: said.interfaces.iter().map(interface).collect(),
    }
}
