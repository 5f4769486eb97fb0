//! What the agent can be asked for in numbers: in Prometheus' text format, under kubelet's names where they fit.

mod calls;
mod histogram;
pub mod process;
mod server;
mod text;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cri_proto::cri;

pub use calls::Calls;
pub use histogram::Histogram;
pub use server::Server;
pub use text::{Kind, Page};

use super::ours::Ours;
use crate::engine::config::names::PodKey;
use crate::engine::notice::{Event, Notice, Pull};
use crate::engine::probe::{BOUNDS, Counts, Took};

/// What is counted as it happens. Cheap to clone; all clones count together.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    /// Requests to the container runtime.
    pub calls: Calls,
    /// Requests to an API server, and certificates.
    pub server: Server,
    happened: Arc<Mutex<Happened>>,
}

#[derive(Debug, Default)]
struct Happened {
    started: u64,
    restarted: u64,
    sandboxes_lost: u64,
    /// By kubelet's word for it.
    failures: BTreeMap<String, u64>,
    /// By why the node ended the pod.
    evictions: BTreeMap<String, u64>,
    /// By the signal that evicted.
    evicted: BTreeMap<&'static str, u64>,
    pulls: u64,
    pulled_bytes: u64,
    reloads: [u64; 2],
}

impl Metrics {
    /// Counts what has happened to a pod.
    pub fn note(&self, notice: &Notice) {
        let mut happened = self.lock();
        match &notice.event {
            Event::Started { attempt, .. } => {
                happened.started += 1;
                happened.restarted += u64::from(*attempt > 0);
            }
            Event::Failed { reason, .. } => *happened.failures.entry(reason.clone()).or_default() += 1,
            Event::Evicted { reason, .. } => *happened.evictions.entry(reason.clone()).or_default() += 1,
            Event::SandboxLost => happened.sandboxes_lost += 1,
            Event::Pull { pull: Pull::Done { bytes, .. }, .. } => {
                happened.pulls += 1;
                happened.pulled_bytes += bytes;
            }
            _ => {}
        }
    }

    /// Counts a reading of the settings.
    pub fn reloaded(&self, done: bool) {
        self.lock().reloads[usize::from(done)] += 1;
    }

    /// Counts a pod that was evicted for a signal, as kubelet calls it.
    pub fn evicted(&self, signal: &'static str) {
        *self.lock().evicted.entry(signal).or_default() += 1;
    }

    /// The agent's page. What the runtime does not say is left out of it.
    pub async fn page(&self, ours: &Ours, node: &str, probes: &Counts) -> String {
        let mut page = Page::default();
        self.write(&mut page, ours, node, probes).await;
        page.finish()
    }

    /// Writes it.
    pub async fn write(&self, page: &mut Page, ours: &Ours, node: &str, probes: &Counts) {
        page.family("coracle_build_info", Kind::Gauge, "The version of the agent; always 1.");
        page.sample("coracle_build_info", &[("version", env!("CARGO_PKG_VERSION"))], 1.0);
        page.family("kubernetes_build_info", Kind::Gauge, "The version that the node is registered with; always 1.");
        page.sample("kubernetes_build_info", &[("git_version", crate::version::KUBELET)], 1.0);
        page.family("kubelet_node_name", Kind::Gauge, "The node's name; always 1.");
        page.sample("kubelet_node_name", &[("node", node)], 1.0);
        process::write(page);
        self.write_happened(page);
        self.write_probes(page, probes, |pod| pod.name.clone());
        write_running(page, ours).await;
        self.calls.write(page);
        self.server.write(page, jiff::Timestamp::now());
    }

    /// Writes what probes answered; `name` says what a pod is called.
    pub fn write_probes(&self, page: &mut Page, probes: &Counts, name: impl Fn(&PodKey) -> String) {
        let family = "prober_probe_total";
        let help = "Cumulative number of a liveness, readiness or startup probe for a container by result.";
        page.family(family, Kind::Counter, help);
        let all = probes.read();
        for (counted, took) in &all {
            let labels = [
                ("container", counted.container.as_str()),
                ("namespace", &counted.pod.namespace),
                ("pod", &name(&counted.pod)),
                ("pod_uid", &counted.pod.uid),
                ("probe_type", &counted.kind.to_string()),
                ("result", counted.result),
            ];
            page.sample(family, &labels, took.count() as f64);
        }
        let mut by_probe: BTreeMap<[String; 4], Took> = BTreeMap::new();
        // How long a failure took, kubelet does not tell.
        for (it, took) in all.iter().filter(|(it, _)| it.result != "failed") {
            let probe = [it.container.clone(), it.pod.namespace.clone(), name(&it.pod), it.kind.to_string()];
            by_probe.entry(probe).or_default().add(took);
        }
        let family = "prober_probe_duration_seconds";
        page.family(family, Kind::Histogram, "Duration in seconds for a probe response.");
        for ([container, namespace, pod, kind], took) in &by_probe {
            let labels =
                [("container", container.as_str()), ("namespace", namespace), ("pod", pod), ("probe_type", kind)];
            took.write(page, family, &labels, &BOUNDS);
        }
    }

    fn write_happened(&self, page: &mut Page) {
        let happened = self.lock();
        let mut counter = |name, help, value: u64| page.single(name, Kind::Counter, help, value as f64);
        counter("kubelet_started_containers_total", "Containers that were started.", happened.started);
        counter(
            "coracle_restarted_containers_total",
            "Containers that were started and were not the first of their name in their pod.",
            happened.restarted,
        );
        counter("coracle_sandboxes_lost_total", "Sandboxes that died and were replaced.", happened.sandboxes_lost);
        counter("coracle_image_pulls_total", "Images that were pulled.", happened.pulls);
        counter("coracle_image_pulled_bytes_total", "Bytes of images that came.", happened.pulled_bytes);
        page.family("coracle_reloads_total", Kind::Counter, "How often the settings were read again.");
        for (result, count) in ["refused", "done"].iter().zip(happened.reloads) {
            page.sample("coracle_reloads_total", &[("result", result)], count as f64);
        }
        let name = "coracle_step_errors_total";
        page.family(name, Kind::Counter, "Steps of pods that failed, by kubelet's word for them.");
        for (reason, count) in &happened.failures {
            page.sample(name, &[("reason", reason)], *count as f64);
        }
        let name = "coracle_ended_pods_total";
        page.family(name, Kind::Counter, "Pods that the node ended, by its reason: Evicted, DeadlineExceeded.");
        for (reason, count) in &happened.evictions {
            page.sample(name, &[("reason", reason)], *count as f64);
        }
        let name = "kubelet_evictions";
        page.family(name, Kind::Counter, "Pods that were evicted, by the signal.");
        for (signal, count) in &happened.evicted {
            page.sample(name, &[("eviction_signal", signal)], *count as f64);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Happened> {
        self.happened.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn write_running(page: &mut Page, ours: &Ours) {
    if let Ok(sandboxes) = ours.sandboxes().await {
        let ready = |it: &&cri::PodSandbox| it.state() == cri::PodSandboxState::SandboxReady;
        let running = sandboxes.iter().filter(ready).count();
        page.single("kubelet_running_pods", Kind::Gauge, "Pods that have a running sandbox.", running as f64);
    }
    let Ok(containers) = ours.containers().await else { return };
    let name = "kubelet_running_containers";
    page.family(name, Kind::Gauge, "Containers, by their state.");
    for (state, label) in [
        (cri::ContainerState::ContainerCreated, "created"),
        (cri::ContainerState::ContainerRunning, "running"),
        (cri::ContainerState::ContainerExited, "exited"),
        (cri::ContainerState::ContainerUnknown, "unknown"),
    ] {
        let count = containers.iter().filter(|it| it.state() == state).count();
        page.sample(name, &[("container_state", label)], count as f64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_happens_is_counted() {
        let metrics = Metrics::default();
        for (event, times) in [
            (Event::Started { container: "c".into(), attempt: 0, log: "/l".into() }, 1),
            (Event::Started { container: "c".into(), attempt: 1, log: "/l".into() }, 2),
            (Event::Failed { container: None, reason: "ErrImagePull".into(), message: "no".into(), fatal: false }, 3),
            (Event::SandboxLost, 1),
        ] {
            (0..times).for_each(|_| metrics.note(&Notice { pod: PodKey::default(), event: event.clone() }));
        }
        metrics.reloaded(false);
        metrics.evicted("memory.available");
        let mut page = Page::default();
        metrics.write_happened(&mut page);
        let text = page.finish();
        for line in [
            "kubelet_started_containers_total 3\n",
            "coracle_restarted_containers_total 2\n",
            "coracle_sandboxes_lost_total 1\n",
            "coracle_step_errors_total{reason=\"ErrImagePull\"} 3\n",
            "kubelet_evictions{eviction_signal=\"memory.available\"} 1\n",
            "coracle_reloads_total{result=\"refused\"} 1\n",
            "coracle_reloads_total{result=\"done\"} 0\n",
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
    }
}
