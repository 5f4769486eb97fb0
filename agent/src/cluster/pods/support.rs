//! What a pod of an API server's asks for that does not exist here.

use k8s_openapi::api::core::v1::{EmptyDirVolumeSource, Pod, Volume};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use manifests::{Severity, Source};

use crate::engine::Gate;
use crate::engine::config::names::PodKey;

/// Why the pod is held back.
const REASON: &str = "Unsupported";

/// What keeps a pod from beginning for good, if anything does: where something of it cannot be done, nothing of it is.
pub fn unsupported(pod: &Pod) -> Option<Gate> {
    let ObjectMeta { name, namespace, labels, annotations, .. } = pod.metadata.clone();
    let metadata = ObjectMeta { name, namespace, labels, annotations, ..ObjectMeta::default() };
    let mut plain = Pod { metadata, spec: pod.spec.clone(), status: None };
    let volumes = plain.spec.iter_mut().flat_map(|spec| spec.volumes.iter_mut().flatten());
    volumes.for_each(without_tokens);
    let text = match serde_json::to_string(&plain) {
        Ok(text) => text,
        Err(error) => return Some(gate(error.to_string())),
    };
    let PodKey { namespace, name, .. } = PodKey::of(pod);
    let read = manifests::read_of_cluster(&[Source { name: format!("pod {namespace}/{name}"), text }]);
    let errors = read.diagnostics.iter().filter(|it| it.severity == Severity::Error);
    let said: Vec<String> = errors.map(|it| format!("{}: {}", it.path, it.message)).collect();
    (!said.is_empty()).then(|| gate(said.join("; ")))
}

/// Takes out of a volume what manifests cannot have, and pods of a cluster can: tokens of their service accounts.
fn without_tokens(volume: &mut Volume) {
    let Some(sources) = volume.projected.as_mut().and_then(|projected| projected.sources.as_mut()) else { return };
    sources.retain(|source| source.service_account_token.is_none());
    if sources.is_empty() {
        *volume =
            Volume { name: volume.name.clone(), empty_dir: Some(EmptyDirVolumeSource::default()), ..Volume::default() };
    }
}

fn gate(message: String) -> Gate {
    Gate { reason: REASON.to_owned(), message: format!("this node cannot run it: {message}") }
}
