//! Why a pod is evicted, in kubelet's words: what is short, how much of it is left, and who took it.

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::pressure::Met;
use super::threshold::Resource;
use super::usage::{ContainerUsage, PodUsage};
use crate::engine::config::quantity::value;
use crate::engine::plan::{init_of, spec_of};

#[cfg(test)]
mod tests;

/// The message for a pod that goes because of `met`.
pub fn of(met: &Met, pod: &Pod, usage: Option<&PodUsage>) -> String {
    let resource = met.resource();
    let name = resource.as_str();
    let mut message = format!(
        "The node was low on resource: {name}. Threshold quantity: {}, available: {}. ",
        amount(resource, met.quantity),
        amount(resource, met.available)
    );
    let Some(usage) = usage else { return message };
    let spec = spec_of(pod);
    if let Some(asked) = of_pod(pod, resource) {
        let used = amount(resource, usage.total().memory);
        let pod = pod.metadata.name.as_deref().unwrap_or_default();
        message += &format!("Pod {pod} was using {used}, request is {asked}, has larger consumption of {name}. ");
    }
    for container in spec.containers.iter().chain(init_of(spec)) {
        let requests = container.resources.as_ref().and_then(|it| it.requests.as_ref());
        let request = requests.and_then(|requests| requests.get(name));
        let Some(used) = usage.containers.get(&container.name).and_then(|it| of_container(it, resource)) else {
            continue;
        };
        if used > request.and_then(value).and_then(|it| u64::try_from(it).ok()).unwrap_or(0) {
            let (used, asked) = (amount(resource, used), request.map_or("0", |request| &request.0));
            let container = &container.name;
            message += &format!(
                "Container {container} was using {used}, request is {asked}, has larger consumption of {name}. "
            );
        }
    }
    message
}

/// What the pod itself asks for, where it does and that can be compared.
fn of_pod(pod: &Pod, resource: Resource) -> Option<&str> {
    let requests = spec_of(pod).resources.as_ref()?.requests.as_ref()?;
    let Quantity(asked) = requests.get("memory").filter(|_| resource == Resource::Memory)?;
    Some(asked)
}

fn of_container(used: &ContainerUsage, resource: Resource) -> Option<u64> {
    match resource {
        Resource::Memory => Some(used.memory),
        Resource::EphemeralStorage => Some(used.layer.bytes.saturating_add(used.logs.bytes)),
        Resource::Inodes | Resource::Pids => None,
    }
}

fn amount(resource: Resource, amount: u64) -> String {
    match resource {
        Resource::Memory | Resource::EphemeralStorage => binary(amount),
        Resource::Inodes | Resource::Pids => decimal(amount),
    }
}

/// Bytes as Kubernetes writes them: exact, in the largest unit that divides them.
pub fn binary(amount: u64) -> String {
    let units = [(60, "Ei"), (50, "Pi"), (40, "Ti"), (30, "Gi"), (20, "Mi"), (10, "Ki")];
    let fits = |(shift, _): &&(u32, &str)| amount != 0 && amount.is_multiple_of(1 << shift);
    units.iter().find(fits).map_or(amount.to_string(), |(shift, unit)| format!("{}{unit}", amount >> shift))
}

/// Numbers as Kubernetes writes them.
fn decimal(amount: u64) -> String {
    let units = [(18, "E"), (15, "P"), (12, "T"), (9, "G"), (6, "M"), (3, "k")];
    let fits = |(power, _): &&(u32, &str)| amount != 0 && amount.is_multiple_of(10u64.pow(*power));
    units.iter().find(fits).map_or(amount.to_string(), |(power, unit)| format!("{}{unit}", amount / 10u64.pow(*power)))
}
