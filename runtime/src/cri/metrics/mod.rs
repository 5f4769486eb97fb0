//! The metrics of pods, by the names that cAdvisor made customary: a table of what each is called and where it is read.

mod process;
mod table;

use cri_proto::cri;
use tonic::Status;

use super::stats::amount;
use super::stats::reading::{Container, Pod};
use super::{Services, filesystem};
use crate::cgroup::{Hugepages, IoDevice};
use crate::container;
use crate::core::Core;
use crate::error::{During as _, Result};
use crate::sandbox;
use process::Processes;
use table::{Of, Row, TABLE, Values};

/// The labels that every metric begins with.
const LABELS: [&str; 5] = ["pod", "namespace", "container", "id", "image"];

/// A running container with what only metrics tell.
pub struct Detail<'a> {
    /// What statistics tell as well.
    pub it: &'a Container,
    /// When, in nanoseconds since 1970.
    pub at: i64,
    /// What it has read and written, by device.
    pub io: Vec<IoDevice>,
    /// Its huge pages.
    pub hugepages: Vec<Hugepages>,
    /// What its processes hold.
    pub processes: Processes,
    /// The filesystem of its writable layer.
    pub filesystem: &'a Space,
}

/// A filesystem's size.
pub struct Space {
    /// What is mounted.
    pub source: String,
    /// Bytes, in all.
    pub bytes: u64,
    /// Inodes, in all; 0 where they are made as needed.
    pub inodes: u64,
    /// Inodes that are free.
    pub free_inodes: u64,
}

/// What can be read, in the order of the table.
pub fn descriptors() -> Vec<cri::MetricDescriptor> {
    let keys = |row: &Row| LABELS.iter().chain(row.labels).map(ToString::to_string).collect();
    let describe =
        |row: &Row| cri::MetricDescriptor { name: row.name.into(), help: row.help.into(), label_keys: keys(row) };
    TABLE.iter().map(describe).collect()
}

impl Services {
    pub(super) async fn metrics(&self) -> std::result::Result<Vec<cri::PodSandboxMetrics>, Status> {
        let meter = self.meter.clone();
        self.run(move |core, owner| {
            let mut sandboxes = sandbox::all(core)?;
            sandboxes.retain(|it| it.owner == *owner && it.is_ready(core));
            let pods = Pod::read_all(core, sandboxes, container::all(core)?, &meter.disks.survey())?;
            let (space, sizes) = (space(core)?, hugepage_sizes());
            pods.iter().map(|pod| show_pod(pod, &space, &sizes)).collect()
        })
        .await
    }
}

fn space(core: &Core) -> Result<Space> {
    let layers = core.options.root_dir.join("containers");
    let stat = rustix::fs::statvfs(&layers).during(|| format!("ask for the space of {}", layers.display()))?;
    Ok(Space {
        source: filesystem::of(&layers)?.source,
        bytes: stat.f_blocks.saturating_mul(stat.f_frsize),
        inodes: stat.f_files,
        free_inodes: stat.f_ffree,
    })
}

/// The sizes of huge pages that the host has, as cgroups write them.
fn hugepage_sizes() -> Vec<String> {
    let entries = std::fs::read_dir("/sys/kernel/mm/hugepages").into_iter().flatten().flatten();
    entries.filter_map(|entry| hugepage_size(entry.file_name().to_str()?)).collect()
}

fn hugepage_size(directory: &str) -> Option<String> {
    let kib: u64 = directory.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok()?;
    Some(match kib {
        _ if kib.is_multiple_of(1 << 20) => format!("{}GB", kib >> 20),
        _ if kib.is_multiple_of(1 << 10) => format!("{}MB", kib >> 10),
        _ => format!("{kib}KB"),
    })
}

fn show_pod(pod: &Pod, space: &Space, sizes: &[String]) -> Result<cri::PodSandboxMetrics> {
    let request = &pod.record.request;
    let labels = [&request.name, &request.namespace, "", &pod.record.id, ""];
    let metrics = rows(pod.at, &labels, |of, values| match of {
        Of::Pod(read) => read(pod, values),
        Of::Container(_) => {}
    });
    let mut container_metrics = Vec::new();
    for it in &pod.containers {
        let Some(used) = &it.used else { continue };
        let detail = Detail {
            it,
            at: used.at,
            io: used.io()?,
            hugepages: used.hugepages(sizes)?,
            processes: process::read(&used.pids, it.view.as_ref().map_or(0, |view| view.pid)),
            filesystem: space,
        };
        let wanted = &it.record.request;
        let image = if wanted.user_image.is_empty() { &wanted.image } else { &wanted.user_image };
        let labels: [&str; 5] = [&request.name, &request.namespace, &wanted.name, &it.record.id, image];
        let metrics = rows(used.at, &labels, |of, values| match of {
            Of::Container(read) => read(&detail, values),
            Of::Pod(_) => {}
        });
        container_metrics.push(cri::ContainerMetrics { container_id: it.record.id.clone(), metrics });
    }
    Ok(cri::PodSandboxMetrics { pod_sandbox_id: pod.record.id.clone(), metrics, container_metrics })
}

/// Every value that `read` finds for a row of the table.
fn rows(timestamp: i64, labels: &[&str; 5], read: impl Fn(&Of, &mut Values)) -> Vec<cri::Metric> {
    let mut metrics = Vec::new();
    for row in TABLE {
        let mut values = Values::default();
        read(&row.of, &mut values);
        for (own, value) in values.0 {
            metrics.push(cri::Metric {
                name: row.name.into(),
                timestamp,
                metric_type: row.kind as i32,
                label_values: labels.iter().map(ToString::to_string).chain(own).collect(),
                value: amount(value),
            });
        }
    }
    metrics
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_metric_has_one_descriptor_with_a_name_and_words() {
        let all = descriptors();
        let names: BTreeSet<&str> = all.iter().map(|it| it.name.as_str()).collect();
        assert_eq!(names.len(), all.len(), "a name stands twice");
        for it in &all {
            assert!(it.name.starts_with("container_") && it.help.ends_with('.'), "{it:?}");
            assert_eq!(it.label_keys[..5], LABELS);
            let keys: BTreeSet<&String> = it.label_keys.iter().collect();
            assert_eq!(keys.len(), it.label_keys.len(), "{it:?}");
        }
        for row in TABLE {
            let counts = row.name.ends_with("_total") || row.name == "container_memory_failcnt";
            let counts = counts && !row.name.ends_with("inodes_total");
            assert_eq!(row.kind == cri::MetricType::Counter, counts, "{}", row.name);
        }
    }

    #[test]
    fn sizes_of_huge_pages_as_cgroups_write_them() {
        let of = |name: &str| hugepage_size(name);
        assert_eq!(of("hugepages-2048kB").as_deref(), Some("2MB"));
        assert_eq!(of("hugepages-1048576kB").as_deref(), Some("1GB"));
        assert_eq!(of("hugepages-64kB").as_deref(), Some("64KB"));
        assert_eq!(of("hugepages-xkB"), None);
    }
}
