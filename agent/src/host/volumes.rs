//! Volumes: made when the pod begins, mounted by each container.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use cri_proto::cri;
use k8s_openapi::api::core::v1::{
    ConfigMapVolumeSource, Container, EmptyDirVolumeSource, HostPathVolumeSource, KeyToPath, Pod, SecretVolumeSource,
    Volume, VolumeMount,
};

use super::atomic::{self, Entry, Payload};
use super::{HostError, PodDir, io_error, make_dir, mount, ownership, subpath};
use crate::engine::config::container::is_local;
use crate::engine::config::env::Environment;
use crate::engine::config::expand::expand;
use crate::engine::config::names::PodKey;
use crate::engine::config::{ConfigError, Objects, quantity};
use crate::engine::plan::spec_of;

/// A volume that is ready to be mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ready {
    /// Where it is on the host.
    pub path: PathBuf,
    /// Containers never write to it.
    pub read_only: bool,
}

/// Makes the volumes of a pod, by name. What is already made is kept: a pod's new sandbox finds its files.
pub fn prepare(pod: &Pod, objects: &Objects, dir: &PodDir) -> Result<BTreeMap<String, Ready>, HostError> {
    let spec = spec_of(pod);
    let group = spec.security_context.as_ref().and_then(|context| context.fs_group);
    let group = group.map(group_id).transpose()?;
    let mut ready = BTreeMap::new();
    for volume in spec.volumes.iter().flatten() {
        ready.insert(volume.name.clone(), prepare_one(pod, volume, objects, dir, group)?);
    }
    Ok(ready)
}

fn group_id(group: i64) -> Result<u32, ConfigError> {
    let expected = "it is a group's number, from 0 to 2147483647";
    u32::try_from(group).map_err(|_| ConfigError::Value { field: "fsGroup", value: group.to_string(), expected })
}

fn prepare_one(
    pod: &Pod,
    volume: &Volume,
    objects: &Objects,
    dir: &PodDir,
    group: Option<u32>,
) -> Result<Ready, HostError> {
    if let Some(source) = &volume.host_path {
        return host_path(source);
    }
    if let Some(source) = &volume.empty_dir {
        return empty_dir(source, &dir.volume("empty-dir", &volume.name), group);
    }
    let (plugin, payload) = match payload_of(pod, volume, objects)? {
        Some(payload) => payload,
        None => return Err(ConfigError::Unsupported(format!("the type of volume \"{}\"", volume.name)).into()),
    };
    let path = dir.volume(plugin, &volume.name);
    make_dir(&path, 0o755)?;
    if plugin == "secret" && !is_mount(&path)? {
        // Secrets never reach a disk.
        mount::tmpfs(&path, None, true).map_err(io_error("mount a tmpfs on", &path))?;
    }
    atomic::write(&path, &payload, group)?;
    if let Some(group) = group {
        ownership::hand_over(&path, group, true)?;
    }
    Ok(Ready { path, read_only: true })
}

/// The files of a configMap or secret volume, and the plugin's name; `None` for another kind of volume.
pub fn payload_of(
    pod: &Pod,
    volume: &Volume,
    objects: &Objects,
) -> Result<Option<(&'static str, Payload)>, ConfigError> {
    let namespace = PodKey::of(pod).namespace;
    if let Some(ConfigMapVolumeSource { name, items, optional, default_mode, .. }) = &volume.config_map {
        let data = objects.config_map(&namespace, name);
        let wanted = Wanted { kind: "ConfigMap", namespace: &namespace, name, items, optional, default_mode };
        return Ok(Some(("configmap", wanted.payload(data)?)));
    }
    if let Some(SecretVolumeSource { secret_name, items, optional, default_mode, .. }) = &volume.secret {
        let name = secret_name.as_deref().unwrap_or_default();
        let data = objects.secret(&namespace, name);
        let wanted = Wanted { kind: "Secret", namespace: &namespace, name, items, optional, default_mode };
        return Ok(Some(("secret", wanted.payload(data)?)));
    }
    Ok(None)
}

struct Wanted<'a> {
    kind: &'static str,
    namespace: &'a str,
    name: &'a str,
    items: &'a Option<Vec<KeyToPath>>,
    optional: &'a Option<bool>,
    default_mode: &'a Option<i32>,
}

impl Wanted<'_> {
    fn payload(&self, data: Option<BTreeMap<&str, &[u8]>>) -> Result<Payload, ConfigError> {
        let optional = *self.optional == Some(true);
        let Some(data) = data else {
            return if optional { Ok(Payload::new()) } else { Err(self.missing()) };
        };
        let default = mode_of(*self.default_mode)?;
        let Some(items) = self.items.as_ref().filter(|items| !items.is_empty()) else {
            let entry = |value: &[u8]| Entry { data: value.to_vec(), mode: default };
            return Ok(data.iter().map(|(key, value)| ((*key).to_owned(), entry(value))).collect());
        };
        let mut payload = Payload::new();
        for item in items {
            if item.path.is_empty() || !is_local(&item.path) || item.path.starts_with("..") {
                return Err(ConfigError::Path { what: "items.path", path: item.path.clone() });
            }
            let mode = item.mode.map_or(Ok(default), |mode| mode_of(Some(mode)))?;
            match data.get(item.key.as_str()) {
                Some(value) => {
                    payload.insert(item.path.clone(), Entry { data: value.to_vec(), mode });
                }
                None if optional => {}
                None => {
                    let (name, key) = (self.name.to_owned(), item.key.clone());
                    return Err(ConfigError::MissingKey { kind: self.kind, name, key });
                }
            }
        }
        Ok(payload)
    }

    fn missing(&self) -> ConfigError {
        let (namespace, name) = (self.namespace.to_owned(), self.name.to_owned());
        ConfigError::MissingObject { kind: self.kind, namespace, name }
    }
}

fn mode_of(mode: Option<i32>) -> Result<u32, ConfigError> {
    let mode = mode.unwrap_or(0o644);
    u32::try_from(mode).ok().filter(|mode| *mode <= 0o777).ok_or_else(|| ConfigError::Value {
        field: "mode",
        value: mode.to_string(),
        expected: "it is from 0 to 0777",
    })
}

fn empty_dir(source: &EmptyDirVolumeSource, path: &Path, group: Option<u32>) -> Result<Ready, HostError> {
    let fresh = !path.exists();
    if fresh {
        make_dir(path, 0o777)?;
    }
    match source.medium.as_deref() {
        None | Some("") => {}
        Some("Memory") => {
            if !is_mount(path)? {
                let limit = source.size_limit.as_ref().and_then(quantity::value);
                let limit = limit.and_then(|limit| u64::try_from(limit).ok()).filter(|limit| *limit > 0);
                mount::tmpfs(path, limit, false).map_err(io_error("mount a tmpfs on", path))?;
                make_dir(path, 0o777)?;
            }
        }
        Some(other) => return Err(ConfigError::Unsupported(format!("emptyDir of medium {other}")).into()),
    }
    if let Some(group) = group {
        ownership::hand_over(path, group, false)?;
    }
    Ok(Ready { path: path.to_owned(), read_only: false })
}

/// kubelet's checks and creations, by type. Without a type a missing path becomes a directory, as the runtimes make it.
fn host_path(source: &HostPathVolumeSource) -> Result<Ready, HostError> {
    let path = PathBuf::from(&source.path);
    let kind = source.type_.as_deref().unwrap_or_default();
    match kind {
        "" if !path.exists() => create_dir(&path)?,
        "DirectoryOrCreate" if !path.exists() => create_dir(&path)?,
        "FileOrCreate" if !path.exists() => {
            let mut options = fs::OpenOptions::new();
            let options = options.write(true).create_new(true).mode(0o644);
            options.open(&path).map_err(io_error("make", &path))?;
        }
        _ => {}
    }
    let metadata = fs::metadata(&path).map_err(io_error("look at the hostPath", &path))?;
    let file = metadata.file_type();
    let (right, expected) = match kind {
        "" => (true, ""),
        "DirectoryOrCreate" | "Directory" => (file.is_dir(), "a directory"),
        "FileOrCreate" | "File" => (file.is_file(), "a file"),
        "Socket" => (file.is_socket(), "a socket"),
        "CharDevice" => (file.is_char_device(), "a character device"),
        "BlockDevice" => (file.is_block_device(), "a block device"),
        other => return Err(ConfigError::Unsupported(format!("hostPath of type {other}")).into()),
    };
    if right { Ok(Ready { path, read_only: false }) } else { Err(HostError::HostPathType { path, expected }) }
}

fn create_dir(path: &Path) -> Result<(), HostError> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new().recursive(true).mode(0o755).create(path).map_err(io_error("make directory", path))
}

fn is_mount(path: &Path) -> Result<bool, HostError> {
    let device = |path: &Path| fs::symlink_metadata(path).map(|metadata| metadata.dev());
    let parent = path.parent().unwrap_or(path);
    let look = |path: &Path| device(path).map_err(io_error("look at", path));
    Ok(look(path)? != look(parent)?)
}

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
        let host_path = if sub.is_empty() {
            volume.path.clone()
        } else {
            let target = dir.subpath(&container.name, index);
            subpath::prepare(&volume.path, &sub, &target)?;
            target
        };
        mounts.push(mount_of(wanted, volume, &host_path)?);
    }
    Ok(mounts)
}

fn mount_of(wanted: &VolumeMount, volume: &Ready, host_path: &Path) -> Result<cri::Mount, ConfigError> {
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
    let read_only = volume.read_only || wanted.read_only == Some(true);
    let recursive = matches!(wanted.recursive_read_only.as_deref(), Some("Enabled" | "IfPossible"));
    // Kubernetes lets a mount path be relative to the root.
    let container_path = Path::new("/").join(&wanted.mount_path);
    Ok(cri::Mount {
        container_path: container_path.to_string_lossy().into_owned(),
        host_path: host_path.to_string_lossy().into_owned(),
        readonly: read_only,
        propagation: propagation.into(),
        recursive_read_only: recursive && read_only,
        ..cri::Mount::default()
    })
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

#[cfg(test)]
mod tests;
