//! What pods and containers use.

use cri_proto::cri;

use super::text::{Kind, Page};
use crate::node::ours::Ours;

type Pods = Vec<cri::PodSandboxStats>;

/// The page, under the names of kubelet's `/metrics/resource`.
pub async fn page(ours: &Ours) -> String {
    let mut page = Page::default();
    let stats = ours.stats().await;
    let failed = stats.is_err();
    let pods = stats.unwrap_or_default();
    containers(&mut page, &pods);
    sandboxes(&mut page, &pods);
    page.single("scrape_error", Kind::Gauge, "1 if the runtime could not be asked.", f64::from(u8::from(failed)));
    page.finish()
}

fn seconds(cpu: Option<&cri::CpuUsage>) -> Option<f64> {
    Some(cpu?.usage_core_nano_seconds.as_ref()?.value as f64 / 1e9)
}

fn working_set(memory: Option<&cri::MemoryUsage>) -> Option<f64> {
    Some(memory?.working_set_bytes.as_ref()?.value as f64)
}

fn containers(page: &mut Page, pods: &Pods) {
    let mut family = |name, kind, help, value: &dyn Fn(&cri::ContainerStats) -> Option<f64>| {
        page.family(name, kind, help);
        for pod in pods {
            let Some((namespace, pod_name)) = names(pod) else { continue };
            for container in pod.linux.iter().flat_map(|it| &it.containers) {
                let metadata = container.attributes.as_ref().and_then(|it| it.metadata.as_ref());
                let (Some(metadata), Some(value)) = (metadata, value(container)) else { continue };
                let labels = [("container", metadata.name.as_str()), ("namespace", namespace), ("pod", pod_name)];
                page.sample(name, &labels, value);
            }
        }
    };
    family("container_cpu_usage_seconds_total", Kind::Counter, "CPU time of a container.", &|it| {
        seconds(it.cpu.as_ref())
    });
    family("container_memory_working_set_bytes", Kind::Gauge, "Memory that a container cannot do without.", &|it| {
        working_set(it.memory.as_ref())
    });
    family("container_swap_usage_bytes", Kind::Gauge, "Swap of a container.", &|it| {
        Some(it.swap.as_ref()?.swap_usage_bytes.as_ref()?.value as f64)
    });
    family("container_fs_usage_bytes", Kind::Gauge, "What a container has written to its own files.", &|it| {
        Some(it.writable_layer.as_ref()?.used_bytes.as_ref()?.value as f64)
    });
}

fn sandboxes(page: &mut Page, pods: &Pods) {
    let mut family = |name, kind, help, value: &dyn Fn(&cri::LinuxPodSandboxStats) -> Option<f64>| {
        page.family(name, kind, help);
        for pod in pods {
            if let (Some((namespace, pod)), Some(value)) = (names(pod), pod.linux.as_ref().and_then(value)) {
                page.sample(name, &[("namespace", namespace), ("pod", pod)], value);
            }
        }
    };
    family("pod_cpu_usage_seconds_total", Kind::Counter, "CPU time of a pod.", &|it| seconds(it.cpu.as_ref()));
    family("pod_memory_working_set_bytes", Kind::Gauge, "Memory that a pod cannot do without.", &|it| {
        working_set(it.memory.as_ref())
    });
    family("pod_network_receive_bytes_total", Kind::Counter, "What a pod has received.", &|it| {
        Some(it.network.as_ref()?.default_interface.as_ref()?.rx_bytes.as_ref()?.value as f64)
    });
    family("pod_network_transmit_bytes_total", Kind::Counter, "What a pod has sent.", &|it| {
        Some(it.network.as_ref()?.default_interface.as_ref()?.tx_bytes.as_ref()?.value as f64)
    });
    family("pod_processes", Kind::Gauge, "Processes of a pod.", &|it| {
        Some(it.process.as_ref()?.process_count.as_ref()?.value as f64)
    });
}

/// Its namespace and name.
fn names(pod: &cri::PodSandboxStats) -> Option<(&str, &str)> {
    let metadata = pod.attributes.as_ref()?.metadata.as_ref()?;
    Some((&metadata.namespace, &metadata.name))
}
