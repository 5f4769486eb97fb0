//! What containers use.

use cri_proto::cri;
use tonic::Status;

use super::{Services, show};
use crate::container::{self, disk_usage};
use crate::core::Core;
use crate::error::Result;

impl Services {
    pub(super) async fn stats_of(
        &self,
        filter: Option<cri::ContainerStatsFilter>,
    ) -> std::result::Result<Vec<cri::ContainerStats>, Status> {
        self.run(move |core, owner| {
            let filter = filter.unwrap_or_default();
            let records = container::all(core)?.into_iter().filter(|it| {
                it.owner == *owner
                    && it.id.starts_with(&filter.id)
                    && it.sandbox.starts_with(&filter.pod_sandbox_id)
                    && show::selects(&filter.label_selector, &it.request.labels)
            });
            records.filter_map(|it| stats(core, &it).transpose()).collect()
        })
        .await
    }
}

/// None for a container without a cgroup: it is being made or removed.
fn stats(core: &Core, record: &container::Record) -> Result<Option<cri::ContainerStats>> {
    let Some(cgroup) = core.hierarchies.find(&record.cgroup)? else { return Ok(None) };
    let used = cgroup.stats()?;
    let timestamp = crate::shim::now();
    let amount = |value| Some(cri::UInt64Value { value });
    let cpu = used.cpu.map(|cpu| cri::CpuUsage {
        timestamp,
        usage_core_nano_seconds: amount(cpu.usage_ns),
        usage_nano_cores: None,
        psi: None,
    });
    let memory = used.memory.map(|memory| cri::MemoryUsage {
        timestamp,
        working_set_bytes: amount(memory.working_set),
        available_bytes: memory.limit.and_then(|limit| amount(limit.saturating_sub(memory.working_set))),
        usage_bytes: amount(memory.usage),
        rss_bytes: amount(memory.rss),
        page_faults: amount(memory.page_faults),
        major_page_faults: amount(memory.major_page_faults),
        psi: None,
    });
    let upper = core.container_root(&record.id).join("upper");
    let (bytes, inodes) = disk_usage(&upper);
    let mountpoint = upper.to_string_lossy().into_owned();
    let writable_layer = cri::FilesystemUsage {
        timestamp,
        fs_id: Some(cri::FilesystemIdentifier { mountpoint }),
        used_bytes: amount(bytes),
        inodes_used: amount(inodes),
    };
    let item = show::container_item(record, None);
    let attributes = cri::ContainerAttributes {
        id: item.id,
        metadata: item.metadata,
        labels: item.labels,
        annotations: item.annotations,
    };
    Ok(Some(cri::ContainerStats {
        attributes: Some(attributes),
        cpu,
        memory,
        writable_layer: Some(writable_layer),
        swap: None,
        io: None,
    }))
}
