//! What containers and pods use.

pub mod reading;
mod samples;
mod show;

use std::sync::Arc;

use cri_proto::cri;
use tonic::Status;

use super::filesystem::ImageUsage;
use super::{Services, filesystem};
use crate::container::{self, DiskUsage};
use crate::core::Core;
use crate::error::Result;
use crate::{records, sandbox};
use reading::{Container, Pod};
use samples::Samples;

/// What is remembered from one question to the next.
#[derive(Default)]
pub struct Meter {
    /// What directories take of the disk.
    pub disks: DiskUsage,
    /// What the images take of it.
    pub images: ImageUsage,
    samples: Samples,
}

/// A number in a message.
pub fn amount(value: u64) -> Option<cri::UInt64Value> {
    Some(cri::UInt64Value { value })
}

impl Services {
    pub(super) async fn container_stats_of(&self, id: String) -> std::result::Result<cri::ContainerStats, Status> {
        let meter = self.meter.clone();
        self.run(move |core, owner| {
            let record = container::owned(core, owner, &id)?;
            let stats = show_containers(core, vec![Arc::new(record)], &meter)?;
            stats.into_iter().next().ok_or(crate::Error::NotFound { what: "container", id })
        })
        .await
    }

    pub(super) async fn stats_of(
        &self,
        filter: Option<cri::ContainerStatsFilter>,
    ) -> std::result::Result<Vec<cri::ContainerStats>, Status> {
        let meter = self.meter.clone();
        self.run(move |core, owner| {
            let filter = filter.unwrap_or_default();
            let records = records::select(core, |it: &container::Record| {
                it.owner == *owner
                    && it.id.starts_with(&filter.id)
                    && it.sandbox.starts_with(&filter.pod_sandbox_id)
                    && super::show::selects(&filter.label_selector, &it.request.labels)
            })?;
            show_containers(core, records, &meter)
        })
        .await
    }

    /// One that is not ready uses nothing, and has no network any more.
    pub(super) async fn pod_stats_of(&self, id: String) -> std::result::Result<cri::PodSandboxStats, Status> {
        let meter = self.meter.clone();
        let found = self.run(move |core, owner| {
            let record = sandbox::owned(core, owner, &id)?;
            let id = record.id.clone();
            if !record.is_ready(core) {
                return Ok(Err(id));
            }
            let containers = container::of_sandbox(core, &id)?;
            let pods = Pod::read_all(core, vec![Arc::new(record)], containers, &meter.disks.survey())?;
            Ok(show_pods(core, &pods, &meter)?.pop().ok_or(id))
        });
        found.await?.map_err(|id| Status::unavailable(format!("sandbox {id} is not ready: it has no statistics")))
    }

    pub(super) async fn pods_stats(
        &self,
        filter: Option<cri::PodSandboxStatsFilter>,
    ) -> std::result::Result<Vec<cri::PodSandboxStats>, Status> {
        let meter = self.meter.clone();
        self.run(move |core, owner| {
            let filter = filter.unwrap_or_default();
            let mut sandboxes = sandbox::all(core)?;
            sandboxes.retain(|it| {
                it.owner == *owner
                    && it.id.starts_with(&filter.id)
                    && super::show::selects(&filter.label_selector, &it.request.labels)
                    && it.is_ready(core)
            });
            let pods = Pod::read_all(core, sandboxes, container::all(core)?, &meter.disks.survey())?;
            show_pods(core, &pods, &meter)
        })
        .await
    }
}

fn show_containers(
    core: &Core,
    records: Vec<Arc<container::Record>>,
    meter: &Meter,
) -> Result<Vec<cri::ContainerStats>> {
    let layers = filesystem::of(&core.options.root_dir.join("containers"))?;
    let survey = meter.disks.survey();
    let read = |record| Container::read(core, record, &survey);
    records.into_iter().map(|it| Ok(show::container(&read(it)?, &layers, &meter.samples))).collect()
}

fn show_pods(core: &Core, pods: &[Pod], meter: &Meter) -> Result<Vec<cri::PodSandboxStats>> {
    let layers = filesystem::of(&core.options.root_dir.join("containers"))?;
    Ok(pods.iter().map(|it| show::pod(core, it, &layers, &meter.samples)).collect())
}
