//! What was read, as messages.

use cri_proto::cri;

use super::amount;
use super::reading::{Container, Pod, Used};
use super::samples::Samples;
use crate::cgroup::{Pressure, Stall};
use crate::cri::filesystem::{self, Filesystem};
use crate::cri::show;
use crate::network::counters::Interface;

/// A container's.
pub fn container(it: &Container, layers: &Filesystem, samples: &Samples) -> cri::ContainerStats {
    let item = show::container_item(&it.record, it.view.as_ref());
    let used = it.used.as_ref();
    cri::ContainerStats {
        attributes: Some(cri::ContainerAttributes {
            id: item.id,
            metadata: item.metadata,
            labels: item.labels,
            annotations: item.annotations,
        }),
        cpu: used.and_then(|used| cpu(used, &it.record.id, samples)),
        memory: used.and_then(memory),
        writable_layer: Some(filesystem::usage(layers, it.disk)),
        swap: used.and_then(swap),
        io: used.and_then(io),
    }
}

/// A pod's.
pub fn pod(core: &crate::core::Core, it: &Pod, layers: &Filesystem, samples: &Samples) -> cri::PodSandboxStats {
    let item = show::sandbox_item(core, &it.record);
    let used = it.used.as_ref();
    let process = cri::ProcessUsage { timestamp: it.at, process_count: amount(it.processes()) };
    cri::PodSandboxStats {
        attributes: Some(cri::PodSandboxAttributes {
            id: item.id,
            metadata: item.metadata,
            labels: item.labels,
            annotations: item.annotations,
        }),
        linux: Some(cri::LinuxPodSandboxStats {
            cpu: used.and_then(|used| cpu(used, &it.record.id, samples)),
            memory: used.and_then(memory),
            network: it.interfaces.as_ref().map(|interfaces| network(interfaces, it.at)),
            process: Some(process),
            containers: it.containers.iter().map(|it| container(it, layers, samples)).collect(),
            io: used.and_then(io),
        }),
        windows: None,
    }
}

fn cpu(used: &Used, id: &str, samples: &Samples) -> Option<cri::CpuUsage> {
    let cpu = used.stats.cpu?;
    Some(cri::CpuUsage {
        timestamp: used.at,
        usage_core_nano_seconds: amount(cpu.usage_ns),
        usage_nano_cores: samples.rate(id, cpu.usage_ns, used.at).and_then(amount),
        psi: used.cpu_pressure.map(psi),
    })
}

fn memory(used: &Used) -> Option<cri::MemoryUsage> {
    let memory = used.stats.memory?;
    Some(cri::MemoryUsage {
        timestamp: used.at,
        working_set_bytes: amount(memory.working_set),
        available_bytes: memory.limit.and_then(|limit| amount(limit.saturating_sub(memory.working_set))),
        usage_bytes: amount(memory.usage),
        rss_bytes: amount(memory.rss),
        page_faults: amount(memory.page_faults),
        major_page_faults: amount(memory.major_page_faults),
        psi: used.memory_pressure.map(psi),
    })
}

fn swap(used: &Used) -> Option<cri::SwapUsage> {
    let memory = used.stats.memory?;
    let swap = memory.swap?;
    Some(cri::SwapUsage {
        timestamp: used.at,
        swap_available_bytes: memory.swap_limit.and_then(|limit| amount(limit.saturating_sub(swap))),
        swap_usage_bytes: amount(swap),
    })
}

fn io(used: &Used) -> Option<cri::IoUsage> {
    Some(cri::IoUsage { timestamp: used.at, psi: Some(psi(used.io_pressure?)) })
}

fn psi(pressure: Pressure) -> cri::PsiStats {
    // The CRI counts nanoseconds, the kernel microseconds.
    let data = |it: Stall| cri::PsiData {
        total: it.total_us.saturating_mul(1000),
        avg10: it.avg10,
        avg60: it.avg60,
        avg300: it.avg300,
    };
    cri::PsiStats { some: Some(data(pressure.some)), full: Some(data(pressure.full)) }
}

fn network(interfaces: &[Interface], timestamp: i64) -> cri::NetworkUsage {
    let usage = |it: &Interface| cri::NetworkInterfaceUsage {
        name: it.name.clone(),
        rx_bytes: amount(it.received.bytes),
        rx_errors: amount(it.received.errors),
        tx_bytes: amount(it.sent.bytes),
        tx_errors: amount(it.sent.errors),
    };
    let default = interfaces.iter().find(|it| it.name == "eth0").or(interfaces.first());
    cri::NetworkUsage {
        timestamp,
        default_interface: default.map(usage),
        interfaces: interfaces.iter().map(usage).collect(),
    }
}
