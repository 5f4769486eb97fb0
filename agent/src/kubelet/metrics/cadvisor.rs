//! `/metrics/cadvisor`: what containers, pods and the machine use, under cAdvisor's names and labels.
//!
//! What it says of containers is what the container runtime's metrics say, which have cAdvisor's names but labels of their
//! own: there `id` is the runtime's id, which cAdvisor calls `name`, and cAdvisor's `id` is a cgroup. They count whole
//! seconds; where the runtime's statistics are finer, these are told.

use std::collections::{BTreeMap, HashMap};

use cri_proto::cri;
use tonic::Status;

use crate::engine::config::names::{CONTAINER_NAME, POD_NAME, POD_NAMESPACE, POD_UID};
use crate::kubelet::Inner;
use crate::node::metrics::{Kind, Page};
use crate::store::{Kind as StoreKind, Object};

/// A sample of a family: labels, value, and when it was read.
type Sample = (Vec<(String, String)>, f64, Option<i64>);

/// Families by name, as they are written.
#[derive(Debug, Default)]
struct Families(BTreeMap<String, (Kind, String, Vec<Sample>)>);

/// What a series is about, in cAdvisor's words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct About {
    /// The cgroup.
    id: String,
    /// The runtime's id.
    name: String,
    image: String,
    container: String,
    namespace: String,
    pod: String,
}

impl About {
    fn labels(&self) -> Vec<(String, String)> {
        let all = [
            ("container", &self.container),
            ("id", &self.id),
            ("image", &self.image),
            ("name", &self.name),
            ("namespace", &self.namespace),
            ("pod", &self.pod),
        ];
        all.map(|(key, value)| (key.to_owned(), value.clone())).to_vec()
    }
}

/// Writes it. What the runtime does not say is left out, and that something was is told.
pub async fn write(page: &mut Page, kubelet: &Inner) {
    let mut families = Families::default();
    let failed = match fill(&mut families, kubelet).await {
        Ok(()) => 0.0,
        Err(status) => {
            tracing::warn!(error = status.message(), "what containers use cannot be told");
            1.0
        }
    };
    families.write(page);
    let help = "1 if there was an error while getting container metrics, 0 otherwise";
    page.single("container_scrape_error", Kind::Gauge, help, failed);
    machine(page, kubelet);
}

async fn fill(families: &mut Families, kubelet: &Inner) -> Result<(), Status> {
    let ours = &kubelet.served.ours;
    let mut runtime = ours.cri.runtime.clone();
    let (stats, sandboxes) = tokio::try_join!(ours.stats(), ours.sandboxes())?;
    let about = about(kubelet, &stats, &sandboxes);
    let (descriptors, metrics) = match metrics(&mut runtime).await {
        // A runtime that knows no metrics has statistics.
        Err(status) if status.code() == tonic::Code::Unimplemented => Default::default(),
        said => said?,
    };
    for pod in &metrics {
        let Some(of_pod) = about.get(&pod.pod_sandbox_id) else { continue };
        pod.metrics.iter().for_each(|it| families.add(it, &descriptors, of_pod));
        for container in &pod.container_metrics {
            let Some(of_container) = about.get(&container.container_id) else { continue };
            container.metrics.iter().for_each(|it| families.add(it, &descriptors, of_container));
        }
    }
    for pod in &stats {
        families.add_stats(pod, &about, metrics.is_empty());
    }
    root(families, kubelet).await
}

type Runtime = cri::runtime_service_client::RuntimeServiceClient<crate::channel::Channel>;

/// What the runtime calls its metrics, and what they are.
async fn metrics(
    runtime: &mut Runtime,
) -> Result<(HashMap<String, cri::MetricDescriptor>, Vec<cri::PodSandboxMetrics>), Status> {
    let descriptors = runtime.list_metric_descriptors(cri::ListMetricDescriptorsRequest {}).await?.into_inner();
    let descriptors = descriptors.descriptors.into_iter().map(|it| (it.name.clone(), it)).collect();
    let metrics = runtime.list_pod_sandbox_metrics(cri::ListPodSandboxMetricsRequest {}).await?.into_inner();
    Ok((descriptors, metrics.pod_metrics))
}

/// What each sandbox and container is, by the runtime's id.
fn about(kubelet: &Inner, stats: &[cri::PodSandboxStats], sandboxes: &[cri::PodSandbox]) -> HashMap<String, About> {
    let mut about = HashMap::new();
    let store = kubelet.access.store();
    let pods: HashMap<String, _> = store
        .objects(StoreKind::Pod, None)
        .items
        .into_iter()
        .filter_map(|object| match object {
            Object::Pod(pod) => Some((pod.metadata.uid.clone()?, pod)),
            _ => None,
        })
        .collect();
    for sandbox in sandboxes {
        let label = |key: &str| sandbox.labels.get(key).cloned().unwrap_or_default();
        let pod = pods.get(&label(POD_UID));
        let id = pod.map(|pod| format!("/{}", kubelet.settings_of_pods.pod_cgroup(pod))).unwrap_or_default();
        let name = pod.map_or_else(|| label(POD_NAME), |pod| kubelet.names.outer(pod));
        let of_pod =
            About { id, name: sandbox.id.clone(), namespace: label(POD_NAMESPACE), pod: name, ..About::default() };
        about.insert(sandbox.id.clone(), of_pod);
    }
    let containers = stats.iter().filter_map(|pod| Some((pod.attributes.as_ref()?, pod.linux.as_ref()?)));
    for (of_pod, container) in containers.flat_map(|(pod, linux)| linux.containers.iter().map(move |it| (pod, it))) {
        let (Some(own), Some(pod)) = (container.attributes.as_ref(), about.get(&of_pod.id)) else { continue };
        let of_container = About {
            id: format!("{}/{}", pod.id, own.id),
            name: own.id.clone(),
            container: own.labels.get(CONTAINER_NAME).cloned().unwrap_or_default(),
            ..pod.clone()
        };
        about.insert(own.id.clone(), of_container);
    }
    about
}

impl Families {
    fn push(&mut self, name: &str, kind: Kind, help: &str, sample: Sample) {
        let family = self.0.entry(name.to_owned()).or_insert_with(|| (kind, help.to_owned(), Vec::new()));
        family.2.push(sample);
    }

    /// A metric of the runtime's.
    fn add(&mut self, metric: &cri::Metric, known: &HashMap<String, cri::MetricDescriptor>, about: &About) {
        let Some(descriptor) = known.get(&metric.name) else { return };
        // The pod's and the container's own, which statistics tell more finely.
        if metric.name == USAGE {
            return;
        }
        let kind = match metric.metric_type() {
            cri::MetricType::Counter => Kind::Counter,
            cri::MetricType::Gauge => Kind::Gauge,
        };
        let mut about = about.clone();
        let mut own = Vec::new();
        for (key, value) in descriptor.label_keys.iter().zip(&metric.label_values) {
            match key.as_str() {
                "image" => about.image.clone_from(value),
                "pod" | "namespace" | "container" | "id" | "name" => {}
                _ => own.push((key.clone(), value.clone())),
            }
        }
        if metric.name == "container_blkio_device_usage_total" {
            own.retain(|(key, _)| ["device", "major", "minor", "operation"].contains(&key.as_str()));
        }
        let mut labels = about.labels();
        labels.extend(own);
        labels.sort();
        let value = metric.value.as_ref().map_or(0, |it| it.value) as f64;
        let at = Some(metric.timestamp / 1_000_000).filter(|it| *it > 0);
        self.push(&metric.name, kind, &descriptor.help, (labels, value, at));
    }

    /// CPU time to the nanosecond, and what pods use as a whole; what containers use, too, if these are all that is told.
    fn add_stats(&mut self, pod: &cri::PodSandboxStats, about: &HashMap<String, About>, only: bool) {
        let (Some(attributes), Some(linux)) = (pod.attributes.as_ref(), pod.linux.as_ref()) else { return };
        if let Some(about) = about.get(&attributes.id) {
            // A pod's cgroup is nobody's container.
            let about = About { name: String::new(), ..about.clone() };
            self.add_cpu(linux.cpu.as_ref(), &about);
            self.add_memory(linux.memory.as_ref(), &about);
        }
        for container in &linux.containers {
            if let Some(about) = container.attributes.as_ref().and_then(|it| about.get(&it.id)) {
                let image = self.image_of(about);
                let about = About { image, ..about.clone() };
                self.add_cpu(container.cpu.as_ref(), &about);
                if only {
                    self.add_memory(container.memory.as_ref(), &about);
                }
            }
        }
    }

    /// The image that the runtime's metrics name for a container.
    fn image_of(&self, about: &About) -> String {
        let samples = self.0.get("container_last_seen").map(|(_, _, samples)| samples.as_slice()).unwrap_or_default();
        let label = |labels: &[(String, String)], key: &str| {
            labels.iter().find(|(it, _)| it == key).map(|(_, value)| value.clone()).unwrap_or_default()
        };
        let found = samples.iter().find(|(labels, ..)| label(labels, "name") == about.name);
        found.map(|(labels, ..)| label(labels, "image")).unwrap_or_default()
    }

    fn add_cpu(&mut self, cpu: Option<&cri::CpuUsage>, about: &About) {
        let Some((used, at)) = cpu.and_then(|it| Some((it.usage_core_nano_seconds.as_ref()?.value, it.timestamp)))
        else {
            return;
        };
        let mut labels = about.labels();
        labels.push(("cpu".into(), "total".into()));
        labels.sort();
        let help = "Cumulative cpu time consumed in seconds.";
        self.push(USAGE, Kind::Counter, help, (labels, used as f64 / 1e9, Some(at / 1_000_000)));
    }

    fn add_memory(&mut self, memory: Option<&cri::MemoryUsage>, about: &About) {
        let Some(memory) = memory else { return };
        let at = Some(memory.timestamp / 1_000_000);
        let values = [
            (
                "container_memory_usage_bytes",
                "Current memory usage in bytes, including all memory regardless of when it was accessed",
                &memory.usage_bytes,
            ),
            ("container_memory_working_set_bytes", "Current working set in bytes.", &memory.working_set_bytes),
            ("container_memory_rss", "Size of RSS in bytes.", &memory.rss_bytes),
        ];
        for (name, help, value) in values {
            if let Some(value) = value {
                self.push(name, Kind::Gauge, help, (about.labels(), value.value as f64, at));
            }
        }
    }

    fn write(self, page: &mut Page) {
        for (name, (kind, help, samples)) in self.0 {
            page.family(&name, kind, &help);
            for (labels, value, at) in samples {
                let labels: Vec<(&str, &str)> =
                    labels.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
                page.sample_at(&name, &labels, value, at);
            }
        }
    }
}

const USAGE: &str = "container_cpu_usage_seconds_total";

/// The whole machine, which cAdvisor shows as the cgroup `/`.
async fn root(families: &mut Families, kubelet: &Inner) -> Result<(), Status> {
    let node = kubelet.statistics.summary(true).await?.node;
    let about = About { id: "/".into(), ..About::default() };
    if let Some((used, at)) = node.cpu.as_ref().and_then(|it| Some((it.usage_core_nano_seconds?, it.time))) {
        let cpu = cri::CpuUsage {
            timestamp: at.0,
            usage_core_nano_seconds: Some(cri::UInt64Value { value: used }),
            ..Default::default()
        };
        families.add_cpu(Some(&cpu), &about);
    }
    if let Some(memory) = node.memory {
        let value = |it: Option<u64>| it.map(|value| cri::UInt64Value { value });
        let memory = cri::MemoryUsage {
            timestamp: memory.time.0,
            working_set_bytes: value(memory.working_set_bytes),
            usage_bytes: value(memory.usage_bytes),
            rss_bytes: value(memory.rss_bytes),
            ..Default::default()
        };
        families.add_memory(Some(&memory), &about);
    }
    Ok(())
}

/// The machine itself.
fn machine(page: &mut Page, kubelet: &Inner) {
    use crate::store::Kind::Node;
    let name = &kubelet.served.node;
    let node = kubelet.access.store().object(Node, "", name);
    let info = match &node {
        Some(Object::Node(node)) => node.status.as_ref().and_then(|it| it.node_info.clone()).unwrap_or_default(),
        _ => Default::default(),
    };
    let version = [
        ("cadvisorRevision", ""),
        ("cadvisorVersion", ""),
        ("dockerVersion", ""),
        ("kernelVersion", info.kernel_version.as_str()),
        ("osVersion", info.os_image.as_str()),
    ];
    let help = "A metric with a constant '1' value labeled by kernel version, OS version, docker version, cadvisor \
                version & cadvisor revision.";
    page.family("cadvisor_version_info", Kind::Gauge, help);
    page.sample("cadvisor_version_info", &version, 1.0);
    let labels = [
        ("boot_id", info.boot_id.as_str()),
        ("machine_id", info.machine_id.as_str()),
        ("system_uuid", info.system_uuid.as_str()),
    ];
    let facts = &kubelet.settings_of_pods.node;
    let values = [
        ("machine_cpu_cores", "Number of logical CPU cores.", facts.cpu_milli as f64 / 1000.0),
        ("machine_memory_bytes", "Amount of memory installed on the machine.", facts.memory_bytes as f64),
    ];
    for (name, help, value) in values {
        page.family(name, Kind::Gauge, help);
        page.sample(name, &labels, value);
    }
    page.single(
        "machine_scrape_error",
        Kind::Gauge,
        "1 if there was an error while getting machine metrics, 0 otherwise.",
        0.0,
    );
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_runtime_s_labels_become_cadvisor_s() {
        let keys = ["pod", "namespace", "container", "id", "image", "interface"].map(str::to_owned).to_vec();
        let name = "container_network_receive_bytes_total".to_owned();
        let descriptor = cri::MetricDescriptor { name: name.clone(), help: "Bytes.".into(), label_keys: keys };
        let known = HashMap::from([(name.clone(), descriptor)]);
        let metric = cri::Metric {
            name,
            timestamp: 1_700_000_000_123_000_000,
            metric_type: cri::MetricType::Counter.into(),
            label_values: ["web", "d", "", "s1", "i", "eth0"].map(str::to_owned).to_vec(),
            value: Some(cri::UInt64Value { value: 7 }),
        };
        let about = About {
            id: "/kubepods/podu".into(),
            name: "s1".into(),
            namespace: "d".into(),
            pod: "web-n".into(),
            ..About::default()
        };
        let mut families = Families::default();
        families.add(&metric, &known, &about);
        let mut page = Page::default();
        families.write(&mut page);
        assert_eq!(
            page.finish(),
            "# HELP container_network_receive_bytes_total Bytes.\n# TYPE container_network_receive_bytes_total counter\n\
             container_network_receive_bytes_total{container=\"\",id=\"/kubepods/podu\",image=\"i\",interface=\"eth0\",\
             name=\"s1\",namespace=\"d\",pod=\"web-n\"} 7 1700000000123\n"
        );
    }

    #[test]
    fn cpu_time_is_told_to_the_nanosecond_and_once() {
        let about =
            About { id: "/kubepods/podu/c1".into(), name: "c1".into(), container: "c".into(), ..About::default() };
        let cpu = cri::CpuUsage {
            timestamp: 5_000_000,
            usage_core_nano_seconds: Some(cri::UInt64Value { value: 1_250_000_000 }),
            ..Default::default()
        };
        let mut families = Families::default();
        families.add_cpu(Some(&cpu), &about);
        let descriptor = cri::MetricDescriptor { name: USAGE.into(), ..Default::default() };
        let metric = cri::Metric { name: USAGE.into(), ..Default::default() };
        families.add(&metric, &HashMap::from([(USAGE.to_owned(), descriptor)]), &about);
        let mut page = Page::default();
        families.write(&mut page);
        let text = page.finish();
        assert!(text.contains("container_cpu_usage_seconds_total{container=\"c\",cpu=\"total\",id="), "{text}");
        assert!(text.ends_with("} 1.25 5\n"), "{text}");
        assert_eq!(text.lines().count(), 3, "{text}");
    }
}
