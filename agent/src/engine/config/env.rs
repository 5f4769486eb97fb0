//! A container's environment: `envFrom`, then `env` in order, each seeing those before it.

use std::io;

use k8s_openapi::api::core::v1::{Container, EnvFromSource, EnvVar, EnvVarSource, FileKeySelector, Pod};

use super::env_file;
use super::expand::expand;
use super::names::PodKey;
use super::resources::{limit, request};
use super::{ConfigError, Node, Objects, quantity};
use crate::engine::plan::spec_of;
use crate::host::{PodDir, subpath};

/// As large as a ConfigMap may be.
const LARGEST_FILE: u64 = 1 << 20;

/// Variables in the order in which they were first set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Environment {
    /// Names and values; a value is bytes, for a Secret may hold any.
    pub variables: Vec<(String, Vec<u8>)>,
    /// What was left out, for the operator.
    pub warnings: Vec<String>,
}

impl Environment {
    /// A variable's value.
    pub fn get(&self, name: &[u8]) -> Option<&[u8]> {
        self.variables.iter().find(|(known, _)| known.as_bytes() == name).map(|(_, value)| value.as_slice())
    }

    /// Sets a variable.
    pub fn set(&mut self, name: &str, value: Vec<u8>) {
        match self.variables.iter_mut().find(|(known, _)| known == name) {
            Some(entry) => entry.1 = value,
            None => self.variables.push((name.to_owned(), value)),
        }
    }
}

/// What a container's environment is made from.
#[derive(Clone, Copy, Debug)]
pub struct Sources<'a> {
    /// The pod.
    pub pod: &'a Pod,
    /// ConfigMaps and Secrets.
    pub objects: &'a Objects,
    /// The node.
    pub node: &'a Node,
    /// The addresses of the pod's sandbox.
    pub ips: &'a [String],
    /// The pod's directory, with the volumes whose files variables come from; `None` before it is made: such variables
    /// are left out.
    pub dir: Option<&'a PodDir>,
}

/// Makes the environment of a container.
pub fn of_container(sources: &Sources<'_>, container: &Container) -> Result<Environment, ConfigError> {
    on_top_of(Environment::default(), sources, container)
}

/// Makes the environment of a container after what is there already, which its own variables see and replace.
pub fn on_top_of(
    mut environment: Environment,
    sources: &Sources<'_>,
    container: &Container,
) -> Result<Environment, ConfigError> {
    for from in container.env_from.iter().flatten() {
        import(sources, from, &mut environment)?;
    }
    for variable in container.env.iter().flatten() {
        if let Some(value) = value(sources, container, variable, &environment)? {
            environment.set(&variable.name, value);
        }
    }
    Ok(environment)
}

fn import(sources: &Sources<'_>, from: &EnvFromSource, environment: &mut Environment) -> Result<(), ConfigError> {
    let namespace = PodKey::of(sources.pod).namespace;
    let (kind, name, optional, data) = match (&from.config_map_ref, &from.secret_ref) {
        (Some(map), _) => ("ConfigMap", &map.name, map.optional, sources.objects.config_map(&namespace, &map.name)),
        (None, Some(secret)) => {
            ("Secret", &secret.name, secret.optional, sources.objects.secret(&namespace, &secret.name))
        }
        (None, None) => return Ok(()),
    };
    let Some(data) = data else {
        return sources.objects.without(kind, &namespace, name, optional == Some(true));
    };
    let prefix = from.prefix.as_deref().unwrap_or_default();
    for (key, value) in data {
        let variable = format!("{prefix}{key}");
        // Binary data of a ConfigMap is not for variables; a Secret's is, whatever it holds.
        let text = kind == "Secret" || std::str::from_utf8(value).is_ok();
        if valid_name(&variable) && text && !value.contains(&0) {
            environment.set(&variable, value.to_vec());
        } else {
            let warning = format!("key \"{key}\" of {kind} \"{name}\" is left out: it cannot be a variable");
            environment.warnings.push(warning);
        }
    }
    Ok(())
}

/// Kubernetes' rule since 1.34: printable ASCII without `=`.
fn valid_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| (b' '..=b'~').contains(&byte) && byte != b'=')
}

fn value(
    sources: &Sources<'_>,
    container: &Container,
    variable: &EnvVar,
    environment: &Environment,
) -> Result<Option<Vec<u8>>, ConfigError> {
    let Some(from) = &variable.value_from else {
        let text = variable.value.as_deref().unwrap_or_default();
        return Ok(Some(expand(text.as_bytes(), |name| environment.get(name))));
    };
    if let Some(field) = &from.field_ref {
        return field_value(sources, &field.field_path).map(|value| Some(value.into_bytes()));
    }
    if let Some(resource) = &from.resource_field_ref {
        let divisor = resource.divisor.as_ref();
        let owner = match resource.container_name.as_deref().filter(|name| !name.is_empty()) {
            Some(name) => find_container(sources.pod, name)
                .ok_or_else(|| ConfigError::ResourceField(format!("{name}: {}", resource.resource)))?,
            None => container,
        };
        let value = resource_value(sources.node, sources.pod, owner, &resource.resource, divisor)?;
        return Ok(Some(value.into_bytes()));
    }
    if let Some(file) = &from.file_key_ref {
        return file_value(sources, file);
    }
    key_value(sources, from)
}

/// A value that a container wrote into an emptyDir for those after it.
fn file_value(sources: &Sources<'_>, file: &FileKeySelector) -> Result<Option<Vec<u8>>, ConfigError> {
    let Some(dir) = sources.dir else { return Ok(None) };
    let FileKeySelector { key, optional, path, volume_name } = file;
    let broken = |problem: String| {
        let (volume, path) = (volume_name.clone(), path.clone());
        ConfigError::File { volume, path, problem }
    };
    let volume = dir.volume("empty-dir", volume_name);
    let text = match subpath::read(&volume, path, LARGEST_FILE) {
        Err(error) if error.kind() == io::ErrorKind::NotFound && *optional == Some(true) => return Ok(None),
        result => result.map_err(|error| broken(error.to_string()))?,
    };
    let text = String::from_utf8(text).map_err(|_| broken("it is no text".into()))?;
    match env_file::value_of(&text, key).map_err(|error| broken(error.to_string()))? {
        Some(value) => Ok(Some(value.as_bytes().to_vec())),
        None if *optional == Some(true) => Ok(None),
        None => Err(broken(format!("it has no key \"{key}\""))),
    }
}

fn key_value(sources: &Sources<'_>, from: &EnvVarSource) -> Result<Option<Vec<u8>>, ConfigError> {
    let namespace = PodKey::of(sources.pod).namespace;
    let (kind, name, key, optional, data) = match (&from.config_map_key_ref, &from.secret_key_ref) {
        (Some(map), _) => {
            ("ConfigMap", &map.name, &map.key, map.optional, sources.objects.config_map(&namespace, &map.name))
        }
        (None, Some(secret)) => {
            ("Secret", &secret.name, &secret.key, secret.optional, sources.objects.secret(&namespace, &secret.name))
        }
        (None, None) => return Err(ConfigError::Unsupported("this kind of valueFrom".into())),
    };
    match data {
        Some(data) => match data.get(key.as_str()) {
            Some(value) => Ok(Some(value.to_vec())),
            None if optional == Some(true) => Ok(None),
            None => Err(ConfigError::MissingKey { kind, name: name.clone(), key: key.clone() }),
        },
        None => sources.objects.without(kind, &namespace, name, optional == Some(true)).map(|()| None),
    }
}

fn find_container<'a>(pod: &'a Pod, name: &str) -> Option<&'a Container> {
    let spec = pod.spec.as_ref()?;
    spec.containers.iter().chain(spec.init_containers.iter().flatten()).find(|container| container.name == name)
}

/// A field of the pod, as `fieldRef` names it.
pub fn field_value(sources: &Sources<'_>, path: &str) -> Result<String, ConfigError> {
    let pod = sources.pod;
    let key = PodKey::of(pod);
    let spec = pod.spec.as_ref();
    let node = spec.and_then(|spec| spec.node_name.clone()).unwrap_or_else(|| sources.node.name.clone());
    let ips = || sources.node.ips_of(pod, sources.ips);
    let entry = |map: &Option<std::collections::BTreeMap<String, String>>, name: &str| {
        map.as_ref().and_then(|map| map.get(name)).cloned().unwrap_or_default()
    };
    Ok(match path {
        "metadata.name" => key.name,
        "metadata.namespace" => key.namespace,
        "metadata.uid" => key.uid,
        "spec.nodeName" => node,
        "spec.serviceAccountName" => spec.and_then(|spec| spec.service_account_name.clone()).unwrap_or_default(),
        "status.hostIP" => sources.node.ips.first().cloned().unwrap_or_default(),
        "status.hostIPs" => sources.node.ips.join(","),
        "status.podIP" => ips().first().cloned().unwrap_or_default(),
        "status.podIPs" => ips().join(","),
        _ => match subscript(path) {
            Some(("metadata.labels", name)) => entry(&pod.metadata.labels, name),
            Some(("metadata.annotations", name)) => entry(&pod.metadata.annotations, name),
            _ => return Err(ConfigError::FieldPath(path.to_owned())),
        },
    })
}

/// `metadata.labels['app']` as its two parts.
fn subscript(path: &str) -> Option<(&str, &str)> {
    let (map, rest) = path.split_once('[')?;
    let name = rest.strip_suffix(']')?;
    let quoted = |quote: char| name.strip_prefix(quote)?.strip_suffix(quote);
    Some((map, quoted('\'').or_else(|| quoted('"'))?))
}

/// A resource of a container, as `resourceFieldRef` names it: where there is no limit, the pod's own, or what the node has for
/// pods.
pub fn resource_value(
    node: &Node,
    pod: &Pod,
    container: &Container,
    path: &str,
    divisor: Option<&k8s_openapi::apimachinery::pkg::api::resource::Quantity>,
) -> Result<String, ConfigError> {
    let unknown = || ConfigError::ResourceField(path.to_owned());
    let (kind, resource) = path.split_once('.').ok_or_else(unknown)?;
    let known = matches!(resource, "cpu" | "memory" | "ephemeral-storage") || resource.starts_with("hugepages-");
    let whole_pod = || spec_of(pod).resources.as_ref()?.limits.as_ref()?.get(resource);
    let quantity = match kind {
        "limits" if matches!(resource, "cpu" | "memory") => limit(container, resource).or_else(whole_pod),
        "limits" if known => limit(container, resource),
        "requests" if known => request(container, resource).or_else(|| limit(container, resource)),
        _ => return Err(unknown()),
    };
    let whole_node = || match (kind, resource, node.allocatable.of(resource)) {
        ("limits", "cpu" | "memory" | "ephemeral-storage", Some(amount)) => amount,
        ("limits", "cpu", None) => node.cpu_milli,
        ("limits", "memory", None) => node.memory_bytes.saturating_mul(1000),
        _ => 0,
    };
    let milli = match quantity {
        Some(quantity) => quantity::milli(quantity).ok_or_else(unknown)?,
        None => whole_node(),
    };
    let divisor = match divisor {
        Some(divisor) => quantity::milli(divisor).ok_or_else(unknown)?,
        None => 1000,
    };
    let divisor = if divisor <= 0 { 1000 } else { divisor };
    Ok((milli.div_euclid(divisor) + i64::from(milli.rem_euclid(divisor) != 0)).to_string())
}

#[cfg(test)]
mod tests;
