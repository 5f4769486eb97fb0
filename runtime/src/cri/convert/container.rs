//! A container's configuration.

use cri_proto::cri;

use super::mounts::mount;
use super::required;
use super::resources::limits;
use super::security::security;
use crate::container::{Device, Request};
use crate::error::{Error, Result};

/// A container.
pub fn container(config: cri::ContainerConfig) -> Result<Request> {
    let metadata = required(config.metadata, "config.metadata")?;
    let image = required(config.image, "config.image")?;
    if metadata.name.is_empty() || image.image.is_empty() {
        return Err(Error::Invalid("config.metadata.name and config.image.image must not be empty".into()));
    }
    if !config.cdi_devices.is_empty() {
        return Err(Error::Invalid("CDI devices are not supported yet".into()));
    }
    let linux = config.linux.unwrap_or_default();
    let resources = linux.resources.unwrap_or_default();
    let stop_signal = match cri::Signal::try_from(config.stop_signal) {
        Ok(cri::Signal::RuntimeDefault) => None,
        Ok(signal) => Some(crate::cri::signals::number(signal)?),
        Err(_) => return Err(Error::Invalid(format!("stop_signal {} is not known", config.stop_signal))),
    };
    let user_image = if image.user_specified_image.is_empty() { &image.image } else { &image.user_specified_image };
    Ok(Request {
        name: metadata.name,
        attempt: metadata.attempt,
        user_image: user_image.clone(),
        image: image.image,
        command: config.command,
        args: config.args,
        working_dir: config.working_dir,
        env: config.envs.into_iter().map(env).collect::<Result<_>>()?,
        mounts: config.mounts.into_iter().map(mount).collect::<Result<_>>()?,
        devices: config.devices.into_iter().map(device).collect(),
        labels: config.labels.into_iter().collect(),
        annotations: config.annotations.into_iter().collect(),
        log_path: config.log_path,
        stdin: config.stdin,
        tty: config.tty,
        oom_score_adj: i32::try_from(resources.oom_score_adj).map_err(|_| {
            Error::Invalid(format!("resources.oom_score_adj {} is out of range", resources.oom_score_adj))
        })?,
        resources: limits(resources)?,
        security: security(linux.security_context.unwrap_or_default())?,
        stop_signal,
    })
}

fn env(pair: cri::KeyValue) -> Result<(String, String)> {
    let value = String::from_utf8(pair.value)
        .map_err(|_| Error::Invalid(format!("the environment variable {} is not UTF-8", pair.key)))?;
    Ok((pair.key, value))
}

fn device(device: cri::Device) -> Device {
    Device { target: device.container_path, source: device.host_path, permissions: device.permissions }
}
