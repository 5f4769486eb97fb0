//! A container's configuration.

use cri_proto::cri;

use super::logs;
use super::mounts::mount;
use super::resources::{limits, oom_score_adj};
use super::security::security;
use super::{choice, required};
use crate::container::{Device, Request};
use crate::error::{Error, Result};
use crate::launch::Text;

/// Annotations that name CDI devices begin so.
const CDI_ANNOTATION: &str = "cdi.k8s.io/";

/// A container.
pub fn container(config: cri::ContainerConfig) -> Result<Request> {
    let metadata = required(config.metadata, "config.metadata")?;
    let image = required(config.image, "config.image")?;
    if metadata.name.is_empty() || image.image.is_empty() {
        return Err(Error::Invalid("config.metadata.name and config.image.image must not be empty".into()));
    }
    if !image.runtime_handler.is_empty() {
        let handler = image.runtime_handler;
        return Err(Error::Invalid(format!("config.image.runtime_handler: there is no runtime handler {handler:?}")));
    }
    let cdi_devices = cdi_devices(&config.cdi_devices, &config.annotations)?;
    let linux = config.linux.unwrap_or_default();
    let resources = linux.resources.unwrap_or_default();
    let user_image = if image.user_specified_image.is_empty() { &image.image } else { &image.user_specified_image };
    Ok(Request {
        name: metadata.name,
        attempt: metadata.attempt,
        user_image: user_image.clone(),
        image: image.image,
        command: words(config.command, "command")?,
        args: words(config.args, "args")?,
        working_dir: config.working_dir,
        env: config.envs.into_iter().enumerate().map(|(index, pair)| env(index, pair)).collect::<Result<_>>()?,
        mounts: config.mounts.into_iter().enumerate().map(|(index, it)| mount(index, it)).collect::<Result<_>>()?,
        devices: config.devices.into_iter().enumerate().map(|(index, it)| device(index, it)).collect::<Result<_>>()?,
        cdi_devices,
        log_limits: logs::limits(&config.annotations)?,
        labels: config.labels.into_iter().collect(),
        annotations: config.annotations.into_iter().collect(),
        log_path: config.log_path,
        stdin: config.stdin,
        stdin_once: config.stdin_once,
        tty: config.tty,
        oom_score_adj: oom_score_adj(resources.oom_score_adj)?,
        resources: limits("linux.resources", resources)?,
        security: security(linux.security_context.unwrap_or_default())?,
        stop_signal: stop_signal(config.stop_signal)?,
    })
}

fn stop_signal(value: i32) -> Result<Option<i32>> {
    match choice(value, "stop_signal")? {
        cri::Signal::RuntimeDefault => Ok(None),
        signal => Ok(Some(crate::cri::signals::number(signal)?)),
    }
}

/// What no execve(2) takes.
fn words(words: Vec<String>, field: &str) -> Result<Vec<String>> {
    match words.iter().position(|word| word.contains('\0')) {
        None => Ok(words),
        Some(index) => Err(Error::Invalid(format!("{field}[{index}] holds a NUL byte"))),
    }
}

fn env(index: usize, pair: cri::KeyValue) -> Result<(String, Text)> {
    if pair.key.is_empty() || pair.key.contains(['=', '\0']) {
        return Err(Error::Invalid(format!("envs[{index}].key {:?} is no name of a variable", pair.key)));
    }
    if pair.value.contains(&0) {
        return Err(Error::Invalid(format!("envs[{index}].value of {} holds a NUL byte", pair.key)));
    }
    Ok((pair.key, pair.value.into()))
}

fn device(index: usize, device: cri::Device) -> Result<Device> {
    let named = |error: crate::cgroup::Error| Error::Invalid(format!("devices[{index}].permissions: {error}"));
    if !device.permissions.is_empty() {
        device.permissions.parse::<crate::cgroup::Access>().map_err(named)?;
    }
    if !device.host_path.starts_with('/') {
        let path = device.host_path;
        return Err(Error::Invalid(format!("devices[{index}].host_path {path:?} is not an absolute path")));
    }
    Ok(Device { target: device.container_path, source: device.host_path, permissions: device.permissions })
}

/// The devices of the field, else those of the annotations, which older clients write: some clients write both.
fn cdi_devices(
    field: &[cri::CdiDevice],
    annotations: &std::collections::HashMap<String, String>,
) -> Result<Vec<String>> {
    let mut names: Vec<String> = Vec::new();
    let mut add = |name: &str, place: &str| {
        if !crate::container::cdi::is_qualified(name) {
            return Err(Error::Invalid(format!("{place}: {name:?} is no CDI device: it is VENDOR/CLASS=NAME")));
        }
        if !names.iter().any(|it| it == name) {
            names.push(name.to_owned());
        }
        Ok(())
    };
    for device in field {
        add(&device.name, "CDI_devices")?;
    }
    let mut keys: Vec<_> = annotations.iter().filter(|(key, _)| key.starts_with(CDI_ANNOTATION)).collect();
    keys.sort();
    for (key, value) in keys {
        for name in value.split(',') {
            add(name, &format!("annotations[{key:?}]"))?;
        }
    }
    Ok(names)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn config() -> cri::ContainerConfig {
        cri::ContainerConfig {
            metadata: Some(cri::ContainerMetadata { name: "c".into(), attempt: 0 }),
            image: Some(cri::ImageSpec { image: "i".into(), ..Default::default() }),
            ..Default::default()
        }
    }

    #[test]
    fn every_signal_has_a_number_and_comes_back() {
        let aliases = [cri::Signal::Sigcld, cri::Signal::Sigpoll, cri::Signal::Sigiot];
        for value in 1..=65 {
            let asked = cri::Signal::try_from(value).unwrap();
            let number = stop_signal(value).unwrap().unwrap();
            assert!((1..=64).contains(&number), "{asked:?}");
            let shown = crate::cri::signals::show(number);
            assert_eq!(stop_signal(shown as i32).unwrap(), Some(number));
            assert!(shown == asked || aliases.contains(&asked), "{asked:?} is shown as {shown:?}");
        }
        assert_eq!(stop_signal(cri::Signal::Sigrtmin as i32).unwrap(), Some(34));
        assert_eq!(stop_signal(cri::Signal::Sigrtmax as i32).unwrap(), Some(64));
        assert_eq!(stop_signal(0).unwrap(), None);
        assert!(stop_signal(66).is_err());
    }

    #[test]
    fn cdi_devices_are_of_the_field_and_the_annotations_each_once() {
        let annotations =
            [("cdi.k8s.io/b".to_owned(), "v.com/c=2,v.com/c=3".to_owned()), ("other".to_owned(), "no name".to_owned())];
        let field = ["v.com/c=1", "v.com/c=2"].map(|name| cri::CdiDevice { name: name.into() });
        let names = cdi_devices(&field, &annotations.into()).unwrap();
        assert_eq!(names, ["v.com/c=1", "v.com/c=2", "v.com/c=3"]);
    }

    #[test]
    fn what_a_container_cannot_have_names_its_field() {
        let pair = |key: &str, value: &[u8]| vec![cri::KeyValue { key: key.into(), value: value.to_vec() }];
        let device = |host_path: &str, permissions: &str| {
            vec![cri::Device {
                container_path: "/dev/x".into(),
                host_path: host_path.into(),
                permissions: permissions.into(),
            }]
        };
        let handler = cri::ImageSpec { image: "i".into(), runtime_handler: "kata".into(), ..Default::default() };
        let rows = [
            (cri::ContainerConfig { metadata: None, ..config() }, "config.metadata"),
            (cri::ContainerConfig { image: None, ..config() }, "config.image"),
            (cri::ContainerConfig { image: Some(handler), ..config() }, "config.image.runtime_handler"),
            (cri::ContainerConfig { command: vec!["a".into(), "\0".into()], ..config() }, "command[1]"),
            (cri::ContainerConfig { args: vec!["\0".into()], ..config() }, "args[0]"),
            (cri::ContainerConfig { envs: pair("", b"v"), ..config() }, "envs[0].key"),
            (cri::ContainerConfig { envs: pair("A=B", b"v"), ..config() }, "envs[0].key"),
            (cri::ContainerConfig { envs: pair("A", b"v\0"), ..config() }, "envs[0].value"),
            (cri::ContainerConfig { devices: device("/dev/null", "rx"), ..config() }, "devices[0].permissions"),
            (cri::ContainerConfig { devices: device("dev/null", ""), ..config() }, "devices[0].host_path"),
            (cri::ContainerConfig { stop_signal: -1, ..config() }, "stop_signal"),
            (
                cri::ContainerConfig { cdi_devices: vec![cri::CdiDevice { name: "gpu0".into() }], ..config() },
                "CDI_devices",
            ),
            (
                cri::ContainerConfig {
                    annotations: [("cdi.k8s.io/a".to_owned(), "gpu0".to_owned())].into(),
                    ..config()
                },
                "annotations",
            ),
        ];
        for (asked, field) in rows {
            let error = container(asked).unwrap_err();
            assert_eq!(error.kind(), crate::Kind::Invalid);
            assert!(error.to_string().starts_with(field), "{field}: {error}");
        }
    }

    #[test]
    fn a_variable_may_hold_any_bytes_but_nul() {
        let envs = vec![cri::KeyValue { key: "A".into(), value: vec![0xff, b'=', 0xfe] }];
        let request = container(cri::ContainerConfig { envs, ..config() }).unwrap();
        assert_eq!(request.env[0].1.as_bytes(), [0xff, b'=', 0xfe]);
    }
}
