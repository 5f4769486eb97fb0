//! Limits.

use cri_proto::cri;

use crate::cgroup::{HugepageLimit, Resources};
use crate::error::{Error, Result};

/// Limits; 0 means that nothing was said.
pub fn limits(resources: cri::LinuxContainerResources) -> Result<Resources> {
    let positive = |value: i64, field: &str| {
        u64::try_from(value).map_err(|_| Error::Invalid(format!("resources.{field} is negative: {value}")))
    };
    let said = |value: u64| (value != 0).then_some(value);
    let text = |value: String| (!value.is_empty()).then_some(value);
    let hugepages = resources.hugepage_limits.into_iter();
    Ok(Resources {
        cpu_shares: said(positive(resources.cpu_shares, "cpu_shares")?),
        cpu_period: said(positive(resources.cpu_period, "cpu_period")?),
        cpu_quota: (resources.cpu_quota != 0).then_some(resources.cpu_quota),
        cpuset_cpus: text(resources.cpuset_cpus),
        cpuset_mems: text(resources.cpuset_mems),
        memory_limit: (resources.memory_limit_in_bytes != 0).then_some(resources.memory_limit_in_bytes),
        memory_swap: (resources.memory_swap_limit_in_bytes != 0).then_some(resources.memory_swap_limit_in_bytes),
        hugepages: hugepages.map(|it| HugepageLimit { page_size: it.page_size, limit: it.limit }).collect(),
        unified: resources.unified.into_iter().collect(),
        ..Resources::default()
    })
}
