//! What a container needs for the devices that it is given: a plug-in's answer, looked at, and what comes of it.

use std::collections::BTreeMap;

use cri_proto::{cri, device_plugin as api};
use serde::{Deserialize, Serialize};

use crate::engine::config::env::Environment;

/// Parts of each kind that an answer may have.
const PARTS: usize = 4096;

/// What a container needs for its devices.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    envs: BTreeMap<String, String>,
    mounts: Vec<Mount>,
    nodes: Vec<DeviceNode>,
    annotations: BTreeMap<String, String>,
    cdi: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Mount {
    inside: String,
    host: String,
    read_only: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct DeviceNode {
    inside: String,
    host: String,
    permissions: String,
}

impl TryFrom<api::ContainerAllocateResponse> for Answer {
    type Error = String;

    fn try_from(raw: api::ContainerAllocateResponse) -> Result<Self, String> {
        let sizes = [raw.envs.len(), raw.mounts.len(), raw.devices.len(), raw.annotations.len(), raw.cdi_devices.len()];
        if sizes.iter().any(|size| *size > PARTS) {
            return Err(format!("it has more than {PARTS} parts of a kind"));
        }
        if let Some(name) = raw.envs.keys().find(|name| name.is_empty() || name.contains(['=', '\0'])) {
            return Err(format!("envs: {name:?} is no name of a variable"));
        }
        if let Some((name, _)) = raw.envs.iter().find(|(_, value)| value.contains('\0')) {
            return Err(format!("envs: the value of {name} holds a NUL byte"));
        }
        for mount in &raw.mounts {
            absolute("mounts.container_path", &mount.container_path)?;
            absolute("mounts.host_path", &mount.host_path)?;
        }
        for device in &raw.devices {
            absolute("devices.container_path", &device.container_path)?;
            absolute("devices.host_path", &device.host_path)?;
            if !device.permissions.chars().all(|c| "rwm".contains(c)) {
                return Err(format!("devices.permissions: {:?} is not of r, w and m", device.permissions));
            }
        }
        let mount = |it: api::Mount| Mount { inside: it.container_path, host: it.host_path, read_only: it.read_only };
        let node = |it: api::DeviceSpec| DeviceNode {
            inside: it.container_path,
            host: it.host_path,
            permissions: it.permissions,
        };
        Ok(Answer {
            envs: raw.envs.into_iter().collect(),
            mounts: raw.mounts.into_iter().map(mount).collect(),
            nodes: raw.devices.into_iter().map(node).collect(),
            annotations: raw.annotations.into_iter().collect(),
            cdi: raw.cdi_devices.into_iter().map(|it| it.name).collect(),
        })
    }
}

fn absolute(field: &str, path: &str) -> Result<(), String> {
    match path.starts_with('/') && !path.contains('\0') {
        true => Ok(()),
        false => Err(format!("{field}: {path:?} is not an absolute path")),
    }
}

impl Answer {
    /// Puts the variables among those that come before a container's own.
    pub fn surround(&self, environment: &mut Environment) {
        for (name, value) in &self.envs {
            environment.set(name, value.clone().into_bytes());
        }
    }

    /// Puts the rest into a container's configuration. What is there already, by the pod's word or another plug-in's, stays.
    pub fn apply(&self, config: &mut cri::ContainerConfig) {
        for Mount { inside, host, read_only } in &self.mounts {
            if config.mounts.iter().all(|it| it.container_path != *inside) {
                let (container_path, host_path) = (inside.clone(), host.clone());
                config.mounts.push(cri::Mount {
                    container_path,
                    host_path,
                    readonly: *read_only,
                    ..Default::default()
                });
            }
        }
        for DeviceNode { inside, host, permissions } in &self.nodes {
            if config.devices.iter().all(|it| it.container_path != *inside) {
                let (container_path, host_path) = (inside.clone(), host.clone());
                config.devices.push(cri::Device { container_path, host_path, permissions: permissions.clone() });
            }
        }
        for (name, value) in &self.annotations {
            config.annotations.entry(name.clone()).or_insert_with(|| value.clone());
        }
        for name in &self.cdi {
            if config.cdi_devices.iter().all(|it| it.name != *name) {
                config.cdi_devices.push(cri::CdiDevice { name: name.clone() });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn raw() -> api::ContainerAllocateResponse {
        let path = |path: &str| path.to_owned();
        api::ContainerAllocateResponse {
            envs: [(path("UNIT"), path("1"))].into(),
            mounts: vec![api::Mount {
                container_path: path("/lib/unit"),
                host_path: path("/opt/unit"),
                read_only: true,
            }],
            devices: vec![api::DeviceSpec {
                container_path: path("/dev/unit"),
                host_path: path("/dev/null"),
                permissions: path("rw"),
            }],
            annotations: [(path("unit.example/a"), path("b"))].into(),
            cdi_devices: vec![api::CdiDevice { name: path("unit.example/unit=1") }],
        }
    }

    #[test]
    fn an_answer_adds_to_a_container_and_replaces_nothing() {
        let answer = Answer::try_from(raw()).unwrap();
        let mut config = cri::ContainerConfig::default();
        answer.apply(&mut config);
        assert_eq!((config.mounts[0].host_path.as_str(), config.mounts[0].readonly), ("/opt/unit", true));
        assert_eq!((config.devices[0].host_path.as_str(), config.devices[0].permissions.as_str()), ("/dev/null", "rw"));
        assert_eq!((config.annotations["unit.example/a"].as_str(), config.cdi_devices.len()), ("b", 1));
        let before = config.clone();
        answer.apply(&mut config);
        assert_eq!(config, before, "what is there already stays");
        let mut environment = Environment::default();
        answer.surround(&mut environment);
        assert_eq!(environment.get(b"UNIT"), Some(&b"1"[..]));
    }

    #[test]
    fn an_answer_that_no_container_could_have_is_refused_by_its_field() {
        type Change = fn(&mut api::ContainerAllocateResponse);
        let rows: [(&str, Change); 7] = [
            ("envs: \"A=B\"", |raw| drop(raw.envs.insert("A=B".into(), String::new()))),
            ("envs: the value of A", |raw| drop(raw.envs.insert("A".into(), "\0".into()))),
            ("mounts.container_path", |raw| raw.mounts[0].container_path = "lib".into()),
            ("mounts.host_path", |raw| raw.mounts[0].host_path = String::new()),
            ("devices.host_path", |raw| raw.devices[0].host_path = "dev/null".into()),
            ("devices.permissions", |raw| raw.devices[0].permissions = "rwx".into()),
            ("more than 4096", |raw| raw.cdi_devices = vec![api::CdiDevice::default(); PARTS + 1]),
        ];
        for (said, change) in rows {
            let mut raw = raw();
            change(&mut raw);
            let error = Answer::try_from(raw).unwrap_err();
            assert!(error.contains(said), "{said}: {error}");
        }
    }
}
