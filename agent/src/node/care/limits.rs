//! Pods that take more of the node's disk than they may have: pure.

use k8s_openapi::api::core::v1::Pod;

use super::usage::PodUsage;
use crate::engine::config::quantity::value;
use crate::engine::config::resources::{limit, total};
use crate::engine::plan::{init_of, spec_of};

#[cfg(test)]
mod tests;

const RESOURCE: &str = "ephemeral-storage";

/// Whether the pod has any such limit; only then its disk is measured without need.
pub fn has_any(pod: &Pod) -> bool {
    let spec = spec_of(pod);
    let volumes = spec.volumes.iter().flatten().filter_map(|volume| volume.empty_dir.as_ref());
    let mut containers = spec.containers.iter().chain(init_of(spec));
    volumes.clone().any(|it| it.size_limit.is_some() && !is_in_memory(it.medium.as_deref()))
        || containers.any(|container| limit(container, RESOURCE).is_some())
}

/// Why the pod has to go, in kubelet's words: the limit, and the story. `images_apart` says that writable layers are on another filesystem than
/// the pods' files, and are not counted against containers.
pub fn exceeded(pod: &Pod, usage: &PodUsage, images_apart: bool) -> Option<(&'static str, String)> {
    let volume = volume(pod, usage).map(|why| ("emptydirfs.limit", why));
    let of_pod = || of_pod(pod, usage).map(|why| ("ephemeralpodfs.limit", why));
    let container = || container(pod, usage, images_apart).map(|why| ("ephemeralcontainerfs.limit", why));
    volume.or_else(of_pod).or_else(container)
}

/// A volume in memory has its limit from the kernel.
fn is_in_memory(medium: Option<&str>) -> bool {
    medium.is_some_and(|medium| !medium.is_empty())
}

fn volume(pod: &Pod, usage: &PodUsage) -> Option<String> {
    spec_of(pod).volumes.iter().flatten().find_map(|volume| {
        let size = volume.empty_dir.as_ref()?.size_limit.as_ref()?;
        let limit = value(size).filter(|limit| *limit > 0)?;
        let used = usage.volumes.get(&volume.name)?.bytes;
        let name = &volume.name;
        over(used, limit).then(|| format!("Usage of EmptyDir volume \"{name}\" exceeds the limit \"{}\". ", size.0))
    })
}

fn of_pod(pod: &Pod, usage: &PodUsage) -> Option<String> {
    let spec = spec_of(pod);
    let of = |container: &_| limit(container, RESOURCE).and_then(value);
    spec.containers.iter().chain(init_of(spec)).find_map(of)?;
    let limit = total(spec, &of);
    let used = usage.total();
    over((used.layers + used.files).bytes, limit).then(|| {
        let limit = super::message::binary(u64::try_from(limit).unwrap_or(0));
        format!("Pod ephemeral local storage usage exceeds the total limit of containers {limit}. ")
    })
}

fn container(pod: &Pod, usage: &PodUsage, images_apart: bool) -> Option<String> {
    spec_of(pod).containers.iter().find_map(|container| {
        let size = limit(container, RESOURCE)?;
        let limit = value(size).filter(|limit| *limit > 0)?;
        let used = usage.containers.get(&container.name)?;
        let used = if images_apart { used.logs } else { used.logs + used.layer };
        let name = &container.name;
        let exceeded = over(used.bytes, limit);
        exceeded.then(|| format!("Container {name} exceeded its local ephemeral storage limit \"{}\". ", size.0))
    })
}

fn over(used: u64, limit: i64) -> bool {
    u64::try_from(limit).is_ok_and(|limit| used > limit)
}
