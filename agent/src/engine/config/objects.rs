//! The objects that pods refer to, wherever they come from.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    ConfigMap, PersistentVolume, PersistentVolumeClaim, Secret, ServiceAccountTokenProjection,
};
use k8s_openapi::api::node::v1::RuntimeClass;
use k8s_openapi::api::storage::v1::{CSIDriver, VolumeAttachment};

use super::ConfigError;

/// Namespace and name.
type Name = (String, String);

/// What pods refer to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Objects {
    /// Who declares them.
    pub origin: Origin,
    /// ConfigMaps.
    pub config_maps: BTreeMap<Name, Arc<ConfigMap>>,
    /// Secrets.
    pub secrets: BTreeMap<Name, Arc<Secret>>,
    /// PersistentVolumeClaims.
    pub claims: BTreeMap<Name, Arc<PersistentVolumeClaim>>,
    /// The volumes of claims that are bound, by name.
    pub volumes: BTreeMap<String, Arc<PersistentVolume>>,
    /// What the drivers of volumes say of themselves.
    pub csi_drivers: BTreeMap<String, Arc<CSIDriver>>,
    /// Whether volumes are attached to this node.
    pub attachments: BTreeMap<String, Arc<VolumeAttachment>>,
    /// The labels of this node, which volumes may ask for; none where they are not known.
    pub node_labels: Option<Arc<BTreeMap<String, String>>>,
    /// RuntimeClasses.
    pub runtime_classes: BTreeMap<String, Arc<RuntimeClass>>,
    /// Tokens of one pod's service account, or why there is none.
    pub tokens: BTreeMap<TokenWish, Result<Token, String>>,
    /// Objects of a cluster that are not there, or may not be read.
    pub absent: BTreeMap<(&'static str, Name), Absent>,
}

/// Who declares objects, and what follows from it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Origin {
    /// Manifests of this node: a claim is a directory of it, a runtime class is a handler.
    #[default]
    Manifests,
    /// The API server of a cluster.
    Cluster,
}

/// Why an object of a cluster is not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Absent {
    /// The API server knows of none.
    Missing,
    /// The API server does not let it be read, in its words.
    Refused(String),
}

/// A token that a pod asks for, for its service account.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub struct TokenWish {
    /// Whom it is for; the API server when not said.
    pub audience: Option<String>,
    /// How long it shall last, in seconds.
    pub seconds: i64,
}

/// An hour, as the API server defaults it.
const SECONDS: i64 = 3600;

impl TokenWish {
    /// What a volume asks for.
    pub fn of(projection: &ServiceAccountTokenProjection) -> Self {
        TokenWish {
            audience: projection.audience.clone().filter(|audience| !audience.is_empty()),
            seconds: projection.expiration_seconds.unwrap_or(SECONDS),
        }
    }
}

/// A token of a service account.
#[derive(Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Token {
    /// What proves it.
    pub text: String,
    /// Since when it is valid.
    pub given: Timestamp,
    /// Until when.
    pub expires: Timestamp,
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token").field("expires", &self.expires).finish_non_exhaustive()
    }
}

impl Objects {
    /// Data of a ConfigMap, text and binary, by key; `None` when there is no such object.
    pub fn config_map(&self, namespace: &str, name: &str) -> Option<BTreeMap<&str, &[u8]>> {
        let object = self.config_maps.get(&(namespace.to_owned(), name.to_owned()))?;
        let text = object.data.iter().flatten().map(|(key, value)| (key.as_str(), value.as_bytes()));
        let binary = object.binary_data.iter().flatten().map(|(key, value)| (key.as_str(), value.0.as_slice()));
        Some(text.chain(binary).collect())
    }

    /// Data of a Secret by key; `stringData` wins, as the API server merges it.
    pub fn secret(&self, namespace: &str, name: &str) -> Option<BTreeMap<&str, &[u8]>> {
        let object = self.secrets.get(&(namespace.to_owned(), name.to_owned()))?;
        let data = object.data.iter().flatten().map(|(key, value)| (key.as_str(), value.0.as_slice()));
        let strings = object.string_data.iter().flatten().map(|(key, value)| (key.as_str(), value.as_bytes()));
        Some(data.chain(strings).collect())
    }

    /// What follows where an object is not there: nothing, if it is optional and known to be missing. `kind` is as in
    /// manifests.
    pub fn without(&self, kind: &'static str, namespace: &str, name: &str, optional: bool) -> Result<(), ConfigError> {
        let (namespace, name) = (namespace.to_owned(), name.to_owned());
        if self.origin == Origin::Manifests {
            return if optional { Ok(()) } else { Err(ConfigError::MissingObject { kind, namespace, name }) };
        }
        match self.absent.get(&(kind, (namespace, name.clone()))) {
            Some(Absent::Missing) if optional => Ok(()),
            Some(Absent::Missing) => Err(ConfigError::NotFound { kind: kind.to_lowercase(), name }),
            Some(Absent::Refused(why)) => Err(ConfigError::Refused(why.clone())),
            None => Err(ConfigError::NotTold { kind, name }),
        }
    }

    /// What the runtime calls a runtime class.
    pub fn handler(&self, class: &str) -> Result<String, ConfigError> {
        match (self.origin, self.runtime_classes.get(class)) {
            (Origin::Manifests, _) => Ok(class.to_owned()),
            (Origin::Cluster, Some(class)) => Ok(class.handler.clone()),
            (Origin::Cluster, None) => {
                self.without("RuntimeClass", "", class, false)?;
                Ok(String::new())
            }
        }
    }

    /// The token that a pod asks for.
    pub fn token(&self, wish: &TokenWish) -> Result<&Token, ConfigError> {
        match (self.origin, self.tokens.get(wish)) {
            (_, Some(Ok(token))) => Ok(token),
            (_, Some(Err(why))) => Err(ConfigError::Token(why.clone())),
            (Origin::Manifests, None) => Err(ConfigError::Unsupported("a token of a service account".to_owned())),
            (Origin::Cluster, None) => Err(ConfigError::Token("the API server has not given it yet".to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn who_declares_objects_decides_what_follows_where_one_is_not_there() {
        let absent = |name: &str, why| (("Secret", ("ns".to_owned(), name.to_owned())), why);
        let cluster = Objects {
            origin: Origin::Cluster,
            absent: [
                absent("none", Absent::Missing),
                absent("shut", Absent::Refused("secrets \"shut\" is shut".into())),
            ]
            .into(),
            ..Objects::default()
        };
        let manifests = Objects::default();
        for (objects, name, optional, expected) in [
            (&manifests, "none", true, None),
            (&manifests, "none", false, Some("Secret \"none\" is not there in namespace \"ns\"")),
            (&cluster, "none", true, None),
            (&cluster, "none", false, Some("secret \"none\" not found")),
            // Whether it is there is unknown: then nothing may be made without it.
            (&cluster, "shut", true, Some("secrets \"shut\" is shut")),
            (&cluster, "new", true, Some("the API server has not told of Secret \"new\" yet")),
        ] {
            let said = objects.without("Secret", "ns", name, optional).err().map(|error| error.to_string());
            assert_eq!(said.is_some(), expected.is_some(), "{name} {optional}: {said:?}");
            assert!(said.unwrap_or_default().starts_with(expected.unwrap_or_default()), "{name} {optional}");
        }
    }

    #[test]
    fn a_class_of_manifests_is_a_handler_and_one_of_a_cluster_names_it() {
        let class = RuntimeClass { handler: "kata".into(), ..RuntimeClass::default() };
        let cluster = Objects {
            origin: Origin::Cluster,
            runtime_classes: [("vm".to_owned(), Arc::new(class))].into(),
            absent: [(("RuntimeClass", (String::new(), "none".to_owned())), Absent::Missing)].into(),
            ..Objects::default()
        };
        assert_eq!(Objects::default().handler("vm").unwrap(), "vm");
        assert_eq!(cluster.handler("vm").unwrap(), "kata");
        let missing = cluster.handler("none").unwrap_err().to_string();
        assert_eq!(missing, "runtimeclass \"none\" not found");
    }

    #[test]
    fn a_token_is_not_told_to_logs() {
        let token = Token { text: "hunter2".into(), given: Timestamp::UNIX_EPOCH, expires: Timestamp::UNIX_EPOCH };
        assert!(!format!("{token:?}").contains("hunter2"));
    }
}
