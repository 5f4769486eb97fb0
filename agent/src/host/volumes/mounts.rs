//! What one container mounts of its pod's volumes.

use std::collections::BTreeMap;
use std::path::Path;

use cri_proto::cri;
use k8s_openapi::api::core::v1::{Container, PodSpec, Volume, VolumeMount};

use super::super::{HostError, PodDir, subpath};
use super::Ready;
use crate::engine::config::ConfigError;
use crate::engine::config::container::is_local;
use crate::engine::config::env::Environment;
use crate::engine::config::expand::expand;

/// Makes the mounts of one container.
pub fn mounts(
    container: &Container,
    volumes: &BTreeMap<String, Ready>,
    environment: &Environment,
    dir: &PodDir,
) -> Result<Vec<cri::Mount>, HostError> {
    let mut mounts = Vec::new();
    for (index, wanted) in container.volume_mounts.iter().flatten().enumerate() {
        let volume = volumes.get(&wanted.name).ok_or_else(|| ConfigError::MissingVolume(wanted.name.clone()))?;
        let sub = sub_path(wanted, environment)?;
        let mount = mount_of(wanted)?;
        mounts.push(match volume {
            Ready::Image { reference } => of_image(mount, reference, sub)?,
            Ready::Host { path, read_only } if sub.is_empty() => of_host(mount, path, *read_only),
            Ready::Host { path, read_only } => {
                let target = dir.subpath(&container.name, index);
                let propagates = mount.propagation() != cri::MountPropagation::PropagationPrivate;
                subpath::prepare(path, &sub, &target, propagates)?;
                of_host(mount, &target, *read_only)
            }
        });
    }
    Ok(mounts)
}

/// The images that a container mounts, each as a container that would run it: with its name and its pull policy.
pub fn images(spec: &PodSpec, container: &Container) -> Vec<Container> {
    let mounted = |volume: &&Volume| container.volume_mounts.iter().flatten().any(|mount| mount.name == volume.name);
    let volumes = spec.volumes.iter().flatten().filter(mounted);
    volumes
        .filter_map(|volume| {
            let source = volume.image.as_ref()?;
            Some(Container {
                name: container.name.clone(),
                image: source.reference.clone(),
                image_pull_policy: source.pull_policy.clone(),
                ..Container::default()
            })
        })
        .collect()
}

/// What the mount says by itself.
fn mount_of(wanted: &VolumeMount) -> Result<cri::Mount, ConfigError> {
    let propagation = match wanted.mount_propagation.as_deref() {
        None | Some("" | "None") => cri::MountPropagation::PropagationPrivate,
        Some("HostToContainer") => cri::MountPropagation::PropagationHostToContainer,
        Some("Bidirectional") => cri::MountPropagation::PropagationBidirectional,
        Some(other) => {
            return Err(ConfigError::Value {
                field: "mountPropagation",
                value: other.to_owned(),
                expected: "it is None, HostToContainer or Bidirectional",
            });
        }
    };
    let readonly = wanted.read_only == Some(true);
    let recursive = matches!(wanted.recursive_read_only.as_deref(), Some("Enabled" | "IfPossible"));
    // Kubernetes lets a mount path be relative to the root.
    let container_path = Path::new("/").join(&wanted.mount_path);
    Ok(cri::Mount {
        container_path: container_path.to_string_lossy().into_owned(),
        readonly,
        propagation: propagation.into(),
        recursive_read_only: recursive && readonly,
        ..cri::Mount::default()
    })
}

fn of_host(mount: cri::Mount, path: &Path, read_only: bool) -> cri::Mount {
    let readonly = mount.readonly || read_only;
    cri::Mount { host_path: path.to_string_lossy().into_owned(), readonly, ..mount }
}

/// An image is mounted by the runtime, and never written to.
fn of_image(mount: cri::Mount, reference: &str, sub: String) -> Result<cri::Mount, ConfigError> {
    if !is_local(&sub) {
        return Err(ConfigError::Path { what: "subPath", path: sub });
    }
    let image = cri::ImageSpec {
        image: reference.to_owned(),
        user_specified_image: reference.to_owned(),
        ..cri::ImageSpec::default()
    };
    Ok(cri::Mount { image: Some(image), image_sub_path: sub, readonly: true, ..mount })
}

fn sub_path(wanted: &VolumeMount, environment: &Environment) -> Result<String, ConfigError> {
    let Some(expression) = wanted.sub_path_expr.as_deref().filter(|expression| !expression.is_empty()) else {
        return Ok(wanted.sub_path.clone().unwrap_or_default());
    };
    let unresolved = std::cell::Cell::new(false);
    let bytes = expand(expression.as_bytes(), |name| {
        let value = environment.get(name);
        unresolved.set(unresolved.get() || value.is_none());
        value
    });
    let path = String::from_utf8(bytes).map_err(|_| ConfigError::NotUtf8("subPathExpr"))?;
    if unresolved.get() || path.is_empty() {
        return Err(ConfigError::Value {
            field: "subPathExpr",
            value: expression.to_owned(),
            expected: "every variable in it has to be one of the container's",
        });
    }
    Ok(path)
}
