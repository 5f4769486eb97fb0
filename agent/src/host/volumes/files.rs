//! Volumes whose files are made from objects and from the pod's own fields: configMap, secret, downwardAPI, and projected,
//! which is any of them together. Pure: what the files are, not where.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    DownwardAPIVolumeFile, KeyToPath, Pod, PodSpec, ServiceAccountTokenProjection, Volume, VolumeProjection,
};

use super::super::atomic::{Entry, Payload};
use super::quote;
use crate::engine::config::container::is_local;
use crate::engine::config::names::PodKey;
use crate::engine::config::objects::TokenWish;
use crate::engine::config::{ConfigError, Objects, Settings, env};
use crate::engine::plan::{init_of, spec_of};

/// What a pod's files can come from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Origin<'a> {
    pub(super) pod: &'a Pod,
    pub(super) objects: &'a Objects,
    pub(super) settings: &'a Settings,
}

/// What the files of a volume come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    ConfigMap,
    Secret,
    DownwardApi,
    Projected { secret: bool },
}

impl Kind {
    /// The name of kubelet's plugin, by which the directory is called.
    pub(super) fn plugin(self) -> &'static str {
        match self {
            Kind::ConfigMap => "configmap",
            Kind::Secret => "secret",
            Kind::DownwardApi => "downward-api",
            Kind::Projected { .. } => "projected",
        }
    }

    /// Whether any of them is nobody's business.
    pub(super) fn is_secret(self) -> bool {
        matches!(self, Kind::Secret | Kind::Projected { secret: true })
    }
}

/// The kind of a volume that is made of files; `None` for another one.
pub(super) fn kind(volume: &Volume) -> Option<Kind> {
    let projected = volume.projected.as_ref().map(|projected| {
        let mut sources = projected.sources.iter().flatten();
        let secret = sources.any(|source| source.secret.is_some() || source.service_account_token.is_some());
        Kind::Projected { secret }
    });
    let config_map = volume.config_map.as_ref().map(|_| Kind::ConfigMap);
    let secret = volume.secret.as_ref().map(|_| Kind::Secret);
    let downward = volume.downward_api.as_ref().map(|_| Kind::DownwardApi);
    config_map.or(secret).or(downward).or(projected)
}

/// The files of a volume; none of one that is not made of files.
pub(super) fn payload(origin: &Origin<'_>, volume: &Volume) -> Result<Payload, ConfigError> {
    let mut files = Files { origin, mode: 0o644, user: None, payload: Payload::new() };
    if let Some(map) = &volume.config_map {
        files.defaults(map.default_mode, map.default_user)?;
        files.config_map(&map.name, map.items.as_deref(), map.optional)?;
    }
    if let Some(secret) = &volume.secret {
        files.defaults(secret.default_mode, secret.default_user)?;
        let name = secret.secret_name.as_deref().unwrap_or_default();
        files.secret(name, secret.items.as_deref(), secret.optional)?;
    }
    if let Some(downward) = &volume.downward_api {
        files.defaults(downward.default_mode, downward.default_user)?;
        files.downward(downward.items.as_deref())?;
    }
    if let Some(projected) = &volume.projected {
        files.defaults(projected.default_mode, projected.default_user)?;
        projected.sources.iter().flatten().try_for_each(|source| files.projection(source, &volume.name))?;
    }
    Ok(files.payload)
}

struct Files<'a> {
    origin: &'a Origin<'a>,
    mode: u32,
    user: Option<u32>,
    payload: Payload,
}

impl Files<'_> {
    fn defaults(&mut self, mode: Option<i32>, user: Option<i64>) -> Result<(), ConfigError> {
        self.mode = mode.map_or(Ok(0o644), mode_of)?;
        self.user = user.map(user_of).transpose()?;
        Ok(())
    }

    fn projection(&mut self, source: &VolumeProjection, volume: &str) -> Result<(), ConfigError> {
        let unsupported = [
            ("clusterTrustBundle", source.cluster_trust_bundle.is_some()),
            ("podCertificate", source.pod_certificate.is_some()),
        ];
        if let Some((name, _)) = unsupported.iter().find(|(_, is)| *is) {
            return Err(ConfigError::Unsupported(format!("the source {name} of volume \"{volume}\"")));
        }
        if let Some(token) = &source.service_account_token {
            self.token(token)?;
        }
        if let Some(map) = &source.config_map {
            self.config_map(&map.name, map.items.as_deref(), map.optional)?;
        }
        if let Some(secret) = &source.secret {
            self.secret(&secret.name, secret.items.as_deref(), secret.optional)?;
        }
        let fields = source.downward_api.as_ref();
        self.downward(fields.and_then(|fields| fields.items.as_deref()))
    }

    /// A token is for the one user of the pod, if there is one, or for its group; else whoever is in it reads it.
    fn token(&mut self, projection: &ServiceAccountTokenProjection) -> Result<(), ConfigError> {
        let token = self.origin.objects.token(&TokenWish::of(projection))?;
        let security = spec_of(self.origin.pod).security_context.as_ref();
        let group = security.and_then(|security| security.fs_group);
        let user = only_user(spec_of(self.origin.pod)).map(user_of).transpose()?;
        let shut = (user.is_some() || group.is_some()).then_some(0o600);
        self.payload_entry(&projection.path, token.text.clone().into_bytes(), shut, user)
    }

    fn config_map(
        &mut self,
        name: &str,
        items: Option<&[KeyToPath]>,
        optional: Option<bool>,
    ) -> Result<(), ConfigError> {
        let namespace = PodKey::of(self.origin.pod).namespace;
        let data = self.origin.objects.config_map(&namespace, name);
        self.object(Wanted { kind: "ConfigMap", namespace, name, items, optional: optional == Some(true) }, data)
    }

    fn secret(&mut self, name: &str, items: Option<&[KeyToPath]>, optional: Option<bool>) -> Result<(), ConfigError> {
        let namespace = PodKey::of(self.origin.pod).namespace;
        let data = self.origin.objects.secret(&namespace, name);
        self.object(Wanted { kind: "Secret", namespace, name, items, optional: optional == Some(true) }, data)
    }

    /// All of an object's keys, or those that are asked for.
    fn object(&mut self, wanted: Wanted<'_>, data: Option<BTreeMap<&str, &[u8]>>) -> Result<(), ConfigError> {
        let Wanted { kind, namespace, name, items, optional } = wanted;
        let Some(data) = data else {
            return self.origin.objects.without(kind, &namespace, name, optional);
        };
        let Some(items) = items.filter(|items| !items.is_empty()) else {
            return data.iter().try_for_each(|(key, value)| self.add(key, value.to_vec(), None, None));
        };
        for item in items {
            match data.get(item.key.as_str()) {
                Some(value) => self.add(&item.path, value.to_vec(), item.mode, item.user)?,
                None if optional => {}
                None => {
                    let (name, key) = (name.to_owned(), item.key.clone());
                    return Err(ConfigError::MissingKey { kind, name, key });
                }
            }
        }
        Ok(())
    }

    fn downward(&mut self, items: Option<&[DownwardAPIVolumeFile]>) -> Result<(), ConfigError> {
        for item in items.unwrap_or_default() {
            let text = self.field(item)?;
            self.add(&item.path, text.into_bytes(), item.mode, item.user)?;
        }
        Ok(())
    }

    fn field(&self, item: &DownwardAPIVolumeFile) -> Result<String, ConfigError> {
        let (pod, settings) = (self.origin.pod, self.origin.settings);
        if let Some(resource) = &item.resource_field_ref {
            let container = container(pod, resource.container_name.as_deref().unwrap_or_default());
            let container = container.ok_or_else(|| ConfigError::ResourceField(resource.resource.clone()))?;
            let divisor = resource.divisor.as_ref();
            return env::resource_value(&settings.node, pod, container, &resource.resource, divisor);
        }
        let path = item.field_ref.as_ref().map(|field| field.field_path.as_str()).unwrap_or_default();
        match path {
            "metadata.labels" => Ok(quote::map(pod.metadata.labels.as_ref())),
            "metadata.annotations" => Ok(quote::map(pod.metadata.annotations.as_ref())),
            // What changes with the sandbox cannot be kept in a file.
            path if path.starts_with("metadata.") => {
                let sources =
                    env::Sources { pod, objects: self.origin.objects, node: &settings.node, ips: &[], dir: None };
                env::field_value(&sources, path)
            }
            other => Err(ConfigError::FieldPath(other.to_owned())),
        }
    }

    fn add(&mut self, path: &str, data: Vec<u8>, mode: Option<i32>, user: Option<i64>) -> Result<(), ConfigError> {
        let mode = mode.map(mode_of).transpose()?;
        let user = user.map(user_of).transpose()?;
        self.payload_entry(path, data, mode, user)
    }

    fn payload_entry(
        &mut self,
        path: &str,
        data: Vec<u8>,
        mode: Option<u32>,
        user: Option<u32>,
    ) -> Result<(), ConfigError> {
        if path.is_empty() || !is_local(path) || path.starts_with("..") {
            return Err(ConfigError::Path { what: "items.path", path: path.to_owned() });
        }
        let (mode, user) = (mode.unwrap_or(self.mode), user.or(self.user));
        self.payload.insert(path.to_owned(), Entry { data, mode, user });
        Ok(())
    }
}

struct Wanted<'a> {
    kind: &'static str,
    namespace: String,
    name: &'a str,
    items: Option<&'a [KeyToPath]>,
    optional: bool,
}

fn container<'a>(pod: &'a Pod, name: &str) -> Option<&'a k8s_openapi::api::core::v1::Container> {
    let spec = spec_of(pod);
    spec.containers.iter().chain(spec.init_containers.iter().flatten()).find(|container| container.name == name)
}

/// The user of every container, where all of them name one and the same.
fn only_user(spec: &PodSpec) -> Option<i64> {
    let of_pod = spec.security_context.as_ref().and_then(|context| context.run_as_user);
    let ephemeral = spec.ephemeral_containers.iter().flatten().map(|container| container.security_context.as_ref());
    let contexts = init_of(spec).iter().chain(&spec.containers).map(|container| container.security_context.as_ref());
    let mut users = contexts.chain(ephemeral).map(|context| context.and_then(|it| it.run_as_user).or(of_pod));
    let first = users.next().flatten()?;
    users.all(|user| user == Some(first)).then_some(first)
}

fn mode_of(mode: i32) -> Result<u32, ConfigError> {
    let expected = "it is from 0 to 0777";
    let wrong = || ConfigError::Value { field: "mode", value: mode.to_string(), expected };
    u32::try_from(mode).ok().filter(|mode| *mode <= 0o777).ok_or_else(wrong)
}

fn user_of(user: i64) -> Result<u32, ConfigError> {
    let expected = "it is a user's number, from 0 to 2147483647";
    u32::try_from(user).map_err(|_| ConfigError::Value { field: "user", value: user.to_string(), expected })
}
