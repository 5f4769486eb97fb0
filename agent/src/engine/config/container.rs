//! A container's configuration.

use std::path::{Component, Path};

use cri_proto::cri;
use k8s_openapi::api::core::v1::{Container, Pod};

use super::super::plan::spec_of;
use super::env::Environment;
use super::expand::expand;
use super::names::{PodKey, container_annotations, log_path};
use super::security::ImageUser;
use super::{ConfigError, Settings, resources, security};

/// What belongs to one instance rather than to the spec.
#[derive(Clone, Debug, Default)]
pub struct Instance {
    /// Counts the instances of this name from 0.
    pub attempt: u32,
    /// The image as the runtime resolved it.
    pub image_ref: String,
    /// The user that its image names.
    pub image_user: ImageUser,
    /// Its environment.
    pub environment: Environment,
    /// Its volumes, hosts file and termination file.
    pub mounts: Vec<cri::Mount>,
}

/// Makes the configuration of a container.
pub fn config(
    pod: &Pod,
    container: &Container,
    instance: Instance,
    settings: &Settings,
) -> Result<cri::ContainerConfig, ConfigError> {
    let image = container.image.clone().unwrap_or_default();
    let words = |words: &Option<Vec<String>>, what| {
        words.iter().flatten().map(|word| expanded(word, &instance.environment, what)).collect::<Result<Vec<_>, _>>()
    };
    let mut annotations = container_annotations(pod, container, instance.attempt);
    settings.log_limits.annotate(&mut annotations);
    let (command, args) = (words(&container.command, "command")?, words(&container.args, "args")?);
    Ok(cri::ContainerConfig {
        metadata: Some(cri::ContainerMetadata { name: container.name.clone(), attempt: instance.attempt }),
        image: Some(cri::ImageSpec {
            image: if instance.image_ref.is_empty() { image.clone() } else { instance.image_ref },
            user_specified_image: image,
            ..cri::ImageSpec::default()
        }),
        command,
        args,
        working_dir: container.working_dir.clone().unwrap_or_default(),
        envs: instance.environment.variables.into_iter().map(|(key, value)| cri::KeyValue { key, value }).collect(),
        mounts: instance.mounts,
        labels: settings.label(PodKey::of(pod).container_labels(&container.name)),
        annotations,
        log_path: log_path(&container.name, instance.attempt),
        stdin: container.stdin.unwrap_or(false),
        stdin_once: container.stdin_once.unwrap_or(false),
        tty: container.tty.unwrap_or(false),
        linux: Some(cri::LinuxContainerConfig {
            resources: Some(resources::of_container(spec_of(pod), container, settings)),
            security_context: Some(security::of_container(pod, container, settings, &instance.image_user)?),
        }),
        stop_signal: stop_signal(container)?.into(),
        ..cri::ContainerConfig::default()
    })
}

fn expanded(word: &str, environment: &Environment, what: &'static str) -> Result<String, ConfigError> {
    let bytes = expand(word.as_bytes(), |name| environment.get(name));
    String::from_utf8(bytes).map_err(|_| ConfigError::NotUtf8(what))
}

fn stop_signal(container: &Container) -> Result<cri::Signal, ConfigError> {
    let given = container.lifecycle.as_ref().and_then(|lifecycle| lifecycle.stop_signal.as_deref());
    let Some(name) = given.filter(|name| !name.is_empty()) else { return Ok(cri::Signal::RuntimeDefault) };
    let plain = name.replace("RTMIN+", "RTMINPLUS").replace("RTMAX-", "RTMAXMINUS");
    cri::Signal::from_str_name(&format!("SIGNAL_{plain}")).ok_or_else(|| ConfigError::Value {
        field: "lifecycle.stopSignal",
        value: name.to_owned(),
        expected: "it is a signal's name, such as SIGTERM",
    })
}

/// Whether a path stays below where it starts, by its letters: relative, and without `..`.
pub fn is_local(path: &str) -> bool {
    Path::new(path).components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    fn pod() -> Pod {
        serde_json::from_value(json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "ns", "uid": "u"},
            "spec": {"terminationGracePeriodSeconds": 5, "containers": [{
                "name": "c", "image": "nginx", "workingDir": "/srv", "tty": true,
                "command": ["sh", "-c", "echo $(A) $(B)"], "args": ["$$(A)"],
                "lifecycle": {"stopSignal": "SIGRTMIN+3"}
            }]}
        }))
        .unwrap()
    }

    #[test]
    fn a_container_is_named_as_kubelet_names_it() {
        let pod = pod();
        let environment = Environment { variables: vec![("A".into(), b"1".to_vec())], warnings: vec![] };
        let instance = Instance { attempt: 3, image_ref: "sha256:x".into(), environment, ..Instance::default() };
        let config = config(&pod, &spec_of(&pod).containers[0], instance, &Settings::default()).unwrap();
        assert_eq!(config.command, ["sh", "-c", "echo 1 $(B)"]);
        assert_eq!(config.args, ["$(A)"]);
        assert_eq!((config.log_path.as_str(), config.working_dir.as_str(), config.tty), ("c/3.log", "/srv", true));
        let image = config.image.clone().unwrap();
        assert_eq!((image.image.as_str(), image.user_specified_image.as_str()), ("sha256:x", "nginx"));
        assert_eq!(config.labels["io.kubernetes.container.name"], "c");
        assert_eq!(config.annotations["io.kubernetes.container.restartCount"], "3");
        assert_eq!(config.annotations["io.kubernetes.pod.terminationGracePeriod"], "5");
        assert_eq!(config.stop_signal(), cri::Signal::Sigrtminplus3);
        assert_eq!(config.envs[0].value, b"1");
    }

    #[test]
    fn an_unknown_stop_signal_is_refused() {
        let mut pod = pod();
        pod.spec.as_mut().unwrap().containers[0].lifecycle.as_mut().unwrap().stop_signal = Some("SIGNOPE".into());
        let result = config(&pod, &spec_of(&pod).containers[0], Instance::default(), &Settings::default());
        assert!(result.unwrap_err().to_string().contains("SIGNOPE"));
    }

    #[test]
    fn local_paths_are_told_apart() {
        for (path, local) in [("a/b", true), ("./a", true), ("..", false), ("a/../b", false), ("/a", false)] {
            assert_eq!(is_local(path), local, "{path}");
        }
    }
}
