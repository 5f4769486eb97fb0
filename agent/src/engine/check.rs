//! What can be known to be wrong with a pod before anything of it is made.

use k8s_openapi::api::core::v1::Pod;

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
        if let Err(error) = volumes::payload_of(pod, volume, objects) {
            problems.push(format!("spec.volumes[{index}] ({}): {error}", volume.name));
        }
    }
    let sources = env::Sources { pod, objects, node: &settings.node, ips: &[] };
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
}
