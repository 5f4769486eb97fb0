//! What can be known to be wrong with a pod before anything of it is made.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Pod;

use super::config::names::PodKey;
use super::config::ports::{self, HostPort};
use super::config::{self, Objects, Settings, env};
use super::plan::{init_of, spec_of};
use crate::host::volumes;

/// Everything about a pod that could never work with these objects, each with the field that it is about.
pub fn check(pod: &Pod, objects: &Objects, settings: &Settings) -> Vec<String> {
    let spec = spec_of(pod);
    let mut problems = Vec::new();
    if let Err(error) = config::sandbox::config(pod, 0, settings) {
        problems.push(format!("spec: {error}"));
    }
    for (index, volume) in spec.volumes.iter().flatten().enumerate() {
        if let Err(error) = volumes::check(pod, volume, objects, settings) {
            problems.push(format!("spec.volumes[{index}] ({}): {error}", volume.name));
        }
    }
    let sources = env::Sources { pod, objects, node: &settings.node, ips: &[], dir: None };
    for (list, containers) in [("initContainers", init_of(spec)), ("containers", &spec.containers[..])] {
        for (index, container) in containers.iter().enumerate() {
            let result = env::of_container(&sources, container).and_then(|environment| {
                let instance = config::container::Instance { environment, ..Default::default() };
                config::container::config(pod, container, instance, settings)
            });
            if let Err(error) = result {
                problems.push(format!("spec.{list}[{index}] ({}): {error}", container.name));
            }
        }
    }
    problems
}

/// Pods that want one port of the host, each but the first with the reason; the pods come with their places.
pub fn port_clashes(pods: &[(&Pod, &str)]) -> Vec<String> {
    let mut taken: BTreeMap<i32, Vec<(HostPort, &Pod, &str)>> = BTreeMap::new();
    let mut problems = Vec::new();
    for (pod, place) in pods {
        for port in ports::of_host(pod) {
            let before = taken.entry(port.port).or_default();
            // Within one pod the manifest's own rules have seen to it.
            let clash = before.iter().find(|(other, owner, _)| port.clashes(other) && !std::ptr::eq(*owner, *pod));
            if let Some((_, owner, first)) = clash {
                let (name, owner) = (PodKey::of(pod).name, PodKey::of(owner).name);
                problems.push(format!(
                    "{place}: pod {name}: {}: port {}/{} of the host is taken by pod {owner} at {first}",
                    port.path, port.port, port.protocol
                ));
            }
            before.push((port, pod, place));
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    #[test]
    fn every_problem_is_named_with_its_place() {
        let pod: Pod = serde_json::from_value(json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"},
            "spec": {
                "volumes": [{"name": "v", "secret": {"secretName": "s"}}, {"name": "e", "emptyDir": {}}],
                "initContainers": [{"name": "i", "envFrom": [{"configMapRef": {"name": "m"}}]}],
                "containers": [{"name": "ok"}, {"name": "c", "lifecycle": {"stopSignal": "SIGX"}}]
            }
        }))
        .unwrap();
        let problems = check(&pod, &Objects::default(), &Settings::default());
        let starts: Vec<_> = problems.iter().map(|problem| problem.split(':').next().unwrap()).collect();
        assert_eq!(starts, ["spec.volumes[0] (v)", "spec.initContainers[0] (i)", "spec.containers[1] (c)"]);
    }

    #[test]
    fn pods_that_want_one_port_of_the_host_are_named() {
        let pod = |name: &str, ports: serde_json::Value| -> Pod {
            serde_json::from_value(json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
                "spec": {"containers": [{"name": "c", "ports": ports}]}}))
            .unwrap()
        };
        let web = pod("web", json!([{"containerPort": 80, "hostPort": 80}, {"containerPort": 80, "hostPort": 80}]));
        let dns = pod("dns", json!([{"containerPort": 53, "hostPort": 80, "protocol": "UDP"}]));
        let other = pod("other", json!([{"containerPort": 1}, {"containerPort": 2, "hostPort": 80, "hostIP": "::1"}]));
        assert_eq!(port_clashes(&[(&web, "a:1"), (&dns, "a:2")]), Vec::<String>::new());
        let problem =
            "a:3: pod other: spec.containers[0].ports[1].hostPort: port 80/TCP of the host is taken by pod web at a:1";
        assert_eq!(port_clashes(&[(&web, "a:1"), (&dns, "a:2"), (&other, "a:3")]), [problem]);
    }
}
