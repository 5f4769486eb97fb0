//! The devices of a container: nodes in its /dev, and what its cgroup lets it use.

use std::path::Path;

use super::cdi;
use super::request::Request;
use crate::cgroup::{Access, DeviceRule};
use crate::devices::{self, Device};
use crate::error::{Error, Result};
use crate::launch::{DeviceNode, open_to_all};

/// Nodes to make, and rules to allow.
pub struct Devices {
    /// The nodes.
    pub nodes: Vec<DeviceNode>,
    /// The rules.
    pub rules: Vec<DeviceRule>,
}

/// What a container gets. Devices of CDI that name no owner are `user`'s. In a user namespace a privileged one gets of the
/// host's devices those that everybody may use: it is not the host's root, and could open the others by a node that its
/// image brings.
pub fn of(request: &Request, cdi: Vec<cdi::Node>, user: (u32, u32), user_namespace: bool) -> Result<Devices> {
    let invalid = |error: devices::Error| match &error {
        devices::Error::Io { source, .. } => Error::Invalid(format!("{error}: {source}")),
        _ => Error::Invalid(error.to_string()),
    };
    let mut all: Vec<Device> = devices::default_devices().collect();
    let mut rules = devices::default_rules();
    if request.security.privileged {
        let mut found = devices::all_of_host(Path::new("/dev")).map_err(invalid)?;
        if user_namespace {
            found.retain(|it| open_to_all(it.mode));
            rules.extend(found.iter().map(|it| it.rule(Access::ALL)));
        } else {
            rules = vec![DeviceRule::ALL];
        }
        replace(&mut all, found);
    }
    for asked in &request.devices {
        let permissions = if asked.permissions.is_empty() { "rwm" } else { &asked.permissions };
        let access: Access = permissions.parse()?;
        let target = if asked.target.is_empty() { &asked.source } else { &asked.target };
        let named = |error: devices::Error| Error::Invalid(format!("devices: {}", invalid(error)));
        let found = devices::from_host(Path::new(&asked.source), Path::new(target)).map_err(named)?;
        rules.extend(found.iter().map(|it| it.rule(access)));
        replace(&mut all, found);
    }
    for node in cdi {
        rules.extend(node.access.map(|access| node.device.rule(access)));
        let (uid, gid) = (node.uid.unwrap_or(user.0), node.gid.unwrap_or(user.1));
        replace(&mut all, vec![Device { uid, gid, ..node.device }]);
    }
    // It is a link to the container's own devpts.
    all.retain(|it| it.path != Path::new("/dev/ptmx"));
    Ok(Devices { nodes: all.iter().map(Device::node).collect(), rules })
}

/// A later device at the same path takes the place of an earlier one.
fn replace(all: &mut Vec<Device>, with: Vec<Device>) {
    all.retain(|it| !with.iter().any(|other| other.path == it.path));
    all.extend(with);
}
