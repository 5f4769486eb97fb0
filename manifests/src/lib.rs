//! Kubernetes manifests: text in, validated objects out. Pure: nothing is read from or written to anywhere.
//!
//! [`read`] goes through three stages. The text becomes a tree that knows its positions and reads scalars as kubectl
//! does (`yaml`); the tree is checked against a schema made from the Kubernetes types (`schema`, `check`); what fits is
//! converted to those types, validated and defaulted as the API server does it (`validate`, `defaults`). Each stage
//! reports everything it finds.

pub mod ambassador;
pub mod annotations;
mod check;
mod defaults;
mod diagnostic;
pub mod duration;
mod ephemeral;
mod explain;
mod kinds;
pub mod kubelet;
pub mod network;
mod path;
pub mod quantity;
mod read;
mod report;
mod resources;
mod schema;
mod suggest;
mod support_table;
mod validate;
mod yaml;

pub use ambassador::Ambassador;
pub use diagnostic::{Diagnostic, Severity};
pub use ephemeral::as_container;
pub use explain::{Unknown, explain};
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Pod, Secret, Service};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
pub use network::Network;
pub use read::{read, read_of_cluster};
pub use support_table::{configuration_table, support_table};
pub use validate::is_extended_resource;

/// The one label that namespaces have here: their name.
pub const NAMESPACE_LABEL: &str = "kubernetes.io/metadata.name";

/// A text with the name that diagnostics call it by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// A path, or `<stdin>`.
    pub name: String,
    /// YAML or JSON, one object or many.
    pub text: String,
}

/// What the sources hold, and what there is to say about them.
#[derive(Clone, Debug, Default)]
pub struct Manifest {
    /// The valid objects, in the order of the sources.
    pub objects: Vec<Located>,
    /// Everything found, in the order of the sources.
    pub diagnostics: Vec<Diagnostic>,
}

/// An object and where it was written.
#[derive(Clone, Debug, PartialEq)]
pub struct Located {
    /// The object, with defaults filled in.
    pub object: Object,
    /// Name of its source.
    pub file: String,
    /// Line at which it begins, from 1.
    pub line: usize,
}

/// An object of a kind that runs.
#[derive(Clone, Debug, PartialEq)]
pub enum Object {
    /// `v1` Pod.
    Pod(Box<Pod>),
    /// `v1` ConfigMap.
    ConfigMap(Box<ConfigMap>),
    /// `v1` Secret.
    Secret(Box<Secret>),
    /// `v1` PersistentVolumeClaim.
    PersistentVolumeClaim(Box<PersistentVolumeClaim>),
    /// `v1` Service.
    Service(Box<Service>),
    /// `networking.k8s.io/v1` NetworkPolicy.
    NetworkPolicy(Box<NetworkPolicy>),
    /// `coracle.dev/v1alpha1` Network.
    Network(Box<Network>),
    /// `coracle.dev/v1alpha1` Ambassador.
    Ambassador(Box<Ambassador>),
}

impl Object {
    /// The name of its kind.
    pub fn kind(&self) -> &'static str {
        match self {
            Object::Pod(_) => "Pod",
            Object::ConfigMap(_) => "ConfigMap",
            Object::Secret(_) => "Secret",
            Object::PersistentVolumeClaim(_) => "PersistentVolumeClaim",
            Object::Service(_) => "Service",
            Object::NetworkPolicy(_) => "NetworkPolicy",
            Object::Network(_) => "Network",
            Object::Ambassador(_) => "Ambassador",
        }
    }

    /// Its metadata.
    pub fn metadata(&self) -> &ObjectMeta {
        match self {
            Object::Pod(pod) => &pod.metadata,
            Object::ConfigMap(map) => &map.metadata,
            Object::Secret(secret) => &secret.metadata,
            Object::PersistentVolumeClaim(claim) => &claim.metadata,
            Object::Service(service) => &service.metadata,
            Object::NetworkPolicy(policy) => &policy.metadata,
            Object::Network(network) => &network.metadata,
            Object::Ambassador(ambassador) => &ambassador.metadata,
        }
    }

    fn metadata_mut(&mut self) -> &mut ObjectMeta {
        match self {
            Object::Pod(pod) => &mut pod.metadata,
            Object::ConfigMap(map) => &mut map.metadata,
            Object::Secret(secret) => &mut secret.metadata,
            Object::PersistentVolumeClaim(claim) => &mut claim.metadata,
            Object::Service(service) => &mut service.metadata,
            Object::NetworkPolicy(policy) => &mut policy.metadata,
            Object::Network(network) => &mut network.metadata,
            Object::Ambassador(ambassador) => &mut ambassador.metadata,
        }
    }
}
