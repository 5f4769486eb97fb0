//! From requests and limits to what the kernel is told.

use std::collections::{BTreeMap, BTreeSet};

use cri_proto::cri;
use k8s_openapi::api::core::v1::{Container, PodSpec};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::Node;
use super::quantity::{milli, value};

/// The CFS period that kubelet uses, in microseconds.
const PERIOD: i64 = 100_000;

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

    /// The class of a pod: of cpu and memory alone, over containers and init containers.
    pub fn of(spec: &PodSpec) -> Qos {
        let mut any = false;
        let mut guaranteed = true;
        for container in spec.containers.iter().chain(spec.init_containers.iter().flatten()) {
            for resource in ["cpu", "memory"] {
                let limit = limit(container, resource).and_then(milli).filter(|amount| *amount > 0);
                let request = request(container, resource).and_then(milli).filter(|amount| *amount > 0);
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

/// What the kernel is told about one container.
pub fn of_container(spec: &PodSpec, container: &Container, node: &Node) -> cri::LinuxContainerResources {
    let cpu_limit = limit(container, "cpu").and_then(milli);
    let cpu_request = request(container, "cpu").and_then(milli).or(cpu_limit).unwrap_or(0);
    let memory = limit(container, "memory").and_then(value).unwrap_or(0);
    cri::LinuxContainerResources {
        cpu_period: if cpu_limit.is_some_and(|limit| limit > 0) { PERIOD } else { 0 },
        cpu_quota: cpu_limit.map_or(0, quota),
        cpu_shares: shares(cpu_request),
        memory_limit_in_bytes: memory,
        // Equal to the limit of memory: no swap on top of it, as kubelet does.
        memory_swap_limit_in_bytes: memory,
        oom_score_adj: oom_score_adj(spec, container, node),
        hugepage_limits: hugepages(container),
        ..cri::LinuxContainerResources::default()
    }
}

/// What the runtime is told about the whole pod: the larger of the sum of the containers and any init container.
pub fn of_pod(spec: &PodSpec) -> cri::LinuxContainerResources {
    let total = |read: &dyn Fn(&Container) -> Option<i64>| -> Option<i64> {
        let mut sum = Some(0i64);
        for container in &spec.containers {
            sum = sum.zip(read(container)).map(|(sum, amount)| sum.saturating_add(amount));
        }
        let init = spec.init_containers.iter().flatten().map(read).max().flatten();
        sum.map(|sum| sum.max(init.unwrap_or(0)))
    };
    let requests = total(&|container| {
        Some(request(container, "cpu").or_else(|| limit(container, "cpu")).and_then(milli).unwrap_or(0))
    });
    let cpu = total(&|container| limit(container, "cpu").and_then(milli)).filter(|limit| *limit > 0);
    let memory = total(&|container| limit(container, "memory").and_then(value)).unwrap_or(0);
    cri::LinuxContainerResources {
        cpu_period: if cpu.is_some() { PERIOD } else { 0 },
        cpu_quota: cpu.map_or(0, quota),
        cpu_shares: shares(requests.unwrap_or(0)),
        memory_limit_in_bytes: memory,
        ..cri::LinuxContainerResources::default()
    }
}

fn shares(milli: i64) -> i64 {
    (milli.saturating_mul(1024) / 1000).clamp(2, 262_144)
}

fn quota(milli: i64) -> i64 {
    if milli <= 0 { 0 } else { (milli.saturating_mul(PERIOD) / 1000).max(1000) }
}

/// kubelet's rule: who asked for the larger part of the node's memory is killed later.
fn oom_score_adj(spec: &PodSpec, container: &Container, node: &Node) -> i64 {
    match Qos::of(spec) {
        Qos::Guaranteed => -997,
        Qos::BestEffort => 1000,
        Qos::Burstable => {
            let asked = request(container, "memory").or_else(|| limit(container, "memory")).and_then(value);
            let part = i128::from(asked.unwrap_or(0)) * 1000 / i128::from(node.memory_bytes.max(1));
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
    let bytes = value(&Quantity(quantity.to_owned()))?;
    Some(match bytes {
        _ if bytes >= 1 << 30 && bytes % (1 << 30) == 0 => format!("{}GB", bytes >> 30),
        _ if bytes >= 1 << 20 && bytes % (1 << 20) == 0 => format!("{}MB", bytes >> 20),
        _ => format!("{}KB", bytes >> 10),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    fn spec(resources: serde_json::Value) -> PodSpec {
        serde_json::from_value(json!({"containers": [{"name": "a", "resources": resources}]})).unwrap()
    }

    fn linux(resources: serde_json::Value) -> cri::LinuxContainerResources {
        let spec = spec(resources);
        let node = Node { memory_bytes: 1 << 30, ..Node::default() };
        of_container(&spec, &spec.containers[0], &node)
    }

    #[test]
    fn cpu_becomes_shares_and_quota() {
        for (request, limit, shares, quota) in [
            (None, None, 2, 0),
            (Some("1m"), None, 2, 0),
            (Some("100m"), None, 102, 0),
            (Some("2"), None, 2048, 0),
            (None, Some("500m"), 512, 50_000),
            (Some("100m"), Some("1m"), 102, 1000),
            (Some("1000"), None, 262_144, 0),
        ] {
            let mut resources = json!({});
            if let Some(request) = request {
                resources["requests"] = json!({"cpu": request});
            }
            if let Some(limit) = limit {
                resources["limits"] = json!({"cpu": limit});
            }
            let linux = linux(resources);
            assert_eq!((linux.cpu_shares, linux.cpu_quota), (shares, quota), "{request:?} {limit:?}");
            assert_eq!(linux.cpu_period, if quota == 0 { 0 } else { 100_000 });
        }
    }

    #[test]
    fn the_oom_score_follows_the_class() {
        let both = json!({"cpu": "1", "memory": "256Mi"});
        for (resources, class, score) in [
            (json!({}), Qos::BestEffort, 1000),
            (json!({"limits": both}), Qos::Guaranteed, -997),
            (json!({"limits": both, "requests": {"cpu": "1", "memory": "256Mi"}}), Qos::Guaranteed, -997),
            (json!({"limits": both, "requests": {"cpu": "1", "memory": "128Mi"}}), Qos::Burstable, 875),
            (json!({"requests": {"memory": "512Mi"}}), Qos::Burstable, 500),
            (json!({"requests": {"cpu": "1"}}), Qos::Burstable, 999),
            (json!({"requests": {"memory": "64Gi"}}), Qos::Burstable, 3),
        ] {
            assert_eq!(Qos::of(&spec(resources.clone())), class, "{resources}");
            assert_eq!(linux(resources.clone()).oom_score_adj, score, "{resources}");
        }
    }

    #[test]
    fn memory_and_huge_pages_are_limited() {
        let linux = linux(json!({"limits": {"memory": "64Mi", "hugepages-2Mi": "4Mi", "hugepages-1Gi": "1Gi"}}));
        assert_eq!(linux.memory_limit_in_bytes, 64 << 20);
        let pages: Vec<_> = linux.hugepage_limits.iter().map(|page| (page.page_size.as_str(), page.limit)).collect();
        assert_eq!(pages, [("1GB", 1 << 30), ("2MB", 4 << 20)]);
    }

    #[test]
    fn a_pod_is_limited_only_when_every_container_is() {
        let pod = |second: serde_json::Value| -> PodSpec {
            let first = json!({"limits": {"cpu": "500m", "memory": "64Mi"}});
            serde_json::from_value(json!({"containers": [
                {"name": "a", "resources": first}, {"name": "b", "resources": second}]}))
            .unwrap()
        };
        let limited = of_pod(&pod(json!({"limits": {"cpu": "500m", "memory": "64Mi"}})));
        assert_eq!((limited.memory_limit_in_bytes, limited.cpu_quota, limited.cpu_shares), (128 << 20, 100_000, 1024));
        let open = of_pod(&pod(json!({})));
        assert_eq!((open.memory_limit_in_bytes, open.cpu_quota, open.cpu_shares), (0, 0, 512));
    }
}
