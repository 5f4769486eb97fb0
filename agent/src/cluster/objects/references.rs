//! What a pod refers to.

use std::collections::BTreeSet;
use std::fmt;

use k8s_openapi::api::core::v1::{Container, EnvFromSource, EnvVarSource, Pod, Volume, VolumeProjection};

use crate::engine::config::names::PodKey;
use crate::engine::config::objects::TokenWish;
use crate::engine::plan::{init_of, spec_of};
use crate::node::desired::Name;

/// An object that a pod refers to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub enum Reference {
    /// A ConfigMap.
    ConfigMap(Name),
    /// A Secret.
    Secret(Name),
    /// A PersistentVolumeClaim, asked for by one pod: another pod may mean another one of that name.
    Claim {
        /// The pod's uid.
        pod: String,
        /// The claim.
        name: Name,
    },
    /// The volume that a claim of a pod is bound to.
    Volume {
        /// The pod's uid.
        pod: String,
        /// The volume.
        name: String,
    },
    /// A RuntimeClass.
    RuntimeClass(String),
    /// What a driver of volumes says of itself.
    CsiDriver(String),
    /// That a volume of a pod is attached to this node.
    Attachment {
        /// The pod's uid.
        pod: String,
        /// The object.
        name: String,
    },
}

/// Everything that a pod refers to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct References {
    /// Objects.
    pub objects: BTreeSet<Reference>,
    /// Tokens.
    pub tokens: BTreeSet<TokenWish>,
}

impl References {
    /// What a pod refers to.
    pub fn of(pod: &Pod) -> Self {
        let PodKey { namespace, name, uid } = PodKey::of(pod);
        let (spec, references) = (spec_of(pod), References::default());
        let mut collector = Collector { pod: &name, uid: &uid, namespace: &namespace, references };
        init_of(spec).iter().chain(&spec.containers).for_each(|container| collector.container(container));
        for container in spec.ephemeral_containers.iter().flatten() {
            collector.container(&manifests::as_container(container));
        }
        spec.volumes.iter().flatten().for_each(|volume| collector.volume(volume));
        spec.image_pull_secrets.iter().flatten().for_each(|secret| collector.secret(&secret.name));
        let mut references = collector.references;
        let class = spec.runtime_class_name.clone().filter(|name| !name.is_empty());
        references.objects.extend(class.map(Reference::RuntimeClass));
        references
    }
}

struct Collector<'a> {
    pod: &'a str,
    uid: &'a str,
    namespace: &'a str,
    references: References,
}

impl Collector<'_> {
    fn config_map(&mut self, name: &str) {
        self.object(name, Reference::ConfigMap);
    }

    fn secret(&mut self, name: &str) {
        self.object(name, Reference::Secret);
    }

    fn claim(&mut self, name: &str) {
        let pod = self.uid.to_owned();
        self.object(name, |name| Reference::Claim { pod, name });
    }

    fn object(&mut self, name: &str, kind: impl FnOnce(Name) -> Reference) {
        if !name.is_empty() {
            self.references.objects.insert(kind((self.namespace.to_owned(), name.to_owned())));
        }
    }

    fn container(&mut self, container: &Container) {
        for EnvFromSource { config_map_ref, secret_ref, .. } in container.env_from.iter().flatten() {
            config_map_ref.iter().for_each(|map| self.config_map(&map.name));
            secret_ref.iter().for_each(|secret| self.secret(&secret.name));
        }
        let sources = container.env.iter().flatten().filter_map(|variable| variable.value_from.as_ref());
        for EnvVarSource { config_map_key_ref, secret_key_ref, .. } in sources {
            config_map_key_ref.iter().for_each(|key| self.config_map(&key.name));
            secret_key_ref.iter().for_each(|key| self.secret(&key.name));
        }
    }

    fn volume(&mut self, volume: &Volume) {
        volume.config_map.iter().for_each(|map| self.config_map(&map.name));
        volume.secret.iter().filter_map(|secret| secret.secret_name.as_deref()).for_each(|name| self.secret(name));
        volume.persistent_volume_claim.iter().for_each(|claim| self.claim(&claim.claim_name));
        if let Some(csi) = &volume.csi {
            self.references.objects.insert(Reference::CsiDriver(csi.driver.clone()));
            csi.node_publish_secret_ref.iter().for_each(|secret| self.secret(&secret.name));
        }
        if volume.ephemeral.is_some() {
            // As the controller names the claim that it makes.
            self.claim(&format!("{}-{}", self.pod, volume.name));
        }
        let projected = volume.projected.iter().flat_map(|projected| projected.sources.iter().flatten());
        projected.for_each(|source| self.projection(source));
    }

    fn projection(&mut self, source: &VolumeProjection) {
        source.config_map.iter().for_each(|map| self.config_map(&map.name));
        source.secret.iter().for_each(|secret| self.secret(&secret.name));
        self.references.tokens.extend(source.service_account_token.iter().map(TokenWish::of));
    }
}

impl Reference {
    /// Kind, namespace and name; what is in no namespace has an empty one.
    pub fn parts(&self) -> (&'static str, &str, &str) {
        match self {
            Reference::ConfigMap((namespace, name)) => ("ConfigMap", namespace, name),
            Reference::Secret((namespace, name)) => ("Secret", namespace, name),
            Reference::Claim { name: (namespace, name), .. } => ("PersistentVolumeClaim", namespace, name),
            Reference::Volume { name, .. } => ("PersistentVolume", "", name),
            Reference::RuntimeClass(name) => ("RuntimeClass", "", name),
            Reference::CsiDriver(name) => ("CSIDriver", "", name),
            Reference::Attachment { name, .. } => ("VolumeAttachment", "", name),
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.parts() {
            (kind, "", name) => write!(f, "{kind} {name}"),
            (kind, namespace, name) => write!(f, "{kind} {namespace}/{name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::{Value, json};

    /// What a pod with this spec refers to, in words.
    fn referred(spec: Value) -> (Vec<String>, usize) {
        let mut whole = json!({"containers": [{"name": "c"}]});
        whole.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        let pod = json!({"metadata": {"namespace": "ns", "name": "p", "uid": "u"}, "spec": whole});
        let references = References::of(&serde_json::from_value(pod).unwrap());
        (references.objects.iter().map(ToString::to_string).collect(), references.tokens.len())
    }

    fn container(fields: Value) -> Value {
        let mut container = json!({"name": "c"});
        container.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        container
    }

    #[test]
    fn everything_that_a_pod_refers_to_is_found() {
        let env = json!({"env": [
            {"name": "A", "valueFrom": {"configMapKeyRef": {"name": "m", "key": "k"}}},
            {"name": "B", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k", "optional": true}}},
            {"name": "C", "value": "x"}]});
        let from = json!({"envFrom": [{"configMapRef": {"name": "n"}}, {"secretRef": {"name": "t"}}]});
        let volume = |kind: &str, source: Value| json!({"volumes": [{"name": "v", kind: source}]});
        let projected = json!({"sources": [
            {"configMap": {"name": "m"}}, {"secret": {"name": "s"}}, {"downwardAPI": {}},
            {"serviceAccountToken": {"path": "token"}},
            {"serviceAccountToken": {"path": "other", "audience": "vault", "expirationSeconds": 600}}]});
        for (spec, objects, tokens) in [
            (json!({}), vec![], 0),
            (json!({"containers": [container(env.clone())]}), vec!["ConfigMap ns/m", "Secret ns/s"], 0),
            (json!({"initContainers": [container(from.clone())]}), vec!["ConfigMap ns/n", "Secret ns/t"], 0),
            (json!({"ephemeralContainers": [container(from)]}), vec!["ConfigMap ns/n", "Secret ns/t"], 0),
            (volume("configMap", json!({"name": "m"})), vec!["ConfigMap ns/m"], 0),
            (volume("secret", json!({"secretName": "s"})), vec!["Secret ns/s"], 0),
            (volume("projected", projected), vec!["ConfigMap ns/m", "Secret ns/s"], 2),
            (volume("persistentVolumeClaim", json!({"claimName": "c"})), vec!["PersistentVolumeClaim ns/c"], 0),
            (volume("ephemeral", json!({})), vec!["PersistentVolumeClaim ns/p-v"], 0),
            (volume("emptyDir", json!({})), vec![], 0),
            (
                volume("csi", json!({"driver": "d", "nodePublishSecretRef": {"name": "s"}})),
                vec!["Secret ns/s", "CSIDriver d"],
                0,
            ),
            (json!({"imagePullSecrets": [{"name": "r"}, {"name": ""}]}), vec!["Secret ns/r"], 0),
            (json!({"runtimeClassName": "kata"}), vec!["RuntimeClass kata"], 0),
        ] {
            assert_eq!(referred(spec.clone()), (objects.into_iter().map(str::to_owned).collect(), tokens), "{spec}");
        }
    }
}
