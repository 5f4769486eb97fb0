//! `coracle.dev/restart-on-change`: containers that are restarted when what they were made with changes in the
//! ConfigMaps and Secrets that they refer to.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};
use manifests::annotations::Annotations;

use super::change;
use super::config::Objects;
use super::plan::{init_of, spec_of};

/// The hashes of the objects that each following container refers to, by container; of those that refer to none, too.
pub fn hashes(pod: &Pod, objects: &Objects) -> BTreeMap<String, String> {
    if !Annotations::of(pod).is_ok_and(|annotations| annotations.restart_on_change) {
        return BTreeMap::new();
    }
    let spec = spec_of(pod);
    let namespace = pod.metadata.namespace.as_deref().unwrap_or("default");
    let containers = init_of(spec).iter().chain(&spec.containers);
    containers.map(|container| (container.name.clone(), hash(spec, container, namespace, objects))).collect()
}

fn hash(spec: &PodSpec, container: &Container, namespace: &str, objects: &Objects) -> String {
    let used = references(spec, container);
    let maps = used.maps.iter().map(|name| ("map", name, objects.config_map(namespace, name)));
    let secrets = used.secrets.iter().map(|name| ("secret", name, objects.secret(namespace, name)));
    let mut parts: Vec<&[u8]> = Vec::new();
    let found: Vec<_> = maps.chain(secrets).collect();
    for (kind, name, data) in &found {
        parts.extend([kind.as_bytes(), name.as_bytes(), if data.is_some() { b"here" } else { b"gone" }]);
        parts.extend(data.iter().flatten().flat_map(|(key, value)| [key.as_bytes(), *value]));
    }
    change::hash_bytes(&parts)
}

#[derive(Default)]
struct References {
    maps: BTreeSet<String>,
    secrets: BTreeSet<String>,
}

/// What a container refers to in its environment and by the volumes that it mounts.
fn references(spec: &PodSpec, container: &Container) -> References {
    let mut used = References::default();
    for source in container.env.iter().flatten().filter_map(|variable| variable.value_from.as_ref()) {
        used.maps.extend(source.config_map_key_ref.as_ref().map(|key| key.name.clone()));
        used.secrets.extend(source.secret_key_ref.as_ref().map(|key| key.name.clone()));
    }
    for source in container.env_from.iter().flatten() {
        used.maps.extend(source.config_map_ref.as_ref().map(|map| map.name.clone()));
        used.secrets.extend(source.secret_ref.as_ref().map(|secret| secret.name.clone()));
    }
    let mounted: BTreeSet<&str> = container.volume_mounts.iter().flatten().map(|mount| mount.name.as_str()).collect();
    for volume in spec.volumes.iter().flatten().filter(|volume| mounted.contains(volume.name.as_str())) {
        used.maps.extend(volume.config_map.as_ref().map(|map| map.name.clone()));
        used.secrets.extend(volume.secret.as_ref().and_then(|secret| secret.secret_name.clone()));
        let projected = volume.projected.as_ref().and_then(|projected| projected.sources.as_ref());
        for source in projected.into_iter().flatten() {
            used.maps.extend(source.config_map.as_ref().map(|map| map.name.clone()));
            used.secrets.extend(source.secret.as_ref().map(|secret| secret.name.clone()));
        }
    }
    used
}
