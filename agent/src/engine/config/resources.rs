//! From requests and limits to what the kernel is told.

use std::collections::{BTreeMap, BTreeSet};

use cri_proto::cri;
use k8s_openapi::api::core::v1::{Container, PodSpec, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use runtime::cgroup;

use super::quantity::{Read, milli, value};
use super::{Node, Settings};
use crate::engine::plan::{init_of, is_sidecar};

#[cfg(test)]
mod tests;

/// The quality of service of a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Qos {
    /// Every container has limits of cpu and memory, and requests equal to them.
    Guaranteed,
    /// Some container has a request or a limit.
    Burstable,
    /// None has.
    BestEffort,
}

impl Qos {
    /// The word in `status.qosClass`.
    pub fn as_str(self) -> &'static str {
        match self {
            Qos::Guaranteed => "Guaranteed",
            Qos::Burstable => "Burstable",
            Qos::BestEffort => "BestEffort",
        }
    }

    /// The class of a pod: of cpu and memory alone, over containers and init containers, or, where the pod says
    /// something itself, of that alone.
    pub fn of(spec: &PodSpec) -> Qos {
        let own = spec.resources.as_ref().filter(|own| has_any(&own.requests) || has_any(&own.limits));
        let containers = spec.containers.iter().chain(spec.init_containers.iter().flatten());
        let each: Vec<&ResourceRequirements> = match own {
            Some(own) => vec![own],
            None => containers.map(|container| container.resources.as_ref().unwrap_or(&NOTHING)).collect(),
        };
        let mut any = false;
        let mut guaranteed = true;
        for resources in each {
            for resource in ["cpu", "memory"] {
                let amount = |list| find(list, resource).and_then(milli).filter(|amount| *amount > 0);
                let (limit, request) = (amount(resources.limits.as_ref()), amount(resources.requests.as_ref()));
                any |= limit.is_some() || request.is_some();
                guaranteed &= limit.is_some() && (request.is_none() || request == limit);
            }
        }
        match (any, guaranteed) {
            (true, true) => Qos::Guaranteed,
            (true, false) => Qos::Burstable,
            (false, _) => Qos::BestEffort,
        }
    }
}

static NOTHING: ResourceRequirements = ResourceRequirements { claims: None, limits: None, requests: None };

fn has_any(list: &Option<BTreeMap<String, Quantity>>) -> bool {
    list.as_ref().is_some_and(|list| !list.is_empty())
}

/// `spec.priority`, or what its class has where that is one of Kubernetes' own.
pub fn priority(spec: &PodSpec) -> i32 {
    spec.priority.unwrap_or(match spec.priority_class_name.as_deref() {
        Some("system-node-critical") => NODE_CRITICAL,
        Some("system-cluster-critical") => CRITICAL,
        _ => 0,
    })
}

/// From here on a pod is critical: it is never evicted.
pub const CRITICAL: i32 = 2_000_000_000;

/// From here on the kernel kills it last, whatever its class.
pub const NODE_CRITICAL: i32 = 2_000_001_000;

/// A limit of a container.
pub fn limit<'a>(container: &'a Container, resource: &str) -> Option<&'a Quantity> {
    find(container.resources.as_ref()?.limits.as_ref(), resource)
}

/// A request of a container.
pub fn request<'a>(container: &'a Container, resource: &str) -> Option<&'a Quantity> {
    find(container.resources.as_ref()?.requests.as_ref(), resource)
}

fn find<'a>(map: Option<&'a BTreeMap<String, Quantity>>, resource: &str) -> Option<&'a Quantity> {
    map?.get(resource)
}

/// What a pod asks for of a resource: itself, or its containers together, and what its runtime class adds. What is not
/// said is the limit.
pub fn pod_request(spec: &PodSpec, resource: &str, read: Read) -> i64 {
    own_request(spec, resource, read).saturating_add(overhead(spec, resource, read))
}

/// The limit of a pod: its own, or that of its containers together where each of them has one, and what its runtime class
/// adds.
pub fn pod_limit(spec: &PodSpec, resource: &str, read: Read) -> Option<i64> {
    own_limit(spec, resource, read).map(|limit| limit.saturating_add(overhead(spec, resource, read)))
}

fn overhead(spec: &PodSpec, resource: &str, read: Read) -> i64 {
    find(spec.overhead.as_ref(), resource).and_then(read).unwrap_or(0).max(0)
}

fn own_request(spec: &PodSpec, resource: &str, read: Read) -> i64 {
    let own = spec.resources.as_ref();
    let own = own.and_then(|own| find(own.requests.as_ref(), resource).or(find(own.limits.as_ref(), resource)));
    own.and_then(read).unwrap_or_else(|| {
        total(spec, &|container| request(container, resource).or(limit(container, resource)).and_then(read))
    })
}

fn own_limit(spec: &PodSpec, resource: &str, read: Read) -> Option<i64> {
    let own = spec.resources.as_ref().and_then(|own| find(own.limits.as_ref(), resource)).and_then(read);
    let of = |container: &Container| limit(container, resource).and_then(read).filter(|limit| *limit > 0);
    let mut containers = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    own.or_else(|| containers.all(|container| of(container).is_some()).then(|| total(spec, &of)))
        .filter(|limit| *limit > 0)
}

/// The most that is in use at a time: of all containers and sidecars together, or before them of an init container and
/// the sidecars that run by then.
pub fn total(spec: &PodSpec, of: &dyn Fn(&Container) -> Option<i64>) -> i64 {
    let (mut running, mut peak) = (0i64, 0i64);
    for container in init_of(spec) {
        let beside = running.saturating_add(of(container).unwrap_or(0));
        peak = peak.max(beside);
        if is_sidecar(container) {
            running = beside;
        }
    }
    let all = spec.containers.iter().filter_map(of).fold(running, i64::saturating_add);
    peak.max(all)
}

/// What the kernel is told about one container.
pub fn of_container(spec: &PodSpec, container: &Container, settings: &Settings) -> cri::LinuxContainerResources {
    let cpu_request = request(container, "cpu").or_else(|| limit(container, "cpu")).and_then(milli).unwrap_or(0);
    let cpu_limit = limit(container, "cpu").and_then(milli).filter(|limit| *limit > 0);
    let memory = limit(container, "memory").and_then(value).unwrap_or(0);
    let (cpu_period, cpu_quota) = settings.cgroups.quota(cpu_limit).unwrap_or((0, 0));
    cri::LinuxContainerResources {
        cpu_period,
        cpu_quota,
        cpu_shares: shares(cpu_request),
        memory_limit_in_bytes: memory,
        // Equal to the limit of memory: no swap on top of it, as kubelet does.
        memory_swap_limit_in_bytes: memory,
        oom_score_adj: oom_score_adj(spec, container, &settings.node),
        hugepage_limits: hugepages(container),
        ..cri::LinuxContainerResources::default()
    }
}

/// What the runtime is told about the containers of a pod together. Coracle's own only passes it on to who asks; the pod's cgroup is made
/// by the agent ([`cgroup_of_pod`]).
pub fn of_pod(spec: &PodSpec, settings: &Settings) -> cri::LinuxContainerResources {
    let (cpu_limit, memory) = (own_limit(spec, "cpu", milli), own_limit(spec, "memory", value));
    amounts(cpu_limit, own_request(spec, "cpu", milli), memory.unwrap_or(0), settings)
}

/// What the runtime is told of its own needs beside the containers', where the pod's runtime class says some.
pub fn of_overhead(spec: &PodSpec, settings: &Settings) -> Option<cri::LinuxContainerResources> {
    spec.overhead.as_ref().filter(|overhead| !overhead.is_empty())?;
    let cpu = overhead(spec, "cpu", milli);
    Some(amounts(Some(cpu), cpu, overhead(spec, "memory", value), settings))
}

fn amounts(cpu_limit: Option<i64>, cpu: i64, memory: i64, settings: &Settings) -> cri::LinuxContainerResources {
    let (cpu_period, cpu_quota) = settings.cgroups.quota(cpu_limit).unwrap_or((0, 0));
    cri::LinuxContainerResources {
        cpu_period,
        cpu_quota,
        cpu_shares: shares(cpu),
        memory_limit_in_bytes: memory,
        ..cri::LinuxContainerResources::default()
    }
}

/// The limits of a pod's cgroup, by kubelet's rules: all of them, so that one which was taken away goes.
pub fn cgroup_of_pod(spec: &PodSpec, settings: &Settings) -> cgroup::Resources {
    let (period, quota) = settings.cgroups.quota(pod_limit(spec, "cpu", milli)).unzip();
    let hugepages = settings.node.hugepages.iter().map(|pages| {
        let amount = |container: &Container| limit(container, &pages.resource()).and_then(value);
        let own = spec.resources.as_ref().and_then(|own| find(own.limits.as_ref(), &pages.resource())).and_then(value);
        let limit = own.unwrap_or_else(|| total(spec, &amount));
        // A size that the pod does not ask for is not there for it.
        cgroup::HugepageLimit { page_size: kernel_size(pages.size), limit: u64::try_from(limit).unwrap_or(0) }
    });
    cgroup::Resources {
        cpu_shares: u64::try_from(shares(pod_request(spec, "cpu", milli))).ok(),
        cpu_period: period.and_then(|period| u64::try_from(period).ok()),
        cpu_quota: Some(quota.unwrap_or(-1)),
        memory_limit: Some(pod_limit(spec, "memory", value).unwrap_or(-1)),
        pids_limit: Some(settings.cgroups.pids_limit.get()),
        hugepages: hugepages.collect(),
        ..cgroup::Resources::default()
    }
}

/// CPU time in the scheduler's unit.
pub fn shares(milli: i64) -> i64 {
    (milli.saturating_mul(1024) / 1000).clamp(2, 262_144)
}

/// kubelet's rule: who asked for the larger part of the node's memory is killed later. What a pod asks for beyond its
/// containers counts for each of them in equal parts.
fn oom_score_adj(spec: &PodSpec, container: &Container, node: &Node) -> i64 {
    if priority(spec) >= NODE_CRITICAL {
        return -997;
    }
    match Qos::of(spec) {
        Qos::Guaranteed => -997,
        Qos::BestEffort => 1000,
        Qos::Burstable => {
            let asked = |it: &Container| request(it, "memory").or_else(|| limit(it, "memory")).and_then(value);
            let mut memory = asked(container).unwrap_or(0);
            if is_sidecar(container) {
                // It does not go before those that it serves.
                memory = memory.max(spec.containers.iter().map(|it| asked(it).unwrap_or(0)).min().unwrap_or(0));
            }
            let beyond = own_request(spec, "memory", value) - total(spec, &asked);
            let containers = i64::try_from(spec.containers.len() + init_of(spec).len()).unwrap_or(1);
            let share = beyond.max(0) / containers.max(1);
            let part = i128::from(memory.saturating_add(share)) * 1000 / i128::from(node.memory_bytes.max(1));
            i64::try_from((1000 - part).clamp(3, 999)).unwrap_or(999)
        }
    }
}

fn hugepages(container: &Container) -> Vec<cri::HugepageLimit> {
    let limits = container.resources.as_ref().and_then(|resources| resources.limits.as_ref());
    let mut seen = BTreeSet::new();
    limits
        .into_iter()
        .flatten()
        .filter_map(|(name, limit)| {
            let page_size = page_size(name.strip_prefix("hugepages-")?)?;
            let limit = u64::try_from(value(limit)?).ok()?;
            seen.insert(page_size.clone()).then_some(cri::HugepageLimit { page_size, limit })
        })
        .collect()
}

/// `2Mi` as the kernel writes it: `2MB`.
fn page_size(quantity: &str) -> Option<String> {
    value(&Quantity(quantity.to_owned())).and_then(|bytes| u64::try_from(bytes).ok()).map(kernel_size)
}

fn kernel_size(bytes: u64) -> String {
    match bytes {
        _ if bytes >= 1 << 30 && bytes.is_multiple_of(1 << 30) => format!("{}GB", bytes >> 30),
        _ if bytes >= 1 << 20 && bytes.is_multiple_of(1 << 20) => format!("{}MB", bytes >> 20),
        _ => format!("{}KB", bytes >> 10),
    }
}
