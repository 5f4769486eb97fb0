//! What the containers of a pod ask for together.

use crate::quantity::Quantity;
use k8s_openapi::api::core::v1::{Container, PodSpec};
use std::collections::BTreeMap;

/// `requests` or `limits` of all containers, as the scheduler adds them up: those that run at the same time are added;
/// an init container, which runs before, counts where it is more, together with the sidecars that run by then.
pub(crate) fn total(spec: &PodSpec, list: &str) -> BTreeMap<String, Quantity> {
    let mut running = BTreeMap::new();
    let mut peak = BTreeMap::new();
    for container in spec.init_containers.iter().flatten() {
        if container.restart_policy.as_deref() == Some("Always") {
            add(&mut running, container, list);
            larger(&mut peak, &running);
        } else {
            let mut beside = running.clone();
            add(&mut beside, container, list);
            larger(&mut peak, &beside);
        }
    }
    spec.containers.iter().for_each(|container| add(&mut running, container, list));
    larger(&mut peak, &running);
    peak
}

fn add(sum: &mut BTreeMap<String, Quantity>, container: &Container, list: &str) {
    let Some(resources) = &container.resources else { return };
    // A request that is not given is the limit; the manifest may not be defaulted yet.
    let limits = resources.limits.iter().flatten();
    let requests = resources.requests.iter().flatten();
    let amounts: BTreeMap<_, _> = if list == "limits" { limits.collect() } else { limits.chain(requests).collect() };
    for (name, amount) in amounts {
        let Ok(amount) = Quantity::try_from(amount) else { continue };
        let entry = sum.entry(name.clone()).or_insert(Quantity::from_nano(0));
        *entry = entry.plus(&amount);
    }
}

fn larger(peak: &mut BTreeMap<String, Quantity>, other: &BTreeMap<String, Quantity>) {
    for (name, amount) in other {
        let entry = peak.entry(name.clone()).or_insert(*amount);
        *entry = (*entry).max(*amount);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    #[test]
    fn init_containers_count_where_they_are_more() {
        let memory = |amount: &str| json!({"limits": {"memory": amount}});
        let total_of = |init: serde_json::Value| {
            let spec: PodSpec = serde_json::from_value(json!({"initContainers": init, "containers": [
                {"name": "a", "resources": memory("1Gi")},
                {"name": "b", "resources": {"limits": {"memory": "2Gi"}, "requests": {"memory": "1Gi"}}}]}))
            .unwrap();
            ["limits", "requests"].map(|list| total(&spec, list)["memory"].to_string())
        };
        let init = |name: &str, amount: &str| json!({"name": name, "resources": memory(amount)});
        let sidecar =
            |name: &str, amount: &str| json!({"name": name, "restartPolicy": "Always", "resources": memory(amount)});
        assert_eq!(total_of(json!([])), ["3Gi", "2Gi"]);
        assert_eq!(total_of(json!([init("i", "5Gi")])), ["5Gi", "5Gi"]);
        assert_eq!(total_of(json!([sidecar("s", "1Gi"), init("i", "1Gi")])), ["4Gi", "3Gi"]);
        assert_eq!(total_of(json!([init("i", "3Gi"), sidecar("s", "2Gi"), init("j", "4Gi")])), ["6Gi", "6Gi"]);
    }
}
