//! emptyDir: on the disk, in memory, or in huge pages.

use std::path::Path;

use k8s_openapi::api::core::v1::{EmptyDirVolumeSource, PodSpec};

use super::super::{HostError, io_error, make_dir, mount, ownership};
use super::{Ready, is_mount};
use crate::engine::config::{ConfigError, Node, quantity, resources};
use crate::engine::plan::init_of;

pub(super) fn prepare(
    spec: &PodSpec,
    source: &EmptyDirVolumeSource,
    node: &Node,
    path: &Path,
    group: Option<u32>,
) -> Result<Ready, HostError> {
    let mode = source.mode.and_then(|mode| u32::try_from(mode).ok()).unwrap_or(0o777);
    if !path.exists() {
        make_dir(path, mode)?;
    }
    let medium = source.medium.as_deref().unwrap_or_default();
    if !medium.is_empty() && !is_mount(path)? {
        match medium {
            "Memory" => {
                mount::tmpfs(path, size(spec, source, node), false).map_err(io_error("mount a tmpfs on", path))?;
            }
            huge if huge.starts_with("HugePages") => {
                let bytes = page_size(spec, huge)?;
                mount::hugetlbfs(path, bytes).map_err(io_error("mount a hugetlbfs on", path))?;
            }
            other => return Err(ConfigError::Unsupported(format!("emptyDir of medium {other}")).into()),
        }
        make_dir(path, mode)?;
    }
    if let Some(group) = group {
        ownership::hand_over_once(path, group)?;
    }
    Ok(Ready::Host { path: path.to_owned(), read_only: false })
}

/// A directory in memory is as large as it may be, and no larger than the pod's own limit, nor than what all pods can count
/// on (KEP-1967).
fn size(spec: &PodSpec, source: &EmptyDirVolumeSource, node: &Node) -> Option<u64> {
    let own = source.size_limit.as_ref().and_then(quantity::value);
    let pod = resources::pod_limit(spec, "memory", quantity::value);
    let all = node.allocatable.of("memory").map(|thousandths| thousandths / 1000);
    [own, pod, all].into_iter().flatten().filter_map(|size| u64::try_from(size).ok()).filter(|size| *size > 0).min()
}

/// The size in `HugePages-2Mi`, or the one size that the containers ask for.
fn page_size(spec: &PodSpec, medium: &str) -> Result<u64, ConfigError> {
    let size_of = |name: &str| {
        let size = k8s_openapi::apimachinery::pkg::api::resource::Quantity(name.to_owned());
        quantity::value(&size).and_then(|size| u64::try_from(size).ok()).filter(|size| *size > 0)
    };
    let given = medium.strip_prefix("HugePages-");
    let containers = spec.containers.iter().chain(init_of(spec));
    let asked = containers.flat_map(|container| container.resources.iter()).chain(&spec.resources);
    let mut sizes: Vec<u64> = asked
        .flat_map(|resources| resources.limits.iter().chain(&resources.requests).flatten())
        .filter_map(|(name, _)| size_of(name.strip_prefix("hugepages-")?))
        .collect();
    sizes.sort_unstable();
    sizes.dedup();
    let wrong = |expected| ConfigError::Value { field: "emptyDir.medium", value: medium.to_owned(), expected };
    match (given, &sizes[..]) {
        (Some(given), _) => {
            let size = size_of(given).ok_or_else(|| wrong("it ends in the size of a page, such as HugePages-2Mi"))?;
            let asked = sizes.contains(&size).then_some(size);
            asked.ok_or_else(|| wrong("some container has to ask for huge pages of that size"))
        }
        (None, [one]) => Ok(*one),
        (None, []) => Err(wrong("some container has to ask for huge pages, such as hugepages-2Mi")),
        (None, _) => Err(wrong("the pod asks for pages of several sizes: say which, as in HugePages-2Mi")),
    }
}
