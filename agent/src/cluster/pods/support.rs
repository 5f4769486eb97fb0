//! What a pod of an API server's asks for that does not exist here.

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use manifests::{Severity, Source};

use crate::csi::NO_DIRECTORY;
use crate::engine::Gate;
use crate::engine::config::names::PodKey;
use crate::engine::plan::spec_of;

/// Why the pod is held back.
const REASON: &str = "Unsupported";

/// What keeps a pod from beginning for good, if anything does: where something of it cannot be done, nothing of it is.
/// Whether there can be drivers of volumes here is `drivers`.
pub fn unsupported(pod: &Pod, drivers: bool) -> Option<Gate> {
    let ObjectMeta { name, namespace, labels, annotations, .. } = pod.metadata.clone();
    let metadata = ObjectMeta { name, namespace, labels, annotations, ..ObjectMeta::default() };
    let plain = Pod { metadata, spec: pod.spec.clone(), status: None };
    let text = match serde_json::to_string(&plain) {
        Ok(text) => text,
        Err(error) => return Some(gate(error.to_string())),
    };
    let PodKey { namespace, name, .. } = PodKey::of(pod);
    let read = manifests::read_of_cluster(&[Source { name: format!("pod {namespace}/{name}"), text }]);
    let errors = read.diagnostics.iter().filter(|it| it.severity == Severity::Error);
    let mut said: Vec<String> = errors.map(|it| format!("{}: {}", it.path, it.message)).collect();
    let volumes = spec_of(pod).volumes.iter().flatten().enumerate();
    let driven = volumes.filter(|(_, volume)| volume.csi.is_some() && !drivers);
    said.extend(driven.map(|(index, _)| format!("spec.volumes[{index}].csi: {NO_DIRECTORY}")));
    (!said.is_empty()).then(|| gate(said.join("; ")))
}

fn gate(message: String) -> Gate {
    let remedy = "delete it, and have it placed on another node, or made without that";
    Gate { reason: REASON.to_owned(), message: format!("this node cannot run it: {message}; {remedy}") }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    #[test]
    fn what_does_not_exist_here_is_said_by_its_field() {
        let bundle = json!({"clusterTrustBundle": {"name": "b", "path": "p"}});
        let rows = [
            (json!({}), None),
            (json!({"volumes": [{"name": "v", "csi": {"driver": "d"}}]}), Some("--kubelet-compat-dir")),
            (
                json!({"containers": [{"name": "c", "image": "i", "volumeDevices": [{"name": "v", "devicePath": "/d"}]}],
                    "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}]}),
                Some("spec.containers[0].volumeDevices: "),
            ),
            (
                json!({"volumes": [{"name": "v", "projected": {"sources": [bundle]}}]}),
                Some("spec.volumes[0].projected.sources[0].clusterTrustBundle: "),
            ),
        ];
        for (more, expected) in rows {
            let mut spec = json!({"containers": [{"name": "c", "image": "i"}]});
            spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            let pod = json!({"metadata": {"namespace": "n", "name": "p", "uid": "u"}, "spec": spec});
            let pod = serde_json::from_value(pod).unwrap();
            let said = unsupported(&pod, false);
            let of_driver = said.as_ref().is_some_and(|gate| gate.message.contains(".csi: "));
            assert_eq!(
                unsupported(&pod, true),
                said.clone().filter(|_| !of_driver),
                "drivers make CSI volumes possible alone"
            );
            match (said, expected) {
                (None, None) => {}
                (Some(gate), Some(expected)) => {
                    assert_eq!(gate.reason, "Unsupported");
                    assert!(gate.message.contains(expected), "{}", gate.message);
                }
                (said, expected) => panic!("{said:?} where {expected:?}"),
            }
        }
    }
}
