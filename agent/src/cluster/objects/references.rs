//! What a pod refers to.

use std::collections::BTreeSet;
use std::fmt;

use k8s_openapi::api::core::v1::{Container, EnvFromSource, EnvVarSource, Pod, Volume, VolumeProjection};

use crate::engine::config::names::PodKey;
use crate::engine::plan::{init_of, spec_of};
use crate::node::desired::Name;

/// An object that a pod refers to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reference {
    /// A ConfigMap.
    ConfigMap(Name),
    /// A Secret.
    Secret(Name),
    /// A PersistentVolumeClaim.
    Claim(Name),
    /// A RuntimeClass.
    RuntimeClass(String),
}

/// A token that a pod asks for, for its service account.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TokenWish {
    /// Whom it is for; the API server when not said.
    pub audience: Option<String>,
    /// How long it shall last, in seconds.
    pub seconds: i64,
}

/// Everything that a pod refers to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct References {
    /// Objects.
    pub objects: BTreeSet<Reference>,
    /// Those of them that only pulls need: one that may not be read keeps no pod from beginning.
    pub for_pulls: BTreeSet<Reference>,
    /// Tokens.
    pub tokens: BTreeSet<TokenWish>,
}

/// An hour, as the API server defaults it.
const TOKEN_SECONDS: i64 = 3600;

impl References {
    /// What a pod refers to.
    pub fn of(pod: &Pod) -> Self {
        let PodKey { namespace, name, .. } = PodKey::of(pod);
        let (spec, references) = (spec_of(pod), References::default());
        let mut collector = Collector { pod: &name, namespace: &namespace, references };
        init_of(spec).iter().chain(&spec.containers).for_each(|container| collector.container(container));
        for container in spec.ephemeral_containers.iter().flatten() {
            collector.container(&manifests::as_container(container));
        }
        spec.volumes.iter().flatten().for_each(|volume| collector.volume(volume));
        let mut references = collector.references;
        for secret in spec.image_pull_secrets.iter().flatten().filter(|secret| !secret.name.is_empty()) {
            let secret = Reference::Secret((namespace.clone(), secret.name.clone()));
            if references.objects.insert(secret.clone()) {
                references.for_pulls.insert(secret);
            }
        }
        let class = spec.runtime_class_name.clone().filter(|name| !name.is_empty());
        references.objects.extend(class.map(Reference::RuntimeClass));
        references
    }
}

struct Collector<'a> {
    pod: &'a str,
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
        volume.persistent_volume_claim.iter().for_each(|claim| self.object(&claim.claim_name, Reference::Claim));
        if volume.ephemeral.is_some() {
            // As the controller names the claim that it makes.
            self.object(&format!("{}-{}", self.pod, volume.name), Reference::Claim);
        }
        let projected = volume.projected.iter().flat_map(|projected| projected.sources.iter().flatten());
        projected.for_each(|source| self.projection(source));
    }

    fn projection(&mut self, source: &VolumeProjection) {
        source.config_map.iter().for_each(|map| self.config_map(&map.name));
        source.secret.iter().for_each(|secret| self.secret(&secret.name));
        self.references.tokens.extend(source.service_account_token.iter().map(|token| TokenWish {
            audience: token.audience.clone().filter(|audience| !audience.is_empty()),
            seconds: token.expiration_seconds.unwrap_or(TOKEN_SECONDS),
        }));
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reference::ConfigMap((namespace, name)) => write!(f, "ConfigMap {namespace}/{name}"),
            Reference::Secret((namespace, name)) => write!(f, "Secret {namespace}/{name}"),
            Reference::Claim((namespace, name)) => write!(f, "PersistentVolumeClaim {namespace}/{name}"),
            Reference::RuntimeClass(name) => write!(f, "RuntimeClass {name}"),
        }
    }
}
