//! The kind Network: a network that pods are in by name.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::{Deserialize, Serialize};

/// `coracle.dev/v1alpha1` Network. It belongs to no namespace: pods of all may be in it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Network {
    /// `coracle.dev/v1alpha1`.
    pub api_version: String,
    /// `Network`.
    pub kind: String,
    /// Its name is what pods call it.
    pub metadata: ObjectMeta,
    /// How it shall be.
    pub spec: NetworkSpec,
    /// Written by servers.
    #[serde(skip_serializing)]
    pub status: Option<Status>,
}

/// Nothing is known of it.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Status {}

/// How a network shall be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct NetworkSpec {
    /// Ranges of its pods' addresses, one of a family at most; free ones are found without any.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub subnets: Vec<String>,
    /// Its pods and those of other networks do not reach each other: true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub isolated: Option<bool>,
    /// What its pods send out of the node carries the node's address: true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub masquerade: Option<bool>,
    /// The largest packet; that of the node's way out without it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mtu: Option<i32>,
    /// `ptp`, a routed link a pod, or `bridge`, whose ports are isolated.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub type_: Option<String>,
}

impl NetworkSpec {
    /// Fills in what was not said.
    pub fn fill(&mut self) {
        self.isolated.get_or_insert(true);
        self.masquerade.get_or_insert(true);
        self.type_.get_or_insert_with(|| "ptp".to_owned());
    }
}
