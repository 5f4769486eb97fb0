//! Mirrors: what the API server shows of this node's own pods, those of manifests. They are made again when somebody
//! deletes them, replaced when the pod changes, and removed when it is gone.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, EmptyDirVolumeSource, EnvVarSource, Node, Pod, Toleration, Volume};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::api::{DeleteParams, PostParams, Preconditions};
use kube::{Api, Client, Error};
use sha2::{Digest as _, Sha256};

use super::answer::{is_code, is_gone, is_refusal};
use super::server::{Bound, Server};
use super::wanted::MIRROR;
use crate::cluster::Link;
use crate::cluster::pace::Pauses;
use crate::engine::config::names::PodKey;

#[cfg(test)]
mod tests;

/// The annotation that says which of a node's own pods is mirrored: its uid.
const HASH: &str = "kubernetes.io/config.hash";
/// The annotation that says what kind of source it comes from.
const SOURCE: &str = "kubernetes.io/config.source";
/// The annotation that says since when it is known.
const SEEN: &str = "kubernetes.io/config.seen";

/// How often what was refused is asked for again.
const AGAIN: Duration = Duration::from_secs(60);

/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(30);

/// The uid of the pod that a mirror shows.
pub fn mirrored(pod: &Pod) -> Option<&str> {
    let annotations = pod.metadata.annotations.as_ref()?;
    annotations.contains_key(MIRROR).then(|| annotations.get(HASH).map(String::as_str)).flatten()
}

/// One step towards mirrors that are as they are to be.
#[derive(Clone, Debug, PartialEq)]
enum Step {
    Create(Box<Pod>),
    Delete(PodKey),
}

/// What it takes: `there` are the mirrors that there are. Whatever is in the way of another one goes first.
fn steps(own: &Bound, there: &[Arc<Pod>], node: &Node) -> Vec<Step> {
    let mut wanted: BTreeMap<(String, String), Pod> = BTreeMap::new();
    for pod in own.values() {
        let mirror = mirror(pod, node);
        let key = PodKey::of(&mirror);
        wanted.insert((key.namespace, key.name), mirror);
    }
    let mut steps = Vec::new();
    for pod in there {
        let key = PodKey::of(pod);
        let name = (key.namespace.clone(), key.name.clone());
        let hash = |pod: &Pod| pod.metadata.annotations.as_ref().and_then(|it| it.get(MIRROR).cloned());
        let same = wanted.get(&name).is_some_and(|wanted| hash(wanted) == hash(pod));
        if same && pod.metadata.deletion_timestamp.is_none() {
            wanted.remove(&name);
        } else {
            steps.push(Step::Delete(key));
        }
    }
    steps.extend(wanted.into_values().map(|pod| Step::Create(Box::new(pod))));
    steps
}

/// The mirror of a pod. The API server takes none that refers to what only pods of the cluster have; that is left out.
fn mirror(pod: &Pod, node: &Node) -> Pod {
    let key = PodKey::of(pod);
    let node_name = node.metadata.name.clone().unwrap_or_default();
    let mut spec = pod.spec.clone().unwrap_or_default();
    spec.node_name = Some(node_name.clone());
    let every =
        Toleration { operator: Some("Exists".into()), effect: Some("NoExecute".into()), ..Toleration::default() };
    let tolerations = spec.tolerations.get_or_insert_default();
    if !tolerations.contains(&every) {
        tolerations.push(every);
    }
    (spec.service_account_name, spec.service_account, spec.image_pull_secrets) = (None, None, None);
    (spec.ephemeral_containers, spec.resource_claims) = (None, None);
    spec.volumes.iter_mut().flatten().for_each(without_reference);
    spec.init_containers.iter_mut().flatten().chain(&mut spec.containers).for_each(without_references);
    let mut annotations = pod.metadata.annotations.clone().unwrap_or_default();
    let source = crate::node::file_of(pod).filter(|file| file.contains("://")).map_or("file", |_| "http");
    annotations.insert(HASH.into(), key.uid);
    annotations.insert(SOURCE.into(), source.into());
    let seen = pod.metadata.creation_timestamp.as_ref().map(|at| at.0.to_string());
    annotations.extend(seen.map(|seen| (SEEN.to_owned(), seen)));
    let owner = OwnerReference {
        api_version: "v1".into(),
        kind: "Node".into(),
        name: node_name.clone(),
        uid: node.metadata.uid.clone().unwrap_or_default(),
        controller: Some(true),
        ..OwnerReference::default()
    };
    let mut mirror = Pod {
        metadata: ObjectMeta {
            name: Some(format!("{}-{node_name}", key.name)),
            namespace: Some(key.namespace),
            labels: pod.metadata.labels.clone(),
            annotations: Some(annotations),
            owner_references: Some(vec![owner]),
            ..ObjectMeta::default()
        },
        spec: Some(spec),
        status: None,
    };
    let hash = hash(&mirror);
    mirror.metadata.annotations.get_or_insert_default().insert(MIRROR.into(), hash);
    mirror
}

fn hash(pod: &Pod) -> String {
    // What cannot be written as JSON would not have been read.
    let text = serde_json::to_vec(pod).unwrap_or_default();
    Sha256::digest(&text).iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

fn without_reference(volume: &mut Volume) {
    let refers = volume.config_map.is_some()
        || volume.secret.is_some()
        || volume.projected.is_some()
        || volume.persistent_volume_claim.is_some()
        || volume.ephemeral.is_some();
    if refers {
        let name = volume.name.clone();
        *volume = Volume { name, empty_dir: Some(EmptyDirVolumeSource::default()), ..Volume::default() };
    }
}

fn without_references(container: &mut Container) {
    container.env_from = None;
    container.resources.iter_mut().for_each(|resources| resources.claims = None);
    let refers = |from: &EnvVarSource| from.config_map_key_ref.is_some() || from.secret_key_ref.is_some();
    container.env.iter_mut().for_each(|env| env.retain(|it| !it.value_from.as_ref().is_some_and(refers)));
}

/// Keeps mirrors as they are to be, for ever.
pub async fn keep(link: Link, node: String, server: Server) {
    let (mut own, mut changes, mut nodes) = (server.own(), server.changes(), link.node());
    let mut pauses = Pauses::of_watch();
    let mut refused = BTreeMap::new();
    loop {
        own.mark_unchanged();
        changes.mark_unchanged();
        nodes.mark_unchanged();
        let wanted = own.borrow().clone();
        let registered = nodes.borrow().clone().filter(|it| it.metadata.name.as_deref() == Some(&node));
        let mut lost = false;
        if let (Some(wanted), Some(registered), true) = (wanted, registered, server.is_complete()) {
            let steps = steps(&wanted, &server.mirrors(), &registered);
            let client = link.client().await;
            let mut still = BTreeMap::new();
            for step in steps {
                let name = step.name();
                match tokio::time::timeout(ANSWER, step.take(&client, &server)).await {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) if is_refusal(&error) => {
                        let message = error.to_string();
                        if refused.get(&name) != Some(&message) {
                            tracing::warn!(
                                pod = name,
                                "the API server does not show a pod of this node's manifests: {message}"
                            );
                        }
                        still.insert(name, message);
                    }
                    _ => {
                        lost = true;
                        break;
                    }
                }
            }
            refused = still;
        }
        if lost {
            pauses.wait().await;
            continue;
        }
        pauses.reset();
        // One that is refused changes nothing at the server, and would be refused again.
        let again =
            async { if refused.is_empty() { std::future::pending().await } else { tokio::time::sleep(AGAIN).await } };
        tokio::select! {
            Ok(()) = own.changed() => {}
            Ok(()) = nodes.changed() => {}
            Ok(()) = changes.changed(), if refused.is_empty() => {}
            () = again => {}
        }
    }
}

impl Step {
    fn name(&self) -> String {
        let key = match self {
            Self::Create(pod) => PodKey::of(pod),
            Self::Delete(key) => key.clone(),
        };
        format!("{}/{}", key.namespace, key.name)
    }

    async fn take(self, client: &Client, server: &Server) -> Result<(), Error> {
        match self {
            Self::Create(pod) => {
                let api: Api<Pod> = Api::namespaced(client.clone(), &PodKey::of(&pod).namespace);
                match api.create(&PostParams::default(), &pod).await {
                    Ok(made) => server.put(made),
                    // Made before, and not seen yet; or a pod of the cluster has the name.
                    Err(error) if is_code(&error, 409) => tracing::debug!(%error, "the mirror is there already"),
                    Err(error) => return Err(error),
                }
            }
            Self::Delete(key) => {
                let api: Api<Pod> = Api::namespaced(client.clone(), &key.namespace);
                let uid = Preconditions { uid: Some(key.uid.clone()), ..Preconditions::default() };
                let params =
                    DeleteParams { grace_period_seconds: Some(0), preconditions: Some(uid), ..Default::default() };
                match api.delete(&key.name, &params).await {
                    Err(error) if !is_gone(&error) => return Err(error),
                    _ => server.remove(&key.uid),
                }
            }
        }
        Ok(())
    }
}
