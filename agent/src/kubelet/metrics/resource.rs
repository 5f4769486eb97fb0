//! `/metrics/resource`: what metrics-server asks for.

use crate::kubelet::stats::{Moment, NodeStats, PodStats, Summary};
use crate::node::metrics::{Kind, Page};

/// Writes it; of a summary that could not be had, that it could not.
pub fn write<E>(page: &mut Page, summary: &Result<Summary, E>) {
    if let Ok(summary) = summary {
        node(page, &summary.node);
        containers(page, &summary.pods);
        pods(page, &summary.pods);
    }
    let failed = f64::from(u8::from(summary.is_err()));
    let help = "1 if there was an error while getting container metrics, 0 otherwise";
    page.single("resource_scrape_error", Kind::Gauge, help, failed);
    page.single("scrape_error", Kind::Gauge, help, failed);
}

/// A value and when it was read; kubelet writes no time to some.
type Value = (f64, Option<Moment>);

fn seconds(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1e9
}

fn node(page: &mut Page, node: &NodeStats) {
    let mut family = |name, kind, help, value: Option<Value>| {
        if let Some((value, at)) = value {
            page.family(name, kind, help);
            page.sample_at(name, &[], value, at.map(Moment::milliseconds));
        }
    };
    let cpu = node.cpu.as_ref().and_then(|it| Some((seconds(it.usage_core_nano_seconds?), Some(it.time))));
    family(
        "node_cpu_usage_seconds_total",
        Kind::Counter,
        "Cumulative cpu time consumed by the node in core-seconds",
        cpu,
    );
    let memory = node.memory.as_ref().and_then(|it| Some((it.working_set_bytes? as f64, Some(it.time))));
    family("node_memory_working_set_bytes", Kind::Gauge, "Current working set of the node in bytes", memory);
    let swap = node.swap.as_ref().and_then(|it| Some((it.swap_usage_bytes? as f64, Some(it.time))));
    let help = "Current swap usage of the node in bytes. Reported only on non-windows systems";
    family("node_swap_usage_bytes", Kind::Gauge, help, swap);
}

fn containers(page: &mut Page, pods: &[PodStats]) {
    let mut family = |name, kind, help, value: &dyn Fn(&crate::kubelet::stats::ContainerStats) -> Option<Value>| {
        let of =
            |pod: &'_ PodStats| pod.containers.iter().filter_map(|it| Some((it.name.clone(), value(it)?))).collect();
        let all: Vec<(&PodStats, Vec<(String, Value)>)> = pods.iter().map(|pod| (pod, of(pod))).collect();
        if all.iter().all(|(_, values)| values.is_empty()) {
            return;
        }
        page.family(name, kind, help);
        for (pod, values) in all {
            let (namespace, pod) = (pod.pod_ref.namespace.as_str(), pod.pod_ref.name.as_str());
            for (container, (value, at)) in &values {
                let labels = [("container", container.as_str()), ("namespace", namespace), ("pod", pod)];
                page.sample_at(name, &labels, *value, at.map(Moment::milliseconds));
            }
        }
    };
    let help = "Cumulative cpu time consumed by the container in core-seconds";
    family("container_cpu_usage_seconds_total", Kind::Counter, help, &|it| {
        it.cpu.as_ref().and_then(|it| Some((seconds(it.usage_core_nano_seconds?), Some(it.time))))
    });
    let help = "Current working set of the container in bytes";
    family("container_memory_working_set_bytes", Kind::Gauge, help, &|it| {
        it.memory.as_ref().and_then(|it| Some((it.working_set_bytes? as f64, Some(it.time))))
    });
    let help = "Start time of the container since unix epoch in seconds";
    family("container_start_time_seconds", Kind::Gauge, help, &|it| {
        it.start_time.filter(|it| it.0 > 0).map(|it| (it.0 as f64 / 1e9, None))
    });
    let help = "Current amount of the container swap limit in bytes. Reported only on non-windows systems";
    family("container_swap_limit_bytes", Kind::Gauge, help, &|it| {
        let swap = it.swap.as_ref()?;
        let limit = swap.swap_available_bytes?.saturating_add(swap.swap_usage_bytes.unwrap_or(0));
        Some((limit as f64, Some(swap.time)))
    });
    let help = "Current amount of the container swap usage in bytes. Reported only on non-windows systems";
    family("container_swap_usage_bytes", Kind::Gauge, help, &|it| {
        it.swap.as_ref().and_then(|it| Some((it.swap_usage_bytes? as f64, Some(it.time))))
    });
}

fn pods(page: &mut Page, pods: &[PodStats]) {
    let mut family = |name, kind, help, value: &dyn Fn(&PodStats) -> Option<(f64, Moment)>| {
        let all: Vec<_> = pods.iter().filter_map(|pod| Some((&pod.pod_ref, value(pod)?))).collect();
        if all.is_empty() {
            return;
        }
        page.family(name, kind, help);
        for (pod, (value, at)) in all {
            let labels = [("namespace", pod.namespace.as_str()), ("pod", pod.name.as_str())];
            page.sample_at(name, &labels, value, Some(at.milliseconds()));
        }
    };
    let help = "Cumulative cpu time consumed by the pod in core-seconds";
    family("pod_cpu_usage_seconds_total", Kind::Counter, help, &|it| {
        it.cpu.as_ref().and_then(|it| Some((seconds(it.usage_core_nano_seconds?), it.time)))
    });
    family("pod_memory_working_set_bytes", Kind::Gauge, "Current working set of the pod in bytes", &|it| {
        it.memory.as_ref().and_then(|it| Some((it.working_set_bytes? as f64, it.time)))
    });
    let help = "Current amount of the pod swap usage in bytes. Reported only on non-windows systems";
    family("pod_swap_usage_bytes", Kind::Gauge, help, &|it| {
        it.swap.as_ref().and_then(|it| Some((it.swap_usage_bytes? as f64, it.time)))
    });
}
