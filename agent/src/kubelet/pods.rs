//! Pods as kubelet's clients name them: a pod from a file is called NAME-NODE in a cluster, where its mirror stands for it.

use std::collections::BTreeMap;
use std::sync::Arc;

use cri_proto::cri;
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Value, json};

use super::refusal::Refusal;
use super::route::Named;
use crate::engine::config::names::{CONTAINER_NAME, POD_NAME, POD_NAMESPACE, POD_UID, PodKey};
use crate::node::{file_of, shown};
use crate::store::{Kind, Object, Store};

/// kubelet's annotation: where a pod comes from.
const SOURCE: &str = "kubernetes.io/config.source";

/// kubelet's annotation: what a pod from elsewhere than the API server was made of.
const HASH: &str = "kubernetes.io/config.hash";

/// Whether a pod comes from elsewhere than an API server.
pub fn is_static(pod: &Pod) -> bool {
    file_of(pod).is_some()
}

/// What pods are called outside of their node.
#[derive(Clone, Debug)]
pub struct Names {
    /// The node's name.
    pub node: String,
    /// In a cluster a pod from elsewhere has a mirror, which has the node's name in its own.
    pub mirrored: bool,
}

impl Names {
    /// What a pod is called.
    pub fn outer(&self, pod: &Pod) -> String {
        let name = pod.metadata.name.as_deref().unwrap_or_default();
        if self.mirrored && is_static(pod) { format!("{name}-{}", self.node) } else { name.to_owned() }
    }

    /// What the pod of a key is called; as it is known here, when it is gone.
    pub fn outer_of(&self, store: &Store, key: &PodKey) -> String {
        let pod = store.get::<Pod>(&key.namespace, &key.name).filter(|pod| PodKey::of(pod) == *key);
        pod.map_or_else(|| key.name.clone(), |pod| self.outer(&pod))
    }

    /// The pod that a client means: by either of its names.
    pub fn find(&self, store: &Store, named: &Named) -> Result<Arc<Pod>, Refusal> {
        let of_mirror = || {
            let name = named.pod.strip_suffix(&self.node)?.strip_suffix('-')?;
            store.get::<Pod>(&named.namespace, name).filter(|pod| is_static(pod))
        };
        let pod = store.get::<Pod>(&named.namespace, &named.pod).or_else(of_mirror).filter(|pod| !shown::is_shown(pod));
        let pod = pod.ok_or_else(|| Refusal::not_found("pod does not exist"))?;
        // The uid that a client knows of a pod from elsewhere is its mirror's.
        let same = named.uid.is_none() || pod.metadata.uid == named.uid || is_static(&pod);
        if same { Ok(pod) } else { Err(Refusal::not_found("pod not found")) }
    }
}

/// Whether the pod has such a container, of whatever kind.
pub fn has_container(pod: &Pod, name: &str) -> bool {
    let Some(spec) = &pod.spec else { return false };
    spec.containers.iter().chain(spec.init_containers.iter().flatten()).any(|it| it.name == name)
        || spec.ephemeral_containers.iter().flatten().any(|it| it.name == name)
}

/// Whether the container has a terminal.
pub fn has_terminal(pod: &Pod, name: &str) -> bool {
    let Some(spec) = &pod.spec else { return false };
    let mut usual = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    match usual.find(|it| it.name == name) {
        Some(container) => container.tty == Some(true),
        None => spec.ephemeral_containers.iter().flatten().any(|it| it.name == name && it.tty == Some(true)),
    }
}

/// All pods that this node is to run.
pub fn all(store: &Store, names: &Names) -> Value {
    let shown = store.objects(Kind::Pod, None).items.into_iter().filter_map(|object| match object {
        Object::Pod(pod) if !shown::is_shown(&pod) => Some(pod),
        _ => None,
    });
    list(shown.map(|pod| outer(Pod::clone(&pod), names)))
}

fn outer(mut pod: Pod, names: &Names) -> Pod {
    let source = if is_static(&pod) { "file" } else { "api" };
    pod.metadata.name = Some(names.outer(&pod));
    // Versions of the store here are none of the API server's.
    pod.metadata.resource_version = None;
    let hash = pod.metadata.uid.clone().unwrap_or_default();
    let annotations = pod.metadata.annotations.get_or_insert_default();
    annotations.entry(SOURCE.to_owned()).or_insert_with(|| source.to_owned());
    if source == "file" {
        annotations.entry(HASH.to_owned()).or_insert(hash);
    }
    pod
}

/// The pods that the container runtime has, as far as it knows what they are.
pub fn running(store: &Store, names: &Names, sandboxes: &[cri::PodSandbox], containers: &[cri::Container]) -> Value {
    let ready = sandboxes.iter().filter(|it| it.state() == cri::PodSandboxState::SandboxReady);
    let mut pods: BTreeMap<(String, String), Pod> = BTreeMap::new();
    for sandbox in ready {
        let label = |key: &str| sandbox.labels.get(key).cloned().unwrap_or_default();
        let (namespace, name, uid) = (label(POD_NAMESPACE), label(POD_NAME), label(POD_UID));
        let known = store.get::<Pod>(&namespace, &name).filter(|pod| pod.metadata.uid.as_ref() == Some(&uid));
        let outer = known.map_or_else(|| name.clone(), |pod| names.outer(&pod));
        let own = containers.iter().filter(|it| it.pod_sandbox_id == sandbox.id);
        let own = own.filter(|it| it.state() == cri::ContainerState::ContainerRunning);
        let container = |it: &cri::Container| Container {
            name: it.labels.get(CONTAINER_NAME).cloned().unwrap_or_default(),
            image: it.image.as_ref().map(|image| image.image.clone()),
            ..Container::default()
        };
        let containers = own.map(container).collect();
        let metadata = ObjectMeta {
            name: Some(outer),
            namespace: Some(namespace.clone()),
            uid: Some(uid),
            ..ObjectMeta::default()
        };
        let spec = Some(PodSpec { containers, ..PodSpec::default() });
        pods.insert((namespace, name), Pod { metadata, spec, status: None });
    }
    list(pods.into_values())
}

fn list(pods: impl Iterator<Item = Pod>) -> Value {
    let items: Vec<Value> = pods
        .map(|pod| {
            let mut value = json!(pod);
            // Items of a list do not say what they are.
            if let Some(object) = value.as_object_mut() {
                object.remove("apiVersion");
                object.remove("kind");
            }
            value
        })
        .collect();
    json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items})
}
